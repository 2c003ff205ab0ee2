//! The images in one of osbuild's stores, where osbuild's own modules and holkas share them.
//!
//! ```text
//! org.osbuild.containers/
//!   sha256:<id>/                  the image's ID, the digest of its config
//!     image/                      the image as `dir:`
//!     image-sha256-<manifest>/    the same config under another manifest, for the next build that wants it
//!     list-sha256-<list>          the list of images that `image` was fetched by
//!   .unverified-<id>/             work in progress, and what is left of it
//!     lock                        held by the process whose work it is
//!     new/image/                  what will be the image; beginnings of blobs stay beside it
//! ```
//!
//! The name of a manifest's directory is for people; what is in it decides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holkas::dir::{DirSource, Shelf};
use holkas::error::{Error, ErrorKind, Result};
use holkas::fs::lock::{Kind, Lock};
use holkas::fs::{Dir, UNVERIFIED};
use holkas::image::ImageSource;
use holkas::limits::{CONFIG, MANIFEST};
use holkas::oci::{Algorithm, Digest, Document, Manifest};
use holkas::progress::Cancel;
use holkas::verify::UntrustedBlob;

use crate::osbuild::service::tell;

/// The content type of images.
pub(super) const CONTENT: &str = "org.osbuild.containers";
const IMAGE: &str = "image";
const ASIDE: &str = "image-";
const NEW: &str = "new";
const LOCK: &str = "lock";
/// How long to wait before looking again whether another process is done.
const PATIENCE: Duration = Duration::from_millis(100);

/// The images of a store.
#[derive(Debug)]
pub(super) struct Images {
    dir: Dir,
}

/// Which manifest an image must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The one of this digest, or an instance of the list of this digest.
    Digest(Digest),
    /// Any: where the source keeps layers unpacked, the manifest that was pushed cannot be had again.
    Any,
}

/// What a store has of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// It is in its place, whole.
    Here,
    /// It is whole, but beside its place, under this name.
    Aside(String),
    /// It is not there, or damaged.
    No,
}

/// The list that an image was fetched by.
pub(super) struct List {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// Returns the ID of an image: the SHA-256 of its config, whatever its manifest knows that by.
pub(super) fn image_id(source: &dyn ImageSource, manifest: &Manifest) -> Result<Digest> {
    let config = manifest.config();
    match config.digest.algorithm() {
        Algorithm::Sha256 => Ok(config.digest),
        Algorithm::Sha512 => {
            let bytes = source.open_config(config)?.read_verified(config, CONFIG)?;
            Ok(Algorithm::Sha256.digest(bytes.bytes()))
        }
    }
}

/// Opens an image that lies in a directory, and makes sure that it has this ID and is whole.
pub(in crate::osbuild) fn check(path: &Path, id: &Digest) -> Result<Digest> {
    let source = DirSource::open(path)?;
    let manifest = source.check_sizes()?;
    match image_id(&source, &manifest)? {
        found if found == *id => Ok(*manifest.digest()),
        found => Err(Error::mismatch(format!("it has an id of {found}, but expected {id}"))),
    }
}

fn list_name(digest: &Digest) -> String {
    format!("list-sha256-{}", digest.hex())
}

impl Images {
    /// Opens the images of a store, whose sources are in the directory `cache`; makes what is missing.
    pub(super) fn open(cache: &Path) -> Result<Self> {
        Dir::create_all(&cache.join(CONTENT)).map(|dir| Self { dir })
    }

    /// Returns where an image is, under a name that it may have.
    pub(super) fn path(&self, id: &Digest, name: &str) -> PathBuf {
        self.dir.path_of(id.to_string()).join(name)
    }

    /// Returns where an image is that the store holds.
    pub(super) fn path_of(&self, id: &Digest, held: &Held) -> Option<PathBuf> {
        match held {
            Held::Here => Some(self.path(id, IMAGE)),
            Held::Aside(name) => Some(self.path(id, name)),
            Held::No => None,
        }
    }

    /// Returns the images whose blobs may be shared.
    pub(super) fn shelf(&self) -> Result<Shelf> {
        let mut images = Vec::new();
        for id in self.dir.entries()?.iter().filter(|name| name.as_encoded_bytes().starts_with(b"sha256:")) {
            let Ok(names) = self.dir.sub(id.as_encoded_bytes()).and_then(|entry| entry.entries()) else { continue };
            let names = names.iter().map(|name| name.as_encoded_bytes());
            let own = names.filter(|name| *name == IMAGE.as_bytes() || name.starts_with(ASIDE.as_bytes()));
            images.extend(own.map(|name| [id.as_encoded_bytes(), b"/", name].concat()));
        }
        Ok(Shelf::of(self.dir.reopen()?, images))
    }

    /// Looks for an image. Blobs are measured, not hashed.
    pub(super) fn held(&self, id: &Digest, wanted: Wanted) -> Result<Held> {
        let Some(entry) = self.dir.sub_if_exists(id.to_string())? else { return Ok(Held::No) };
        if entry.exists(IMAGE)? {
            match check(&self.path(id, IMAGE), id) {
                Ok(manifest) if self.suits(&entry, &manifest, wanted)? => return Ok(Held::Here),
                Ok(_) => {}
                Err(error) => tell(&format!("warning: image {id} in the store cannot be used: {error}\n")),
            }
        }
        for name in self.aside(&entry)? {
            if let Ok(manifest) = check(&self.path(id, &name), id)
                && self.suits(&entry, &manifest, wanted)?
            {
                return Ok(Held::Aside(name));
            }
        }
        Ok(Held::No)
    }

    fn aside(&self, entry: &Dir) -> Result<Vec<String>> {
        let names = entry.entries()?.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| name.starts_with(ASIDE)).collect())
    }

    fn suits(&self, entry: &Dir, manifest: &Digest, wanted: Wanted) -> Result<bool> {
        match wanted {
            Wanted::Any => Ok(true),
            Wanted::Digest(digest) if digest == *manifest => Ok(true),
            Wanted::Digest(digest) => match entry.read(list_name(&digest), MANIFEST)? {
                Some(bytes) => Ok(names_instance(bytes, &digest, manifest)),
                None => Ok(false),
            },
        }
    }

    /// Returns the list that an image was fetched by, if it was.
    pub(super) fn list(&self, id: &Digest, digest: &Digest) -> Result<Option<List>> {
        let Some(entry) = self.dir.sub_if_exists(id.to_string())? else { return Ok(None) };
        let bytes = entry.read(list_name(digest), MANIFEST)?;
        Ok(bytes.map(|bytes| List { digest: *digest, bytes }))
    }

    /// Puts an image in its place if it is not there. `fetch` writes it to the path that it is given, and returns the
    /// list that it came by. Returns whether nothing had to be fetched.
    ///
    /// One process at a time does so for an image; who waits finds what the other has fetched.
    pub(super) fn provide(
        &self,
        id: &Digest,
        wanted: Wanted,
        cancel: &Cancel,
        fetch: impl FnOnce(&Path) -> Result<Option<List>>,
    ) -> Result<bool> {
        let work = Work::begin(self, id, cancel)?;
        match self.held(id, wanted)? {
            Held::Here => return Ok(true),
            Held::Aside(name) => {
                self.exchange(&self.dir.sub(id.to_string())?, id, &name)?;
                return Ok(true);
            }
            Held::No => {}
        }
        let list = fetch(&work.image())?;
        let manifest = check(&work.image(), id)?;
        self.place(&work, id, &manifest)?;
        if let Some(list) = list {
            self.dir.sub(id.to_string())?.write(list_name(&list.digest), &list.bytes, 0o644)?;
        }
        Ok(false)
    }

    /// Gives a finished image its name; one that is there under it is kept beside it.
    fn place(&self, work: &Work<'_>, id: &Digest, manifest: &Digest) -> Result<()> {
        if work.dir.rename_new(NEW, &self.dir, id.to_string())? {
            return self.dir.sync();
        }
        let entry = self.dir.sub(id.to_string())?;
        if work.new.rename_new(IMAGE, &entry, IMAGE)? {
            return entry.sync();
        }
        let name = free_name(&entry, manifest)?;
        work.new.rename(IMAGE, &entry, &name)?;
        self.exchange(&entry, id, &name)
    }

    /// Puts an image that is beside its place into it, and the one that was there beside it, in one step.
    ///
    /// Builds that have mounted the other one keep it: it only has another name.
    fn exchange(&self, entry: &Dir, id: &Digest, name: &str) -> Result<()> {
        if entry.rename_new(name, entry, IMAGE)? {
            return entry.sync();
        }
        entry.exchange(IMAGE, name)?;
        match check(&self.path(id, name), id) {
            Ok(manifest) => {
                let own = free_name(entry, &manifest)?;
                if own != name {
                    entry.rename(name, entry, own)?;
                }
            }
            // A damaged one is of no use to anybody.
            Err(_) => entry.remove_all(name)?,
        }
        entry.sync()
    }
}

/// Returns whether a list is the one of this digest, and names the image of this manifest.
fn names_instance(bytes: Vec<u8>, digest: &Digest, manifest: &Digest) -> bool {
    let parsed = UntrustedBlob::from_bytes(bytes).read_matching(digest, None, MANIFEST).and_then(Document::parse);
    // A file that is none, or of another digest, vouches for nothing.
    matches!(parsed, Ok(Document::Index(index)) if index.entry(manifest).is_some())
}

/// Returns a name beside the image's place that nothing has yet.
fn free_name(entry: &Dir, manifest: &Digest) -> Result<String> {
    let name = format!("{ASIDE}{}-{}", manifest.algorithm().name(), manifest.hex());
    if !entry.exists(&name)? {
        return Ok(name);
    }
    for n in 2.. {
        let name = format!("{name}.{n}");
        if !entry.exists(&name)? {
            return Ok(name);
        }
    }
    unreachable!("a directory does not have 2^31 names")
}

/// The right to change what the store has of an image, and a place to work in.
struct Work<'a> {
    images: &'a Images,
    name: String,
    dir: Dir,
    new: Dir,
    _lock: Lock,
}

impl<'a> Work<'a> {
    fn begin(images: &'a Images, id: &Digest, cancel: &Cancel) -> Result<Self> {
        let name = format!("{UNVERIFIED}{}", id.hex());
        let mut told = false;
        loop {
            let dir = images.dir.make(&name, 0o700)?;
            let lock = match dir.open_for_update(LOCK, 0o600) {
                Ok(file) => Lock::attempt(file, Kind::Exclusive),
                Err(error) => Err(error),
            };
            match lock {
                // Who held it before has removed the directory, and with it the lock.
                _ if !images.dir.names(&name, &dir) => {}
                Ok(lock) => {
                    let new = dir.make(NEW, 0o755)?;
                    return Ok(Self { images, name, dir, new, _lock: lock });
                }
                Err(error) if error.kind() == ErrorKind::Busy => {
                    if !told {
                        tell(&format!("waiting for another process that fetches image {id}\n"));
                        told = true;
                    }
                    cancel.sleep(PATIENCE)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns where the image is to be written.
    fn image(&self) -> PathBuf {
        self.new.path().join(IMAGE)
    }

    /// Returns whether beginnings of blobs are there for the next run.
    fn has_beginnings(&self) -> bool {
        let unverified = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(UNVERIFIED.as_bytes());
        let new = self.dir.sub_if_exists(NEW).ok().flatten();
        new.and_then(|new| new.entries().ok()).is_some_and(|names| names.iter().any(unverified))
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if self.has_beginnings() {
            return;
        }
        // In one step, so that nobody takes it for a place to work in while it goes.
        let gone = format!("{}.{}", self.name, std::process::id());
        let renamed = self.images.dir.rename(&self.name, &self.images.dir, &gone);
        // What cannot be removed is in nobody's way.
        let _in_nobodys_way = renamed.and_then(|()| self.images.dir.remove_all(&gone));
    }
}
