//! One layer from its blob to a staged tree: hash, decompress, hash, tar-split and unpack in a single pass.
//!
//! One thread reads, hashes and decompresses the blob; one hashes the plain bytes and writes the tar-split; the
//! caller's makes the tree. Bounded buffers lie between them. Disks are kept busy meanwhile.

use std::io::BufRead;
use std::thread;

use crate::compress::{Compression, Decoder};
use crate::error::{Error, ErrorKind, Result};
use crate::fan_out::{Reader, Source, fan_out};
use crate::fs::Dir;
use crate::fs::write_back::WriteBack;
use crate::image::LayerReader;
use crate::oci::{DiffId, Digest};
use crate::storage::tar_split;
use crate::unpack::{UnpackOptions, Unpacked, pieces, unpack};
use crate::verify::{DiffReader, VerifiedDiff};

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
    write_back: &WriteBack,
) -> Result<UnpackedLayer> {
    let make_tree = |mut plain: Reader| unpack(&mut plain, tree, options, None);
    match body {
        LayerReader::Diff(mut reader) => {
            let read = move |source: Source| {
                source.give_all(&mut write_back.count(&mut reader))?;
                reader.finish()
            };
            let record = |mut plain: Reader| write_split(&mut plain, split);
            let ((proof, _), (), unpacked) = side_by_side(read, record, make_tree)?;
            let blob = (proof.diff_id().0, proof.size());
            Ok(UnpackedLayer { proof, blob, compression: Compression::None, unpacked })
        }
        LayerReader::Blob(reader) => {
            let read = move |source: Source| {
                let (compression, mut decoder) = Decoder::new(reader)?;
                source.give_all(&mut write_back.count(&mut decoder))?;
                Ok((decoder.finish()?.finish()?, compression))
            };
            let record = |plain: Reader| {
                let mut plain = DiffReader::new(plain, diff_id);
                write_split(&mut plain, split)?;
                Ok(plain.finish()?.0)
            };
            let ((verified, compression), proof, unpacked) = side_by_side(read, record, make_tree)?;
            let descriptor = verified.descriptor();
            Ok(UnpackedLayer { proof, blob: (descriptor.digest, descriptor.size), compression, unpacked })
        }
    }
}

/// Runs the three at once. Of several errors it returns the one that made the others stop.
fn side_by_side<A: Send, B: Send, C>(
    read: impl FnOnce(Source) -> Result<A> + Send,
    record: impl FnOnce(Reader) -> Result<B> + Send,
    make_tree: impl FnOnce(Reader) -> Result<C>,
) -> Result<(A, B, C)> {
    let (source, [for_record, for_tree]) = fan_out();
    thread::scope(|scope| {
        let read = scope.spawn(move || read(source));
        let record = scope.spawn(move || record(for_record));
        let made = make_tree(for_tree);
        match (ended(read), ended(record), made) {
            (Ok(read), Ok(recorded), Ok(made)) => Ok((read, recorded, made)),
            (read, recorded, made) => {
                // What went wrong in one comes to the other two as an error of reading, or as `Cancelled`.
                let errors = [made.err(), recorded.err(), read.err()].into_iter().flatten();
                let first = errors.min_by_key(|error| error.kind() == ErrorKind::Cancelled);
                Err(first.expect("not all three were right"))
            }
        }
    })
}

fn ended<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::invalid("a thread panicked; this is a defect of holkas")))
}

fn write_split(plain: &mut impl BufRead, (dir, name): (&Dir, &str)) -> Result<()> {
    let mut writer = tar_split::Writer::new(dir.stage(0o600)?);
    pieces(plain, &mut |piece| writer.piece(piece))?;
    writer.finish()?.finish_unsynced(name)
}
