//! From an image reference to the room that it names: the one list of all rooms.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::image::{ImageDestination, ImageSource};
use crate::reference::{ImageReference, Name};
use crate::storage::location::StorageConf;

/// What opening a room needs beside the reference.
#[derive(Debug, Clone, Default)]
pub struct Rooms {
    /// The configuration of containers-storage on this host.
    pub storage_conf: Option<StorageConf>,
    /// Where the blobs of an `oci:` layout are, if not in itself.
    pub shared_blob_dir: Option<PathBuf>,
    /// More names for the image in a `docker-archive:` destination.
    pub additional_tags: Vec<Name>,
    /// The time, in seconds since 1970, for what no image gives a time in a store.
    pub clock: Option<i64>,
}

/// Opens the image that a reference names.
pub fn open_source(reference: &ImageReference, _rooms: &Rooms) -> Result<Box<dyn ImageSource>> {
    Err(yet_to_come(reference))
}

/// Opens the room that a reference names, to put an image into it.
pub fn open_destination(reference: &ImageReference, _rooms: &Rooms) -> Result<Box<dyn ImageDestination>> {
    Err(yet_to_come(reference))
}

fn yet_to_come(reference: &ImageReference) -> Error {
    Error::unsupported(format!("{}: is yet to come", reference.transport()))
}
