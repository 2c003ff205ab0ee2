//! osbuild's container functions, natively: images that come as files, and the manifest lists that name them.
//!
//! An image that was pulled by the digest of its list must be found by that digest where it is embedded, too
//! (skopeo issue 1935). So lists travel beside images, and have to be brought together with them again.

mod input;
mod lists;
mod merge;
mod with_lists;

use std::path::Path;

pub use input::{Container, ContainerFormat, ContainersInput, ListsInput, ResolvedImage};
pub use lists::{List, ListPath, instances, read_lists};
pub use merge::merge_manifest;
pub use with_lists::WithLists;

use crate::error::{Context, Error, Result};
use crate::fs;
use crate::limits::MANIFEST;
use crate::oci::{Algorithm, Digest, Document, document};
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// Returns whether a document is a manifest list (an OCI index) and not the manifest of one image.
///
/// A document that could be taken for either, or that is neither, is an error.
pub fn is_manifest_list(bytes: &[u8]) -> Result<bool> {
    let raw = UntrustedBlob::from_bytes(bytes.to_vec()).identify(Algorithm::Sha256, None, MANIFEST)?;
    Ok(matches!(Document::parse(raw)?, Document::Index(_)))
}

/// Returns whether the document in a file is a manifest list; errors name the file.
pub fn is_manifest_list_file(path: &Path) -> Result<bool> {
    is_manifest_list(&read(path)?).context(|| format!("reading `{}`", fs::display(path)))
}

/// Returns the digest that the manifest in a file is known by, as `skopeo manifest-digest` does.
pub fn manifest_digest(path: &Path, algorithm: Algorithm) -> Result<Digest> {
    document::manifest_digest(&read(path)?, algorithm, MANIFEST)
        .context(|| format!("computing the manifest digest of `{}`", fs::display(path)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read_file(path, MANIFEST)?
        .ok_or_else(|| Error::not_found("no such file"))
        .context(|| format!("reading `{}`", fs::display(path)))
}

/// Takes a document that nothing vouches for, under its SHA-256 digest.
fn identify(bytes: Vec<u8>) -> Result<VerifiedBytes> {
    UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, None, MANIFEST)
}
