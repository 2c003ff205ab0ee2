//! Finds what belongs to an image in a registry: by its lists of referrers, by lists under tags, by cosign's tags.

use std::collections::BTreeMap;

use super::places::Places;
use super::repository::Repository;
use crate::error::{Context, Error, Result};
use crate::image::{Referrer, cosign_tags, list_tag, listed};
use crate::limits::{MANIFEST, REFERRER_PAGES};
use crate::oci::media_type::OCI_INDEX;
use crate::oci::{Algorithm, Descriptor, Digest, Index, MediaType, json};
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// Returns what belongs to a manifest. The registry itself is asked: a mirror may have images without all of it.
pub(super) fn find(places: &Places, subject: &Digest) -> Result<Vec<Referrer>> {
    let itself = places.iter().map(|(_, place)| place).find(|place| !place.is_mirror());
    let place = itself.or_else(|| places.iter().map(|(_, place)| place).next());
    let repository = place.ok_or_else(|| Error::not_found("there is no place to read it from"))?.repository();
    let mut found: Vec<_> = list(repository, subject)?.into_values().map(Referrer::Listed).collect();
    for tag in cosign_tags(subject) {
        if let Some(manifest) = repository.tagged(&tag)? {
            found.push(Referrer::Tagged { tag, manifest });
        }
    }
    Ok(found)
}

/// Returns what a list says to refer to a manifest, in the order of digests.
fn list(repository: &Repository, subject: &Digest) -> Result<BTreeMap<Digest, Descriptor>> {
    let mut found = BTreeMap::new();
    let mut pages = 0;
    let kept = repository.referrers(subject, &mut |page| {
        pages += 1;
        if pages > REFERRER_PAGES {
            return Err(Error::invalid(format!("there are more than {REFERRER_PAGES} pages")));
        }
        listed(&mut found, &entries(page)?)?;
        Ok(found.len())
    })?;
    if !kept {
        let tag = list_tag(subject);
        if let Some(index) = repository.tagged(&tag)? {
            let frame = || format!("reading the list of what refers to {subject} under the tag {tag}");
            let index = index_of(index).context(frame)?;
            listed(&mut found, index.entries()).context(frame)?;
        }
    }
    Ok(found)
}

/// Parses a page of the list as strictly as any index, but for one thing: Go writes no entries as `null`.
fn entries(page: &[u8]) -> Result<Vec<Descriptor>> {
    MANIFEST.check(page.len() as u64)?;
    if json::parse_object(page)?.get("manifests").is_some_and(serde_json::Value::is_null) {
        return Ok(Vec::new());
    }
    let media_type = Some(MediaType::new(OCI_INDEX));
    let page = UntrustedBlob::from_bytes(page.to_vec()).identify(Algorithm::Sha256, media_type, MANIFEST)?;
    Ok(Index::parse(page)?.entries().to_vec())
}

/// Parses the list that a tag names. Whatever else it names is nobody's list, and should not be under such a tag.
pub(super) fn index_of(raw: VerifiedBytes) -> Result<Index> {
    let index = Index::parse(raw)?;
    if index.media_type().as_str() == OCI_INDEX {
        return Ok(index);
    }
    Err(Error::invalid(format!("it is of type `{}`, not an index", index.media_type())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_indexes_and_nothing_else() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let entry =
            format!(r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":5}}"#);
        let page =
            |manifests: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":{manifests}}}"#);
        assert_eq!(entries(page(&format!("[{entry}]")).as_bytes()).expect("a page")[0].digest.to_string(), digest);
        assert!(entries(page("[]").as_bytes()).expect("an empty page").is_empty());
        assert!(entries(page("null").as_bytes()).expect("an empty page").is_empty());
        for wrong in [
            "",
            "[]",
            "<html>",
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
            &page(r#"[{"mediaType":"x","digest":"sha256:../../x","size":1}]"#),
            &page(&format!(r#"[{{"mediaType":"x","digest":"{digest}","size":-1}}]"#)),
            &format!("{}x", page("[]")),
        ] {
            entries(wrong.as_bytes()).expect_err(wrong);
        }
    }
}
