//! A set of images, their manifest lists and names, into one store: all of them, or none.

pub mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::copy::{self, CopyOptions, layers};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::beneath::Beneath;
use crate::fs::{self, Dir, Reach, display};
use crate::image::{Image, ImageDestination, ImageSource, open_top};
use crate::limits::{INDEX_DEPTH, MANIFEST};
use crate::oci::{Algorithm, Digest, Document, ImageId, Index, Manifest, Platform};
use crate::policy::{Demands, Policy};
use crate::progress::{Event, Monitor};
use crate::reference::{Driver, ImageReference, Name};
use crate::storage::destination::StorageDestination;
use crate::verify::UntrustedBlob;

/// One image to embed.
#[derive(Debug, Clone)]
pub struct EmbedImage {
    /// Where it is.
    pub source: ImageReference,
    /// The names that it gets.
    pub names: Vec<Name>,
    /// Files with manifest lists to keep with it.
    pub manifest_lists: Vec<PathBuf>,
    /// The platforms that are wanted of a list; empty for the default.
    pub platforms: Vec<Platform>,
}

/// How to embed.
pub struct EmbedOptions<'a> {
    /// The store's driver.
    pub driver: Driver,
    /// The time for everything that no image gives a time, in seconds since 1970.
    pub clock: i64,
    /// How far the store must have come when all is done.
    pub reach: Reach,
    /// The policy that every image must pass.
    pub policy: &'a Policy,
    /// Opens a source.
    pub open: &'a dyn Fn(&ImageReference) -> Result<Box<dyn ImageSource>>,
    /// The default platform, whether signatures stay behind, how many layers at once, and what stops it; the rest does
    /// not apply.
    pub copy: CopyOptions,
}

/// An image that is in the store now.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Its names.
    pub names: Vec<String>,
    /// Its platform, by its config.
    pub platform: String,
    /// Its ID.
    pub image_id: ImageId,
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// The digest of the list that it was taken from.
    pub list_digest: Option<Digest>,
    /// How many layers it has.
    pub layers: usize,
    /// Their compressed bytes.
    pub bytes: u64,
    /// Whether the store did not hold it like this before.
    pub new: bool,
}

/// How often to begin again when somebody else removes a layer that was to be shared.
const ATTEMPTS: usize = 3;

/// Embeds images into the store at `store` (absolute, as the OS will see it) beneath the directory `root`.
///
/// # Errors
///
/// The first image that cannot be had, verified or admitted fails all; the store is then as it was.
pub fn embed(
    images: &[EmbedImage],
    root: &Path,
    store: &Path,
    options: &EmbedOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<Embedded>> {
    let root = Dir::open(root)?;
    let mut attempt = 1;
    loop {
        match attempt_embed(images, &root, store, options, monitor) {
            Err(error) if error.kind() == ErrorKind::Busy && attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

fn attempt_embed(
    images: &[EmbedImage],
    root: &Dir,
    store: &Path,
    options: &EmbedOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<Embedded>> {
    let place = Beneath::create(root, store, 0o755)?;
    let destination = StorageDestination::create(place.dir().reopen()?, options.driver, Vec::new(), options.clock)?
        .reaching(options.reach);
    let mut report = Vec::new();
    for image in images {
        let one = embed_image(image, &destination, options, monitor);
        report.extend(one.context(|| format!("embedding {}", image.source))?);
    }
    refuse_shared_names(&report)?;
    options.copy.cancel.check()?;
    if report.iter().any(|embedded| embedded.new) {
        monitor.event(Event::Committing);
        Box::new(destination).publish()?;
        place.keep(options.clock)?;
    }
    Ok(report)
}

/// Refuses a name that two images would have: the later would silently take it from the earlier.
fn refuse_shared_names(report: &[Embedded]) -> Result<()> {
    let mut owners = BTreeMap::new();
    for embedded in report {
        for name in &embedded.names {
            let first = owners.insert(name, &embedded.image_id);
            if let Some(first) = first.filter(|first| **first != embedded.image_id) {
                return Err(Error::refused(format!(
                    "the name {name} is given to two images: {first} and {}",
                    embedded.image_id
                ))
                .hint("give each image a name of its own"));
            }
        }
    }
    Ok(())
}

fn embed_image(
    wanted: &EmbedImage,
    destination: &StorageDestination,
    options: &EmbedOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<Embedded>> {
    let source = (options.open)(&wanted.source)?;
    let demands = options.policy.demands(&source.policy_scopes(), &source.name())?;
    let lists = read_lists(&wanted.manifest_lists)?;
    let mut used = BTreeSet::new();
    let mut report = Vec::new();
    for (n, (manifest, mut indexes)) in select(&*source, wanted, &options.copy.platform)?.into_iter().enumerate() {
        naming(&lists, manifest.digest(), 0, &mut indexes, &mut used)?;
        let names = if n == 0 { wanted.names.clone() } else { digest_names(&wanted.names, manifest.digest()) };
        let image = (manifest, indexes, names);
        report.push(embed_one((&*source, &demands), image, &wanted.platforms, destination, options, monitor)?);
    }
    let unused: Vec<String> = lists
        .iter()
        .zip(&wanted.manifest_lists)
        .filter(|(list, _)| !used.contains(list.digest()))
        .map(|(_, path)| display(path))
        .collect();
    if !unused.is_empty() {
        return Err(Error::invalid(format!(
            "the following manifest lists do not name the image: {}",
            unused.join(", ")
        )));
    }
    Ok(report)
}

/// Returns the wanted images of the source, each with the indexes that lead to it.
fn select(source: &dyn ImageSource, wanted: &EmbedImage, host: &Platform) -> Result<Vec<(Manifest, Vec<Index>)>> {
    match open_top(source)? {
        Document::Schema1(schema1) => Err(schema1.refusal()),
        Document::Manifest(manifest) => {
            if wanted.platforms.len() > 1 {
                return Err(Error::invalid("several platforms are wanted, but the source is one image and not a list"));
            }
            Ok(vec![(manifest, Vec::new())])
        }
        Document::Index(index) => {
            let platforms = if wanted.platforms.is_empty() { std::slice::from_ref(host) } else { &wanted.platforms };
            platforms.iter().map(|platform| copy::select(source, index.clone(), platform)).collect()
        }
    }
}

/// Reads list files; the platform or the name of a file decides nothing, its bytes do.
fn read_lists(paths: &[PathBuf]) -> Result<Vec<Index>> {
    let read = |path: &PathBuf| {
        let bytes =
            fs::read_file(path, MANIFEST)?.ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))?;
        Index::parse(UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, None, MANIFEST)?)
    };
    paths.iter().map(|path| read(path).context(|| format!("reading manifest list `{}`", display(path)))).collect()
}

/// Adds the lists that name `digest`, and the lists that name those, outermost first.
fn naming(
    lists: &[Index],
    digest: &Digest,
    depth: usize,
    indexes: &mut Vec<Index>,
    used: &mut BTreeSet<Digest>,
) -> Result<()> {
    if depth > INDEX_DEPTH {
        return Err(Error::invalid(format!("the manifest lists are nested more than {INDEX_DEPTH} deep")));
    }
    for list in lists.iter().filter(|list| list.entry(digest).is_some()) {
        naming(lists, list.digest(), depth + 1, indexes, used)?;
        if indexes.iter().all(|known| known.digest() != list.digest()) {
            indexes.push(list.clone());
        }
        used.insert(*list.digest());
    }
    Ok(())
}

/// Returns the names of an image that is not the first of its list: `REPOSITORY@INSTANCE-DIGEST`.
fn digest_names(names: &[Name], digest: &Digest) -> Vec<Name> {
    let names: BTreeSet<Name> =
        names.iter().map(|name| name.clone().without_tag().without_digest().with_digest(*digest)).collect();
    names.into_iter().collect()
}

fn embed_one(
    (source, demands): (&dyn ImageSource, &Demands<'_>),
    (manifest, indexes, names): (Manifest, Vec<Index>, Vec<Name>),
    platforms: &[Platform],
    destination: &StorageDestination,
    options: &EmbedOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Embedded> {
    let signatures = copy::admit(source, manifest.raw(), demands, &options.copy)?;
    let image = Image::open_with(source, manifest, indexes, signatures)?;
    let config = image.config.as_ref().ok_or_else(|| {
        Error::unsupported(format!(
            "it is an artifact (config type `{}`), not an image",
            image.manifest.config().media_type
        ))
    })?;
    if !platforms.is_empty() && !platforms.iter().any(|platform| platform.accepts(config.platform())) {
        return Err(Error::not_found(format!("the image is for {}, not for {}", config.platform(), platforms[0])));
    }
    let embedded = Embedded {
        names: names.iter().map(ToString::to_string).collect(),
        platform: config.platform().to_string(),
        image_id: config.image_id(),
        manifest_digest: *image.manifest.digest(),
        list_digest: image.indexes.first().map(|index| *index.digest()),
        layers: image.layers.len(),
        bytes: image.layers.iter().map(|layer| layer.descriptor.size).sum(),
        new: !destination.holds(&image, &names)?,
    };
    if embedded.new {
        let writer = destination.begin_named(&image, &names)?;
        let order = destination.capabilities().order;
        layers::move_layers(source, &image, writer, order, &options.copy, monitor)?;
    }
    Ok(embedded)
}
