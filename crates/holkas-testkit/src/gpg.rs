//! GnuPG with a home of its own: keys of any kind, and what they sign.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::peers::{Output, Peer};

/// A GnuPG home in a temporary directory. Its agent ends with it.
#[derive(Debug)]
pub struct Gpg {
    /// Short, as the path of the agent's socket may have 107 bytes.
    home: TempDir,
}

impl Default for Gpg {
    fn default() -> Self {
        Self::new()
    }
}

impl Gpg {
    /// Makes an empty home.
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").expect("a directory");
        Self { home }
    }

    /// Returns the home: what `GNUPGHOME` must be.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs gpg with this input, and returns what it wrote; panics if it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut child = Command::new("gpg")
            .env("GNUPGHOME", self.home())
            .args(["--batch", "--quiet", "--no-tty", "--yes", "--pinentry-mode", "loopback", "--trust-model", "always"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // It may not want all of it.
                let _closed = stdin.write_all(input);
            });
            child.wait_with_output().expect("gpg ends")
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {}: {}\n{said}", arguments.join(" "), output.status);
        output.stdout
    }

    /// Makes a key that signs, without a passphrase, and returns its fingerprint. `expires` is as gpg takes it: `never`.
    #[track_caller]
    pub fn key(&self, user: &str, expires: &str) -> String {
        self.key_with(user, expires, &["--passphrase", ""])
    }

    /// Makes a key as [`Gpg::key`] does, with more options.
    #[track_caller]
    pub fn key_with(&self, user: &str, expires: &str, options: &[&str]) -> String {
        self.run(&[options, &["--quick-generate-key", user, "ed25519", "sign,cert", expires]].concat(), b"");
        self.fingerprints(user).remove(0)
    }

    /// Adds a subkey, and returns its fingerprint.
    #[track_caller]
    pub fn subkey(&self, key: &str, usage: &str, expires: &str) -> String {
        self.run(&["--passphrase", "", "--quick-add-key", key, "ed25519", usage, expires], b"");
        self.fingerprints(key).pop().expect("a subkey")
    }

    /// Returns the fingerprints of a key and its subkeys.
    #[track_caller]
    pub fn fingerprints(&self, key: &str) -> Vec<String> {
        let listed = self.run(&["--with-colons", "--list-keys", key], b"");
        let lines = String::from_utf8(listed).expect("text");
        lines
            .lines()
            .filter(|line| line.starts_with("fpr:"))
            .map(|line| line[4..].trim_matches(':').to_owned())
            .collect()
    }

    /// Returns a public key, binary.
    #[track_caller]
    pub fn public(&self, key: &str) -> Vec<u8> {
        self.run(&["--export", key], b"")
    }

    /// Returns a public key, as text.
    #[track_caller]
    pub fn armoured(&self, key: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", key], b"")
    }

    /// Returns the message by which a key signs these bytes, with more options.
    #[track_caller]
    pub fn sign(&self, key: &str, bytes: &[u8], options: &[&str]) -> Vec<u8> {
        self.run(&[options, &["--local-user", key, "--output", "-", "--sign"]].concat(), bytes)
    }

    /// Makes a program that knows this home.
    pub fn peer(&self, peer: Peer) -> Peer {
        peer.environment("GNUPGHOME", self.home())
    }

    /// Writes bytes into a file of the home, and returns its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// Has the agent forget all passphrases: it remembers those of new keys, and those that were right.
    pub fn forget(&self) {
        let mut reload = Command::new("gpgconf");
        let status = reload.env("GNUPGHOME", self.home()).args(["--reload", "gpg-agent"]).status();
        assert!(status.expect("gpgconf starts").success(), "gpgconf failed");
    }

    /// Runs skopeo with this home.
    pub fn skopeo(&self, arguments: &[&str]) -> Output {
        self.peer(Peer::program("skopeo")).run(arguments)
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // It would end by itself, but later.
        let _gone = Command::new("gpgconf").env("GNUPGHOME", self.home()).args(["--kill", "all"]).output();
    }
}

/// Returns what simple signing signs.
pub fn payload(digest: &str, name: &str) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"atomic container signature"}},"optional":{{"creator":"testkit","timestamp":1700000000}}}}"#
    )
}
