//! A set of images, their manifest lists and names, into one `dir:`, `oci:` or `oci-archive:` beneath an OS tree:
//! all of them, or none.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::archive::OciArchiveDestination;
use crate::containers::WithLists;
use crate::copy::{Copied, CopyOptions, stage};
use crate::dir::DirDestination;
use crate::error::{Context, Error, Result};
use crate::fs::beneath::Beneath;
use crate::fs::{Dir, display};
use crate::image::{Capabilities, Image, ImageDestination, ImageSource, ImageWriter};
use crate::layout::LayoutDestination;
use crate::layout::place::Place;
use crate::oci::{Digest, Index};
use crate::policy::Policy;
use crate::progress::{Event, Monitor};
use crate::reference::{ImageReference, Name};
use crate::signature::UntrustedSignature;

/// One image to pack.
#[derive(Debug, Clone)]
pub struct PackImage {
    /// Where it is.
    pub source: ImageReference,
    /// Its name, by which several images in one layout are told apart.
    pub name: Name,
    /// Files with manifest lists to keep with it.
    pub manifest_lists: Vec<PathBuf>,
}

/// What to pack into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackForm {
    /// A `dir:`, which holds one image.
    Dir,
    /// An OCI layout. Images are added to one that is there.
    Oci,
    /// An OCI layout in a tar, which replaces one that is there.
    OciArchive,
}

/// How to pack.
pub struct PackOptions<'a> {
    /// The time of directories that are made on the way, in seconds since 1970.
    pub clock: i64,
    /// The policy that every image must pass.
    pub policy: &'a Policy,
    /// Opens a source.
    pub open: &'a dyn Fn(&ImageReference) -> Result<Box<dyn ImageSource>>,
    /// How to copy each.
    pub copy: CopyOptions,
}

/// Packs images into what shall lie at `place` (as the OS will see it) beneath the directory `root`.
///
/// One image has no name in a layout; of several, each has its own.
/// The manifest lists of an image are kept beside it, where they are found by their digests, unless its manifest had
/// to be converted: no list names the new one. `index.json` does not name them: whoever takes "the image" of the
/// layout shall find one image there.
///
/// # Errors
///
/// The first image that cannot be had, verified or admitted fails all; nothing is then visible at `place`.
pub fn pack(
    images: &[PackImage],
    root: &Path,
    place: &Path,
    form: PackForm,
    options: &PackOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<Copied>> {
    match (form, images.len()) {
        (_, 0) => return Err(Error::invalid("there is no image to pack")),
        (PackForm::Dir, n @ 2..) => {
            return Err(Error::refused(format!("a dir: holds one image, not {n}"))
                .hint("an oci or oci-archive destination holds several, each by its name"));
        }
        _ => {}
    }
    let frame = || format!("packing into `{}` beneath `{}`", display(place), display(root));
    let name = match place.components().next_back() {
        Some(std::path::Component::Normal(name)) => name.as_bytes().to_vec(),
        _ => return Err(Error::invalid("the path has no last part to be named by")).context(frame),
    };
    let above = place.parent().unwrap_or(Path::new("/"));
    let beneath = Beneath::create(&Dir::open(root)?, above, 0o755)?;
    let room = Room::create(form, Place { parent: beneath.dir().reopen()?, name }).context(frame)?;
    let mut packed = Vec::new();
    let mut owners = BTreeMap::new();
    for image in images {
        let text = image.name.to_string();
        let copied = pack_one(image, &room, (images.len() > 1).then_some(&text), options, monitor)
            .context(|| format!("packing {}", image.source))?;
        let first = owners.insert(text, copied.manifest_digest);
        if first.is_some_and(|first| first != copied.manifest_digest) {
            return Err(Error::refused(format!("the name {} is given to two images", image.name))
                .hint("give each image a name of its own"));
        }
        packed.push(copied);
    }
    options.copy.cancel.check()?;
    monitor.event(Event::Committing);
    room.publish()?;
    beneath.keep(options.clock)?;
    Ok(packed)
}

fn pack_one(
    image: &PackImage,
    room: &Room,
    name: Option<&String>,
    options: &PackOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let mut source = (options.open)(&image.source)?;
    if !image.manifest_lists.is_empty() {
        source = Box::new(WithLists::new(source, &image.manifest_lists)?);
    }
    let copied =
        stage(&*source, &Named { room, name: name.map(String::as_str) }, options.policy, &options.copy, monitor)?;
    let from = source.top()?;
    for list in source.indexes(from.digest())? {
        let index = Index::parse(list)?;
        if index.entry(&copied.manifest_digest).is_some() || *from.digest() == copied.manifest_digest {
            room.destination().put_index_within(&index, &[])?;
        } else {
            let text = format!(
                "the manifest of {} had to be converted: list {} does not name the new one, and is left out",
                source.name(),
                index.digest()
            );
            monitor.event(Event::Warning { text: &text });
        }
    }
    Ok(copied)
}

/// What is packed into.
enum Room {
    Dir(Box<DirDestination>),
    Oci(Box<LayoutDestination>),
    OciArchive(Box<OciArchiveDestination>),
}

impl Room {
    fn create(form: PackForm, place: Place) -> Result<Self> {
        Ok(match form {
            PackForm::Dir => Self::Dir(Box::new(DirDestination::create_at(place)?)),
            PackForm::Oci => Self::Oci(Box::new(LayoutDestination::create_at(place)?)),
            PackForm::OciArchive => Self::OciArchive(Box::new(OciArchiveDestination::create_at(place)?)),
        })
    }

    fn destination(&self) -> &dyn ImageDestination {
        match self {
            Self::Dir(dir) => &**dir,
            Self::Oci(layout) => &**layout,
            Self::OciArchive(archive) => &**archive,
        }
    }

    fn publish(self) -> Result<()> {
        match self {
            Self::Dir(dir) => dir.publish(),
            Self::Oci(layout) => layout.publish(),
            Self::OciArchive(archive) => archive.publish(),
        }
    }
}

/// The room as the destination of one image, which gets a name of its own if there are several.
struct Named<'a> {
    room: &'a Room,
    name: Option<&'a str>,
}

impl ImageDestination for Named<'_> {
    fn name(&self) -> String {
        self.room.destination().name()
    }

    fn docker_reference(&self) -> Option<Name> {
        self.room.destination().docker_reference()
    }

    fn capabilities(&self) -> Capabilities {
        self.room.destination().capabilities()
    }

    fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        self.room.destination().has_manifest(digest)
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        match (self.room, self.name) {
            (Room::Oci(layout), Some(name)) => layout.begin_named(image, name),
            (Room::OciArchive(archive), Some(name)) => archive.begin_named(image, name),
            (room, _) => room.destination().begin(image),
        }
    }

    fn put_index(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        self.room.destination().put_index(index, signatures)
    }

    fn put_index_within(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        self.room.destination().put_index_within(index, signatures)
    }

    /// Does nothing: the room publishes all its images in one step.
    fn publish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
