//! A directory under an `.unverified-*` name that its writer holds locked: what a dead writer left is swept by the next.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::lock::{Kind, Lock};
use super::{Dir, UNVERIFIED, at};
use crate::error::{Context, ErrorKind, Result};

/// The file inside a staging directory that its owner holds locked.
const LOCK: &str = "lock";

/// A directory for work in progress. Dropped, it is removed with all that is left in it.
#[derive(Debug)]
pub struct Staging {
    parent: Dir,
    name: String,
    dir: Dir,
    _lock: Lock,
}

impl Staging {
    /// Makes a staging directory in `parent`, from which it sweeps what dead writers left.
    pub fn create(parent: &Dir) -> Result<Self> {
        sweep(parent)?;
        for n in 0_u64.. {
            let name = format!("{UNVERIFIED}{}-{n}", std::process::id());
            if parent.exists(&name)? {
                continue;
            }
            // A sweeper may be quicker than we are, here and below; then we begin again with another name.
            let dir = match parent.make(&name, 0o700) {
                Ok(dir) => dir,
                Err(_) if !parent.exists(&name)? => continue,
                Err(error) => return Err(error),
            };
            let Some(file) = lock_file(&dir)? else { continue };
            let lock = Lock::wait(file, Kind::Exclusive)?;
            if rustix::fs::fstat(lock.file()).context(|| "looking at a lock")?.st_nlink > 0 {
                return Ok(Self { parent: parent.reopen()?, name, dir, _lock: lock });
            }
        }
        unreachable!("a process does not make 2^64 directories")
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Returns the directory that it is in: a rename between the two never crosses a mount.
    pub fn parent(&self) -> &Dir {
        &self.parent
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // An error here leaves an `.unverified-*` directory, which the next writer sweeps.
        let _swept_later = self.parent.remove_all(&self.name);
    }
}

/// Opens the lock of a staging directory; `None` if the directory was removed meanwhile.
fn lock_file(dir: &Dir) -> Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(dir, LOCK, flags, Mode::from_raw_mode(0o600)) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).context(|| format!("opening `{}`", super::display(&dir.path_of(LOCK)))),
    }
}

/// Removes what dead writers left in `parent`: staging directories that nobody holds. Returns whether there were any.
///
/// What belongs to somebody else, in a directory that many share, is left alone.
pub fn sweep(parent: &Dir) -> Result<bool> {
    let mut swept = false;
    for name in parent.entries()? {
        if !name.as_bytes().starts_with(UNVERIFIED.as_bytes()) {
            continue;
        }
        let dir = match at::open_dir(parent.as_fd(), name.as_bytes()) {
            Ok(dir) => Dir::from_fd(dir, parent.path_of(name.as_bytes())),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => continue,
            Err(error) => {
                return Err(error)
                    .context(|| format!("opening `{}`", super::display(&parent.path_of(name.as_bytes()))));
            }
        };
        let file = match lock_file(&dir) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::Forbidden => continue,
            Err(error) => return Err(error),
        };
        match Lock::attempt(file, Kind::Exclusive) {
            Ok(_dead) => {
                parent.remove_all(name.as_bytes())?;
                swept = true;
            }
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

/// Removes staged files that dead writers left in `parent`.
///
/// The caller holds the lock that every writer of staged files in `parent` takes.
pub fn sweep_files(parent: &Dir) -> Result<()> {
    for name in parent.entries()? {
        if name.as_bytes().starts_with(UNVERIFIED.as_bytes()) && parent.sub_if_exists(name.as_bytes())?.is_none() {
            parent.remove_file(name.as_bytes())?;
        }
    }
    Ok(())
}
