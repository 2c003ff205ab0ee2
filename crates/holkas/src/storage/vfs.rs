//! The vfs driver's layers: each is a copy of the one below, changed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};

use crate::error::{Context, Error, Result};
use crate::fs::{Dir, display, path_of};
use crate::limits::CHUNK;

/// Copies all that is in `from` into the empty directory `to`, and the attributes of `from` itself.
///
/// Hard links of regular files stay hard links, as c/storage has it; owners, modes, times and the extended attributes that c/storage copies stay what they are.
pub(super) fn copy_tree(from: &Dir, to: &Dir) -> Result<()> {
    copy_directory(from, to, to, &mut Vec::new(), &mut BTreeMap::new())
}

/// Where an inode with several names was copied to, as a path below the root of the copy.
type Links = BTreeMap<(u64, u64), Vec<u8>>;

fn copy_directory(from: &Dir, to: &Dir, root: &Dir, path: &mut Vec<u8>, links: &mut Links) -> Result<()> {
    for name in from.entries()? {
        let name = name.as_bytes();
        let length = path.len();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        copy_entry(from, to, root, name, path, links)
            .context(|| format!("copying `{}`", display(&from.path_of(name))))?;
        path.truncate(length);
    }
    let stat = rustix::fs::fstat(from)?;
    finish(from, to, &stat)
}

fn copy_entry(from: &Dir, to: &Dir, root: &Dir, name: &[u8], path: &mut Vec<u8>, links: &mut Links) -> Result<()> {
    let file = path_of(name);
    let stat = rustix::fs::statat(from, file, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::RegularFile && stat.st_nlink > 1 {
        if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            rustix::fs::linkat(root, path_of(first), to, file, AtFlags::empty())?;
            return Ok(());
        }
        links.insert((stat.st_dev, stat.st_ino), path.clone());
    }
    match kind {
        FileType::Directory => return copy_directory(&from.sub(name)?, &to.make(name, 0o700)?, root, path, links),
        FileType::RegularFile => {
            let source = from.open_file(name)?.ok_or_else(|| Error::invalid("it has vanished"))?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let target = std::fs::File::from(rustix::fs::openat(to, file, flags, Mode::from_raw_mode(0o600))?);
            if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
                let mut reader = io::BufReader::with_capacity(CHUNK, &source);
                io::copy(&mut reader, &mut &target)?;
            }
            return finish(&source, &target, &stat);
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, file, Vec::new())?;
            rustix::fs::symlinkat(target.as_c_str(), to, file)?;
        }
        _ => rustix::fs::mknodat(to, file, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?,
    }
    let (uid, gid) = owner(&stat);
    rustix::fs::chownat(to, file, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, file, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    rustix::fs::utimensat(to, file, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn owner(stat: &Stat) -> (rustix::fs::Uid, rustix::fs::Gid) {
    (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid))
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Copies owner, mode, extended attributes and times, in the order in which the later do not undo the earlier.
fn finish(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, stat: &Stat) -> Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(&to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::flistxattr(&from, list.as_mut_slice()).or_else(|error| match error {
        rustix::io::Errno::OPNOTSUPP => Ok(0),
        other => Err(other),
    })?;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name == b"security.capability" || name == b"trusted.overlay.opaque" || name.starts_with(b"user.") {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::fgetxattr(&from, path_of(name), value.as_mut_slice())?;
            rustix::fs::fsetxattr(&to, path_of(name), &value[..length], XattrFlags::empty())?;
        }
    }
    rustix::fs::futimens(&to, &times(stat))?;
    Ok(())
}
