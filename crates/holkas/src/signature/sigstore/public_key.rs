//! Public keys, and the signatures that they verify: of what cosign's world signs with, always over SHA-256.

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};

use super::der::{BIT_STRING, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, whole_bytes};
use super::pem;
use crate::error::{Context, Error, Result, printable};

/// id-ecPublicKey, 1.2.840.10045.2.1.
pub(super) const ELLIPTIC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
/// rsaEncryption, 1.2.840.113549.1.1.1, and the NULL that belongs to it.
pub(super) const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const NULL: &[u8] = b"\x05\x00";
/// id-Ed25519, 1.3.101.112.
pub(super) const EDWARDS: &[u8] = b"\x2b\x65\x70";
/// The curves P-256, P-384 and P-521, with their tags.
pub(super) const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
pub(super) const P521: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x23";

/// How long RSA keys may be.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// A public key, of a kind that this version can verify with.
#[derive(Clone)]
pub struct PublicKey {
    /// Which kind of key it is, for messages.
    kind: &'static str,
    parsed: ParsedPublicKey,
    /// Its SubjectPublicKeyInfo, in the one form that everybody writes.
    info: Vec<u8>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kind)
    }
}

impl PublicKey {
    /// Reads a file of one key: `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is damaged, has no or more than one key, and `Unsupported` if the key is of another kind.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        let frame = || "reading a public key";
        let block = pem::only_block(text, "public key").context(frame)?;
        match block.label {
            "PUBLIC KEY" => Self::from_info(&block.der).context(frame),
            // The old form of RSA keys alone.
            "RSA PUBLIC KEY" => Self::new("RSA", &RSA_PKCS1_2048_8192_SHA256, &block.der).context(frame),
            other => Err(Error::invalid(format!("it is a `{}`, not a public key", printable(other.as_bytes())))
                .hint("`openssl pkey -pubin -in FILE` and `openssl x509 -pubkey -noout -in FILE` make the right form"))
            .context(frame),
        }
    }

    /// Reads a SubjectPublicKeyInfo.
    pub(super) fn from_info(info: &[u8]) -> Result<Self> {
        let mut all = Reader::new(info);
        let mut outer = all.enter(SEQUENCE)?;
        all.end()?;
        let mut algorithm = outer.enter(SEQUENCE)?;
        let bits = outer.expect(BIT_STRING)?.contents;
        outer.end()?;
        let identifier = algorithm.expect(OBJECT_IDENTIFIER)?.contents;
        let parameters = match algorithm.is_at_end() {
            true => &[][..],
            false => algorithm.element()?.whole,
        };
        algorithm.end()?;
        let (kind, verifier): (_, &'static dyn VerificationAlgorithm) = match (identifier, parameters) {
            (ELLIPTIC, P256) => ("ECDSA P-256", &ECDSA_P256_SHA256_ASN1),
            (ELLIPTIC, P384) => ("ECDSA P-384", &ECDSA_P384_SHA256_ASN1),
            (ELLIPTIC, P521) => ("ECDSA P-521", &ECDSA_P521_SHA256_ASN1),
            (RSA, NULL) => ("RSA", &RSA_PKCS1_2048_8192_SHA256),
            (EDWARDS, []) => ("Ed25519", &ED25519),
            _ => {
                return Err(Error::unsupported("keys of this kind cannot be used here")
                    .hint("what can be used: ECDSA on P-256, P-384 or P-521, RSA, Ed25519"));
            }
        };
        Self::new(kind, verifier, whole_bytes(bits)?)
    }

    fn new(kind: &'static str, verifier: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<Self> {
        let unusable = |error: String| Error::invalid(format!("the {kind} key cannot be used: {error}"));
        if kind == "RSA" && !RSA_BITS.contains(&rsa_bits(key)?) {
            // Said here, and not only where no signature fits.
            let (least, greatest) = RSA_BITS.into_inner();
            return Err(unusable(format!("it must have from {least} to {greatest} bits")));
        }
        let parsed = ParsedPublicKey::new(verifier, key).map_err(|error| unusable(error.to_string()))?;
        let info: PublicKeyX509Der<'_> = parsed.as_der().map_err(|error| unusable(error.to_string()))?;
        let info = info.as_ref().to_vec();
        Ok(Self { kind, parsed, info })
    }

    /// Returns which kind of key it is.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the key's SubjectPublicKeyInfo.
    pub(super) fn info(&self) -> &[u8] {
        &self.info
    }

    /// Returns whether it is a key of an elliptic curve, the only kind that a log of signatures may have.
    pub(super) fn is_elliptic(&self) -> bool {
        self.kind.starts_with("ECDSA")
    }

    /// Verifies a signature over the SHA-256 digest of a message; Ed25519 signs the message itself.
    ///
    /// # Errors
    ///
    /// `Mismatch` if the key did not make the signature.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        self.parsed
            .verify_sig(message, signature)
            .map_err(|_| Error::mismatch(format!("the signature was not made by this {} key", self.kind)))
    }
}

/// Returns the length of an RSA key's modulus.
fn rsa_bits(key: &[u8]) -> Result<usize> {
    let modulus = Reader::new(key).enter(SEQUENCE)?.expect(INTEGER)?.contents;
    let significant = modulus.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &modulus[first..]);
    let unused = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    Ok(significant.len() * 8 - unused)
}
