//! One path syscall each, relative to an open directory, for names of a single component.
//!
//! The kernel does not follow the last component in any of them; what leads to the directory was
//! resolved when it was opened. They give the bare `Errno`, since callers decide by it.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::path_of;

/// How often a resolution is tried again that the kernel gave up because of a rename elsewhere.
const ATTEMPTS: usize = 1000;

/// Opens a directory by a path in which `root` is `/`: absolute symlinks and `..` stay below, as after chroot.
///
/// The descriptor is for further `at` calls only (`O_PATH`).
pub fn open_in_root(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_below(root, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// As `open_in_root`, by a path in which no symlink may be: `LOOP` if there is one.
pub fn open_plain(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_below(root, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

fn open_below(root: BorrowedFd<'_>, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = rustix::fs::openat2(root, path_of(path), flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

/// Opens a directory that is no symlink, for reading and for changing its attributes.
pub fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path_of(name), flags, Mode::empty())
}

/// Makes a regular file, which must not exist in any form, for writing.
///
/// Of `mode` only the permissions count, and the umask or a default ACL may take some of them.
pub fn create_file(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path_of(name), flags, Mode::from_raw_mode(mode & 0o777))
}

/// Makes a directory, mode 0700 less the umask.
pub fn make_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mkdirat(dir, path_of(name), Mode::from_raw_mode(0o700))
}

/// Makes a symlink.
pub fn make_symlink(target: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::symlinkat(path_of(target), dir, path_of(name))
}

/// Returns where a symlink leads.
pub fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    Ok(rustix::fs::readlinkat(dir, path_of(name), Vec::new())?.into_bytes())
}

/// Gives what `from` names (itself, if it is a symlink) a second name.
pub fn make_hard_link(from_dir: BorrowedFd<'_>, from: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::linkat(from_dir, path_of(from), dir, path_of(name), AtFlags::empty())
}

/// Makes a device or a FIFO, without any permission.
pub fn make_node(dir: BorrowedFd<'_>, name: &[u8], kind: FileType, device: (u32, u32)) -> Result<(), Errno> {
    rustix::fs::mknodat(dir, path_of(name), kind, Mode::empty(), rustix::fs::makedev(device.0, device.1))
}

/// Removes a name that is not a directory's.
pub fn remove_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, path_of(name), AtFlags::empty())
}

/// Returns what is known of a name; `None` if nothing has it.
pub fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, path_of(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets owner and group.
pub fn chown(dir: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(dir, path_of(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the mode of what is known not to be a symlink: this one call would follow it.
pub fn chmod(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    rustix::fs::chmodat(dir, path_of(name), Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Sets the times.
pub fn set_times(dir: BorrowedFd<'_>, name: &[u8], times: &Timestamps) -> Result<(), Errno> {
    rustix::fs::utimensat(dir, path_of(name), times, AtFlags::SYMLINK_NOFOLLOW)
}

/// The most bytes that the kernel lets the names of extended attributes, or the value of one, have.
const XATTR_BYTES: usize = 64 << 10;

/// Returns the names of the extended attributes, sorted, also of what cannot be opened; none where there are none.
pub fn list_xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = vec![0; XATTR_BYTES];
    let length = match rustix::fs::llistxattr(path_of(&path_in(dir, name)), &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error),
    };
    let mut names: Vec<Vec<u8>> =
        list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

/// Returns the value of an extended attribute, also of what cannot be opened.
pub fn get_xattr(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; XATTR_BYTES];
    let length = rustix::fs::lgetxattr(path_of(&path_in(dir, name)), path_of(key), &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// Sets an extended attribute, also of what cannot be opened (symlinks, devices).
pub fn set_xattr(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path_of(&path_in(dir, name)), path_of(key), value, XattrFlags::empty())
}

/// Takes an extended attribute of a directory away and returns what it was; `None` if there was none.
pub fn take_xattr(dir: BorrowedFd<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    // The descriptor may be for `at` calls only.
    let (dir, key) = (open_dir(dir, b".")?, path_of(key));
    let mut value = match rustix::fs::fgetxattr_query(&dir, key) {
        Ok(length) => vec![0; length],
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = rustix::fs::fgetxattr(&dir, key, value.as_mut_slice())?;
    value.truncate(length);
    rustix::fs::fremovexattr(&dir, key)?;
    Ok(Some(value))
}

/// Returns a path of something that is in a directory, whatever the directory's own path is now.
fn path_in(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    // There is no setxattrat before Linux 6.13; procfs names the directory that is held.
    let mut prefix = String::with_capacity(32);
    write!(prefix, "/proc/self/fd/{}/", dir.as_raw_fd()).expect("a String takes all");
    [prefix.as_bytes(), name].concat()
}

/// Sets owner and group of an open file.
pub fn fd_chown(fd: impl AsFd, uid: u32, gid: u32) -> Result<(), Errno> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Sets the mode of an open file.
pub fn fd_chmod(fd: impl AsFd, mode: u32) -> Result<(), Errno> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
}

/// Sets the mode of an open file that may have it already: to look is much cheaper than to set.
pub fn fd_ensure_mode(fd: impl AsFd, mode: u32) -> Result<(), Errno> {
    if rustix::fs::fstat(&fd)?.st_mode & 0o7777 == mode { Ok(()) } else { fd_chmod(fd, mode) }
}

/// Sets the times of an open file.
pub fn fd_set_times(fd: impl AsFd, times: &Timestamps) -> Result<(), Errno> {
    rustix::fs::futimens(fd, times)
}

/// Sets an extended attribute of an open file.
pub fn fd_set_xattr(fd: impl AsFd, key: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(fd, path_of(key), value, XattrFlags::empty())
}

/// Returns times for the calls above, each as seconds and nanoseconds.
pub fn times(access: (i64, u32), modification: (i64, u32)) -> Timestamps {
    let time = |(seconds, nanos): (i64, u32)| Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time(access), last_modification: time(modification) }
}
