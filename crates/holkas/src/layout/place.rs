//! Where on disk a room is to be: what a path that the user named points at, and its names for policies.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::fs::{Dir, display};
use crate::reference::{LayoutReference, LayoutSelect};

/// A path split into its parent, which exists, and a name in it.
#[derive(Debug)]
pub(crate) struct Place {
    /// The parent.
    pub(crate) parent: Dir,
    /// The name below it.
    pub(crate) name: Vec<u8>,
}

impl Place {
    /// Finds the place of something that need not exist. A symlink at the end is followed if it leads to something.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let frame = || format!("finding a place for `{}`", display(path));
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let Some(name) = real.file_name() else {
            return Err(Error::invalid("the path has no last part to be named by")).context(frame);
        };
        let parent = match real.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self { parent: Dir::open(parent).context(frame)?, name: name.as_bytes().to_vec() })
    }

    /// Returns the path, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.parent.path_of(&self.name)
    }

    /// Refuses anything that is there but a regular file, which can be replaced.
    pub(crate) fn refuse_all_but_a_file(&self) -> Result<()> {
        let there = self.parent.exists(&self.name)?;
        match there && !matches!(self.parent.open_file_itself(&self.name), Ok(Some(_))) {
            true => Err(Error::refused("it is there, and is not a regular file")),
            false => Ok(()),
        }
    }

    /// Returns what stands for the place in messages of a layout.
    pub(crate) fn layout_reference(&self) -> LayoutReference {
        LayoutReference { path: self.path(), select: LayoutSelect::Only }
    }
}

/// Returns the scopes of a path in a policy: the path without symlinks, and its parents up to but not with `/`.
pub(crate) fn scopes(path: &Path) -> Vec<String> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    real.ancestors()
        .filter(|p| p.parent().is_some() && !p.as_os_str().is_empty())
        .map(|p| p.to_string_lossy().into_owned())
        .collect()
}
