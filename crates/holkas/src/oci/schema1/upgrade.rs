//! From schema 1 to a config of Docker's schema 2, byte for byte as containers/image makes it: so the image ID is the
//! one that docker, podman and skopeo give the image.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Step, before};
use crate::error::{Context, Error, Result};
use crate::oci::{DiffId, Digest, json};

/// What only schema 1 says of an image.
const DROPPED: [&str; 6] = ["id", "parent", "parent_id", "layer_id", "throwaway", "Size"];

/// Makes the config of an image of these steps, whose layers that are not empty have these diff IDs, lowest first.
pub fn upgraded_config(steps: &[Step], diff_ids: &[DiffId]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct RootFs {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        diff_ids: Vec<Digest>,
    }
    #[derive(Serialize)]
    struct History<'a> {
        created: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        author: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        created_by: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        comment: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        empty_layer: bool,
    }
    let newest = steps.last().ok_or_else(|| Error::invalid("the image has no history"))?;
    let frame = || "making a config of the newest history entry".to_string();
    let mut fields = raw_fields(&before::modern(&newest.history).context(frame)?).context(frame)?;
    fields.retain(|key, _| !DROPPED.contains(&key.as_str()));
    let history = steps.iter().map(|step| History {
        created: &step.created,
        author: &step.author,
        created_by: &step.created_by,
        comment: &step.comment,
        empty_layer: step.empty,
    });
    fields.insert("history".to_string(), raw(&history.collect::<Vec<_>>())?);
    let rootfs = RootFs { kind: "layers", diff_ids: diff_ids.iter().map(|id| id.0).collect() };
    fields.insert("rootfs".to_string(), raw(&rootfs)?);
    Ok(written(&fields)?.into_bytes())
}

/// Returns the fields of an object, their values as they are written.
pub(super) fn raw_fields(text: &str) -> Result<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str(text).map_err(|error| Error::invalid(error.to_string()))
}

/// Writes a value.
pub(super) fn raw(value: &impl Serialize) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(|error| Error::invalid(error.to_string()))
}

/// Writes fields in the order of their names, as Go does: values keep their numbers and escapes, but no white space.
pub(super) fn written(fields: &BTreeMap<String, Box<RawValue>>) -> Result<String> {
    let text = serde_json::to_string(fields).map_err(|error| Error::invalid(error.to_string()))?;
    let mut compact = String::with_capacity(text.len());
    let (mut within_string, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' if !within_string => continue,
            '"' if !escaped => within_string = !within_string,
            _ => {}
        }
        escaped = within_string && c == '\\' && !escaped;
        compact.push(c);
    }
    Ok(json::go_escaped(&compact))
}
