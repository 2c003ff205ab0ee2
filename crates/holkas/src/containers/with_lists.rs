//! An image and the manifest lists that name it, opened together as one source.

use std::path::PathBuf;

use super::lists::{self, List};
use crate::error::{Context, Error, Result};
use crate::fs;
use crate::image::{ImageSource, Layer, LayerBlob, Origin, PolicyIdentity, open_top};
use crate::oci::{Algorithm, Descriptor, Digest, Document};
use crate::signature::UntrustedSignature;
use crate::verify::{PartialBlob, UntrustedBlob, VerifiedBytes};

/// A source of one image that also gives the manifest lists which name it: "this instance of those lists".
///
/// The instance is known by its digest: no list has to be asked which of its entries suits this machine.
pub struct WithLists {
    source: Box<dyn ImageSource>,
    lists: Vec<VerifiedBytes>,
}

impl WithLists {
    /// Puts an opened image and lists together. A list that does not name the image, or that names it with a wrong
    /// size, is refused. A list may name the image through another of the given lists.
    pub fn new(source: Box<dyn ImageSource>, files: &[PathBuf]) -> Result<Self> {
        let lists = lists::read_lists(files)?;
        let frame = || format!("bringing {} together with its manifest lists", source.name());
        check(source.as_ref(), &lists).context(frame)?;
        Ok(Self { lists: lists.into_iter().map(|list| list.index.raw().clone()).collect(), source })
    }
}

fn check(source: &dyn ImageSource, lists: &[List]) -> Result<()> {
    let document = open_top(source)?;
    if let Document::Index(index) = &document {
        return Err(Error::refused(format!("{} is a manifest list itself, not one image", index.digest())));
    }
    let bytes = document.raw().bytes();
    let found = lists::of_lists(lists)?;
    let mut naming = std::collections::BTreeSet::new();
    for digest in digests(bytes)? {
        for way in found.get(&digest).into_iter().flatten() {
            let last = way.lists.last().map(|path| fs::display(path)).unwrap_or_default();
            lists::check_size(&way.entry, bytes.len()).context(|| format!("manifest list `{last}`"))?;
            naming.extend(way.lists.iter().cloned());
        }
    }
    // The same list may have been given twice, under two paths.
    let named: Vec<_> = lists.iter().filter(|list| naming.contains(&list.path)).map(|l| *l.index.digest()).collect();
    match lists.iter().find(|list| !named.contains(list.index.digest())) {
        None => Ok(()),
        Some(list) => Err(Error::refused(format!(
            "manifest list `{}` does not name the image, whose manifest is {}",
            fs::display(&list.path),
            document.raw().digest()
        ))
        .hint(format!(
            "the list names: {}",
            list.index.entries().iter().map(|e| e.digest.short()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Returns the digests that lists may know a manifest by.
pub(super) fn digests(bytes: &[u8]) -> Result<Vec<Digest>> {
    [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .map(|algorithm| crate::oci::document::manifest_digest(bytes, algorithm, crate::limits::MANIFEST))
        .collect()
}

impl ImageSource for WithLists {
    fn name(&self) -> String {
        self.source.name()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.source.policy_scopes()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        self.source.top()
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        match self.lists.iter().find(|list| *list.digest() == descriptor.digest) {
            Some(list) => Ok(UntrustedBlob::from_bytes(list.bytes().to_vec())),
            None => self.source.open_manifest(descriptor),
        }
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.source.open_config(descriptor)
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        self.source.open_layer(layer)
    }

    fn resumes(&self) -> bool {
        self.source.resumes()
    }

    fn open_layer_from(&self, layer: &Layer, beginning: PartialBlob) -> Result<LayerBlob> {
        self.source.open_layer_from(layer, beginning)
    }

    fn try_another_place(&self, blob: &Descriptor, error: &Error) -> bool {
        self.source.try_another_place(blob, error)
    }

    fn take_warnings(&self) -> Vec<String> {
        self.source.take_warnings()
    }

    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
        // A directory has one set of signatures, its image's; none of them is a list's.
        if self.lists.iter().any(|list| list.digest() == manifest) {
            return Ok(Vec::new());
        }
        self.source.signatures(manifest)
    }

    fn indexes(&self, manifest: &Digest) -> Result<Vec<VerifiedBytes>> {
        let mut all = self.lists.clone();
        all.extend(self.source.indexes(manifest)?);
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|list| seen.insert(*list.digest()));
        Ok(all)
    }

    fn origin(&self) -> Origin {
        self.source.origin()
    }

    fn keeps_blobs(&self) -> bool {
        self.source.keeps_blobs()
    }
}
