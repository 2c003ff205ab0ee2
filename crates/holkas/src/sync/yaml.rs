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

use std::path::{Path, PathBuf};

use regex_lite::{Regex, RegexBuilder};

use super::constraint::{Constraint, Version};
use crate::configuration::yaml::{Entry, Node, Value, YamlFile};
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
    let yaml = YamlFile::new(path);
    let document = yaml.document(bytes)?;
    let mut file = File { yaml, listed: 0 };
    let Some(document) = document else { return Ok(Vec::new()) };
    let top = Entry { key: String::new(), node: &document };
    file.yaml.map(&top)?.into_iter().map(|entry| file.registry(&entry)).collect()
}

/// The file that is being read, and how many images it has named so far: aliases make much out of little.
struct File<'a> {
    yaml: YamlFile<'a>,
    listed: usize,
}

const KEYS: &str = "images, images-by-tag-regex, images-by-semver, credentials, tls-verify and cert-dir";

impl File<'_> {
    fn registry(&mut self, entry: &Entry<'_>) -> Result<Registry> {
        let mut registry = Registry { host: entry.key.clone(), ..Registry::default() };
        for entry in self.yaml.map(entry)? {
            match entry.name() {
                "images" => {
                    for entry in self.yaml.map(&entry)? {
                        let name = self.repository(&registry.host, &entry)?;
                        let wanted = self.images(&name, &entry)?;
                        self.add(&mut registry, &entry, name, wanted)?;
                    }
                }
                "images-by-tag-regex" => {
                    for entry in self.yaml.map(&entry)? {
                        let name = self.repository(&registry.host, &entry)?;
                        let regex = RegexBuilder::new(self.yaml.text(&entry)?).size_limit(REGEX).build();
                        let invalid = |error: regex_lite::Error| Error::invalid(error.to_string().replace('\n', ", "));
                        let regex = regex.map_err(|error| self.yaml.error(&entry, invalid(error)))?;
                        self.add(&mut registry, &entry, name, Wanted::Tags(TagFilter::Matching(regex)))?;
                    }
                }
                "images-by-semver" => {
                    for entry in self.yaml.map(&entry)? {
                        let name = self.repository(&registry.host, &entry)?;
                        let constraint =
                            self.yaml.text(&entry)?.parse().map_err(|error| self.yaml.error(&entry, error))?;
                        self.add(&mut registry, &entry, name, Wanted::Tags(TagFilter::Versions(constraint)))?;
                    }
                }
                "credentials" => registry.credentials = self.credentials(&entry)?,
                "tls-verify" => registry.tls_verify = Some(self.yaml.truth(&entry)?),
                "cert-dir" => registry.cert_dir = Some(PathBuf::from(self.yaml.text(&entry)?)),
                _ => {
                    let error = Error::invalid("the key is unknown").hint(format!("a registry has {KEYS}"));
                    return Err(self.yaml.error(&entry, error));
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
            return self.yaml.wrong(entry, &format!("there are more than {LISTED} images"));
        }
        registry.repositories.push(Repository { name, wanted });
        Ok(())
    }

    fn repository(&self, host: &str, entry: &Entry<'_>) -> Result<Name> {
        let name = Name::parse_normalised(&format!("{host}/{}", entry.name()));
        let name = name.map_err(|error| self.yaml.error(entry, error))?;
        if name.tag().is_some() || name.digest().is_some() {
            let error =
                Error::invalid("it names an image, not a repository").hint("tags and digests are listed below it");
            return Err(self.yaml.error(entry, error));
        }
        Ok(name)
    }

    fn images(&self, repository: &Name, entry: &Entry<'_>) -> Result<Wanted> {
        let references = match &entry.node.value {
            Value::List(references) => references,
            Value::Scalar { .. } if entry.node.is_null() => return Ok(Wanted::Tags(TagFilter::All)),
            Value::Scalar { .. } | Value::Map(_) => {
                return self.yaml.wrong(entry, "it must be a list of tags and digests; an empty one means all tags");
            }
        };
        if references.is_empty() {
            return Ok(Wanted::Tags(TagFilter::All));
        }
        let name = |node: &Node| {
            let entry = Entry { key: entry.key.clone(), node };
            let text = self.yaml.text(&entry)?;
            // As in skopeo, what is a digest is no tag.
            let name = match text.parse::<Digest>() {
                Ok(digest) => Some(repository.clone().with_digest(digest)),
                Err(_) => super::plan::tagged(repository, text),
            };
            let neither = || format!("`{}` is neither a tag nor a digest", printable(text.as_bytes()));
            name.ok_or_else(|| self.yaml.error(&entry, Error::invalid(neither())))
        };
        references.iter().map(|node| name(node)).collect::<Result<_>>().map(Wanted::These)
    }

    fn credentials(&self, entry: &Entry<'_>) -> Result<Option<Credentials>> {
        let (mut username, mut password) = (None, None);
        for entry in self.yaml.map(entry)? {
            match entry.name() {
                "username" => username = Some(self.yaml.text(&entry)?),
                "password" => password = Some(self.yaml.text(&entry)?),
                _ => return self.yaml.wrong(&entry, "the key is unknown: credentials have username and password"),
            }
        }
        match (username, password) {
            (Some(username), Some(password)) => {
                Ok(Some(Credentials { username: username.to_string(), password: Secret::new(password) }))
            }
            (None, None) => Ok(None),
            _ => self.yaml.wrong(entry, "username and password are needed, both"),
        }
    }
}
