//! zstd:chunked: zstd to everybody, and to who knows more a layer whose files can be fetched one by one.
//!
//! ```text
//! frame      headers of the tar, up to the contents of a file
//! frame      contents of the file; several, where they are cut into chunks
//! frame      padding, headers, up to the next contents …
//! skippable  the table of contents: JSON in zstd
//! skippable  the tar-split: all bytes of the tar but contents, in zstd
//! skippable  the footer: where these two are
//! ```
//!
//! The bytes before the skippable frames are the tar, whole and in order. Where contents are cut hangs on them alone
//! (`chunks`), so that the same file has the same chunks in every layer.

mod chunks;
mod footer;
mod frames;
mod rollsum;
mod toc;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

use crate::error::{Context, Error, Result};
use crate::oci::Descriptor;
use crate::tar::{Header, Reader, TarPiece, after};
use chunks::Contents;
use frames::Frames;
use toc::Table;

/// Whether a layer got its table of contents.
#[derive(Debug)]
pub enum Chunked {
    /// It did: these annotations of its descriptor say where it is, and what its digest must be.
    With(BTreeMap<String, String>),
    /// It did not, for this reason: the layer is zstd, and nothing else.
    Without(Error),
}

/// Returns whether the descriptor names a table of contents.
pub fn is_chunked(layer: &Descriptor) -> bool {
    let annotations = layer.annotations.as_ref();
    annotations.is_some_and(|all| [footer::TOC_DIGEST, footer::TOC_PLACE].iter().all(|key| all.contains_key(*key)))
}

/// Writes the layer tar `plain` as zstd:chunked, in one pass. The bytes depend on it and the level alone.
///
/// Whatever `plain` is, what was written decompresses to it. It gets no table of contents if one could not tell the
/// truth about it (names that are not UTF-8, two entries of one name, a global header, what is no tar at all), or
/// would be larger than readers take.
///
/// # Errors
///
/// `Invalid` for a level that zstd does not have, and what `plain` and `out` return.
pub fn write(plain: &mut dyn BufRead, level: Option<i32>, out: &mut dyn Write) -> Result<Chunked> {
    let level = super::level("zstd", level.unwrap_or(super::ZSTD_LEVEL), super::ZSTD_LEVELS)?;
    let layer = RefCell::new(Layer {
        frames: Frames::new(out, level)?,
        table: Table::new(level),
        contents: None,
        broken: false,
    });
    let failed = Cell::new(false);
    let mut plain = Watched { inner: plain, failed: &failed };
    let mut take = |piece: TarPiece<'_>| layer.borrow_mut().piece(piece);
    let mut reader = Reader::new(&mut plain, Some(&mut take));
    if let Err(error) = entries(&mut reader, &layer) {
        if failed.get() || layer.borrow().broken {
            return Err(error);
        }
        // It is no tar that can be told of, but a layer all the same.
        layer.borrow_mut().table = Err(error);
        reader.rest()?;
    }
    layer.into_inner().finish()
}

fn entries(reader: &mut Reader<'_, '_>, layer: &RefCell<Layer<'_>>) -> Result<()> {
    let mut header = Header::new();
    let mut entries = 0;
    while reader.next(&mut header).context(|| after(&header, entries))? {
        entries += 1;
        layer.borrow_mut().entry(&header)?;
        reader.content(|_| Ok(()))?;
    }
    Ok(())
}

struct Layer<'o> {
    frames: Frames<'o>,
    /// What is told of the layer so far, or why it is not.
    table: Result<Table>,
    /// The file whose contents are coming.
    contents: Option<Contents>,
    /// Nothing can be written any more.
    broken: bool,
}

impl Layer<'_> {
    fn piece(&mut self, piece: TarPiece<'_>) -> Result<()> {
        self.tell(|table| table.piece(piece));
        let written = match piece {
            TarPiece::Raw(bytes) => self.end_contents().and_then(|()| self.frames.write(bytes)),
            TarPiece::Entry { .. } => Ok(()),
            TarPiece::Content(bytes) => self.content(bytes),
        };
        self.broken |= written.is_err();
        written
    }

    /// Takes an entry whose header has gone by.
    fn entry(&mut self, header: &Header) -> Result<()> {
        self.tell(|table| table.entry(header));
        if header.size > 0 && self.table.is_ok() {
            let offset = self.frames.end();
            self.broken |= offset.is_err();
            self.contents = Some(Contents::new(offset?));
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<()> {
        if self.table.is_err() {
            self.end_contents()?;
            return self.frames.write(bytes);
        }
        let Some(contents) = &mut self.contents else { return self.frames.write(bytes) };
        contents.write(bytes, &mut self.frames)?;
        let chunks = contents.chunks.len();
        self.tell(|table| table.has_room_for(chunks));
        Ok(())
    }

    fn end_contents(&mut self) -> Result<()> {
        let Some(contents) = self.contents.take() else { return Ok(()) };
        let file = contents.finish(&mut self.frames)?;
        self.tell(|table| table.file(&file));
        Ok(())
    }

    /// The table is in memory alone: whatever is wrong with it leaves the layer without one.
    fn tell(&mut self, tell: impl FnOnce(&mut Table) -> Result<()>) {
        if let Ok(table) = &mut self.table
            && let Err(error) = tell(table)
        {
            self.table = Err(error);
        }
    }

    fn finish(mut self) -> Result<Chunked> {
        self.end_contents()?;
        let position = self.frames.end()?;
        if position == 0 {
            self.frames.empty()?;
        }
        match self.table.and_then(Table::finish) {
            Ok(parts) => footer::write(&mut self.frames, &parts).map(Chunked::With),
            Err(error) => Ok(Chunked::Without(error)),
        }
    }
}

/// Tells whether it was the source that failed.
struct Watched<'p> {
    inner: &'p mut dyn BufRead,
    failed: &'p Cell<bool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let result = self.inner.fill_buf();
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.failed.set(true);
        }
        result
    }

    fn consume(&mut self, length: usize) {
        self.inner.consume(length);
    }
}
