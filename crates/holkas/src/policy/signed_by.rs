//! `signedBy`: a signature of simple signing, by one of some OpenPGP keys.

use serde_json::{Map, Value};

use super::Candidate;
use super::identity::SignedIdentity;
use super::keys::Keys;
use super::requirements::{only, signed_identity, text};
use crate::error::{Context, Error, Result, printable};
use crate::signature::Kind;
use crate::signature::openpgp::{self, KeyRing};
use crate::signature::payload::Payload;

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
        if let KeyType::Unimplemented(name) = self.key_type {
            return Err(Error::refused(format!("Unimplemented \"keyType\" value \"{name}\"")));
        }
        if !image.signatures.iter().any(|signature| matches!(signature.kind(), Ok(Kind::Simple(_)))) {
            return image.one_signature(|_| None);
        }
        let files = self.keys.read()?;
        let ring =
            KeyRing::parse(files.iter().map(Vec::as_slice)).context(|| "reading the keys that the policy names")?;
        if ring.is_empty() {
            return Err(Error::refused("No public keys imported"));
        }
        image.one_signature(|signature| match signature.kind() {
            Ok(Kind::Simple(message)) => Some(self.accepts(message, &ring, image)),
            // What is damaged within its envelope is of the other kind, too.
            Ok(Kind::Sigstore(_) | Kind::Unknown(_)) | Err(_) => None,
        })
    }

    /// Returns an error unless a signature is by one of the keys, for this manifest, and for the right name.
    fn accepts(&self, message: &[u8], ring: &KeyRing, image: &Candidate<'_>) -> Result<()> {
        let signed = openpgp::verify(message, ring, image.now).context(|| "Invalid GPG signature")?;
        let payload = Payload::parse(&signed.payload)?;
        image.check_digest(&payload.manifest)?;
        self.identity.check(&payload.identity, image)
    }
}
