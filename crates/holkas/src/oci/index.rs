//! Indexes (Docker: manifest lists): raw bytes beside the entries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::{self, Document};
use super::media_type::Format;
use super::{Descriptor, Digest, MediaType, media_type};
use crate::error::{Error, Result};
use crate::limits::INDEX_ENTRIES;
use crate::verify::VerifiedBytes;

/// A list of images for several platforms; an entry may be a list again.
#[derive(Debug, Clone)]
pub struct Index {
    raw: VerifiedBytes,
    format: Format,
    entries: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
    artifact_type: Option<MediaType>,
    subject: Option<Box<Descriptor>>,
}

impl Index {
    /// Parses a verified index; the manifest of one image is an error.
    pub fn parse(raw: VerifiedBytes) -> Result<Self> {
        match Document::parse(raw)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) | Document::Schema1(_) => {
                Err(Error::invalid("not a manifest list, but the manifest of one image"))
            }
        }
    }

    pub(super) fn from_fields(format: Format, fields: &Map<String, Value>, raw: VerifiedBytes) -> Result<Self> {
        let Some(Value::Array(values)) = fields.get("manifests") else {
            return Err(Error::invalid("`manifests` is not a list of descriptors"));
        };
        if values.len() > INDEX_ENTRIES {
            return Err(Error::invalid(format!("the list has {} entries; the limit is {INDEX_ENTRIES}", values.len())));
        }
        let entries = values
            .iter()
            .enumerate()
            .map(|(n, value)| document::descriptor(value, || format!("`manifests[{n}]`")))
            .collect::<Result<_>>()?;
        let (annotations, subject) = (document::annotations(fields)?, document::subject(fields)?);
        Ok(Self { raw, format, entries, annotations, artifact_type: document::artifact_type(fields), subject })
    }

    /// Returns the bytes as they came.
    pub fn raw(&self) -> &VerifiedBytes {
        &self.raw
    }

    /// Returns the index's digest.
    pub fn digest(&self) -> &Digest {
        self.raw.digest()
    }

    /// Returns whose rules the index follows.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the media type that the index has, by its content.
    pub fn media_type(&self) -> MediaType {
        MediaType::new(match self.format {
            Format::Oci => media_type::OCI_INDEX,
            Format::Docker => media_type::DOCKER_LIST,
        })
    }

    /// Returns what describes the index itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type(), *self.raw.digest(), self.raw.bytes().len() as u64)
    }

    /// Returns the entries in their order.
    pub fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Returns the type that the index gives itself.
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref()
    }

    /// Returns the manifest or index that this one is about, if it says so.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_deref()
    }

    /// Returns the entry that names `digest`, if there is one.
    pub fn entry(&self, digest: &Digest) -> Option<&Descriptor> {
        self.entries.iter().find(|entry| entry.digest == *digest)
    }

    /// Returns each entry with its digest, for lookups.
    pub fn by_digest(&self) -> BTreeMap<Digest, &Descriptor> {
        self.entries.iter().map(|entry| (entry.digest, entry)).collect()
    }
}
