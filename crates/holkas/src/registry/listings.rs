//! Lists referrers under tags, for registries that keep no such lists themselves.
//!
//! distribution-spec 1.1, "Pushing Manifests with Subject": who puts a manifest with a subject, and is not answered
//! with `OCI-Subject`, adds it to the index under the subject's tag.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::referrers::index_of;
use super::repository::Repository;
use crate::error::{Context, Error, Result};
use crate::image::list_tag;
use crate::limits::{INDEX_ENTRIES, MANIFEST};
use crate::oci::media_type::OCI_INDEX;
use crate::oci::{self, Algorithm, Descriptor, Digest, MediaType};
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// What must be listed: for each manifest, what refers to it.
#[derive(Debug, Default)]
pub(super) struct Listings(BTreeMap<Digest, BTreeMap<Digest, Descriptor>>);

impl Listings {
    /// Notes that the registry has not listed what an entry describes.
    pub(super) fn add(&mut self, subject: Digest, entry: Descriptor) {
        self.0.entry(subject).or_default().insert(entry.digest, entry);
    }

    /// Writes the lists, each with what it has already, and forgets them.
    ///
    /// Who else writes the same list in the same moment may take an entry out again: the protocol has no lock.
    pub(super) fn write(&mut self, repository: &Repository) -> Result<()> {
        for (subject, entries) in std::mem::take(&mut self.0) {
            let tag = list_tag(&subject);
            let frame = || format!("listing what refers to {subject} under the tag {tag} of {}", repository.name());
            let old = repository.tagged(&tag).context(frame)?;
            if let Some(bytes) = with_entries(old, entries.into_values()).context(frame)? {
                let media_type = MediaType::new(OCI_INDEX);
                let new = UntrustedBlob::from_bytes(bytes);
                let new = new.identify(Algorithm::Sha256, Some(media_type.clone()), MANIFEST).context(frame)?;
                let descriptor = Descriptor::new(media_type, *new.digest(), new.bytes().len() as u64);
                repository.put_manifest(&tag, &new, &descriptor).context(frame)?;
            }
        }
        Ok(())
    }
}

/// Returns a list with these entries behind those that it has; `None` if it has them all.
fn with_entries(old: Option<VerifiedBytes>, new: impl Iterator<Item = Descriptor>) -> Result<Option<Vec<u8>>> {
    let (mut document, known) = match old {
        None => {
            let document = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
            (document.as_object().cloned().unwrap_or_else(Map::new), Vec::new())
        }
        Some(raw) => {
            let document = oci::json::parse_object(raw.bytes())?;
            (document, index_of(raw)?.entries().iter().map(|entry| entry.digest).collect())
        }
    };
    let new: Vec<Value> = new.filter(|entry| !known.contains(&entry.digest)).map(|entry| json!(entry)).collect();
    if new.is_empty() {
        return Ok(None);
    }
    let Some(Value::Array(manifests)) = document.get_mut("manifests") else {
        return Err(Error::invalid("`manifests` is not a list"));
    };
    manifests.extend(new);
    if manifests.len() > INDEX_ENTRIES {
        return Err(Error::invalid(format!("the list would have more than {INDEX_ENTRIES} entries")));
    }
    let bytes = serde_json::to_vec(&Value::Object(document)).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: &[u8]) -> VerifiedBytes {
        UntrustedBlob::from_bytes(bytes.to_vec()).identify(Algorithm::Sha256, None, MANIFEST).expect("bytes")
    }

    fn entry(name: &str) -> Descriptor {
        let media_type = MediaType::new(crate::oci::media_type::OCI_MANIFEST);
        let mut entry = Descriptor::new(media_type, Algorithm::Sha256.digest(name.as_bytes()), 7);
        entry.artifact_type = Some(MediaType::new("application/x"));
        entry
    }

    #[test]
    fn lists_grow_and_keep_what_they_have() {
        let first = with_entries(None, [entry("a")].into_iter()).expect("a list").expect("a new one");
        let text = String::from_utf8(first.clone()).expect("JSON");
        assert!(
            text.starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","#),
            "{text}"
        );
        assert!(text.contains(r#""artifactType":"application/x""#), "{text}");
        assert_eq!(with_entries(Some(raw(&first)), [entry("a")].into_iter()).expect("a list"), None);

        // What others wrote stays, in its order and with keys that we do not know.
        let others = text.replacen(r#""manifests":[{"#, r#""annotations":{"k":"v"},"manifests":[{"future":1,"#, 1);
        let second = with_entries(Some(raw(others.as_bytes())), [entry("b"), entry("a")].into_iter());
        let second = String::from_utf8(second.expect("a list").expect("another one")).expect("JSON");
        assert!(second.starts_with(others.trim_end_matches("]}")), "{second}");
        assert!(second.contains(&entry("b").digest.to_string()), "{second}");
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        let list = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}"#;
        let image = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:0","size":1},"layers":[]}"#;
        for text in [list, image, "{}", ""] {
            with_entries(Some(raw(text.as_bytes())), [entry("a")].into_iter()).expect_err(text);
        }
    }
}
