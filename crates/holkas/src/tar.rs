//! Tars as layers are: the one parser, which hands on every byte, and tar-split, which keeps all bytes but contents.

mod header;
mod input;
mod pax;
mod reader;
pub mod split;

use std::io::BufRead;

use crate::error::{Context, Error, Result, printable};
pub(crate) use header::Kind;
pub(crate) use reader::{Header, Reader};

/// A moment: seconds since 1970, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 10^9.
    pub nanos: u32,
}

/// A piece of the tar. All pieces in order, entries left out, are the exact bytes of the tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarPiece<'a> {
    /// Headers, padding, end blocks and what follows them, in pieces of any size.
    Raw(&'a [u8]),
    /// An entry whose header was just handed on: its name as in the tar, and how many bytes of contents follow.
    Entry {
        /// The name, not cleaned; long names applied.
        name: &'a [u8],
        /// The length of all `Content` that follows.
        size: u64,
    },
    /// Contents of the entry, in pieces of any size.
    Content(&'a [u8]),
}

/// Takes all pieces of a tar, in order.
pub type Split<'s> = &'s mut dyn FnMut(TarPiece<'_>) -> Result<()>;

/// Reads the tar `layer` to its end and hands every byte of it to `take`, in order, writing nothing.
///
/// # Errors
///
/// `Invalid` where it is no tar that [`crate::unpack::unpack`] takes for one, and what `layer` and `take` return.
pub fn pieces(layer: &mut dyn BufRead, take: Split<'_>) -> Result<()> {
    let mut reader = Reader::new(layer, Some(take));
    let mut header = Header::new();
    let mut entries = 0;
    while reader.next(&mut header).context(|| after(&header, entries))? {
        entries += 1;
    }
    Ok(())
}

/// Says where in the tar something is: after which entry.
pub(crate) fn after(header: &Header, entries: u64) -> String {
    match entries {
        0 => "reading the first entry of the layer's tar".into(),
        _ => format!("reading the layer's tar after entry {entries}, `{}`", printable(&header.name)),
    }
}

/// Makes the name relative, without `.` and empty components; the root is the empty path.
pub(crate) fn clean(name: &[u8], path: &mut Vec<u8>) -> Result<()> {
    path.clear();
    if name.contains(&0) {
        return Err(Error::invalid("there is a NUL in the name"));
    }
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(Error::refused("there is a `..` in the name")),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Ok(())
}
