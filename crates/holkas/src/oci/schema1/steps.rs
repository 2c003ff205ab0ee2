//! The steps of a schema 1 image: each is a layer, perhaps an empty one, and an entry of the history.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};
use crate::limits::SCHEMA1_STEPS;
use crate::oci::{Digest, json};

/// Go's zero time: what Docker's formats say where there is no time.
pub(super) const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A step that made an image.
#[derive(Debug, Clone)]
pub struct Step {
    /// The layer's blob.
    pub blob: Digest,
    /// Whether the step changed no file, so that its layer is empty.
    pub empty: bool,
    /// The history entry as it came: `v1Compatibility`.
    pub history: String,
    /// When it was made (RFC 3339).
    pub(super) created: String,
    /// What made it.
    pub(super) created_by: String,
    pub(super) author: String,
    pub(super) comment: String,
}

/// What is read of a history entry.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    id: Option<String>,
    parent: Option<String>,
    comment: Option<String>,
    created: Option<String>,
    container_config: Option<ContainerConfig>,
    author: Option<String>,
    throwaway: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerConfig {
    #[serde(rename = "Cmd")]
    cmd: Option<Vec<String>>,
}

/// Returns the steps of a manifest, lowest first.
pub(super) fn parse(fields: &Map<String, Value>) -> Result<Vec<Step>> {
    let list = |key: &str| fields.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (blobs, history) = (list("fsLayers"), list("history"));
    if blobs.is_empty() || blobs.len() != history.len() {
        return Err(Error::invalid(format!("it has {} layers, and {} history entries", blobs.len(), history.len())));
    }
    if history.len() > SCHEMA1_STEPS {
        return Err(Error::invalid(format!("it has {} steps; the limit is {SCHEMA1_STEPS}", history.len())));
    }
    let mut steps = Vec::new();
    let (mut ids, mut below) = (BTreeSet::new(), None::<String>);
    for (n, (blob, entry)) in blobs.iter().zip(history).enumerate().rev() {
        let frame = || format!("`history[{n}]`");
        let text = entry.get("v1Compatibility").and_then(Value::as_str);
        let text = text.ok_or_else(|| Error::invalid("it has no `v1Compatibility`")).context(frame)?;
        let entry = read(text).context(frame)?;
        let id = entry.id.unwrap_or_default();
        if id.len() != 64 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::invalid(format!("its ID is {id:?}, not 64 hexadecimal digits"))).context(frame);
        }
        // Of several that follow each other under one ID, the lowest is kept.
        if below.as_ref() == Some(&id) {
            continue;
        }
        let parent = entry.parent.filter(|parent| !parent.is_empty());
        if parent != below {
            let shown = |id: &Option<String>| id.as_ref().map_or("nothing".to_string(), |id| format!("{id:?}"));
            let text = format!("its parent is {}, but below it is {}", shown(&parent), shown(&below));
            return Err(Error::invalid(text)).context(frame);
        }
        if !ids.insert(id.clone()) {
            return Err(Error::invalid(format!("the ID {id} occurs again"))).context(frame);
        }
        let digest = blob.get("blobSum").and_then(Value::as_str).unwrap_or_default();
        steps.push(Step {
            blob: digest.parse().context(|| format!("`fsLayers[{n}]`"))?,
            empty: entry.throwaway.unwrap_or_default(),
            history: text.to_string(),
            created: time(entry.created).context(frame)?,
            created_by: entry.container_config.and_then(|config| config.cmd).unwrap_or_default().join(" "),
            author: entry.author.unwrap_or_default(),
            comment: entry.comment.unwrap_or_default(),
        });
        below = Some(id);
    }
    Ok(steps)
}

fn read(text: &str) -> Result<Entry> {
    let fields = json::parse_object(text.as_bytes())?;
    serde_json::from_value(Value::Object(fields)).map_err(|error| Error::invalid(error.to_string()))
}

/// Returns a time as Go writes it again.
pub(super) fn time(text: Option<String>) -> Result<String> {
    let Some(text) = text else { return Ok(NO_TIME.to_string()) };
    // RFC 3339 in Go's reading, which is narrower than others'.
    let narrow = text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte));
    if !narrow || text.as_bytes().get(10) != Some(&b'T') || text.parse::<jiff::Timestamp>().is_err() {
        return Err(Error::invalid(format!("{text:?} is no time")));
    }
    Ok(crate::oci::oci_config::go_time(&text))
}
