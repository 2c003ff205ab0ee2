//! A sequence of zstd frames, each of which can be decompressed by itself.

use std::io::Write;

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use crate::error::{Context, Result};
use crate::limits::CHUNK;

/// A frame up to this length is compressed in one piece: then zstd knows how long it is, and needs less for it.
const WHOLE: usize = 1 << 20;
/// What a skippable frame begins with; its length follows.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Writes frames, one after the other.
pub(super) struct Frames<'o> {
    out: &'o mut dyn Write,
    encoder: Encoder<'static>,
    /// What is not compressed yet.
    waiting: Vec<u8>,
    /// The frame has begun before its length was known.
    streaming: bool,
    compressed: Vec<u8>,
    position: u64,
}

impl<'o> Frames<'o> {
    pub(super) fn new(out: &'o mut dyn Write, level: i32) -> Result<Self> {
        let frame = || "starting zstd compression";
        let mut encoder = Encoder::new(level).context(frame)?;
        encoder.set_parameter(CParameter::ChecksumFlag(true)).context(frame)?;
        let (waiting, compressed) = (Vec::new(), Vec::with_capacity(CHUNK));
        Ok(Self { out, encoder, waiting, streaming: false, compressed, position: 0 })
    }

    /// Adds to the frame, and begins one if there is none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() <= WHOLE {
            return Ok(());
        }
        self.streaming = true;
        self.compress()
    }

    /// Ends the frame, if there is one, and returns how many bytes were written so far.
    pub(super) fn end(&mut self) -> Result<u64> {
        if !self.waiting.is_empty() || self.streaming {
            self.end_frame()?;
        }
        Ok(self.position)
    }

    /// Writes a frame of nothing.
    pub(super) fn empty(&mut self) -> Result<()> {
        self.end_frame()
    }

    /// Writes a frame that decompressors pass over, and returns where its contents begin.
    pub(super) fn skippable(&mut self, contents: &[u8]) -> Result<u64> {
        let length = u32::try_from(contents.len()).expect("the limits are below 4 GiB");
        self.put(&[&SKIPPABLE[..], &length.to_le_bytes()].concat())?;
        let from = self.position;
        self.put(contents)?;
        Ok(from)
    }

    fn end_frame(&mut self) -> Result<()> {
        if !self.streaming {
            let length = self.waiting.len() as u64;
            self.encoder.set_pledged_src_size(Some(length)).context(compressing)?;
        }
        self.compress()?;
        loop {
            self.compressed.clear();
            let mut output = OutBuffer::around(&mut self.compressed);
            let left = self.encoder.finish(&mut output, true).context(compressing)?;
            self.put_compressed()?;
            if left == 0 {
                break;
            }
        }
        self.streaming = false;
        self.encoder.reinit().context(compressing)
    }

    /// Compresses what waits.
    fn compress(&mut self) -> Result<()> {
        let mut from = 0;
        while from < self.waiting.len() {
            self.compressed.clear();
            let mut input = InBuffer::around(&self.waiting[from..]);
            let mut output = OutBuffer::around(&mut self.compressed);
            self.encoder.run(&mut input, &mut output).context(compressing)?;
            from += input.pos();
            self.put_compressed()?;
        }
        self.waiting.clear();
        Ok(())
    }

    fn put_compressed(&mut self) -> Result<()> {
        self.out.write_all(&self.compressed).context(writing)?;
        self.position += self.compressed.len() as u64;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context(writing)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn compressing() -> &'static str {
    "compressing by zstd"
}

fn writing() -> &'static str {
    "writing compressed data"
}
