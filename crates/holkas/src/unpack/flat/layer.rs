//! One layer, entry by entry, put below the upper ones.

mod links;

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Stat, Timestamps};
use rustix::io::Errno;

use super::super::attributes::{
    Attributes, allowed, clock_times, make_node, node_kind, own_fd, refuse_overlays_own, set_node_attributes,
    set_xattrs, times,
};
use super::super::files::{Files, SMALL};
use super::super::parents::Parents;
use super::super::{OPAQUE, Privilege, WHITEOUT, after, base, clean, hidden_by, parent};
use super::view::{Key, Lost, Missing, Place, View, staged_name};
use super::{DEFAULT_LIST, FlatTree, Pending, Wanted};
use crate::error::{Context, Error, Result, printable};
use crate::fs::{self, Dir, at};
use crate::limits::{ACCESS_LISTS, IMAGE_WHITEOUTS, LAYER_ENTRIES};
use crate::tar::{Header, Kind, Reader};

/// A layer on its way into the tree.
pub(super) struct LayerTree<'m, 'd> {
    tree: &'m FlatTree<'d>,
    /// The second time: nothing but the links that want contents comes into the tree.
    again: Option<&'m Wanted>,
    view: View,
    parents: Parents<'m>,
    files: Files,
    entries: u64,
    /// Names that entries bear, but that are no places: those of whiteouts, and those that lead through symlinks.
    names: HashSet<Key>,
    /// The directory of the last entry, as it was named, if it is still the same.
    named_parent: Option<Vec<u8>>,
    /// The same, as the layer has it.
    real_parent: Vec<u8>,
    /// Whether it is in the tree.
    parent_is_seen: bool,
    /// Whether nothing of upper layers is in it.
    parent_is_ours: bool,
    /// Where the last entry goes, as the layer has it.
    real: Vec<u8>,
    key: Key,
    closing: HashSet<Key>,
    pending: Pending,
    /// The length of all access lists in `pending`.
    list_bytes: u64,
    /// What we make belongs to 0:0 from the start, unless a directory hands its group down.
    root: bool,
}

impl<'m, 'd> LayerTree<'m, 'd> {
    pub(super) fn new(tree: &'m FlatTree<'d>, again: Option<&'m Wanted>) -> Result<Self> {
        let root = rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
        Ok(Self {
            tree,
            again,
            view: View::new(tree.keys.clone()),
            parents: Parents::new(tree.into.as_fd()).map_err(Error::from)?,
            files: Files::new(),
            entries: 0,
            names: HashSet::new(),
            named_parent: None,
            real_parent: Vec::new(),
            parent_is_seen: false,
            parent_is_ours: false,
            real: Vec::new(),
            key: Key::default(),
            closing: HashSet::new(),
            pending: Pending::default(),
            list_bytes: 0,
            root,
        })
    }

    /// Puts all entries, and returns what is left to do, and the places that are closed to the layers below.
    pub(super) fn put_all(mut self, reader: &mut Reader<'_, '_>) -> Result<(Pending, HashSet<Key>)> {
        let result = self.put_each(reader);
        self.files.end(result)?;
        Ok((self.pending, self.closing))
    }

    fn put_each(&mut self, reader: &mut Reader<'_, '_>) -> Result<()> {
        let mut header = Header::new();
        let mut path = Vec::new();
        while reader.next(&mut header).context(|| after(&header, self.entries))? {
            let frame = || format!("unpacking `{}`", printable(&header.name));
            self.entries += 1;
            if self.entries > LAYER_ENTRIES {
                return Err(Error::invalid(format!("the layer has more than {LAYER_ENTRIES} entries")));
            }
            clean(&header.name, &mut path).context(frame)?;
            self.put(&header, &path, reader).context(frame)?;
        }
        Ok(())
    }

    fn put(&mut self, header: &Header, path: &[u8], reader: &mut Reader<'_, '_>) -> Result<()> {
        ACCESS_LISTS.check(self.list_bytes)?;
        self.refuse_second(header, path)?;
        if header.kind == Kind::Global {
            return Ok(());
        }
        refuse_overlays_own(header)?;
        if path.is_empty() {
            // A store makes the root itself, and passes over the layer's.
            return match header.kind {
                Kind::Directory => Ok(()),
                _ => Err(Error::refused("the root of the layer is not a directory")),
            };
        }
        if base(path).starts_with(WHITEOUT) {
            return self.put_whiteout(header, path);
        }
        self.enter(parent(path))?;
        self.go_to(base(path));
        match header.kind {
            Kind::Directory => self.put_dir(header),
            Kind::Regular => self.put_file(header, reader),
            Kind::HardLink => self.put_hard_link(header),
            _ => self.put_node(header),
        }?;
        if self.real == path {
            self.view.mark(&self.key, Place::NAMED);
        } else {
            self.names.insert(self.tree.keys.of(path));
        }
        Ok(())
    }

    /// Refuses an entry whose name another has had.
    fn refuse_second(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        let key = self.tree.keys.of(path);
        let is_place = !path.is_empty() && header.kind != Kind::Global && !base(path).starts_with(WHITEOUT);
        let second = self.names.contains(&key) || self.view.at(&key).is_some_and(|place| place.is(Place::NAMED));
        if second {
            return Err(Error::invalid(
                "two entries of the layer have this name, so no store could give the layer back",
            ));
        }
        if !is_place {
            self.names.insert(key);
        }
        Ok(())
    }

    /// Finds the directory of an entry, and opens it in the tree, making what is missing, if it can be seen there.
    fn enter(&mut self, named: &[u8]) -> Result<(), Lost> {
        if self.named_parent.as_deref() != Some(named) {
            let tree = self.tree;
            let read = |path: &[u8], key: &Key, place| read_link(tree, path, key, place);
            self.real_parent = self.view.resolve(named, Missing::Implied, &read)?;
            self.parent_is_seen = self.again.is_none() && !self.is_closed_above()?;
            let mut buffer = self.named_parent.take().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(named);
            self.named_parent = Some(buffer);
        }
        if self.parent_is_seen {
            let real = std::mem::take(&mut self.real_parent);
            let opened = self.open(&real);
            self.parent_is_ours = match real.is_empty() {
                true => self.tree.top,
                false => self.place_of(&real).is_some_and(|place| place.is(Place::MADE)),
            };
            self.real_parent = real;
            match opened {
                Ok(()) => {}
                // An upper layer has something else on the way.
                Err(Errno::NOTDIR | Errno::LOOP) => self.parent_is_seen = false,
                Err(error) => return Err(Lost::System(error)),
            }
        }
        Ok(())
    }

    /// Says which name of the directory that was entered comes next.
    fn go_to(&mut self, name: &[u8]) {
        self.real.clear();
        self.real.extend_from_slice(&self.real_parent);
        if !self.real.is_empty() {
            self.real.push(b'/');
        }
        self.real.extend_from_slice(name);
        self.key = self.tree.keys.of(&self.real);
    }

    fn place_of(&self, path: &[u8]) -> Option<Place> {
        self.view.at(&self.tree.keys.of(path))
    }

    /// Returns whether a path is excluded, or what upper layers have marked lets nothing be seen there.
    fn is_closed(&self, key: &Key) -> bool {
        self.tree.closed.contains(key) || self.tree.excluded.contains(key)
    }

    /// Returns whether this holds for the directory that is entered, or for one that leads to it.
    ///
    /// What leads to one that is excluded is not, and comes into the tree.
    fn is_closed_above(&mut self) -> Result<bool, Lost> {
        if self.tree.closed.is_empty() && self.tree.excluded.is_empty() {
            return Ok(false);
        }
        let path = std::mem::take(&mut self.real_parent);
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let closed = slashes.chain([path.len()]).find(|end| self.is_closed(&self.tree.keys.of(&path[..*end])));
        let mut opened = Ok(());
        if let Some(end) = closed
            && self.tree.excluded.contains(&self.tree.keys.of(&path[..end]))
        {
            opened = self.open(parent(&path[..end]));
        }
        self.real_parent = path;
        match opened {
            Ok(()) | Err(Errno::NOTDIR | Errno::LOOP) => Ok(closed.is_some()),
            Err(error) => Err(Lost::System(error)),
        }
    }

    /// Opens a directory of the tree by a path without symlinks, making what is missing.
    fn open(&mut self, path: &[u8]) -> Result<(), Errno> {
        if self.parents.known(path) {
            return Ok(());
        }
        match at::open_plain(self.tree.into.as_fd(), path) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)?;
                self.parents.look(&stat);
                self.note(path, &fd, &stat)?;
                self.parents.keep(path, fd);
                Ok(())
            }
            Err(Errno::NOENT) if !path.is_empty() => {
                self.open(parent(path))?;
                self.parents.make(path)?;
                self.view.mark(&self.tree.keys.of(path), Place::MADE);
                self.pending.times.push((path.to_vec(), self.clock()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Notes the times of an upper layer's directory before anything is put into it, and has it hand nothing down.
    fn note(&mut self, path: &[u8], fd: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
        let key = self.tree.keys.of(path);
        let known = self.view.at(&key).is_none_or(|place| place.is(Place::MADE) || place.is(Place::NOTED));
        if !known {
            self.view.mark(&key, Place::NOTED);
            self.pending.times.push((path.to_vec(), fs::times::of(stat)));
            if let Some(list) = at::take_xattr(fd.as_fd(), DEFAULT_LIST)? {
                self.list_bytes += list.len() as u64;
                self.pending.lists.push((path.to_vec(), list));
            }
        }
        Ok(())
    }

    fn clock(&self) -> Timestamps {
        clock_times(self.tree.clock)
    }

    fn owned_from_start(&self, header: &Header) -> bool {
        self.root && self.parents.plain_groups() && (header.uid, header.gid) == (0, 0)
    }

    /// Decides whether what is no directory comes into the tree. Nothing of its name is in it then.
    fn claim(&mut self) -> Result<bool> {
        if let Some(old) = self.view.at(&self.key) {
            self.take_back(old)?;
        }
        if !self.parent_is_seen || self.is_closed(&self.key) {
            return Ok(false);
        }
        if self.parent_is_ours {
            return Ok(true);
        }
        match at::stat(self.parents.fd(), base(&self.real)).map_err(allowed)? {
            None => Ok(true),
            Some(stat) => {
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    // Of the layers below, their directories are hidden by this.
                    self.close()?;
                }
                Ok(false)
            }
        }
    }

    /// Hides what layers below have at this place.
    fn close(&mut self) -> Result<()> {
        if !self.tree.closed.contains(&self.key) {
            self.closing.insert(self.key);
        }
        if self.closing.len() + self.tree.closed.len() > IMAGE_WHITEOUTS {
            return Err(Error::invalid(format!("the image removes more than {IMAGE_WHITEOUTS} paths of lower layers")));
        }
        Ok(())
    }

    /// Takes away what this layer has put at a place that it now uses for something else.
    fn take_back(&mut self, old: Place) -> Result<()> {
        let name = base(&self.real);
        if old.kind() == Place::DIRECTORY {
            if !self.pending.wanted.links.is_empty() {
                return Err(Error::unsupported("the layer replaces a directory after hard links to hidden files"));
            }
            self.view.replace_directory(self.key);
        }
        if old.is(Place::MADE) {
            // Some files may be on their way into it.
            self.files.settle();
            open_held(self.tree.into, &self.real_parent)?.remove_all(name)?;
        } else if old.is(Place::STAGED) {
            self.tree.staging.0.remove_file(staged_name(&self.key))?;
        } else if old.kind() == Place::DIRECTORY && self.parent_is_seen {
            self.files.settle();
            // Else an upper layer has something else here, which has hidden it.
            if at::open_plain(self.tree.into.as_fd(), &self.real).is_ok() {
                self.take_back_all(&open_held(self.tree.into, &self.real)?, &self.real)?;
            }
        }
        self.closing.remove(&self.key);
        self.pending.wanted.links.remove(&self.key);
        self.pending.wanted.contents_of.remove(&self.key);
        if old.is(Place::NAMED) {
            self.names.insert(self.key);
        }
        self.view.remove(&self.key);
        let (tree, named) = (self.tree, self.named_parent.take().unwrap_or_default());
        let read = |path: &[u8], key: &Key, place| read_link(tree, path, key, place);
        if self.view.resolve(&named, Missing::Lost, &read).as_deref() != Ok(&self.real_parent) {
            return Err(Error::invalid("its name leads through what it would replace"));
        }
        self.parents.forget();
        if self.parent_is_seen {
            let real = std::mem::take(&mut self.real_parent);
            let opened = self.open(&real);
            self.real_parent = real;
            opened.map_err(allowed)?;
        }
        Ok(())
    }

    /// Takes away what this layer has put below a directory of an upper one.
    fn take_back_all(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        for name in dir.entries()? {
            let name = name.as_encoded_bytes();
            let below = [path, b"/", name].concat();
            let stat = at::stat(dir.as_fd(), name).map_err(allowed)?;
            if self.place_of(&below).is_some_and(|place| place.is(Place::MADE)) {
                dir.remove_all(name)?;
            } else if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                self.take_back_all(&dir.sub(name)?, &below)?;
            }
        }
        Ok(())
    }

    fn put_dir(&mut self, header: &Header) -> Result<()> {
        let name = base(&self.real);
        match self.view.at(&self.key) {
            Some(old) if old.kind() == Place::DIRECTORY => {
                if old.is(Place::MADE) && self.parent_is_seen {
                    // What is in it already must not see it change.
                    self.files.settle();
                    let fd = at::open_dir(self.parents.fd(), name).map_err(allowed)?;
                    self.set_dir_attributes(&fd, header, true)?;
                }
                return Ok(());
            }
            Some(old) => self.take_back(old)?,
            None => {}
        }
        self.view.put(self.key, Place::DIRECTORY)?;
        if !self.parent_is_seen || self.is_closed(&self.key) {
            return Ok(());
        }
        let name = base(&self.real);
        match at::make_dir(self.parents.fd(), name) {
            Ok(()) => {}
            // An upper layer has a directory here, which stays as it is, or something else, which hides this.
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(allowed(error)),
        }
        self.view.mark(&self.key, Place::MADE);
        let fd = at::open_dir(self.parents.fd(), name).map_err(allowed)?;
        self.set_dir_attributes(&fd, header, !self.owned_from_start(header))?;
        // What comes next is most likely in it.
        self.parents.keep(&self.real, fd);
        Ok(())
    }

    fn set_dir_attributes(&mut self, fd: &OwnedFd, header: &Header, owner: bool) -> Result<()> {
        if owner {
            own_fd(fd, header.uid, header.gid)?;
        }
        at::fd_chmod(fd, header.mode).map_err(allowed)?;
        set_xattrs(header, Privilege::Root, |key, value| at::fd_set_xattr(fd, key, value))?;
        self.parents.note(header.gid, header.mode);
        self.pending.times.push((self.real.clone(), times(header)));
        Ok(())
    }

    fn put_file(&mut self, header: &Header, reader: &mut Reader<'_, '_>) -> Result<()> {
        if header.name.ends_with(b"/") {
            return Err(Error::invalid("a regular file whose name ends in `/`"));
        }
        if self.claim()? {
            self.view.put(self.key, Place::FILE.with(Place::MADE))?;
            return self.write_file(header, reader);
        }
        if self.again.is_some_and(|wanted| wanted.contents.contains(&self.key)) {
            self.view.put(self.key, Place::FILE.with(Place::STAGED))?;
            let (staging, _) = &self.tree.staging;
            let fd = at::create_file(staging.as_fd(), staged_name(&self.key).as_bytes(), 0o600).map_err(allowed)?;
            return write_contents(fd, header, Some((header.uid, header.gid)), reader);
        }
        // Its contents are read through, and forgotten.
        self.view.put(self.key, Place::FILE)?;
        Ok(())
    }

    fn write_file(&mut self, header: &Header, reader: &mut Reader<'_, '_>) -> Result<()> {
        let owner = (!self.owned_from_start(header)).then_some((header.uid, header.gid));
        if header.size <= SMALL && header.xattrs.is_empty() {
            let attributes = Attributes { owner, mode: header.mode, times: times(header) };
            let place = (self.parents.held(), &header.name[..], base(&self.real));
            return self.files.add(self.entries, place, attributes, |bytes| {
                reader.content(|piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })
            });
        }
        let fd = at::create_file(self.parents.fd(), base(&self.real), header.mode).map_err(allowed)?;
        write_contents(fd, header, owner, reader)
    }

    fn put_node(&mut self, header: &Header) -> Result<()> {
        let kind = node_kind(header)?;
        let place = if kind == FileType::Symlink { Place::SYMLINK } else { Place::FILE };
        let seen = self.claim()?;
        self.view.put(self.key, place.with(if seen { Place::MADE } else { Place::STAGED }))?;
        let staged = staged_name(&self.key);
        let (dir, name) = self.place(seen, &staged);
        make_node(dir, name, kind, header).map_err(allowed)?;
        // Nothing is left out of an image's tree: where it cannot be made, that is an error.
        let owner = !seen || !self.owned_from_start(header);
        set_node_attributes(dir, name, header, owner, Privilege::Root)?;
        if kind == FileType::Symlink {
            // From now on, another path may lead through it.
            self.named_parent = None;
        }
        Ok(())
    }

    /// Returns where the entry is made: in the tree, or hidden.
    fn place<'a>(&'a self, seen: bool, staged: &'a str) -> (BorrowedFd<'a>, &'a [u8]) {
        match seen {
            true => (self.parents.fd(), base(&self.real)),
            false => (self.tree.staging.0.as_fd(), staged.as_bytes()),
        }
    }

    fn put_whiteout(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        let hidden = hidden_by(header, path)?;
        match self.enter(parent(path)) {
            Ok(()) => {}
            // The directory was itself removed: `rm -rf` of a tree is written so by some.
            Err(Lost::NotDirectory) => return Ok(()),
            Err(lost) => return Err(lost.into()),
        }
        if base(path) == OPAQUE {
            self.real.clone_from(&self.real_parent);
            self.key = self.tree.keys.of(&self.real);
            // Overlay merges the roots of all layers, whatever marks they bear.
            return if self.parent_is_seen && !self.real.is_empty() { self.close() } else { Ok(()) };
        }
        self.go_to(hidden);
        if self.view.at(&self.key).is_some() {
            return Err(Error::invalid("the layer both adds this and removes it"));
        }
        self.view.put(self.key, Place::WHITEOUT)?;
        if self.parent_is_seen { self.close() } else { Ok(()) }
    }
}

fn write_contents(fd: OwnedFd, header: &Header, owner: Option<(u32, u32)>, reader: &mut Reader<'_, '_>) -> Result<()> {
    let mut file = File::from(fd);
    reader.content(|piece| file.write_all(piece).map_err(Error::from))?;
    let fd = OwnedFd::from(file);
    Attributes { owner, mode: header.mode, times: times(header) }.set(&fd)?;
    set_xattrs(header, Privilege::Root, |key, value| at::fd_set_xattr(&fd, key, value))
}

/// Reads a symlink of the layer where it is: in the tree, or staged.
fn read_link(tree: &FlatTree<'_>, path: &[u8], key: &Key, place: Place) -> Result<Vec<u8>, Errno> {
    match place.is(Place::MADE) {
        true => at::read_link(at::open_plain(tree.into.as_fd(), parent(path))?.as_fd(), base(path)),
        false => at::read_link(tree.staging.0.as_fd(), staged_name(key).as_bytes()),
    }
}

/// Opens a directory of the tree, for the calls of [`Dir`].
fn open_held(into: &Dir, path: &[u8]) -> Result<Dir> {
    let dir = at::open_plain(into.as_fd(), path).map_err(allowed)?;
    let dir = at::open_dir(dir.as_fd(), b".").map_err(allowed)?;
    Ok(Dir::from_fd(dir, into.path_of(path)))
}
