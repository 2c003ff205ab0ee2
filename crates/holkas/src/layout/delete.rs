//! Deleting an image from an OCI layout: its entry, then the blobs that no other entry leads to.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::index::{LayoutIndex, OCI_LAYOUT_FILE};
use super::{blob, blob_path, name_of};
use crate::error::{Context, Error, Result};
use crate::fs::Dir;
use crate::fs::lock::{Kind, Lock};
use crate::limits::{INDEX_DEPTH, LAYOUT_INDEX, MANIFEST};
use crate::oci::media_type::Meaning;
use crate::oci::{Descriptor, Digest, Document};
use crate::reference::LayoutReference;

/// Deletes the image that a reference names.
///
/// The entry goes first: killed at any moment, what is left in `index.json` is whole.
/// Blobs in `shared_blob_dir` are left alone, as other layouts may need them.
/// Nobody may write to the layout meanwhile: a blob that he found there, and has no entry for yet, could go.
pub fn delete(reference: &LayoutReference, shared_blob_dir: Option<&Path>) -> Result<()> {
    let frame = || format!("deleting {}", name_of("oci", reference));
    delete_locked(reference, shared_blob_dir).context(frame)
}

fn delete_locked(reference: &LayoutReference, shared_blob_dir: Option<&Path>) -> Result<()> {
    let dir = Dir::open_if_exists(&reference.path)?.ok_or_else(|| Error::not_found("no such directory"))?;
    // The lock that writers take.
    let lock = Lock::wait(dir.open_for_update("oci-layout", blob::MODE)?, Kind::Exclusive)?;
    if lock.file().metadata().map_err(Error::from)?.len() == 0 {
        lock.file().write_all(OCI_LAYOUT_FILE).map_err(Error::from)?;
    }
    let bytes = dir.read("index.json", LAYOUT_INDEX)?;
    let mut index = LayoutIndex::parse(&bytes.ok_or_else(|| Error::not_found("the layout has no `index.json`"))?)?;
    let removed = index.remove(&reference.select)?;
    let (mut unused, mut used) = (Reached::default(), Reached::default());
    if shared_blob_dir.is_none() {
        unused.follow(&dir, &removed, INDEX_DEPTH)?;
        for entry in index.descriptors()? {
            // Unless all that is left can be read, nothing may be taken for unused.
            used.follow(&dir, &entry, INDEX_DEPTH)?;
        }
    }
    blob::put_bytes(&dir, "index.json", &index.to_bytes())?;
    dir.sync()?;
    for digest in unused.blobs.difference(&used.blobs) {
        let blobs = format!("blobs/{}", digest.algorithm().name());
        if let Some(blobs) = dir.sub_if_exists(&blobs)? {
            blobs.remove_file(digest.hex())?;
        }
    }
    Ok(())
}

/// The blobs that descriptors lead to.
#[derive(Default)]
struct Reached {
    blobs: BTreeSet<Digest>,
    /// Manifests and indexes that were followed. A blob may be a layer to one image and a manifest to another.
    followed: BTreeSet<Digest>,
}

impl Reached {
    /// Adds all that a descriptor leads to. What is not there leads nowhere: an index may be sparse.
    fn follow(&mut self, dir: &Dir, from: &Descriptor, depth: usize) -> Result<()> {
        self.blobs.insert(from.digest);
        let path = blob_path(&from.digest);
        let document = matches!(from.media_type.meaning(), Meaning::Manifest(_) | Meaning::Index(_));
        if !document || !self.followed.insert(from.digest) || dir.open_file(&path)?.is_none() {
            return Ok(());
        }
        let frame = || format!("reading manifest {} of the layout", from.digest);
        let document = blob::open(dir, &path, from)
            .and_then(|blob| blob.read_verified(from, MANIFEST))
            .and_then(Document::parse)
            .context(frame)?;
        match document {
            Document::Manifest(manifest) => {
                self.blobs.insert(manifest.config().digest);
                self.blobs.extend(manifest.layers().iter().map(|layer| layer.digest));
                Ok(())
            }
            Document::Index(_) if depth == 0 => {
                Err(Error::invalid(format!("lists within lists are deeper than {INDEX_DEPTH}"))).context(frame)
            }
            Document::Index(index) => index.entries().iter().try_for_each(|entry| self.follow(dir, entry, depth - 1)),
            Document::Schema1(schema1) => Err(schema1.refusal()).context(frame),
        }
    }
}
