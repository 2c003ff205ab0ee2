//! `sigstoreSigned`: a signature as cosign makes it.

use serde_json::{Map, Value};

use super::Candidate;
use super::identity::SignedIdentity;
use super::requirements::{only, signed_identity};
use crate::error::{Error, Result};
use crate::signature::Kind;

/// The requirement.
#[derive(Debug, Clone)]
pub(super) struct SigstoreSigned {
    #[expect(dead_code, reason = "checked when it is read, and used when signatures are")]
    identity: SignedIdentity,
}

/// The keys that it may have beside `type`.
const KEYS: [&str; 11] = [
    "keyPath",
    "keyPaths",
    "keyData",
    "keyDatas",
    "fulcio",
    "pki",
    "rekorPublicKeyPath",
    "rekorPublicKeyPaths",
    "rekorPublicKeyData",
    "rekorPublicKeyDatas",
    "signedIdentity",
];

impl SigstoreSigned {
    /// Parses the requirement.
    pub(super) fn parse(fields: &Map<String, Value>) -> Result<Self> {
        only(fields, &KEYS)?;
        Ok(Self { identity: signed_identity(fields)? })
    }

    /// Returns an error unless one signature fulfils the requirement.
    pub(super) fn check(&self, image: &Candidate<'_>) -> Result<()> {
        image.one_signature(|signature| match signature.kind() {
            Ok(Kind::Simple(_) | Kind::Unknown(_)) => None,
            Ok(Kind::Sigstore(_)) => {
                Some(Err(Error::refused("`sigstoreSigned` is not implemented yet in this version")))
            }
            Err(error) => Some(Err(error)),
        })
    }
}
