//! A user who is not root, for as long as a test needs one: no file of the machine knows of them.
//!
//! What is run for them sees an `/etc/passwd`, `/etc/subuid` and `/etc/subgid` of their own, by a mount namespace.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The first of the IDs that a user has beside their own.
pub const FIRST_ID: u32 = 100_000;

/// Enough IDs for every image of the kit.
pub const ALL_IDS: u32 = 4_000_000_000;

/// A user, with a home directory. Dropped, all that they have is removed, and what podman left running is ended.
///
/// ```no_run
/// use holkas_testkit::rootless::User;
/// let user = User::with_ids(65_536);
/// assert!(user.command("podman").arg("unshare").arg("true").status().expect("unshare is there").success());
/// ```
#[derive(Debug)]
pub struct User {
    dir: TempDir,
    id: u32,
    /// Programs of `/usr/bin`, and what is there in their place.
    replaced: Vec<(&'static str, &'static str)>,
}

impl User {
    /// Returns a user with so many IDs beside their own: none for 0. Needs root.
    pub fn with_ids(count: u32) -> Self {
        static USERS: AtomicU32 = AtomicU32::new(0);
        // Tests that run at once are other users: podman has files that are named after the user's ID.
        let id = 10_000 + (std::process::id() * 16 + USERS.fetch_add(1, Ordering::Relaxed)) % 50_000;
        let dir = TempDir::with_prefix("holkas-user-").expect("a temporary directory");
        let user = Self { dir, id, replaced: Vec::new() };
        let put = |name: &str, text: String| fs::write(user.path(name), text).expect("a new file");
        fs::set_permissions(user.dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let home = user.home();
        put("passwd", format!("root:x:0:0:root:/root:/bin/sh\ntester:x:{id}:{id}::{}:/bin/sh\n", home.display()));
        put("program", String::new());
        user.change_ids(count);
        for dir in [home, user.path("run")] {
            fs::create_dir(&dir).expect("a new directory");
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("it is ours");
            user.give(&dir);
        }
        user
    }

    /// Gives the user so many other IDs in the place of those that they have.
    pub fn change_ids(&self, count: u32) {
        let text = if count == 0 { String::new() } else { format!("tester:{FIRST_ID}:{count}\n") };
        for name in ["subuid", "subgid"] {
            fs::write(self.path(name), &text).expect("it is ours");
        }
    }

    /// Puts other files into the places of programs of `/usr/bin`, for what is run for the user from now on:
    /// `("sh", "/dev/null")` takes the shell away. All others are what they are.
    pub fn replace(&mut self, programs: &[(&'static str, &'static str)]) {
        self.replaced = programs.to_vec();
    }

    /// Returns the user's ID, which is that of their group too.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the ID outside of what has the ID `inside` for the user.
    pub fn outside(&self, inside: u32) -> u32 {
        if inside == 0 { self.id } else { FIRST_ID + inside - 1 }
    }

    /// Returns the home directory.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Returns where containers-storage has the user's store.
    pub fn store(&self) -> PathBuf {
        self.path("home/.local/share/containers/storage")
    }

    /// Gives a file or a directory with all that is in it to the user.
    pub fn give(&self, path: &Path) {
        chown(path, Some(self.id), Some(self.id)).expect("root gives away what is there");
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path).expect("a directory") {
                self.give(&entry.expect("an entry").path());
            }
        }
    }

    /// Returns a command that runs a program as the user, in their home directory. Add arguments as to any other.
    ///
    /// It is a name, or an absolute path, which the user need not be able to go along. The process that is started
    /// becomes the program: what is sent to it arrives there.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        const SCRIPT: &str = "set -e
            for name in passwd subuid subgid; do mount --bind \"$1/$name\" \"/etc/$name\"; done
            for pair in $4; do mount --bind \"${pair#*=}\" \"/usr/bin/${pair%%=*}\"; done
            case $3 in /*) mount --bind \"$3\" \"$1/program\"; program=$1/program;; *) program=$3;; esac
            id=$2; cd \"$1/home\"; shift 4
            exec setpriv --reuid=\"$id\" --regid=\"$id\" --clear-groups --inh-caps=-all -- $WRAP \"$program\" \"$@\"";
        let mut command = Command::new("unshare");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.path("run")).env("WRAP", "");
        command.args(["--mount", "--", "/bin/sh", "-c", SCRIPT, "sh"]).arg(self.dir.path()).arg(self.id.to_string());
        let replaced: Vec<_> = self.replaced.iter().map(|(program, by)| format!("{program}={by}")).collect();
        command.arg(program.as_ref()).arg(replaced.join(" "));
        command
    }

    /// Returns what still runs for the user, by command line.
    pub fn processes(&self) -> Vec<String> {
        self.running().into_iter().map(|(_, shown)| shown).collect()
    }

    fn running(&self) -> Vec<(i32, String)> {
        let mine = format!("Uid:\t{}\t", self.id);
        let all = fs::read_dir("/proc").expect("procfs").filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            let status = fs::read_to_string(path.join("status")).ok()?;
            let shown = fs::read(path.join("cmdline")).ok()?;
            let ended = status.contains("State:\tZ");
            (status.contains(&mine) && !ended).then(|| (number, String::from_utf8_lossy(&shown).replace('\0', " ")))
        });
        all.collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // podman leaves a process behind that holds the user's namespace.
        for (number, _) in self.running() {
            if let Some(process) = rustix::process::Pid::from_raw(number) {
                // It may have ended by itself.
                let _gone = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        }
        let _never_made = fs::remove_file(format!("/dev/shm/libpod_rootless_lock_{}", self.id));
    }
}
