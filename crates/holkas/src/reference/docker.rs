//! References to images in registries: `//[HOST[:PORT]/]PATH[:TAG|@DIGEST]`.

use std::fmt;

use super::{Name, utf8};
use crate::error::{Error, Result, printable};

/// What follows a repository into which an image is put by its digest alone, without a tag.
const UNKNOWN_DIGEST: &str = "@@unknown-digest@@";

/// An image in a registry, as `docker://` names it.
///
/// The name is normalised, and has a tag or a digest, never both.
/// Only with [`DockerReference::is_unknown_digest`] it has neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerReference {
    name: Name,
}

impl DockerReference {
    /// Means the image that has this name in its registry; `latest` if the name has neither a tag nor a digest.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a name with both: which of the two is meant if they disagree, a registry cannot be asked.
    pub fn named(name: Name) -> Result<Self> {
        if name.tag().is_some() && name.digest().is_some() {
            return Err(Error::unsupported("Docker references with both a tag and digest are currently not supported")
                .hint(format!("the digest alone says which image it is: docker://{}", name.without_tag())));
        }
        Ok(Self { name: name.with_default_tag() })
    }

    /// Means an image that is to be put into the name's repository under its digest alone.
    ///
    /// # Errors
    ///
    /// `Invalid` if the name has a tag or a digest.
    pub fn unknown_digest(repository: Name) -> Result<Self> {
        if repository.tag().is_some() || repository.digest().is_some() {
            return Err(Error::invalid(format!(
                "docker: image reference \"{repository}\" has unknown digest set but it contains either a tag or digest"
            )));
        }
        Ok(Self { name: repository })
    }

    /// Returns the name. It has neither a tag nor a digest if the image is to be put under its digest alone.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns whether this is a place to put an image by its digest, which only then will be known.
    /// Nothing can be read from it.
    pub fn is_unknown_digest(&self) -> bool {
        self.name.tag().is_none() && self.name.digest().is_none()
    }
}

/// Parses what follows `docker:`.
pub(super) fn parse(text: &[u8]) -> Result<DockerReference> {
    let Some(rest) = text.strip_prefix(b"//") else {
        let text = printable(text);
        return Err(Error::invalid(format!("docker: image reference {text} does not start with //"))
            .hint(format!("write docker://{}", text.trim_start_matches('/'))));
    };
    let text = utf8(rest)?;
    match text.strip_suffix(UNKNOWN_DIGEST) {
        Some(repository) => DockerReference::unknown_digest(Name::parse_normalised(repository)?),
        None => DockerReference::named(Name::parse_normalised(text)?),
    }
}

impl fmt::Display for DockerReference {
    /// Writes what follows `docker:`, whole: host and tag are there even where a person leaves them out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "//{}", self.name)?;
        if self.is_unknown_digest() { f.write_str(UNKNOWN_DIGEST) } else { Ok(()) }
    }
}
