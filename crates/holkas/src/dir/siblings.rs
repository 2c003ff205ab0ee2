//! Directories that one run writes, and the blobs that several of them have: each is one file with several names.
//!
//! A hundred images on one base else take a hundred times its space. Nobody changes a blob in place: holkas, skopeo and
//! podman write a new file for a new image.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard};

use super::blob_name;
use crate::error::Result;
use crate::fs::Dir;
use crate::oci::{Descriptor, Digest};
use crate::verify::UntrustedBlob;

/// So many blobs are remembered, each by an open file.
const MOST: usize = 512;

/// What a run has verified itself. Shared by all destinations of the run.
#[derive(Debug, Default)]
pub struct Siblings {
    own: Mutex<BTreeMap<Digest, File>>,
    shelf: Option<Shelf>,
}

/// Images that were there before the run, beside its destinations. Of their blobs none is believed unhashed.
#[derive(Debug)]
pub struct Shelf {
    dir: Dir,
    /// The images that have a file of this name, each by its path below `dir`.
    files: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Shelf {
    /// Looks which files the images have that lie at these paths below `dir`; one that cannot be listed has none.
    pub fn of(dir: Dir, images: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut files: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for image in images {
            let Ok(names) = dir.sub(&image).and_then(|image| image.entries()) else { continue };
            for name in names {
                files.entry(name.into_encoded_bytes()).or_default().push(image.clone());
            }
        }
        Self { dir, files }
    }

    /// Finds a blob, and hashes it.
    fn find(&self, blob: &Descriptor) -> Option<File> {
        let name = blob_name(&blob.digest);
        let images = self.files.get(name.as_bytes())?;
        // One that is gone, damaged or unreadable is fetched as if it had never been there.
        images
            .iter()
            .find_map(|image| self.verified(&[image.as_slice(), b"/", name.as_bytes()].concat(), blob).ok().flatten())
    }

    fn verified(&self, path: &[u8], blob: &Descriptor) -> Result<Option<File>> {
        let Some(file) = self.dir.open_file_itself(path)? else { return Ok(None) };
        if file.metadata()?.len() != blob.size {
            return Ok(None);
        }
        UntrustedBlob::new(file.try_clone()?).verify(blob).finish()?;
        // Who wrote it may not have cared whether it outlives a loss of power.
        file.sync_data()?;
        Ok(Some(file))
    }
}

impl Siblings {
    /// Also shares the blobs of images that were there before.
    pub fn with_shelf(shelf: Shelf) -> Self {
        Self { own: Mutex::default(), shelf: Some(shelf) }
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<Digest, File>> {
        self.own.lock().expect("no holder of this lock can panic")
    }

    /// Remembers a blob that was verified and synced by this run.
    pub(super) fn keep(&self, digest: &Digest, file: File) {
        let mut blobs = self.own();
        if blobs.len() < MOST {
            blobs.entry(*digest).or_insert(file);
        }
    }

    /// Gives a blob that is known one more name in `dir`. Returns whether it was known, and could be given it.
    pub(super) fn link(&self, blob: &Descriptor, dir: &Dir, name: &str) -> Result<bool> {
        if let Some(file) = self.own().get(&blob.digest) {
            return dir.link(file, name);
        }
        let Some(file) = self.shelf.as_ref().and_then(|shelf| shelf.find(blob)) else { return Ok(false) };
        let linked = dir.link(&file, name)?;
        self.keep(&blob.digest, file);
        Ok(linked)
    }
}
