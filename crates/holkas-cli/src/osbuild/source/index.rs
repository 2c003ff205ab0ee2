//! `org.osbuild.skopeo-index`: manifest lists, byte for byte, each under its digest.

use std::path::Path;

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::Dir;
use holkas::limits::MANIFEST;
use holkas::oci::{Algorithm, Digest, Document};
use holkas::progress::Cancel;
use holkas::verify::{UntrustedBlob, VerifiedBytes};

use super::fetch::Fetching;
use super::item::{Item, exact};
use super::skopeo::{Failed, all_failed};
use super::{Items, Outcome, each, each_at_once};

/// The content type of lists, which they share with all files.
const CONTENT: &str = "org.osbuild.files";

/// Fetches the lists that are not in the store. Of the images nothing is fetched.
pub(super) fn download(items: &Items, cache: &Path, cancel: &Cancel) -> Vec<Outcome> {
    let files = match Dir::create_all(&cache.join(CONTENT)) {
        Ok(files) => files,
        Err(error) => return all_failed(items, &error),
    };
    let fetching = std::sync::OnceLock::new();
    let prepare = || Fetching::prepare(None, cancel).map_err(|error| Failed::of(&error));
    each_at_once(items, |key, item| {
        let frame = || format!("downloading manifest list {}", holkas::error::printable(key.as_bytes()));
        let digest = exact(key).context(frame)?;
        let item = Item::of_list(digest, item).context(frame)?;
        if held(&files, &digest).context(frame)?.is_some() {
            return Ok(true);
        }
        let fetching = fetching.get_or_init(prepare).as_ref().map_err(Failed::again).context(frame)?;
        let list = fetch(fetching, &item).context(frame)?;
        files.write(key, list.bytes(), 0o644).context(frame)?;
        Ok(false)
    })
}

fn fetch(fetching: &Fetching, item: &Item) -> Result<VerifiedBytes> {
    let shown = &item.shown;
    let source = fetching.open(item)?;
    let list = source.top().map_err(|error| match error.kind() {
        // osbuild's own beginning of the sentence: people search for it. What came instead is in the cause.
        ErrorKind::Mismatch => error.context(format!(
            "Downloaded manifest-list {shown} has a checksum of another document, but expected {}",
            item.digest
        )),
        _ => error,
    })?;
    fetching.admit(&*source, &list)?;
    match is_list(&list) {
        Ok(true) => Ok(list),
        Ok(false) => Err(Error::invalid(format!("{shown} is not a manifest-list"))
            .hint("the digest is that of one image; it belongs to the source org.osbuild.skopeo")),
        Err(error) => Err(error.context(format!("{shown} is not a manifest-list"))),
    }
}

/// Returns whether a document is a list. Bytes that are not UTF-8 stay, and are read as Go's programs read them.
fn is_list(document: &VerifiedBytes) -> Result<bool> {
    let text = String::from_utf8_lossy(document.bytes()).into_owned().into_bytes();
    let read = UntrustedBlob::from_bytes(text).identify(Algorithm::Sha256, document.media_type().cloned(), MANIFEST)?;
    Ok(matches!(Document::parse(read)?, Document::Index(_)))
}

/// Copies lists from one store into another; those that are there stay as they are.
pub(super) fn copy(items: &Items, from: &Path, to: &Path) -> Vec<Outcome> {
    let open = |cache: &Path| Dir::create_all(&cache.join(CONTENT));
    let (from, to) = match open(from).and_then(|from| open(to).map(|to| (from, to))) {
        Ok(both) => both,
        Err(error) => return all_failed(items, &error),
    };
    each(items, |key, _| {
        let frame = || format!("copying manifest list {}", holkas::error::printable(key.as_bytes()));
        let digest = exact(key).context(frame)?;
        if held(&to, &digest).context(frame)?.is_some() {
            return Ok(true);
        }
        let missing = || Error::not_found("the list is not in the store, or damaged");
        let bytes = held(&from, &digest).context(frame)?.ok_or_else(missing).context(frame)?;
        to.write(key, &bytes, 0o644).context(frame)?;
        Ok(false)
    })
}

/// Returns the list of a digest; `None` if there is none, or another document in its place.
fn held(files: &Dir, digest: &Digest) -> Result<Option<Vec<u8>>> {
    let bytes = files.read(digest.to_string(), MANIFEST)?;
    Ok(bytes.filter(|bytes| Algorithm::Sha256.digest(bytes) == *digest))
}
