//! Debian's `docker-registry`, which is distribution 2.8, as a process of a test's own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::image::hex_of;
use crate::registry::{Certificates, Tls};

/// A running `docker-registry` on a free loopback port. Dropped, it is killed and its files are removed.
///
/// ```no_run
/// use holkas_testkit::docker_registry::DockerRegistry;
/// use holkas_testkit::peers::Peer;
/// let registry = DockerRegistry::builder().password("anna", "secret").start();
/// Peer::skopeo().credentials(registry.host(), "anna", "secret").run(["list-tags", &registry.reference("app")]).ok();
/// ```
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    host: String,
    log: Arc<Mutex<String>>,
    certificates: Option<Certificates>,
    dir: TempDir,
}

/// What a `docker-registry` is to be like.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    tls: Option<Tls>,
    users: Vec<(String, String)>,
    mirrored: Option<String>,
    schema1: bool,
}

impl Builder {
    /// Speaks TLS, with any of the certificates of the registry in this process.
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Asks for a password, and adds a user who has this one.
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.users.push((user.to_owned(), password.to_owned()));
        self
    }

    /// Makes it a pull-through cache of the registry at this URL; nothing can be pushed to it.
    pub fn mirror_of(self, url: &str) -> Self {
        Self { mirrored: Some(url.to_owned()), ..self }
    }

    /// Takes manifests of Docker's schema 1, too.
    pub fn schema1(self) -> Self {
        Self { schema1: true, ..self }
    }

    /// Starts it, and returns when it answers.
    pub fn start(self) -> DockerRegistry {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let certificates = self.tls.map(Certificates::new);
        let config = dir.path().join("config.yml");
        write(&config, &self.config(dir.path(), certificates.as_ref()));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            // It would export traces to a collector otherwise (distribution 3), and read its config from variables.
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a second end of the pipe"))
            .stderr(writer)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("starting docker-registry ({error}): run scripts/check.sh, which installs it")
            });
        let mut lines = BufReader::new(reader);
        let mut text = String::new();
        let host = loop {
            let start = text.len();
            let length = lines.read_line(&mut text).expect("it writes text");
            if length == 0 {
                // It is at its end; no zombie is left behind.
                let status = child.wait().expect("it was started");
                panic!("docker-registry: {status}\n{text}");
            }
            if let Some((_, rest)) = text[start..].split_once("listening on ") {
                break rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().map(str::to_owned);
            }
        };
        let log = Arc::new(Mutex::new(text));
        let own_log = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = own_log.lock().expect("no thread panics with it");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let host = host.expect("an address follows");
        let registry = DockerRegistry { child, host, log, certificates, dir };
        registry.wait_for_answer();
        registry
    }

    /// Returns the config. JSON strings are YAML strings, so paths are written as such.
    fn config(&self, dir: &Path, certificates: Option<&Certificates>) -> String {
        let storage = dir.join("storage");
        let mut text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {storage:?}\n  delete:\n    \
             enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: tests\n"
        );
        if let Some(certificates) = certificates {
            let (certificate, key) = (certificates.server_certificate(), certificates.server_key());
            text += &format!("  tls:\n    certificate: {certificate:?}\n    key: {key:?}\n");
            if self.tls == Some(Tls::ClientCertificate) {
                text += &format!("    clientcas: [{:?}]\n", certificates.authority());
            }
        }
        if !self.users.is_empty() {
            let file = dir.join("htpasswd");
            let lines: Vec<_> = self.users.iter().map(|(user, password)| htpasswd(user, password)).collect();
            write(&file, &lines.concat());
            text += &format!("auth:\n  htpasswd:\n    realm: tests\n    path: {file:?}\n");
        }
        if let Some(url) = &self.mirrored {
            text += &format!("proxy:\n  remoteurl: {url:?}\n");
        }
        if self.schema1 {
            text += "compatibility:\n  schema1:\n    enabled: true\n";
        }
        text
    }
}

impl DockerRegistry {
    /// Returns what makes one: plain HTTP, nobody asked who he is, deleting allowed.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts one with plain HTTP that asks nobody who he is.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns `http://127.0.0.1:PORT`, or https.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }

    /// Returns `docker://127.0.0.1:PORT/<name>`.
    pub fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host)
    }

    /// Returns the files for its clients. Panics without TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("the registry speaks TLS")
    }

    /// Returns where it keeps blobs and repositories.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage/docker/registry/v2")
    }

    /// Returns the file of a blob or manifest. Nothing says that it is there.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = hex_of(digest);
        self.storage().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// Returns what it wrote so far: messages, and a line for each request.
    pub fn log(&self) -> String {
        self.log.lock().expect("no thread panics with it").clone()
    }

    /// Waits for the answer to `/v2/`. With TLS, that it listens must do: the kernel keeps who comes early.
    fn wait_for_answer(&self) {
        if self.certificates.is_some() {
            return;
        }
        let mut stream = TcpStream::connect(&self.host).expect("it listens");
        write!(stream, "GET /v2/ HTTP/1.0\r\nHost: {}\r\n\r\n", self.host).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let is_right = ["200", "401"].iter().any(|status| answer.split(' ').nth(1) == Some(status));
        assert!(is_right, "docker-registry answers\n{answer}\n{}", self.log());
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself; the test has told what was wrong then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the line of a user; docker-registry takes bcrypt only.
fn htpasswd(user: &str, password: &str) -> String {
    let output = Command::new("htpasswd")
        .args(["-Bbn", user, password])
        .output()
        .unwrap_or_else(|error| panic!("starting htpasswd ({error}): run scripts/check.sh, which installs it"));
    assert!(output.status.success(), "htpasswd: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("htpasswd writes text").trim_end().to_owned() + "\n"
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
