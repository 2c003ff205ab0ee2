//! `oci:`, the OCI image layout: any number of images in a directory, their blobs named by digest.
//!
//! ```text
//! oci-layout                 {"imageLayoutVersion":"1.0.0"}
//! index.json                 descriptors of manifests and indexes, some named by an annotation
//! blobs/<algorithm>/<hex>    everything else; or SHARED/<algorithm>/<hex>
//! ```

pub(crate) mod blob;
mod delete;
pub(crate) mod destination;
pub(crate) mod index;
pub(crate) mod partials;
pub(crate) mod place;
mod referrers;

use std::fmt;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::fs::{Dir, display};
use crate::image::{ImageSource, Layer, LayerBlob, PolicyIdentity, Referrer};
use crate::limits::{LAYOUT_INDEX, Limit, MANIFEST, OCI_LAYOUT};
use crate::oci::{Descriptor, Digest};
use crate::reference::{LayoutReference, LayoutSelect};
use crate::signature::UntrustedSignature;
use crate::verify::{UntrustedBlob, VerifiedBytes};

use index::LayoutIndex;
use referrers::Subjects;

pub use delete::delete;
pub use destination::LayoutDestination;

/// An image of an OCI layout, to read from.
#[derive(Debug)]
pub struct LayoutSource {
    reference: LayoutReference,
    transport: &'static str,
    files: Box<dyn Files>,
    index: LayoutIndex,
    top: Descriptor,
    /// What the manifests of `index.json` are about, once that was read.
    subjects: Subjects,
}

/// Where the files of a layout are.
pub(crate) trait Files: Send + Sync + fmt::Debug {
    /// Reads `index.json` or `oci-layout`; `None` if it is not there.
    fn read(&self, name: &str, limit: Limit) -> Result<Option<Vec<u8>>>;

    /// Opens a blob.
    fn open(&self, descriptor: &Descriptor) -> Result<UntrustedBlob>;
}

impl LayoutSource {
    /// Opens a layout and finds the image. Blobs are in `shared_blob_dir` if that is given.
    pub fn open(reference: &LayoutReference, shared_blob_dir: Option<&Path>) -> Result<Self> {
        let frame = || format!("opening {}", name_of("oci", reference));
        let Some(dir) = Dir::open_if_exists(&reference.path).context(frame)? else {
            return Err(Error::not_found("no such directory")).context(frame);
        };
        let shared = shared_blob_dir.map(Dir::open).transpose().context(frame)?;
        Self::of_files(reference, "oci", Box::new(Directory { dir, shared })).context(frame)
    }

    /// Finds the image in the files of a layout.
    pub(crate) fn of_files(
        reference: &LayoutReference,
        transport: &'static str,
        files: Box<dyn Files>,
    ) -> Result<Self> {
        check_version(files.read("oci-layout", OCI_LAYOUT)?)?;
        let Some(index) = files.read("index.json", LAYOUT_INDEX)? else {
            return Err(Error::not_found("the layout has no `index.json`"));
        };
        let index = LayoutIndex::parse(&index)?;
        let top = index.select(&reference.select)?;
        Ok(Self { reference: reference.clone(), transport, files, index, top, subjects: Subjects::default() })
    }

    /// Returns the entry of `index.json` that was found.
    pub fn descriptor(&self) -> &Descriptor {
        &self.top
    }
}

/// Checks `oci-layout`. Like skopeo, we read a layout that has none.
fn check_version(file: Option<Vec<u8>>) -> Result<()> {
    let Some(bytes) = file.filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
    let frame = || "reading `oci-layout`";
    let version = crate::oci::json::parse_object(&bytes).context(frame)?;
    match version.get("imageLayoutVersion").and_then(|v| v.as_str()) {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => {
            let version = crate::error::printable(version.as_bytes());
            Err(Error::unsupported(format!("the layout is of version {version}, not 1.x"))).context(frame)
        }
        None => Err(Error::invalid("it has no `imageLayoutVersion`")).context(frame),
    }
}

/// Returns a reference as the user would write it.
pub(crate) fn name_of(transport: &str, reference: &LayoutReference) -> String {
    let path = display(&reference.path);
    match &reference.select {
        LayoutSelect::Only => format!("{transport}:{path}"),
        LayoutSelect::Named(name) => format!("{transport}:{path}:{}", crate::error::printable(name.as_bytes())),
        LayoutSelect::Position(n) => format!("{transport}:{path}:@{n}"),
    }
}

impl ImageSource for LayoutSource {
    fn name(&self) -> String {
        name_of(self.transport, &self.reference)
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        // Without the name: the same image may be there under none, or another.
        let scopes = place::scopes(&self.reference.path);
        PolicyIdentity { transport: self.transport, scopes, docker_reference: None }
    }

    fn top(&self) -> Result<VerifiedBytes> {
        self.files
            .open(&self.top)
            .and_then(|blob| blob.read_verified(&self.top, MANIFEST))
            .context(|| format!("reading manifest {} of {}", self.top.digest, self.name()))
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.files.open(descriptor)
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.files.open(descriptor)
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        self.files.open(&layer.descriptor).map(LayerBlob::AsDescribed)
    }

    fn signatures(&self, _: &Digest) -> Result<Vec<UntrustedSignature>> {
        Ok(Vec::new())
    }

    fn keeps_referrers(&self) -> bool {
        true
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Referrer>> {
        self.subjects.find(&*self.files, &self.index, subject)
    }
}

/// A layout as a directory.
#[derive(Debug)]
struct Directory {
    dir: Dir,
    shared: Option<Dir>,
}

/// Returns where a blob is below the layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}", shared_blob_path(digest))
}

/// Returns where a blob is below a shared blob directory.
fn shared_blob_path(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm().name(), digest.hex())
}

impl Files for Directory {
    fn read(&self, name: &str, limit: Limit) -> Result<Option<Vec<u8>>> {
        self.dir.read(name, limit)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        match &self.shared {
            Some(shared) => blob::open(shared, &shared_blob_path(&descriptor.digest), descriptor),
            None => blob::open(&self.dir, &blob_path(&descriptor.digest), descriptor),
        }
    }
}
