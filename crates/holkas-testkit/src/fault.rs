//! Bad circumstances: full and failing disks, processes without rights, and processes that are killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;

/// A small file system of its own, unmounted when dropped.
#[derive(Debug)]
pub struct SmallFilesystem {
    path: PathBuf,
    _dir: TempDir,
}

impl SmallFilesystem {
    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallFilesystem {
    fn drop(&mut self) {
        // Losing the result is right: a drop cannot report, and the lazy unmount of a mount point that is there succeeds.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Mounts an ext4 of `bytes` bytes (at least 1 MiB) from a file: it has xattrs, devices, and ENOSPC. Needs root.
///
/// ```no_run
/// let disk = holkas_testkit::fault::small_filesystem(2 << 20);
/// std::fs::write(disk.path().join("too-big"), vec![1; 4 << 20]).expect_err("it is full");
/// ```
pub fn small_filesystem(bytes: u64) -> SmallFilesystem {
    let dir = TempDir::new().expect("a temporary directory");
    let (image, path) = (dir.path().join("disk"), dir.path().join("mnt"));
    std::fs::create_dir(&path).expect("a new directory");
    let file = std::fs::File::create(&image).expect("a new file");
    file.set_len(bytes).expect("a sparse file");
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(&image));
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
    SmallFilesystem { path, _dir: dir }
}

/// Mounts a tmpfs of `bytes` bytes (rounded up to pages). It has no `user.*` xattrs on older kernels. Needs root.
pub fn small_tmpfs(bytes: u64) -> SmallFilesystem {
    let dir = TempDir::new().expect("a temporary directory");
    let path = dir.path().join("mnt");
    std::fs::create_dir(&path).expect("a new directory");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o"])
        .arg(format!("size={bytes},mode=755"))
        .arg("tmpfs")
        .arg(&path));
    SmallFilesystem { path, _dir: dir }
}

/// A file system whose disk fails: what is written beyond what the disk really has gives EIO, when it is synced.
#[derive(Debug)]
pub struct FailingFilesystem {
    // Dropped in this order: the file system goes before what it lies on.
    mounted: SmallFilesystem,
    disk: SmallFilesystem,
}

impl FailingFilesystem {
    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Puts a good disk in the place of the failing one, checks the file system as after a crash, and mounts it again.
    pub fn repair(&self) {
        let image = self.disk.path().join("disk");
        run(Command::new("umount").arg(self.path()));
        run(Command::new("mount").args(["-o", "remount,size=90%"]).arg(self.disk.path()));
        let checked = Command::new("e2fsck").args(["-f", "-y"]).arg(&image).output().expect("starting e2fsck");
        // 1: what was wrong is mended.
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&checked.stdout));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(self.path()));
    }
}

/// Mounts an ext4 with a journal of `bytes` bytes on a disk that has only `good` of them. Needs root.
pub fn failing_filesystem(bytes: u64, good: u64) -> FailingFilesystem {
    let disk = small_tmpfs(good);
    let dir = TempDir::new().expect("a temporary directory");
    let (image, path) = (disk.path().join("disk"), dir.path().join("mnt"));
    std::fs::create_dir(&path).expect("a new directory");
    std::fs::File::create(&image).expect("a new file").set_len(bytes).expect("a sparse file");
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-J", "size=4"]).arg(&image));
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
    FailingFilesystem { mounted: SmallFilesystem { path, _dir: dir }, disk }
}

/// Returns a command that runs `program` as user and group 65534 without any capability or supplementary group.
///
/// Add arguments as to any other command. The program and its directories must be readable for that user:
/// a temporary directory of mode 0700 is not.
pub fn unprivileged(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"]);
    command.arg(program.as_ref());
    command
}

/// Copies a tree, attributes and all, to a path that does not exist.
pub fn copy_tree(tree: impl AsRef<Path>, to: impl AsRef<Path>) {
    run(Command::new("cp").args(["-a", "--no-target-directory"]).arg(tree.as_ref()).arg(to.as_ref()));
}

/// Moments that look random and are the same in every run.
#[derive(Debug)]
pub struct Moments {
    state: u64,
    most: Duration,
}

impl Moments {
    /// Moments before `most`, which is at least a microsecond, and for a beginning about as long as a run takes.
    ///
    /// How long runs take changes with what else the machine does: `most` follows, up and down.
    pub fn within(most: Duration) -> Self {
        Self { state: 1, most }
    }

    /// Starts the command and kills it at the next moment. Returns whether it was killed, and had not ended before.
    pub fn kill(&mut self, command: &mut Command) -> bool {
        self.kill_child(command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}")))
    }

    /// Kills what runs already at the next moment. Returns whether it was killed, and had not ended before.
    pub fn kill_child(&mut self, mut child: Child) -> bool {
        // Knuth's MMIX generator.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = u64::try_from(self.most.as_micros()).expect("half a million years");
        std::thread::sleep(Duration::from_micros((self.state >> 33) % most));
        child.kill().expect("a child that nobody has waited for");
        let killed = !child.wait().expect("a child").success();
        let next = if killed { most + most / 32 } else { most - most / 8 };
        self.most = Duration::from_micros(next.max(100));
        killed
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
