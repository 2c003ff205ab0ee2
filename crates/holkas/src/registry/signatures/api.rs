//! Signatures that a registry keeps itself, by the extension `X-Registry-Supports-Signatures` of Atomic Registry and
//! OpenShift.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::super::repository::Repository;
use super::check_count;
use crate::error::{Context, Error, Result};
use crate::oci::{Algorithm, Digest};
use crate::signature::UntrustedSignature;

/// The version and the type of the signatures that we know; a registry may have others.
const VERSION: i64 = 2;
const TYPE: &str = "atomic";

#[derive(Deserialize)]
struct List {
    signatures: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "schemaVersion", default)]
    version: i64,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    content: String,
}

/// Reads all signatures of a manifest that we know the type of.
pub(super) fn read(repository: &Repository, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
    parse(&repository.signatures(manifest)?).context(|| "reading the registry's list of signatures")
}

fn parse(list: &[u8]) -> Result<Vec<UntrustedSignature>> {
    let list: List = serde_json::from_slice(list).map_err(|error| Error::invalid(error.to_string()))?;
    let listed = list.signatures.unwrap_or_default();
    check_count(listed.len())?;
    let known = listed.into_iter().filter(|one| one.version == VERSION && one.kind == TYPE);
    known
        .map(|one| {
            let content = STANDARD.decode(&one.content);
            let signature = UntrustedSignature(content.map_err(|error| Error::invalid(format!("`content`: {error}")))?);
            super::recognised(&signature)?;
            Ok(signature)
        })
        .collect()
}

/// Adds signatures to those that the registry has of a manifest, each once.
pub(super) fn write(repository: &Repository, manifest: &Digest, signatures: &[&[u8]]) -> Result<()> {
    let mut known: Vec<Vec<u8>> = read(repository, manifest)?.into_iter().map(|known| known.0).collect();
    for signature in signatures {
        if known.iter().any(|known| known == signature) {
            continue;
        }
        let body = json!({
            "schemaVersion": VERSION,
            "name": name(manifest, signature),
            "type": TYPE,
            "content": STANDARD.encode(signature),
        });
        repository.put_signature(manifest, body.to_string().as_bytes())?;
        known.push(signature.to_vec());
    }
    Ok(())
}

/// Returns the name that a signature gets, which must be new: `DIGEST@` and 32 digits, of what it says here.
fn name(manifest: &Digest, signature: &[u8]) -> String {
    let own = Algorithm::Sha256.digest(signature).hex();
    format!("{manifest}@{}", own.get(..32).unwrap_or(&own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_what_is_unknown_is_left_out() {
        let list = r#"{"signatures":[
            {"schemaVersion":2,"name":"a","type":"atomic","content":"kAA="},
            {"schemaVersion":1,"name":"a","type":"atomic","content":"kAE="},
            {"schemaVersion":2,"name":"a","type":"new","content":"?"},
            {},
            {"schemaVersion":2,"type":"atomic","content":"kAI=","future":1}
        ]}"#;
        let found: Vec<_> = parse(list.as_bytes()).expect("a list").into_iter().map(|found| found.0).collect();
        assert_eq!(found, [b"\x90\0", b"\x90\x02"]);
        assert!(parse(b"{}").expect("nothing").is_empty());
        let many = format!(r#"{{"signatures":[{}{{}}]}}"#, "{},".repeat(crate::limits::SIGNATURES));
        for wrong in [
            "",
            "[]",
            r#"{"signatures":1}"#,
            r#"{"signatures":[{"schemaVersion":2,"type":"atomic","content":"*"}]}"#,
            r#"{"signatures":[{"schemaVersion":2,"type":"atomic","content":"PGh0bWw+"}]}"#,
            &many,
        ] {
            parse(wrong.as_bytes()).expect_err(wrong);
        }
    }
}
