//! `org.osbuild.containers-storage`: makes sure that images are in the host's store, where they stay.

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::image::{ImageSource, open_top};
use holkas::limits::CONFIG;
use holkas::oci::{Algorithm, Digest, Document, ImageId, Platform};
use holkas::reference::StoredImage;
use holkas::storage::location::Location;
use holkas::storage::source::StorageSource;

use super::item::exact;
use super::skopeo::all_failed;
use super::{Items, Outcome, each};
use crate::osbuild::input::host_store;

/// Looks for the images.
pub(super) fn download(items: &Items) -> Vec<Outcome> {
    match host_store() {
        Ok(store) => each(items, |id, _| {
            let frame = || format!("looking for image {}", holkas::error::printable(id.as_bytes()));
            exact(id).and_then(|id| check(&store.location, &id)).context(frame).map(|()| true)
        }),
        Err(error) => all_failed(items, &error),
    }
}

/// Makes sure that a store has an image, and that its config is the one that the ID names.
pub(in crate::osbuild) fn check(location: &Location, id: &Digest) -> Result<()> {
    let wanted = StoredImage::with_id(&ImageId(*id));
    let source = StorageSource::open(location, &wanted, &Platform::host()).map_err(|error| match error.kind() {
        // osbuild's own sentence: people search for it.
        ErrorKind::NotFound => Error::not_found("image ID does not exist in local container storage")
            .context(format!("looking into the store {}", location.specification()))
            .hint(format!("pull the image on this host before, such as by `podman pull`; its ID must be {id}")),
        _ => error,
    })?;
    let manifest = match open_top(&source)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => return Err(Error::unsupported("the store has a list in place of the image's manifest")),
        Document::Schema1(schema1) => return Err(schema1.refusal()),
    };
    let config = source.open_config(manifest.config())?.read_verified(manifest.config(), CONFIG)?;
    match Algorithm::Sha256.digest(config.bytes()) {
        found if found == *id => Ok(()),
        found => Err(Error::mismatch(format!("Local container image id of {found}, but expected {id}"))),
    }
}
