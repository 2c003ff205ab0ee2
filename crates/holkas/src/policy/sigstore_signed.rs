//! `sigstoreSigned`: a signature as cosign makes it, by a key, or by the holder of a certificate.
//!
//! Who may have signed is one of: keys (`keyPath`, `keyPaths`, `keyData`, `keyDatas`), `fulcio`, and `pki`.
//! A log of signatures (`rekorPublicKey…`) may vouch for keys, and must for `fulcio`, because it alone knows the time.

use serde_json::{Map, Value};

use super::identity::SignedIdentity;
use super::keys::Keys;
use super::requirements::{only, signed_identity, text};
use super::{Candidate, object};
use crate::error::{Context, Error, Result, printable};
use crate::signature::sigstore::{Authorities, Fulcio, Logs, PAYLOAD_TYPE, Pki, PublicKey, Subject, Trust};
use crate::signature::{Kind, SigstoreSignature};

/// The requirement.
#[derive(Debug, Clone)]
pub(super) struct SigstoreSigned {
    signers: Signers,
    identity: SignedIdentity,
}

/// Who may have signed.
#[derive(Debug, Clone)]
enum Signers {
    Keys { keys: Keys, logs: Option<Keys> },
    Fulcio { authorities: Keys, oidc_issuer: String, subject_email: String, logs: Keys },
    Pki { authorities: Keys, intermediates: Option<Keys>, subject: Subject },
}

const KEYS: [&str; 4] = ["keyPath", "keyPaths", "keyData", "keyDatas"];
const LOGS: [&str; 4] = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];

impl SigstoreSigned {
    /// Parses the requirement.
    pub(super) fn parse(fields: &Map<String, Value>) -> Result<Self> {
        let others = ["fulcio", "pki", "signedIdentity"];
        only(fields, &[KEYS.as_slice(), LOGS.as_slice(), others.as_slice()].concat())?;
        let keys = Keys::parse_one_of(fields, &KEYS)?;
        let logs = Keys::parse_one_of(fields, &LOGS)?;
        let signers = match (keys, fields.get("fulcio"), fields.get("pki")) {
            (Some(keys), None, None) => Signers::Keys { keys, logs },
            (None, Some(value), None) => fulcio(value, logs).context(|| "`fulcio`")?,
            (None, None, Some(value)) => pki(value, logs.is_some()).context(|| "`pki`")?,
            _ => {
                return Err(Error::invalid(
                    "exactly one of `keyPath`, `keyPaths`, `keyData`, `keyDatas`, `fulcio` and `pki` must be there",
                ));
            }
        };
        Ok(Self { signers, identity: signed_identity(fields)? })
    }

    /// Returns an error unless one signature fulfils the requirement.
    pub(super) fn check(&self, image: &Candidate<'_>) -> Result<()> {
        // Of what an image has, only signatures as cosign makes them count; what else there is cannot say no.
        let (mut others, mut attachments) = (0, 0);
        let mut trust = None;
        let accepted = image.one_signature(|signature| match signature.kind() {
            Ok(Kind::Sigstore(found)) if found.mime_type == PAYLOAD_TYPE => {
                let trust = match &trust {
                    Some(trust) => trust,
                    None => match self.signers.read() {
                        Ok(read) => trust.insert(read),
                        Err(error) => return Some(Err(error)),
                    },
                };
                Some(self.accept(&found, trust, image))
            }
            Ok(Kind::Sigstore(_)) => {
                attachments += 1;
                None
            }
            Ok(Kind::Simple(_) | Kind::Unknown(_)) => {
                others += 1;
                None
            }
            Err(error) => Some(Err(error)),
        });
        if accepted.is_err() && others + attachments == image.signatures.len() && !image.signatures.is_empty() {
            return Err(Error::refused(format!(
                "a signature was required, but no signature exists ({others} non-sigstore signatures, \
                 {attachments} sigstore non-signature attachments)"
            )));
        }
        accepted
    }

    fn accept(&self, signature: &SigstoreSignature, trust: &Trust, image: &Candidate<'_>) -> Result<()> {
        let says = trust.verify(signature, image.now)?;
        image.check_digest(&says.manifest)?;
        self.identity.check(&says.identity, image)
    }
}

fn fulcio(value: &Value, logs: Option<Keys>) -> Result<Signers> {
    let fields = parts(value, &["caPath", "caData", "oidcIssuer", "subjectEmail"])?;
    let logs = logs.ok_or_else(|| Error::invalid("it needs a `rekorPublicKey…`, which vouches for the time"))?;
    Ok(Signers::Fulcio {
        authorities: required(fields, &["caPath", "caData"])?,
        oidc_issuer: text(fields, "oidcIssuer")?.to_string(),
        subject_email: text(fields, "subjectEmail")?.to_string(),
        logs,
    })
}

fn pki(value: &Value, logged: bool) -> Result<Signers> {
    let known =
        ["caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData", "subjectEmail", "subjectHostname"];
    let fields = parts(value, &known)?;
    if logged {
        return Err(Error::invalid("no `rekorPublicKey…` can be used with it"));
    }
    let name = |key: &str| match fields.contains_key(key) {
        true => text(fields, key).map(|text| Some(text.to_string())),
        false => Ok(None),
    };
    let subject = match (name("subjectEmail")?, name("subjectHostname")?) {
        (Some(email), Some(host)) => Subject::Both { email, host },
        (Some(email), None) => Subject::Email(email),
        (None, Some(host)) => Subject::Host(host),
        (None, None) => return Err(Error::invalid("`subjectEmail` or `subjectHostname` must be there")),
    };
    Ok(Signers::Pki {
        authorities: required(fields, &["caRootsPath", "caRootsData"])?,
        intermediates: Keys::parse_one_of(fields, &["caIntermediatesPath", "caIntermediatesData"])?,
        subject,
    })
}

/// Returns the fields of an object that may have only these.
fn parts<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>> {
    let fields = object(value)?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(fields),
        Some(key) => Err(Error::invalid(format!("unknown key `{}`", printable(key.as_bytes())))),
    }
}

fn required(fields: &Map<String, Value>, names: &[&str]) -> Result<Keys> {
    Keys::parse_one_of(fields, names)?
        .ok_or_else(|| Error::invalid(format!("one of `{}` must be there", names.join("`, `"))))
}

impl Signers {
    /// Reads the files that the policy names.
    fn read(&self) -> Result<Trust> {
        let keys = |keys: &Keys| -> Result<Vec<_>> {
            let each = keys.read()?.into_iter().enumerate();
            each.map(|(n, text)| PublicKey::from_pem(&text).context(|| format!("the policy's key {}", n + 1))).collect()
        };
        let logs = |logs: &Keys| Logs::new(keys(logs)?).context(|| "the policy's Rekor keys");
        let authorities = |files: &Keys| Authorities::from_pem(&files.read()?.concat());
        Ok(match self {
            Self::Keys { keys: own, logs: None } => Trust::Keys(keys(own)?, None),
            Self::Keys { keys: own, logs: Some(vouching) } => Trust::Keys(keys(own)?, Some(logs(vouching)?)),
            Self::Fulcio { authorities: own, oidc_issuer, subject_email, logs: vouching } => {
                let fulcio = Fulcio {
                    authorities: authorities(own)?,
                    oidc_issuer: oidc_issuer.clone(),
                    subject_email: subject_email.clone(),
                };
                Trust::Fulcio(fulcio, logs(vouching)?)
            }
            Self::Pki { authorities: own, intermediates, subject } => Trust::Pki(Pki {
                authorities: authorities(own)?,
                intermediates: intermediates.as_ref().map(authorities).transpose()?,
                subject: subject.clone(),
            }),
        })
    }
}
