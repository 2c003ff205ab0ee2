//! A tar that is written by position: places are reserved, then filled in any order, from any thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::entries::BLOCK;
use crate::error::{Context, Error, Result};
use crate::layer_tar::{octal, sum};

/// Headers without a trace of the moment or the maker: owner 0:0 without names, time 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    /// The type flag.
    pub(crate) kind: u8,
    /// The name, at most 100 bytes.
    pub(crate) name: &'a str,
    /// The mode.
    pub(crate) mode: u32,
    /// The target of a symlink, at most 100 bytes.
    pub(crate) link: &'a str,
}

/// A regular file.
pub(crate) const FILE: u8 = b'0';
/// A symlink.
pub(crate) const SYMLINK: u8 = b'2';
/// A directory.
pub(crate) const DIRECTORY: u8 = b'5';

impl Header<'_> {
    fn to_bytes(self, size: u64) -> [u8; 512] {
        let mut header = [0; 512];
        header[..self.name.len()].copy_from_slice(self.name.as_bytes());
        octal(&mut header[100..108], self.mode.into());
        octal(&mut header[108..116], 0);
        octal(&mut header[116..124], 0);
        octal(&mut header[136..148], 0);
        header[156] = self.kind;
        header[157..157 + self.link.len()].copy_from_slice(self.link.as_bytes());
        octal(&mut header[329..337], 0);
        octal(&mut header[337..345], 0);
        if size < 1 << 33 {
            octal(&mut header[124..136], size);
            header[257..265].copy_from_slice(b"ustar\x0000");
        } else {
            // From 8 GiB on in GNU's form, which needs no header of its own: the place of this one is reserved.
            header[124] = 0x80;
            header[128..136].copy_from_slice(&size.to_be_bytes());
            header[257..265].copy_from_slice(b"ustar  \0");
            header[329..345].fill(0);
        }
        sum(&mut header);
        header
    }
}

/// Writes at a position of a file, never past what was reserved.
pub(crate) struct Range<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Write for Range<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(Error::mismatch("more bytes came than were announced").into());
        }
        let n = self.file.write_at(bytes, self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a writer to a part of `file`.
pub(crate) fn range(file: &File, at: u64, left: u64) -> Range<'_> {
    Range { file, at, left }
}

/// Writes a header at `at` and returns where the contents begin, and where the next header goes.
pub(crate) fn reserve(file: &File, at: u64, header: Header<'_>, size: u64) -> Result<(u64, u64)> {
    file.write_all_at(&header.to_bytes(size), at).context(|| format!("writing the header of `{}`", header.name))?;
    let body = at + BLOCK;
    Ok((body, body + size.next_multiple_of(BLOCK)))
}

/// Writes a whole entry at `at` and returns where the next header goes.
pub(crate) fn put(file: &File, at: u64, header: Header<'_>, contents: &[u8]) -> Result<u64> {
    let (body, next) = reserve(file, at, header, contents.len() as u64)?;
    file.write_all_at(contents, body).context(|| format!("writing `{}`", header.name))?;
    Ok(next)
}

/// Ends the archive at `at`, as Go and GNU tar do: with two empty blocks.
pub(crate) fn finish(file: &File, at: u64) -> Result<()> {
    // Padding between entries is what the file has where nothing was written: zeros.
    file.set_len(at + 2 * BLOCK).context(|| "writing the end of the archive")
}
