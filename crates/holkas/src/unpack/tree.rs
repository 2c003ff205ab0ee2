//! Entries become files: contents, links, devices, whiteouts, and their attributes.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Timestamps};
use rustix::io::Errno;

use super::attributes::{
    Attributes, allowed, clock_times, link_frame, make_node, no_target, node_kind, own, own_fd, refuse_overlays_own,
    set_link_attributes, set_node_attributes, set_xattrs, times,
};
use super::files::{Files, SMALL};
use super::parents::{Found, Parents};
use super::{Names, OPAQUE, OnDisk, Privilege, UnpackOptions, WHITEOUT, base, clean, hidden_by, parent};
use crate::error::{Context, Error, Result, printable};
use crate::fs::{Dir, at};
use crate::limits::LAYER_DIRECTORIES;
use crate::tar::{Header, Kind, Reader};

/// Where a layer goes.
pub(super) struct Tree<'d> {
    into: &'d Dir,
    options: UnpackOptions,
    parents: Parents<'d>,
    files: Files,
    /// Entries so far.
    entries: u64,
    /// What is there without an entry of its name: implied directories, and what stands for something removed.
    nameless: Names<1>,
    /// What we make belongs to 0:0 from the start, unless a directory hands its group down.
    root: bool,
    /// Times of directories, set when nothing is written into them any more; the last one wins.
    times: Vec<(Vec<u8>, Timestamps)>,
    /// Tree only: all that came from this layer, and what leads there; an opaque mark spares it.
    ours: Names<2>,
    target: Vec<u8>,
}

/// Whether something exists under the name where an entry shall go.
enum Old {
    Nothing,
    Directory,
    /// A regular file: no path leads through it.
    File,
    Other,
}

impl<'d> Tree<'d> {
    pub(super) fn new(into: &'d Dir, options: UnpackOptions) -> Result<Self> {
        let parents = Parents::new(into.as_fd()).map_err(Error::from)?;
        let root = rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
        let mut tree = Self {
            into,
            options,
            parents,
            files: Files::new(),
            entries: 0,
            nameless: Names::default(),
            root,
            times: Vec::new(),
            ours: Names::default(),
            target: Vec::new(),
        };
        if options.on_disk == OnDisk::Overlay {
            tree.at_clock(b"");
        }
        Ok(tree)
    }

    /// Writes one entry.
    pub(super) fn put(&mut self, header: &Header, path: &[u8], reader: &mut Reader<'_, '_>) -> Result<()> {
        self.entries += 1;
        if self.times.len() > LAYER_DIRECTORIES {
            return Err(Error::invalid(format!("the layer has more than {LAYER_DIRECTORIES} directories")));
        }
        refuse_overlays_own(header)?;
        if path.is_empty() {
            return self.put_root(header);
        }
        if self.options.on_disk == OnDisk::Tree && path.starts_with(b".wh..wh.") && path != OPAQUE {
            // What AUFS keeps of itself; skopeo passes over it too.
            return Ok(());
        }
        if base(path).starts_with(WHITEOUT) {
            return self.put_whiteout(header, path);
        }
        self.open_parent(path).map_err(allowed)?;
        if self.options.on_disk == OnDisk::Tree {
            self.remember(path);
        }
        match header.kind {
            Kind::Regular => self.put_file(header, path, reader),
            Kind::Directory => self.put_dir(header, path),
            Kind::HardLink => self.put_hard_link(header, path),
            Kind::Symlink | Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => self.put_node(header, path),
            Kind::Global | Kind::Pax | Kind::LongName | Kind::LongLink => {
                unreachable!("the reader keeps extended headers, and the caller global ones")
            }
        }
    }

    /// Waits until all is written, and sets the times of all directories, in the order of the tar, the entries' own
    /// after those of the clock. Of several failures, `result` included, it returns the one of the earliest entry.
    pub(super) fn finish(self, result: Result<()>) -> Result<()> {
        self.files.end(result)?;
        for (path, times) in self.times {
            // What has come into the place of a directory has a time of its own.
            let result = at::open_in_root(self.into.as_fd(), parent(&path))
                .and_then(|dir| match path.is_empty() {
                    true => at::open_dir(dir.as_fd(), b"."),
                    false => at::open_dir(dir.as_fd(), base(&path)),
                })
                .and_then(|dir| at::fd_set_times(&dir, &times));
            match result {
                // Removed again by a whiteout, or replaced.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error).context(|| format!("setting the times of `{}`", printable(&path))),
            }
        }
        Ok(())
    }

    fn put_root(&mut self, header: &Header) -> Result<()> {
        if header.kind != Kind::Directory {
            return Err(Error::refused("the root of the layer is not a directory"));
        }
        if self.options.on_disk == OnDisk::Overlay {
            return Ok(());
        }
        self.ours.insert(b"");
        self.parents.note(header.gid, header.mode);
        own_fd(self.into, header.uid, header.gid)?;
        at::fd_chmod(self.into, header.mode).map_err(allowed)?;
        self.times.push((Vec::new(), times(header)));
        set_xattrs(header, self.options.privilege, |key, value| at::fd_set_xattr(self.into, key, value))
    }

    fn put_file(&mut self, header: &Header, path: &[u8], reader: &mut Reader<'_, '_>) -> Result<()> {
        if header.name.ends_with(b"/") {
            return Err(Error::invalid("a regular file whose name ends in `/`"));
        }
        let owner = (!self.owned_from_start(header)).then_some((header.uid, header.gid));
        let attributes = Attributes { owner, mode: header.mode, times: times(header) };
        if self.is_free(path) && header.size <= SMALL && header.xattrs.is_empty() {
            let place = (self.parents.held(), &header.name[..], base(path));
            return self.files.add(self.entries, place, attributes, |bytes| {
                reader.content(|piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })
            });
        }
        let fd = self.make(path, |dir, name| at::create_file(dir, name, header.mode))?;
        let mut file = File::from(fd);
        reader.content(|piece| file.write_all(piece).map_err(Error::from))?;
        let fd = OwnedFd::from(file);
        attributes.set(&fd)?;
        set_xattrs(header, self.options.privilege, |key, value| at::fd_set_xattr(&fd, key, value))
    }

    /// Returns whether nothing has this place, which takes no look at it when no directory has two names.
    fn is_free(&self, path: &[u8]) -> bool {
        self.options.on_disk == OnDisk::Overlay && !self.parents.linked() && !self.nameless.contains(path)
    }

    fn put_dir(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        let name = base(path);
        let made = match at::make_dir(self.parents.fd(), name) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                // What is in it already, or has its place, must not see it change.
                self.files.settle();
                match self.old(path)? {
                    Old::Directory => false,
                    Old::Nothing | Old::File | Old::Other => {
                        self.remove(path)?;
                        at::make_dir(self.parents.fd(), name).map_err(allowed)?;
                        true
                    }
                }
            }
            Err(error) => return Err(allowed(error)),
        };
        let fd = at::open_dir(self.parents.fd(), name).map_err(allowed)?;
        if !made || !self.owned_from_start(header) {
            own_fd(&fd, header.uid, header.gid)?;
        }
        at::fd_chmod(&fd, header.mode).map_err(allowed)?;
        set_xattrs(header, self.options.privilege, |key, value| at::fd_set_xattr(&fd, key, value))?;
        self.parents.note(header.gid, header.mode);
        self.times.push((path.to_vec(), times(header)));
        if made {
            // What comes next is most likely in it.
            self.parents.keep(path, fd);
        }
        Ok(())
    }

    fn put_hard_link(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        let mut target = std::mem::take(&mut self.target);
        clean(&header.link, &mut target).context(|| link_frame(header))?;
        self.files.settle();
        let result = self.link(header, path, &target);
        self.target = target;
        result
    }

    fn link(&mut self, header: &Header, path: &[u8], target: &[u8]) -> Result<()> {
        if target.is_empty() || target == path {
            return Err(no_target(Errno::NOENT).context(link_frame(header)));
        }
        let from =
            at::open_in_root(self.into.as_fd(), parent(target)).map_err(no_target).context(|| link_frame(header))?;
        let mut result = at::make_hard_link(from.as_fd(), base(target), self.parents.fd(), base(path));
        if matches!(result, Err(Errno::EXIST)) {
            self.remove(path)?;
            result = at::make_hard_link(from.as_fd(), base(target), self.parents.fd(), base(path));
        }
        result.map_err(no_target).context(|| link_frame(header))?;
        set_link_attributes(self.parents.fd(), base(path), header, self.options.privilege)
    }

    /// Makes what is never opened: symlinks, devices, FIFOs.
    fn put_node(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        let kind = node_kind(header)?;
        let device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if device && self.options.privilege == Privilege::UserNamespace {
            return self.remove(path);
        }
        self.make(path, |dir, name| make_node(dir, name, kind, header))?;
        let owner = !self.owned_from_start(header);
        set_node_attributes(self.parents.fd(), base(path), header, owner, self.options.privilege)
    }

    fn put_whiteout(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        let hidden = hidden_by(header, path)?;
        self.files.settle();
        match self.open_parent(path) {
            Ok(()) => {}
            // The directory was itself removed: `rm -rf` of a tree is written so by some.
            Err(Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(allowed(error)),
        }
        match (self.options.on_disk, base(path) == OPAQUE) {
            (OnDisk::Overlay, true) => {
                let fd = at::open_dir(self.parents.fd(), b".").map_err(allowed)?;
                // A user's overlay is mounted with `userxattr`.
                let key: &[u8] = match self.options.privilege {
                    Privilege::Root => b"trusted.overlay.opaque",
                    Privilege::UserNamespace => b"user.overlay.opaque",
                };
                at::fd_set_xattr(&fd, key, b"y").map_err(|error| match error {
                    Errno::OPNOTSUPP => {
                        Error::unsupported(format!("this file system cannot hold `{}`", printable(key)))
                    }
                    error => allowed(error),
                })
            }
            (OnDisk::Overlay, false) => {
                let dir = self.parents.fd();
                at::make_node(dir, hidden, FileType::CharacterDevice, (0, 0)).map_err(|error| match error {
                    Errno::EXIST => Error::invalid("the layer both adds this and removes it"),
                    error => allowed(error),
                })?;
                self.nameless.insert(&[&path[..path.len() - base(path).len()], hidden].concat());
                let clock = self.clock();
                own(dir, hidden, header)?;
                at::set_times(dir, hidden, &clock).map_err(allowed)
            }
            (OnDisk::Tree, true) => {
                let dir = open_held(self.into, parent(path))?;
                self.parents.forget();
                self.spare(&dir, parent(path))
            }
            (OnDisk::Tree, false) => {
                let dir = open_held(self.into, parent(path))?;
                self.parents.forget();
                dir.remove_all(hidden)
            }
        }
    }

    /// Removes what is below `dir` and did not come from this layer.
    fn spare(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        for name in dir.entries()? {
            let name = name.as_encoded_bytes();
            let below = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            if !self.ours.contains(&below) {
                dir.remove_all(name)?;
                continue;
            }
            let stat = at::stat(dir.as_fd(), name).map_err(Error::from)?;
            if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                self.spare(&dir.sub(name)?, &below)?;
            }
        }
        Ok(())
    }

    /// Notes that the path, and what leads there, is of this layer.
    fn remember(&mut self, mut path: &[u8]) {
        while !path.is_empty() && self.ours.insert(path) {
            path = parent(path);
        }
    }

    /// Opens the directory that the path is in, which `self.parents.fd()` then gives.
    fn open_parent(&mut self, path: &[u8]) -> Result<(), Errno> {
        let above = parent(path);
        match self.parents.open(above, &mut self.files)? {
            Found::Known => {}
            Found::Made(outermost) => {
                let mut made = above;
                let mut all = vec![made];
                while made != outermost {
                    made = parent(made);
                    all.push(made);
                }
                for made in all.into_iter().rev() {
                    self.nameless.insert(made);
                    self.at_clock(made);
                }
                self.touch(parent(outermost));
            }
            Found::Opened => self.touch(above),
        }
        Ok(())
    }

    /// Notes that a directory of the tree below changes, which gives it the time of the clock unless an entry says else.
    fn touch(&mut self, path: &[u8]) {
        if self.options.on_disk == OnDisk::Tree && !self.ours.contains(path) {
            self.at_clock(path);
        }
    }

    fn at_clock(&mut self, path: &[u8]) {
        self.times.push((path.to_vec(), self.clock()));
    }

    fn clock(&self) -> Timestamps {
        clock_times(self.options.clock)
    }

    fn owned_from_start(&self, header: &Header) -> bool {
        self.root && self.parents.plain_groups() && (header.uid, header.gid) == (0, 0)
    }

    /// Makes something that must not exist, having removed what has its name.
    fn make<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(std::os::fd::BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T> {
        let mut result = make(self.parents.fd(), base(path));
        if matches!(result, Err(Errno::EXIST)) {
            self.remove(path)?;
            result = make(self.parents.fd(), base(path));
        }
        result.map_err(allowed)
    }

    fn old(&self, path: &[u8]) -> Result<Old> {
        let stat = at::stat(self.parents.fd(), base(path)).map_err(allowed)?;
        Ok(match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None => Old::Nothing,
            Some(FileType::Directory) => Old::Directory,
            Some(FileType::RegularFile) => Old::File,
            Some(_) => Old::Other,
        })
    }

    /// Removes what is at the path; the parent is open before and after.
    fn remove(&mut self, path: &[u8]) -> Result<()> {
        // Some files may be on their way into it.
        self.files.settle();
        if matches!(self.old(path)?, Old::File) {
            return at::remove_file(self.parents.fd(), base(path)).map_err(allowed);
        }
        open_held(self.into, parent(path))?.remove_all(base(path))?;
        self.parents.forget();
        self.open_parent(path).map_err(allowed)
    }
}

/// Opens a directory below as after chroot, for the calls of [`Dir`].
fn open_held(into: &Dir, path: &[u8]) -> Result<Dir> {
    let dir = at::open_in_root(into.as_fd(), path).map_err(allowed)?;
    let dir = at::open_dir(dir.as_fd(), b".").map_err(allowed)?;
    Ok(Dir::from_fd(dir, into.path_of(path)))
}
