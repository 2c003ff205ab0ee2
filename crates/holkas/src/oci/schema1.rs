//! Docker's schema 1, the format before manifests had a config: read, made into schema 2, and made out of it.
//!
//! A signed manifest is known by the digest of its payload: the document without its signature block,
//! rebuilt from `formatLength` and `formatTail` of the protected header (libtrust's JWS form).

mod before;
mod downgrade;
mod seal;
mod steps;
mod upgrade;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Algorithm, Descriptor, Digest, Document, MediaType, json, media_type};
use crate::error::{Context, Error, Result};
use crate::limits::MANIFEST;
use crate::verify::{UntrustedBlob, VerifiedBytes};

pub use downgrade::{EMPTY_LAYER, downgrade};
pub use steps::Step;
pub use upgrade::upgraded_config;

/// A schema 1 manifest.
#[derive(Debug, Clone)]
pub struct Schema1 {
    raw: VerifiedBytes,
    digest: Digest,
    fields: Map<String, Value>,
    layers: Vec<Digest>,
}

impl Schema1 {
    pub(super) fn from_fields(fields: &Map<String, Value>, raw: VerifiedBytes) -> Result<Self> {
        let signed = fields.get("signatures").is_some_and(|s| !s.is_null());
        let digest = if signed { Algorithm::Sha256.digest(&payload(raw.bytes())?) } else { *raw.digest() };
        let Some(Value::Array(values)) = fields.get("fsLayers") else {
            return Err(Error::invalid("`fsLayers` is not a list"));
        };
        let mut layers = values
            .iter()
            .enumerate()
            .map(|(n, value)| {
                let text = value.get("blobSum").and_then(Value::as_str).ok_or_else(|| Error::invalid("no `blobSum`"));
                text.and_then(str::parse::<Digest>).context(|| format!("`fsLayers[{n}]`"))
            })
            .collect::<Result<Vec<_>>>()?;
        match fields.get("history") {
            Some(Value::Array(history)) if history.len() == layers.len() => {}
            _ => return Err(Error::invalid("`history` does not have an entry for each of `fsLayers`")),
        }
        layers.reverse();
        Ok(Self { raw, digest, fields: fields.clone(), layers })
    }

    /// Returns the bytes as they came, signatures included.
    pub fn raw(&self) -> &VerifiedBytes {
        &self.raw
    }

    /// Returns the digest that the manifest is known by.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the layers' blob digests, lowest first, empty layers included.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// Returns the parsed document.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Returns the newest layer's history entry, which is the image's config.
    pub fn config(&self) -> Result<Map<String, Value>> {
        let newest = self.fields.get("history").and_then(|h| h.get(0)).and_then(|h| h.get("v1Compatibility"));
        let text =
            newest.and_then(Value::as_str).ok_or_else(|| Error::invalid("`history[0]` has no `v1Compatibility`"))?;
        json::parse_object(text.as_bytes()).context(|| "`history[0].v1Compatibility`")
    }

    /// Returns the media type that the manifest has, by its content.
    pub fn media_type(&self) -> MediaType {
        let signed = self.fields.get("signatures").is_some_and(|signatures| !signatures.is_null());
        MediaType::new(if signed { media_type::DOCKER_SCHEMA1_SIGNED } else { media_type::DOCKER_SCHEMA1 })
    }

    /// Returns what describes the manifest itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type(), self.digest, self.raw.bytes().len() as u64)
    }

    /// Returns the layers with their history, lowest first.
    ///
    /// As docker and skopeo do, what follows itself under the same ID is taken once.
    ///
    /// # Errors
    ///
    /// `Invalid` if the IDs and parents are no chain, or a step's history is not what it should be.
    pub fn steps(&self) -> Result<Vec<Step>> {
        steps::parse(&self.fields).context(|| format!("reading the history of manifest {}", self.digest))
    }

    /// Returns whether the manifest says this name and tag of itself.
    pub fn is_named(&self, name: &str, tag: &str) -> bool {
        let said = |key: &str| self.fields.get(key).and_then(Value::as_str).unwrap_or_default();
        said("name") == name && said("tag") == tag
    }

    /// Returns the manifest as it is under another name, signed anew. Its digest is another.
    pub fn renamed(&self, name: &str, tag: &str) -> Result<Self> {
        let steps = self.steps()?;
        let architecture = self.fields.get("architecture").and_then(Value::as_str).unwrap_or_default();
        let layers: Vec<_> = steps.iter().map(|step| (step.blob, step.history.as_str())).collect();
        Self::create(name, tag, architecture, &layers)
    }

    /// Makes a signed manifest of layers, lowest first, each with its history entry.
    fn create(name: &str, tag: &str, architecture: &str, layers: &[(Digest, &str)]) -> Result<Self> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            name: &'a str,
            tag: &'a str,
            architecture: &'a str,
            fs_layers: Vec<FsLayer>,
            history: Vec<Entry<'a>>,
            schema_version: u8,
        }
        #[derive(serde::Serialize)]
        struct FsLayer {
            #[serde(rename = "blobSum")]
            blob_sum: Digest,
        }
        #[derive(serde::Serialize)]
        struct Entry<'a> {
            #[serde(rename = "v1Compatibility")]
            v1_compatibility: &'a str,
        }
        let written = Written {
            name,
            tag,
            architecture,
            fs_layers: layers.iter().rev().map(|(blob, _)| FsLayer { blob_sum: *blob }).collect(),
            history: layers.iter().rev().map(|(_, entry)| Entry { v1_compatibility: entry }).collect(),
            schema_version: 1,
        };
        let text = serde_json::to_string(&written).map_err(|error| Error::invalid(error.to_string()))?;
        let sealed = UntrustedBlob::from_bytes(seal::seal(&json::go_escaped(&text)));
        let media_type = MediaType::new(media_type::DOCKER_SCHEMA1_SIGNED);
        match Document::parse(sealed.identify(Algorithm::Sha256, Some(media_type), MANIFEST)?)? {
            Document::Schema1(schema1) => Ok(schema1),
            Document::Manifest(_) | Document::Index(_) => Err(Error::invalid("what was made is no schema 1 manifest")),
        }
    }

    /// Returns the error for everything that needs an image with a config and layer sizes.
    pub fn refusal(&self) -> Error {
        Error::unsupported("the image is in Docker's schema 1 format, which can be inspected and copied, but no more")
            .hint("make it one of today's by `holkas copy --format v2s2`, into dir: or a registry, and take that")
    }
}

/// Returns the payload of a signed schema 1 manifest: what its digest is over.
pub fn payload(bytes: &[u8]) -> Result<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Signed {
        signatures: Vec<Signature>,
    }
    #[derive(serde::Deserialize)]
    struct Signature {
        protected: String,
    }
    #[derive(serde::Deserialize)]
    struct Protected {
        #[serde(rename = "formatLength")]
        format_length: usize,
        #[serde(rename = "formatTail")]
        format_tail: String,
    }
    let frame = || "rebuilding the payload of a signed schema 1 manifest";
    let invalid = |error: &dyn std::fmt::Display| Error::invalid(error.to_string());
    let signed: Signed = serde_json::from_slice(bytes).map_err(|e| invalid(&e)).context(frame)?;
    let decode =
        |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| invalid(&e)).context(frame);
    let mut payloads = Vec::new();
    for signature in &signed.signatures {
        let protected: Protected =
            serde_json::from_slice(&decode(&signature.protected)?).map_err(|e| invalid(&e)).context(frame)?;
        let head = bytes
            .get(..protected.format_length)
            .ok_or_else(|| Error::invalid("`formatLength` is beyond the end of the document"))
            .context(frame)?;
        payloads.push([head, &decode(&protected.format_tail)?].concat());
    }
    payloads.dedup();
    match payloads.len() {
        1 => Ok(payloads.remove(0)),
        0 => Err(Error::invalid("it has no signatures")).context(frame),
        _ => Err(Error::invalid("its signatures are over different payloads")).context(frame),
    }
}
