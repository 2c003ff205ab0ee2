//! The records of a store: `layers.json`, `images.json`, and what we need of `containers.json`.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde_json::{Map, Value};

use super::fields::Fields;
use super::go_json::{self, Object};
use super::names::check_id;
use crate::error::{Context, Error, Result, printable};
use crate::oci::{Digest, json};

/// The time that Go writes where there is none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A kind of record: one entry of a JSON file that a lock file guards.
pub trait Record: Sized + Clone + fmt::Debug {
    /// The JSON file's name.
    const JSON: &'static str;
    /// The lock file's name.
    const LOCK: &'static str;

    /// Returns the record's ID.
    fn id(&self) -> &str;

    /// Reads an entry.
    fn read(fields: Fields) -> Result<Self>;

    /// Appends the entry as containers-storage writes it.
    fn write(&self, out: &mut Vec<u8>);
}

/// Parses a file of records. An empty file has none.
///
/// What containers-storage 1.43 would pass over in silence, and then overwrite, is refused.
pub fn parse<R: Record>(bytes: &[u8]) -> Result<Vec<R>> {
    let frame = || format!("reading `{}`", R::JSON);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let entries = match json::parse(bytes).context(frame)? {
        Value::Array(entries) => entries,
        Value::Null => Vec::new(),
        _ => return Err(Error::invalid("the document is not a list")).context(frame),
    };
    let mut records = Vec::with_capacity(entries.len());
    let mut ids = HashSet::new();
    for (n, entry) in entries.into_iter().enumerate() {
        let id = entry.get("id").and_then(Value::as_str).map(|id| printable(id.as_bytes())).unwrap_or_default();
        let entry_frame = || format!("reading entry {n} `{id}`");
        let record = Fields::new(entry).and_then(R::read).context(entry_frame).context(frame)?;
        check_id(record.id()).context(entry_frame).context(frame)?;
        if !ids.insert(record.id().to_owned()) {
            return Err(Error::invalid("the ID occurs twice")).context(entry_frame).context(frame);
        }
        records.push(record);
    }
    Ok(records)
}

/// Encodes a file of records.
pub fn encode<R: Record>(records: &[R]) -> Vec<u8> {
    let mut out = Vec::new();
    go_json::list(&mut out, records, |out, record| record.write(out));
    out
}

/// A layer, as `layers.json` knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRecord {
    /// The layer's ID: its chain ID in hex, or random for what was committed from a container.
    pub id: String,
    /// Names; not used for layers of images.
    pub names: Vec<String>,
    /// The ID of the layer below.
    pub parent: Option<String>,
    /// Free text.
    pub metadata: String,
    /// The SELinux mount label; not used for layers of images.
    pub mount_label: String,
    /// When it was written (RFC 3339), as it stands.
    pub created: String,
    /// The digest of the blob as it came.
    pub compressed_diff_digest: Option<Digest>,
    /// The length of the blob as it came; 0 is unknown.
    pub compressed_size: i64,
    /// The digest of the uncompressed layer: its diff ID.
    pub diff_digest: Option<Digest>,
    /// The digest of a zstd:chunked table of contents.
    pub toc_digest: Option<Digest>,
    /// The length of the uncompressed layer; -1 is unknown.
    pub diff_size: i64,
    /// How the blob was compressed: 0 not, 1 bzip2, 2 gzip, 3 xz, 4 zstd.
    pub compression: i64,
    /// The owners of its entries.
    pub uid_set: Vec<u32>,
    /// The groups of its entries.
    pub gid_set: Vec<u32>,
    /// Flags, such as `incomplete`.
    pub flags: Map<String, Value>,
    /// The user ID mappings of a mapped layer.
    pub uid_map: Vec<IdMap>,
    /// The group ID mappings of a mapped layer.
    pub gid_map: Vec<IdMap>,
    /// The keys of its big data items.
    pub big_data_names: Vec<String>,
    /// What we do not know, kept.
    pub unknown: Map<String, Value>,
}

/// A range of mapped IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first ID inside.
    pub container_id: i64,
    /// The first ID outside.
    pub host_id: i64,
    /// How many.
    pub size: i64,
}

impl LayerRecord {
    /// Returns a record of nothing but an ID and a time.
    pub fn new(id: impl Into<String>, created: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            names: Vec::new(),
            parent: None,
            metadata: String::new(),
            mount_label: String::new(),
            created: created.into(),
            compressed_diff_digest: None,
            compressed_size: 0,
            diff_digest: None,
            toc_digest: None,
            diff_size: 0,
            compression: 0,
            uid_set: Vec::new(),
            gid_set: Vec::new(),
            flags: Map::new(),
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            big_data_names: Vec::new(),
            unknown: Map::new(),
        }
    }

    /// Returns whether its writer died: such a layer is to be deleted, never used.
    pub fn incomplete(&self) -> bool {
        matches!(self.flags.get("incomplete"), Some(Value::Bool(true)))
    }
}

const LAYER_KEYS: [&str; 18] = [
    "id",
    "names",
    "parent",
    "metadata",
    "mountlabel",
    "created",
    "compressed-diff-digest",
    "compressed-size",
    "diff-digest",
    "toc-digest",
    "diff-size",
    "compression",
    "uidset",
    "gidset",
    "flags",
    "uidmap",
    "gidmap",
    "big-data-names",
];

impl Record for LayerRecord {
    const JSON: &'static str = "layers.json";
    const LOCK: &'static str = "layers.lock";

    fn id(&self) -> &str {
        &self.id
    }

    fn read(mut fields: Fields) -> Result<Self> {
        let record = Self {
            id: fields.text("id")?,
            names: fields.texts("names")?,
            parent: Some(fields.text("parent")?).filter(|parent| !parent.is_empty()),
            metadata: fields.text("metadata")?,
            mount_label: fields.text("mountlabel")?,
            created: time(&mut fields)?,
            compressed_diff_digest: fields.digest("compressed-diff-digest")?,
            compressed_size: fields.integer("compressed-size")?,
            diff_digest: fields.digest("diff-digest")?,
            toc_digest: fields.digest("toc-digest")?,
            diff_size: fields.integer("diff-size")?,
            compression: fields.integer("compression")?,
            uid_set: fields.ids("uidset")?,
            gid_set: fields.ids("gidset")?,
            flags: fields.object("flags")?,
            uid_map: fields.each("uidmap", id_map)?,
            gid_map: fields.each("gidmap", id_map)?,
            big_data_names: fields.texts("big-data-names")?,
            unknown: fields.rest(&LAYER_KEYS)?,
        };
        if let Some(parent) = &record.parent {
            check_id(parent).context(|| "reading `parent`")?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, n: &u32| out.extend(n.to_string().as_bytes());
        let mut object = Object::begin(out);
        object.text("id", &self.id);
        object.texts("names", &self.names);
        object.shown("parent", self.parent.as_ref());
        object.text_unless_empty("metadata", &self.metadata);
        object.text_unless_empty("mountlabel", &self.mount_label);
        object.text("created", &self.created);
        object.shown("compressed-diff-digest", self.compressed_diff_digest.as_ref());
        object.number("compressed-size", self.compressed_size);
        object.shown("diff-digest", self.diff_digest.as_ref());
        object.shown("toc-digest", self.toc_digest.as_ref());
        object.number("diff-size", self.diff_size);
        object.number("compression", self.compression);
        object.list("uidset", &self.uid_set, number);
        object.list("gidset", &self.gid_set, number);
        write_flags(&mut object, &self.flags);
        object.list("uidmap", &self.uid_map, write_id_map);
        object.list("gidmap", &self.gid_map, write_id_map);
        object.texts("big-data-names", &self.big_data_names);
        write_unknown(&mut object, &self.unknown);
        object.end();
    }
}

/// An image, as `images.json` knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The image ID: the config's digest in hex.
    pub id: String,
    /// The digest of the first manifest that was stored for the image.
    pub digest: Option<Digest>,
    /// Normalised references, newest first.
    pub names: Vec<String>,
    /// Names that it has or had, newest first.
    pub names_history: Vec<String>,
    /// The ID of its top layer; `None` for an image without layers.
    pub layer: Option<String>,
    /// Copies of its top layer with mapped IDs.
    pub mapped_layers: Vec<String>,
    /// JSON text: the lengths of its signatures.
    pub metadata: String,
    /// The keys of its items, in the order in which they were first written.
    pub big_data_names: Vec<String>,
    /// The lengths of its items.
    pub big_data_sizes: BTreeMap<String, i64>,
    /// The digests of its items.
    pub big_data_digests: BTreeMap<String, Digest>,
    /// The config's time (RFC 3339), as it stands.
    pub created: String,
    /// Flags.
    pub flags: Map<String, Value>,
    /// What we do not know, kept.
    pub unknown: Map<String, Value>,
}

impl ImageRecord {
    /// Returns a record of nothing but an ID and a time.
    pub fn new(id: impl Into<String>, created: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            digest: None,
            names: Vec::new(),
            names_history: Vec::new(),
            layer: None,
            mapped_layers: Vec::new(),
            metadata: String::new(),
            big_data_names: Vec::new(),
            big_data_sizes: BTreeMap::new(),
            big_data_digests: BTreeMap::new(),
            created: created.into(),
            flags: Map::new(),
            unknown: Map::new(),
        }
    }

    /// Returns the digests by which the image is found: of all its manifests and indexes, each once.
    pub fn digests(&self) -> Vec<Digest> {
        let manifests = self.big_data_digests.iter().filter(|(key, _)| key.starts_with(super::names::MANIFEST));
        let mut digests: Vec<_> = self.digest.into_iter().chain(manifests.map(|(_, digest)| *digest)).collect();
        digests.sort();
        digests.dedup();
        digests
    }

    /// Returns the layers at the top of the image: its own and the mapped copies.
    pub fn top_layers(&self) -> impl Iterator<Item = &String> {
        self.layer.iter().chain(&self.mapped_layers)
    }
}

const IMAGE_KEYS: [&str; 12] = [
    "id",
    "digest",
    "names",
    "names-history",
    "layer",
    "mapped-layers",
    "metadata",
    "big-data-names",
    "big-data-sizes",
    "big-data-digests",
    "created",
    "flags",
];

impl Record for ImageRecord {
    const JSON: &'static str = "images.json";
    const LOCK: &'static str = "images.lock";

    fn id(&self) -> &str {
        &self.id
    }

    fn read(mut fields: Fields) -> Result<Self> {
        let record = Self {
            id: fields.text("id")?,
            digest: fields.digest("digest")?,
            names: fields.texts("names")?,
            names_history: fields.texts("names-history")?,
            layer: Some(fields.text("layer")?).filter(|layer| !layer.is_empty()),
            mapped_layers: fields.texts("mapped-layers")?,
            metadata: fields.text("metadata")?,
            big_data_names: fields.texts("big-data-names")?,
            big_data_sizes: fields.integers("big-data-sizes")?,
            big_data_digests: fields.digests("big-data-digests")?,
            created: time(&mut fields)?,
            flags: fields.object("flags")?,
            unknown: fields.rest(&IMAGE_KEYS)?,
        };
        for layer in record.top_layers() {
            check_id(layer).context(|| "reading `layer`")?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("id", &self.id);
        object.shown("digest", self.digest.as_ref());
        object.texts("names", &self.names);
        object.texts("names-history", &self.names_history);
        object.shown("layer", self.layer.as_ref());
        object.texts("mapped-layers", &self.mapped_layers);
        object.text_unless_empty("metadata", &self.metadata);
        object.texts("big-data-names", &self.big_data_names);
        write_map(&mut object, "big-data-sizes", &self.big_data_sizes, |out, n| out.extend(n.to_string().as_bytes()));
        write_map(&mut object, "big-data-digests", &self.big_data_digests, |out, digest| {
            go_json::string(out, &digest.to_string());
        });
        object.text("created", &self.created);
        write_flags(&mut object, &self.flags);
        write_unknown(&mut object, &self.unknown);
        object.end();
    }
}

/// A container, as far as images and layers are concerned. We never write one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// The container's ID.
    pub id: String,
    /// Its names, for messages.
    pub names: Vec<String>,
    /// The ID of its image.
    pub image: Option<String>,
    /// The ID of its own layer.
    pub layer: Option<String>,
}

impl ContainerRecord {
    /// Reads a container's entry.
    pub fn read(mut fields: Fields) -> Result<Self> {
        Ok(Self {
            id: fields.text("id")?,
            names: fields.texts("names")?,
            image: Some(fields.text("image")?).filter(|image| !image.is_empty()),
            layer: Some(fields.text("layer")?).filter(|layer| !layer.is_empty()),
        })
    }

    /// Parses `containers.json` or `volatile-containers.json`. An empty file has none.
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        match json::parse(bytes)? {
            Value::Array(entries) => entries.into_iter().map(|entry| Fields::new(entry).and_then(Self::read)).collect(),
            Value::Null => Ok(Vec::new()),
            _ => Err(Error::invalid("the document is not a list")),
        }
    }
}

fn time(fields: &mut Fields) -> Result<String> {
    let text = fields.text("created")?;
    if text.is_empty() {
        return Ok(NO_TIME.into());
    }
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    match parsed {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::invalid(format!("`created` is not a time: {error}"))),
    }
}

fn id_map(fields: &mut Fields) -> Result<IdMap> {
    Ok(IdMap {
        container_id: fields.integer("container_id")?,
        host_id: fields.integer("host_id")?,
        size: fields.integer("size")?,
    })
}

fn write_id_map(out: &mut Vec<u8>, map: &IdMap) {
    let IdMap { container_id, host_id, size } = map;
    out.extend(format!(r#"{{"container_id":{container_id},"host_id":{host_id},"size":{size}}}"#).as_bytes());
}

fn write_map<T>(object: &mut Object<'_>, key: &str, map: &BTreeMap<String, T>, mut one: impl FnMut(&mut Vec<u8>, &T)) {
    if map.is_empty() {
        return;
    }
    object.field(key, |out| {
        let mut object = Object::begin(out);
        for (key, value) in map {
            object.field(key, |out| one(out, value));
        }
        object.end();
    });
}

fn write_flags(object: &mut Object<'_>, flags: &Map<String, Value>) {
    if !flags.is_empty() {
        object.field("flags", |out| {
            go_json::value(out, &Value::Object(flags.clone()));
        });
    }
}

fn write_unknown(object: &mut Object<'_>, unknown: &Map<String, Value>) {
    for (key, value) in unknown {
        object.field(key, |out| go_json::value(out, value));
    }
}
