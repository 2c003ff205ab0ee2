//! The bytes of a tar, looked at where their source has buffered them: only what lies in two buffers is copied.

use std::io::{self, BufRead, ErrorKind};

use super::header::BLOCK;

/// A stream whose next bytes can be looked at before they are taken.
pub(crate) struct Input<'r> {
    source: &'r mut dyn BufRead,
    /// Bytes that were taken from the source, since they were wanted in one piece and it had them in two.
    joined: [u8; 2 * BLOCK],
    start: usize,
    end: usize,
}

impl<'r> Input<'r> {
    pub(crate) fn new(source: &'r mut dyn BufRead) -> Self {
        Self { source, joined: [0; 2 * BLOCK], start: 0, end: 0 }
    }

    /// Returns the next bytes: `want` (at most two blocks) or more, and fewer only at the end of the stream.
    ///
    /// What is wanted again, before anything was consumed, is given again.
    pub(crate) fn fill(&mut self, want: usize) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if want == 0 {
                return Ok(&[]);
            }
            let length = buffered(self.source)?.len();
            if length == 0 || length >= want {
                return self.source.fill_buf();
            }
        }
        if self.end - self.start < want {
            self.join(want)?;
        }
        Ok(&self.joined[self.start..self.end])
    }

    /// Takes bytes that `fill` has returned.
    pub(crate) fn consume(&mut self, length: usize) {
        if self.start == self.end {
            self.source.consume(length);
        } else {
            self.start += length;
        }
    }

    fn join(&mut self, want: usize) -> io::Result<()> {
        self.joined.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < want {
            let bytes = buffered(self.source)?;
            let length = bytes.len().min(want - self.end);
            if length == 0 {
                break;
            }
            self.joined[self.end..self.end + length].copy_from_slice(&bytes[..length]);
            self.source.consume(length);
            self.end += length;
        }
        Ok(())
    }
}

/// Returns what the source has buffered; nothing at the end of the stream.
fn buffered(source: &mut dyn BufRead) -> io::Result<&[u8]> {
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    source.fill_buf()
}
