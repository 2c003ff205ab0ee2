//! `org.osbuild.skopeo`: images, each by the digest of its manifest, under the digest of its config.

use std::path::Path;
use std::sync::OnceLock;

use holkas::copy::{self, CopyOptions};
use holkas::dir::{DirDestination, DirSource};
use holkas::error::{Context, Error, Result};
use holkas::image::open_top;
use holkas::oci::{Digest, Document};
use holkas::open::open_destination;
use holkas::policy::Policy;
use holkas::progress::Cancel;
use holkas::reference::ImageReference;

use super::fetch::Fetching;
use super::images::{Held, Images, List, Wanted, image_id};
use super::item::{Item, Transport, exact};
use super::{Items, Outcome, each, each_at_once};
use crate::progress;

/// Fetches the images that are not in the store.
pub(super) fn download(items: &Items, cache: &Path, cancel: &Cancel) -> Vec<Outcome> {
    let images = match Images::open(cache) {
        Ok(images) => images,
        Err(error) => return all_failed(items, &error),
    };
    // Read at the first image that must be fetched: what is there needs no policy, no network, and no files of the host.
    let fetching = OnceLock::new();
    let prepare = || {
        let prepared = images.shelf().and_then(|shelf| Fetching::prepare(Some(shelf), cancel));
        prepared.map_err(|error| Failed::of(&error))
    };
    each_at_once(items, |id, item| {
        let item = Item::of_image(item).context(|| format!("reading the item {}", shown(id)))?;
        let frame = || format!("downloading {} (image {})", item.shown, shown(id));
        let (id, wanted) = (key(id).context(frame)?, wanted(&item));
        if images.held(&id, wanted).context(frame)? == Held::Here {
            return Ok(true);
        }
        let fetch = |place: &Path| match fetching.get_or_init(prepare) {
            Ok(fetching) => fetch(fetching, &id, &item, place),
            Err(failed) => Err(failed.again()),
        };
        images.provide(&id, wanted, cancel, fetch).context(frame)
    })
}

/// Fetches one image, and returns the list that the digest turned out to be of, if it was.
///
/// That it is the right image is known before its first layer is asked for.
fn fetch(fetching: &Fetching, id: &Digest, item: &Item, place: &Path) -> Result<Option<List>> {
    let source = fetching.open(item)?;
    let (manifest, list) = match open_top(&*source)? {
        Document::Manifest(manifest) => (manifest, None),
        Document::Index(index) => {
            let list = List { digest: *index.digest(), bytes: index.raw().bytes().to_vec() };
            let (manifest, _) = copy::select(&*source, index, &fetching.rooms().platform)?;
            (manifest, Some(list))
        }
        Document::Schema1(schema1) => return Err(schema1.refusal()),
    };
    let found = image_id(&*source, &manifest)?;
    if found != *id {
        // osbuild's own sentence: people search for it.
        let shown = &item.shown;
        return Err(Error::mismatch(format!("Downloaded image {shown} has an id of {found}, but expected {id}"))
            .hint("no layer was fetched; the manifest names another image than its author has meant"));
    }
    let destination = open_destination(&ImageReference::Dir(place.to_path_buf()), fetching.rooms())?;
    copy::copy(&*source, destination, &fetching.policy, &fetching.options(item), &*fetching.monitor)?;
    Ok(list)
}

/// Copies images from one store into another; those that are there stay as they are.
pub(super) fn copy(items: &Items, from: &Path, to: &Path, cancel: &Cancel) -> Vec<Outcome> {
    let (from, to) = match Images::open(from).and_then(|from| Images::open(to).map(|to| (from, to))) {
        Ok(both) => both,
        Err(error) => return all_failed(items, &error),
    };
    let options = CopyOptions { cancel: cancel.clone(), ..CopyOptions::default() };
    each(items, |id, item| {
        let frame = || format!("copying image {}", shown(id));
        let (item, id) = (Item::of_image(item).context(frame)?, key(id).context(frame)?);
        let wanted = wanted(&item);
        let held = from.held(&id, wanted).context(frame)?;
        let Some(path) = from.path_of(&id, &held) else {
            return Err(Error::not_found("the image is not in the store, or damaged")).context(frame);
        };
        let write = |place: &Path| {
            let destination = Box::new(DirDestination::create(place)?);
            let (source, policy) = (DirSource::open(&path)?, Policy::accept_anything());
            copy::copy(&source, destination, &policy, &options, &*progress::monitor(crate::cli::Progress::None))?;
            from.list(&id, &item.digest)
        };
        to.provide(&id, wanted, cancel, write).context(frame)
    })
}

fn wanted(item: &Item) -> Wanted {
    match item.transport {
        Transport::Docker { .. } => Wanted::Digest(item.digest),
        Transport::Storage { .. } => Wanted::Any,
    }
}

fn key(id: &str) -> Result<Digest> {
    exact(id).context(|| "reading the item's key")
}

fn shown(id: &str) -> String {
    holkas::error::printable(id.as_bytes())
}

/// Says of all items that the same error has stopped them.
pub(super) fn all_failed(items: &Items, error: &Error) -> Vec<Outcome> {
    each(items, |_, _| Err(Failed::of(error).again()))
}

/// An error that several items have in common.
#[derive(Debug)]
pub(super) struct Failed {
    kind: holkas::ErrorKind,
    text: String,
    hint: Option<String>,
}

impl Failed {
    pub(super) fn of(error: &Error) -> Self {
        let hint = error.hint_text().map(str::to_string);
        Self { kind: error.kind(), text: error.to_string(), hint }
    }

    pub(super) fn again(&self) -> Error {
        let error = Error::new(self.kind, self.text.clone());
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}
