//! Held directories, atomic writes, staging, locks: the only user of path syscalls.
//!
//! A [`Dir`] is an open descriptor. Names below it are resolved by the kernel beneath it (`openat2`),
//! so that no symlink and no `..` leads out, whatever others do to the tree meanwhile.

pub mod at;
pub mod beneath;
pub mod continued;
pub mod lock;
pub mod merge;
pub mod named;
pub mod share;
pub mod staging;
pub mod times;
pub mod write_back;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::limits::Limit;

/// What names that are not yet verified, or not yet whole, begin with.
pub const UNVERIFIED: &str = ".unverified-";

/// How far what is written must have come when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// To the disk: the file system is synced.
    #[default]
    Disk,
    /// To the operating system, as `cp` leaves it: for a tree that is only a step on the way, and made anew if the
    /// machine fails.
    System,
}

impl Reach {
    /// Syncs the file system that a directory is on, if that is what is wanted.
    pub fn sync(self, dir: &Dir) -> Result<()> {
        match self {
            Self::Disk => dir.sync_file_system(),
            Self::System => Ok(()),
        }
    }
}

/// A directory that is held open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Returns a path for messages.
pub fn display(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// Returns bytes as a path.
pub fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns the absolute path, free of symlinks, of something that the user named and that exists.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    path.canonicalize().context(|| format!("resolving `{}`", display(path)))
}

/// Opens a file that the user named (symlinks are followed). It must be a regular file; a FIFO does not block.
pub fn open_file(path: &Path) -> Result<File> {
    let frame = || format!("opening `{}`", display(path));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    regular(rustix::fs::open(path, flags, Mode::empty()).context(frame)?).context(frame)
}

/// Reads a file that the user named, whole. `None` if it does not exist.
pub fn read_file(path: &Path, limit: Limit) -> Result<Option<Vec<u8>>> {
    if !path.exists() {
        return Ok(None);
    }
    read_bounded(open_file(path)?, limit).context(|| format!("reading `{}`", display(path))).map(Some)
}

/// As [`read_file`], but `None` only if the file does not exist: what we may not look at is an error.
pub fn read_there(path: &Path, limit: Limit) -> Result<Option<Vec<u8>>> {
    let frame = || format!("opening `{}`", display(path));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => regular(fd).and_then(|file| read_bounded(file, limit)).context(frame).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).context(frame),
    }
}

fn regular(fd: OwnedFd) -> Result<File> {
    let stat = rustix::fs::fstat(&fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(fd)),
        FileType::Directory => Err(Error::invalid("it is a directory, not a regular file")),
        FileType::Fifo => Err(Error::invalid("it is a FIFO, not a regular file")),
        _ => Err(Error::invalid("it is not a regular file")),
    }
}

fn read_bounded(file: File, limit: Limit) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.bytes + 1).read_to_end(&mut bytes)?;
    limit.check(bytes.len() as u64)?;
    Ok(bytes)
}

impl Dir {
    /// Opens a directory that the user named; symlinks are followed.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .context(|| format!("opening directory `{}`", display(path)))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// Opens a directory that the user named; `None` if it does not exist.
    pub fn open_if_exists(path: &Path) -> Result<Option<Self>> {
        if path.exists() { Self::open(path).map(Some) } else { Ok(None) }
    }

    /// As [`Dir::open_if_exists`], but what we may not look at is an error.
    pub fn open_there(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_path_buf() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).context(|| format!("opening directory `{}`", display(path))),
        }
    }

    /// Opens a directory that the user named, making it and its parents (mode 0755 less the umask) if they are missing.
    pub fn create_all(path: &Path) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the user named the path: symlinks in it are meant")]
        std::fs::create_dir_all(path).context(|| format!("creating directory `{}`", display(path)))?;
        Self::open(path)
    }

    /// The same, where the directories that are made are for nobody but their owner.
    pub fn create_all_private(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .context(|| format!("creating directory `{}`", display(path)))?;
        Self::open(path)
    }

    /// Holds a directory that is already open; the path is for messages only.
    pub(crate) fn from_fd(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Returns the path that the directory was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of something below, for messages.
    pub fn path_of(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.path.join(path_of(name.as_ref()))
    }

    /// Opens the same directory again.
    pub fn reopen(&self) -> Result<Self> {
        Ok(Self { fd: self.fd.try_clone().map_err(Error::from)?, path: self.path.clone() })
    }

    fn frame(&self, doing: &str, name: &[u8]) -> String {
        format!("{doing} `{}`", display(&self.path_of(name)))
    }

    /// Opens anything below (a relative path), never leading out.
    fn open_beneath(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.fd, path_of(name), flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn beneath<T>(&self, doing: &str, name: &[u8], result: Result<T, Errno>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::XDEV) => {
                Err(Error::refused("a symlink leads out of the directory").context(self.frame(doing, name)))
            }
            Err(error) => Err(error).context(|| self.frame(doing, name)),
        }
    }

    /// Opens a directory below; `None` if it does not exist.
    pub fn sub_if_exists(&self, name: impl AsRef<[u8]>) -> Result<Option<Self>> {
        let name = name.as_ref();
        let fd = self.open_beneath(name, OFlags::RDONLY | OFlags::DIRECTORY);
        Ok(self.beneath("opening directory", name, fd)?.map(|fd| Self { fd, path: self.path_of(name) }))
    }

    /// Opens a directory below.
    pub fn sub(&self, name: impl AsRef<[u8]>) -> Result<Self> {
        let name = name.as_ref();
        self.sub_if_exists(name)?.ok_or_else(|| {
            Error::new(ErrorKind::Io, "no such directory").context(self.frame("opening directory", name))
        })
    }

    /// Opens a directory directly below, making it with exactly this mode if it is missing.
    pub fn make(&self, name: impl AsRef<[u8]>, mode: u32) -> Result<Self> {
        self.make_missing(name, mode).map(|(dir, _)| dir)
    }

    /// As [`Dir::make`]; returns also whether it was missing, and so is ours.
    pub fn make_missing(&self, name: impl AsRef<[u8]>, mode: u32) -> Result<(Self, bool)> {
        /// How often others who clean up may remove it before we have opened it; then something else must be amiss.
        const PATIENCE: usize = 100;
        let name = name.as_ref();
        for _ in 0..PATIENCE {
            // As it shall be, less the umask: who is killed before the mode is set leaves no other directory behind.
            let missing =
                match rustix::fs::mkdirat(&self.fd, path_of(name), Mode::from_raw_mode(0o700 | (mode & 0o777))) {
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(error).context(|| self.frame("creating directory", name)),
                };
            let Some(dir) = self.sub_if_exists(name)? else { continue };
            if missing {
                rustix::fs::fchmod(&dir.fd, Mode::from_raw_mode(mode))
                    .context(|| self.frame("setting mode of", name))?;
            }
            return Ok((dir, missing));
        }
        self.sub(name).map(|dir| (dir, false))
    }

    /// Opens a regular file below for reading; `None` if it does not exist.
    ///
    /// A symlink is followed as long as it stays beneath; a FIFO or device is refused without being opened for data.
    pub fn open_file(&self, name: impl AsRef<[u8]>) -> Result<Option<File>> {
        let name = name.as_ref();
        let fd = self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
        match self.beneath("opening", name, fd)? {
            Some(fd) => regular(fd).context(|| self.frame("opening", name)).map(Some),
            None => Ok(None),
        }
    }

    /// Opens a regular file directly below for reading and writing, making it with this mode if it is missing.
    pub fn open_for_update(&self, name: impl AsRef<[u8]>, mode: u32) -> Result<File> {
        let name = name.as_ref();
        let frame = || self.frame("opening", name);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        // As it shall be, less the umask, for who is killed before the mode is set.
        let (create, mode) = (flags | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(mode));
        match rustix::fs::openat(&self.fd, path_of(name), create, mode) {
            Ok(fd) => {
                rustix::fs::fchmod(&fd, mode).context(frame)?;
                Ok(File::from(fd))
            }
            Err(Errno::EXIST) => {
                regular(rustix::fs::openat(&self.fd, path_of(name), flags, Mode::empty()).context(frame)?)
                    .context(frame)
            }
            Err(error) => Err(error).context(frame),
        }
    }

    /// Opens a regular file below for reading, but nothing through a symlink as the last part of the name;
    /// `None` if it does not exist.
    pub fn open_file_itself(&self, name: impl AsRef<[u8]>) -> Result<Option<File>> {
        let name = name.as_ref();
        let fd = self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW);
        match fd {
            Err(Errno::LOOP) => Err(Error::refused("it is a symlink")).context(|| self.frame("opening", name)),
            fd => match self.beneath("opening", name, fd)? {
                Some(fd) => regular(fd).context(|| self.frame("opening", name)).map(Some),
                None => Ok(None),
            },
        }
    }

    /// As [`Dir::open_file_itself`], but what leads to the file is resolved as after chroot: symlinks may be absolute.
    pub fn open_file_in_root(&self, name: impl AsRef<[u8]>) -> Result<Option<File>> {
        let name = name.as_ref();
        let (parent, base) = match name.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&name[..slash], &name[slash + 1..]),
            None => (&b""[..], name),
        };
        match self.beneath("opening", name, at::open_in_root(self.as_fd(), parent))? {
            Some(fd) => Self { fd, path: self.path_of(parent) }.open_file_itself(base),
            None => Ok(None),
        }
    }

    /// Reads a file below, whole and bounded; `None` if it does not exist.
    pub fn read(&self, name: impl AsRef<[u8]>, limit: Limit) -> Result<Option<Vec<u8>>> {
        let name = name.as_ref();
        match self.open_file(name)? {
            Some(file) => read_bounded(file, limit).context(|| self.frame("reading", name)).map(Some),
            None => Ok(None),
        }
    }

    /// Returns whether anything (a dangling symlink too) has this name directly below.
    pub fn exists(&self, name: impl AsRef<[u8]>) -> Result<bool> {
        let name = name.as_ref();
        match rustix::fs::statat(&self.fd, path_of(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error).context(|| self.frame("looking at", name)),
        }
    }

    /// Returns whether the name directly below is this very file or directory, and not a symlink to it.
    pub fn names(&self, name: impl AsRef<[u8]>, file: impl AsFd) -> bool {
        let by_name = rustix::fs::statat(&self.fd, path_of(name.as_ref()), AtFlags::SYMLINK_NOFOLLOW);
        match (by_name, rustix::fs::fstat(file)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    /// Returns where a symlink directly below leads; `None` if there is none of this name.
    pub fn read_link(&self, name: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let name = name.as_ref();
        match rustix::fs::readlinkat(&self.fd, path_of(name), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) => Ok(None),
            Err(error) => Err(error).context(|| self.frame("reading symlink", name)),
        }
    }

    /// Writes a file directly below atomically: staged, synced, renamed, the directory synced.
    pub fn write(&self, name: impl AsRef<[u8]>, bytes: &[u8], mode: u32) -> Result<()> {
        let mut file = self.stage(mode)?;
        file.write_all(bytes).context(|| self.frame("writing", name.as_ref()))?;
        file.finish(name)?;
        self.sync()
    }

    /// Begins a file under an `.unverified-*` name. Dropped unfinished, it is removed.
    pub fn stage(&self, mode: u32) -> Result<StagedFile<'_>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{UNVERIFIED}{}-{n}", std::process::id());
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(&self.fd, name.as_str(), flags, Mode::from_raw_mode(0o600)) {
                Ok(fd) => {
                    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
                        .context(|| self.frame("setting mode of", name.as_bytes()))?;
                    return Ok(StagedFile { dir: self, file: File::from(fd), name, finished: false });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).context(|| format!("creating a file in `{}`", display(&self.path))),
            }
        }
    }

    /// Makes a file for reading and writing that never has a name, and is gone when closed.
    pub fn unnamed_file(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let frame = || format!("creating a file in `{}`", display(&self.path));
        rustix::fs::openat(&self.fd, c".", flags, Mode::from_raw_mode(0o600)).map(File::from).context(frame)
    }

    /// Renames something directly below to a name in `to`, replacing a file that is there.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: &Dir, name: impl AsRef<[u8]>) -> Result<()> {
        let (from, name) = (from.as_ref(), name.as_ref());
        rustix::fs::renameat(&self.fd, path_of(from), &to.fd, path_of(name))
            .context(|| format!("renaming `{}` to `{}`", display(&self.path_of(from)), display(&to.path_of(name))))
    }

    /// As [`Dir::rename`], but a name in `to` that is taken stays as it is: `false`.
    pub fn rename_new(&self, from: impl AsRef<[u8]>, to: &Dir, name: impl AsRef<[u8]>) -> Result<bool> {
        let (from, name) = (from.as_ref(), name.as_ref());
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.fd, path_of(from), &to.fd, path_of(name), flags) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error)
                .context(|| format!("renaming `{}` to `{}`", display(&self.path_of(from)), display(&to.path_of(name)))),
        }
    }

    /// Has two names directly below change places in one step; nobody sees either missing.
    ///
    /// Where the file system cannot do that, `first` is missing for a moment.
    pub fn exchange(&self, first: impl AsRef<[u8]>, second: impl AsRef<[u8]>) -> Result<()> {
        let (first, second) = (first.as_ref(), second.as_ref());
        let flags = RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(&self.fd, path_of(first), &self.fd, path_of(second), flags) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                let aside = [UNVERIFIED.as_bytes(), second].concat();
                self.rename(first, self, &aside)?;
                self.rename(second, self, first)?;
                self.rename(&aside, self, second)
            }
            other => other.context(|| {
                let (first, second) = (self.path_of(first), self.path_of(second));
                format!("exchanging `{}` and `{}`", display(&first), display(&second))
            }),
        }
    }

    /// Gives an open file one more name directly below; `false` where the file systems do not allow it.
    pub fn link(&self, file: &File, name: impl AsRef<[u8]>) -> Result<bool> {
        let (open, name) = (format!("/proc/self/fd/{}", file.as_raw_fd()), name.as_ref());
        match rustix::fs::linkat(CWD, open.as_str(), &self.fd, path_of(name), AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            // Without /proc the file has no path to be found by.
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOENT) => Ok(false),
            Err(error) => Err(error).context(|| self.frame("linking", name)),
        }
    }

    /// Removes a file or symlink directly below; it need not exist.
    pub fn remove_file(&self, name: impl AsRef<[u8]>) -> Result<()> {
        let name = name.as_ref();
        match rustix::fs::unlinkat(&self.fd, path_of(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).context(|| self.frame("removing", name)),
        }
    }

    /// Removes anything directly below with all that is in it, following no symlink; it need not exist.
    pub fn remove_all(&self, name: impl AsRef<[u8]>) -> Result<()> {
        let name = name.as_ref();
        match rustix::fs::unlinkat(&self.fd, path_of(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error).context(|| self.frame("removing", name)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, path_of(name), flags, Mode::empty())
            .context(|| self.frame("opening", name))?;
        let below = Self { fd, path: self.path_of(name) };
        for entry in below.entries()? {
            below.remove_all(entry.as_bytes())?;
        }
        rustix::fs::unlinkat(&self.fd, path_of(name), AtFlags::REMOVEDIR).context(|| self.frame("removing", name))
    }

    /// Returns the names directly below, sorted by bytes.
    pub fn entries(&self) -> Result<Vec<OsString>> {
        let frame = || format!("listing `{}`", display(&self.path));
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).context(frame)? {
            let entry = entry.context(frame)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Syncs the directory's own entries to disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).context(|| format!("syncing `{}`", display(&self.path)))
    }

    /// Syncs the whole file system that the directory is on.
    pub fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).context(|| format!("syncing the file system of `{}`", display(&self.path)))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file that has no name yet, but an `.unverified-*` one.
#[derive(Debug)]
pub struct StagedFile<'a> {
    dir: &'a Dir,
    file: File,
    name: String,
    finished: bool,
}

impl StagedFile<'_> {
    /// Syncs the file and gives it its name, replacing a file that has it. The directory is not synced.
    pub fn finish(mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.file.sync_data().context(|| self.dir.frame("syncing", self.name.as_bytes()))?;
        self.rename(name)
    }

    /// Gives the file its name without syncing it: for files that are themselves within a staging directory,
    /// whose owner syncs the file system before it publishes.
    pub fn finish_unsynced(mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.rename(name)
    }

    fn rename(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.dir.rename(self.name.as_bytes(), self.dir, name)?;
        self.finished = true;
        Ok(())
    }

    /// Returns the open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Write for StagedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for StagedFile<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // An error here leaves an `.unverified-*` file, which the next writer sweeps.
            let _swept_later = self.dir.remove_file(self.name.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_places_and_are_not_taken_twice() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dir = Dir::open(temp.path()).expect("it is there");
        dir.make("first", 0o755).and_then(|first| first.write("in first", b"", 0o644)).expect("made");
        dir.make("second", 0o755).expect("made");
        dir.exchange("first", "second").expect("exchanged");
        assert!(dir.exists("second/in first").expect("it can be looked at"));
        assert!(!dir.rename_new("first", &dir, "second").expect("it is not taken"));
        assert!(dir.exists("second/in first").expect("it can be looked at"));
        assert!(dir.rename_new("first", &dir, "third").expect("it is free"));
        let missing = dir.exchange("second", "missing").expect_err("there is none");
        assert!(missing.to_string().contains("exchanging"), "{missing}");
    }
}
