//! Names of images as registries have them: `HOST/PATH:TAG@DIGEST`.
//!
//! The rules are those of docker/distribution's `reference` package, which all of the family use.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result, printable};
use crate::oci::Digest;

/// The longest repository, host included, as containers/image has it.
const REPOSITORY: usize = 255;
/// The longest tag.
const TAG: usize = 128;

/// A normalised name: the host is always there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Name {
    /// Parses a name as people write it: `alpine` is `docker.io/library/alpine`.
    ///
    /// No tag is added; see [`Name::with_default_tag`].
    pub fn parse_normalised(text: &str) -> Result<Self> {
        let invalid =
            |why: &str| Error::invalid(format!("`{}` is not an image name: {why}", printable(text.as_bytes())));
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if is_hex64(text) {
            return Err(invalid("64 hex digits are an image ID"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if is_host_like(first) => (first, path),
            _ => ("docker.io", rest),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("the repository must be in lower case"));
        }
        let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
        let repository = format!("{host}/{library}{path}");
        if repository.len() > REPOSITORY {
            return Err(invalid(&format!("the repository has more than {REPOSITORY} characters")));
        }
        // As its grammar lets the host be absent, a "host" that is none may be the path's first part: `my_host.lan/x`.
        if !(is_host(host) && path.split('/').all(is_component) || repository.split('/').all(is_component)) {
            return Err(invalid("its form is not [HOST[:PORT]/]PATH[:TAG][@DIGEST]"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(&format!(
                "the tag must be at most {TAG} letters, digits, `_`, `.` and `-`, and not begin with `.` or `-`"
            )));
        }
        Ok(Self { repository, tag: tag.map(str::to_string), digest })
    }

    /// Returns the repository with its host: `docker.io/library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the registry's host, with its port.
    pub fn host(&self) -> &str {
        self.repository.split_once('/').map_or(self.repository.as_str(), |(host, _)| host)
    }

    /// Returns the repository without its host: `library/alpine`.
    pub fn path(&self) -> &str {
        self.repository.split_once('/').map_or("", |(_, path)| path)
    }

    /// Returns the tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Adds the tag `latest` if the name has neither a tag nor a digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_string());
        }
        self
    }

    /// Sets the digest; a tag stays.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the name without its tag.
    #[must_use]
    pub fn without_tag(mut self) -> Self {
        self.tag = None;
        self
    }

    /// Returns the name without its digest.
    #[must_use]
    pub fn without_digest(mut self) -> Self {
        self.digest = None;
        self
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse_normalised(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Returns whether the text is 64 lower-case hex digits: an image ID.
pub(super) fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns whether what stands before the first `/` is meant as a host: not every first part is.
fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

/// Returns whether the text is `HOST` or `HOST:PORT`, by the grammar of a name's first part.
pub(crate) fn is_host(text: &str) -> bool {
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if let Some(rest) = text.strip_prefix('[') {
        // An IPv6 address.
        let Some((address, port)) = rest.split_once(']') else { return false };
        return !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(digits));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    host.split('.').all(label) && port.is_none_or(digits)
}

/// Returns whether one part of a path is `[a-z0-9]+` with `.`, `_`, `__` or any number of `-` between.
pub(crate) fn is_component(part: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes
        .split(alphanumeric)
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}
