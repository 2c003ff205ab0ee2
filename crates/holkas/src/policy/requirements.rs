//! Requirements: what they may say, strictly, and which of them an image fulfils.

use serde_json::{Map, Value};

use super::identity::SignedIdentity;
use super::signed_by::SignedBy;
use super::sigstore_signed::SigstoreSigned;
use super::{Candidate, object};
use crate::error::{Context, Error, Result, printable};

/// One requirement; all of a list must hold.
#[derive(Debug, Clone)]
pub(super) enum Requirement {
    /// `insecureAcceptAnything`.
    Accept,
    /// `reject`.
    Reject,
    /// `signedBy`.
    SignedBy(SignedBy),
    /// `sigstoreSigned`.
    SigstoreSigned(Box<SigstoreSigned>),
    /// `signedBaseLayer`, which nothing implements: it refuses every image, as in containers/image.
    SignedBaseLayer,
}

impl Requirement {
    pub(super) fn needs_signatures(&self) -> bool {
        match self {
            Self::Accept | Self::Reject => false,
            Self::SignedBy(_) | Self::SigstoreSigned(_) | Self::SignedBaseLayer => true,
        }
    }

    /// Returns an error unless the image fulfils the requirement.
    pub(super) fn check(&self, image: &Candidate<'_>) -> Result<()> {
        match self {
            Self::Accept => Ok(()),
            Self::Reject => Err(Error::refused(format!("running image {} is rejected by policy", image.name))),
            Self::SignedBy(requirement) => requirement.check(image),
            Self::SigstoreSigned(requirement) => requirement.check(image),
            Self::SignedBaseLayer => Err(Error::refused("`signedBaseLayer` is not implemented, nor is it elsewhere")),
        }
    }
}

/// Parses a list of requirements, which must not be empty.
pub(super) fn parse(value: &Value) -> Result<Vec<Requirement>> {
    let list = value.as_array().ok_or_else(|| Error::invalid("not a list of requirements"))?;
    if list.is_empty() {
        return Err(Error::invalid("the list of requirements is empty"));
    }
    list.iter().enumerate().map(|(n, value)| requirement(value).context(|| format!("requirement {}", n + 1))).collect()
}

fn requirement(value: &Value) -> Result<Requirement> {
    let fields = object(value)?;
    match kind(fields)? {
        "insecureAcceptAnything" => only(fields, &[]).map(|()| Requirement::Accept),
        "reject" => only(fields, &[]).map(|()| Requirement::Reject),
        "signedBy" => SignedBy::parse(fields).map(Requirement::SignedBy),
        "sigstoreSigned" => SigstoreSigned::parse(fields).map(Box::new).map(Requirement::SigstoreSigned),
        "signedBaseLayer" => {
            only(fields, &["baseLayerIdentity"])?;
            let identity = fields.get("baseLayerIdentity");
            SignedIdentity::parse(identity.ok_or_else(|| Error::invalid("`baseLayerIdentity` is missing"))?)
                .context(|| "`baseLayerIdentity`")?;
            Ok(Requirement::SignedBaseLayer)
        }
        kind => Err(Error::invalid(format!("unknown requirement type `{}`", printable(kind.as_bytes())))),
    }
}

/// Returns the `type` of a requirement, or of what describes an identity.
pub(super) fn kind(fields: &Map<String, Value>) -> Result<&str> {
    match fields.get("type") {
        Some(Value::String(kind)) => Ok(kind),
        Some(_) => Err(Error::invalid("`type` is not a string")),
        None => Err(Error::invalid("`type` is missing")),
    }
}

/// Refuses keys other than `type` and those that are known.
pub(super) fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<()> {
    match fields.keys().find(|key| *key != "type" && !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let name = printable(kind(fields)?.as_bytes());
            Err(Error::invalid(format!("`{name}` has no key `{}`", printable(key.as_bytes()))))
        }
    }
}

/// Returns a key's value, which must be a string that is not empty.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    match fields.get(key) {
        Some(Value::String(text)) if text.is_empty() => Err(Error::invalid(format!("`{key}` is empty"))),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::invalid(format!("`{key}` is not a string"))),
        None => Err(Error::invalid(format!("`{key}` is missing"))),
    }
}

/// Returns the identity that signatures must be for: what `signedIdentity` says, or what holds without it.
pub(super) fn signed_identity(fields: &Map<String, Value>) -> Result<SignedIdentity> {
    match fields.get("signedIdentity") {
        None => Ok(SignedIdentity::MatchRepoDigestOrExact),
        Some(value) => SignedIdentity::parse(value).context(|| "`signedIdentity`"),
    }
}
