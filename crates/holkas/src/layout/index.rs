//! `index.json` of an OCI layout: found in, and added to, with what others wrote there kept.

use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Result, printable};
use crate::image::{Attached, Attachment};
use crate::limits::INDEX_ENTRIES;
use crate::oci::{Descriptor, json};
use crate::reference::LayoutSelect;

/// The annotation that names an entry.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What `oci-layout` holds, as skopeo writes it.
pub(crate) const OCI_LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion": "1.0.0"}"#;

/// The document, with all its keys.
#[derive(Debug)]
pub(crate) struct LayoutIndex {
    document: Map<String, Value>,
    entries: Vec<Value>,
}

impl LayoutIndex {
    /// Returns the index of a layout without images, as skopeo begins it.
    pub(crate) fn new() -> Self {
        let mut document = Map::new();
        document.insert("schemaVersion".into(), json!(2));
        document.insert("manifests".into(), Value::Null);
        Self { document, entries: Vec::new() }
    }

    /// Parses the file strictly.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let frame = || "reading `index.json`";
        let mut document = json::parse_object(bytes).context(frame)?;
        // An image's manifest has these; a reader that decides by them would see another document.
        if let Some(key) = ["config", "layers", "fsLayers"].iter().find(|key| document.contains_key(**key)) {
            return Err(Error::invalid(format!("ambiguous document: an index must not have the key `{key}`")))
                .context(frame);
        }
        if document.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err(Error::invalid("`schemaVersion` is not 2")).context(frame);
        }
        let entries = match document.get_mut("manifests").map(Value::take) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(Error::invalid("`manifests` is not a list")).context(frame),
        };
        if entries.len() > INDEX_ENTRIES {
            let count = entries.len();
            return Err(Error::invalid(format!("it has {count} entries; the limit is {INDEX_ENTRIES}"))).context(frame);
        }
        Ok(Self { document, entries })
    }

    /// Returns the entry that is asked for.
    pub(crate) fn select(&self, select: &LayoutSelect) -> Result<Descriptor> {
        descriptor(&self.entries[self.position(select)?])
    }

    /// Takes the entry that is asked for away, and returns it.
    pub(crate) fn remove(&mut self, select: &LayoutSelect) -> Result<Descriptor> {
        let at = self.position(select)?;
        descriptor(&self.entries.remove(at))
    }

    /// Returns all entries.
    pub(crate) fn descriptors(&self) -> Result<Vec<Descriptor>> {
        self.entries.iter().map(descriptor).collect()
    }

    /// Returns the entry of this name, if there is one.
    pub(crate) fn named(&self, name: &str) -> Result<Option<Descriptor>> {
        self.entries.iter().find(|entry| name_of(entry) == Some(name)).map(descriptor).transpose()
    }

    fn position(&self, select: &LayoutSelect) -> Result<usize> {
        match select {
            LayoutSelect::Only => match self.entries.as_slice() {
                [] => Err(Error::not_found("the layout holds no image")),
                [_] => Ok(0),
                several => Err(Error::not_found(format!("the layout holds {} images; name one", several.len()))
                    .hint(self.names_hint())),
            },
            // Where a name occurs twice, the first one has it, as in skopeo.
            LayoutSelect::Named(name) => {
                self.entries.iter().position(|entry| name_of(entry) == Some(name)).ok_or_else(|| {
                    Error::not_found(format!("the layout has no image named `{}`", printable(name.as_bytes())))
                        .hint(self.names_hint())
                })
            }
            LayoutSelect::Position(n) if *n < self.entries.len() => Ok(*n),
            LayoutSelect::Position(n) => {
                Err(Error::not_found(format!("there is no image @{n}: the layout holds {}", self.entries.len())))
            }
        }
    }

    fn names_hint(&self) -> String {
        let names: Vec<_> = self.entries.iter().filter_map(name_of).take(20).map(|n| printable(n.as_bytes())).collect();
        match names.as_slice() {
            [] => "no image of the layout has a name; choose by position (:@0)".to_string(),
            names => format!("the layout has: {}", names.join(", ")),
        }
    }

    /// Adds an image, which takes its name away from the entry that has it.
    pub(crate) fn add(&mut self, image: &Descriptor, name: Option<&str>) {
        if let Some(name) = name {
            for entry in self.entries.iter_mut().filter(|entry| name_of(entry) == Some(name)) {
                let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) else { continue };
                annotations.shift_remove(REF_NAME);
                if annotations.is_empty()
                    && let Some(entry) = entry.as_object_mut()
                {
                    entry.shift_remove("annotations");
                }
            }
        }
        let mut new = Map::new();
        new.insert("mediaType".into(), json!(image.media_type));
        new.insert("digest".into(), json!(image.digest));
        new.insert("size".into(), json!(image.size));
        if let Some(name) = name {
            new.insert("annotations".into(), json!({REF_NAME: name}));
        }
        let new = Value::Object(new);
        // An entry of the same image that has no name is this one. Unlike skopeo 1.9, a name that it has is not lost.
        let digest = image.digest.to_string();
        let same = |entry: &Value| entry.get("digest").and_then(Value::as_str) == Some(&digest);
        match self.entries.iter().position(|entry| same(entry) && name_of(entry).is_none()) {
            Some(at) => self.entries[at] = new,
            None if name.is_none() && self.entries.iter().any(same) => {}
            None => self.entries.push(new),
        }
    }

    /// Adds what belongs to an image, under a tag or without a name, as ORAS does. An entry that it has already stays.
    ///
    /// # Errors
    ///
    /// `Invalid` if there would be more entries than anybody would read.
    pub(crate) fn add_referrer(&mut self, document: &Attached, attachment: &Attachment) -> Result<()> {
        let said = &document.descriptor;
        match attachment {
            Attachment::Within => return Ok(()),
            Attachment::Tag(tag) => self.add(said, Some(tag)),
            Attachment::Subject => {
                let digest = said.digest.to_string();
                if self.entries.iter().any(|entry| entry.get("digest").and_then(Value::as_str) == Some(&digest)) {
                    return Ok(());
                }
                // Without its annotations: one of them could be the name of another image.
                let entry = Descriptor { annotations: None, ..said.clone() };
                self.entries.push(json!(entry));
            }
        }
        match self.entries.len() {
            0..=INDEX_ENTRIES => Ok(()),
            _ => Err(Error::invalid(format!("`index.json` would have more than {INDEX_ENTRIES} entries"))),
        }
    }

    /// Returns the file's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut document = self.document.clone();
        document.insert("manifests".into(), Value::Array(self.entries.clone()));
        serde_json::to_vec(&Value::Object(document)).expect("a JSON value can be written")
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str().filter(|name| !name.is_empty())
}

fn descriptor(entry: &Value) -> Result<Descriptor> {
    let descriptor: Descriptor = serde_json::from_value(entry.clone())
        .map_err(|error| Error::invalid(format!("not a descriptor: {error}")))
        .context(|| "reading `index.json`")?;
    if i64::try_from(descriptor.size).is_err() {
        return Err(Error::invalid("the size of the manifest is beyond any blob")).context(|| "reading `index.json`");
    }
    Ok(descriptor)
}
