//! A directory inside an OS tree, made with its parents if need be, and taken back if nothing came of it.
//!
//! Symlinks are resolved as the OS itself would after booting: inside the tree, never out of it.

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;

use super::{Dir, display, path_of, times};
use crate::error::{Context, Error, Result};

/// A directory beneath another. Dropped without [`Beneath::keep`], what was made for it is removed again.
#[derive(Debug)]
pub struct Beneath {
    dir: Dir,
    /// What was made: each parent with the name below it, outermost first.
    made: Vec<(Dir, Vec<u8>)>,
    /// The times that the directory had in which the first of them was made.
    before: Option<Timestamps>,
    /// The times that the directory itself had; `None` once it is kept.
    own: Option<Timestamps>,
}

fn times_of(dir: &Dir) -> Result<Timestamps> {
    Ok(times::of(&rustix::fs::fstat(dir)?))
}

impl Beneath {
    /// Opens `path` (absolute or relative, `/` being `root`), making missing directories with this mode.
    pub fn create(root: &Dir, path: &std::path::Path, mode: u32) -> Result<Self> {
        let mut beneath = Self { dir: root.reopen()?, made: Vec::new(), before: None, own: None };
        let frame = || format!("opening directory `{}` beneath `{}`", display(path), display(root.path()));
        let mut relative: Vec<u8> = Vec::new();
        for part in path.components() {
            use std::path::Component;
            let name = match part {
                Component::Normal(name) => std::os::unix::ffi::OsStrExt::as_bytes(name),
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Error::invalid("the path has a `..` in it")).context(frame);
                }
            };
            if !relative.is_empty() {
                relative.push(b'/');
            }
            relative.extend_from_slice(name);
            beneath.step(root, &relative, name, mode).context(frame)?;
        }
        beneath.own = Some(times_of(&beneath.dir).context(frame)?);
        Ok(beneath)
    }

    fn step(&mut self, root: &Dir, relative: &[u8], name: &[u8], mode: u32) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Resolved from the root each time: an absolute symlink means the tree's own root.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let next = match rustix::fs::openat2(root, path_of(relative), flags, Mode::empty(), resolve) {
            Ok(fd) => Dir { fd, path: root.path_of(relative) },
            Err(Errno::NOENT) => {
                if self.dir.read_link(name)?.is_some() {
                    let link = self.dir.path_of(name);
                    return Err(Error::invalid(format!("`{}` is a dangling symlink", display(&link))));
                }
                let before = times_of(&self.dir)?;
                let (dir, missing) = self.dir.make_missing(name, mode)?;
                // What another process made at the same moment is not ours to take back.
                if missing {
                    if self.made.is_empty() {
                        self.before = Some(before);
                    }
                    self.made.push((self.dir.reopen()?, name.to_vec()));
                }
                dir
            }
            Err(error) => return Err(error.into()),
        };
        self.dir = next;
        Ok(())
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Keeps what was made. The new directories get the time `seconds`, and the one that they were made in
    /// gets back its own, so that the same input leaves the same tree.
    pub fn keep(mut self, seconds: i64) -> Result<()> {
        self.own = None;
        for (parent, name) in std::mem::take(&mut self.made).iter().rev() {
            times::set(parent, name, seconds)?;
            parent.sync()?;
            if let (Some(before), true) = (&self.before, parent.path().as_os_str() != self.dir.path().as_os_str()) {
                rustix::fs::futimens(parent, before)?;
            }
        }
        Ok(())
    }
}

impl Drop for Beneath {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _cosmetic = rustix::fs::futimens(&self.dir, own);
        }
        for (parent, name) in self.made.iter().rev() {
            // Not empty, or gone: then somebody else uses it by now.
            let _in_use = rustix::fs::unlinkat(parent, path_of(name), AtFlags::REMOVEDIR);
        }
        if let (Some(before), Some((parent, _))) = (&self.before, self.made.first()) {
            let _cosmetic = rustix::fs::futimens(parent, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn those_that_make_one_directory_at_once_all_have_it() {
        for _ in 0..50 {
            let temp = tempfile::tempdir().expect("a temporary directory");
            let root = Dir::open(temp.path()).expect("it is there");
            let path = Path::new("/var/lib/containers/storage");
            std::thread::scope(|scope| {
                let make = || Beneath::create(&root, path, 0o755).and_then(|beneath| beneath.keep(0));
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                for thread in threads {
                    thread.join().expect("it does not panic").expect("it is made, or found");
                }
            });
            assert!(root.sub_if_exists("var/lib/containers/storage").expect("it can be opened").is_some());
        }
    }
}
