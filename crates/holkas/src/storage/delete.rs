//! Deletes an image from a store, with all that no other image and no container needs.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::Value;

use super::location::Location;
use super::names::check_id;
use super::records::{ContainerRecord, ImageRecord, LayerRecord};
use super::source::name_of;
use super::state::Locked;
use super::store::{Store, find};
use crate::error::{Context, Error, Result};
use crate::fs::lock::{Kind, Lock};
use crate::fs::staging::sweep_files;
use crate::fs::{Dir, display, path_of};
use crate::limits::{STORE_RECORDS, STORE_TEXT};
use crate::oci::Platform;
use crate::reference::{Driver, StoredImage};

/// What a deletion removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The image's ID.
    pub image: String,
    /// Its names, all of which are gone.
    pub names: Vec<String>,
    /// The layers that nobody else needed, topmost first.
    pub layers: Vec<String>,
}

/// Deletes the image that a reference means, with all its names, as `skopeo delete` does.
///
/// An image that a container uses is refused. `clock` becomes the modification time of the record files.
/// Killed at any moment, it leaves a store that is valid; layers half deleted are flagged for the next writer to delete.
pub fn delete(location: &Location, image: &StoredImage, platform: &Platform, clock: Option<i64>) -> Result<Deleted> {
    let name = name_of(location, image);
    delete_locked(location, image, platform, clock, &name).context(|| format!("deleting {name}"))
}

fn delete_locked(
    location: &Location,
    wanted: &StoredImage,
    platform: &Platform,
    clock: Option<i64>,
    name: &str,
) -> Result<Deleted> {
    let text = name.strip_prefix("containers-storage:").unwrap_or(name);
    let driver = location.driver;
    // Looked into as well, so that an image of a read-only store is refused, not "not found".
    // Opened first: under our own lock we would wait for ourselves if the store were named twice.
    let additional = Store::open_each(&location.additional, driver)?;
    let Some(root) = Dir::open_if_exists(&location.graph_root)? else {
        let found = find(&additional, wanted, platform, text)?;
        return Err(read_only(&found.image.id));
    };
    let (layers_dir, images_dir) = (format!("{driver}-layers"), format!("{driver}-images"));
    let (Some(layers_dir), Some(images_dir)) = (root.sub_if_exists(layers_dir)?, root.sub_if_exists(images_dir)?)
    else {
        let found = find(&additional, wanted, platform, text)?;
        return Err(read_only(&found.image.id));
    };
    // In the order of containers-storage: layers, images, containers.
    let mut layers = Locked::<LayerRecord>::open(&layers_dir, Kind::Exclusive)?;
    let mut images = Locked::<ImageRecord>::open(&images_dir, Kind::Exclusive)?;
    let containers = Containers::open(&root, driver)?;
    // As every writer does: what a dead one left half written, or half deleted, goes first.
    sweep_files(&layers_dir)?;
    sweep_files(&images_dir)?;
    let dead: Vec<String> = layers.records.iter().filter(|layer| layer.incomplete()).map(|l| l.id.clone()).collect();
    if !dead.is_empty() {
        delete_layers(&root, driver, &mut layers, &dead, clock)?;
    }
    let image = {
        let own =
            Store { driver, root: root.reopen()?, images: images.records.clone(), layers: layers.records.clone() };
        let stores: Vec<Store> = std::iter::once(own).chain(additional).collect();
        let found = find(&stores, wanted, platform, text)?;
        if !std::ptr::eq(found.store, &stores[0]) {
            return Err(read_only(&found.image.id));
        }
        found.image.clone()
    };
    if let Some(user) = containers.records.iter().find(|container| container.image.as_ref() == Some(&image.id)) {
        return Err(Error::refused(format!("image {} is in use by container {}", image.id, user.id))
            .hint("remove the container first"));
    }
    let others: Vec<ImageRecord> = images.records.iter().filter(|other| other.id != image.id).cloned().collect();
    let volatile = volatile_layers(&layers_dir)?;
    let unused = unused_layers(&image, &others, &layers.records, &volatile, &containers.records);

    images.replace(others, clock)?;
    images_dir.remove_all(&image.id)?;
    if !unused.is_empty() {
        delete_layers(&root, driver, &mut layers, &unused, clock)?;
    }
    Ok(Deleted { image: image.id, names: image.names, layers: unused })
}

fn read_only(id: &str) -> Error {
    Error::refused(format!("image {id} is in an additional store, which is read-only"))
}

/// Deletes layers, flagged as incomplete meanwhile: what a killed deletion leaves, the next writer removes.
fn delete_layers(
    root: &Dir,
    driver: Driver,
    layers: &mut Locked<LayerRecord>,
    unused: &[String],
    clock: Option<i64>,
) -> Result<()> {
    let mut flagged = layers.records.clone();
    for layer in flagged.iter_mut().filter(|layer| unused.contains(&layer.id)) {
        layer.flags.insert("incomplete".into(), Value::Bool(true));
    }
    let kept = layers.records.iter().filter(|layer| !unused.contains(&layer.id)).cloned().collect();
    layers.replace(flagged, clock)?;
    for id in unused {
        remove_layer(root, driver, id)?;
    }
    layers.replace(kept, clock)
}

/// Removes all that a store keeps of a layer but its record. What is not there need not be.
fn remove_layer(root: &Dir, driver: Driver, id: &str) -> Result<()> {
    check_id(id)?;
    match driver {
        Driver::Overlay => {
            if let Some(overlay) = root.sub_if_exists("overlay")? {
                remove_link(&overlay, id)?;
                overlay.remove_all(id)?;
            }
        }
        Driver::Vfs => {
            if let Some(dirs) = root.sub_if_exists("vfs/dir")? {
                dirs.remove_all(id)?;
            }
        }
    }
    if let Some(dir) = root.sub_if_exists(format!("{driver}-layers"))? {
        dir.remove_file(format!("{id}.tar-split.gz"))?;
        dir.remove_all(id)?;
    }
    Ok(())
}

/// Removes the short name of a layer, if it is this layer's.
fn remove_link(overlay: &Dir, id: &str) -> Result<()> {
    let Some(links) = overlay.sub_if_exists("l")? else { return Ok(()) };
    let own = format!("../{id}/diff");
    let link = overlay.read(format!("{id}/link"), STORE_TEXT)?.unwrap_or_default();
    let plain = !link.is_empty() && !link.contains(&b'/') && !link.contains(&0) && path_of(&link).file_name().is_some();
    if plain && links.read_link(&link)?.as_deref() == Some(own.as_bytes()) {
        return links.remove_file(&link);
    }
    // Without its `link` file the symlink can only be found by where it leads.
    for name in links.entries()? {
        if links.read_link(name.as_bytes())?.as_deref() == Some(own.as_bytes()) {
            links.remove_file(name.as_bytes())?;
        }
    }
    Ok(())
}

/// Returns the layers that only this image needs, topmost first.
fn unused_layers(
    image: &ImageRecord,
    others: &[ImageRecord],
    layers: &[LayerRecord],
    volatile: &[LayerRecord],
    containers: &[ContainerRecord],
) -> Vec<String> {
    let mut used: BTreeSet<&String> = others.iter().flat_map(ImageRecord::top_layers).collect();
    used.extend(containers.iter().filter_map(|container| container.layer.as_ref()));
    used.extend(volatile.iter().flat_map(|layer| std::iter::once(&layer.id).chain(layer.parent.as_ref())));
    let mut unused: Vec<String> = Vec::new();
    for top in image.top_layers() {
        let mut next = Some(top);
        while let Some(id) = next {
            let Some(layer) = layers.iter().find(|layer| layer.id == *id) else { break };
            let is_parent = |of: &LayerRecord| of.parent.as_ref() == Some(id) && !unused.contains(&of.id);
            if used.contains(id) || unused.contains(id) || layers.iter().any(is_parent) {
                break;
            }
            unused.push(id.clone());
            next = layer.parent.as_ref();
        }
    }
    unused
}

/// Layers of containers that newer versions keep apart, since they need not outlive a boot.
fn volatile_layers(dir: &Dir) -> Result<Vec<LayerRecord>> {
    const NAME: &str = "volatile-layers.json";
    let bytes = dir.read(NAME, STORE_RECORDS)?.unwrap_or_default();
    super::records::parse(&bytes).context(|| format!("reading `{}`", display(&dir.path_of(NAME))))
}

/// The containers of a store, held still.
struct Containers {
    records: Vec<ContainerRecord>,
    _lock: Option<Lock>,
}

impl Containers {
    fn open(root: &Dir, driver: Driver) -> Result<Self> {
        let Some(dir) = root.sub_if_exists(format!("{driver}-containers"))? else {
            return Ok(Self { records: Vec::new(), _lock: None });
        };
        let lock = Lock::wait(dir.open_for_update("containers.lock", 0o644)?, Kind::Exclusive)
            .context(|| format!("locking `{}`", display(&dir.path_of("containers.lock"))))?;
        let mut records = Vec::new();
        for name in ["containers.json", "volatile-containers.json"] {
            let bytes = dir.read(name, STORE_RECORDS)?.unwrap_or_default();
            let more =
                ContainerRecord::parse(&bytes).context(|| format!("reading `{}`", display(&dir.path_of(name))))?;
            records.extend(more);
        }
        Ok(Self { records, _lock: Some(lock) })
    }
}
