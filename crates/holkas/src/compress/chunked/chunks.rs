//! The contents of a file, cut into chunks, each a frame of its own.
//!
//! A chunk ends where the rolling checksum of what was last says so, and 1024 zeros or more are a chunk of their own,
//! a hole. Where containers/storage cuts, this does too: a file that is there already is found by its chunks' digests.

use super::frames::Frames;
use super::rollsum::RollSum;
use crate::error::Result;
use crate::oci::{Algorithm, Digest, Hasher};

/// So many zeros in a row are a hole.
const HOLE: u64 = 1 << 10;
const ZEROS: [u8; 4096] = [0; 4096];

/// A part of a file's contents.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Where its frame begins in the blob.
    pub(super) offset: u64,
    /// Where it begins in the file.
    pub(super) from: u64,
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// It is all zeros.
    pub(super) hole: bool,
}

/// What became of a file's contents.
#[derive(Debug)]
pub(super) struct File {
    pub(super) digest: Digest,
    /// Where its first frame begins in the blob.
    pub(super) offset: u64,
    /// Where its last frame ends.
    pub(super) end: u64,
    pub(super) chunks: Vec<Chunk>,
}

/// Contents that are coming.
pub(super) struct Contents {
    pub(super) chunks: Vec<Chunk>,
    whole: Hasher,
    /// The chunk's own; the first one has the same bytes as the whole.
    chunk: Option<Hasher>,
    offset: u64,
    /// Where the chunk's frame begins in the blob, and its contents in the file.
    chunk_offset: u64,
    chunk_from: u64,
    written: u64,
    /// Zeros that have come last, and are not written yet.
    zeros: u64,
    sum: RollSum,
}

impl Contents {
    /// Begins a file whose first frame will be at `offset`.
    pub(super) fn new(offset: u64) -> Self {
        Self {
            chunks: Vec::new(),
            whole: Algorithm::Sha256.hasher(),
            chunk: None,
            offset,
            chunk_offset: offset,
            chunk_from: 0,
            written: 0,
            zeros: 0,
            sum: RollSum::new(),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], frames: &mut Frames<'_>) -> Result<()> {
        // Bytes from here on were looked at, and not written.
        let mut from = 0;
        let mut at = 0;
        // Zeros before here are too few for a hole.
        let mut no_hole_until = 0;
        while at < bytes.len() {
            if at >= no_hole_until && (bytes[at] == 0 || self.zeros > 0) {
                let run = bytes[at..].iter().take_while(|&&byte| byte == 0).count();
                let ends_here = at + run < bytes.len();
                if self.zeros > 0 || !ends_here || run as u64 >= HOLE {
                    self.put(&bytes[from..at], frames)?;
                    self.zeros += run as u64;
                    (at, from) = (at + run, at + run);
                    if ends_here {
                        self.end_zeros(frames)?;
                    }
                    continue;
                }
                no_hole_until = at + run;
            }
            let ends = self.sum.roll(bytes[at]);
            at += 1;
            if ends {
                self.put(&bytes[from..at], frames)?;
                self.cut(false, frames)?;
                from = at;
            }
        }
        self.put(&bytes[from..], frames)
    }

    pub(super) fn finish(mut self, frames: &mut Frames<'_>) -> Result<File> {
        self.end_zeros(frames)?;
        self.cut(false, frames)?;
        let Self { chunks, whole, offset, chunk_offset, .. } = self;
        Ok(File { digest: whole.finish(), offset, end: chunk_offset, chunks })
    }

    fn end_zeros(&mut self, frames: &mut Frames<'_>) -> Result<()> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros < HOLE {
            for _ in 0..zeros {
                let ends = self.sum.roll(0);
                self.put(&ZEROS[..1], frames)?;
                if ends {
                    self.cut(false, frames)?;
                }
            }
            return Ok(());
        }
        self.cut(false, frames)?;
        self.sum.roll_zeros();
        let mut left = zeros;
        while left > 0 {
            let length = left.min(ZEROS.len() as u64);
            self.put(&ZEROS[..length as usize], frames)?;
            left -= length;
        }
        self.cut(true, frames)
    }

    fn put(&mut self, bytes: &[u8], frames: &mut Frames<'_>) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.whole.update(bytes);
        if let Some(chunk) = &mut self.chunk {
            chunk.update(bytes);
        }
        self.written += bytes.len() as u64;
        frames.write(bytes)
    }

    /// Ends a chunk, if there is anything in it.
    fn cut(&mut self, hole: bool, frames: &mut Frames<'_>) -> Result<()> {
        let size = self.written - self.chunk_from;
        if size == 0 {
            return Ok(());
        }
        let end = frames.end()?;
        let own = self.chunk.replace(Algorithm::Sha256.hasher());
        let digest = own.unwrap_or_else(|| self.whole.clone()).finish();
        self.chunks.push(Chunk { offset: self.chunk_offset, from: self.chunk_from, size, digest, hole });
        (self.chunk_offset, self.chunk_from) = (end, self.written);
        Ok(())
    }
}
