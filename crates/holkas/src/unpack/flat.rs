//! The layers of an image become one tree, the uppermost first: what an upper layer replaced, removed or hid is never
//! written.
//!
//! The tree itself says what upper layers have decided: where they have put something, a lower layer puts nothing, and
//! below what is no directory there is nothing of it to see.
//! Kept in memory is only what leaves no trace in it: whiteouts, opaque marks, and what lay hidden between two layers.
//!
//! Each layer is resolved against itself alone, as a store unpacks it alone: a name leads through the layer's own
//! symlinks, hidden or not, and never through those of another layer.
//! What of it leads or links somewhere and stays hidden (symlinks, devices, hard links) is staged meanwhile, in a
//! directory of the tree's root under an `.unverified-*` name, which also tells a tree that is not whole.
//! The contents of hidden files are not: that would be much writing for nothing.
//! Should a hard link that is not hidden want such contents, the layer is read once more: see [`FlatTree::layer_again`].
//!
//! What this takes for the truth is the merged view of Linux's overlay over the diff directories of a store.

mod excluded;
mod layer;
mod view;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::BufRead;
use std::os::fd::AsFd;

use rustix::fs::Timestamps;

use self::excluded::Excluded;
pub use self::excluded::ExcludedPath;
use self::layer::LayerTree;
use self::view::{Key, Keys};
use super::Timestamp;
use super::attributes::{allowed, clock_times};
use crate::error::{Context, Error, Result, printable};
use crate::fs::{Dir, UNVERIFIED, at};
use crate::tar;
use rustix::io::Errno;

/// The tree of an image that is being made from its layers.
#[derive(Debug)]
pub struct FlatTree<'d> {
    into: &'d Dir,
    clock: Timestamp,
    keys: Keys,
    excluded: Excluded,
    /// Places whose lower layers are not seen, though the tree does not show it.
    closed: HashSet<Key>,
    /// Nothing of an upper layer is there.
    top: bool,
    staging: (Dir, String),
    /// What the last layer waits for.
    pending: Option<Pending>,
}

/// What a directory gives to all that is made in it: in a store only to what its own layer makes.
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// What is left to do for a layer when all of its entries were seen.
#[derive(Debug, Default)]
struct Pending {
    /// Times of directories, the last one winning.
    times: Vec<(Vec<u8>, Timestamps)>,
    /// Directories of upper layers, and the access lists that files in them would have inherited.
    lists: Vec<(Vec<u8>, Vec<u8>)>,
    wanted: Wanted,
}

/// Hard links to contents that were not kept.
#[derive(Debug, Default)]
struct Wanted {
    /// The names that the contents have in the layer.
    contents: HashSet<Key>,
    /// The links that shall come into the tree.
    links: HashSet<Key>,
    /// The name of the contents for other names of them, hidden ones too.
    contents_of: HashMap<Key, Key>,
}

/// Whether a layer is in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// It is.
    Whole,
    /// A hard link wants contents that went by: [`FlatTree::layer_again`].
    LinksWanting,
}

impl<'d> FlatTree<'d> {
    /// Begins a tree in the empty directory `into`.
    ///
    /// `clock` is the time of what no entry gives a time.
    /// Needs to be root, with all capabilities, for owners, devices and attributes.
    /// After an error, of this or of what follows, `into` holds a part of the tree.
    ///
    /// # Errors
    ///
    /// `Refused` if something is in the directory.
    pub fn begin(into: &'d Dir, clock: Timestamp, exclude: Vec<ExcludedPath>) -> Result<Self> {
        if let Some(name) = into.entries()?.first() {
            let what = printable(name.as_encoded_bytes());
            let error = Error::refused(format!("the directory is not empty: `{what}` is in it"));
            return Err(match what.starts_with(UNVERIFIED) {
                true => error.hint("a run that was killed has left a part of an image there; remove what is in it"),
                false => error,
            });
        }
        for list in [DEFAULT_LIST, b"system.posix_acl_access"] {
            at::take_xattr(into.as_fd(), list).map_err(allowed)?;
        }
        let name = format!("{UNVERIFIED}{:016x}", RandomState::new().hash_one(()));
        let staging = (into.make(&name, 0o700)?, name);
        let keys = Keys::default();
        let excluded = Excluded::new(exclude, &keys);
        Ok(Self { into, clock, keys, excluded, closed: HashSet::new(), top: true, staging, pending: None })
    }

    /// Puts the next layer below those that are there, reading its tar to the end.
    ///
    /// # Errors
    ///
    /// As [`super::unpack`].
    pub fn layer(&mut self, tar: &mut dyn BufRead) -> Result<Put> {
        let (pending, closing) = LayerTree::new(self, None)?.put_all(&mut tar::Reader::new(tar, None))?;
        self.closed.extend(closing);
        self.top = false;
        if pending.wanted.contents.is_empty() {
            self.end_layer(&pending)?;
            return Ok(Put::Whole);
        }
        self.clear_staging()?;
        self.pending = Some(pending);
        Ok(Put::LinksWanting)
    }

    /// Reads the same layer once more, and gives its links the contents that they want.
    ///
    /// # Errors
    ///
    /// As [`FlatTree::layer`].
    pub fn layer_again(&mut self, tar: &mut dyn BufRead) -> Result<()> {
        let pending = self.pending.take().unwrap_or_default();
        LayerTree::new(self, Some(&pending.wanted))?.put_all(&mut tar::Reader::new(tar, None))?;
        self.end_layer(&pending)
    }

    fn end_layer(&mut self, pending: &Pending) -> Result<()> {
        self.clear_staging()?;
        for (path, list) in &pending.lists {
            let set = at::open_plain(self.into.as_fd(), path)
                .and_then(|dir| at::set_xattr(dir.as_fd(), b".", DEFAULT_LIST, list));
            set.map_err(allowed).context(|| format!("setting the access list of `{}`", printable(path)))?;
        }
        pending.times.iter().try_for_each(|(path, times)| self.set_times(path, times))
    }

    /// Sets the times of a directory, unless it has been replaced.
    fn set_times(&self, path: &[u8], times: &Timestamps) -> Result<()> {
        let dir = at::open_plain(self.into.as_fd(), path);
        match dir.and_then(|dir| at::set_times(dir.as_fd(), b".", times)) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error).context(|| format!("setting the times of `{}`", printable(path))),
        }
    }

    fn clear_staging(&self) -> Result<()> {
        let (staging, _) = &self.staging;
        staging.entries()?.iter().try_for_each(|name| staging.remove_file(name.as_encoded_bytes()))
    }

    /// Ends the tree: all layers are in it, and from now on it looks like one.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn end(self) -> Result<()> {
        for path in &self.excluded.paths {
            path.remove_from(self.into)?;
        }
        // The root of a store's layer is made by the store, whatever the layer says of it.
        at::fd_chown(self.into, 0, 0).map_err(allowed)?;
        at::fd_chmod(self.into, 0o555).map_err(allowed)?;
        let (staging, name) = self.staging;
        drop(staging);
        // As late as can be: who is killed afterwards leaves the root with a wrong time, and all else as it shall be.
        self.into.remove_all(name)?;
        at::fd_set_times(self.into, &clock_times(self.clock)).map_err(allowed)
    }
}
