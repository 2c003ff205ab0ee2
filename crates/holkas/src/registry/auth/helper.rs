//! Credential helpers: `docker-credential-NAME`, programs that keep secrets.
//!
//! A helper gets its order as argument (`get`, `store`, `erase`, `list`), the rest on standard input, and answers in
//! JSON on standard output; what it says when it fails is text there.
//! It inherits the environment, as its keyring or cloud is named there.
//! <https://github.com/docker/docker-credential-helpers>

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::Secret;
use crate::child::{self, Bounds};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::fs::named::find_program;
use crate::limits::{HELPER_OUTPUT, HELPER_TIME, TYPED_SECRET};
use crate::oci::json;

/// What a helper says when it has nothing; some end the sentence in another way.
const NOT_FOUND: &str = "credentials not found";
/// How much of what a failing helper says is told.
const TOLD: usize = 300;
/// The longest name of a helper: that of a file, less the prefix.
const NAME: usize = 200;

/// A helper that is installed.
pub(super) struct Helper<'a> {
    name: &'a str,
    program: PathBuf,
}

/// What a helper did.
struct Answer(child::Answer);

/// Returns an error unless the name is one of a helper: letters, digits, `.`, `_` and `-`, and no path.
pub(super) fn check_name(name: &str) -> Result<()> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.len() <= NAME && name.bytes().all(inside) && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Error::refused(format!("`{}` is no name of a credential helper", printable(name.as_bytes()))))
}

impl<'a> Helper<'a> {
    /// Finds a helper in these directories; `None` if it is not installed.
    pub(super) fn find(name: &'a str, programs: &[PathBuf]) -> Result<Option<Self>> {
        check_name(name)?;
        Ok(find_program(programs, &format!("docker-credential-{name}")).map(|program| Self { name, program }))
    }

    /// Finds a helper that must be there.
    pub(super) fn open(name: &'a str, programs: &[PathBuf]) -> Result<Self> {
        let missing = || {
            let cause =
                format!("the credential helper `docker-credential-{}` is not in PATH", printable(name.as_bytes()));
            Error::new(ErrorKind::Io, cause).hint("install it, or name another auth file with --authfile")
        };
        Self::find(name, programs)?.ok_or_else(missing)
    }

    /// Returns the user and the secret that the helper has for a server; `None` if it has none.
    pub(super) fn get(&self, server: &str) -> Result<Option<(String, Secret)>> {
        let frame = || self.frame("asking");
        let answer = self.run("get", server.as_bytes()).context(frame)?;
        if !answer.0.status.success() {
            return if answer.has_nothing() { Ok(None) } else { Err(answer.failure(None)).context(frame) };
        }
        let fields = json::parse_object(&answer.0.stdout).context(|| "reading its answer").context(frame)?;
        let text = |key: &str| match fields.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Error::invalid(format!("`{key}` of its answer is not a string"))).context(frame),
        };
        let (user, secret) = (text("Username")?, text("Secret")?);
        Ok(if user.is_empty() && secret.is_empty() { None } else { Some((user, Secret::new(secret))) })
    }

    /// Has the helper keep a user and a password for a server.
    pub(super) fn store(&self, server: &str, user: &str, password: &Secret) -> Result<()> {
        let order = json!({ "ServerURL": server, "Username": user, "Secret": password.expose() });
        let answer = self.run("store", order.to_string().as_bytes()).context(|| self.frame("storing with"))?;
        if answer.0.status.success() {
            return Ok(());
        }
        Err(answer.failure(Some(password))).context(|| self.frame("storing with"))
    }

    /// Has the helper forget a server, and returns whether it knew it.
    pub(super) fn erase(&self, server: &str) -> Result<bool> {
        let answer = self.run("erase", server.as_bytes()).context(|| self.frame("erasing with"))?;
        if answer.0.status.success() || answer.has_nothing() {
            return Ok(answer.0.status.success());
        }
        Err(answer.failure(None)).context(|| self.frame("erasing with"))
    }

    /// Returns the servers that the helper knows.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let frame = || self.frame("listing with");
        let answer = self.run("list", b"unused").context(frame)?;
        if !answer.0.status.success() {
            return Err(answer.failure(None)).context(frame);
        }
        Ok(json::parse_object(&answer.0.stdout).context(frame)?.into_iter().map(|(server, _)| server).collect())
    }

    fn frame(&self, doing: &str) -> String {
        format!("{doing} credential helper `{}`", self.name)
    }

    fn run(&self, order: &str, input: &[u8]) -> Result<Answer> {
        TYPED_SECRET.check(input.len() as u64)?;
        let bounds = Bounds { time: HELPER_TIME, output: HELPER_OUTPUT };
        child::run(Command::new(&self.program).arg(order), input, bounds).map(Answer)
    }
}

impl Answer {
    fn has_nothing(&self) -> bool {
        self.0.stdout.trim_ascii_start().starts_with(NOT_FOUND.as_bytes())
    }

    /// Returns the error of a helper that failed, with what it said: escaped, shortened, without secrets.
    fn failure(&self, secret: Option<&Secret>) -> Error {
        let said = if self.0.stdout.trim_ascii().is_empty() { &self.0.stderr } else { &self.0.stdout };
        let mut said = String::from_utf8_lossy(said.trim_ascii()).into_owned();
        if let Some(secret) = secret.filter(|secret| !secret.expose().is_empty()) {
            said = said.replace(secret.expose(), "***");
        }
        // An object may be an answer, or the order come back: with the secret in it.
        if said.is_empty() || said.contains('{') {
            return Error::new(ErrorKind::Io, format!("it failed ({})", self.0.status));
        }
        let told: String = said.chars().take(TOLD).collect();
        Error::new(ErrorKind::Io, format!("it failed ({}) and said: {}", self.0.status, printable(told.as_bytes())))
    }
}
