//! `oci-archive:`, an OCI image layout in a tar: read by seeking, written in one pass, never unpacked to disk.
//!
//! ```text
//! blobs/sha256/<hex>         configs, layers, manifests, indexes
//! index.json
//! oci-layout
//! ```

mod destination;
pub(crate) mod entries;
pub(crate) mod input;
pub(crate) mod writer;

use std::path::Path;

use crate::error::{Context, Error, Result, printable};
use crate::image::{ImageSource, Layer, LayerBlob, PolicyIdentity, Referrer};
use crate::layout::{self, Files, LayoutSource};
use crate::limits::Limit;
use crate::oci::{Descriptor, Digest};
use crate::reference::LayoutReference;
use crate::signature::UntrustedSignature;
use crate::verify::{UntrustedBlob, VerifiedBytes};

pub use destination::OciArchiveDestination;
use entries::Entries;
pub use input::SCRATCH;

/// An image of an OCI archive, to read from.
#[derive(Debug)]
pub struct OciArchiveSource(LayoutSource);

impl OciArchiveSource {
    /// Opens an archive and finds the image.
    ///
    /// A compressed archive, or one that comes through a pipe, is first written to a temporary file without a name.
    pub fn open(reference: &LayoutReference) -> Result<Self> {
        Self::open_by_way_of(reference, Path::new(SCRATCH))
    }

    /// As [`OciArchiveSource::open`], with the temporary file in the directory `scratch`.
    pub fn open_by_way_of(reference: &LayoutReference, scratch: &Path) -> Result<Self> {
        input::open(&reference.path, scratch)
            .and_then(Entries::read)
            .and_then(|entries| LayoutSource::of_files(reference, "oci-archive", Box::new(entries)))
            .context(|| format!("opening {}", layout::name_of("oci-archive", reference)))
            .map(Self)
    }

    /// Returns the entry of `index.json` that was found.
    pub fn descriptor(&self) -> &Descriptor {
        self.0.descriptor()
    }
}

impl Files for Entries {
    fn read(&self, name: &str, limit: Limit) -> Result<Option<Vec<u8>>> {
        self.read_file(name, limit)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        let path = layout::blob_path(&descriptor.digest);
        match self.open(path.as_bytes())? {
            Some(slice) => Ok(UntrustedBlob::new(slice)),
            None => Err(Error::not_found(format!("blob {} is not there", descriptor.digest))
                .context(format!("opening `{}` in the archive", printable(path.as_bytes())))),
        }
    }
}

impl ImageSource for OciArchiveSource {
    fn name(&self) -> String {
        self.0.name()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.0.policy_scopes()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        self.0.top()
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.0.open_manifest(descriptor)
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.0.open_config(descriptor)
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        self.0.open_layer(layer)
    }

    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
        self.0.signatures(manifest)
    }

    fn keeps_referrers(&self) -> bool {
        self.0.keeps_referrers()
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Referrer>> {
        self.0.referrers(subject)
    }
}
