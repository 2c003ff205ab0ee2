//! Finds what belongs to an image in a layout.
//!
//! ```text
//! index.json   an entry whose manifest has the image as its subject           as ORAS and we write it
//!              sha256-HEX        a list of such manifests, under the tag      as regclient writes it
//!              sha256-HEX.sig    what cosign keeps under a tag; .att, .sbom
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Files;
use super::index::LayoutIndex;
use crate::error::{Context, ErrorKind, Result};
use crate::image::{Referrer, cosign_tags, list_tag, listed};
use crate::limits::MANIFEST;
use crate::oci::{Descriptor, Digest, Document, Index, Meaning};
use crate::verify::VerifiedBytes;

/// The manifests of `index.json` by what they are about.
#[derive(Debug, Default)]
pub(super) struct Subjects(Mutex<Option<BySubject>>);

type BySubject = BTreeMap<Digest, BTreeMap<Digest, Descriptor>>;

impl Subjects {
    /// Returns what belongs to a manifest, in the order of digests, then what is under cosign's tags.
    pub(super) fn find(&self, files: &dyn Files, index: &LayoutIndex, subject: &Digest) -> Result<Vec<Referrer>> {
        let mut found = self.about(files, index, subject)?;
        let list = list_tag(subject);
        if let Some(entry) = index.named(&list)? {
            let frame = || format!("reading the list of what refers to {subject}, named {list}");
            let index = read(files, &entry).and_then(Index::parse).context(frame)?;
            listed(&mut found, index.entries()).context(frame)?;
        }
        let mut found: Vec<_> = found.into_values().map(Referrer::Listed).collect();
        for tag in cosign_tags(subject) {
            if let Some(entry) = index.named(&tag)? {
                let manifest = read(files, &entry).context(|| format!("reading {tag}"))?;
                found.push(Referrer::Tagged { tag, manifest });
            }
        }
        Ok(found)
    }

    fn about(&self, files: &dyn Files, index: &LayoutIndex, subject: &Digest) -> Result<BTreeMap<Digest, Descriptor>> {
        // The map is whole or absent.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *known {
            Some(known) => known,
            None => known.insert(by_subject(files, index)?),
        };
        Ok(known.get(subject).cloned().unwrap_or_default())
    }
}

/// Reads all manifests of `index.json`, one after the other, for what they are about.
///
/// One that is not there is passed over: a layout may be sparse. One that is damaged is an error, since nobody can say
/// what it belongs to.
fn by_subject(files: &dyn Files, index: &LayoutIndex) -> Result<BySubject> {
    let mut found = BySubject::new();
    for entry in index.descriptors()? {
        if !matches!(entry.media_type.meaning(), Meaning::Manifest(_) | Meaning::Index(_)) {
            continue;
        }
        let document = match read(files, &entry) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.and_then(Document::parse),
        };
        let document = document.context(|| format!("reading manifest {} of the layout", entry.digest))?;
        if let Some(subject) = document.subject() {
            listed(found.entry(subject.digest).or_default(), std::slice::from_ref(&entry))?;
        }
    }
    Ok(found)
}

fn read(files: &dyn Files, entry: &Descriptor) -> Result<VerifiedBytes> {
    files.open(entry)?.read_verified(entry, MANIFEST)
}
