//! Modification and access times, set to whole seconds: what we make ourselves bears no time of the clock on the wall.

use std::fs::File;

use rustix::fs::{AtFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::{Dir, display, path_of};
use crate::error::{Context, Result};

fn both(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Returns the times of something.
pub fn of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Sets the times of something directly below `dir`; a symlink is not followed. `seconds` since 1970.
pub fn set(dir: &Dir, name: impl AsRef<[u8]>, seconds: i64) -> Result<()> {
    let name = name.as_ref();
    rustix::fs::utimensat(dir, path_of(name), &both(seconds), AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("setting times of `{}`", display(&dir.path_of(name))))
}

/// Sets the times of a directory itself. `seconds` since 1970.
pub fn set_own(dir: &Dir, seconds: i64) -> Result<()> {
    rustix::fs::futimens(dir, &both(seconds)).context(|| format!("setting times of `{}`", display(dir.path())))
}

/// Sets the modification time of an open file to now, by the kernel's clock.
pub fn touch(file: &File) -> Result<()> {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: special(UTIME_OMIT), last_modification: special(UTIME_NOW) };
    rustix::fs::futimens(file, &times).context(|| "touching a file")
}
