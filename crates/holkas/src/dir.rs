//! `dir:`, an image as a flat directory: nothing is changed, everything is kept.
//!
//! ```text
//! version                    Directory Transport Version: 1.1
//! manifest.json              what the reference names: a manifest or an index
//! <hex>.manifest.json        a manifest or an index that the index lists
//! <hex>                      configs and layers; <algorithm>-<hex> if the digest is not SHA-256
//! signature-<N>              signatures of manifest.json, counted from 1
//! <hex>.signature-<N>        signatures of an instance
//! ```

mod destination;
mod siblings;

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::fs::{Dir, display};
use crate::image::{ImageSource, Layer, LayerBlob, PolicyIdentity};
use crate::layout::{blob, place};
use crate::limits::{DIR_VERSION, MANIFEST, SIGNATURE, SIGNATURES};
use crate::oci::document::guess_media_type;
use crate::oci::{Algorithm, Descriptor, Digest, Manifest};
use crate::signature::UntrustedSignature;
use crate::verify::{UntrustedBlob, VerifiedBytes};

pub use destination::DirDestination;
pub use siblings::{Shelf, Siblings};

const VERSION_PREFIX: &[u8] = b"Directory Transport Version: 1.";
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";

/// A `dir:` to read from.
#[derive(Debug)]
pub struct DirSource {
    path: PathBuf,
    dir: Dir,
    top: VerifiedBytes,
}

impl DirSource {
    /// Opens the directory and reads its manifest.
    pub fn open(path: &Path) -> Result<Self> {
        let frame = || format!("opening dir:{}", display(path));
        let Some(dir) = Dir::open_if_exists(path).context(frame)? else {
            return Err(Error::not_found("no such directory")).context(frame);
        };
        // As in skopeo, a directory without the file is taken for one of the first version.
        if let Some(version) = dir.read("version", DIR_VERSION).context(frame)?
            && !version.starts_with(VERSION_PREFIX)
        {
            return Err(Error::unsupported("the file `version` does not say `Directory Transport Version: 1.x`"))
                .context(frame);
        }
        let Some(manifest) = dir.read("manifest.json", MANIFEST).context(frame)? else {
            return Err(Error::not_found("the directory has no `manifest.json`")).context(frame);
        };
        let media_type = guess_media_type(&manifest);
        let top = UntrustedBlob::from_bytes(manifest).identify(Algorithm::Sha256, media_type, MANIFEST)?;
        Ok(Self { path: path.to_path_buf(), dir, top })
    }
}

impl DirSource {
    /// Makes sure that every blob that the image's manifest names is there with its size; nothing is read or hashed.
    ///
    /// # Errors
    ///
    /// `Mismatch` names the first file that is missing or has another size; `Invalid` for what is no image.
    pub fn check_sizes(&self) -> Result<Manifest> {
        let frame = || format!("looking at {}", self.name());
        let manifest = Manifest::parse(self.top.clone()).context(frame)?;
        for blob in std::iter::once(manifest.config()).chain(manifest.layers()) {
            let name = blob_name(&blob.digest);
            let shown = || display(&self.path.join(&name));
            let Some(file) = self.dir.open_file_itself(&name).context(frame)? else {
                return Err(Error::mismatch(format!("`{}` is missing", shown())));
            };
            let size = file.metadata().context(frame)?.len();
            if size != blob.size {
                return Err(Error::mismatch(format!("`{}` has {size} bytes instead of {}", shown(), blob.size)));
            }
        }
        Ok(manifest)
    }
}

/// Returns the name of a blob's file.
fn blob_name(digest: &Digest) -> String {
    match digest.algorithm() {
        Algorithm::Sha256 => digest.hex(),
        Algorithm::Sha512 => format!("sha512-{}", digest.hex()),
    }
}

impl ImageSource for DirSource {
    fn name(&self) -> String {
        format!("dir:{}", display(&self.path))
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        PolicyIdentity { transport: "dir", scopes: place::scopes(&self.path), docker_reference: None }
    }

    fn top(&self) -> Result<VerifiedBytes> {
        Ok(self.top.clone())
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        if descriptor.digest == *self.top.digest() {
            return Ok(UntrustedBlob::from_bytes(self.top.bytes().to_vec()));
        }
        blob::open(&self.dir, &format!("{}.manifest.json", blob_name(&descriptor.digest)), descriptor)
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        blob::open(&self.dir, &blob_name(&descriptor.digest), descriptor)
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        blob::open(&self.dir, &blob_name(&layer.descriptor.digest), &layer.descriptor).map(LayerBlob::AsDescribed)
    }

    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
        let prefix = if manifest == self.top.digest() { String::new() } else { format!("{}.", blob_name(manifest)) };
        let mut signatures = Vec::new();
        while let Some(bytes) = self.dir.read(format!("{prefix}signature-{}", signatures.len() + 1), SIGNATURE)? {
            if signatures.len() == SIGNATURES {
                return Err(Error::invalid(format!("more than {SIGNATURES} signatures"))
                    .context(format!("reading signatures of {manifest} of {}", self.name())));
            }
            signatures.push(UntrustedSignature(bytes));
        }
        Ok(signatures)
    }
}
