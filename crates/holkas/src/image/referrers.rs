//! What belongs to an image, as it travels beside it: signatures, attestations, bills of materials.

use std::collections::BTreeMap;

use super::{Image, ImageSource, Layer, read_config};
use crate::error::{Error, Result};
use crate::limits::{REFERRER_BLOBS, REFERRERS};
use crate::oci::{Algorithm, Descriptor, Digest, Index, Manifest, MediaType};
use crate::verify::VerifiedBytes;

/// How a source has found something that belongs to a manifest.
#[derive(Debug, Clone)]
pub enum Referrer {
    /// A list says that the subject of this manifest is the other one. Only the manifest itself can prove that.
    Listed(Descriptor),
    /// cosign keeps this under a tag that is made of the other's digest.
    Tagged {
        /// The tag.
        tag: String,
        /// The manifest that the tag names.
        manifest: VerifiedBytes,
    },
}

/// How something that belongs to an image is found at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// By its subject.
    Subject,
    /// By this tag.
    Tag(String),
    /// By an index that is put after it.
    Within,
}

/// A manifest or an index as a destination takes it.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Its bytes.
    pub raw: VerifiedBytes,
    /// What a list of referrers says of it, by the OCI distribution specification.
    pub descriptor: Descriptor,
    /// The manifest or index that it is about, if it says so.
    pub subject: Option<Digest>,
}

impl Attached {
    fn new(
        raw: &VerifiedBytes,
        descriptor: Descriptor,
        artifact_type: Option<&MediaType>,
        annotations: &BTreeMap<String, String>,
        subject: Option<&Descriptor>,
    ) -> Self {
        let artifact_type = artifact_type.filter(|media_type| !media_type.as_str().is_empty()).cloned();
        let annotations = (!annotations.is_empty()).then(|| annotations.clone());
        let descriptor = Descriptor { artifact_type, annotations, ..descriptor };
        Self { raw: raw.clone(), descriptor, subject: subject.map(|subject| subject.digest) }
    }
}

impl From<&Manifest> for Attached {
    fn from(manifest: &Manifest) -> Self {
        // "If the artifactType is empty or missing in the image manifest, the value of artifactType MUST be set to the
        // config descriptor mediaType value": distribution-spec 1.1, "Listing Referrers".
        let artifact_type = manifest.artifact_type().or(Some(&manifest.config().media_type));
        Self::new(manifest.raw(), manifest.descriptor(), artifact_type, manifest.annotations(), manifest.subject())
    }
}

impl From<&Image> for Attached {
    fn from(image: &Image) -> Self {
        match &image.schema1 {
            Some(schema1) => Self { raw: schema1.raw().clone(), descriptor: schema1.descriptor(), subject: None },
            None => (&image.manifest).into(),
        }
    }
}

impl From<&Index> for Attached {
    fn from(index: &Index) -> Self {
        Self::new(index.raw(), index.descriptor(), index.artifact_type(), index.annotations(), index.subject())
    }
}

impl Image {
    /// Reads the config of something that belongs to an image, and puts the parts together.
    ///
    /// Whatever its types say, it is no image to run: its config and layers are blobs that go along as they are.
    pub fn open_referrer(source: &dyn ImageSource, manifest: Manifest) -> Result<Self> {
        let count = manifest.layers().len();
        if count > REFERRER_BLOBS {
            return Err(Error::invalid(format!("it has {count} blobs; the limit is {REFERRER_BLOBS}")));
        }
        let config_bytes = read_config(source, &manifest)?;
        let blobs = manifest.layers().iter().enumerate();
        let layers =
            blobs.map(|(position, blob)| Layer { position, descriptor: blob.clone(), diff_id: None }).collect();
        let repository = source.repository().cloned();
        Ok(Self {
            manifest,
            config_bytes,
            config: None,
            layers,
            indexes: Vec::new(),
            signatures: Vec::new(),
            repository,
            schema1: None,
        })
    }
}

/// Adds what a list names to what others do, each manifest once; of the descriptors only the necessary is kept.
pub(crate) fn listed(found: &mut BTreeMap<Digest, Descriptor>, entries: &[Descriptor]) -> Result<()> {
    for Descriptor { media_type, digest, size, .. } in entries {
        found.entry(*digest).or_insert_with(|| Descriptor::new(media_type.clone(), *digest, *size));
        if found.len() > REFERRERS {
            return Err(Error::invalid(format!("more than {REFERRERS} manifests refer to it")));
        }
    }
    Ok(())
}

/// Returns the tag that holds the list of what refers to a manifest, where a room keeps no such lists itself.
///
/// distribution-spec 1.1, "Referrers Tag Schema": of long digests, 64 digits.
pub(crate) fn list_tag(subject: &Digest) -> String {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm().name(), hex.get(..64).unwrap_or(&hex))
}

/// Returns the tags under which cosign keeps signatures, attestations and bills of materials of a manifest.
///
/// There are none for longer digests than SHA-256: a tag has 128 characters at most.
pub(crate) fn cosign_tags(subject: &Digest) -> Vec<String> {
    match subject.algorithm() {
        Algorithm::Sha256 => ["sig", "att", "sbom"].map(|what| format!("sha256-{}.{what}", subject.hex())).to_vec(),
        Algorithm::Sha512 => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_made_of_digests() {
        let short = Algorithm::Sha256.digest(b"x");
        assert_eq!(list_tag(&short), format!("sha256-{}", short.hex()));
        assert_eq!(cosign_tags(&short)[1], format!("sha256-{}.att", short.hex()));
        let long = Algorithm::Sha512.digest(b"x");
        assert_eq!(list_tag(&long), format!("sha512-{}", &long.hex()[..64]));
        assert!(cosign_tags(&long).is_empty());
    }

    #[test]
    fn lists_name_each_manifest_once_and_no_more_than_can_be_held() {
        let entry = |n: usize| {
            let media_type = MediaType::new("application/vnd.oci.image.manifest.v1+json");
            Descriptor::new(media_type, Algorithm::Sha256.digest(&n.to_le_bytes()), 1)
        };
        let mut found = BTreeMap::new();
        let entries: Vec<_> = (0..REFERRERS).map(entry).collect();
        for _ in 0..2 {
            listed(&mut found, &entries).expect("the limit itself is fine");
        }
        assert_eq!(found.len(), REFERRERS);
        listed(&mut found, &[entry(REFERRERS)]).expect_err("one more");
    }
}
