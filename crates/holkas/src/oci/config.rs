//! Image configs: the raw bytes, and the parts of them that holkas reads.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{DiffId, ImageId, Platform, json};
use crate::error::{Context, Error, Result};
use crate::verify::VerifiedBytes;

/// The config of a runnable image, Docker's or OCI's: raw bytes beside parsed values.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    raw: VerifiedBytes,
    document: Map<String, Value>,
    diff_ids: Vec<DiffId>,
    platform: Platform,
}

/// One step of an image's history.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct History {
    /// When the step was made (RFC 3339).
    #[serde(default)]
    pub created: Option<String>,
    /// What made it.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Whether the step made no layer.
    #[serde(default)]
    pub empty_layer: Option<bool>,
}

impl ImageConfig {
    /// Parses a verified config.
    pub fn parse(raw: VerifiedBytes) -> Result<Self> {
        let frame = || format!("parsing image config {}", raw.digest());
        // Real configs hold labels that are not UTF-8. Go's reader, and with it everybody else's, takes U+FFFD for such
        // bytes; the raw ones stay as they are, and the digest is of those.
        let document = json::parse_object(String::from_utf8_lossy(raw.bytes()).as_bytes()).context(frame)?;
        let text = |key: &str| -> Result<String> {
            match document.get(key) {
                None | Some(Value::Null) => Ok(String::new()),
                Some(Value::String(text)) => Ok(text.clone()),
                Some(_) => Err(Error::invalid(format!("`{key}` is not a string"))).context(frame),
            }
        };
        let diff_ids = document
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"))
            .filter(|ids| !ids.is_null())
            .map_or(Ok(Vec::new()), |ids| serde_json::from_value::<Vec<super::Digest>>(ids.clone()))
            .map_err(|error| Error::invalid(format!("`rootfs.diff_ids`: {error}")))
            .context(frame)?;
        let platform = Platform {
            os: text("os")?,
            architecture: text("architecture")?,
            variant: Some(text("variant")?).filter(|v| !v.is_empty()),
        };
        Ok(Self { diff_ids: diff_ids.into_iter().map(DiffId).collect(), platform, document, raw })
    }

    /// Returns the bytes as they came.
    pub fn raw(&self) -> &VerifiedBytes {
        &self.raw
    }

    /// Returns the image ID.
    pub fn image_id(&self) -> ImageId {
        ImageId(*self.raw.digest())
    }

    /// Returns the diff IDs, lowest layer first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// Returns the platform; parts that the config leaves out are empty.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns when the image was made, as written (RFC 3339), unless absent or Go's zero time.
    pub fn created(&self) -> Option<&str> {
        self.text("created").filter(|t| !t.starts_with("0001-01-01T00:00:00"))
    }

    /// Returns a top-level string that is present and not empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.document.get(key).and_then(Value::as_str).filter(|t| !t.is_empty())
    }

    /// Returns the parsed document.
    pub fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// Returns the labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.document.get("config").and_then(|c| c.get("Labels")).and_then(Value::as_object);
        labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect()
    }

    /// Returns the environment, `NAME=VALUE` each.
    pub fn environment(&self) -> Vec<String> {
        let list = self.document.get("config").and_then(|c| c.get("Env")).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_string())).collect()
    }

    /// Returns the history, oldest step first; empty if it is absent or not understood.
    pub fn history(&self) -> Vec<History> {
        let list = self.document.get("history").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|v| serde_json::from_value(v.clone()).ok()).collect()
    }
}
