//! A directory under an `.unverified-*` name that its writer holds locked: what a dead writer left is swept by the next.
//!
//! But for its partials, if the next can go on with them: beginnings of blobs, each named by its digest.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::lock::{Kind, Lock};
use super::{Dir, UNVERIFIED, at};
use crate::error::{Context, ErrorKind, Result};

/// The file inside a staging directory that its owner holds locked.
const LOCK: &str = "lock";
/// The directory inside a staging directory for beginnings of blobs.
const PARTIALS: &str = "partials";

/// A directory for work in progress. Dropped, it is removed with all that is left in it.
#[derive(Debug)]
pub struct Staging {
    parent: Dir,
    name: String,
    dir: Dir,
    leaves_partials: AtomicBool,
    _lock: Lock,
}

impl Staging {
    /// Makes a staging directory in `parent`, from which it sweeps what dead writers left.
    pub fn create(parent: &Dir) -> Result<Self> {
        sweep(parent)?;
        Self::make(parent)
    }

    /// As [`Staging::create`], but takes over the partials that dead writers of ours left in `parent`.
    pub fn create_taking_partials(parent: &Dir) -> Result<(Self, Dir)> {
        let staging = Self::make(parent)?;
        let partials = staging.dir.make(PARTIALS, 0o700)?;
        sweep_after(parent, |dead| take_partials(dead, &partials))?;
        Ok((staging, partials))
    }

    fn make(parent: &Dir) -> Result<Self> {
        for n in 0_u64.. {
            let name = format!("{UNVERIFIED}{}-{n}", std::process::id());
            // Another thread of ours, or a process that has our number elsewhere, may be at the same name.
            match rustix::fs::mkdirat(parent, name.as_str(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => {
                    let place = super::display(&parent.path_of(&name));
                    return Err(error).context(|| format!("creating directory `{place}`"));
                }
            }
            // A sweeper may be quicker than we are, here and below; then we begin again with another name.
            // None makes a lock of its own, so that what it removes has none but ours.
            let Some(dir) = parent.sub_if_exists(&name)? else { continue };
            let Some(file) = lock_file(&dir, OFlags::CREATE)? else { continue };
            let lock = match Lock::attempt(file, Kind::Exclusive) {
                Ok(lock) => lock,
                // A sweeper was quicker; or one was before it could be opened, and the name is another writer's by now.
                Err(error) if error.kind() == ErrorKind::Busy => continue,
                Err(error) => return Err(error),
            };
            // One that a sweeper took before we had the lock is not where it was any more.
            if parent.names(&name, &dir) {
                return Ok(Self {
                    parent: parent.reopen()?,
                    name,
                    dir,
                    leaves_partials: AtomicBool::new(false),
                    _lock: lock,
                });
            }
        }
        unreachable!("a process does not make 2^64 directories")
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Says whether partials stay when this is dropped, for the next writer.
    pub fn leave_partials(&self, leave: bool) {
        self.leaves_partials.store(leave, Ordering::Relaxed);
    }

    /// Removes all but the partials; returns whether there are any.
    fn strip(&self) -> Result<bool> {
        if self.dir.sub(PARTIALS)?.entries()?.is_empty() {
            return Ok(false);
        }
        for name in self.dir.entries()?.iter().filter(|name| *name != PARTIALS && *name != LOCK) {
            self.dir.remove_all(name.as_bytes())?;
        }
        Ok(true)
    }

    /// Returns the directory that it is in: a rename between the two never crosses a mount.
    pub fn parent(&self) -> &Dir {
        &self.parent
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.leaves_partials.load(Ordering::Relaxed) && matches!(self.strip(), Ok(true)) {
            return;
        }
        // An error here leaves an `.unverified-*` directory, which the next writer sweeps.
        let _swept_later = remove(&self.parent, self.name.as_bytes(), &self.dir);
    }
}

/// Removes a staging directory, its lock last: a run that is killed meanwhile leaves one that can be swept.
///
/// Once the lock has no name, a sweeper may remove the directory before we do, and another writer take its name.
fn remove(parent: &Dir, name: &[u8], dir: &Dir) -> Result<()> {
    for entry in dir.entries()?.iter().filter(|entry| *entry != LOCK) {
        dir.remove_all(entry.as_bytes())?;
    }
    dir.remove_file(LOCK)?;
    match rustix::fs::unlinkat(parent, super::path_of(name), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(error) => Err(error).context(|| format!("removing `{}`", super::display(&parent.path_of(name)))),
    }
}

/// Opens the lock of a staging directory, making it if `create` says so; `None` if it, or the directory, is not there.
fn lock_file(dir: &Dir, create: OFlags) -> Result<Option<File>> {
    let flags = OFlags::RDWR | create | OFlags::CLOEXEC | OFlags::NOFOLLOW;
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
    sweep_after(parent, |_| Ok(()))
}

/// Moves the partials of a dead writer to where we go on with them.
///
/// Nobody else may have a hand in a file that becomes ours: all must be of our own user, and have one name.
fn take_partials(dead: &Dir, to: &Dir) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let is_ours = |dir: &Dir| -> Result<bool> { Ok(rustix::fs::fstat(dir)?.st_uid == user) };
    let Some(from) = dead.sub_if_exists(PARTIALS)?.filter(|from| dead.names(PARTIALS, from)) else { return Ok(()) };
    if !is_ours(dead)? || !is_ours(&from)? {
        return Ok(());
    }
    for name in from.entries()? {
        let name = name.as_bytes();
        // What is no regular file, or cannot be opened, is no beginning of a blob.
        let Ok(Some(file)) = from.open_file_itself(name) else { continue };
        let found = file.metadata()?;
        let longer = match to.open_file_itself(name)? {
            Some(there) => found.len() > there.metadata()?.len(),
            None => true,
        };
        if found.uid() == user && found.nlink() == 1 && longer {
            from.rename(name, to, name)?;
        }
    }
    Ok(())
}

fn sweep_after(parent: &Dir, before: impl Fn(&Dir) -> Result<()>) -> Result<bool> {
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
        let file = match lock_file(&dir, OFlags::empty()) {
            Ok(Some(file)) => file,
            // Its writer is about to make the lock, or died before; then it is empty, and there is nothing to save.
            Ok(None) => {
                let _not_empty = rustix::fs::unlinkat(parent, super::path_of(name.as_bytes()), AtFlags::REMOVEDIR);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Forbidden => continue,
            Err(error) => return Err(error),
        };
        match Lock::attempt(file, Kind::Exclusive) {
            Ok(_dead) => {
                before(&dir)?;
                // Its writer, if he was about to lock it, sees that it is gone, and takes another.
                if parent.names(name.as_bytes(), &dir) {
                    remove(parent, name.as_bytes(), &dir)?;
                    swept = true;
                }
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn threads_that_stage_in_one_directory_do_not_wait_for_each_other() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let parent = Dir::open(temp.path()).expect("it is there");
        let (begun, held) = (Barrier::new(8), Barrier::new(8));
        let stage = || {
            begun.wait();
            let staging = Staging::create(&parent).expect("a directory of its own");
            // All have one now, or nobody comes past this.
            held.wait();
            staging.name.clone()
        };
        let names: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(stage)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        assert_eq!(names.len(), 8);
        assert!(parent.entries().expect("it can be listed").is_empty());
    }

    #[test]
    fn what_one_removes_is_no_error_for_another() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let parent = Dir::open(temp.path()).expect("it is there");
        let stage = || {
            for _ in 0..200 {
                let staging = Staging::create(&parent).expect("a directory of its own");
                staging.dir().write("file", b"", 0o644).expect("it is ours");
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(stage);
            }
        });
        assert!(parent.entries().expect("it can be listed").is_empty());
    }
}
