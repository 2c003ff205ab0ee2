//! Real programs (skopeo, podman and others) run in a world of their own: no store, config or network of the host.

mod registries;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use tempfile::TempDir;

/// What `podman run` needs where containers are run in containers, beside `--runtime=runc` and `--cgroup-manager=cgroupfs`.
///
/// The two limits because podman would raise them above what it may; `--network=none` because no test has a network;
/// `--pull=never` because podman answers a damaged image by pulling it.
/// Never add `--cgroups=disabled`: podman 4.3.1 says that runc "is not compatible with NoCgroups"; only crun takes it.
pub const RUN_OPTIONS: [&str; 8] =
    ["run", "--rm", "--network=none", "--pull=never", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns stdout without trailing white space; panics, showing stderr, if the program failed.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert!(self.status.success(), "{}: {}\n{}", self.command, self.status, self.errors());
        self.text()
    }

    /// Returns stderr; panics, showing stdout, if the program did not fail.
    #[track_caller]
    pub fn fails(&self) -> String {
        assert!(!self.status.success(), "{}: it succeeded\n{}{}", self.command, self.text(), self.errors());
        self.errors()
    }

    /// Returns stdout as text, without trailing white space.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Returns stderr as text, without trailing white space.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }

    /// Returns stdout as JSON; panics if the program failed or wrote something else.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        self.ok();
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.command, self.text()))
    }
}

/// A real program with the arguments that keep it in its own world.
///
/// ```no_run
/// use holkas_testkit::peers::Peer;
/// Peer::skopeo().run(["copy", "dir:/a", "oci:/b:1"]).ok();
/// ```
#[derive(Debug, Clone)]
pub struct Peer {
    program: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
    // Files that the environment points to live as long as the last peer that needs them.
    _world: Option<Arc<World>>,
}

impl Peer {
    /// Returns skopeo, with any policy (`--insecure-policy`) and an empty store of its own.
    pub fn skopeo() -> Self {
        Self::alone("skopeo").argument("--insecure-policy")
    }

    /// Returns umoci.
    pub fn umoci() -> Self {
        Self::alone("umoci")
    }

    /// Returns podman on `store`.
    pub fn podman(store: &Store) -> Self {
        store.peer("podman").arguments(["--tmpdir"]).argument(store.dir.join("tmp")).arguments([
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
            "--runtime=runc",
        ])
    }

    /// Returns buildah on `store`.
    pub fn buildah(store: &Store) -> Self {
        store.peer("buildah")
    }

    /// Returns containers-storage on `store`.
    pub fn containers_storage(store: &Store) -> Self {
        let peer = Self::installed("containers-storage").environment_of(&store.dir);
        peer.argument("--graph")
            .argument(&store.root)
            .argument("--run")
            .argument(&store.runroot)
            .argument(format!("--storage-driver={}", store.driver))
            .arguments(store.storage_options().into_iter().map(|option| format!("--storage-opt={option}")))
    }

    /// Returns any program, by name or path, in the same world as skopeo: for holkas itself, or another build of a peer.
    pub fn program(program: &str) -> Self {
        Self::alone(program)
    }

    /// Returns whether `program` is there. For tests that may skip aloud; most should panic instead.
    pub fn is_installed(program: &str) -> bool {
        find(program).is_some()
    }

    /// Adds an argument that comes before those of [`Peer::run`].
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments that come before those of [`Peer::run`].
    pub fn arguments(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Peer::argument)
    }

    /// Sets a variable of the environment.
    pub fn environment(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets where it runs.
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.current_dir = Some(path.as_ref().to_owned());
        self
    }

    /// Returns the command with `arguments`, to be run in another way (background, pipes). Keep the peer alive meanwhile.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(path) = &self.current_dir {
            command.current_dir(path);
        }
        command
    }

    /// Runs the program with `arguments` to its end, with nothing on stdin.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let mut command = self.command(arguments);
        let output = command
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("starting `{}`: {error}", self.program));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        Output {
            command: format!("{} {}", self.program, words.join(" ")),
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr,
        }
    }

    /// Returns what the program says of its version, in one line.
    pub fn version(&self) -> String {
        let output =
            Command::new(&self.program).arg("--version").output().expect("it was found when the peer was made");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    }

    fn alone(program: &str) -> Self {
        let world = Arc::new(World::new());
        let mut peer = Self::installed(program).environment_of(world.dir.path());
        peer._world = Some(world);
        peer
    }

    fn installed(program: &str) -> Self {
        let path = find(program)
            .unwrap_or_else(|| panic!("peer `{program}` is not installed: run scripts/check.sh, which installs it"));
        Self {
            program: path.to_string_lossy().into_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            current_dir: None,
            _world: None,
        }
    }

    /// Points all that containers tools look for into `dir`, where `write_world` has put it.
    fn environment_of(mut self, dir: &Path) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        self = self.environment("PATH", path).environment("LC_ALL", "C.UTF-8").environment("TZ", "UTC");
        for (name, file) in [
            ("HOME", "home"),
            ("XDG_RUNTIME_DIR", "run-user"),
            ("XDG_CONFIG_HOME", "home/.config"),
            ("XDG_DATA_HOME", "home/.local/share"),
            ("XDG_CACHE_HOME", "home/.cache"),
            ("TMPDIR", "scratch"),
            ("CONTAINERS_STORAGE_CONF", "storage.conf"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
            ("CONTAINERS_CONF", "containers.conf"),
            ("REGISTRY_AUTH_FILE", "auth.json"),
        ] {
            self = self.environment(name, dir.join(file));
        }
        self
    }
}

/// A containers-storage in a temporary directory, with its own config. Dropped, it is unmounted and removed.
///
/// ```no_run
/// use holkas_testkit::peers::Store;
/// let store = Store::overlay();
/// store.skopeo(["copy", "oci:/some/layout:1", &store.reference("localhost/app:1")]).ok();
/// assert!(store.podman(["images", "-q"]).ok().len() > 1);
/// ```
#[derive(Debug)]
pub struct Store {
    /// The graph root. It is not made before a program writes to it.
    pub root: PathBuf,
    /// The run root.
    pub runroot: PathBuf,
    /// `overlay` or `vfs`.
    pub driver: String,
    additional: Vec<PathBuf>,
    /// What storage.conf says of pulls.
    pull_options: &'static str,
    dir: PathBuf,
    _world: World,
}

impl Store {
    /// Returns an empty store of `driver`.
    pub fn new(driver: &str) -> Self {
        let world = World::new();
        let dir = world.dir.path().to_owned();
        Self::with_root(driver, dir.join("root"), world)
    }

    /// Returns an empty store of the driver `overlay`.
    pub fn overlay() -> Self {
        Self::new("overlay")
    }

    /// Returns an empty store of the driver `vfs`.
    pub fn vfs() -> Self {
        Self::new("vfs")
    }

    /// Returns a store on a graph root that is elsewhere, such as in a tree that was built. It is unmounted, but not removed.
    pub fn at(root: impl AsRef<Path>, driver: &str) -> Self {
        let root = std::path::absolute(root).expect("a current directory");
        Self::with_root(driver, root, World::new())
    }

    /// Adds a read-only store of the same driver, as `additionalimagestores` in storage.conf does.
    ///
    /// podman with `--root`, and a reference that says its root, do not look into storage.conf for them (podman 4.3,
    /// skopeo 1.9); so the peers get `--storage-opt`, and [`Store::reference`] the same option.
    pub fn additional_store(mut self, root: impl AsRef<Path>) -> Self {
        self.additional.push(root.as_ref().to_owned());
        write(&self.dir.join("storage.conf"), &self.storage_conf());
        self
    }

    /// Has podman fetch of zstd:chunked layers only what it does not have.
    pub fn partial_pulls(mut self) -> Self {
        self.pull_options = "pull_options = {enable_partial_images = \"true\"}\n";
        write(&self.dir.join("storage.conf"), &self.storage_conf());
        self
    }

    /// Returns `containers-storage:[<driver>@<root>+<runroot>]<name>`, with additional stores after the run root.
    pub fn reference(&self, name: impl Display) -> String {
        let options = match self.storage_options().join(",") {
            options if options.is_empty() => options,
            options => format!(":{options}"),
        };
        let (root, runroot) = (self.root.display(), self.runroot.display());
        format!("containers-storage:[{}@{root}+{runroot}{options}]{name}", self.driver)
    }

    /// Runs podman on this store.
    pub fn podman(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Peer::podman(self).run(arguments)
    }

    /// Runs `podman run` with [`RUN_OPTIONS`], then `arguments`: image and command.
    pub fn podman_run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Peer::podman(self).arguments(RUN_OPTIONS).run(arguments)
    }

    /// Runs skopeo; say the store by [`Store::reference`].
    pub fn skopeo(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Peer::installed("skopeo").environment_of(&self.dir).argument("--insecure-policy").run(arguments)
    }

    /// Runs buildah on this store.
    pub fn buildah(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Peer::buildah(self).run(arguments)
    }

    /// Runs containers-storage on this store.
    pub fn containers_storage(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Peer::containers_storage(self).run(arguments)
    }

    /// Unmounts all that programs have left below the store (T21 of the storage page).
    pub fn unmount(&self) {
        unmount_below(&self.dir);
        unmount_below(&self.root);
    }

    /// Removes what podman leaves beside the images, so that the graph root can be compared: `libpod`, `db.sql` and such.
    pub fn remove_podman_state(&self) {
        self.unmount();
        for name in ["libpod", "db.sql", "defaultNetworkBackend", "mounts", "tmp", "secrets"] {
            let path = self.root.join(name);
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = gone {
                let absent = error.kind() == std::io::ErrorKind::NotFound;
                assert!(absent, "removing {}: {error}", path.display());
            }
        }
    }

    fn with_root(driver: &str, root: PathBuf, world: World) -> Self {
        let dir = world.dir.path().to_owned();
        let (runroot, driver) = (dir.join("runroot"), driver.into());
        let store = Self { root, runroot, driver, additional: Vec::new(), pull_options: "", dir, _world: world };
        write(&store.dir.join("storage.conf"), &store.storage_conf());
        store
    }

    fn storage_conf(&self) -> String {
        format!(
            "[storage]\ndriver = {:?}\ngraphroot = {:?}\nrunroot = {:?}\n\n[storage.options]\nadditionalimagestores = {:?}\n{}",
            self.driver, self.root, self.runroot, self.additional, self.pull_options
        )
    }

    fn storage_options(&self) -> Vec<String> {
        self.additional.iter().map(|root| format!("{}.imagestore={}", self.driver, root.display())).collect()
    }

    fn peer(&self, program: &str) -> Peer {
        Peer::installed(program)
            .environment_of(&self.dir)
            .argument("--root")
            .argument(&self.root)
            .argument("--runroot")
            .argument(&self.runroot)
            .argument(format!("--storage-driver={}", self.driver))
            .arguments(self.storage_options().into_iter().map(|option| format!("--storage-opt={option}")))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// A temporary directory with all that containers tools would else look for in /etc and the home directory.
#[derive(Debug)]
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::with_prefix("holkas-peer-").expect("a temporary directory");
        let path = dir.path();
        for name in ["home/.config/containers", "home/.local/share", "home/.cache", "run-user", "scratch", "tmp"] {
            fs::create_dir_all(path.join(name)).unwrap_or_else(|error| panic!("making {name}: {error}"));
        }
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            path.join("root"),
            path.join("runroot")
        );
        write(&path.join("storage.conf"), &conf);
        write(&path.join("registries.conf"), "unqualified-search-registries = []\n");
        write(
            &path.join("containers.conf"),
            &format!(
                "[containers]\nlog_driver = \"k8s-file\"\n[engine]\nevents_logger = \"none\"\n\
                 [network]\nnetwork_config_dir = {:?}\n",
                path.join("network")
            ),
        );
        write(&path.join("auth.json"), "{}\n");
        let policy = "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n";
        write(&path.join("policy.json"), policy);
        write(&path.join("home/.config/containers/policy.json"), policy);
        Self { dir }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        unmount_below(self.dir.path());
    }
}

/// Unmounts, lazily and deepest first, all that is mounted at or below `path`.
pub fn unmount_below(path: &Path) {
    // mountinfo has resolved paths; a directory that does not exist has no mounts.
    let Ok(path) = path.canonicalize() else { return };
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(&path))
        .collect();
    points.sort_unstable_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        // It may be gone together with another one; removing the directory will tell if not.
        let _ = Command::new("umount").arg("-l").arg(&point).output();
    }
}

/// Undoes the `\040` of mountinfo.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => text.extend([char::from(code)].into_iter().chain(part[3..].chars())),
            None => text.extend(['\\'].into_iter().chain(part.chars())),
        }
    }
    text
}

fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return path.exists().then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // runc and others live in /usr/sbin, which a user's PATH may lack.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
