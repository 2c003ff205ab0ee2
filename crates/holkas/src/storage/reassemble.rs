//! Gives a layer of a store its tar back, byte by byte: headers from the tar-split, contents from the layer's files.

use std::fs::File;
use std::io::{self, Read};

use super::tar_split::{Checksum, Entry, Reader};
use crate::error::{Context, Error, Result, printable};
use crate::fs::Dir;
use crate::limits::PATH;

/// Reads the uncompressed tar of a layer.
///
/// A file is found as the unpacker found its place: with the layer's directory as the root, never through a symlink of
/// its own name. It must have the checksum that it had when the layer was unpacked. That is no proof: the reader of the
/// layer holds it against the diff ID.
pub struct Reassembled {
    entries: Reader<File>,
    /// The layer's own directory, then those of the layers below.
    dirs: Vec<Dir>,
    now: Now,
}

enum Now {
    Segment(io::Cursor<Vec<u8>>),
    File(Box<Contents>),
    End,
}

struct Contents {
    name: Vec<u8>,
    file: File,
    left: u64,
    checksum: Checksum,
    expected: u64,
}

impl Reassembled {
    /// Begins to read. `dirs` are where the layer's files are: its own directory, then those of the layers below.
    pub fn new(tar_split: File, dirs: Vec<Dir>) -> Self {
        Self { entries: Reader::new(tar_split), dirs, now: Now::Segment(io::Cursor::default()) }
    }

    fn next(&mut self) -> Result<Now> {
        match self.entries.read()? {
            None => Ok(Now::End),
            Some(Entry::Segment(bytes)) => Ok(Now::Segment(io::Cursor::new(bytes))),
            Some(Entry::File { name, size, checksum: Some(expected) }) if size > 0 => {
                let file = self.open(&name).context(|| restoring(&name))?;
                let contents = Contents { name, file, left: size, checksum: Checksum::default(), expected };
                Ok(Now::File(Box::new(contents)))
            }
            // What has no contents is whole without them: directories, links, empty files.
            Some(Entry::File { .. }) => Ok(Now::Segment(io::Cursor::default())),
        }
    }

    fn open(&self, name: &[u8]) -> Result<File> {
        let path = beneath(name)?;
        for dir in &self.dirs {
            if let Some(file) = dir.open_file_in_root(&path)? {
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

fn restoring(name: &[u8]) -> String {
    format!("restoring `{}` of the layer", printable(name))
}

impl Contents {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(Error::mismatch(format!("the file in the store is {} bytes too short", self.left)));
        }
        self.checksum.update(&buffer[..n]);
        self.left -= n as u64;
        if self.left == 0 && std::mem::take(&mut self.checksum).finish() != self.expected {
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
                    return contents.read(buffer).map_err(|error| error.context(restoring(&contents.name)).into());
                }
                Now::File(_) => {}
                Now::End => return Ok(0),
            }
            self.now = self.next()?;
        }
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
