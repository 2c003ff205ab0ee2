//! A file that an earlier run may have begun: what is in it already is compared, and not written again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use crate::error::Result;

/// A file that is written from its beginning, whatever it holds. At every moment it begins with the bytes written.
#[derive(Debug)]
pub struct Continued {
    file: File,
    /// How many bytes it had.
    there: u64,
    /// How many bytes were written.
    at: u64,
    compared: Vec<u8>,
}

impl Continued {
    /// Takes a regular file that is open for reading and writing. One longer than `most` bytes is emptied.
    pub fn new(file: File, most: u64) -> Result<Self> {
        let mut there = file.metadata()?.len();
        if there > most {
            file.set_len(0)?;
            there = 0;
        }
        Ok(Self { file, there, at: 0, compared: Vec::new() })
    }

    /// Returns how many bytes the file had when it was opened.
    pub fn there(&self) -> u64 {
        self.there
    }

    /// Returns how many bytes it has now.
    pub fn length(&self) -> u64 {
        self.there.max(self.at)
    }

    /// Returns a reader over what the file had. It is not disturbed by writing.
    pub fn beginning(&self) -> Result<impl Read + Send + 'static> {
        Ok(Positioned { file: self.file.try_clone()?, at: 0 }.take(self.there))
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives its space back, if nobody can be reading what the file had.
    pub fn give_up(&self) -> Result<()> {
        if self.at >= self.there {
            self.file.set_len(0)?;
        }
        Ok(())
    }

    /// Cuts off what the file had beyond what was written, and syncs it.
    pub fn sync(&self) -> Result<()> {
        if self.there > self.at {
            self.file.set_len(self.at)?;
        }
        Ok(self.file.sync_data()?)
    }
}

impl Write for Continued {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.there.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let n = match left.min(bytes.len()) {
            0 => self.file.write_at(bytes, self.at)?,
            n => {
                self.compared.resize(n, 0);
                let read = self.file.read_exact_at(&mut self.compared, self.at);
                if read.is_err() || self.compared != bytes[..n] {
                    self.file.write_all_at(&bytes[..n], self.at)?;
                }
                n
            }
        };
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads by position, so that the descriptor can be shared.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
