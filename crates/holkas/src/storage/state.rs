//! Records under their lock: read, replaced as a whole, and announced to whoever has them in memory.

use std::fs::{File, FileTimes};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime};

use sha2::Digest as _;

use super::records::{self, Record};
use crate::error::{Context, Result};
use crate::fs::lock::{Kind, Lock};
use crate::fs::{Dir, display};
use crate::limits::STORE_RECORDS;

/// The records of one JSON file, and the lock that holds them still.
#[derive(Debug)]
pub struct Locked<R> {
    dir: Dir,
    // `None`: a reader found no lock file, as in a store that nobody ever opened.
    lock: Option<Lock>,
    /// The records as they were read, or last replaced.
    pub records: Vec<R>,
}

impl<R: Record> Locked<R> {
    /// Waits for the lock in `dir` (such as `overlay-layers`) and reads the records.
    ///
    /// An exclusive lock makes the lock file if it is missing. A shared one does without, and needs no right to write.
    pub fn open(dir: &Dir, kind: Kind) -> Result<Self> {
        let file = match kind {
            Kind::Exclusive => Some(dir.open_for_update(R::LOCK, 0o644)?),
            Kind::Shared => dir.open_file(R::LOCK)?,
        };
        let lock = match file {
            Some(file) => {
                Some(Lock::wait(file, kind).context(|| format!("locking `{}`", display(&dir.path_of(R::LOCK))))?)
            }
            None => None,
        };
        let bytes = dir.read(R::JSON, STORE_RECORDS)?.unwrap_or_default();
        let records =
            records::parse(&bytes).context(|| format!("reading records of store `{}`", display(dir.path())))?;
        Ok(Self { dir: dir.reopen()?, lock, records })
    }

    /// Returns the record of an ID.
    pub fn find(&self, id: &str) -> Option<&R> {
        self.records.iter().find(|record| record.id() == id)
    }

    /// Returns the directory that the records are in.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Replaces all records: first the token in the lock file, which makes others read again, then the JSON, atomically.
    ///
    /// The token is the SHA-512 of the JSON, so that the same records leave the same store.
    /// `clock`, in seconds since 1970, becomes the modification time of both files.
    ///
    /// # Panics
    ///
    /// If the lock is not exclusive.
    pub fn replace(&mut self, records: Vec<R>, clock: Option<i64>) -> Result<()> {
        let lock = self.lock.as_ref().expect("an exclusive lock has a file");
        let bytes = records::encode(&records);
        let frame = || format!("replacing `{}`", display(&self.dir.path_of(R::JSON)));
        let token: [u8; 64] = sha2::Sha512::digest(&bytes).into();
        lock.file().write_all_at(&token, 0).context(|| format!("writing `{}`", display(&self.dir.path_of(R::LOCK))))?;
        set_time(lock.file(), clock).context(frame)?;
        let mut file = self.dir.stage(0o600)?;
        file.write_all(&bytes).context(frame)?;
        set_time(file.file(), clock).context(frame)?;
        file.finish(R::JSON)?;
        self.dir.sync()?;
        self.records = records;
        Ok(())
    }
}

fn set_time(file: &File, clock: Option<i64>) -> std::io::Result<()> {
    let Some(seconds) = clock else { return Ok(()) };
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    match time {
        Some(time) => file.set_times(FileTimes::new().set_modified(time).set_accessed(time)),
        None => {
            Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the time is beyond what the system can hold"))
        }
    }
}
