//! Hard links, whose target or own name may be hidden while the other is not.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::super::super::attributes::{allowed, link_frame, no_target, set_link_attributes};
use super::super::super::tar::Header;
use super::super::super::{Privilege, base, clean, parent};
use super::super::view::{Key, Lost, Missing, Place, staged_name};
use super::{LayerTree, read_link};
use crate::error::{Context, Error, Result};
use crate::fs::at;

impl LayerTree<'_, '_> {
    pub(super) fn put_hard_link(&mut self, header: &Header) -> Result<()> {
        let mut target = Vec::new();
        clean(&header.link, &mut target).context(|| link_frame(header))?;
        self.files.settle();
        let seen = self.claim()?;
        self.link(header, seen, &target).context(|| link_frame(header))
    }

    fn link(&mut self, header: &Header, seen: bool, target: &[u8]) -> Result<()> {
        let tree = self.tree;
        let read = |path: &[u8], key: &Key, place| read_link(tree, path, key, place);
        let above = self.view.resolve(parent(target), Missing::Lost, &read).map_err(|lost| match lost {
            Lost::Missing | Lost::NotDirectory => no_target(Errno::NOENT),
            lost => lost.into(),
        })?;
        let real = if above.is_empty() { base(target).to_vec() } else { [&above, &b"/"[..], base(target)].concat() };
        let from = tree.keys.of(&real);
        let there = match self.view.at(&from) {
            None => return Err(no_target(Errno::NOENT)),
            Some(_) if target.is_empty() || real == self.real => return Err(no_target(Errno::NOENT)),
            Some(place) if place.kind() == Place::DIRECTORY => return Err(no_target(Errno::ISDIR)),
            Some(place) if place.kind() == Place::WHITEOUT => {
                return Err(Error::refused("the target is removed by the layer"));
            }
            Some(place) => place,
        };
        let (staging, staged) = (&tree.staging.0, staged_name(&self.key));
        if there.is(Place::MADE) {
            let dir = at::open_plain(tree.into.as_fd(), &above).map_err(no_target)?;
            self.make_link(seen, &staged, dir.as_fd(), base(target))?;
        } else if there.is(Place::STAGED) {
            self.make_link(seen, &staged, staging.as_fd(), staged_name(&from).as_bytes())?;
        } else {
            return self.want(seen, from);
        }
        self.view.put(self.key, there.kind().with(if seen { Place::MADE } else { Place::STAGED }))?;
        let (dir, name) = self.place(seen, &staged);
        set_link_attributes(dir, name, header, Privilege::Root)?;
        if self.again.is_some_and(|wanted| wanted.links.contains(&self.key)) {
            let dir = at::open_plain(tree.into.as_fd(), &self.real_parent).map_err(allowed)?;
            at::remove_file(dir.as_fd(), base(&self.real)).or_else(absent).map_err(allowed)?;
            at::make_hard_link(staging.as_fd(), staged.as_bytes(), dir.as_fd(), base(&self.real)).map_err(allowed)?;
        }
        Ok(())
    }

    fn make_link(&self, seen: bool, staged: &str, from_dir: BorrowedFd<'_>, from: &[u8]) -> Result<()> {
        let (dir, name) = self.place(seen, staged);
        at::make_hard_link(from_dir, from, dir, name).map_err(no_target)
    }

    /// Notes a link to contents that were not kept.
    fn want(&mut self, seen: bool, from: Key) -> Result<()> {
        self.view.put(self.key, Place::FILE)?;
        if self.again.is_none() {
            let wanted = &mut self.pending.wanted;
            let contents = wanted.contents_of.get(&from).copied().unwrap_or(from);
            wanted.contents_of.insert(self.key, contents);
            if seen {
                wanted.contents.insert(contents);
                wanted.links.insert(self.key);
            }
        }
        Ok(())
    }
}

fn absent(error: Errno) -> Result<(), Errno> {
    if error == Errno::NOENT { Ok(()) } else { Err(error) }
}
