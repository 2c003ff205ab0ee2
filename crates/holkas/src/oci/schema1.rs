//! Docker's schema 1: read and inspected, but not stored.
//!
//! A signed manifest is known by the digest of its payload: the document without its signature block,
//! rebuilt from `formatLength` and `formatTail` of the protected header (libtrust's JWS form).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Algorithm, Digest, json};
use crate::error::{Context, Error, Result};
use crate::verify::VerifiedBytes;

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

    /// Returns the error for everything that needs an image with a config and layer sizes.
    pub fn refusal(&self) -> Error {
        Error::unsupported("the image is in Docker's schema 1 format, which can be inspected but not copied or stored")
            .hint("have its publisher push it again, or convert it with a tool that still writes schema 1 images")
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
