//! Signatures as they travel beside an image, in the one form that `dir:` and stores keep them in.
//!
//! Simple signing keeps its OpenPGP message as it is. What cosign makes has an envelope of containers/image:
//! a zero byte, `sigstore-json`, a line feed, and a JSON object with `mimeType`, `payload` (base64) and `annotations`.
//! Nothing here is proof of anything: only a policy verifies.

pub mod openpgp;
pub mod payload;
pub mod sigstore;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::{Context, Error, Result};
use crate::oci::{Digest, json as strict};
use crate::reference::Name;

/// A signature as a source keeps it. Carried, not trusted: only a policy can verify it.
#[derive(Clone, PartialEq, Eq)]
pub struct UntrustedSignature(pub Vec<u8>);

impl fmt::Debug for UntrustedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UntrustedSignature({} bytes)", self.0.len())
    }
}

/// What begins the envelope of a sigstore signature.
const SIGSTORE: &[u8] = b"\0sigstore-json\n";

/// What a signature is, as far as its first bytes tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Simple signing: an OpenPGP message.
    Simple(&'a [u8]),
    /// A signature as cosign makes it.
    Sigstore(SigstoreSignature),
    /// A kind that this version does not know, with its name.
    Unknown(&'a [u8]),
}

/// A signature as cosign makes it, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSignature {
    /// The media type of the payload.
    pub mime_type: String,
    /// What was signed.
    pub payload: Vec<u8>,
    /// The signature itself, certificates and proofs, by cosign's keys.
    pub annotations: BTreeMap<String, String>,
}

impl UntrustedSignature {
    /// Returns what the signature is.
    ///
    /// # Errors
    ///
    /// `Invalid` if it has the envelope of a sigstore signature, and what is in it is damaged.
    pub fn kind(&self) -> Result<Kind<'_>> {
        let bytes = self.0.as_slice();
        if let Some(envelope) = bytes.strip_prefix(SIGSTORE) {
            return parse(envelope).context(|| "reading a sigstore signature").map(Kind::Sigstore);
        }
        Ok(match bytes.strip_prefix(b"\0") {
            Some(other) => Kind::Unknown(other.split(|byte| *byte == b'\n').next().unwrap_or_default()),
            None => Kind::Simple(bytes),
        })
    }
}

impl From<&SigstoreSignature> for UntrustedSignature {
    fn from(signature: &SigstoreSignature) -> Self {
        let envelope = json!({
            "mimeType": signature.mime_type,
            "payload": STANDARD.encode(&signature.payload),
            "annotations": signature.annotations,
        });
        Self([SIGSTORE, strict::go_escaped(&envelope.to_string()).as_bytes()].concat())
    }
}

fn parse(envelope: &[u8]) -> Result<SigstoreSignature> {
    let fields = strict::parse_object(envelope)?;
    let text = |key: &str| {
        fields.get(key).and_then(Value::as_str).ok_or_else(|| Error::invalid(format!("`{key}` is not a string")))
    };
    let payload = STANDARD
        .decode(text("payload")?)
        .map_err(|error| Error::invalid(format!("`payload` is not base64: {error}")))?;
    let annotations = match fields.get("annotations") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::invalid("`annotations` has a value that is not a string"))?,
        Some(_) => return Err(Error::invalid("`annotations` is not an object")),
    };
    Ok(SigstoreSignature { mime_type: text("mimeType")?.to_string(), payload, annotations })
}

/// Signs manifests.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Returns whose key it is, for messages.
    fn name(&self) -> String;

    /// Signs that the manifest or index of this digest is what `identity` names.
    fn sign(&self, manifest: &Digest, identity: &Name) -> Result<UntrustedSignature>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_read_as_it_is_written() {
        let signature = SigstoreSignature {
            mime_type: "application/vnd.dev.cosign.simplesigning.v1+json".into(),
            payload: b"{\"critical\":{}}".to_vec(),
            annotations: [("dev.cosignproject.cosign/signature".to_string(), "<a&b>".to_string())].into(),
        };
        let carried = UntrustedSignature::from(&signature);
        assert_eq!(
            carried.0,
            b"\0sigstore-json\n{\"mimeType\":\"application/vnd.dev.cosign.simplesigning.v1+json\",\
              \"payload\":\"eyJjcml0aWNhbCI6e319\",\
              \"annotations\":{\"dev.cosignproject.cosign/signature\":\"\\u003ca\\u0026b\\u003e\"}}"
        );
        assert_eq!(carried.kind().expect("it is whole"), Kind::Sigstore(signature));
    }

    #[test]
    fn what_is_damaged_is_refused_and_what_is_unknown_is_named() {
        let kind = |bytes: &[u8]| UntrustedSignature(bytes.to_vec()).kind().map(|kind| format!("{kind:?}"));
        assert_eq!(kind(b"\x90\x0d").expect("simple"), "Simple([144, 13])");
        assert_eq!(kind(b"\0new-kind\nrest").expect("unknown"), format!("{:?}", Kind::Unknown(b"new-kind")));
        for damaged in [
            "",
            "{}",
            "[]",
            r#"{"mimeType":"a","payload":"*"}"#,
            r#"{"mimeType":1,"payload":""}"#,
            r#"{"mimeType":"a","payload":"","annotations":{"a":1}}"#,
            r#"{"mimeType":"a","payload":"","annotations":[]}"#,
            r#"{"mimeType":"a","mimeType":"a","payload":""}"#,
        ] {
            let error = kind(&[SIGSTORE, damaged.as_bytes()].concat()).expect_err(damaged);
            assert!(error.to_string().contains("sigstore signature"), "{error}");
        }
    }
}
