//! A directory tree as the tar of a layer: the same tree gives the same bytes, on any machine and at any time.
//!
//! - Names are sorted by bytes, a directory before what is in it. The tree's root has no entry, as in most images.
//! - Owners are numbers, without names. Modification times are whole, with their nanoseconds; there are no others.
//! - Of files with several names the first has the contents, and the others are hard links to it.
//! - `user.*`, `security.capability` and `security.ima` are kept, and access control lists in the form of GNU tar.
//!   All others are the host's: `security.selinux` is given by where the image runs, `trusted.*` belongs to its store.
//! - Sockets are left out: nobody listens to one from an image.
//! - What a header of 512 bytes has no room for is in a PAX header before it.

mod acl;
mod entry;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Stat};

use crate::error::{Context, Error, Result, printable};
use crate::fs::{Dir, at};
use crate::limits::{CHUNK, PATH};
use crate::progress::Cancel;
use entry::{BLOCK, Entry, Kind};
pub(crate) use entry::{octal, sum};

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// How many entries.
    pub entries: u64,
    /// The sockets that were left out, by their paths.
    pub sockets: Vec<Vec<u8>>,
}

/// Writes the tree below `root`.
///
/// # Errors
///
/// `Invalid` for what no tar can hold: a path beyond PATH_MAX, an attribute with `=` in its name;
/// `Mismatch` if a file changes while it is read; `Io`; `Cancelled`.
pub fn write(root: &Dir, out: &mut dyn Write, cancel: &Cancel) -> Result<Written> {
    let mut walk = Walk { out, cancel, links: BTreeMap::new(), written: Written::default(), chunk: vec![0; CHUNK] };
    walk.dir(root, &mut Vec::new()).context(|| format!("writing `{}` as a tar", crate::fs::display(root.path())))?;
    walk.out.write_all(&[0; 2 * BLOCK]).context(|| "writing the end of the tar")?;
    Ok(walk.written)
}

struct Walk<'a> {
    out: &'a mut dyn Write,
    cancel: &'a Cancel,
    /// The first path of each file that has several, by device and inode.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    written: Written,
    chunk: Vec<u8>,
}

impl Walk<'_> {
    /// Writes what is in a directory. `path` is the directory's, with a `/` at its end unless it is the root.
    fn dir(&mut self, dir: &Dir, path: &mut Vec<u8>) -> Result<()> {
        for name in dir.entries()? {
            self.cancel.check()?;
            let (name, length) = (name.as_bytes(), path.len());
            path.extend_from_slice(name);
            self.name(dir, name, path).context(|| format!("`{}`", printable(path)))?;
            path.truncate(length);
        }
        Ok(())
    }

    fn name(&mut self, dir: &Dir, name: &[u8], path: &mut Vec<u8>) -> Result<()> {
        if path.len() > PATH {
            return Err(Error::invalid(format!("its path has {} bytes, more than {PATH}", path.len())));
        }
        let stat = at::stat(dir.as_fd(), name)?.ok_or_else(changed)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => {
                self.written.sockets.push(path.clone());
                return Ok(());
            }
            FileType::Directory => {
                let below = Dir::from_fd(at::open_dir(dir.as_fd(), name)?, dir.path_of(name));
                path.push(b'/');
                self.entry(dir, name, path, &stat, Kind::Directory)?;
                return self.dir(&below, path);
            }
            FileType::RegularFile => Kind::File(u64::try_from(stat.st_size).map_err(|_| changed())?),
            FileType::Symlink => Kind::Symlink(at::read_link(dir.as_fd(), name)?),
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharacterDevice(device(&stat)),
            FileType::BlockDevice => Kind::BlockDevice(device(&stat)),
            FileType::Unknown => return Err(Error::unsupported("it is of a kind that no tar has")),
        };
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode).cloned() {
                return self.entry(dir, name, path, &stat, Kind::HardLink(first));
            }
            self.links.insert(inode, path.clone());
        }
        let size = if let Kind::File(size) = kind { Some(size) } else { None };
        self.entry(dir, name, path, &stat, kind)?;
        match size {
            Some(size) => self.contents(dir, name, size),
            None => Ok(()),
        }
    }

    fn entry(&mut self, dir: &Dir, name: &[u8], path: &[u8], stat: &Stat, kind: Kind) -> Result<()> {
        let xattrs = match kind {
            // They are those of the first name.
            Kind::HardLink(_) => Vec::new(),
            _ => records(dir, name)?,
        };
        let entry = Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            records: xattrs,
        };
        self.written.entries += 1;
        self.out.write_all(&entry.to_bytes()?).context(|| "writing its header")
    }

    fn contents(&mut self, dir: &Dir, name: &[u8], size: u64) -> Result<()> {
        let mut file = dir.open_file_itself(name)?.ok_or_else(changed)?;
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk.len());
            let n = file.read(&mut self.chunk[..most])?;
            if n == 0 {
                return Err(changed());
            }
            self.out.write_all(&self.chunk[..n])?;
            left -= n as u64;
            self.cancel.check()?;
        }
        if file.read(&mut self.chunk[..1])? != 0 {
            return Err(changed());
        }
        let padding = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).expect("less than a block");
        self.out.write_all(&[0; BLOCK][..padding])?;
        Ok(())
    }
}

fn changed() -> Error {
    Error::mismatch("it changed while it was read")
}

fn device(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// Returns the PAX records of the extended attributes that an image keeps.
fn records(dir: &Dir, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    for key in at::list_xattrs(dir.as_fd(), name).context(|| "listing its extended attributes")? {
        let value = || {
            at::get_xattr(dir.as_fd(), name, &key).context(|| format!("reading its attribute `{}`", printable(&key)))
        };
        match key.as_slice() {
            b"system.posix_acl_access" => records.push((b"SCHILY.acl.access".to_vec(), acl::text(&value()?)?)),
            b"system.posix_acl_default" => records.push((b"SCHILY.acl.default".to_vec(), acl::text(&value()?)?)),
            _ if key.starts_with(b"user.") || [&b"security.capability"[..], b"security.ima"].contains(&&key[..]) => {
                if key.contains(&b'=') {
                    return Err(Error::invalid(format!(
                        "its attribute `{}` has a `=` in its name, which no tar can hold",
                        printable(&key)
                    )));
                }
                records.push(([b"SCHILY.xattr.", &key[..]].concat(), value()?));
            }
            _ => {}
        }
    }
    Ok(records)
}
