//! Directories that one run writes, and the blobs that several of them have: each is one file with several names.
//!
//! A hundred images on one base else take a hundred times its space. Nobody changes a blob in place: holkas, skopeo and
//! podman write a new file for a new image.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard};

use crate::error::Result;
use crate::fs::Dir;
use crate::oci::Digest;

/// So many blobs are remembered, each by an open file.
const MOST: usize = 512;

/// What a run has verified and written itself. Shared by all destinations of the run.
#[derive(Debug, Default)]
pub struct Siblings(Mutex<BTreeMap<Digest, File>>);

impl Siblings {
    fn blobs(&self) -> MutexGuard<'_, BTreeMap<Digest, File>> {
        self.0.lock().expect("no holder of this lock can panic")
    }

    /// Remembers a blob that was verified, written and synced by this run.
    pub(super) fn keep(&self, digest: &Digest, file: File) {
        let mut blobs = self.blobs();
        if blobs.len() < MOST {
            blobs.entry(*digest).or_insert(file);
        }
    }

    /// Gives a blob that is known one more name in `dir`. Returns whether it was known, and could be given it.
    pub(super) fn link(&self, digest: &Digest, dir: &Dir, name: &str) -> Result<bool> {
        match self.blobs().get(digest) {
            Some(file) => dir.link(file, name),
            None => Ok(false),
        }
    }
}
