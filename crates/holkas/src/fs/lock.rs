//! Record locks (`fcntl`), which podman and skopeo see; `flock` they do not.
//!
//! Open file description locks conflict with the classic POSIX locks of containers-storage,
//! but belong to the descriptor: closing another descriptor of the file does not drop them.
#![allow(unsafe_code, reason = "fcntl(F_OFD_SETLK) has no safe wrapper in rustix 1.1")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::error::{Context, Error, ErrorKind, Result};

/// What a lock keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writers.
    Shared,
    /// Everybody else.
    Exclusive,
}

/// A lock on a whole file, held until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock. `file` must be open for writing for an exclusive one.
    pub fn wait(file: File, kind: Kind) -> Result<Self> {
        loop {
            match set(&file, kind, libc::F_OFD_SETLKW) {
                Ok(()) => return Ok(Self { file }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(|| "waiting for a lock"),
            }
        }
    }

    /// Takes the lock if nobody else holds it, else returns an error of kind `Busy`.
    pub fn attempt(file: File, kind: Kind) -> Result<Self> {
        match set(&file, kind, libc::F_OFD_SETLK) {
            Ok(()) => Ok(Self { file }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                Err(Error::new(ErrorKind::Busy, "somebody else holds the lock"))
            }
            Err(error) => Err(error).context(|| "taking a lock"),
        }
    }

    /// Returns the locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn set(file: &File, kind: Kind, command: libc::c_int) -> io::Result<()> {
    let l_type = match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    };
    // SAFETY: `flock` is plain data for which zero is valid; the pointer lives through the call,
    // and the descriptor is owned by `file`.
    let result = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = l_type as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        libc::fcntl(file.as_raw_fd(), command, &raw mut lock)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
