//! Public keys, and whether one of them made a signature and was allowed to.

use std::io::Read;

use pgp::armor::Dearmor;
use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, KeyVersion, Tag, VerifyingKey};

use super::{Message, check_critical, hex, over};
use crate::error::{Context, Error, Result};
use crate::limits::KEYS;

/// Public keys, all of which are trusted alike.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Vec<SignedPublicKey>,
}

/// What begins keys that are written as text.
const ARMOUR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

impl KeyRing {
    /// Reads files of public keys, as text or binary. Keys that cannot be understood are passed over, as GnuPG does.
    ///
    /// # Errors
    ///
    /// `Invalid` if a file is neither.
    pub fn parse<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        let mut ring = Self::default();
        for file in files {
            KEYS.check(file.len() as u64)?;
            match file.first() {
                Some(first) if first & 0x80 != 0 => ring.add(file)?,
                _ => ring.add_text(file)?,
            }
        }
        Ok(ring)
    }

    /// Returns the fingerprints of the primary keys, in upper-case hex digits.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(fingerprint).collect()
    }

    /// Returns whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn add_text(&mut self, file: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(file);
        let starts: Vec<_> = text.match_indices(ARMOUR).map(|(at, _)| at).collect();
        if starts.is_empty() {
            return Err(Error::invalid("there is no OpenPGP public key in it"));
        }
        for (n, start) in starts.iter().enumerate() {
            let end = starts.get(n + 1).copied().unwrap_or(text.len());
            let mut bytes = Vec::new();
            Dearmor::new(text[*start..end].as_bytes())
                .take(KEYS.bytes)
                .read_to_end(&mut bytes)
                .map_err(|error| Error::invalid(format!("it is no OpenPGP public key: {error}")))?;
            self.add(&bytes)?;
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let found = SignedPublicKey::from_bytes_many(bytes)
            .map_err(|error| Error::invalid(format!("it is no OpenPGP public key: {error}")))?;
        self.keys.extend(found.filter_map(Result::ok).filter(|key| key.version() >= KeyVersion::V4));
        Ok(())
    }

    /// Returns the fingerprints of the key that made a signature, and of its primary key.
    pub(super) fn check(&self, message: &Message, now: i64) -> Result<(String, String)> {
        let mut why = None;
        for key in &self.keys {
            let subkeys = key.public_subkeys.iter();
            let signed = match made_by(message, &key.primary_key) {
                Made::Here => Some((fingerprint(&key.primary_key), check_primary(key, message, now))),
                Made::Wrong => {
                    why = Some(Error::refused("the signature is not one of what it signs"));
                    None
                }
                Made::Elsewhere => subkeys
                    .filter(|subkey| matches!(made_by(message, &subkey.key), Made::Here))
                    .map(|subkey| (fingerprint(&subkey.key), check_subkey(key, subkey, message, now)))
                    .next(),
            };
            match signed {
                Some((signer, Ok(()))) => return Ok((signer, fingerprint(&key.primary_key))),
                Some((signer, Err(error))) => why = Some(error.context(format!("the signature is by key {signer}"))),
                None => {}
            }
        }
        let unknown = || Error::refused(format!("signed by key {}, which is not accepted", message.issuer()));
        Err(why.unwrap_or_else(unknown))
    }
}

fn fingerprint(key: &impl KeyDetails) -> String {
    hex(key.fingerprint().as_bytes())
}

/// Whether a key made a signature.
enum Made {
    Here,
    /// It says that this key made it, but it did not.
    Wrong,
    Elsewhere,
}

fn made_by(message: &Message, key: &impl VerifyingKey) -> Made {
    let (id, fingerprint) = (key.legacy_key_id(), key.fingerprint());
    let named = message.signature.issuer_key_id().into_iter().any(|issuer| *issuer == id)
        || message.signature.issuer_fingerprint().into_iter().any(|issuer| *issuer == fingerprint);
    match message.signature.verify(key, message.literal.data()) {
        Ok(()) => Made::Here,
        Err(_) if named => Made::Wrong,
        Err(_) => Made::Elsewhere,
    }
}

/// Checks that the primary key is valid now, and may sign.
fn check_primary(key: &SignedPublicKey, message: &Message, now: i64) -> Result<()> {
    let own = check_valid(key, now)?;
    check_times(&key.primary_key, own, message, now)?;
    match flags(own) {
        Some(signs) if !signs => Err(Error::refused("the key is not one to sign with")),
        _ => Ok(()),
    }
}

/// Checks that a subkey belongs to its primary key, that both are valid now, and that it may sign.
fn check_subkey(key: &SignedPublicKey, subkey: &SignedPublicSubKey, message: &Message, now: i64) -> Result<()> {
    let own = check_valid(key, now)?;
    check_age(&key.primary_key, own, now).context(|| "its primary key")?;
    let valid = |kind: SignatureType| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind)
                && check_critical(signature).is_ok()
                && signature.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok()
        })
    };
    if valid(SignatureType::SubkeyRevocation).next().is_some() {
        return Err(Error::refused("the subkey was revoked"));
    }
    let binding = valid(SignatureType::SubkeyBinding)
        .max_by_key(|signature| signature.created())
        .ok_or_else(|| Error::refused("the subkey does not belong to its primary key"))?;
    check_times(&subkey.key, binding, message, now)?;
    // Without the subkey's own signature anybody's key could be bound to a primary key that others trust.
    let back = binding.embedded_signature();
    let bound = back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok());
    match flags(binding) {
        Some(true) if bound => Ok(()),
        Some(true) => Err(Error::refused("the subkey does not say that it belongs to its primary key")),
        _ => Err(Error::refused("the subkey is not one to sign with")),
    }
}

/// Returns what a primary key says of itself: its newest valid signature of itself. A revoked key has none.
fn check_valid(key: &SignedPublicKey, now: i64) -> Result<&Signature> {
    let primary = &key.primary_key;
    if i64::from(primary.created_at().as_secs()) > now {
        return Err(Error::refused("the key was made in the future"));
    }
    let direct = key.details.direct_signatures.iter().chain(&key.details.revocation_signatures);
    if direct.clone().any(|s| s.typ() == Some(SignatureType::KeyRevocation) && s.verify_key(primary).is_ok()) {
        return Err(Error::refused("the key was revoked"));
    }
    let direct = direct.filter(|s| s.typ() == Some(SignatureType::Key) && s.verify_key(primary).is_ok());
    let users = key.details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    // The file says which keys are trusted, so that a weak hash in what a key says of itself lets nobody else in.
    let newest = direct.chain(users).filter(|s| check_critical(s).is_ok()).max_by_key(|s| s.created());
    newest.ok_or_else(|| Error::refused("the key has no user ID that it has signed"))
}

/// Checks that a key is not over, and that the signature is not older than it.
fn check_times(key: &impl KeyDetails, own: &Signature, message: &Message, now: i64) -> Result<()> {
    check_age(key, own, now)?;
    match message.created()? < key.created_at().as_secs() {
        true => Err(Error::refused("the signature is older than the key")),
        false => Ok(()),
    }
}

fn check_age(key: &impl KeyDetails, own: &Signature, now: i64) -> Result<()> {
    let lifetime = own.key_expiration_time().map_or(0, |duration| duration.as_secs());
    match over(key.created_at().as_secs(), lifetime, now) {
        true => Err(Error::refused("the key has expired")),
        false => Ok(()),
    }
}

/// Returns whether a key's signature of itself says that it may sign; `None` if it says nothing of its use.
fn flags(own: &Signature) -> Option<bool> {
    let mut subpackets = own.config()?.hashed_subpackets();
    let says = subpackets.any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)));
    says.then(|| own.key_flags().sign())
}
