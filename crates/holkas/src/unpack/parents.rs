//! The directories that entries go into: resolved as after chroot, made where missing, and kept open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::files::Files;
use super::{base, parent};
use crate::fs::at;

/// How many are kept open: layers come sorted, so a few branches are enough, and descriptors are scarce.
const OPEN: usize = 32;

/// The open directories.
pub(super) struct Parents<'d> {
    root: BorrowedFd<'d>,
    open: Vec<(Vec<u8>, Arc<OwnedFd>)>,
    /// Which of `open` was used last, and which is next to go.
    last: usize,
    next: usize,
    /// New files get group 0 everywhere: no directory was seen that hands its own group down.
    plain_groups: bool,
    /// A path has led through a symlink: from now on a directory may have two names.
    linked: bool,
}

/// A directory that was just opened for the first time, or anew.
pub(super) enum Found<'p> {
    /// Nothing new.
    Known,
    /// It existed.
    Opened,
    /// It was missing: it and perhaps parents of it were made, the outermost given here.
    Made(&'p [u8]),
}

impl<'d> Parents<'d> {
    pub(super) fn new(root: BorrowedFd<'d>) -> Result<Self, Errno> {
        let mut parents = Self { root, open: Vec::new(), last: 0, next: 0, plain_groups: true, linked: false };
        parents.look(&rustix::fs::fstat(root)?);
        Ok(parents)
    }

    /// Returns whether what root makes anywhere here belongs to group 0 from the start.
    pub(super) fn plain_groups(&self) -> bool {
        self.plain_groups
    }

    /// Returns whether a path has led through a symlink.
    pub(super) fn linked(&self) -> bool {
        self.linked
    }

    /// Notes that a directory hands its group down, or may do so on some mounts.
    pub(super) fn look(&mut self, stat: &Stat) {
        self.note(stat.st_gid, stat.st_mode);
    }

    /// As `look`, for attributes that are about to be set.
    pub(super) fn note(&mut self, gid: u32, mode: u32) {
        self.plain_groups &= gid == 0 && mode & 0o2000 == 0;
    }

    /// Opens the directory with this clean path, making what is missing.
    ///
    /// The last component may not be a dangling symlink, as for `mkdir -p`.
    /// `files` are settled where one of them might be in the way, or found under another name.
    pub(super) fn open<'p>(&mut self, path: &'p [u8], files: &mut Files) -> Result<Found<'p>, Errno> {
        if self.known(path) {
            return Ok(Found::Known);
        }
        let mut opened = at::open_plain(self.root, path);
        if opened.is_err() {
            files.settle();
            opened = at::open_in_root(self.root, path);
            self.linked |= opened.is_ok();
        }
        match opened {
            Ok(fd) => {
                self.look(&rustix::fs::fstat(&fd)?);
                self.keep(path, fd);
                Ok(Found::Opened)
            }
            Err(Errno::NOENT) if !path.is_empty() => {
                let above = parent(path);
                let outermost = match self.open(above, files)? {
                    Found::Made(outermost) => outermost,
                    Found::Known | Found::Opened => path,
                };
                self.make(path)?;
                Ok(Found::Made(outermost))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a directory that no entry names, in the one that `fd` gives, which it then is itself.
    pub(super) fn make(&mut self, path: &[u8]) -> Result<(), Errno> {
        at::make_dir(self.fd(), base(path))?;
        let fd = at::open_dir(self.fd(), base(path))?;
        at::fd_chown(&fd, 0, 0)?;
        at::fd_chmod(&fd, 0o755)?;
        self.keep(path, fd);
        Ok(())
    }

    /// Returns whether the directory is open, and makes it the one that `fd` gives.
    pub(super) fn known(&mut self, path: &[u8]) -> bool {
        if self.open.get(self.last).is_some_and(|(open, _)| open == path) {
            return true;
        }
        match self.open.iter().position(|(open, _)| open == path) {
            Some(index) => self.last = index,
            None => return false,
        }
        true
    }

    /// Keeps a directory open, which becomes the one that `fd` gives.
    pub(super) fn keep(&mut self, path: &[u8], fd: OwnedFd) {
        if self.open.len() < OPEN {
            self.last = self.open.len();
            self.open.push((path.to_vec(), Arc::new(fd)));
            return;
        }
        (self.last, self.next) = (self.next, (self.next + 1) % OPEN);
        let (open, old) = &mut self.open[self.last];
        open.clear();
        open.extend_from_slice(path);
        *old = Arc::new(fd);
    }

    /// Returns the directory that was opened or kept last.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.open[self.last].1.as_fd()
    }

    /// Returns the same, to be kept.
    pub(super) fn held(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.open[self.last].1)
    }

    /// Closes all: something was removed, by which paths may now lead elsewhere.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        (self.last, self.next) = (0, 0);
    }
}
