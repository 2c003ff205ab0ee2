//! From a config of Docker's schema 2, or OCI's, to schema 1, with the bytes and IDs that containers/image writes.

use serde::Serialize;

use super::upgrade::{raw, raw_fields, written};
use super::{Schema1, steps};
use crate::error::{Context, Error, Result};
use crate::limits::SCHEMA1_STEPS;
use crate::oci::{Algorithm, Digest, json};

/// The layer that stands for every step which changed no file: a tar of 1024 zeros, compressed by Docker long ago.
pub const EMPTY_LAYER: [u8; 32] = [
    31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175, 181, 239, 0,
    4, 0, 0,
];

/// What is read of a config.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Config {
    architecture: Option<String>,
    history: Option<Vec<History>>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct History {
    created: Option<String>,
    created_by: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

/// A history entry that no longer says what the image is.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    parent: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'a str,
    created: &'a str,
    container_config: ContainerConfig<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    author: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    throwaway: bool,
}

#[derive(Serialize)]
struct ContainerConfig<'a> {
    #[serde(rename = "Cmd")]
    cmd: [&'a str; 1],
}

/// Makes a schema 1 manifest of an image.
///
/// `layers` are the blobs as they were, by which IDs are made, and as they are now, lowest first. The manifest says
/// `name` and `tag` of itself.
///
/// # Errors
///
/// `Invalid` if the config has no history, or one that has not a step for each layer.
pub fn downgrade(config: &[u8], layers: &[(Digest, Digest)], name: &str, tag: &str) -> Result<Schema1> {
    let text = String::from_utf8_lossy(config);
    // What other readers could read otherwise is refused.
    json::parse_object(text.as_bytes())?;
    let parsed: Config = serde_json::from_str(&text).map_err(|error| Error::invalid(error.to_string()))?;
    let history = parsed.history.unwrap_or_default();
    let Some(newest) = history.last() else {
        return Err(Error::unsupported("an image without a history has no place in Docker's schema 1"));
    };
    let newest_is_empty = newest.empty_layer.unwrap_or_default();
    if history.len() > SCHEMA1_STEPS {
        return Err(Error::invalid(format!("the history has {} steps; the limit is {SCHEMA1_STEPS}", history.len())));
    }
    let made = history.iter().filter(|step| !step.empty_layer.unwrap_or_default()).count();
    if made != layers.len() {
        let text = format!("the config's history tells of {made} layers, but the manifest has {}", layers.len());
        return Err(Error::unsupported(text));
    }
    let empty = Algorithm::Sha256.digest(&EMPTY_LAYER);
    let (mut rest, mut id, mut parent) = (layers.iter(), String::new(), String::new());
    let mut last = empty;
    let mut entries = Vec::new();
    for (n, step) in history.iter().enumerate() {
        let throwaway = step.empty_layer.unwrap_or_default();
        let (old, new) = if throwaway { (empty, empty) } else { rest.next().copied().unwrap_or((empty, empty)) };
        parent = std::mem::take(&mut id);
        id = made_id(&old, &[parent.as_bytes()]);
        last = old;
        let created = steps::time(step.created.clone()).context(|| format!("`history[{n}].created`"))?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (comment, author, created_by) = (text(&step.comment), text(&step.author), text(&step.created_by));
        let entry = Entry {
            id: &id,
            parent: &parent,
            comment: &comment,
            created: &created,
            container_config: ContainerConfig { cmd: [&created_by] },
            author: &author,
            throwaway,
        };
        let entry = serde_json::to_string(&entry).map_err(|error| Error::invalid(error.to_string()))?;
        entries.push((new, json::go_escaped(&entry)));
    }
    // The newest one has the config.
    let mut fields = raw_fields(&text)?;
    fields.retain(|key, _| key != "rootfs" && key != "history");
    fields.insert("id".to_string(), raw(&made_id(&last, &[parent.as_bytes(), config]))?);
    if !parent.is_empty() {
        fields.insert("parent".to_string(), raw(&parent)?);
    }
    if newest_is_empty {
        fields.insert("throwaway".to_string(), raw(&true)?);
    }
    if let Some((_, entry)) = entries.last_mut() {
        *entry = written(&fields)?;
    }
    let layers: Vec<_> = entries.iter().map(|(blob, entry)| (*blob, entry.as_str())).collect();
    Schema1::create(name, tag, parsed.architecture.as_deref().unwrap_or_default(), &layers)
}

/// Makes the ID of a step out of its layer, and what else makes it what it is.
fn made_id(blob: &Digest, others: &[&[u8]]) -> String {
    let mut bytes = blob.hex().into_bytes();
    for other in others {
        bytes.push(b' ');
        bytes.extend_from_slice(other);
    }
    Algorithm::Sha256.digest(&bytes).hex()
}
