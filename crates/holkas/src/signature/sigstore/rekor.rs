//! The log of signatures: its promise that it has one, which also says when it was made.
//!
//! The promise travels as JSON, `{"SignedEntryTimestamp":…,"Payload":{"body":…,"integratedTime":…,"logIndex":…,"logID":…}}`.
//! The log signs the payload in the canonical form of RFC 8785; `body` says what was signed, by whom, and how.

use serde_json::{Map, Value};

use super::base64;
use super::payload::{exactly, text};
use super::pem;
use super::public_key::PublicKey;
use crate::error::{Context, Error, Result, printable};
use crate::oci::{Algorithm, json};

/// The greatest number that JavaScript, whose numbers RFC 8785 has, tells from its neighbours.
const GREATEST: i64 = (1 << 53) - 1;

/// The keys of logs of which any may vouch for a signature.
#[derive(Debug, Clone)]
pub struct Logs(Vec<PublicKey>);

impl Logs {
    /// Takes the logs' keys, of which there must be at least one.
    ///
    /// # Errors
    ///
    /// `Invalid` if there are none, or one is not ECDSA, which is all that such logs sign with.
    pub fn new(keys: Vec<PublicKey>) -> Result<Self> {
        if keys.is_empty() {
            return Err(Error::invalid("no key of a Rekor log is given"));
        }
        match keys.iter().find(|key| !key.is_elliptic()) {
            Some(key) => Err(Error::invalid(format!("a Rekor public key is {}, and must be ECDSA", key.kind()))),
            None => Ok(Self(keys)),
        }
    }

    /// Verifies the promise of a log that it has this signature, by this key or certificate, of this payload.
    ///
    /// Returns when the log took it, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// `Invalid` if the promise is damaged, `Mismatch` if no log of these made it, or it is about something else.
    pub(super) fn verify(&self, promise: &str, signed: &Signed<'_>) -> Result<i64> {
        verify(&self.0, promise, signed).context(|| "verifying that the log has the signature")
    }
}

/// What the log must have.
pub(super) struct Signed<'a> {
    /// The signer's public key or certificate.
    pub signer: &'a [u8],
    pub signature: &'a [u8],
    pub payload: &'a [u8],
}

fn verify(logs: &[PublicKey], promise: &str, signed: &Signed<'_>) -> Result<i64> {
    let promise = Value::Object(json::parse_object(promise.as_bytes())?);
    let [seal, entry] = exactly(promise, ["SignedEntryTimestamp", "Payload"])?;
    let seal = base64(&text(seal, "SignedEntryTimestamp")?, "SignedEntryTimestamp")?;
    let [body, time, index, id] = exactly(entry, ["body", "integratedTime", "logIndex", "logID"])?;
    let body = text(body, "body")?;
    let id = text(id, "logID")?;
    let time = number(&time, "integratedTime")?;
    let index = number(&index, "logIndex")?;

    let canonical = canonical(&body, time, index, &id);
    if !logs.iter().any(|log| log.verify(canonical.as_bytes(), &seal).is_ok()) {
        return Err(Error::mismatch("its promise was made by none of the logs that the policy trusts"));
    }
    check_entry(&base64(&body, "body")?, signed).context(|| "comparing with the log's entry")?;
    Ok(time)
}

/// Returns the payload in the form of RFC 8785: keys in order, no spaces, strings with the shortest escapes.
fn canonical(body: &str, time: i64, index: i64, id: &str) -> String {
    let entry: Map<String, Value> = [
        ("body".to_string(), body.into()),
        ("integratedTime".to_string(), time.into()),
        ("logID".to_string(), id.into()),
        ("logIndex".to_string(), index.into()),
    ]
    .into_iter()
    .collect();
    Value::Object(entry).to_string()
}

fn number(value: &Value, key: &str) -> Result<i64> {
    value
        .as_i64()
        .filter(|number| (0..=GREATEST).contains(number))
        .ok_or_else(|| Error::invalid(format!("`{key}` is not a whole number that every reader understands alike")))
}

/// Checks that the entry is a `hashedrekord` of version 0.0.1 with just this signer, signature and payload.
fn check_entry(body: &[u8], signed: &Signed<'_>) -> Result<()> {
    let mut entry = json::parse_object(body)?;
    let mut field = |key: &str| entry.remove(key).ok_or_else(|| Error::invalid(format!("`{key}` is missing")));
    let kind = text(field("kind")?, "kind")?;
    let version = text(field("apiVersion")?, "apiVersion")?;
    if (kind.as_str(), version.as_str()) != ("hashedrekord", "0.0.1") {
        let name = printable(format!("{kind} {version}").as_bytes());
        return Err(Error::unsupported(format!("it is a `{name}`, not a `hashedrekord 0.0.1`")));
    }
    let spec = field("spec")?;
    let at = |path: &[&str]| {
        let found = path.iter().try_fold(&spec, |value, key| value.get(key)).and_then(Value::as_str);
        found.ok_or_else(|| Error::invalid(format!("`spec.{}` is not there, or not a string", path.join("."))))
    };

    let signer = base64(at(&["signature", "publicKey", "content"])?, "publicKey")?;
    if pem::only_block(&signer, "key")?.der != signed.signer {
        return Err(Error::mismatch("it is about another key or certificate"));
    }
    if base64(at(&["signature", "content"])?, "signature")? != signed.signature {
        return Err(Error::mismatch("it is about another signature"));
    }
    let algorithm = at(&["data", "hash", "algorithm"])?;
    if algorithm != "sha256" {
        return Err(Error::unsupported(format!("its hash is `{}`, not `sha256`", printable(algorithm.as_bytes()))));
    }
    // Hex digits may be of either case.
    if !at(&["data", "hash", "value"])?.eq_ignore_ascii_case(&Algorithm::Sha256.digest(signed.payload).hex()) {
        return Err(Error::mismatch("it is about something else that was signed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        assert_eq!(
            canonical("YQ==", 12, 0, "\"\\\u{8}\t\n\u{c}\r\u{1}\u{7f}<é€"),
            "{\"body\":\"YQ==\",\"integratedTime\":12,\
              \"logID\":\"\\\"\\\\\\b\\t\\n\\f\\r\\u0001\u{7f}<é€\",\"logIndex\":0}"
        );
        assert!(number(&GREATEST.into(), "n").is_ok() && number(&(GREATEST + 1).into(), "n").is_err());
        assert!(number(&(-1).into(), "n").is_err() && number(&1.0.into(), "n").is_err());
    }
}
