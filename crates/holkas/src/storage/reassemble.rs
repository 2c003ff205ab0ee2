//! Gives a layer of a store its tar back, byte by byte: headers from the tar-split, contents from the layer's files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use crate::error::{Context, Error, Result, printable};
use crate::fs::Dir;
use crate::limits::{Limit, PATH, TAR_SPLIT_ENTRY};

/// An entry of the tar-split that holds bytes of the tar.
const SEGMENT: u64 = 2;
/// An entry of the tar-split that stands for a file's contents.
const FILE: u64 = 1;

/// Reads the uncompressed tar of a layer.
///
/// A file is opened beneath the layer's directory, never through a symlink of its own name, and must have the checksum
/// that it had when the layer was unpacked. That is no proof: the reader of the layer holds it against the diff ID.
pub struct Reassembled {
    entries: Entries,
    /// The layer's own directory, then those of the layers below.
    dirs: Vec<Dir>,
    now: Now,
}

enum Now {
    Segment(io::Cursor<Vec<u8>>),
    File(Contents),
    End,
}

struct Contents {
    name: Vec<u8>,
    file: File,
    left: u64,
    crc: Crc,
    expected: [u8; 8],
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: u64,
    name: Option<String>,
    name_raw: Option<String>,
    #[serde(default)]
    size: i64,
    payload: Option<String>,
}

impl Reassembled {
    /// Begins to read. `dirs` are where the layer's files are: its own directory, then those of the layers below.
    pub fn new(tar_split: File, dirs: Vec<Dir>) -> Self {
        Self { entries: Entries::new(tar_split), dirs, now: Now::Segment(io::Cursor::default()) }
    }

    fn next(&mut self) -> Result<Now> {
        let Some(entry) = self.entries.next().context(|| "reading the tar-split")? else { return Ok(Now::End) };
        let payload = entry.payload.map(|text| base64(&text)).transpose().context(|| "reading the tar-split")?;
        match entry.kind {
            SEGMENT => Ok(Now::Segment(io::Cursor::new(payload.unwrap_or_default()))),
            // What has no contents has no checksum either: directories, links, empty files.
            FILE if entry.size == 0 => Ok(Now::Segment(io::Cursor::default())),
            FILE => {
                let name = match (entry.name, entry.name_raw) {
                    (Some(name), None) => name.into_bytes(),
                    (None, Some(raw)) => base64(&raw)?,
                    _ => return Err(Error::invalid("an entry of the tar-split must have one name")),
                };
                let frame = || format!("restoring `{}` of the layer", printable(&name));
                let left =
                    u64::try_from(entry.size).map_err(|_| Error::invalid("its size is negative")).context(frame)?;
                let expected = payload
                    .and_then(|payload| payload.try_into().ok())
                    .ok_or_else(|| Error::invalid("its checksum is not of 8 bytes"))
                    .context(frame)?;
                let file = self.open(&name).context(frame)?;
                let crc = Crc::new(CrcAlgorithm::Crc64GoIso);
                Ok(Now::File(Contents { name, file, left, crc, expected }))
            }
            kind => Err(Error::invalid(format!("the tar-split has an entry of the unknown type {kind}"))),
        }
    }

    fn open(&self, name: &[u8]) -> Result<File> {
        let path = beneath(name)?;
        for dir in &self.dirs {
            if let Some(file) = dir.open_file_itself(&path)? {
                return Ok(file);
            }
        }
        Err(Error::mismatch("the store has lost the file"))
    }
}

/// Returns a name from a tar as a path beneath the layer's directory.
fn beneath(name: &[u8]) -> Result<Vec<u8>> {
    let parts: Vec<&[u8]> = name.split(|c| *c == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::refused("the name has a `..`"));
    }
    if parts.is_empty() || name.len() > PATH || name.contains(&0) {
        return Err(Error::invalid("it is not the name of a file"));
    }
    Ok(parts.join(&b'/'))
}

fn base64(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| Error::invalid(format!("not valid base64: {error}")))
}

impl Contents {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(Error::mismatch(format!("the file in the store is {} bytes too short", self.left)));
        }
        self.crc.update(&buffer[..n]);
        self.left -= n as u64;
        if self.left == 0 && self.crc.finalize().to_be_bytes() != self.expected {
            return Err(Error::mismatch("the file in the store was changed: its checksum is not the recorded one"));
        }
        Ok(n)
    }
}

impl Read for Reassembled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.now {
                Now::Segment(bytes) => match bytes.read(buffer)? {
                    0 => {}
                    n => return Ok(n),
                },
                Now::File(contents) if contents.left > 0 => {
                    let name = contents.name.clone();
                    let n =
                        contents.read(buffer).context(|| format!("restoring `{}` of the layer", printable(&name)))?;
                    return Ok(n);
                }
                Now::File(_) => {}
                Now::End => return Ok(0),
            }
            self.now = self.next()?;
        }
    }
}

/// The entries of a tar-split, each bounded.
struct Entries {
    stream: serde_json::StreamDeserializer<'static, serde_json::de::IoRead<Budget>, Entry>,
    left: Arc<AtomicU64>,
}

impl Entries {
    fn new(tar_split: File) -> Self {
        let left = Arc::new(AtomicU64::new(0));
        let inner = BufReader::new(MultiGzDecoder::new(BufReader::new(tar_split)));
        let stream = serde_json::Deserializer::from_reader(Budget { inner, left: left.clone() }).into_iter();
        Self { stream, left }
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        self.left.store(TAR_SPLIT_ENTRY.bytes, Ordering::Relaxed);
        match self.stream.next() {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(error)) if error.is_io() => Err(io::Error::from(error).into()),
            Some(Err(error)) => Err(Error::invalid(format!("not valid JSON: {error}"))),
            None => Ok(None),
        }
    }
}

/// A reader that fails once an entry is longer than any real one: serde_json alone has no such bound.
struct Budget {
    inner: BufReader<MultiGzDecoder<BufReader<File>>>,
    left: Arc<AtomicU64>,
}

impl Read for Budget {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let left = self.left.load(Ordering::Relaxed);
        let Some(rest) = left.checked_sub(n as u64) else {
            let Limit { what, bytes } = TAR_SPLIT_ENTRY;
            return Err(Error::invalid(format!("{what} is over the limit of {bytes} bytes")).into());
        };
        self.left.store(rest, Ordering::Relaxed);
        Ok(n)
    }
}

impl std::fmt::Debug for Reassembled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reassembled(from {:?})", self.dirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_beneath() {
        assert_eq!(beneath(b"./a//b/").unwrap(), b"a/b");
        assert_eq!(beneath(b"/etc/passwd").unwrap(), b"etc/passwd");
        for bad in [&b"../a"[..], b"a/../../b", b"/..", b"", b"/", b".", b"a\0"] {
            assert!(beneath(bad).is_err(), "{}", printable(bad));
        }
    }
}
