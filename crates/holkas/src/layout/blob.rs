//! One blob as one file: written under a staged name, and named only when it has proven itself.

use std::io::{self, Write};

use crate::error::{Context, Error, Result};
use crate::fs::Dir;
use crate::image::{Image, Layer, LayerReader, Stored};
use crate::limits::CHUNK;
use crate::oci::Descriptor;
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// What files of an image have as their mode, as skopeo makes them.
pub(crate) const MODE: u32 = 0o644;

/// Writes a layer to `out` and proves it. `out` must not be used if this fails.
///
/// The uncompressed form of a layer is taken only where it is the very blob that the descriptor describes.
pub(crate) fn write_layer(layer: &Layer, body: LayerReader, out: &mut impl Write) -> Result<Stored> {
    match body {
        LayerReader::Blob(mut reader) => {
            copy(&mut reader, out)?;
            Ok(Stored::verified(layer, reader.finish()?))
        }
        LayerReader::Diff(mut reader) => {
            let written = copy(&mut reader, out)?;
            let (proof, _) = reader.finish()?;
            if proof.diff_id().0 != layer.descriptor.digest || written != layer.descriptor.size {
                return Err(Error::mismatch(format!(
                    "the uncompressed layer ({}, {written} bytes) is not the blob that the manifest describes ({}, {} bytes)",
                    proof.diff_id(),
                    layer.descriptor.digest,
                    layer.descriptor.size
                )));
            }
            Ok(Stored::unpacked(layer, proof))
        }
    }
}

/// Copies all of `from`, and returns how many bytes that were.
pub(crate) fn copy(from: &mut impl io::Read, to: &mut (impl Write + ?Sized)) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                copied += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a layer as a file directly below `dir`.
pub(crate) fn put_layer(dir: &Dir, name: &str, layer: &Layer, body: LayerReader) -> Result<Stored> {
    let mut file = dir.stage(MODE)?;
    let stored = write_layer(layer, body, &mut file)?;
    file.finish(name)?;
    Ok(stored)
}

/// Writes a verified document as a file directly below `dir`.
pub(crate) fn put_document(dir: &Dir, name: &str, document: &VerifiedBytes) -> Result<()> {
    put_bytes(dir, name, document.bytes())
}

/// Writes bytes as a file directly below `dir`.
pub(crate) fn put_bytes(dir: &Dir, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = dir.stage(MODE)?;
    file.write_all(bytes).context(|| format!("writing `{}`", crate::fs::display(&dir.path_of(name))))?;
    file.finish(name)
}

/// Returns the file `name` below `dir` as a blob, which is an error of kind `NotFound` if it is not there.
pub(crate) fn open(dir: &Dir, name: &str, descriptor: &Descriptor) -> Result<UntrustedBlob> {
    match dir.open_file(name)? {
        Some(file) => Ok(UntrustedBlob::new(file)),
        None => Err(Error::not_found(format!("blob {} is not there", descriptor.digest))
            .context(format!("opening `{}`", crate::fs::display(&dir.path_of(name))))),
    }
}

/// Makes sure that every layer of the image is among those that were stored.
pub(crate) fn require_all(image: &Image, stored: &[Stored]) -> Result<()> {
    match image.layers.iter().find(|layer| !stored.iter().any(|s| s.position == layer.position)) {
        None => Ok(()),
        Some(layer) => {
            Err(Error::invalid(format!("layer {} ({}) was not put", layer.position, layer.descriptor.digest))
                .context(format!("writing image {}", image.manifest.digest())))
        }
    }
}
