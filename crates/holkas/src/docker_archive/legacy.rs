//! What Docker before 1.10 reads of an archive: a directory for each layer, and the file `repositories`.
//!
//! Made as in containers/image 5.23, `docker/internal/tarfile/writer.go`, `writeLegacyMetadataLocked`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oci::{Algorithm, Digest, ImageConfig};

/// The directory of a layer.
#[derive(Debug)]
pub(super) struct LegacyLayer {
    /// The directory's name.
    pub(super) id: String,
    /// The contents of `json` in it.
    pub(super) json: Vec<u8>,
    /// The layer itself.
    pub(super) diff_id: Digest,
}

/// What the topmost layer repeats of the config, whether it is there or not.
const REPEATED: [&str; 7] =
    ["architecture", "config", "container", "container_config", "created", "docker_version", "os"];

/// Returns the directories of an image's layers, lowest first.
pub(super) fn layers(config: &ImageConfig) -> Vec<LegacyLayer> {
    let mut layers: Vec<LegacyLayer> = Vec::new();
    let mut chain = String::new();
    let count = config.diff_ids().len();
    for (number, diff_id) in config.diff_ids().iter().enumerate() {
        let mut fields = BTreeMap::<&str, Value>::new();
        if let Some(parent) = layers.last() {
            fields.insert("parent", json!(parent.id));
        }
        if number + 1 == count {
            for key in REPEATED {
                fields.insert(key, config.document().get(key).cloned().unwrap_or(Value::Null));
            }
        }
        chain = match chain.as_str() {
            "" => diff_id.to_string(),
            below => Algorithm::Sha256.digest(format!("{below} {diff_id}").as_bytes()).to_string(),
        };
        fields.insert("layer_id", json!(chain));
        let id = Algorithm::Sha256.digest(&go_json(&json!(fields))).hex();
        fields.remove("layer_id");
        fields.insert("id", json!(id));
        layers.push(LegacyLayer { json: go_json(&json!(fields)), id, diff_id: diff_id.0 });
    }
    layers
}

/// Returns JSON as Go's `json.Marshal` writes it: safe within HTML and JavaScript.
pub(super) fn go_json(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '\u{2028}' | '\u{2029}' => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe.into_bytes()
}
