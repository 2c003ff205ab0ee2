//! OpenPGP messages as simple signing uses them, and the keys that may have signed them.
//!
//! A signature is one binary message: a one-pass signature packet, the payload as a literal, and the signature; or
//! the signature before the literal. All of it may be compressed, once. Whatever else OpenPGP allows is refused.
//! The rules for keys are GnuPG's: what is expired or revoked *now* verifies nothing, whenever it was signed.

mod keys;

use std::io::Read;

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{LiteralData, Packet, PacketParser, Signature, SignatureType, SubpacketData};

pub use self::keys::KeyRing;
use crate::error::{Error, Result};
use crate::limits::SIGNATURE;

/// What a good signature signs, and by which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that were signed.
    pub payload: Vec<u8>,
    /// The fingerprint of the key that signed, in upper-case hex digits; it may be a subkey's.
    pub fingerprint: String,
    /// The fingerprint of the primary key that the signing key belongs to, or is.
    pub primary: String,
}

/// Verifies a signature by the keys of a ring at a time, in seconds since 1970, and returns what was signed.
///
/// # Errors
///
/// `Refused` if none of the keys made it, if it or the key is not valid at that time, or if a weak hash was signed;
/// `Invalid` if it is no signature.
pub fn verify(signature: &[u8], ring: &KeyRing, now: i64) -> Result<Signed> {
    let message = Message::read(signature)?;
    message.check_form(now)?;
    let (fingerprint, primary) = ring.check(&message, now)?;
    Ok(Signed { payload: message.literal.data().to_vec(), fingerprint, primary })
}

/// Returns what a signature claims to sign, and the ID of the key that it claims to be by. Nothing of it is verified.
///
/// # Errors
///
/// `Invalid` if it is no signature.
pub fn read_untrusted(signature: &[u8]) -> Result<(Vec<u8>, String)> {
    let message = Message::read(signature)?;
    Ok((message.literal.data().to_vec(), message.issuer()))
}

/// A signed message, with everything around it taken off.
struct Message {
    signature: Signature,
    literal: LiteralData,
}

impl Message {
    fn read(bytes: &[u8]) -> Result<Self> {
        SIGNATURE.check(bytes.len() as u64)?;
        // A packet's first byte says that it is one; text has none of the kind.
        if bytes.first().is_none_or(|first| first & 0x80 == 0) {
            return Err(Error::invalid("it is no binary OpenPGP message"));
        }
        let mut found = packets(bytes)?;
        if let [Packet::CompressedData(compressed)] = found.as_slice() {
            let mut reader = compressed.decompress().map_err(|error| wrong(&error))?;
            let mut plain = Vec::new();
            (&mut reader).take(SIGNATURE.bytes + 1).read_to_end(&mut plain).map_err(|error| wrong(&error))?;
            SIGNATURE.check(plain.len() as u64)?;
            if !reader.into_inner().is_empty() {
                return Err(Error::invalid("there is something after the end of what is compressed"));
            }
            found = packets(&plain)?;
        }
        let mut found = found.into_iter();
        let message = match (found.next(), found.next(), found.next()) {
            (
                Some(Packet::OnePassSignature(announced)),
                Some(Packet::LiteralData(literal)),
                Some(Packet::Signature(signature)),
            ) if announced.matches(&signature) => Self { signature, literal },
            (Some(Packet::Signature(signature)), Some(Packet::LiteralData(literal)), None) => {
                Self { signature, literal }
            }
            _ => return Err(Error::invalid("it is no OpenPGP message with one signature")),
        };
        match found.next() {
            None => Ok(message),
            Some(_) => Err(Error::invalid("there is something after the signature")),
        }
    }

    /// Checks all that does not depend on the key.
    fn check_form(&self, now: i64) -> Result<()> {
        if self.signature.typ() != Some(SignatureType::Binary) || !self.literal.is_binary() {
            return Err(Error::refused("the signature is of a text, whose bytes may be other ones"));
        }
        match self.signature.hash_alg() {
            Some(
                HashAlgorithm::Sha224
                | HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512,
            ) => {}
            Some(weak) => return Err(Error::refused(format!("the signature's hash {weak:?} is too weak"))),
            None => return Err(Error::refused("the signature's version is not known")),
        }
        check_critical(&self.signature)?;
        let created = self.created()?;
        let lifetime = self.signature.signature_expiration_time().map_or(0, |duration| duration.as_secs());
        match over(created, lifetime, now) {
            true => Err(Error::refused("the signature has expired")),
            false => Ok(()),
        }
    }

    /// Returns when the signature was made.
    fn created(&self) -> Result<u32> {
        let created = self.signature.created().map(|created| created.as_secs());
        created.ok_or_else(|| Error::refused("the signature does not say when it was made"))
    }

    /// Returns the ID of the key that the signature claims to be by.
    fn issuer(&self) -> String {
        let fingerprints = self.signature.issuer_fingerprint();
        let of_fingerprint = fingerprints.first().map(|fingerprint| {
            let bytes = fingerprint.as_bytes();
            // The ID is the end of the older fingerprints, and the beginning of the newer.
            hex(if bytes.len() > 20 { &bytes[..8] } else { &bytes[bytes.len().saturating_sub(8)..] })
        });
        let ids = self.signature.issuer_key_id();
        ids.first().map(|id| hex(id.as_ref())).or(of_fingerprint).unwrap_or_default()
    }
}

/// Refuses a signature that says that something of it must be understood, which is not.
fn check_critical(signature: &Signature) -> Result<()> {
    let mut subpackets = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    let unknown = |data: &SubpacketData| {
        matches!(data, SubpacketData::Experimental(..) | SubpacketData::Other(..) | SubpacketData::Notation(_))
    };
    match subpackets.any(|subpacket| subpacket.is_critical && unknown(&subpacket.data)) {
        true => Err(Error::refused("the signature has a critical part that is not known here")),
        false => Ok(()),
    }
}

/// Splits bytes into packets: a few, and nothing beside them.
fn packets(mut bytes: &[u8]) -> Result<Vec<Packet>> {
    /// One more than the longest signature has, to tell what is too much.
    const MOST: usize = 4;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        if found.len() == MOST {
            return Err(Error::invalid("it is no OpenPGP message with one signature"));
        }
        let mut parser = PacketParser::new(bytes);
        match parser.next() {
            Some(Ok(packet)) => found.push(packet),
            Some(Err(error)) => return Err(wrong(&error)),
            None => return Err(Error::invalid("the OpenPGP message is cut off, or has something after its end")),
        }
        bytes = parser.into_inner();
    }
    Ok(found)
}

/// Returns whether what was made at a time and lasts so many seconds is over. Zero seconds are for ever.
fn over(created: u32, lifetime: u32, now: i64) -> bool {
    lifetime != 0 && i64::from(created) + i64::from(lifetime) <= now
}

fn wrong(error: &dyn std::error::Error) -> Error {
    Error::invalid(format!("it is no OpenPGP message: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
