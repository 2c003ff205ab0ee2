//! Mounts that a service makes for a stage, and undoes when osbuild is done with it.

use std::path::{Path, PathBuf};

use holkas::error::{Context, Result};
use holkas::fs::display;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, mount_remount,
    unmount,
};

/// The mounts of a service. Dropped, they are undone.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<PathBuf>);

/// What of a directory is seen at the other place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The directory or file as its own file system has it.
    Alone,
    /// Also what is mounted below it.
    Recursive,
}

impl Mounts {
    /// Makes `source` seen at `target`, which must exist, read-only, without devices and set-user-ID programs.
    pub(super) fn bind(&mut self, source: &Path, target: &Path, reach: Reach) -> Result<()> {
        let frame = || format!("mounting `{}` at `{}`", display(source), display(target));
        match reach {
            Reach::Alone => mount_bind(source, target),
            Reach::Recursive => mount_bind_recursive(source, target),
        }
        .context(frame)?;
        self.0.push(target.to_path_buf());
        // Else undoing what is mounted below would undo it at the source, too, and what is mounted later would follow.
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(target, private).context(frame)?;
        let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
        mount_remount(target, read_only, c"").context(frame)
    }

    /// Undoes all, the last first. What is still in use goes as soon as it is not.
    pub(super) fn undo(&mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(target) = self.0.pop() {
            // Detaching takes what is mounted below along.
            match unmount(&target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                // Somebody else has undone it.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => {
                    first = first.and(Err(error).context(|| format!("unmounting `{}`", display(&target))));
                }
            }
        }
        first
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // Who wanted to hear of errors has undone them before.
        let _unheard = self.undo();
    }
}
