//! A store and its additional stores, opened for reading: which image a reference means, and where its layers are.

use std::path::{Path, PathBuf};

use super::location::Location;
use super::names::{MANIFEST, big_data_file, manifest_key};
use super::records::{ImageRecord, LayerRecord};
use super::state::Locked;
use crate::error::{Context, Error, Result, printable};
use crate::fs::lock::Kind;
use crate::fs::{Dir, display};
use crate::limits::{LAYERS, MANIFEST as MANIFEST_LIMIT};
use crate::oci::{Digest, Document, Platform};
use crate::reference::{Driver, Name, StoredImage};
use crate::verify::UntrustedBlob;

/// One graph root as it was when it was opened.
#[derive(Debug)]
pub struct Store {
    /// How layers are kept.
    pub driver: Driver,
    /// The graph root.
    pub root: Dir,
    /// Its images.
    pub images: Vec<ImageRecord>,
    /// Its layers, without incomplete ones.
    pub layers: Vec<LayerRecord>,
}

/// An image that was found, and which of the stores it is in.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The store.
    pub store: &'a Store,
    /// The image.
    pub image: &'a ImageRecord,
}

impl Store {
    /// Reads the records of a graph root under shared locks; `None` if there is no such directory.
    ///
    /// Nothing is written, not even missing lock files, so that it works on a read-only file system.
    pub fn open(graph_root: &Path, driver: Driver) -> Result<Option<Self>> {
        let Some(root) = Dir::open_if_exists(graph_root)? else { return Ok(None) };
        let held = |kind: &str| root.sub_if_exists(format!("{driver}-{kind}"));
        // Both are held while either is read: a writer, too, holds both.
        let layers = held("layers")?.map(|dir| Locked::<LayerRecord>::open(&dir, Kind::Shared)).transpose()?;
        let images = held("images")?.map(|dir| Locked::<ImageRecord>::open(&dir, Kind::Shared)).transpose()?;
        let mut layers = layers.map(|locked| locked.records).unwrap_or_default();
        let images = images.map(|locked| locked.records).unwrap_or_default();
        layers.retain(|layer| !layer.incomplete());
        Ok(Some(Self { driver, root, images, layers }))
    }

    /// Opens the store of a location, then its additional stores; those that are not there are left out.
    pub fn open_all(location: &Location) -> Result<Vec<Self>> {
        let mut stores = Self::open_each(std::slice::from_ref(&location.graph_root), location.driver)?;
        stores.extend(Self::open_each(&location.additional, location.driver)?);
        Ok(stores)
    }

    /// Opens the stores of these graph roots; those that are not there are left out.
    pub fn open_each(roots: &[PathBuf], driver: Driver) -> Result<Vec<Self>> {
        let mut stores = Vec::new();
        for root in roots {
            let store = Self::open(root, driver).context(|| format!("opening store `{}`", display(root)))?;
            stores.extend(store);
        }
        Ok(stores)
    }

    /// Opens a big data item of an image; `None` if there is none.
    pub fn open_item(&self, image: &str, key: &str) -> Result<Option<UntrustedBlob>> {
        let path = format!("{}-images/{image}/{}", self.driver, big_data_file(key)?);
        Ok(self.root.open_file_itself(path)?.map(UntrustedBlob::new))
    }

    /// Returns the complete layer of an ID.
    pub fn layer(&self, id: &str) -> Option<&LayerRecord> {
        self.layers.iter().find(|layer| layer.id == id)
    }

    /// Opens the directory that holds a layer's files.
    pub fn layer_dir(&self, id: &str) -> Result<Dir> {
        match self.driver {
            Driver::Overlay => self.root.sub(format!("overlay/{id}/diff")),
            Driver::Vfs => self.root.sub(format!("vfs/dir/{id}")),
        }
    }
}

impl Found<'_> {
    /// Returns the manifest or index of a digest, verified; `None` if the image has none.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<crate::verify::VerifiedBytes>> {
        let frame = || format!("reading manifest {digest} of image {}", self.image.id);
        let mut key = manifest_key(digest);
        if !self.image.big_data_digests.contains_key(&key) && self.image.big_data_digests.get(MANIFEST) == Some(digest)
        {
            key = MANIFEST.to_owned();
        }
        match self.store.open_item(&self.image.id, &key).context(frame)? {
            Some(blob) => blob.read_matching(digest, None, MANIFEST_LIMIT).map(Some).context(frame),
            None => Ok(None),
        }
    }
}

/// Finds the image that a reference means: by ID, else by its name, else by digest and repository.
///
/// Of several images of one list, the one that the list has for `platform` is taken.
/// `reference` is what the user wrote, for the message.
pub fn find<'a>(stores: &'a [Store], wanted: &StoredImage, platform: &Platform, reference: &str) -> Result<Found<'a>> {
    // The two phrases are those of skopeo: existing callers look for them.
    let missing = || {
        Error::not_found(format!(
            "reference \"{reference}\" does not resolve to an image ID: identifier is not an image"
        ))
    };
    if let Some(id) = &wanted.id {
        let found = by_id(stores, id)?.ok_or_else(missing)?;
        match wanted.name.as_ref().and_then(Name::digest) {
            Some(digest) if !found.image.digests().contains(digest) => {
                return Err(missing().hint(format!("the image {} has no manifest {digest}", found.image.id)));
            }
            _ => return Ok(found),
        }
    }
    if let Some(id) = &wanted.perhaps_id
        && let Some(found) = by_id(stores, id)?
    {
        return Ok(found);
    }
    let name = wanted.name.as_ref().ok_or_else(missing)?;
    if let Some(found) = by_name(stores, &name.to_string()) {
        return Ok(found);
    }
    let digest = name.digest().ok_or_else(missing)?;
    by_digest(stores, name.repository(), digest, platform)?.ok_or_else(missing)
}

fn all(stores: &[Store]) -> impl Iterator<Item = Found<'_>> {
    stores.iter().flat_map(|store| store.images.iter().map(move |image| Found { store, image }))
}

fn by_name<'a>(stores: &'a [Store], name: &str) -> Option<Found<'a>> {
    all(stores).find(|found| found.image.names.iter().any(|own| own == name))
}

/// Finds an image by its ID or the beginning of it. An ID that fits several images is an error.
fn by_id<'a>(stores: &'a [Store], id: &str) -> Result<Option<Found<'a>>> {
    if let Some(found) = all(stores).find(|found| found.image.id == id) {
        return Ok(Some(found));
    }
    if id.len() < 3 {
        return Ok(None);
    }
    let mut fits = all(stores).filter(|found| found.image.id.starts_with(id));
    let first = fits.next();
    match (first, fits.find(|other| first.is_some_and(|first| first.image.id != other.image.id))) {
        (Some(first), Some(other)) => Err(Error::invalid(format!(
            "`{}` is the beginning of several image IDs: {}, {}",
            printable(id.as_bytes()),
            first.image.id,
            other.image.id
        ))),
        (first, _) => Ok(first),
    }
}

fn by_digest<'a>(
    stores: &'a [Store],
    repository: &str,
    digest: &Digest,
    platform: &Platform,
) -> Result<Option<Found<'a>>> {
    let of_repository = |name: &String| Name::parse_normalised(name).is_ok_and(|name| name.repository() == repository);
    let candidates: Vec<_> = all(stores)
        .filter(|found| found.image.digests().contains(digest) && found.image.names.iter().any(of_repository))
        .collect();
    if candidates.len() > 1 {
        for found in &candidates {
            let Some(bytes) = found.manifest(digest)? else { continue };
            let Document::Index(index) = Document::parse(bytes)? else { break };
            let Ok(instance) = platform.choose(&index) else { continue };
            if found.image.big_data_digests.contains_key(&manifest_key(&instance.digest)) {
                return Ok(Some(*found));
            }
        }
    }
    Ok(candidates.first().copied())
}

/// Returns the layers of an image, lowest first, each with the store it is in.
pub fn layers_of<'a>(stores: &'a [Store], image: &ImageRecord) -> Result<Vec<(&'a Store, &'a LayerRecord)>> {
    let mut layers: Vec<(&Store, &LayerRecord)> = Vec::new();
    let mut next = image.layer.as_ref();
    while let Some(id) = next {
        if layers.len() == LAYERS || layers.iter().any(|(_, layer)| layer.id == *id) {
            return Err(Error::invalid(format!("layer {id} has itself, or more than {LAYERS} others, below it")));
        }
        let found = stores.iter().find_map(|store| store.layer(id).map(|layer| (store, layer)));
        let found = found.ok_or_else(|| Error::mismatch(format!("the store has no layer {id}")))?;
        next = found.1.parent.as_ref();
        layers.push(found);
    }
    layers.reverse();
    Ok(layers)
}
