//! What a user names by a path and is no plain file below a held directory: pipes, private directories, programs.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Dir, display, read_bounded};
use crate::error::{Context, Error, Result};
use crate::limits::Limit;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, which can be read again.
    File,
    /// A pipe: what was read from it is gone.
    Pipe,
}

/// Reads a regular file or a pipe (`/proc/self/fd/N` of a shell's `<(…)`), whole. `None` if it does not exist.
///
/// Devices, sockets and directories are refused. A pipe is read until its writers close it.
pub fn read_file_or_pipe(path: &Path, limit: Limit) -> Result<Option<(Vec<u8>, Kind)>> {
    let frame = || format!("reading `{}`", display(path));
    // Not blocking, or a FIFO without a writer would hold us in `open`.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).context(frame),
    };
    let stat = rustix::fs::fstat(&fd).context(frame)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Fifo => {
            // A writer that is slow is waited for.
            rustix::fs::fcntl_setfl(&fd, OFlags::empty()).context(frame)?;
            Kind::Pipe
        }
        FileType::Directory => return Err(Error::invalid("it is a directory, not a regular file")).context(frame),
        _ => return Err(Error::invalid("it is neither a regular file nor a pipe")).context(frame),
    };
    read_bounded(File::from(fd), limit).context(frame).map(|bytes| Some((bytes, kind)))
}

/// Opens a directory that the user named, making it and its parents, for their owner alone (mode 0700), if missing.
pub fn create_all_private(path: &Path) -> Result<Dir> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.context(|| format!("creating directory `{}`", display(path)))?;
    Dir::open(path)
}

/// Returns the first regular file of this name that may be executed, in these directories.
///
/// Directories that are not absolute are passed over: what is run must not depend on where the user stands.
pub fn find_program(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    let absolute = directories.iter().filter(|dir| dir.is_absolute());
    absolute.map(|dir| dir.join(name)).find(|path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok())
}
