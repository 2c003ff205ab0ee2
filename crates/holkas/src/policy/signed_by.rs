//! `signedBy`: a signature of simple signing, by one of some OpenPGP keys.

use serde_json::{Map, Value};

use super::Candidate;
use super::identity::SignedIdentity;
use super::keys::Keys;
use super::requirements::{only, signed_identity, text};
use crate::error::{Error, Result, printable};

/// The requirement.
#[derive(Debug, Clone)]
pub(super) struct SignedBy {
    key_type: KeyType,
    keys: Keys,
    identity: SignedIdentity,
}

/// What the keys are. containers/image implements the first alone, too, and refuses images under the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    GpgKeys,
    Unimplemented(&'static str),
}

impl SignedBy {
    /// Parses the requirement.
    pub(super) fn parse(fields: &Map<String, Value>) -> Result<Self> {
        only(fields, &["keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"])?;
        let key_type = match text(fields, "keyType")? {
            "GPGKeys" => KeyType::GpgKeys,
            "signedByGPGKeys" => KeyType::Unimplemented("signedByGPGKeys"),
            "X509Certificates" => KeyType::Unimplemented("X509Certificates"),
            "signedByX509CAs" => KeyType::Unimplemented("signedByX509CAs"),
            other => return Err(Error::invalid(format!("unknown `keyType` `{}`", printable(other.as_bytes())))),
        };
        Ok(Self { key_type, keys: Keys::parse(fields)?, identity: signed_identity(fields)? })
    }

    /// Returns an error unless one signature fulfils the requirement.
    pub(super) fn check(&self, image: &Candidate<'_>) -> Result<()> {
        let _ = (self.key_type, &self.keys, &self.identity);
        image.one_signature(|_| Err(Error::refused("`signedBy` is not implemented yet in this version")))
    }
}
