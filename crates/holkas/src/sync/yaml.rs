//! The YAML file of `sync`: registries, and which of their images are wanted. Errors say the file, the line and the key.
//!
//! ```yaml
//! registry.example.org:
//!   images:
//!     team/app: [1.4, "sha256:0123…"]       # tags and digests
//!     team/base: []                         # all tags
//!   images-by-tag-regex:
//!     team/tool: ^v2\.
//!   images-by-semver:
//!     team/lib: ">=1.2, <2"
//!   credentials:
//!     username: reader
//!     password: secret
//!   tls-verify: false
//!   cert-dir: /etc/certs
//! ```

mod node;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex_lite::{Regex, RegexBuilder};

use self::node::{Node, Value};
use super::constraint::{Constraint, Version};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::fs::{self, display};
use crate::limits::{CONFIGURATION, LISTED, REGEX};
use crate::oci::Digest;
use crate::reference::Name;
use crate::registry::auth::Secret;

/// One registry of the file.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// What stands before its repositories: a host, perhaps with a port or the beginning of a path.
    pub host: String,
    /// What is wanted of it, in the order of the file.
    pub repositories: Vec<Repository>,
    /// Who we are to it, instead of what else is known.
    pub credentials: Option<Credentials>,
    /// Whether it must prove who it is, if the file says it.
    pub tls_verify: Option<bool>,
    /// Where its certificates are, if the file says it.
    pub cert_dir: Option<PathBuf>,
}

/// A user and a password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// What is wanted of a repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The repository; it has neither a tag nor a digest.
    pub name: Name,
    /// Which of its images.
    pub wanted: Wanted,
}

/// Which images of a repository are wanted.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Those with these names.
    These(Vec<Name>),
    /// Those whose tags suit.
    Tags(TagFilter),
}

/// Which tags are wanted.
#[derive(Debug, Clone)]
pub enum TagFilter {
    /// All.
    All,
    /// Those in which the expression is found.
    Matching(Regex),
    /// Those that are versions, and suit.
    Versions(Constraint),
}

impl TagFilter {
    /// Returns whether a tag is wanted.
    pub fn accepts(&self, tag: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(regex) => regex.is_match(tag),
            Self::Versions(constraint) => Version::of_tag(tag).is_some_and(|version| constraint.accepts(&version)),
        }
    }
}

/// Reads such a file.
///
/// # Errors
///
/// `Invalid`, with file, line and key, for anything that is not as it must be.
pub fn read(path: &Path) -> Result<Vec<Registry>> {
    let frame = || format!("reading `{}`", display(path));
    let bytes = fs::read_file(path, CONFIGURATION)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(frame)?;
    parse(&bytes, path)
}

/// Parses such a file. `path` names it in errors.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Registry>> {
    let at = |line: usize| format!("{}:{line}: reading the file", display(path));
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::invalid("it is not UTF-8").context(at(line))
    })?;
    let document = node::parse(text).map_err(|(line, error)| error.context(at(line)))?;
    let mut file = File { path, listed: 0 };
    let Some(document) = document else { return Ok(Vec::new()) };
    let top = Entry { key: String::new(), node: &document };
    file.map(&top)?.into_iter().map(|entry| file.registry(&entry)).collect()
}

/// The file that is being read, and how many images it has named so far: aliases make much out of little.
struct File<'a> {
    path: &'a Path,
    listed: usize,
}

/// A value and the keys that lead to it, as errors name it.
struct Entry<'a> {
    key: String,
    node: &'a Node,
}

impl Entry<'_> {
    /// Returns the last key.
    fn name(&self) -> &str {
        self.key.rsplit('\0').next().unwrap_or_default()
    }

    fn shown(&self) -> String {
        self.key.split('\0').map(|key| printable(key.as_bytes())).collect::<Vec<_>>().join(" → ")
    }
}

const KEYS: &str = "images, images-by-tag-regex, images-by-semver, credentials, tls-verify and cert-dir";

impl File<'_> {
    /// Adds to an error where it arose.
    fn error(&self, entry: &Entry<'_>, error: Error) -> Error {
        let key = if entry.key.is_empty() { "the file".to_string() } else { format!("`{}`", entry.shown()) };
        error.context(format!("{}:{}: reading {key}", display(self.path), entry.node.line))
    }

    fn wrong<T>(&self, entry: &Entry<'_>, why: &str) -> Result<T> {
        Err(self.error(entry, Error::invalid(why)))
    }

    /// Returns the entries of a map; what is left empty has none.
    fn map<'n>(&self, entry: &Entry<'n>) -> Result<Vec<Entry<'n>>> {
        let pairs = match &entry.node.value {
            Value::Map(pairs) => pairs,
            Value::Scalar { .. } if entry.node.is_null() => return Ok(Vec::new()),
            Value::Scalar { .. } | Value::List(_) => return self.wrong(entry, "it must be a map: lines `key: value`"),
        };
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for (key, node) in pairs {
            let Value::Scalar { text, .. } = &key.value else {
                let place = Entry { key: entry.key.clone(), node: key };
                return self.wrong(&place, "a key must be one word, not a list or a map");
            };
            let whole = if entry.key.is_empty() { text.clone() } else { format!("{}\0{text}", entry.key) };
            if !seen.insert(text) {
                return self.wrong(&Entry { key: whole, node: key }, "the key is there twice");
            }
            entries.push(Entry { key: whole, node });
        }
        Ok(entries)
    }

    fn text<'n>(&self, entry: &Entry<'n>) -> Result<&'n str> {
        match &entry.node.value {
            Value::Scalar { text, .. } if !entry.node.is_null() && !text.is_empty() => Ok(text),
            Value::Scalar { .. } => self.wrong(entry, "it is empty"),
            Value::List(_) | Value::Map(_) => self.wrong(entry, "it must be a text, not a list or a map"),
        }
    }

    fn registry(&mut self, entry: &Entry<'_>) -> Result<Registry> {
        let mut registry = Registry { host: entry.key.clone(), ..Registry::default() };
        for entry in self.map(entry)? {
            match entry.name() {
                "images" => {
                    for entry in self.map(&entry)? {
                        let name = self.repository(&registry.host, &entry)?;
                        let wanted = self.images(&name, &entry)?;
                        self.add(&mut registry, &entry, name, wanted)?;
                    }
                }
                "images-by-tag-regex" => {
                    for entry in self.map(&entry)? {
                        let name = self.repository(&registry.host, &entry)?;
                        let regex = RegexBuilder::new(self.text(&entry)?).size_limit(REGEX).build();
                        let invalid = |error: regex_lite::Error| Error::invalid(error.to_string().replace('\n', ", "));
                        let regex = regex.map_err(|error| self.error(&entry, invalid(error)))?;
                        self.add(&mut registry, &entry, name, Wanted::Tags(TagFilter::Matching(regex)))?;
                    }
                }
                "images-by-semver" => {
                    for entry in self.map(&entry)? {
                        let name = self.repository(&registry.host, &entry)?;
                        let constraint = self.text(&entry)?.parse().map_err(|error| self.error(&entry, error))?;
                        self.add(&mut registry, &entry, name, Wanted::Tags(TagFilter::Versions(constraint)))?;
                    }
                }
                "credentials" => registry.credentials = self.credentials(&entry)?,
                "tls-verify" => registry.tls_verify = Some(self.truth(&entry)?),
                "cert-dir" => registry.cert_dir = Some(PathBuf::from(self.text(&entry)?)),
                _ => {
                    let error = Error::invalid("the key is unknown").hint(format!("a registry has {KEYS}"));
                    return Err(self.error(&entry, error));
                }
            }
        }
        Ok(registry)
    }

    fn add(&mut self, registry: &mut Registry, entry: &Entry<'_>, name: Name, wanted: Wanted) -> Result<()> {
        self.listed += match &wanted {
            Wanted::These(names) => names.len(),
            Wanted::Tags(_) => 1,
        };
        if self.listed > LISTED {
            return self.wrong(entry, &format!("there are more than {LISTED} images"));
        }
        registry.repositories.push(Repository { name, wanted });
        Ok(())
    }

    fn repository(&self, host: &str, entry: &Entry<'_>) -> Result<Name> {
        let name = Name::parse_normalised(&format!("{host}/{}", entry.name()));
        let name = name.map_err(|error| self.error(entry, error))?;
        if name.tag().is_some() || name.digest().is_some() {
            let error =
                Error::invalid("it names an image, not a repository").hint("tags and digests are listed below it");
            return Err(self.error(entry, error));
        }
        Ok(name)
    }

    fn images(&self, repository: &Name, entry: &Entry<'_>) -> Result<Wanted> {
        let references = match &entry.node.value {
            Value::List(references) => references,
            Value::Scalar { .. } if entry.node.is_null() => return Ok(Wanted::Tags(TagFilter::All)),
            Value::Scalar { .. } | Value::Map(_) => {
                return self.wrong(entry, "it must be a list of tags and digests; an empty one means all tags");
            }
        };
        if references.is_empty() {
            return Ok(Wanted::Tags(TagFilter::All));
        }
        let name = |node: &Node| {
            let entry = Entry { key: entry.key.clone(), node };
            let text = self.text(&entry)?;
            // As in skopeo, what is a digest is no tag.
            let name = match text.parse::<Digest>() {
                Ok(digest) => Some(repository.clone().with_digest(digest)),
                Err(_) => super::plan::tagged(repository, text),
            };
            let neither = || format!("`{}` is neither a tag nor a digest", printable(text.as_bytes()));
            name.ok_or_else(|| self.error(&entry, Error::invalid(neither())))
        };
        references.iter().map(|node| name(node)).collect::<Result<_>>().map(Wanted::These)
    }

    fn credentials(&self, entry: &Entry<'_>) -> Result<Option<Credentials>> {
        let (mut username, mut password) = (None, None);
        for entry in self.map(entry)? {
            match entry.name() {
                "username" => username = Some(self.text(&entry)?),
                "password" => password = Some(self.text(&entry)?),
                _ => return self.wrong(&entry, "the key is unknown: credentials have username and password"),
            }
        }
        match (username, password) {
            (Some(username), Some(password)) => {
                Ok(Some(Credentials { username: username.to_string(), password: Secret::new(password) }))
            }
            (None, None) => Ok(None),
            _ => self.wrong(entry, "username and password are needed, both"),
        }
    }

    /// Reads a truth value, as YAML 1.1 writes it too.
    fn truth(&self, entry: &Entry<'_>) -> Result<bool> {
        const WORDS: [(bool, [&str; 3]); 2] = [(true, ["true", "yes", "on"]), (false, ["false", "no", "off"])];
        if let Value::Scalar { text, plain: true } = &entry.node.value {
            let known = WORDS.iter().find(|(_, words)| words.iter().any(|word| word.eq_ignore_ascii_case(text)));
            if let Some((truth, _)) = known {
                return Ok(*truth);
            }
        }
        self.wrong(entry, "it must be true or false")
    }
}
