//! Names of images into what pins them: the digests of the image, of its config and of its lists.

mod fragment;
mod spec;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub use fragment::fragment;
pub use spec::specs;

use crate::copy;
use crate::error::{Context, Error, Result};
use crate::image::{Image, ImageSource, open_top};
use crate::oci::{Digest, Document, ImageId, Platform};
use crate::progress::Cancel;
use crate::reference::{ImageReference, Name};

/// An image that is to be resolved.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it is: in a registry or in a store.
    pub source: ImageReference,
    /// The name that it shall get in the OS image; by default the one that it has at its source.
    pub local_name: Option<String>,
    /// The platform; `None` for the default, which an image that is in no list need not have.
    pub platform: Option<Platform>,
}

/// What an image turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The repository that it is in, without tag and digest; `None` for an image of a store that was named by its ID.
    pub repository: Option<Name>,
    /// Whether it is in a store of this machine.
    pub local: bool,
    /// The name that it gets in the OS image.
    pub local_name: String,
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// Its ID: the digest of its config.
    pub image_id: ImageId,
    /// The lists that lead to it, the outermost first.
    pub lists: Vec<Digest>,
    /// Its platform, by its config.
    pub platform: Platform,
}

/// How many images are resolved at once: each is a few short answers of a registry, so waiting is all it takes.
const AT_ONCE: usize = 8;

/// Resolves images, several at once, and returns them in the order of `wanted`.
///
/// Lists, manifests and configs are verified; no layer is fetched. `open` opens a source.
///
/// # Errors
///
/// All that failed, in one error: `NotFound` where a list has no image for the platform, with a hint that lists those
/// it has; `Unsupported` for artifacts, schema 1, and what is neither in a registry nor in a store; whatever sources
/// say. The kind is the first failure's.
pub fn resolve(
    wanted: &[Wanted],
    host: &Platform,
    open: &(dyn Fn(&ImageReference) -> Result<Box<dyn ImageSource>> + Sync),
    cancel: &Cancel,
) -> Result<Vec<Resolved>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Resolved>>>> = Mutex::new(wanted.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(wanted.len()) {
            scope.spawn(|| {
                while let Some((n, one)) = next_of(wanted, &next) {
                    let frame = || format!("resolving {}", one.source);
                    let resolved = cancel.check().and_then(|()| resolve_one(one, host, open)).context(frame);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[n] = Some(resolved);
                }
            });
        }
    });
    cancel.check()?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for result in results.into_iter().flatten() {
        match result {
            Ok(resolved) => all.push(resolved),
            Err(error) => errors.push(error),
        }
    }
    joined(errors).map_or(Ok(all), Err)
}

fn next_of<'w>(wanted: &'w [Wanted], next: &AtomicUsize) -> Option<(usize, &'w Wanted)> {
    let n = next.fetch_add(1, Ordering::Relaxed);
    wanted.get(n).map(|one| (n, one))
}

/// Makes one error of several, so that a user who names ten images need not try ten times.
fn joined(mut errors: Vec<Error>) -> Option<Error> {
    if errors.len() < 2 {
        return errors.pop();
    }
    let lines: Vec<String> = errors
        .iter()
        .map(|error| match error.hint_text() {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        })
        .collect();
    let cause = Error::new(errors[0].kind(), lines.join("\n"));
    Some(cause.context(format!("resolving images, {} of which could not be", errors.len())))
}

fn resolve_one(
    wanted: &Wanted,
    host: &Platform,
    open: &(dyn Fn(&ImageReference) -> Result<Box<dyn ImageSource>> + Sync),
) -> Result<Resolved> {
    let (name, local) = match &wanted.source {
        ImageReference::Docker(docker) => (Some(docker.name().clone()), false),
        ImageReference::Storage(storage) => (storage.image.as_ref().and_then(|image| image.name.clone()), true),
        _ => {
            return Err(Error::unsupported("osbuild takes images from registries and from stores only")
                .hint("name it as docker://HOST/PATH:TAG, or as containers-storage:NAME"));
        }
    };
    let source = open(&wanted.source)?;
    let (manifest, indexes) = match open_top(&*source)? {
        Document::Schema1(schema1) => return Err(schema1.refusal()),
        Document::Manifest(manifest) => (manifest, Vec::new()),
        Document::Index(index) => copy::select(&*source, index, wanted.platform.as_ref().unwrap_or(host))?,
    };
    let image = Image::open_with(&*source, manifest, indexes, Vec::new())?;
    let config = image.config.as_ref().ok_or_else(|| {
        let kind = &image.manifest.config().media_type;
        Error::unsupported(format!("it is an artifact (config type `{kind}`), not an image"))
    })?;
    if let Some(platform) = wanted.platform.as_ref().filter(|platform| !platform.accepts(config.platform())) {
        return Err(Error::not_found(format!("the image is for {}, not for {platform}", config.platform()))
            .hint("it is in no list, so there is no other one to choose"));
    }
    let local_name = match (&wanted.local_name, &name) {
        (Some(given), _) => given.clone(),
        (None, Some(name)) => name.to_string(),
        (None, None) => {
            return Err(Error::invalid("an image that is named by its ID has no name to get in the OS image")
                .hint("give it one by --name"));
        }
    };
    Ok(Resolved {
        repository: name.map(|name| name.without_tag().without_digest()),
        local,
        local_name,
        manifest_digest: *image.manifest.digest(),
        image_id: config.image_id(),
        lists: image.indexes.iter().map(|index| *index.digest()).collect(),
        platform: config.platform().clone(),
    })
}
