//! osbuild as its modules see it: a store, a socket for each service and the calls on it, and a sandbox for each stage.
//!
//! Written after osbuild 190, of whose protocol `docs/osbuild.md` tells.

mod jsoncomm;
pub mod sandbox;
pub mod schema;
mod store;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::jsoncomm::{Carrier, memory_file};
pub use self::store::StoreServer;
use crate::peers::unmount_below;

/// Between making a socket inheritable and starting the one program that shall inherit it, no other may be started.
static STARTING: Mutex<()> = Mutex::new(());

/// A host with a store and a library directory, in which a program takes the place of modules.
///
/// ```no_run
/// use holkas_testkit::osbuild::Host;
/// use serde_json::json;
/// let host = Host::new("/usr/bin/holkas");
/// let reply = host.download("org.osbuild.skopeo", json!({}));
/// assert_eq!(reply["success"], true);
/// ```
#[derive(Debug)]
pub struct Host {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    dir: TempDir,
}

/// A service that runs. Dropped, its socket is closed, and it must come to its end.
#[derive(Debug)]
pub struct Service {
    socket: Option<jsoncomm::Socket>,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

/// What a service answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What a method returns.
    Reply(Value),
    /// An exception: its name, value and backtrace.
    Exception(String, String, String),
}

/// How a service ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// All that it wrote to stdout and stderr.
    pub output: String,
}

impl Answer {
    /// Returns what came; panics if it was an exception.
    #[track_caller]
    pub fn reply(self) -> Value {
        match self {
            Self::Reply(value) => value,
            Self::Exception(name, value, _) => panic!("an exception {name}: {value}"),
        }
    }

    /// Returns an exception's text; panics if there was none.
    #[track_caller]
    pub fn exception(self) -> String {
        match self {
            Self::Exception(_, value, _) => value,
            Self::Reply(value) => panic!("no exception: {value}"),
        }
    }
}

impl Host {
    /// Makes a host on which `program` has the place of all modules, and every image is accepted by the policy.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for below in ["home/.config/containers", "store/sources", "store/tmp", "lib/sources", "lib/inputs"] {
            fs::create_dir_all(dir.path().join(below)).expect("a directory is made");
        }
        let environment = vec![
            ("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME".into(), dir.path().join("home").into()),
            ("CONTAINERS_STORAGE_CONF".into(), dir.path().join("home/storage.conf").into()),
        ];
        let host = Self { program: program.as_ref().to_owned(), environment, dir };
        host.policy(r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        host.storage_conf("[storage]\n");
        host
    }

    /// Sets a variable of the environment of services.
    pub fn environment(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Writes the user's policy.json.
    pub fn policy(&self, text: &str) {
        fs::write(self.home().join(".config/containers/policy.json"), text).expect("it is written");
    }

    /// Writes the storage.conf that services are told of.
    pub fn storage_conf(&self, text: &str) {
        fs::write(self.home().join("storage.conf"), text).expect("it is written");
    }

    /// Returns the home directory of services.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Returns the store's directory for sources, as services get it.
    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("store/sources")
    }

    /// Returns where an image of the store is.
    pub fn image(&self, id: &str) -> PathBuf {
        self.cache().join("org.osbuild.containers").join(id).join("image")
    }

    /// Returns a new, empty directory such as an input gets as its target.
    pub fn target(&self) -> PathBuf {
        let build = tempfile::tempdir_in(self.dir.path().join("store/tmp")).expect("a directory is made").keep();
        let target = build.join("inputs/images");
        fs::create_dir_all(&target).expect("a directory is made");
        target
    }

    /// Starts the store's own service, which knows the trees of these pipelines by the IDs of their objects.
    pub fn store(&self, trees: &[(&str, &Path)]) -> StoreServer {
        StoreServer::start(self.dir.path(), self.cache(), trees)
    }

    /// Starts a source.
    pub fn source(&self, name: &str) -> Service {
        self.start("sources", name, &format!("source/{name}"))
    }

    /// Starts an input.
    pub fn input(&self, name: &str) -> Service {
        self.start("inputs", name, "input/images")
    }

    /// Has a source fetch items into the store, and returns what it answered.
    #[track_caller]
    pub fn download(&self, name: &str, items: Value) -> Value {
        self.source(name).call("download", self.download_args(items)).reply()
    }

    /// Returns the arguments of `download`, as osbuild sends them.
    pub fn download_args(&self, items: Value) -> Value {
        json!({ "items": items, "options": {}, "cache": self.cache(), "output": null, "checksums": [] })
    }

    /// Returns the arguments of `map`, as osbuild sends them.
    pub fn map_args(&self, origin: &str, refs: Value, target: &Path, store: &StoreServer) -> Value {
        json!({ "origin": origin, "refs": refs, "target": target, "options": {}, "api": { "store": store.address() } })
    }

    fn start(&self, folder: &str, name: &str, id: &str) -> Service {
        let module = self.dir.path().join("lib").join(folder).join(name);
        // Another service of this host may have made it already.
        if fs::symlink_metadata(&module).is_err() {
            let _already = std::os::unix::fs::symlink(&self.program, &module);
        }
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.expect("a pair of sockets");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(&module);
        command
            .args(["--service-id", id, "--service-fd"])
            .arg(theirs.as_raw_fd().to_string())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a second end of the pipe"))
            .stderr(writer)
            // A Ctrl-C of whoever runs the tests is not for the service.
            .process_group(0);
        let child = {
            let _alone = STARTING.lock().expect("no thread panics with it");
            fcntl_setfd(&theirs, FdFlags::empty()).expect("a flag is set");
            let child = command.spawn().expect("the program runs");
            drop(theirs);
            child
        };
        // It holds ends of the pipe.
        drop(command);
        let output = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&output);
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                own.lock().expect("no thread panics with it").extend_from_slice(&buffer[..length]);
            }
        });
        Service { socket: Some(jsoncomm::Socket::new(ours)), child, output, reading: Some(reading) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What a test that has failed left mounted would else be removed through the mount.
        unmount_below(self.dir.path());
    }
}

impl Service {
    fn socket(&self) -> &jsoncomm::Socket {
        self.socket.as_ref().expect("it is not closed")
    }

    /// Calls a method and waits for its answer.
    #[track_caller]
    pub fn call(&self, method: &str, args: Value) -> Answer {
        self.send(method, args, &[]);
        self.answer().expect("an answer").0
    }

    /// Calls a method, with descriptors.
    #[track_caller]
    pub fn call_with(&self, method: &str, args: Value, fds: &[BorrowedFd<'_>]) -> Answer {
        self.send(method, args, fds);
        self.answer().expect("an answer").0
    }

    /// Calls a method without waiting for its answer.
    pub fn send(&self, method: &str, args: Value, fds: &[BorrowedFd<'_>]) {
        let message = json!({ "type": "method", "data": { "name": method, "args": args } });
        self.socket().send(message.to_string().as_bytes(), fds);
    }

    /// Sends any bytes as a packet.
    pub fn send_raw(&self, bytes: &[u8]) {
        self.socket().send(bytes, &[]);
    }

    /// Waits for an answer, and returns by what way it came; `None` if the service has ended.
    pub fn answer(&self) -> Option<(Answer, Carrier)> {
        let (bytes, carrier) = self.socket().receive()?;
        let message: Value = serde_json::from_slice(&bytes).expect("it sends JSON");
        let text = |key: &str| message["data"][key].as_str().expect("a string").to_owned();
        let answer = match message["type"].as_str() {
            Some("reply") => Answer::Reply(message["data"]["reply"].clone()),
            Some("exception") => Answer::Exception(text("name"), text("value"), text("backtrace")),
            _ => panic!("no answer: {message}"),
        };
        Some((answer, carrier))
    }

    /// Returns what it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8(self.output.lock().expect("no thread panics with it").clone()).expect("it writes UTF-8 only")
    }

    /// Returns the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes the socket, and waits for the end.
    pub fn close(mut self) -> Ended {
        self.end()
    }

    /// Kills the process, as an administrator would who lost patience.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("it is there until it was waited for");
        self.end()
    }

    fn end(&mut self) -> Ended {
        self.socket = None;
        let status = self.child.wait().expect("it was started");
        if let Some(reading) = self.reading.take() {
            reading.join().expect("reading does not panic");
        }
        Ended { status, output: self.output() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.reading.is_some() {
            self.socket = None;
            // A test that has failed needs no second panic.
            let _ended = self.child.wait();
        }
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
