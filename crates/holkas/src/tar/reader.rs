//! A tar stream, entry by entry, with every raw byte handed on in order.
//!
//! What Go's `archive/tar` reads for containers/storage is read to the same effect; where tars can have two faces,
//! they are refused.

use std::io::BufRead;

use super::header::{self, BLOCK, Block, Kind};
use super::input::Input;
use super::pax::{self, Pax};
use super::{Split, TarPiece, Timestamp};
use crate::error::{Error, Result};
use crate::limits::{PATH, TAR_EXTENSION};

/// One entry, its extensions applied. It is used again for the next, so that entries cost no allocation.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// As in the tar, not cleaned.
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) atime: Option<Timestamp>,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is in the tar, and makes no difference on disk.
    pub(crate) beside: Beside,
}

/// What an entry says that no tree shows.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The mode with the kind, where the writer has put it there.
    pub(crate) mode: i64,
    pub(crate) ctime: Option<Timestamp>,
    /// Major and minor number, which entries that are no devices may have too.
    pub(crate) device: (i64, i64),
    /// Readers may take a record of the entry in several ways.
    pub(crate) unclear: bool,
}

impl Header {
    pub(crate) fn new() -> Self {
        Self {
            kind: Kind::Regular,
            name: Vec::new(),
            link: Vec::new(),
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp { seconds: 0, nanos: 0 },
            atime: None,
            device: (0, 0),
            xattrs: Vec::new(),
            beside: Beside::default(),
        }
    }
}

/// Reads a tar.
pub(crate) struct Reader<'r, 's> {
    input: Input<'r>,
    split: Option<Split<'s>>,
    /// Content of the current entry that is still to come.
    remaining: u64,
    /// What follows it up to a whole block.
    padding: usize,
    extension: Vec<u8>,
}

/// Extensions that wait for their entry.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'r, 's> Reader<'r, 's> {
    pub(crate) fn new(source: &'r mut dyn BufRead, split: Option<Split<'s>>) -> Self {
        Self { input: Input::new(source), split, remaining: 0, padding: 0, extension: Vec::new() }
    }

    /// Reads the next entry into `header`; at the end hands on all that follows, and returns `false`.
    ///
    /// What was not read of the contents of the entry before is passed over.
    pub(crate) fn next(&mut self, header: &mut Header) -> Result<bool> {
        self.content(|_| Ok(()))?;
        let mut pending = Pending::default();
        loop {
            if self.at_end()? {
                if pending.pax.is_some() || pending.name.is_some() || pending.link.is_some() {
                    return Err(Error::invalid("the tar ends with an extended header that belongs to no entry"));
                }
                // Without the end blocks it is whole too: Go and GNU tar take it.
                self.pass_all()?;
                return Ok(false);
            }
            let block: [u8; BLOCK] = self.input.fill(BLOCK)?[..BLOCK].try_into().expect("a block is there");
            let parsed = header::parse(&block)?;
            self.pass(BLOCK)?;
            let twice = match parsed.kind {
                Kind::Pax => {
                    self.read_extension(parsed.size)?;
                    pending.pax.replace(pax::parse(&self.extension)?).is_some()
                }
                Kind::LongName => {
                    self.read_extension(parsed.size)?;
                    pending.name.replace(long_name(&self.extension)?).is_some()
                }
                Kind::LongLink => {
                    self.read_extension(parsed.size)?;
                    pending.link.replace(long_name(&self.extension)?).is_some()
                }
                Kind::Global => {
                    if pending.pax.is_some() || pending.name.is_some() || pending.link.is_some() {
                        return Err(Error::invalid("an extended tar header is followed by a global one"));
                    }
                    self.read_extension(parsed.size)?;
                    // Only checked: Go's archive/tar, and so every container tool, applies none of it.
                    pax::parse(&self.extension)?;
                    global(header, &parsed);
                    self.hand(TarPiece::Entry { name: &header.name, size: 0 })?;
                    return Ok(true);
                }
                _ => {
                    entry(header, &parsed, pending)?;
                    self.remaining = header.size;
                    self.padding = (header.size.wrapping_neg() % BLOCK as u64) as usize;
                    self.hand(TarPiece::Entry { name: &header.name, size: header.size })?;
                    return Ok(true);
                }
            };
            if twice {
                return Err(Error::invalid("two extended tar headers of one kind for one entry"));
            }
        }
    }

    /// Gives the contents of the current entry to `take`, in pieces, and passes over its padding.
    pub(crate) fn content(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.remaining > 0 {
            let bytes = self.input.fill(1)?;
            if bytes.is_empty() {
                return Err(Error::invalid(format!("the tar ends {} bytes before the end of a file", self.remaining)));
            }
            let length = usize::try_from(self.remaining).map_or(bytes.len(), |remaining| remaining.min(bytes.len()));
            let piece = &bytes[..length];
            take(piece)?;
            if let Some(split) = &mut self.split {
                split(TarPiece::Content(piece))?;
            }
            self.input.consume(length);
            self.remaining -= length as u64;
        }
        // Padding may be cut off at the very end: Go takes it.
        let have = self.input.fill(self.padding)?.len();
        self.pass(self.padding.min(have))?;
        self.padding = 0;
        Ok(())
    }

    /// Hands on all that was not, as raw, whatever it is.
    pub(crate) fn rest(&mut self) -> Result<()> {
        self.pass_all()
    }

    /// Returns whether the tar ends here: with nothing more, or with a block of zeros, after which must be a second one
    /// or nothing.
    fn at_end(&mut self) -> Result<bool> {
        let is_zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
        match self.input.fill(BLOCK)? {
            [] => return Ok(true),
            bytes if bytes.len() < BLOCK => return Err(Error::invalid("the tar ends within a header")),
            bytes if !is_zero(&bytes[..BLOCK]) => return Ok(false),
            _ => {}
        }
        match self.input.fill(2 * BLOCK)? {
            bytes if bytes.len() == BLOCK => Ok(true),
            bytes if bytes.len() < 2 * BLOCK => Err(Error::invalid("the tar ends within its second end block")),
            bytes if is_zero(&bytes[BLOCK..2 * BLOCK]) => Ok(true),
            _ => Err(Error::invalid("a single block of zeros within the tar")),
        }
    }

    fn read_extension(&mut self, size: u64) -> Result<()> {
        TAR_EXTENSION.check(size)?;
        self.extension.clear();
        let mut remaining = size as usize;
        while remaining > 0 {
            let bytes = self.input.fill(1)?;
            if bytes.is_empty() {
                return Err(Error::invalid("the tar ends within an extended header"));
            }
            let length = remaining.min(bytes.len());
            self.extension.extend_from_slice(&bytes[..length]);
            self.pass(length)?;
            remaining -= length;
        }
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        let have = self.input.fill(padding)?.len();
        self.pass(padding.min(have))
    }

    /// Hands on `length` bytes, which were looked at, as raw.
    fn pass(&mut self, length: usize) -> Result<()> {
        if length > 0
            && let Some(split) = &mut self.split
        {
            split(TarPiece::Raw(&self.input.fill(length)?[..length]))?;
        }
        self.input.consume(length);
        Ok(())
    }

    fn pass_all(&mut self) -> Result<()> {
        loop {
            match self.input.fill(1)?.len() {
                0 => return Ok(()),
                have => self.pass(have)?,
            }
        }
    }

    fn hand(&mut self, piece: TarPiece<'_>) -> Result<()> {
        match &mut self.split {
            Some(split) => split(piece),
            None => Ok(()),
        }
    }
}

/// GNU long names end with a NUL, after which there may only be more of them.
fn long_name(data: &[u8]) -> Result<Vec<u8>> {
    let name = header::text(data);
    if name.is_empty() || data[name.len()..].iter().any(|&byte| byte != 0) {
        return Err(Error::invalid("a malformed GNU long name"));
    }
    Ok(name.to_vec())
}

/// Go's archive/tar keeps of a global header only its name.
fn global(header: &mut Header, block: &Block<'_>) {
    header.kind = Kind::Global;
    set_name(&mut header.name, block);
    header.link.clear();
    (header.size, header.mode, header.uid, header.gid) = (0, 0, 0, 0);
    (header.mtime, header.atime) = (Timestamp { seconds: 0, nanos: 0 }, None);
    header.device = (0, 0);
    header.xattrs.clear();
    header.beside = Beside::default();
}

fn set_name(name: &mut Vec<u8>, block: &Block<'_>) {
    name.clear();
    if !block.prefix.is_empty() {
        name.extend_from_slice(block.prefix);
        name.push(b'/');
    }
    name.extend_from_slice(block.name);
}

fn set(bytes: &mut Vec<u8>, to: &[u8]) {
    bytes.clear();
    bytes.extend_from_slice(to);
}

/// Applies the extensions. A GNU long name wins over a PAX path, which wins over the header, as in Go.
fn entry(header: &mut Header, block: &Block<'_>, pending: Pending) -> Result<()> {
    let pax = pending.pax.unwrap_or_default();
    match pending.name.or(pax.path) {
        Some(name) => header.name = name,
        None => set_name(&mut header.name, block),
    }
    match pending.link.or(pax.link) {
        Some(link) => header.link = link,
        None => set(&mut header.link, block.link),
    }
    if header.name.len() >= PATH || header.link.len() >= PATH {
        return Err(Error::invalid(format!("a name in the tar is longer than {} bytes", PATH - 1)));
    }
    header.kind = block.kind;
    if block.old && header.name.ends_with(b"/") {
        header.kind = Kind::Directory;
    }
    header.mode = block.mode;
    header.uid = id("owner", pax.uid.unwrap_or(block.uid))?;
    header.gid = id("group", pax.gid.unwrap_or(block.gid))?;
    header.size = pax.size.unwrap_or(block.size);
    if header.size > i64::MAX as u64 {
        return Err(Error::invalid("a file in the tar is larger than any file system holds"));
    }
    header.mtime = pax.mtime.unwrap_or(block.mtime);
    header.atime = pax.atime.or(block.atime);
    header.beside = Beside {
        mode: block.whole_mode,
        ctime: pax.ctime.or(block.ctime),
        device: (block.major, block.minor),
        unclear: pax.unclear,
    };
    header.device = (0, 0);
    if matches!(block.kind, Kind::CharacterDevice | Kind::BlockDevice) {
        // Linux has 12 bits for the one and 20 for the other.
        let number = |number: i64, bits: u32| {
            u32::try_from(number)
                .ok()
                .filter(|number| number >> bits == 0)
                .ok_or_else(|| Error::invalid(format!("there is no device {}:{}", block.major, block.minor)))
        };
        header.device = (number(block.major, 12)?, number(block.minor, 20)?);
    }
    header.xattrs = pax.xattrs;
    if header.kind != Kind::Regular && header.size > 0 {
        // Readers differ on whether data follows, and no store can give such an entry back (its checksum is of nothing).
        return Err(Error::invalid(format!(
            "`{}` is not a regular file, but has {} bytes of contents",
            crate::error::printable(&header.name),
            header.size
        )));
    }
    Ok(())
}

/// The largest number means "leave as it is" to chown, so it is no owner either.
fn id(what: &str, number: i64) -> Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Error::invalid(format!("{number} is no {what} that Linux knows")))
}
