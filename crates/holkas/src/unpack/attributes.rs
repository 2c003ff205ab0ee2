//! What the entries of a layer give to what is made of them: owners, modes, extended attributes, times.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Timestamps};
use rustix::io::Errno;

use super::{Privilege, Timestamp};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::fs::at;
use crate::tar::{Header, Kind};

/// What a file gets when its contents are written.
pub(super) struct Attributes {
    /// Unless it has the right one from the start.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: u32,
    pub(super) times: Timestamps,
}

impl Attributes {
    pub(super) fn set(&self, fd: &OwnedFd) -> Result<()> {
        if let Some((uid, gid)) = self.owner {
            own_fd(fd, uid, gid)?;
        }
        at::fd_ensure_mode(fd, self.mode).map_err(allowed)?;
        at::fd_set_times(fd, &self.times).map_err(allowed)
    }
}

/// Refuses the attributes by which overlay hides what is below, or shows what is elsewhere: they act on the mount.
pub(super) fn refuse_overlays_own(header: &Header) -> Result<()> {
    match header
        .xattrs
        .iter()
        .find(|(key, _)| key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay."))
    {
        Some((key, _)) => Err(Error::refused(format!("the layer sets overlay's own attribute `{}`", printable(key)))),
        None => Ok(()),
    }
}

/// Returns what a symlink, device or FIFO is to be.
pub(super) fn node_kind(header: &Header) -> Result<FileType> {
    let kind = match header.kind {
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        _ => FileType::Symlink,
    };
    if kind == FileType::CharacterDevice && header.device == (0, 0) {
        return Err(Error::refused("a character device 0/0, which overlay takes for a whiteout"));
    }
    if kind == FileType::Symlink && header.link.is_empty() {
        return Err(Error::invalid("a symlink without a target"));
    }
    Ok(kind)
}

/// Makes a symlink, device or FIFO.
pub(super) fn make_node(dir: BorrowedFd<'_>, name: &[u8], kind: FileType, header: &Header) -> Result<(), Errno> {
    match kind {
        FileType::Symlink => at::make_symlink(&header.link, dir, name),
        kind => at::make_node(dir, name, kind, header.device),
    }
}

/// Sets the attributes of a symlink, device or FIFO that was just made; the owner only if it is not right by chance.
pub(super) fn set_node_attributes(
    dir: BorrowedFd<'_>,
    name: &[u8],
    header: &Header,
    owner: bool,
    privilege: Privilege,
) -> Result<()> {
    if owner {
        own(dir, name, header)?;
    }
    if header.kind == Kind::Symlink {
        at::set_times(dir, name, &raw_times(header)).map_err(allowed)?;
    } else {
        at::chmod(dir, name, header.mode).map_err(allowed)?;
        at::set_times(dir, name, &times(header)).map_err(allowed)?;
    }
    set_xattrs(header, privilege, |key, value| at::set_xattr(dir, name, key, value))
}

/// Sets the attributes of a file that has just got one more name.
///
/// The link's own header counts for the file, as with skopeo; but a symlink keeps its time.
pub(super) fn set_link_attributes(
    dir: BorrowedFd<'_>,
    name: &[u8],
    header: &Header,
    privilege: Privilege,
) -> Result<()> {
    let stat = at::stat(dir, name).map_err(Error::from)?;
    let owned = stat.is_some_and(|stat| (stat.st_uid, stat.st_gid) == (header.uid, header.gid));
    let symlink = match stat.map(|stat| (FileType::from_raw_mode(stat.st_mode), stat.st_rdev)) {
        Some((FileType::CharacterDevice, 0)) => {
            return Err(Error::refused("the target is removed by the layer").context(link_frame(header)));
        }
        kind => matches!(kind, Some((FileType::Symlink, _))),
    };
    if !owned {
        // Not for nothing: even to the same owner, it takes the file's capabilities away.
        own(dir, name, header)?;
    }
    if !symlink {
        at::chmod(dir, name, header.mode).map_err(allowed)?;
        at::set_times(dir, name, &times(header)).map_err(allowed)?;
    }
    set_xattrs(header, privilege, |key, value| at::set_xattr(dir, name, key, value))
}

/// Says of a hard link's target why it cannot have one more name.
pub(super) fn no_target(errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::invalid("the target is not in the layer before it"),
        Errno::PERM | Errno::ISDIR => Error::invalid("the target cannot have another name"),
        error => error.into(),
    }
}

pub(super) fn link_frame(header: &Header) -> String {
    format!("making it a hard link to `{}`", printable(&header.link))
}

/// Returns the time of what no entry gives a time.
pub(super) fn clock_times(clock: Timestamp) -> Timestamps {
    let clock = (clock.seconds, clock.nanos);
    at::times(clock, clock)
}

/// Says what is wanting where the operating system does not allow it.
pub(super) fn allowed(errno: Errno) -> Error {
    match errno {
        Errno::PERM | Errno::ACCESS => Error::new(ErrorKind::Forbidden, "the operating system does not allow it")
            .hint("layers keep owners, devices and attributes, so unpacking needs root with all its capabilities"),
        Errno::NOTDIR => Error::invalid("something on the way to it is not a directory"),
        Errno::LOOP => Error::invalid("too many symlinks on the way to it"),
        Errno::NAMETOOLONG => Error::invalid("the name is too long for the file system"),
        errno => errno.into(),
    }
}

/// Gives an entry its owner.
pub(super) fn own(dir: BorrowedFd<'_>, name: &[u8], header: &Header) -> Result<()> {
    at::chown(dir, name, header.uid, header.gid).map_err(|errno| owned(errno, header.uid, header.gid))
}

/// Gives an open file its owner.
pub(super) fn own_fd(fd: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    at::fd_chown(fd, uid, gid).map_err(|errno| owned(errno, uid, gid))
}

/// Says why something cannot have an owner.
fn owned(errno: Errno, uid: u32, gid: u32) -> Error {
    match errno {
        // The one reason of the kernel's for it.
        Errno::INVAL => {
            let cause = format!("its owner is {uid}:{gid}, and this user namespace has not so many IDs");
            Error::new(ErrorKind::Forbidden, cause)
                .hint("let root give the user more IDs in /etc/subuid and /etc/subgid, or run holkas as root")
        }
        errno => allowed(errno),
    }
}

/// Sets the attributes of the entry. A label is for the machine that runs it to say, not for the image.
pub(super) fn set_xattrs(
    header: &Header,
    privilege: Privilege,
    set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
) -> Result<()> {
    for (key, value) in header.xattrs.iter().filter(|(key, _)| key != b"security.selinux") {
        match set(key, value) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(Errno::PERM) if privilege == Privilege::UserNamespace && is_the_systems(key) => {}
            Err(Errno::PERM) if key.starts_with(b"user.") => {
                let cause = "only regular files and directories can have attributes of users";
                return Err(Error::unsupported(cause).context(format!("setting attribute `{}`", printable(key))));
            }
            Err(error) => return Err(allowed(error)).context(|| format!("setting attribute `{}`", printable(key))),
        }
    }
    Ok(())
}

/// Returns whether only the system's root may set an attribute. File capabilities are not of these: the kernel notes whose.
fn is_the_systems(key: &[u8]) -> bool {
    key.starts_with(b"trusted.") || (key.starts_with(b"security.") && key != b"security.capability")
}

/// The latest time that fits into 64 bits of nanoseconds, as containers/storage has it.
const LAST_SECOND: i64 = i64::MAX / 1_000_000_000;

pub(super) fn times(header: &Header) -> Timestamps {
    // Times before 1970 and after 2262 become 1970: so does containers/storage (pkg/system/chtimes.go).
    let sane = |time: Timestamp| match time.seconds {
        0..=LAST_SECOND => (time.seconds, time.nanos),
        _ => (0, 0),
    };
    at::times(sane(header.atime.map_or(header.mtime, |atime| atime.max(header.mtime))), sane(header.mtime))
}

fn raw_times(header: &Header) -> Timestamps {
    let raw = |time: Timestamp| (time.seconds, time.nanos);
    at::times(raw(header.atime.map_or(header.mtime, |atime| atime.max(header.mtime))), raw(header.mtime))
}
