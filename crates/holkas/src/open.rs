//! From an image reference to the room that it names: the one list of all rooms.

use std::path::PathBuf;

use crate::dir::{DirDestination, DirSource};
use crate::error::{Context, Error, Result};
use crate::image::{ImageDestination, ImageSource};
use crate::layout::{LayoutDestination, LayoutSource};
use crate::oci::Platform;
use crate::reference::{ImageReference, Name, StorageReference};
use crate::storage::location::{Location, StorageConf};
use crate::storage::source::StorageSource;

/// What opening a room needs beside the reference.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// The configuration of containers-storage on this host.
    pub storage_conf: Option<StorageConf>,
    /// The platform that decides where a name in a store stands for several images of one list.
    pub platform: Platform,
    /// Where the blobs of an `oci:` layout are, if not in itself.
    pub shared_blob_dir: Option<PathBuf>,
    /// More names for the image in a `docker-archive:` destination.
    pub additional_tags: Vec<Name>,
    /// The time, in seconds since 1970, for what no image gives a time in a store.
    pub clock: i64,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            storage_conf: None,
            platform: Platform::host(),
            shared_blob_dir: None,
            additional_tags: Vec::new(),
            clock: 0,
        }
    }
}

/// Opens the image that a reference names.
pub fn open_source(reference: &ImageReference, rooms: &Rooms) -> Result<Box<dyn ImageSource>> {
    match reference {
        ImageReference::Dir(path) => Ok(Box::new(DirSource::open(path)?)),
        ImageReference::Oci(layout) => Ok(Box::new(LayoutSource::open(layout, rooms.shared_blob_dir.as_deref())?)),
        ImageReference::Storage(storage) => {
            let frame = || format!("opening {reference}");
            let location = Location::resolve(&storage.store, rooms.storage_conf.as_ref()).context(frame)?;
            let image = storage.image.as_ref().ok_or_else(|| names_no_image(storage))?;
            Ok(Box::new(StorageSource::open(&location, image, &rooms.platform)?))
        }
        _ => Err(yet_to_come(reference)),
    }
}

/// Opens the room that a reference names, to put an image into it.
pub fn open_destination(reference: &ImageReference, rooms: &Rooms) -> Result<Box<dyn ImageDestination>> {
    match reference {
        ImageReference::Dir(path) => Ok(Box::new(DirDestination::create(path)?)),
        ImageReference::Oci(layout) => Ok(Box::new(LayoutDestination::create(layout, rooms.shared_blob_dir.as_deref())?)),
        _ => Err(yet_to_come(reference)),
    }
}

fn names_no_image(storage: &StorageReference) -> Error {
    Error::invalid(format!("`containers-storage:{storage}` names a store, but no image in it"))
}

fn yet_to_come(reference: &ImageReference) -> Error {
    Error::unsupported(format!("{}: is yet to come", reference.transport()))
}
