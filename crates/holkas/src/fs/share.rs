//! A file in two directories without its bytes being written twice, where the file system can do that.

use std::fs::File;
use std::io;

use rustix::fs::{AtFlags, FileType};

use super::{Dir, display, path_of};
use crate::error::{Context, Error, Result};

/// Makes the regular file `name` of `from` also the file `new` of `to`, which must not exist.
///
/// Tried in this order: a reflink, a hard link, a copy. Nothing in `from` changes.
pub fn share(from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> Result<()> {
    let frame = || format!("copying `{}` to `{}`", display(&from.path_of(name)), display(&to.path_of(new)));
    let mut source = from.open_file(name)?.ok_or_else(|| Error::not_found("no such file")).context(frame)?;
    let mut staged = to.stage(0o644)?;
    if rustix::fs::ioctl_ficlone(staged.file(), &source).is_ok() {
        return staged.finish(new);
    }
    drop(staged);
    if is_same_file(from, name, &source)
        && rustix::fs::linkat(from, path_of(name), to, path_of(new), AtFlags::empty()).is_ok()
    {
        return Ok(());
    }
    let mut staged = to.stage(0o644)?;
    io::copy(&mut source, staged.file()).context(frame)?;
    staged.finish(new)
}

/// Returns whether the name is the opened file itself and not a symlink to it.
fn is_same_file(dir: &Dir, name: &[u8], file: &File) -> bool {
    let by_name = rustix::fs::statat(dir, path_of(name), AtFlags::SYMLINK_NOFOLLOW);
    match (by_name, rustix::fs::fstat(file)) {
        (Ok(a), Ok(b)) => {
            FileType::from_raw_mode(a.st_mode) == FileType::RegularFile && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        }
        _ => false,
    }
}
