//! Signatures as cosign makes them: what they sign, who may have signed, how they are verified and made.
//!
//! A signature is a payload, the signature itself over its SHA-256 digest, and what else proves who signed, and when,
//! in annotations. How each part is verified follows containers/image, as does what is not: nobody asks a log about
//! certificates, because the log that has the signature has its certificate too.

mod certificate;
mod chain;
mod der;
mod parameters;
mod payload;
mod pem;
mod private_key;
mod public_key;
mod rekor;

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

pub use self::chain::Authorities;
pub use self::parameters::Parameters;
pub use self::payload::Payload;
pub use self::private_key::{PrivateKey, SigstoreSigner};
pub use self::public_key::PublicKey;
pub use self::rekor::Logs;
use self::rekor::Signed;
use super::SigstoreSignature;
use crate::error::{Context, Error, Result, printable};

/// The media type of a payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotations of a signature: itself, the log's promise, the signer's certificate, and those above it.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PROMISE: &str = "dev.sigstore.cosign/bundle";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";

/// Whose signatures are good.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those of any of these keys; with logs, only if one of them has the signature.
    Keys(Vec<PublicKey>, Option<Logs>),
    /// Those of who proved to Fulcio who they are, at a time that a log vouches for.
    Fulcio(Fulcio, Logs),
    /// Those of the holders of certificates.
    Pki(Pki),
}

/// An authority that gives out certificates for some minutes, to who proves an identity.
#[derive(Debug, Clone)]
pub struct Fulcio {
    /// The authority.
    pub authorities: Authorities,
    /// To whom the identity must have been proven: a URL.
    pub oidc_issuer: String,
    /// Whose identity it must be.
    pub subject_email: String,
}

/// Authorities of the old kind, whose certificates must be valid now.
#[derive(Debug, Clone)]
pub struct Pki {
    /// The authorities.
    pub authorities: Authorities,
    /// Certificates between theirs and a signer's, beside those that a signature brings along.
    pub intermediates: Option<Authorities>,
    /// For whom a certificate must be.
    pub subject: Subject,
}

/// For whom a certificate must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The owner of an e-mail address.
    Email(String),
    /// A host: a DNS name or an IP address.
    Host(String),
    /// Both in one.
    Both {
        /// The owner's address.
        email: String,
        /// The host.
        host: String,
    },
}

impl Trust {
    /// Verifies a signature, and returns what it says.
    ///
    /// What is returned is true as far as the signer is to be believed; that it is about the image in question, and
    /// by the name that it should have, is still to be seen.
    /// `now`, in seconds since 1970, decides about certificates for whose time nobody else vouches.
    ///
    /// # Errors
    ///
    /// `Mismatch` if the signature is not good, `Invalid` if a part of it is missing or damaged.
    pub fn verify(&self, signature: &SigstoreSignature, now: i64) -> Result<Payload> {
        self.verify_seal(signature, now).context(|| "verifying a sigstore signature")?;
        Payload::parse(&signature.payload)
    }

    fn verify_seal(&self, signature: &SigstoreSignature, now: i64) -> Result<()> {
        let seal = base64(annotation(signature, SIGNATURE)?, "the signature")?;
        let payload = signature.payload.as_slice();
        let chain = signature.annotations.get(CHAIN).map(String::as_str);
        match self {
            Self::Keys(keys, logs) => {
                let promise = match logs {
                    Some(logs) => Some((logs, annotation(signature, PROMISE)?)),
                    None => None,
                };
                let mut refusals = Vec::new();
                for key in keys {
                    let logged = promise.map_or(Ok(()), |(logs, promise)| {
                        let signed = Signed { signer: key.info(), signature: &seal, payload };
                        logs.verify(promise, &signed).map(drop)
                    });
                    match logged.and_then(|()| key.verify(payload, &seal)) {
                        Ok(()) => return Ok(()),
                        Err(error) => refusals.push(error),
                    }
                }
                Err(none_fits(refusals))
            }
            Self::Fulcio(fulcio, logs) => {
                let promise = annotation(signature, PROMISE)?;
                let certificate = annotation(signature, CERTIFICATE)?.as_bytes();
                let der = pem::only_block(certificate, "certificate")?.der;
                let time = logs.verify(promise, &Signed { signer: &der, signature: &seal, payload })?;
                let intermediates = chain::untrusted_intermediates(chain)?;
                let verified = chain::verify(certificate, &intermediates, &fulcio.authorities, time)?;
                let issuer = verified.certificate.issuer()?;
                if issuer != fulcio.oidc_issuer {
                    return Err(Error::mismatch(format!(
                        "the signer's identity was proven to `{}`, not to `{}`",
                        printable(issuer.as_bytes()),
                        fulcio.oidc_issuer
                    )));
                }
                verified.check_email(&fulcio.subject_email)?;
                verified.key.verify(payload, &seal)
            }
            Self::Pki(pki) => {
                let certificate = annotation(signature, CERTIFICATE)?.as_bytes();
                let mut intermediates = pki.intermediates.as_ref().map_or_else(Vec::new, Authorities::to_ders);
                intermediates.extend(chain::untrusted_intermediates(chain)?);
                let verified = chain::verify(certificate, &intermediates, &pki.authorities, now)?;
                match &pki.subject {
                    Subject::Email(email) => verified.check_email(email)?,
                    Subject::Host(host) => verified.check_hostname(host)?,
                    Subject::Both { email, host } => {
                        verified.check_email(email)?;
                        verified.check_hostname(host)?;
                    }
                }
                verified.key.verify(payload, &seal)
            }
        }
    }
}

/// Returns the reasons of all keys as one error.
fn none_fits(mut refusals: Vec<Error>) -> Error {
    match (refusals.pop(), refusals.is_empty()) {
        (None, _) => Error::refused("no key is trusted"),
        (Some(only), true) => only,
        (Some(last), false) => {
            refusals.push(last);
            let reasons: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            Error::mismatch(format!("none of the {} keys fits: {}", reasons.len(), reasons.join("; ")))
        }
    }
}

fn annotation<'a>(signature: &'a SigstoreSignature, key: &str) -> Result<&'a str> {
    let found = signature.annotations.get(key);
    found.map(String::as_str).ok_or_else(|| Error::invalid(format!("the annotation `{key}` is missing")))
}

/// Decodes base64, in which lines may be broken.
fn base64(text: &str, what: &str) -> Result<Vec<u8>> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).map_err(|error| Error::invalid(format!("{what} is not base64: {error}")))
}
