//! `signedIdentity`: what a signature must say of whose image it is.
//!
//! The rules are those of containers-policy.json(5). Names are compared whole: a port is part of the host, and a
//! prefix ends where a part of the path does.

use serde_json::Value;

use super::requirements::{kind, only, text};
use super::{Candidate, object};
use crate::error::{Context, Error, Result, printable};
use crate::reference::Name;
use crate::reference::name::{is_component, is_host};

/// A rule for the identity that a signature names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignedIdentity {
    /// The image's own name, with its tag or digest.
    MatchExact,
    /// The same; for an image that is named by its digest, its repository is enough.
    MatchRepoDigestOrExact,
    /// The image's repository, with any tag or digest.
    MatchRepository,
    /// This name, whatever the image is called.
    ExactReference(Name),
    /// This repository, whatever the image is called.
    ExactRepository(Name),
    /// As [`SignedIdentity::MatchRepoDigestOrExact`], where names that begin with `prefix` stand for others.
    RemapIdentity {
        /// The beginning of a repository's name, which ends where a part of it does.
        prefix: String,
        /// What it stands for.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// Parses a rule.
    pub(super) fn parse(value: &Value) -> Result<Self> {
        let fields = object(value)?;
        let name = |key: &str| Name::parse_normalised(text(fields, key)?).context(|| format!("`{key}`"));
        match kind(fields)? {
            "matchExact" => only(fields, &[]).map(|()| Self::MatchExact),
            "matchRepoDigestOrExact" => only(fields, &[]).map(|()| Self::MatchRepoDigestOrExact),
            "matchRepository" => only(fields, &[]).map(|()| Self::MatchRepository),
            "exactReference" => {
                only(fields, &["dockerReference"])?;
                let name = name("dockerReference")?;
                match names_one_image(&name) {
                    true => Ok(Self::ExactReference(name)),
                    false => Err(Error::invalid(format!("`dockerReference` {name} has neither a tag nor a digest"))),
                }
            }
            "exactRepository" => {
                only(fields, &["dockerRepository"])?;
                name("dockerRepository").map(Self::ExactRepository)
            }
            "remapIdentity" => {
                only(fields, &["prefix", "signedPrefix"])?;
                let prefix =
                    |key: &str| text(fields, key).and_then(|text| check_prefix(text).context(|| format!("`{key}`")));
                Ok(Self::RemapIdentity { prefix: prefix("prefix")?, signed_prefix: prefix("signedPrefix")? })
            }
            other => Err(Error::invalid(format!("unknown identity type `{}`", printable(other.as_bytes())))),
        }
    }

    /// Returns an error unless the rule accepts the identity that a signature names.
    pub(super) fn check(&self, signed: &str, image: &Candidate<'_>) -> Result<()> {
        let refused = |why: &str| {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            Err(Error::refused(format!(
                "signature for identity \"{}\" is not accepted{why}",
                printable(signed.as_bytes())
            )))
        };
        let Ok(found) = Name::parse_normalised(signed) else { return refused("it is no image name") };
        // A name with neither tag nor digest is that of no image.
        let exact = |wanted: &Name| names_one_image(wanted) && names_one_image(&found) && *wanted == found;
        let same_repository = |wanted: &Name| wanted.repository() == found.repository();
        let accepted = match (self, image.docker_reference) {
            (Self::ExactReference(wanted), _) => exact(wanted),
            (Self::ExactRepository(wanted), _) => same_repository(wanted),
            (_, None) => {
                return refused(&format!(
                    "Docker reference match attempted on image {} with no known Docker reference identity",
                    image.name
                ));
            }
            (Self::MatchExact, Some(own)) => exact(own),
            (Self::MatchRepository, Some(own)) => same_repository(own),
            (Self::MatchRepoDigestOrExact, Some(own)) => by_digest_or_exact(own, &found),
            (Self::RemapIdentity { prefix, signed_prefix }, Some(own)) => match remap(own, prefix, signed_prefix) {
                Some(own) => by_digest_or_exact(&own, &found),
                None => return refused("`remapIdentity` makes no image name of the image's own"),
            },
        };
        if accepted { Ok(()) } else { refused("") }
    }
}

/// Returns whether a name has a tag or a digest.
fn names_one_image(name: &Name) -> bool {
    name.tag().is_some() || name.digest().is_some()
}

fn by_digest_or_exact(own: &Name, signed: &Name) -> bool {
    match (own.tag(), own.digest()) {
        _ if !names_one_image(signed) => false,
        (Some(_), _) => own == signed,
        // The image has that digest, and so has what was signed: both were compared with its manifest.
        (None, Some(_)) => own.repository() == signed.repository(),
        (None, None) => false,
    }
}

/// Returns what the image's name stands for; `None` if that is no name.
fn remap(own: &Name, prefix: &str, signed_prefix: &str) -> Option<Name> {
    let rest = own.repository().strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    if rest.is_none() {
        return Some(own.clone());
    }
    let text = own.to_string();
    let new = format!("{signed_prefix}{}", text.strip_prefix(prefix)?);
    // The new name is taken as it is: `docker.io/x` for `docker.io/library/x` would be another.
    Name::parse_normalised(&new).ok().filter(|name| name.to_string() == new)
}

/// Checks the beginning of a repository's name: a host, or a host and parts of a path.
fn check_prefix(text: &str) -> Result<String> {
    let fine = match text.split_once('/') {
        None => is_host(text),
        Some((host, path)) => is_host(host) && path.split('/').all(is_component),
    };
    match fine {
        true => Ok(text.to_string()),
        false => Err(Error::invalid(format!(
            "`{}` is neither a host nor the beginning of a repository's name",
            printable(text.as_bytes())
        ))),
    }
}
