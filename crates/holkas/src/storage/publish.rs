//! The moment at which staged images become visible: synced, under the locks that podman takes, in an order
//! that leaves all of the old and nothing unverified whenever it is interrupted.
//!
//! 1. sync what was staged; 2. lock layers, lock images, look again at what the store holds;
//! 3. record new layers as incomplete, which any opener deletes; 4. rename them into place; 5. sync;
//! 6. record them as complete; 7. write the images' items; 8. sync; 9. record the images, all in one rename.

use std::collections::BTreeMap;

use serde_json::Value;

use super::destination::{PendingImage, StorageDestination, rfc3339};
use super::names::{self, big_data_file};
use super::records::{ImageRecord, LayerRecord};
use super::skeleton::{Skeleton, link_name, split_name};
use super::state::Locked;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::lock::Kind;
use crate::fs::staging::sweep_files;
use crate::fs::{Dir, times};

/// Makes all committed images visible. Returns whether there were any.
pub(super) fn publish(store: &StorageDestination) -> Result<bool> {
    let images = std::mem::take(&mut *store.images.lock().expect("no holder of this lock can panic"));
    let staged = std::mem::take(&mut *store.staged.lock().expect("no holder of this lock can panic"));
    if images.is_empty() {
        return Ok(false);
    }
    if !staged.is_empty() {
        store.work()?.write_back.finish()?;
    }
    store.reach.sync(&store.root)?;
    let mut skeleton = Skeleton::create(&store.root, store.driver)?;
    if !staged.is_empty() {
        let work = store.work()?;
        skeleton.layers_home = work.trees.parent().reopen()?;
        skeleton.layers = work.splits.parent().reopen()?;
    }
    let mut layer_records = Locked::<LayerRecord>::open(&skeleton.layers, Kind::Exclusive)?;
    let mut image_records = Locked::<ImageRecord>::open(&skeleton.images, Kind::Exclusive)?;
    sweep(&skeleton, &layer_records, &image_records)?;
    skeleton.mark()?;

    let records = merge_images(&image_records.records, &images, store.clock)?;
    let changed = records != image_records.records;
    land_layers(store, &skeleton, &mut layer_records, staged, &images)?;
    if changed {
        for image in &images {
            write_items(&skeleton.images, image, store.clock)?;
        }
        store.reach.sync(&store.root)?;
        image_records.replace(records, Some(store.clock))?;
    }
    Ok(true)
}

/// Removes what writers left that died between our steps: staged files, and images' items without a record.
fn sweep(skeleton: &Skeleton, layers: &Locked<LayerRecord>, images: &Locked<ImageRecord>) -> Result<()> {
    sweep_files(layers.dir())?;
    sweep_files(images.dir())?;
    for name in images.dir().entries()? {
        let Some(name) = name.to_str() else { continue };
        if name.len() == 64 && names::check_id(name).is_ok() && images.find(name).is_none() {
            skeleton.images.remove_all(name)?;
        }
    }
    Ok(())
}

/// Puts the staged layers that the store lacks in their places, and records them.
fn land_layers(
    store: &StorageDestination,
    skeleton: &Skeleton,
    locked: &mut Locked<LayerRecord>,
    mut staged: BTreeMap<String, LayerRecord>,
    images: &[PendingImage],
) -> Result<()> {
    let (dead, alive): (Vec<_>, Vec<_>) = locked.records.clone().into_iter().partition(LayerRecord::incomplete);
    let mut new: Vec<LayerRecord> = Vec::new();
    for id in images.iter().flat_map(|image| &image.chain) {
        if alive.iter().chain(&new).any(|layer| layer.id == *id) {
            continue;
        }
        new.push(staged.remove(id).ok_or_else(|| {
            Error::new(
                ErrorKind::Busy,
                format!("layer {id}, which was to be shared, has been removed by somebody else meanwhile"),
            )
            .hint("nothing was changed; run it again")
        })?);
    }
    if new.is_empty() && dead.is_empty() {
        return Ok(());
    }
    let mut marked = locked.records.clone();
    marked.retain(|layer| !new.iter().any(|n| n.id == layer.id));
    marked.extend(new.iter().cloned().map(|mut layer| {
        layer.flags.insert("incomplete".to_string(), Value::Bool(true));
        layer
    }));
    locked.replace(marked, Some(store.clock))?;
    for layer in dead.iter().filter(|dead| !new.iter().any(|n| n.id == dead.id)) {
        remove_layer(skeleton, &layer.id)?;
    }
    let work = store.work()?;
    for layer in &new {
        remove_layer(skeleton, &layer.id)?;
        let id = layer.id.as_str();
        match (&skeleton.links, work.trees.dir().sub_if_exists(id)?) {
            (_, None) => return Err(Error::invalid(format!("layer {id} has vanished from its staging directory"))),
            (Some(links), Some(dir)) => {
                if let Some(parent) = &layer.parent {
                    write_lower(&dir, &skeleton.layers_home, parent, store.clock)?;
                }
                work.trees.dir().rename(id, &skeleton.layers_home, id)?;
                let link = link_name(id);
                rustix::fs::symlinkat(format!("../{id}/diff"), links, link.as_str())
                    .context(|| format!("linking layer {id}"))?;
                times::set(links, link.as_bytes(), store.clock)?;
            }
            (None, Some(dir)) => dir.rename("diff", &skeleton.layers_home, id)?,
        }
        work.splits.dir().rename(split_name(id), &skeleton.layers, split_name(id))?;
    }
    store.reach.sync(&store.root)?;
    locked.replace(alive.into_iter().chain(new).collect(), Some(store.clock))
}

/// Writes which layers a staged one is mounted on, by the links that those really have: podman and skopeo draw theirs
/// at random, so that a layer of theirs which we share is not under the name that we would give it.
fn write_lower(dir: &Dir, layers: &Dir, parent: &str, clock: i64) -> Result<()> {
    let read = |name: &str| -> Result<Option<String>> {
        let bytes = layers.read(format!("{parent}/{name}"), crate::limits::CONFIGURATION)?;
        bytes
            .map(String::from_utf8)
            .transpose()
            .map_err(|_| Error::invalid(format!("`{name}` of layer {parent} is no text")))
    };
    let link = read("link")?.ok_or_else(|| {
        Error::invalid(format!("layer {parent}, which is to be shared, has no `link`"))
            .hint("the store is damaged; remove the images that use the layer and run it again")
    })?;
    names::check_id(&link).context(|| format!("reading `link` of layer {parent}"))?;
    let lower = match read("lower")? {
        Some(below) => format!("l/{link}:{below}"),
        None => format!("l/{link}"),
    };
    let mut file = dir.stage(0o644)?;
    std::io::Write::write_all(&mut file, lower.as_bytes()).context(|| "writing `lower`")?;
    file.finish_unsynced("lower")?;
    times::set(dir, b"lower", clock)?;
    times::set_own(dir, clock)
}

/// Removes a layer's directory, its link and its tar-split.
pub(super) fn remove_layer(skeleton: &Skeleton, id: &str) -> Result<()> {
    names::check_id(id)?;
    if let Some(links) = &skeleton.links {
        let own = skeleton.layers_home.read(format!("{id}/link"), crate::limits::CONFIGURATION)?;
        let link = own.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| link_name(id));
        if names::check_id(&link).is_ok() {
            links.remove_file(link)?;
        }
        links.remove_file(link_name(id))?;
    }
    skeleton.layers_home.remove_all(id)?;
    skeleton.layers.remove_all(id)?;
    skeleton.layers.remove_file(split_name(id))
}

/// Refuses an image that the store holds under the same ID with other layers.
pub(super) fn check_same_layers(record: &ImageRecord, image: &PendingImage) -> Result<()> {
    if record.layer == image.top_layer {
        return Ok(());
    }
    Err(Error::refused(format!(
        "the store holds image {} with another top layer ({}, not {})",
        record.id,
        record.layer.as_deref().unwrap_or("none"),
        image.top_layer.as_deref().unwrap_or("none")
    )))
}

/// Returns whether a record has everything that publishing `image` would record.
pub(super) fn is_complete(record: &ImageRecord, image: &PendingImage) -> bool {
    let items = image.items.iter().all(|(key, bytes, digest)| {
        let digest = digest.as_ref();
        record.big_data_digests.get(key) == digest
            && record.big_data_sizes.get(key) == i64::try_from(bytes.len()).ok().as_ref()
    });
    items && image.names.iter().all(|name| record.names.contains(&name.to_string()))
}

/// Returns the records of all images with the new ones among them.
fn merge_images(old: &[ImageRecord], images: &[PendingImage], clock: i64) -> Result<Vec<ImageRecord>> {
    let mut records = old.to_vec();
    for image in images {
        let id = image.id.0.hex();
        let at = match records.iter().position(|record| record.id == id) {
            Some(at) => {
                check_same_layers(&records[at], image)?;
                at
            }
            None => {
                let mut record = ImageRecord::new(&id, image.created.clone().unwrap_or_else(|| rfc3339(clock)));
                record.layer.clone_from(&image.top_layer);
                record.digest =
                    image.items.iter().find(|(key, ..)| key.starts_with(names::MANIFEST)).and_then(|item| item.2);
                records.push(record);
                records.len() - 1
            }
        };
        let record = &mut records[at];
        // Without signatures of its own, what is there stays: another manifest of the image may have some.
        if image.metadata != "{}" || record.metadata.is_empty() {
            record.metadata.clone_from(&image.metadata);
        }
        for (key, bytes, digest) in &image.items {
            if !record.big_data_names.contains(key) {
                record.big_data_names.push(key.clone());
            }
            let size = i64::try_from(bytes.len()).map_err(|_| Error::invalid("an item is larger than 2^63 bytes"))?;
            record.big_data_sizes.insert(key.clone(), size);
            if let Some(digest) = digest {
                record.big_data_digests.insert(key.clone(), *digest);
            }
        }
        give_names(&mut records, at, &image.names);
    }
    Ok(records)
}

/// Gives names to an image, taking them from whichever has them, and keeps the history as c/storage does.
fn give_names(records: &mut [ImageRecord], at: usize, new: &[crate::reference::Name]) {
    let new: Vec<String> = new.iter().map(ToString::to_string).collect();
    if new.iter().all(|name| records[at].names.contains(name)) {
        return;
    }
    for (n, record) in records.iter_mut().enumerate() {
        if n != at && record.names.iter().any(|name| new.contains(name)) {
            record.names.retain(|name| !new.contains(name));
        }
    }
    let record = &mut records[at];
    let mut names = new;
    for name in &record.names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    for name in &names {
        record.names_history.retain(|old| old != name);
        record.names_history.insert(0, name.clone());
    }
    record.names = names;
}

/// Writes an image's items that are missing or different.
fn write_items(images: &Dir, image: &PendingImage, clock: i64) -> Result<()> {
    let dir = images.make(image.id.0.hex(), 0o700)?;
    sweep_files(&dir)?;
    for (key, bytes, _) in &image.items {
        let name = big_data_file(key)?;
        let limit = crate::limits::Limit { bytes: bytes.len() as u64, what: "item" };
        if dir.read(&name, limit).ok().flatten().as_deref() != Some(bytes) {
            let mut file = dir.stage(0o600)?;
            std::io::Write::write_all(&mut file, bytes)
                .context(|| format!("writing item `{key}` of image {}", image.id))?;
            // The file system is synced before the record that names the item is written.
            file.finish_unsynced(&name)?;
        }
        times::set(&dir, name.as_bytes(), clock)?;
    }
    times::set_own(&dir, clock)
}

/// Returns a time of an image config as Go writes it: the offset kept, zeros at the fraction's end cut.
pub(super) fn go_time(text: &str) -> Result<String> {
    let invalid = || {
        Error::invalid(format!("the config's `created` is not a time: `{}`", crate::error::printable(text.as_bytes())))
    };
    text.parse::<jiff::Timestamp>().map_err(|_| invalid())?;
    let shape = |at: usize, c: u8| text.as_bytes().get(at) == Some(&c);
    if !(shape(4, b'-') && shape(7, b'-') && shape(10, b'T') && shape(13, b':') && shape(16, b':')) {
        return Err(invalid());
    }
    let rest = text.get(19..).ok_or_else(invalid)?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?),
        None => ("", rest),
    };
    let zone = offset == "Z" || (offset.len() == 6 && offset.starts_with(['+', '-']) && offset.as_bytes()[3] == b':');
    if !zone || fraction.len() > 9 {
        return Err(invalid());
    }
    let fraction = fraction.trim_end_matches('0');
    let offset = if matches!(offset, "+00:00" | "-00:00") { "Z" } else { offset };
    Ok(if fraction.is_empty() {
        format!("{}{offset}", &text[..19])
    } else {
        format!("{}.{fraction}{offset}", &text[..19])
    })
}
