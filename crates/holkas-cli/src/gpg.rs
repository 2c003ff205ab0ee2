//! GnuPG, where users have their secret keys: it signs, and tells the public keys that it knows.
//!
//! The keys are in its agent, or on a card, and there is no other way to them. It is found in the directories of `PATH`,
//! and inherits the environment, which says where its home is and how it can ask for a passphrase.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use holkas::child::{self, Bounds};
use holkas::error::{Context, Error, ErrorKind, Result, printable};
use holkas::fs::named::find_program;
use holkas::limits::{GPG_TIME, KEYS, Limit, SIGNATURE};
use holkas::oci::Digest;
use holkas::reference::Name;
use holkas::registry::auth::Secret;
use holkas::signature::payload::Payload;
use holkas::signature::{Signer, UntrustedSignature, openpgp};

use crate::environment;

/// How much of what a failing GnuPG says is told.
const TOLD: usize = 600;

/// GnuPG, as it is installed.
#[derive(Debug, Clone)]
pub(crate) struct Gpg {
    program: PathBuf,
}

impl Gpg {
    /// Finds it.
    pub(crate) fn find() -> Result<Self> {
        let missing = || {
            Error::new(ErrorKind::Io, "the program `gpg` is not in PATH")
                .hint("install GnuPG: it holds the keys, and nothing else is needed of it")
        };
        find_program(&environment::programs(), "gpg").map(|program| Self { program }).ok_or_else(missing)
    }

    /// Returns the public keys that it knows by these fingerprints or other names.
    pub(crate) fn public_keys(&self, keys: &[String]) -> Result<Vec<u8>> {
        let arguments = ["--export", "--"].into_iter().chain(keys.iter().map(String::as_str));
        self.run(arguments, &[], KEYS).context(|| "asking gpg for public keys")
    }

    /// Returns the OpenPGP message by which a key signs these bytes.
    fn sign(&self, payload: &[u8], key: &str, passphrase: Option<&Secret>) -> Result<Vec<u8>> {
        let mut arguments = vec!["--no-armor", "--no-textmode", "--local-user", key];
        let mut input = Vec::new();
        if let Some(passphrase) = passphrase {
            // It is the first line of what it reads; what follows is signed.
            arguments.extend(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]);
            input.extend_from_slice(passphrase.expose().as_bytes());
            input.push(b'\n');
        }
        input.extend_from_slice(payload);
        arguments.push("--sign");
        let signature = self.run(arguments.into_iter(), &input, SIGNATURE)?;
        let (signed, _) = openpgp::read_untrusted(&signature).context(|| "reading what gpg has made")?;
        match signed == payload {
            true => Ok(signature),
            false => Err(Error::mismatch("gpg signed something else than it was given")),
        }
    }

    fn run<'a>(&self, arguments: impl Iterator<Item = &'a str>, input: &[u8], output: Limit) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.program);
        command.args(["--batch", "--no-tty", "--quiet", "--output", "-"]).args(arguments.map(OsStr::new));
        let answer = child::run(&mut command, input, Bounds { time: GPG_TIME, output })?;
        if answer.status.success() {
            return Ok(answer.stdout);
        }
        let said: String = String::from_utf8_lossy(answer.stderr.trim_ascii()).chars().take(TOLD).collect();
        let lines: Vec<String> = said.lines().map(|line| printable(line.as_bytes())).collect();
        Err(Error::new(ErrorKind::Io, format!("gpg failed ({}) and said: {}", answer.status, lines.join("; "))))
    }
}

/// Makes signatures of simple signing by a key that GnuPG holds.
#[derive(Debug)]
pub(crate) struct GpgSigner {
    gpg: Gpg,
    key: String,
    passphrase: Option<Secret>,
}

impl GpgSigner {
    /// Prepares to sign by a key, which is named by its fingerprint or otherwise as GnuPG understands it.
    pub(crate) fn new(key: &str, passphrase: Option<Secret>) -> Result<Self> {
        if key.is_empty() {
            return Err(Error::invalid("no key is named to sign by"));
        }
        if passphrase.as_ref().is_some_and(|passphrase| passphrase.expose().contains(['\n', '\0'])) {
            return Err(Error::invalid("the passphrase has more than one line"));
        }
        Ok(Self { gpg: Gpg::find()?, key: key.to_string(), passphrase })
    }
}

impl Signer for GpgSigner {
    fn name(&self) -> String {
        "simple signing".to_string()
    }

    fn sign(&self, manifest: &Digest, identity: &Name) -> Result<UntrustedSignature> {
        let payload = Payload {
            manifest: *manifest,
            identity: identity.to_string(),
            creator: Some(format!("holkas {}", env!("CARGO_PKG_VERSION"))),
            timestamp: Some(environment::now()),
        };
        let signature = self.gpg.sign(&payload.to_json(), &self.key, self.passphrase.as_ref());
        signature.map(UntrustedSignature).context(|| format!("signing by key {}", printable(self.key.as_bytes())))
    }
}
