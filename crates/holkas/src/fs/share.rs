//! A file in two directories without its bytes being written twice, where the file system can do that.

use std::io;

use rustix::fs::AtFlags;

use super::{Dir, display, path_of};
use crate::error::{Context, Error, Result};

/// Makes the regular file `name` of `from` also the file `new` of `to`, which must not exist.
///
/// Tried in this order: a reflink, a hard link, a copy. Nothing in `from` changes.
pub fn share(from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> Result<()> {
    let frame = || format!("copying `{}` to `{}`", display(&from.path_of(name)), display(&to.path_of(new)));
    let mut source = from.open_file(name)?.ok_or_else(|| Error::not_found("no such file")).context(frame)?;
    let mut staged = to.stage(0o644)?;
    if rustix::fs::ioctl_ficlone(staged.file(), &source).is_ok() {
        return staged.finish(new);
    }
    drop(staged);
    if from.names(name, &source) && rustix::fs::linkat(from, path_of(name), to, path_of(new), AtFlags::empty()).is_ok()
    {
        return Ok(());
    }
    let mut staged = to.stage(0o644)?;
    io::copy(&mut source, staged.file()).context(frame)?;
    staged.finish(new)
}

/// Returns whether other machines may see the file system that a directory is on: their locks may be unknown to us.
pub fn is_by_many_machines(dir: &Dir) -> Result<bool> {
    // NFS, SMB (three), Ceph, 9P, FUSE, AFS, Lustre, GFS2, OCFS2: the numbers of Linux' <linux/magic.h> and statfs(2).
    const MANY: [u64; 11] = [
        0x6969,
        0x517b,
        0xfe53_4d42,
        0xff53_4d42,
        0x00c3_6400,
        0x0102_1997,
        0x6573_5546,
        0x5346_414f,
        0x0bd0_0bd0,
        0x0116_1970,
        0x7461_636f,
    ];
    let found =
        rustix::fs::fstatfs(dir).context(|| format!("looking at the file system of `{}`", display(dir.path())))?;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "a number without a sign, kept with one")]
    Ok(MANY.contains(&(found.f_type as u64 & 0xffff_ffff)))
}
