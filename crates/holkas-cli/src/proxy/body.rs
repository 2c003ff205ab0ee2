//! What goes into a pipe: bytes that we have, a blob that is verified on its way, or one that was read ahead.

use std::io::{PipeWriter, Read, Write};
use std::sync::Arc;

use holkas::error::{Context, Error, ErrorKind};
use holkas::image::{ImageSource, Layer, LayerBlob, LayerReader};
use holkas::oci::Descriptor;
use holkas::progress::Cancel;

use super::failure::Failure;
use super::spool::Spool;

/// What goes into a pipe.
#[derive(Debug)]
pub(super) enum Body {
    /// Bytes that we have, and how many the client expects.
    Bytes(Arc<[u8]>, Option<u64>),
    /// A blob, and the size that the client expects it to have.
    Blob(Box<Blob>, Option<u64>),
    /// A blob that another thread reads, or has read, and the size that the client expects it to have.
    Ahead(Arc<Spool>, Option<u64>),
}

/// A blob that was opened.
pub(super) struct Blob {
    reader: LayerReader,
    source: Arc<dyn ImageSource>,
    descriptor: Descriptor,
}

impl Blob {
    /// Opens a layer.
    pub(super) fn open_layer(source: &Arc<dyn ImageSource>, layer: &Layer, cancel: &Cancel) -> Result<Self, Error> {
        let reader = verify(source.open_layer(layer)?, layer, cancel)?;
        Ok(Self { reader, source: Arc::clone(source), descriptor: layer.descriptor.clone() })
    }

    /// Opens the config of something that is no image, of any size.
    pub(super) fn open_config(
        source: &Arc<dyn ImageSource>,
        config: &Descriptor,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let reader = LayerReader::Blob(source.open_config(config)?.verify(config).cancelled_by(cancel));
        Ok(Self { reader, source: Arc::clone(source), descriptor: config.clone() })
    }

    /// Writes all of it, and proves it. Returns the number of bytes.
    pub(super) fn write_to(self, out: &mut impl Write) -> Result<u64, Failure> {
        let Self { reader, source, descriptor } = self;
        let failed = |error: Error| {
            let wrong = matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Invalid);
            let another = wrong && source.try_another_place(&descriptor, &error);
            let error = match error.kind() {
                ErrorKind::Mismatch => error.context(format!("corrupted blob, expecting {}", descriptor.digest)),
                _ => error.context(format!("reading blob {} of {}", descriptor.digest, source.name())),
            };
            let failure = Failure::from(error);
            if another { failure.retryable() } else { failure }
        };
        match reader {
            LayerReader::Blob(mut reader) => {
                let written = copy(&mut reader, out, &failed)?;
                reader.finish().map_err(&failed)?;
                Ok(written)
            }
            LayerReader::Diff(mut reader) => {
                let written = copy(&mut reader, out, &failed)?;
                reader.finish().map_err(&failed)?;
                Ok(written)
            }
        }
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({:?})", self.reader)
    }
}

/// Leads a layer through the door.
pub(super) fn verify(blob: LayerBlob, layer: &Layer, cancel: &Cancel) -> Result<LayerReader, Error> {
    Ok(match blob {
        LayerBlob::AsDescribed(blob) => LayerReader::Blob(blob.verify(&layer.descriptor).cancelled_by(cancel)),
        LayerBlob::Uncompressed(blob, size) => {
            let no_diff_id = || Error::unsupported("an artifact's blob has no uncompressed form");
            let diff_id = layer.diff_id.ok_or_else(no_diff_id).context(|| "opening a layer")?;
            LayerReader::Diff(blob.verify_diff(diff_id, size).cancelled_by(cancel))
        }
    })
}

fn copy(reader: &mut impl Read, out: &mut impl Write, failed: &dyn Fn(Error) -> Failure) -> Result<u64, Failure> {
    // Less than the pipe holds, so that the client reads one part while we hash the next.
    const PART: usize = 128 << 10;
    let mut buffer = vec![0; PART];
    let mut written = 0;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(written),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error.into())),
        };
        out.write_all(&buffer[..read]).map_err(|error| Failure::of_pipe(&error))?;
        written += read as u64;
    }
}

impl Body {
    /// Writes all of it.
    pub(super) fn write_to(self, out: &mut PipeWriter) -> Result<(), Failure> {
        let (written, expected) = match self {
            Self::Bytes(bytes, expected) => {
                out.write_all(&bytes).map_err(|error| Failure::of_pipe(&error))?;
                (bytes.len() as u64, expected)
            }
            Self::Blob(blob, expected) => (blob.write_to(out)?, expected),
            Self::Ahead(spool, expected) => (spool.write_to(out)?, expected),
        };
        match expected {
            Some(expected) if expected != written => {
                Err(Failure::other(format!("expected {expected} bytes in blob, got {written}")))
            }
            _ => Ok(()),
        }
    }
}
