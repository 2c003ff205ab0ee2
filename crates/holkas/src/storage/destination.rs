//! Writes images into a store: layers are unpacked in a staging directory, and nothing has a name before `publish`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::names;
use super::records::{ImageRecord, LayerRecord};
use super::skeleton::{Skeleton, link_name, split_name};
use super::state::Locked;
use super::{layer, vfs};
use crate::error::{Context, Error, Result};
use crate::fs::beneath::Beneath;
use crate::fs::lock::Kind;
use crate::fs::staging::{Staging, sweep};
use crate::fs::write_back::WriteBack;
use crate::fs::{Dir, Reach, times};
use crate::image::{
    Capabilities, Image, ImageDestination, ImageWriter, Layer, LayerForm, LayerOrder, LayerReader, Stored, Support,
};
use crate::limits::RUNNABLE_LAYERS;
use crate::oci::{ChainId, DiffId, ImageId, Index, Meaning};
use crate::reference::{Driver, Name};
use crate::signature::UntrustedSignature;
use crate::unpack::{OnDisk, Timestamp, UnpackOptions};
use crate::verify::VerifiedBytes;

/// A store as a destination. What was put is visible to podman after [`ImageDestination::publish`].
#[derive(Debug)]
pub struct StorageDestination {
    pub(super) root: Dir,
    pub(super) driver: Driver,
    pub(super) clock: i64,
    pub(super) reach: Reach,
    names: Vec<Name>,
    work: Mutex<Option<Arc<Work>>>,
    /// What the store held when it was opened: publish looks again.
    present: Present,
    pub(super) staged: Mutex<BTreeMap<String, LayerRecord>>,
    pub(super) images: Mutex<Vec<PendingImage>>,
}

#[derive(Debug, Default)]
struct Present {
    layers: BTreeMap<String, LayerRecord>,
    images: BTreeMap<String, ImageRecord>,
}

/// An image that waits for `publish`.
#[derive(Debug)]
pub(super) struct PendingImage {
    pub(super) id: ImageId,
    pub(super) names: Vec<Name>,
    pub(super) top_layer: Option<String>,
    pub(super) chain: Vec<String>,
    /// Big data by key, in the order in which they are recorded.
    pub(super) items: Vec<(String, Vec<u8>, Option<crate::oci::Digest>)>,
    pub(super) metadata: String,
    pub(super) created: Option<String>,
}

impl StorageDestination {
    /// Opens the store at `root`, an existing directory, to write images that get `names`.
    ///
    /// `clock` is the time for everything that no image gives a time.
    pub fn create(root: Dir, driver: Driver, names: Vec<Name>, clock: i64) -> Result<Self> {
        let other = if driver == Driver::Overlay { Driver::Vfs } else { Driver::Overlay };
        if root.exists(other.name())? && !root.exists(driver.name())? {
            return Err(Error::refused(format!("the store already uses the {} driver", other.name()))
                .context(format!("opening store `{}`", crate::fs::display(root.path())))
                .hint("a store with two drivers is refused by podman; choose the driver that it has"));
        }
        if let Some(skeleton) = Skeleton::open(&root, driver)?
            && (sweep(&skeleton.layers_home)? | sweep(&skeleton.layers)?)
        {
            skeleton.set_times(&root, clock)?;
        }
        let present = Present::read(&root, driver)?;
        Ok(Self {
            root,
            driver,
            clock,
            reach: Reach::Disk,
            names,
            work: Mutex::default(),
            present,
            staged: Mutex::default(),
            images: Mutex::default(),
        })
    }

    /// Says how far the images must have come when they are published; if nothing is said, to the disk.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// Returns whether the store holds the image already, with these names and all that would be stored with it.
    pub fn holds(&self, image: &Image, names: &[Name]) -> Result<bool> {
        let pending = pending(image, names)?;
        let Some(record) = self.present.images.get(&pending.id.0.hex()) else { return Ok(false) };
        let layers = pending.chain.iter().zip(&image.layers).all(|(id, layer)| self.finds_layer(id, layer.diff_id));
        Ok(layers && record.layer == pending.top_layer && super::publish::is_complete(record, &pending))
    }

    fn finds_layer(&self, id: &str, diff_id: Option<DiffId>) -> bool {
        self.present
            .layers
            .get(id)
            .is_some_and(|record| !record.incomplete() && record.diff_digest == diff_id.map(|diff_id| diff_id.0))
    }

    /// Begins an image that gets names of its own.
    pub fn begin_named<'a>(&'a self, image: &'a Image, names: &[Name]) -> Result<Box<dyn ImageWriter + 'a>> {
        if image.layers.len() > RUNNABLE_LAYERS && self.driver == Driver::Overlay {
            return Err(Error::refused(format!(
                "the image has {} layers; podman 4 and older can run {RUNNABLE_LAYERS} at most",
                image.layers.len()
            ))
            .hint("store it with the vfs driver, or have it built with fewer layers"));
        }
        if let Some(layer) = image.opaque_layer() {
            return Err(Error::unsupported(format!(
                "layer {} is of type `{}`, which cannot be unpacked",
                layer.position + 1,
                layer.descriptor.media_type
            )));
        }
        let pending = pending(image, names)?;
        if let Some(record) = self.present.images.get(&pending.id.0.hex()) {
            super::publish::check_same_layers(record, &pending)?;
        }
        Ok(Box::new(StorageWriter { store: self, pending }))
    }

    fn stage_layer(&self, pending: &PendingImage, layer: &Layer, diff_id: DiffId, body: LayerReader) -> Result<Stored> {
        let id = &pending.chain[layer.position];
        let parent = layer.position.checked_sub(1).map(|below| pending.chain[below].as_str());
        let work = self.work()?;
        let (trees, splits) = (work.trees.dir(), work.splits.dir());
        // What a wrong blob has made is not met by the right one, which comes from another place.
        trees.remove_all(id)?;
        let dir = trees.make(id, 0o700)?;
        let (tree, on_disk) = match self.driver {
            Driver::Overlay => (dir.make("diff", 0o555)?, OnDisk::Overlay),
            Driver::Vfs => {
                let tree = dir.make("diff", 0o555)?;
                if let Some(parent) = parent {
                    vfs::copy_tree(&self.vfs_tree(parent)?, &tree)?;
                }
                (tree, OnDisk::Tree)
            }
        };
        let options = UnpackOptions { on_disk, clock: Timestamp { seconds: self.clock, nanos: 0 } };
        let done = layer::unpack_layer(body, diff_id, &tree, (splits, &split_name(id)), &options, &work.write_back)?;
        times::set(splits, split_name(id).as_bytes(), self.clock)?;
        if self.driver == Driver::Overlay {
            times::set_own(&tree, self.clock)?;
            write_overlay_files(&dir, id, &pending.chain[..layer.position], self.clock)?;
        }
        let mut record = LayerRecord::new(id, rfc3339(self.clock));
        record.parent = parent.map(str::to_string);
        record.compressed_diff_digest = Some(done.blob.0);
        record.compressed_size = signed(done.blob.1)?;
        record.diff_digest = Some(diff_id.0);
        record.diff_size = signed(done.proof.size())?;
        record.compression = compression_number(done.compression);
        record.uid_set = done.unpacked.uids.into_iter().collect();
        record.gid_set = done.unpacked.gids.into_iter().collect();
        self.staged.lock().expect("no holder of this lock can panic").insert(id.clone(), record);
        Ok(Stored::unpacked(layer, done.proof))
    }

    /// Opens the tree of a layer in a vfs store, staged or there already.
    fn vfs_tree(&self, id: &str) -> Result<Dir> {
        if self.staged.lock().expect("no holder of this lock can panic").contains_key(id) {
            return self.work()?.trees.dir().sub(format!("{id}/diff"));
        }
        self.root.sub(format!("vfs/dir/{id}"))
    }

    /// Returns where layers are staged, made at the first need: a run that has nothing to do touches nothing.
    pub(super) fn work(&self) -> Result<Arc<Work>> {
        let mut work = self.work.lock().expect("no holder of this lock can panic");
        if work.is_none() {
            *work = Some(Arc::new(Work::create(&self.root, self.driver, self.reach)?));
        }
        Ok(Arc::clone(work.as_ref().expect("it was just made")))
    }
}

/// Where layers are staged: beside their places, since podman mounts `overlay` over itself and a rename
/// cannot cross a mount.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) trees: Staging,
    pub(super) splits: Staging,
    pub(super) write_back: WriteBack,
    // Dropped last: what was made for the staging directories goes after them.
    homes: [Beneath; 2],
}

impl Work {
    fn create(root: &Dir, driver: Driver, reach: Reach) -> Result<Self> {
        let (home, records) = match driver {
            Driver::Overlay => ("overlay", "overlay-layers"),
            Driver::Vfs => ("vfs/dir", "vfs-layers"),
        };
        let homes = [Beneath::create(root, home.as_ref(), 0o700)?, Beneath::create(root, records.as_ref(), 0o700)?];
        Ok(Self {
            trees: Staging::create(homes[0].dir())?,
            splits: Staging::create(homes[1].dir())?,
            write_back: WriteBack::start(root, reach)?,
            homes,
        })
    }

    /// Removes the staging directories, but not what they are in.
    fn keep(self, clock: i64) -> Result<()> {
        let Self { trees, splits, homes, write_back } = self;
        drop((trees, splits, write_back));
        homes.into_iter().try_for_each(|home| home.keep(clock))
    }
}

/// Writes what the overlay driver keeps beside a layer's `diff`.
fn write_overlay_files(dir: &Dir, id: &str, below: &[String], clock: i64) -> Result<()> {
    let put = |name: &str, text: &str| -> Result<()> {
        let mut file = dir.stage(0o644)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).context(|| format!("writing `{name}` of layer {id}"))?;
        file.finish_unsynced(name)?;
        times::set(dir, name.as_bytes(), clock)
    };
    put("link", &link_name(id))?;
    if below.is_empty() {
        dir.make("empty", 0o700)?;
        times::set(dir, b"empty", clock)?;
    } else {
        // `lower` is written when the layer lands: it names the links that the layers below really have.
        put("lower-layers", &below.iter().rev().cloned().collect::<Vec<_>>().join(":"))?;
    }
    for name in ["merged", "work"] {
        dir.make(name, 0o700)?;
        times::set(dir, name.as_bytes(), clock)?;
    }
    times::set_own(dir, clock)
}

fn signed(size: u64) -> Result<i64> {
    i64::try_from(size).map_err(|_| Error::invalid("a layer is larger than 2^63 bytes"))
}

/// Returns the number by which containers-storage records a compression.
fn compression_number(compression: crate::oci::Compression) -> i64 {
    use crate::oci::Compression;
    match compression {
        Compression::None => 0,
        Compression::Bzip2 => 1,
        Compression::Gzip => 2,
        Compression::Xz => 3,
        Compression::Zstd => 4,
    }
}

/// Returns a whole second as RFC 3339 in UTC.
pub(super) fn rfc3339(clock: i64) -> String {
    jiff::Timestamp::from_second(clock).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Gathers what will be recorded of an image.
fn pending(image: &Image, names: &[Name]) -> Result<PendingImage> {
    let config = image.config.as_ref().ok_or_else(|| Error::unsupported("an artifact cannot be kept in a store"))?;
    let mut chain: Vec<ChainId> = Vec::new();
    for diff_id in config.diff_ids() {
        chain.push(chain.last().map_or_else(|| ChainId::base(diff_id), |below| below.child(diff_id)));
    }
    let chain: Vec<String> = chain.iter().map(|id| id.0.hex()).collect();
    let mut items = Vec::new();
    let mut put = |key: String, bytes: &VerifiedBytes| items.push((key, bytes.bytes().to_vec(), Some(*bytes.digest())));
    put(config.raw().digest().to_string(), config.raw());
    for index in &image.indexes {
        put(names::manifest_key(index.digest()), index.raw());
    }
    put(names::manifest_key(image.manifest.digest()), image.manifest.raw());
    put(names::MANIFEST.to_string(), image.manifest.raw());
    let metadata = signature_items(image, &mut items);
    Ok(PendingImage {
        id: config.image_id(),
        names: names.to_vec(),
        top_layer: chain.last().cloned(),
        chain,
        items,
        metadata,
        created: config.created().map(super::publish::go_time).transpose()?,
    })
}

/// Adds the items of the signatures and returns the metadata that tells their lengths.
fn signature_items(image: &Image, items: &mut Vec<(String, Vec<u8>, Option<crate::oci::Digest>)>) -> String {
    if image.signatures.is_empty() {
        return "{}".to_string();
    }
    let all: Vec<u8> = image.signatures.iter().flat_map(|UntrustedSignature(bytes)| bytes.iter().copied()).collect();
    let digest = crate::oci::Algorithm::Sha256.digest(&all);
    items.push((names::SIGNATURES.to_string(), all.clone(), Some(digest)));
    items.push((names::signature_key(image.manifest.digest()), all, Some(digest)));
    let sizes: Vec<usize> = image.signatures.iter().map(|UntrustedSignature(bytes)| bytes.len()).collect();
    serde_json::json!({
        "signature-sizes": sizes.clone(),
        "signatures-sizes": { (image.manifest.digest().to_string()): sizes },
    })
    .to_string()
}

impl Present {
    fn read(root: &Dir, driver: Driver) -> Result<Self> {
        let Some(skeleton) = Skeleton::open(root, driver)? else { return Ok(Self::default()) };
        let layers = Locked::<LayerRecord>::open(&skeleton.layers, Kind::Shared)?.records;
        let images = Locked::<ImageRecord>::open(&skeleton.images, Kind::Shared)?.records;
        let on_disk: BTreeSet<_> = skeleton.layers_home.entries()?.into_iter().collect();
        Ok(Self {
            layers: layers
                .into_iter()
                .filter(|layer| on_disk.contains(std::ffi::OsStr::new(&layer.id)))
                .map(|layer| (layer.id.clone(), layer))
                .collect(),
            images: images.into_iter().map(|image| (image.id.clone(), image)).collect(),
        })
    }
}

impl ImageDestination for StorageDestination {
    fn name(&self) -> String {
        let names: Vec<String> = self.names.iter().map(Name::to_string).collect();
        format!(
            "containers-storage:[{}@{}]{}",
            self.driver.name(),
            crate::fs::display(self.root.path()),
            names.join(",")
        )
    }

    fn docker_reference(&self) -> Option<Name> {
        self.names.first().cloned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            docker: Support::Native,
            oci: Support::Native,
            indexes: false,
            artifacts: false,
            signatures: true,
            layers: LayerForm::Unpacked,
            order: match self.driver {
                Driver::Overlay => LayerOrder::Any,
                Driver::Vfs => LayerOrder::BaseFirst,
            },
            manifests: true,
        }
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        self.begin_named(image, &self.names)
    }

    fn put_index(&self, _: &Index, _: &[UntrustedSignature]) -> Result<()> {
        Err(Error::unsupported("a store holds lists only together with one of their images"))
    }

    fn put_index_within(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        self.put_index(index, signatures)
    }

    fn publish(self: Box<Self>) -> Result<()> {
        let changed = super::publish::publish(&self)?;
        let Self { root, driver, clock, work, reach, .. } = *self;
        if !changed {
            return Ok(());
        }
        let skeleton = Skeleton::open(&root, driver)?;
        let set_times = || skeleton.iter().try_for_each(|skeleton| skeleton.set_times(&root, clock));
        if let Some(work) = work.into_inner().ok().flatten().and_then(Arc::into_inner) {
            // As long as the staging directories are there, the next run knows that it has times to set.
            set_times()?;
            work.keep(clock)?;
        }
        // The staging directories have changed the times of those that they were in.
        set_times()?;
        reach.sync(&root)
    }
}

struct StorageWriter<'a> {
    store: &'a StorageDestination,
    pending: PendingImage,
}

impl ImageWriter for StorageWriter<'_> {
    fn reuse_layer(&self, layer: &Layer) -> Result<Option<Stored>> {
        let id = &self.pending.chain[layer.position];
        let staged = self.store.staged.lock().expect("no holder of this lock can panic").contains_key(id);
        let there = staged || self.store.finds_layer(id, layer.diff_id);
        Ok(there.then(|| Stored::trusted_from_destinations_own_record(layer)))
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let diff_id = layer.diff_id.ok_or_else(|| Error::unsupported("an artifact cannot be kept in a store"))?;
        if matches!(layer.descriptor.media_type.meaning(), Meaning::Config(_)) {
            return Err(Error::invalid("a config is listed as a layer"));
        }
        self.store.stage_layer(&self.pending, layer, diff_id, body)
    }

    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()> {
        if layers.len() != self.pending.chain.len() {
            return Err(Error::invalid("not all layers of the image were put"));
        }
        self.store.images.lock().expect("no holder of this lock can panic").push(self.pending);
        Ok(())
    }
}
