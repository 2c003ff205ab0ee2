//! One file tree put over another as `cp -a` puts it, but by renames: nothing is copied.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Stat};

use super::{Dir, at, display, times};
use crate::error::{Context, Error, Result};

/// Moves all that is in `from` into `onto`, which must be on the same file system.
///
/// A directory that is in both keeps what is in it, and gets owner, mode, times and extended attributes of the one in
/// `from`, as does `onto` itself. Anything else that is in both is replaced. Symlinks in `onto` are not followed.
///
/// # Errors
///
/// `Refused`, and nothing has changed, if a directory would have to take the place of something else, or something else
/// that of a directory; those of the operating system, after which both trees have a part.
pub fn put_over(from: &Dir, onto: &Dir) -> Result<()> {
    check(from, onto)?;
    merge(from, onto)
}

/// What both trees have under one name.
enum Both {
    Directories,
    Others,
}

fn both(from: &Dir, onto: &Dir, name: &[u8]) -> Result<Option<Both>> {
    let is_dir = |dir: &Dir| -> Result<Option<bool>> {
        let stat = at::stat(dir.as_fd(), name).context(|| format!("looking at `{}`", display(&dir.path_of(name))))?;
        Ok(stat.map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
    };
    let refused = |what: &str, place: &str| {
        Err(Error::refused(format!("`{}` is {what}, and {place}", display(&onto.path_of(name)))))
    };
    match (is_dir(from)?, is_dir(onto)?) {
        (_, None) | (None, _) => Ok(None),
        (Some(true), Some(true)) => Ok(Some(Both::Directories)),
        (Some(false), Some(false)) => Ok(Some(Both::Others)),
        (Some(true), Some(false)) => refused("no directory", "a directory shall come into its place"),
        (Some(false), Some(true)) => refused("a directory", "something else shall come into its place"),
    }
}

fn check(from: &Dir, onto: &Dir) -> Result<()> {
    for name in from.entries()? {
        let name = name.as_encoded_bytes();
        if let Some(Both::Directories) = both(from, onto, name)? {
            check(&from.sub(name)?, &onto.sub(name)?)?;
        }
    }
    Ok(())
}

fn merge(from: &Dir, onto: &Dir) -> Result<()> {
    let frame = || format!("changing directory `{}`", display(onto.path()));
    // Before anything is moved, which changes the times.
    let before = rustix::fs::fstat(from).context(frame)?;
    for name in from.entries()? {
        let name = name.as_encoded_bytes();
        match both(from, onto, name)? {
            Some(Both::Directories) => merge(&from.sub(name)?, &onto.sub(name)?)?,
            Some(Both::Others) | None => from.rename(name, onto, name)?,
        }
    }
    give(from, &before, onto).context(frame)
}

/// Gives a directory the attributes of another.
fn give(from: &Dir, stat: &Stat, onto: &Dir) -> Result<()> {
    let fd: OwnedFd = at::open_dir(onto.as_fd(), b".")?;
    at::fd_chown(&fd, stat.st_uid, stat.st_gid)?;
    at::fd_chmod(&fd, stat.st_mode & 0o7777)?;
    for key in at::list_xattrs(from.as_fd(), b".")? {
        at::fd_set_xattr(&fd, &key, &at::get_xattr(from.as_fd(), b".", &key)?)?;
    }
    at::fd_set_times(&fd, &times::of(stat))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use rustix::fs::{Timespec, Timestamps};

    use super::*;

    fn write(path: impl AsRef<Path>, text: &str) {
        fs::create_dir_all(path.as_ref().parent().expect("a file")).expect("directories");
        fs::write(path, text).expect("a file");
    }

    fn read(path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).expect("it is there")
    }

    fn over(from: &Path, onto: &Path) -> Result<()> {
        put_over(&Dir::open(from)?, &Dir::open(onto)?)
    }

    #[test]
    fn directories_join_and_all_else_is_replaced() {
        let temporary = tempfile::tempdir().expect("a directory");
        let (from, onto, outside) =
            (temporary.path().join("from"), temporary.path().join("onto"), temporary.path().join("outside"));
        write(from.join("etc/new"), "new");
        write(from.join("etc/both"), "from");
        write(from.join("etc/link"), "a file");
        write(from.join("deep/er/x"), "x");
        fs::set_permissions(from.join("etc"), fs::Permissions::from_mode(0o2750)).expect("a mode");
        let time = Timestamps {
            last_access: Timespec { tv_sec: 5, tv_nsec: 0 },
            last_modification: Timespec { tv_sec: -7, tv_nsec: 3 },
        };
        at::fd_set_times(Dir::open(&from.join("etc")).expect("a directory"), &time).expect("times");
        write(onto.join("etc/old"), "old");
        write(onto.join("etc/both"), "onto");
        write(outside.join("kept"), "kept");
        symlink(outside.join("kept"), onto.join("etc/link")).expect("a symlink");
        fs::hard_link(onto.join("etc/both"), onto.join("other-name")).expect("a hard link");
        over(&from, &onto).expect("nothing stands in the way");
        for (path, text) in [
            ("etc/new", "new"),
            ("etc/old", "old"),
            ("etc/both", "from"),
            ("etc/link", "a file"),
            ("deep/er/x", "x"),
            ("other-name", "onto"),
        ] {
            assert_eq!(read(onto.join(path)), text, "{path}");
        }
        assert_eq!(read(outside.join("kept")), "kept");
        let etc = fs::metadata(onto.join("etc")).expect("etc");
        assert_eq!((etc.mode() & 0o7777, etc.mtime(), etc.mtime_nsec()), (0o2750, -7, 3));
    }

    #[test]
    fn what_is_of_another_kind_stands_in_the_way_of_all() {
        for (in_from, in_onto) in [("a/x", "a"), ("a", "a/x"), ("b/c/x", "b/c")] {
            let temporary = tempfile::tempdir().expect("a directory");
            let (from, onto) = (temporary.path().join("from"), temporary.path().join("onto"));
            write(from.join("0"), "moved first if anything were");
            write(from.join(in_from), "from");
            write(onto.join(in_onto), "onto");
            let error = over(&from, &onto).expect_err("of another kind");
            assert!(error.to_string().contains("shall come into its place"), "{error}");
            assert_eq!(read(onto.join(in_onto)), "onto");
            assert_eq!(read(from.join(in_from)), "from");
            assert!(from.join("0").exists() && !onto.join("0").exists());
        }
        // A symlink is no directory, wherever it leads.
        let temporary = tempfile::tempdir().expect("a directory");
        let (from, onto) = (temporary.path().join("from"), temporary.path().join("onto"));
        write(from.join("a/x"), "from");
        write(onto.join("real/y"), "onto");
        symlink("real", onto.join("a")).expect("a symlink");
        over(&from, &onto).expect_err("of another kind");
        assert!(!onto.join("real/x").exists());
    }
}
