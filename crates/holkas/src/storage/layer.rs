//! One layer from its blob to a staged tree: hash, decompress, hash, tar-split and unpack in a single pass.
//!
//! One thread reads, hashes and decompresses the blob; the caller's hashes the plain bytes and unpacks them.
//! A bounded channel of buffers, which are used again and again, lies between them.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::compress::{Compression, Decoder};
use crate::error::{Error, Result};
use crate::fs::Dir;
use crate::image::LayerReader;
use crate::limits::CHUNK;
use crate::oci::{DiffId, Digest};
use crate::storage::tar_split;
use crate::unpack::{UnpackOptions, Unpacked, unpack};
use crate::verify::{BlobReader, DiffReader, Verified, VerifiedDiff};

/// Buffers on their way between the two threads.
const BUFFERS: usize = 4;

/// What is known of a layer once it is unpacked.
#[derive(Debug)]
pub(super) struct UnpackedLayer {
    /// The proof that the uncompressed bytes are the right ones.
    pub(super) proof: VerifiedDiff,
    /// The digest and size in bytes of the blob as it came.
    pub(super) blob: (Digest, u64),
    /// How the blob was compressed.
    pub(super) compression: Compression,
    /// Owners and counts.
    pub(super) unpacked: Unpacked,
}

/// Unpacks a layer into `tree`, writing its tar-split as the file `split_name` in `split_dir`.
pub(super) fn unpack_layer(
    body: LayerReader,
    diff_id: DiffId,
    tree: &Dir,
    split: (&Dir, &str),
    options: &UnpackOptions,
) -> Result<UnpackedLayer> {
    match body {
        LayerReader::Diff(mut reader) => {
            let unpacked = unpack_plain(&mut reader, tree, split, options)?;
            let (proof, _) = reader.finish()?;
            let blob = (proof.diff_id().0, proof.size());
            Ok(UnpackedLayer { proof, blob, compression: Compression::None, unpacked })
        }
        LayerReader::Blob(reader) => {
            let (full, filled) = sync_channel(BUFFERS);
            let (used, empty) = channel();
            std::thread::scope(|scope| {
                let decompressor = scope.spawn(move || decompress(reader, &full, &empty));
                let mut plain = DiffReader::new(Chunks { filled, used, chunk: Vec::new(), at: 0 }, diff_id);
                // The plain side sees whatever went wrong on the other side as an error of its own reading.
                let unpacked = unpack_plain(&mut plain, tree, split, options);
                let result = unpacked.and_then(|unpacked| Ok((unpacked, plain.finish()?.0)));
                let decompressed = decompressor.join().map_err(|_| Error::invalid("the decompressor panicked"))?;
                let (unpacked, proof) = result?;
                let (verified, compression) = decompressed?;
                let descriptor = verified.descriptor();
                Ok(UnpackedLayer { proof, blob: (descriptor.digest, descriptor.size), compression, unpacked })
            })
        }
    }
}

fn unpack_plain(
    plain: &mut dyn Read,
    tree: &Dir,
    (dir, name): (&Dir, &str),
    options: &UnpackOptions,
) -> Result<Unpacked> {
    let mut writer = tar_split::Writer::new(dir.stage(0o600)?);
    let unpacked = unpack(plain, tree, options, Some(&mut |piece| writer.piece(piece)))?;
    writer.finish()?.finish_unsynced(name)?;
    Ok(unpacked)
}

/// Runs in its own thread: reads the blob to its end and sends its plain bytes.
fn decompress(
    reader: BlobReader,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(Verified, Compression)> {
    let result = (|| {
        let (compression, mut decoder) = Decoder::new(reader)?;
        loop {
            let mut chunk = empty.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let n = fill(&mut decoder, &mut chunk)?;
            if n == 0 {
                break;
            }
            chunk.truncate(n);
            if full.send(Ok(chunk)).is_err() {
                return Err(Error::cancelled());
            }
        }
        Ok((decoder.finish()?.finish()?, compression))
    })();
    if let Err(error) = &result {
        // The receiver may be gone already; it then has an error of its own.
        let _gone = full.send(Err(error.duplicate().into()));
    }
    result
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The receiving end of the channel, as a stream.
struct Chunks {
    filled: Receiver<io::Result<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.filled.recv() {
                Ok(chunk) => {
                    // The other side may have finished; then nobody needs the buffer.
                    let _unneeded = self.used.send(std::mem::replace(&mut self.chunk, chunk?));
                    self.at = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
