//! The blob cache: whole, verified blobs that many images, runs and machines share.
//!
//! ```text
//! blobs/<algorithm>/<hex>    whole blobs, verified when they got this name
//! partial/<algorithm>-<hex>  beginnings of blobs: being fetched, or left by a run that was interrupted
//! ```
//!
//! There is no index and no daemon. A blob gets its name whole, in one step, and is never written to again.
//! Nothing that comes out is trusted: it goes through the door like everything else, so that a damaged cache costs
//! time, and nothing more. See docs/formats/cache.md.

mod contents;
mod partial;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Context, Error, Result};
use crate::fs::{Dir, display, times};
use crate::oci::{Descriptor, Digest};
use crate::verify::{PartialBlob, UntrustedBlob};

pub use contents::{Contents, Entry, PartialEntry, Prune, Removed};
pub use partial::Partial;

const BLOBS: &str = "blobs";
const PARTIAL: &str = "partial";

/// A blob cache.
#[derive(Debug)]
pub struct Cache {
    root: Dir,
    path: PathBuf,
    warning: Arc<Warning>,
    /// How often something was given out for a digest that nobody has struck off since.
    given: Mutex<BTreeMap<Digest, usize>>,
}

/// What is fetched from elsewhere.
pub struct Fetched {
    /// The bytes of the blob, from [`Fetched::from`] on.
    pub reader: Box<dyn Read + Send>,
    /// Where they begin: where it was asked for, or at 0 if the other side cannot do that.
    pub from: u64,
}

/// What went wrong with keeping, told once.
#[derive(Debug, Default)]
struct Warning(Mutex<Told>);

#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    Waiting(String),
    Taken,
}

impl Warning {
    fn set(&self, error: &Error) {
        let mut told = self.0.lock().expect("no holder of this lock can panic");
        if let Told::Nothing = *told {
            *told = Told::Waiting(format!("the cache cannot keep what is fetched: {error}"));
        }
    }

    fn take(&self) -> Option<String> {
        let mut told = self.0.lock().expect("no holder of this lock can panic");
        match std::mem::take(&mut *told) {
            Told::Nothing => None,
            Told::Waiting(text) => {
                *told = Told::Taken;
                Some(text)
            }
            Told::Taken => {
                *told = Told::Taken;
                None
            }
        }
    }
}

impl Cache {
    /// Opens a cache, which is made if it is missing: with mode 0700, its parents as usual.
    pub fn open(path: &Path) -> Result<Self> {
        let frame = || format!("opening cache `{}`", display(path));
        if let Some(cache) = Self::open_if_exists(path)? {
            return Ok(cache);
        }
        let name = path.file_name().ok_or_else(|| Error::invalid("the path has no last part to be named by"));
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = Dir::create_all(parent).and_then(|parent| parent.make(name?.as_encoded_bytes(), 0o700));
        Ok(Self::of(made.context(frame)?, path))
    }

    /// Opens a cache; `None` if it does not exist.
    pub fn open_if_exists(path: &Path) -> Result<Option<Self>> {
        let root = Dir::open_if_exists(path).context(|| format!("opening cache `{}`", display(path)))?;
        Ok(root.map(|root| Self::of(root, path)))
    }

    fn of(root: Dir, path: &Path) -> Self {
        Self { root, path: path.to_path_buf(), warning: Arc::default(), given: Mutex::default() }
    }

    /// Returns the path that the cache was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn frame(&self, digest: &Digest) -> String {
        format!("looking for {digest} in cache `{}`", display(&self.path))
    }

    /// Opens a whole blob. One of another size is not what is wanted, and is replaced once the right one comes.
    ///
    /// # Errors
    ///
    /// If something other than a regular file has its name.
    pub fn blob(&self, wanted: &Descriptor) -> Result<Option<File>> {
        let frame = || self.frame(&wanted.digest);
        let Some(file) = self.root.open_file_itself(path_of(&wanted.digest)).context(frame)? else { return Ok(None) };
        if file.metadata().context(frame)?.len() != wanted.size {
            return Ok(None);
        }
        // So that `prune` knows what is used. A cache that cannot be written to is a cache all the same.
        let _for_prune_only = times::touch(&file);
        Ok(Some(file))
    }

    /// Begins to keep a blob, going on from what an interrupted run left of it; `None` if somebody else is at it.
    pub fn begin(&self, wanted: &Descriptor) -> Result<Option<Partial>> {
        let begun = Partial::begin(&self.root, wanted, &self.warning);
        begun.context(|| format!("keeping {} in cache `{}`", wanted.digest, display(&self.path)))
    }

    /// Opens a blob: out of the cache, or else fetched and kept.
    ///
    /// `beginning` is what the destination has of it. `fetch` is given the number of bytes that are there already,
    /// and is not called if those are all. Nothing that goes wrong in the cache fails this: see
    /// [`Cache::take_warning`].
    pub fn open_blob(
        &self,
        wanted: &Descriptor,
        beginning: Option<PartialBlob>,
        fetch: impl FnOnce(u64) -> Result<Fetched>,
    ) -> Result<UntrustedBlob> {
        let begun = self.blob(wanted).and_then(|whole| match whole {
            Some(file) => Ok((Some(file), None)),
            None => Ok((None, self.begin(wanted)?)),
        });
        let (whole, partial) = begun.unwrap_or_else(|error| {
            self.warning.set(&error);
            (None, None)
        });
        if let Some(file) = whole {
            *self.given().entry(wanted.digest).or_default() += 1;
            return Ok(UntrustedBlob::new(file));
        }
        let ours = partial.as_ref().map(Partial::beginning).transpose()?.filter(|ours| ours.length() > 0);
        let beginning = match (ours, beginning) {
            (Some(ours), Some(theirs)) if ours.length() < theirs.length() => Some(theirs),
            (Some(ours), _) => {
                *self.given().entry(wanted.digest).or_default() += 1;
                Some(ours)
            }
            (None, theirs) => theirs,
        };
        let blob = resume(wanted, beginning, fetch)?;
        Ok(match partial {
            Some(partial) => partial.keep(blob),
            None => blob,
        })
    }

    /// Hears that what came for a digest was wrong. Returns whether it may have been the cache's fault: then the cache
    /// has forgotten it, and the same is worth opening again.
    pub fn strike_off(&self, digest: &Digest) -> Result<bool> {
        let mut given = self.given();
        match given.get_mut(digest).filter(|times| **times > 0) {
            Some(times) => *times -= 1,
            None => return Ok(false),
        }
        drop(given);
        self.forget(digest)?;
        Ok(true)
    }

    /// Removes a blob that turned out to be damaged. A partial of it is left alone: who reads it removes it.
    pub fn forget(&self, digest: &Digest) -> Result<()> {
        let frame = || format!("removing {digest} from cache `{}`", display(&self.path));
        let dir = self.root.sub_if_exists(format!("{BLOBS}/{}", digest.algorithm().name())).context(frame)?;
        dir.map_or(Ok(()), |dir| dir.remove_all(digest.hex()).context(frame))
    }

    /// Returns why the cache could not keep something. It is told once.
    pub fn take_warning(&self) -> Option<String> {
        self.warning.take()
    }

    fn given(&self) -> MutexGuard<'_, BTreeMap<Digest, usize>> {
        self.given.lock().expect("no holder of this lock can panic")
    }
}

/// Opens a blob that begins as `beginning`, fetching only the rest of it if the other side can do that.
pub fn resume(
    wanted: &Descriptor,
    beginning: Option<PartialBlob>,
    fetch: impl FnOnce(u64) -> Result<Fetched>,
) -> Result<UntrustedBlob> {
    let there = beginning.as_ref().map_or(0, PartialBlob::length);
    match beginning {
        Some(beginning) if there == wanted.size => Ok(beginning.followed_by(io::empty())),
        beginning => match (fetch(there)?, beginning) {
            (Fetched { reader, from: 0 }, _) => Ok(UntrustedBlob::new(reader)),
            (Fetched { reader, from }, Some(beginning)) if from == there => Ok(beginning.followed_by(reader)),
            (Fetched { from, .. }, _) => {
                Err(Error::invalid(format!("the bytes from {there} on were asked for, but those from {from} on came")))
            }
        },
    }
}

/// Returns where a blob is below the cache.
fn path_of(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm().name(), digest.hex())
}
