//! A stage run as osbuild v190 runs it: by bubblewrap, with nothing of the host but what osbuild lets in.
//!
//! ```text
//! /run/osbuild/bin/MODULE      the program, under the stage's name, which gets no arguments
//! /run/osbuild/api/arguments   tree, inputs, options and meta as JSON
//! /run/osbuild/tree            the tree, the one thing that can be written to and stays
//! /run/osbuild/inputs          what the inputs have put there, read-only
//! /etc/containers              the build root's, if it has one; nothing else is in /etc
//! /usr                         the build root's: empty, but for the libraries that the program is linked to
//! /var                         a scratch directory on disk
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// All capabilities by their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Those that osbuild leaves to every stage.
const LEFT: [&str; 19] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "LINUX_IMMUTABLE",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_RESOURCE",
];

/// Those without which no image can be stored: a machine that has them not cannot run the tests.
const NEEDED: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP", "SYS_ADMIN"];

/// A stage's world: a tree, its inputs, and a build root.
///
/// ```no_run
/// use holkas_testkit::osbuild::sandbox::{Sandbox, images};
/// use serde_json::json;
/// let sandbox = Sandbox::new("/usr/bin/holkas");
/// // … an image at sandbox.input("images").join("sha256:…") …
/// let inputs = images(&[("sha256:…", "dir", "localhost/app:1")]);
/// sandbox.run("org.osbuild.skopeo", &inputs, &json!({"destination": {"type": "containers-storage"}})).ok();
/// ```
#[derive(Debug)]
pub struct Sandbox {
    dir: TempDir,
    program: PathBuf,
    source_epoch: Option<i64>,
}

/// What a stage did.
#[derive(Debug)]
pub struct StageOutput {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to stdout and stderr, which are one pipe.
    pub output: Vec<u8>,
}

impl StageOutput {
    /// Returns the output; panics, showing it, if the stage failed.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text());
        self.text()
    }

    /// Returns the output; panics if the stage did not fail, or not in an orderly way.
    #[track_caller]
    pub fn fails(&self) -> String {
        assert!(matches!(self.code, Some(1 | 2)), "{:?}: {}", self.code, self.text());
        self.text()
    }

    /// Returns the output, which must be ASCII: osbuild decodes it in chunks that may cut any other character.
    #[track_caller]
    pub fn text(&self) -> String {
        assert!(self.output.is_ascii(), "not ASCII: {}", String::from_utf8_lossy(&self.output));
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

impl Sandbox {
    /// Returns a world with an empty tree, no inputs and no policy, in which `program` is every stage.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let dir = TempDir::with_prefix("holkas-sandbox-").expect("a temporary directory");
        for name in ["tree", "inputs", "build/usr", "build/etc", "var/tmp", "empty"] {
            fs::create_dir_all(dir.path().join(name)).expect("a directory of our own");
        }
        fs::set_permissions(dir.path().join("var/tmp"), fs::Permissions::from_mode(0o1777)).expect("our own");
        fs::write(dir.path().join("cmdline"), "root=/dev/osbuild\n").expect("our own");
        for library in libraries(program.as_ref()) {
            let below = library.strip_prefix("/usr").or(library.strip_prefix("/")).expect("an absolute path");
            let to = dir.path().join("build/usr").join(below);
            fs::create_dir_all(to.parent().expect("it has a name")).expect("our own");
            fs::copy(&library, to).unwrap_or_else(|error| panic!("{}: {error}", library.display()));
        }
        Self { dir, program: program.as_ref().to_path_buf(), source_epoch: None }
    }

    /// Puts a policy.json into the build root.
    pub fn policy(self, text: &str) -> Self {
        let dir = self.dir.path().join("build/etc/containers");
        fs::create_dir_all(&dir).expect("our own");
        fs::write(dir.join("policy.json"), text).expect("our own");
        self
    }

    /// Sets the pipeline's `source-epoch`.
    pub fn source_epoch(mut self, seconds: i64) -> Self {
        self.source_epoch = Some(seconds);
        self
    }

    /// Returns where the tree is.
    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Returns the directory of an input, made if it is missing.
    pub fn input(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("inputs").join(name);
        fs::create_dir_all(&path).expect("our own");
        path
    }

    /// Empties the tree.
    pub fn clear(&self) {
        fs::remove_dir_all(self.tree()).expect("our own");
        fs::create_dir(self.tree()).expect("our own");
    }

    /// Runs a stage to its end.
    pub fn run(&self, module: &str, inputs: &Value, options: &Value) -> StageOutput {
        self.run_with(module, &self.arguments(inputs, options))
    }

    /// As [`Sandbox::run`], with the arguments' whole file as given.
    pub fn run_with(&self, module: &str, arguments: &[u8]) -> StageOutput {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = self.command(module, arguments);
        command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting bwrap: {error}"));
        // It holds the ends of the pipe that are written to.
        drop(command);
        let mut output = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut output).expect("a pipe can be read");
        let code = child.wait().expect("a child").code();
        assert!(!output.starts_with(b"bwrap: "), "this machine has no sandbox: {}", String::from_utf8_lossy(&output));
        StageOutput { code, output }
    }

    /// Returns the file that a stage gets its arguments by.
    pub fn arguments(&self, inputs: &Value, options: &Value) -> Vec<u8> {
        let mut meta = json!({"id": "0".repeat(64)});
        if let Some(seconds) = self.source_epoch {
            meta["source-epoch"] = json!(seconds);
        }
        let arguments = json!({
            "tree": "/run/osbuild/tree",
            "paths": {"devices": "/dev", "inputs": "/run/osbuild/inputs", "mounts": "/run/osbuild/mounts"},
            "devices": {}, "inputs": inputs, "mounts": {}, "options": options, "meta": meta,
        });
        serde_json::to_vec(&arguments).expect("JSON can be written")
    }

    /// Returns the sandbox, not started, with a stage in it. Only its stdin is set.
    pub fn command(&self, module: &str, arguments: &[u8]) -> Command {
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("arguments"), arguments).expect("our own");
        fs::write(path("meta"), "").expect("our own");
        let mut command = Command::new("bwrap");
        command.args(["--chdir", "/", "--die-with-parent", "--new-session"]);
        command.args(["--unshare-ipc", "--unshare-pid", "--unshare-net"]);
        for capability in dropped() {
            command.arg("--cap-drop").arg(format!("CAP_{capability}"));
        }
        command.arg("--ro-bind").arg(path("build/usr")).arg("/usr");
        for name in ["lib", "lib64", "bin", "sbin"] {
            command.arg("--symlink").arg(format!("usr/{name}")).arg(format!("/{name}"));
        }
        command.args(["--tmpfs", "/dev"]);
        for name in ["full", "null", "random", "urandom", "tty", "zero"] {
            command.arg("--dev-bind").arg(format!("/dev/{name}")).arg(format!("/dev/{name}"));
        }
        command.args(["--tmpfs", "/dev/shm", "--dir", "/etc", "--tmpfs", "/run", "--tmpfs", "/tmp"]);
        command.arg("--bind").arg(path("var")).arg("/var");
        command.args(["--proc", "/proc", "--ro-bind", "/sys", "/sys"]);
        command.arg("--ro-bind-try").arg(path("build/etc/containers")).arg("/etc/containers");
        command.arg("--ro-bind").arg(path("empty")).arg("/run/osbuild/lib");
        command.arg("--ro-bind").arg(path("cmdline")).arg("/proc/cmdline");
        command.arg("--bind").arg(path("tree")).arg("/run/osbuild/tree");
        command.arg("--bind").arg(path("meta")).arg("/run/osbuild/meta");
        command.arg("--ro-bind").arg(&self.program).arg(format!("/run/osbuild/bin/{module}"));
        command.arg("--ro-bind").arg(path("inputs")).arg("/run/osbuild/inputs");
        command.args(["--dir", "/run/osbuild/mounts", "--dir", "/run/osbuild/api"]);
        command.arg("--ro-bind").arg(path("arguments")).arg("/run/osbuild/api/arguments");
        command.arg("--").arg(format!("/run/osbuild/bin/{module}"));
        command.env_clear().envs([
            ("container", "bwrap-osbuild"),
            ("LC_CTYPE", "C.UTF-8"),
            ("PATH", "/usr/sbin:/usr/bin"),
            ("PYTHONPATH", "/run/osbuild/lib"),
            ("PYTHONUNBUFFERED", "1"),
            ("TERM", "dumb"),
        ]);
        if let Some(seconds) = self.source_epoch {
            command.env("SOURCE_DATE_EPOCH", seconds.to_string());
        }
        command.stdin(Stdio::null());
        command
    }
}

/// Returns the input `images`: key, format and name of each.
pub fn images(images: &[(&str, &str, &str)]) -> Value {
    let archives: serde_json::Map<String, Value> =
        images.iter().map(|(key, format, name)| (key.to_string(), json!({"format": format, "name": name}))).collect();
    json!({"images": {"path": "/run/osbuild/inputs/images", "data": {"archives": archives}}})
}

/// Adds the input `manifest-lists`: the names of its files, which are digests.
pub fn with_lists(mut inputs: Value, files: &[&str]) -> Value {
    let files: serde_json::Map<String, Value> = files.iter().map(|file| (file.to_string(), json!({}))).collect();
    inputs["manifest-lists"] = json!({"path": "/run/osbuild/inputs/manifest-lists", "data": {"files": files}});
    inputs
}

/// Returns the capabilities that this process could give away and a stage must not have; panics if it has too few.
fn dropped() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a line of procfs");
    let bounding = u64::from_str_radix(bounding.trim(), 16).expect("hex digits");
    let have = |name: &str| CAPABILITIES.iter().position(|own| *own == name).is_some_and(|n| bounding & (1 << n) != 0);
    for name in NEEDED {
        assert!(have(name), "the tests need CAP_{name}, which this machine does not give");
    }
    CAPABILITIES.into_iter().filter(|name| have(name) && !LEFT.contains(name)).collect()
}

/// Returns the libraries that a program is linked to, and the linker itself; none for a static program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    if !crate::oddities::has_interpreter(&bytes) {
        return Vec::new();
    }
    let output = Command::new("ldd").arg(program).output().unwrap_or_else(|error| panic!("starting ldd: {error}"));
    assert!(output.status.success(), "ldd: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
