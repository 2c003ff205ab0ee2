//! Paths that shall not come into a tree, with all below them.

use std::collections::HashSet;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::super::attributes::allowed;
use super::super::{base, parent};
use super::view::{Key, Keys};
use crate::error::{Context, Error, Result, printable};
use crate::fs::{Dir, at, times};
use crate::limits::PATH;

/// An absolute path of an image's tree that shall not be written, nor anything below it.
///
/// If a symlink of the tree is on the way, what it leads to below the root is meant.
/// Several paths count together, in no order: one that another covers adds nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExcludedPath(Vec<u8>);

impl ExcludedPath {
    /// Reads a path such as `/usr/share/doc`.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is not absolute, is `/` itself, is too long for any file, or has a `..` or a NUL in it.
    pub fn parse(path: &[u8]) -> Result<Self> {
        let refuse = |why: &str| {
            Err(Error::invalid(why)
                .context(format!("excluding `{}`", printable(path)))
                .hint("name the path as the image has it, from its root on, such as /usr/share/doc"))
        };
        let mut clean = Vec::new();
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return refuse("there is a `..` in the path"),
                _ => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(component);
                }
            }
        }
        match path {
            _ if path.contains(&0) => refuse("there is a NUL in the path"),
            _ if path.first() != Some(&b'/') => refuse("the path is not absolute"),
            _ if path.len() >= PATH => refuse("the path is too long"),
            _ if clean.is_empty() => refuse("that is the whole image"),
            _ => Ok(Self(clean)),
        }
    }

    /// Returns the path without the `/` that it begins with.
    pub(super) fn relative(&self) -> &[u8] {
        &self.0
    }

    /// Removes what the path leads to in a tree that is there, as after chroot, if anything.
    ///
    /// The directory that it is removed from keeps its times.
    pub fn remove_from(&self, tree: &Dir) -> Result<()> {
        self.remove(tree).context(|| format!("excluding `/{}`", printable(&self.0)))
    }

    fn remove(&self, tree: &Dir) -> Result<()> {
        let dir = match at::open_in_root(tree.as_fd(), parent(&self.0)) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(allowed(error)),
        };
        if at::stat(dir.as_fd(), base(&self.0)).map_err(allowed)?.is_none() {
            return Ok(());
        }
        let dir = Dir::from_fd(at::open_dir(dir.as_fd(), b".").map_err(allowed)?, tree.path_of(parent(&self.0)));
        let before = times::of(&rustix::fs::fstat(&dir)?);
        dir.remove_all(base(&self.0))?;
        at::fd_set_times(&dir, &before).map_err(allowed)
    }
}

/// The excluded paths of a tree.
#[derive(Debug)]
pub(super) struct Excluded {
    pub(super) paths: Vec<ExcludedPath>,
    keys: HashSet<Key>,
}

impl Excluded {
    pub(super) fn new(paths: Vec<ExcludedPath>, keys: &Keys) -> Self {
        let keys = paths.iter().map(|path| keys.of(path.relative())).collect();
        Self { paths, keys }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_below_the_root_are_taken() {
        for (path, clean) in
            [("/usr/share/doc", "usr/share/doc"), ("//usr/./share//doc/", "usr/share/doc"), ("/...", "...")]
        {
            assert_eq!(ExcludedPath::parse(path.as_bytes()).expect("it is one").relative(), clean.as_bytes());
        }
        for (path, why) in [
            ("/", "whole image"),
            ("/.//", "whole image"),
            ("", "not absolute"),
            ("usr", "not absolute"),
            ("/usr/../etc", "`..`"),
            ("/..", "`..`"),
            ("/a\0b", "NUL"),
        ] {
            let error = ExcludedPath::parse(path.as_bytes()).expect_err(path).to_string();
            assert!(error.contains(why), "{error}");
        }
        ExcludedPath::parse(&[b"/".as_slice(), &[b'x'; PATH]].concat()).expect_err("it is too long");
    }
}
