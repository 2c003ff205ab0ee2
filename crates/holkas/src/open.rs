//! From an image reference to the room that it names: the one list of all rooms.

use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::{OciArchiveDestination, OciArchiveSource};
use crate::dir::{DirDestination, DirSource, Siblings};
use crate::docker_archive::{DockerArchiveDestination, DockerArchiveSource};
use crate::error::{Context, Error, Result};
use crate::fs::Dir;
use crate::image::{ImageDestination, ImageSource};
use crate::layout::{LayoutDestination, LayoutSource};
use crate::oci::Platform;
use crate::reference::{ImageReference, Name, StorageReference};
use crate::registry::{Client, RegistryDestination, RegistrySource};
use crate::storage::destination::StorageDestination;
use crate::storage::location::{Location, StorageConf};
use crate::storage::source::StorageSource;
use crate::unpack::Privilege;

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
    /// Where archives are unpacked that are compressed, and so cannot be read in place.
    pub scratch: PathBuf,
    /// Blobs that the `dir:` destinations of a run share, if they shall.
    pub siblings: Option<Arc<Siblings>>,
    /// How registries are spoken to; without it none is.
    pub registries: Option<Client>,
    /// The time, in seconds since 1970, for what no image gives a time in a store.
    pub clock: i64,
    /// As whom layers are unpacked into a store.
    pub privilege: Privilege,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            storage_conf: None,
            platform: Platform::host(),
            shared_blob_dir: None,
            additional_tags: Vec::new(),
            scratch: crate::archive::SCRATCH.into(),
            siblings: None,
            registries: None,
            clock: 0,
            privilege: Privilege::Root,
        }
    }
}

/// Opens the image that a reference names.
pub fn open_source(reference: &ImageReference, rooms: &Rooms) -> Result<Box<dyn ImageSource>> {
    let shared = rooms.shared_blob_dir.as_deref();
    Ok(match reference {
        ImageReference::Dir(path) => Box::new(DirSource::open(path)?),
        ImageReference::Oci(layout) => Box::new(LayoutSource::open(layout, shared)?),
        ImageReference::OciArchive(layout) => Box::new(OciArchiveSource::open_by_way_of(layout, &rooms.scratch)?),
        ImageReference::DockerArchive(archive) => {
            Box::new(DockerArchiveSource::open_by_way_of(archive, &rooms.scratch)?)
        }
        ImageReference::Storage(storage) => {
            let frame = || format!("opening {reference}");
            let location = Location::resolve(&storage.store, rooms.storage_conf.as_ref()).context(frame)?;
            let image = storage.image.as_ref().ok_or_else(|| names_no_image(storage))?;
            Box::new(StorageSource::open(&location, image, &rooms.platform)?)
        }
        ImageReference::Docker(docker) => Box::new(RegistrySource::open(registries(reference, rooms)?, docker)?),
    })
}

/// Opens the room that a reference names, to put an image into it.
pub fn open_destination(reference: &ImageReference, rooms: &Rooms) -> Result<Box<dyn ImageDestination>> {
    let shared = rooms.shared_blob_dir.as_deref();
    Ok(match reference {
        ImageReference::Dir(path) => Box::new(DirDestination::create(path)?.sharing(rooms.siblings.clone())),
        ImageReference::Oci(layout) => Box::new(LayoutDestination::create(layout, shared)?),
        ImageReference::OciArchive(layout) => Box::new(OciArchiveDestination::create(layout)?),
        ImageReference::DockerArchive(archive) => {
            Box::new(DockerArchiveDestination::create(archive, &rooms.additional_tags)?)
        }
        ImageReference::Storage(storage) => {
            storage_destination(storage, rooms).context(|| format!("opening {reference} to write to it"))?
        }
        ImageReference::Docker(docker) => Box::new(RegistryDestination::create(registries(reference, rooms)?, docker)?),
    })
}

fn storage_destination(storage: &StorageReference, rooms: &Rooms) -> Result<Box<dyn ImageDestination>> {
    let location = Location::resolve(&storage.store, rooms.storage_conf.as_ref())?;
    let image = storage.image.as_ref().ok_or_else(|| names_no_image(storage))?;
    let names = match (&image.name, &image.id) {
        (Some(name), None) => vec![name.clone()],
        (_, Some(_)) => {
            return Err(Error::unsupported("an image ID cannot be chosen: it is the digest of the image's config")
                .hint("name the image, and leave the ID away"));
        }
        (None, None) => return Err(names_no_image(storage)),
    };
    let root = match rooms.privilege {
        Privilege::Root => Dir::create_all(&location.graph_root)?,
        // In a home directory, the way to the store is nobody else's business, as with containers-storage.
        Privilege::UserNamespace => Dir::create_all_private(&location.graph_root)?,
    };
    let destination = StorageDestination::create(root, location.driver, names, rooms.clock)?;
    Ok(Box::new(destination.writing_as(rooms.privilege)))
}

fn names_no_image(storage: &StorageReference) -> Error {
    Error::invalid(format!("`containers-storage:{storage}` names a store, but no image in it"))
}

fn registries<'a>(reference: &ImageReference, rooms: &'a Rooms) -> Result<&'a Client> {
    let none = || Error::unsupported("nothing is known of registries here").context(format!("opening {reference}"));
    rooms.registries.as_ref().ok_or_else(none)
}
