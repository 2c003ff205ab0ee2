//! Image manifests, OCI's and Docker's schema 2: raw bytes beside parsed values.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::{self, Document};
use super::media_type::{Format, Meaning};
use super::{Descriptor, Digest, MediaType, media_type};
use crate::error::{Error, Result};
use crate::verify::VerifiedBytes;

/// The manifest of one image.
#[derive(Debug, Clone)]
pub struct Manifest {
    raw: VerifiedBytes,
    format: Format,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
    artifact_type: Option<MediaType>,
    subject: Option<Box<Descriptor>>,
}

impl Manifest {
    /// Parses a verified manifest; an index or a schema 1 manifest is an error.
    pub fn parse(raw: VerifiedBytes) -> Result<Self> {
        match Document::parse(raw)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(index) => {
                Err(Error::invalid(format!("{} is a manifest list, not an image", index.raw().digest())))
            }
            Document::Schema1(schema1) => Err(schema1.refusal()),
        }
    }

    pub(super) fn from_fields(format: Format, fields: &Map<String, Value>, raw: VerifiedBytes) -> Result<Self> {
        let config = fields.get("config").ok_or_else(|| Error::invalid("the manifest has no `config`"))?;
        let config = document::descriptor(config, || "`config`".to_string())?;
        let layers = match fields.get("layers") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(layers)) => layers
                .iter()
                .enumerate()
                .map(|(n, layer)| document::descriptor(layer, || format!("`layers[{n}]`")))
                .collect::<Result<_>>()?,
            Some(_) => return Err(Error::invalid("`layers` is not a list")),
        };
        let (annotations, subject) = (document::annotations(fields)?, document::subject(fields)?);
        Ok(Self { raw, format, config, layers, annotations, artifact_type: document::artifact_type(fields), subject })
    }

    /// Returns the bytes as they came.
    pub fn raw(&self) -> &VerifiedBytes {
        &self.raw
    }

    /// Returns the manifest's digest.
    pub fn digest(&self) -> &Digest {
        self.raw.digest()
    }

    /// Returns whose rules the manifest follows.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the media type that the manifest has, by its content.
    pub fn media_type(&self) -> MediaType {
        MediaType::new(match self.format {
            Format::Oci => media_type::OCI_MANIFEST,
            Format::Docker => media_type::DOCKER_MANIFEST,
        })
    }

    /// Returns what describes the manifest itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type(), *self.raw.digest(), self.raw.bytes().len() as u64)
    }

    /// Returns the config's descriptor.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// Returns the layers' descriptors, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Returns the type that an artifact gives itself.
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref()
    }

    /// Returns the manifest or index that this one is about, if it says so.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_deref()
    }

    /// Returns whether this is a runnable image, by its config's type, and not an artifact.
    pub fn is_image(&self) -> bool {
        matches!(self.config.media_type.meaning(), Meaning::Config(_)) && self.artifact_type.is_none()
    }
}
