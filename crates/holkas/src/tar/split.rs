//! `<layer>.tar-split.gz`: all bytes of a layer's tar but the contents of its files, so that the exact tar can be rebuilt.
//!
//! The format is that of `vbatts/tar-split`: JSON objects in the order of the tar, in gzip.
//!
//! ```text
//! {"type":2,"payload":"<base64 of raw bytes>","position":0}                   headers, padding, the end
//! {"type":1,"name":"usr/bin/x","size":3,"payload":"<base64>","position":1}    contents, as CRC-64, found by name
//! ```

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use serde::Deserialize;

use super::TarPiece;
use crate::error::{Context, Error, Result};
use crate::limits::{CHUNK, TAR_EXTENSION, TAR_SPLIT_LINE};

/// Raw bytes that are gathered for one object, and output for one write.
const GATHERED: usize = TAR_EXTENSION.bytes as usize;
const BATCH: usize = 64 << 10;

/// Writes a tar-split file from the pieces that [`crate::unpack::unpack`] gives.
///
/// The same pieces give the same bytes.
#[derive(Debug)]
pub struct Writer<W: Write>(Objects<GzEncoder<W>>);

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn new(out: W) -> Self {
        // Level 1 as skopeo; without a time in its header, so that it is the same each time.
        Self(Objects::new(GzBuilder::new().mtime(0).write(out, Compression::new(1))))
    }

    /// Takes the next piece of the tar.
    pub fn piece(&mut self, piece: TarPiece<'_>) -> Result<()> {
        self.0.piece(piece)
    }

    /// Ends the file and returns what it was written to.
    pub fn finish(self) -> Result<W> {
        self.0.finish()?.finish().context(|| "writing tar-split")
    }
}

/// Writes the objects of tar-split, which whoever has them compresses in his own way.
#[derive(Debug)]
pub(crate) struct Objects<W: Write> {
    out: W,
    /// Objects not yet handed on.
    text: Vec<u8>,
    /// Raw bytes not yet in an object.
    raw: Vec<u8>,
    position: u64,
    file: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    name: Vec<u8>,
    size: u64,
    remaining: u64,
    crc: Crc,
}

impl<W: Write> Objects<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, text: Vec::with_capacity(2 * BATCH), raw: Vec::new(), position: 0, file: None }
    }

    /// Takes the next piece of the tar.
    pub(crate) fn piece(&mut self, piece: TarPiece<'_>) -> Result<()> {
        match piece {
            TarPiece::Raw(mut bytes) => {
                // Cut at a length of its own, whatever that of the pieces is: they hang on how the tar was read.
                while !bytes.is_empty() {
                    let (here, later) = bytes.split_at(bytes.len().min(GATHERED - self.raw.len()));
                    self.raw.extend_from_slice(here);
                    bytes = later;
                    if self.raw.len() == GATHERED {
                        self.segment()?;
                    }
                }
                Ok(())
            }
            TarPiece::Entry { name, size } => {
                self.segment()?;
                if size == 0 {
                    return self.entry(name, 0, None);
                }
                let crc = Crc::new(CrcAlgorithm::Crc64GoIso);
                self.file = Some(OpenFile { name: name.to_vec(), size, remaining: size, crc });
                Ok(())
            }
            TarPiece::Content(bytes) => {
                let file = self.file.as_mut().ok_or_else(|| Error::invalid("contents of no entry"))?;
                file.remaining = file
                    .remaining
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| Error::invalid("more contents than the entry has"))?;
                file.crc.update(bytes);
                if file.remaining > 0 {
                    return Ok(());
                }
                match self.file.take() {
                    Some(file) => self.entry(&file.name, file.size, Some(file.crc.finalize())),
                    None => Ok(()),
                }
            }
        }
    }

    /// Ends the objects and returns what they were written to.
    pub(crate) fn finish(mut self) -> Result<W> {
        if self.file.is_some() {
            return Err(Error::invalid("the tar ended within an entry").context("writing tar-split"));
        }
        self.segment()?;
        self.out.write_all(&self.text).context(|| "writing tar-split")?;
        Ok(self.out)
    }

    fn segment(&mut self) -> Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        self.text.extend_from_slice(b"{\"type\":2,\"payload\":\"");
        base64_to(&mut self.text, &self.raw);
        self.text.push(b'"');
        self.raw.clear();
        self.end()
    }

    fn entry(&mut self, name: &[u8], size: u64, crc: Option<u64>) -> Result<()> {
        self.text.extend_from_slice(b"{\"type\":1");
        match std::str::from_utf8(name) {
            Ok("") => {}
            Ok(name) => {
                self.text.extend_from_slice(b",\"name\":");
                json_string(&mut self.text, name);
            }
            Err(_) => {
                self.text.extend_from_slice(b",\"name_raw\":\"");
                base64_to(&mut self.text, name);
                self.text.push(b'"');
            }
        }
        if size > 0 {
            self.text.extend_from_slice(b",\"size\":");
            number(&mut self.text, size);
        }
        match crc {
            Some(crc) => {
                self.text.extend_from_slice(b",\"payload\":\"");
                base64_to(&mut self.text, &crc.to_be_bytes());
                self.text.push(b'"');
            }
            None => self.text.extend_from_slice(b",\"payload\":null"),
        }
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.text.extend_from_slice(b",\"position\":");
        number(&mut self.text, self.position);
        self.text.extend_from_slice(b"}\n");
        self.position += 1;
        if self.text.len() >= BATCH {
            self.out.write_all(&self.text).context(|| "writing tar-split")?;
            self.text.clear();
        }
        Ok(())
    }
}

pub(crate) fn base64_to(text: &mut Vec<u8>, bytes: &[u8]) {
    let from = text.len();
    text.resize(from + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut text[from..]).expect("four characters for each three bytes");
}

pub(crate) fn number(text: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[from..]);
}

/// Writes a string as Go's `encoding/json` does, which also escapes what HTML gives a meaning.
pub(crate) fn json_string(text: &mut Vec<u8>, string: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    text.push(b'"');
    let mut plain = 0;
    let bytes = string.as_bytes();
    for (n, &byte) in bytes.iter().enumerate() {
        let line_separator = byte == 0xe2 && bytes[n + 1] == 0x80 && bytes[n + 2] & 0xfe == 0xa8;
        if !(byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') || line_separator) {
            continue;
        }
        text.extend_from_slice(&bytes[plain..n]);
        plain = n + 1;
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            0xe2 => {
                text.extend_from_slice(b"\\u202");
                text.push(HEX[usize::from(bytes[n + 2] & 0xf)]);
                plain = n + 3;
            }
            _ => {
                text.extend_from_slice(b"\\u00");
                text.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
            }
        }
    }
    text.extend_from_slice(&bytes[plain..]);
    text.push(b'"');
}

/// One object of a tar-split file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Raw bytes of the tar.
    Segment(Vec<u8>),
    /// The contents of an entry.
    File {
        /// The entry's name as in the tar, not cleaned, so it may have a `/` at either end.
        name: Vec<u8>,
        /// The length of the contents; zero for all that is not a regular file.
        size: u64,
        /// What [`Checksum`] gives for the contents; `None` where there are none.
        checksum: Option<u64>,
    },
}

/// Counts the checksum that tar-split has of contents.
#[derive(Debug)]
pub struct Checksum(Crc);

impl Default for Checksum {
    fn default() -> Self {
        Self(Crc::new(CrcAlgorithm::Crc64GoIso))
    }
}

impl Checksum {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of all bytes.
    pub fn finish(self) -> u64 {
        self.0.finalize()
    }
}

/// Reads a tar-split file, one object at a time.
#[derive(Debug)]
pub struct Reader<R: Read> {
    lines: BufReader<MultiGzDecoder<BufReader<R>>>,
    line: Vec<u8>,
    /// How much of `line` was given.
    given: usize,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(rename = "type")]
    kind: u32,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    size: u64,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
}

impl<R: Read> Reader<R> {
    /// Begins to read the gzip file.
    pub fn new(file: R) -> Self {
        let plain = MultiGzDecoder::new(BufReader::with_capacity(BATCH, file));
        Self { lines: BufReader::with_capacity(CHUNK, plain), line: Vec::new(), given: 0 }
    }

    /// Returns the next object; `None` at the end.
    pub fn read(&mut self) -> Result<Option<Entry>> {
        self.read_entry().context(|| "reading tar-split")
    }

    fn read_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            // Usually one line is one object, but newlines are not needed.
            let mut objects = serde_json::Deserializer::from_slice(&self.line[self.given..]).into_iter::<Object<'_>>();
            if let Some(object) = objects.next() {
                let object = object.map_err(|error| Error::invalid(format!("not the JSON of tar-split: {error}")))?;
                let entry = entry_of(&object)?;
                self.given += objects.byte_offset();
                return Ok(Some(entry));
            }
            self.line.clear();
            self.given = 0;
            let length = (&mut self.lines).take(TAR_SPLIT_LINE.bytes + 1).read_until(b'\n', &mut self.line)?;
            TAR_SPLIT_LINE.check(length as u64)?;
            if length == 0 {
                return Ok(None);
            }
        }
    }
}

fn entry_of(object: &Object<'_>) -> Result<Entry> {
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| Error::invalid("a payload of tar-split is not base64"));
    let payload = object.payload.as_deref().unwrap_or_default();
    match object.kind {
        1 => {
            let name = match (&object.name, &object.name_raw) {
                (_, Some(raw)) if !raw.is_empty() => decode(raw)?,
                (Some(name), _) => name.as_bytes().to_vec(),
                (None, _) => Vec::new(),
            };
            let checksum = if object.size == 0 {
                None
            } else {
                let bytes = decode(payload)?.try_into();
                Some(u64::from_be_bytes(bytes.map_err(|_| Error::invalid("a checksum of tar-split is not 8 bytes"))?))
            };
            Ok(Entry::File { name, size: object.size, checksum })
        }
        2 => decode(payload).map(Entry::Segment),
        other => Err(Error::invalid(format!("an object of type {other} in tar-split"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_go() {
        let check = |bytes: &[u8], expected: u64| {
            let mut checksum = Checksum::default();
            checksum.update(bytes);
            assert_eq!(checksum.finish(), expected);
        };
        check(b"123456789", 0xb909_56c7_75a4_1001);
        check(b"c", 0x3740_0000_0000_0000);
        check(b"new\n", 0x615a_b2dd_b000_0000);
    }

    #[test]
    fn strings_are_those_of_go() {
        let check = |string: &str, expected: &str| {
            let mut text = Vec::new();
            json_string(&mut text, string);
            assert_eq!(String::from_utf8(text).expect("JSON is UTF-8"), expected);
        };
        check("usr/bin/x", "\"usr/bin/x\"");
        check("a\"b\\c", r#""a\"b\\c""#);
        check("<&>\n\r\t\u{1}\u{7f}", "\"\\u003c\\u0026\\u003e\\n\\r\\t\\u0001\u{7f}\"");
        check("é\u{2028}\u{2029}\u{202a}€", "\"é\\u2028\\u2029\u{202a}€\"");
    }
}
