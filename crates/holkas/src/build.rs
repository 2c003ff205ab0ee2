//! An image made of directory trees, as an OCI archive: written in one pass, the same bytes for the same trees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::archive::writer::{self, DIRECTORY, FILE, Header};
use crate::compress::ParallelGzip;
use crate::error::{Context, Error, Result, printable};
use crate::fs::beneath::Beneath;
use crate::fs::staging::Staging;
use crate::fs::{Dir, display};
use crate::layer_tar;
use crate::layout::index::OCI_LAYOUT_FILE;
use crate::layout::place::Place;
use crate::layout::{blob, blob_path};
use crate::oci::media_type::{self, MediaType};
use crate::oci::{Algorithm, Descriptor, DiffId, Digest, Hasher, ImageId};
use crate::progress::{Cancel, Event, Monitor};

/// What to make an image of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The architecture, such as `amd64`. The operating system is `linux`.
    pub architecture: String,
    /// The architecture's variant, such as `v8`.
    pub variant: Option<String>,
    /// How to run the image: the config's `config`.
    pub run: Map<String, Value>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// When the image was made, in seconds since 1970.
    pub created: i64,
    /// The layers, lowest first.
    pub layers: Vec<TreeLayer>,
}

/// A layer that is a directory tree.
#[derive(Debug, Clone)]
pub struct TreeLayer {
    /// The tree.
    pub tree: PathBuf,
    /// What the image's history says of the layer.
    pub created_by: String,
}

/// An image that was made.
#[derive(Debug, Clone)]
pub struct Built {
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// Its ID.
    pub image_id: ImageId,
    /// Its layers: each one's blob, and the digest of its tar.
    pub layers: Vec<(Descriptor, DiffId)>,
}

/// Makes the image, as an archive that shall lie at `place` (as the OS will see it) beneath the directory `root`.
///
/// It replaces a file that is there. After an error nothing is visible.
pub fn build_archive(
    recipe: &Recipe,
    root: &Path,
    place: &Path,
    cancel: &Cancel,
    monitor: &dyn Monitor,
) -> Result<Built> {
    let frame = || format!("building `{}` beneath `{}`", display(place), display(root));
    let name = match place.components().next_back() {
        Some(std::path::Component::Normal(name)) => name.as_bytes().to_vec(),
        _ => return Err(Error::invalid("the path has no last part to be named by")).context(frame),
    };
    let beneath = Beneath::create(&Dir::open(root)?, place.parent().unwrap_or(Path::new("/")), 0o755)?;
    let place = Place { parent: beneath.dir().reopen()?, name };
    let built = write(recipe, &place, cancel, monitor).context(frame)?;
    beneath.keep(recipe.created)?;
    Ok(built)
}

const ARCHIVE: &str = "archive";

fn write(recipe: &Recipe, place: &Place, cancel: &Cancel, monitor: &dyn Monitor) -> Result<Built> {
    place.refuse_all_but_a_file()?;
    let staging = Staging::create(&place.parent)?;
    let file = staging.dir().open_for_update(ARCHIVE, blob::MODE)?;
    let mut archive = Archive { file: &file, end: 0, blobs: BTreeSet::new() };
    for name in ["blobs/", "blobs/sha256/"] {
        archive.put(Header { kind: DIRECTORY, name, mode: 0o755, link: "" }, &[])?;
    }
    let mut layers = Vec::new();
    for (n, layer) in recipe.layers.iter().enumerate() {
        let frame = || format!("layer {} of {}", n + 1, recipe.layers.len());
        layers.push(archive.layer(&layer.tree, cancel, monitor).context(frame)?);
    }
    let config = archive.document(media_type::OCI_CONFIG, &config(recipe, &layers))?;
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": layers.iter().map(|(blob, _)| blob).collect::<Vec<_>>(),
    });
    if !recipe.annotations.is_empty() {
        manifest["annotations"] = json!(recipe.annotations);
    }
    let manifest = archive.document(media_type::OCI_MANIFEST, &manifest)?;
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [manifest]});
    let plain = |name| Header { kind: FILE, name, mode: blob::MODE, link: "" };
    archive.put(plain("index.json"), &bytes_of(&index))?;
    archive.put(plain("oci-layout"), OCI_LAYOUT_FILE)?;
    writer::finish(&file, archive.end)?;
    cancel.check()?;
    monitor.event(Event::Committing);
    file.sync_all()?;
    staging.dir().rename(ARCHIVE, &place.parent, &place.name)?;
    place.parent.sync()?;
    Ok(Built { manifest_digest: manifest.digest, image_id: ImageId(config.digest), layers })
}

fn bytes_of(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a JSON value can be written")
}

fn config(recipe: &Recipe, layers: &[(Descriptor, DiffId)]) -> Value {
    let created = jiff::Timestamp::from_second(recipe.created).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    let history = recipe.layers.iter().map(|layer| json!({"created": created, "created_by": layer.created_by}));
    let mut config = Map::new();
    config.insert("created".into(), json!(created));
    config.insert("architecture".into(), json!(recipe.architecture));
    if let Some(variant) = &recipe.variant {
        config.insert("variant".into(), json!(variant));
    }
    config.insert("os".into(), json!("linux"));
    config.insert("config".into(), Value::Object(recipe.run.clone()));
    let diff_ids: Vec<String> = layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
    config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    config.insert("history".into(), history.collect());
    Value::Object(config)
}

/// The archive as far as it is written.
struct Archive<'a> {
    file: &'a File,
    end: u64,
    blobs: BTreeSet<Digest>,
}

impl Archive<'_> {
    fn put(&mut self, header: Header<'_>, contents: &[u8]) -> Result<()> {
        self.end = writer::put(self.file, self.end, header, contents)?;
        Ok(())
    }

    fn document(&mut self, media_type: &'static str, document: &Value) -> Result<Descriptor> {
        let bytes = bytes_of(document);
        let digest = Algorithm::Sha256.digest(&bytes);
        if self.blobs.insert(digest) {
            self.put(Header { kind: FILE, name: &blob_path(&digest), mode: blob::MODE, link: "" }, &bytes)?;
        }
        Ok(Descriptor::new(MediaType::new(media_type), digest, bytes.len() as u64))
    }

    /// Writes a layer. Its bytes come first, and then the header before them, which has their digest for a name.
    fn layer(&mut self, tree: &Path, cancel: &Cancel, monitor: &dyn Monitor) -> Result<(Descriptor, DiffId)> {
        let body = self.end + crate::archive::entries::BLOCK;
        let room = i64::MAX as u64 - body;
        let mut blob = Hashed::new(writer::range(self.file, body, room));
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut diff = Hashed::new(ParallelGzip::new(&mut blob, threads)?);
        let written = layer_tar::write(&Dir::open(tree)?, &mut diff, cancel)?;
        let (diff_id, _, encoder) = diff.finish();
        encoder.finish()?;
        let (digest, size, _) = blob.finish();
        for socket in &written.sockets {
            let text = format!("`{}` is a socket, and left out", printable(socket));
            monitor.event(Event::Warning { text: &text });
        }
        if self.blobs.insert(digest) {
            let name = blob_path(&digest);
            let header = Header { kind: FILE, name: &name, mode: blob::MODE, link: "" };
            (_, self.end) = writer::reserve(self.file, self.end, header, size)?;
        } else {
            // What two layers have in common is there once. What comes next is padded with zeros, not with this one.
            self.file.set_len(self.end)?;
        }
        Ok((Descriptor::new(MediaType::new(media_type::OCI_LAYER_GZIP), digest, size), DiffId(diff_id)))
    }
}

/// Hashes and counts what is written.
struct Hashed<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: Algorithm::Sha256.hasher(), size: 0 }
    }

    fn finish(self) -> (Digest, u64, W) {
        (self.hasher.finish(), self.size, self.out)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
