//! The entries of a tar that is read by seeking: where each is, found in one pass over the headers.
//!
//! Only what archives of images hold is understood; what another reader could take for something else is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Context, Error, Result, printable};
use crate::limits::{ARCHIVE_ENTRIES, Limit, PATH, TAR_EXTENSION};

pub(crate) const BLOCK: u64 = 512;

/// How many symlinks one name may lead through: real archives have one.
const HOPS: usize = 8;

/// A tar and the places of what is in it.
pub(crate) struct Entries {
    file: Arc<File>,
    entries: BTreeMap<Vec<u8>, Found>,
}

/// What is known of a name.
enum Found {
    Once(Entry),
    /// Two readers would find different contents, so nobody gets any.
    Twice,
}

#[derive(Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Other(&'static str),
}

/// A part of a file, read from its own position.
pub(crate) struct Slice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Slice {
    /// Returns how many bytes are left to be read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries({})", self.entries.len())
    }
}

/// What the extension headers before an entry say about it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Entries {
    /// Reads all headers of a tar.
    pub(crate) fn read(file: Arc<File>) -> Result<Self> {
        let length = file.metadata().map_err(Error::from)?.len();
        let mut entries = BTreeMap::new();
        let mut extension = Extension::default();
        let (mut at, mut count) = (0, 0);
        loop {
            if at == length && count > 0 {
                // Without its end blocks, but whole: as other readers, we take it.
                break;
            }
            let header = Header::read(&file, at).context(|| format!("reading the tar header at byte {at}"))?;
            let Some(header) = header else { break };
            count += 1;
            if count > ARCHIVE_ENTRIES {
                return Err(Error::invalid(format!("the archive has more than {ARCHIVE_ENTRIES} entries")));
            }
            let frame = || format!("reading the tar entry at byte {at}");
            let body = at + BLOCK;
            let special = matches!(header.kind(), b'x' | b'g' | b'L' | b'K');
            let size = match extension.size.filter(|_| !special) {
                Some(size) => size,
                None => header.size().context(frame)?,
            };
            let end = size
                .checked_next_multiple_of(BLOCK)
                .and_then(|padded| body.checked_add(padded))
                .filter(|_| body.checked_add(size).is_some_and(|end| end <= length))
                .ok_or_else(|| Error::mismatch("the archive ends within an entry"))
                .context(frame)?;
            if special {
                let bytes = read_bounded(&file, body, size).context(frame)?;
                extension.add(header.kind(), bytes).context(frame)?;
            } else {
                let extension = std::mem::take(&mut extension);
                let name = extension.path.unwrap_or_else(|| header.path());
                let link = extension.link.unwrap_or_else(|| header.link());
                if name.len() > PATH || link.len() > PATH {
                    return Err(Error::invalid(format!("a name is longer than {PATH} bytes"))).context(frame);
                }
                let entry = match header.kind() {
                    b'0' | 0 | b'7' if name.ends_with(b"/") => Entry::Other("directory"),
                    b'0' | 0 | b'7' => Entry::File { offset: body, size },
                    b'1' => Entry::HardLink(link),
                    b'2' => Entry::Symlink(link),
                    b'3' | b'4' => Entry::Other("device"),
                    b'5' => Entry::Other("directory"),
                    b'6' => Entry::Other("FIFO"),
                    other => {
                        let kind = printable(&[other]);
                        return Err(Error::unsupported(format!("entries of type `{kind}`"))).context(frame);
                    }
                };
                let name = plain(&name);
                let twice = entries.contains_key(&name) && !matches!(entry, Entry::Other("directory"));
                let found = if twice { Found::Twice } else { Found::Once(entry) };
                entries.insert(name, found);
            }
            at = end.min(length);
        }
        if extension.path.is_some() || extension.link.is_some() || extension.size.is_some() {
            return Err(Error::invalid("the archive ends after a header that speaks of an entry to come"));
        }
        Ok(Self { file, entries })
    }

    /// Opens a file by its name in the archive; `None` if it does not exist. Links within the archive are followed.
    pub(crate) fn open(&self, name: &[u8]) -> Result<Option<Slice>> {
        let frame = || format!("opening `{}` in the archive", printable(name));
        let mut name = plain(name);
        for _ in 0..=HOPS {
            let entry = match self.entries.get(&name) {
                None => return Ok(None),
                Some(Found::Twice) => return Err(Error::invalid("the archive has it twice")).context(frame),
                Some(Found::Once(entry)) => entry,
            };
            match entry {
                Entry::File { offset, size } => {
                    return Ok(Some(Slice { file: Arc::clone(&self.file), offset: *offset, left: *size }));
                }
                Entry::HardLink(target) => name = plain(target),
                Entry::Symlink(target) => name = resolve(&name, target).context(frame)?,
                Entry::Other(what) => {
                    return Err(Error::invalid(format!("it is a {what}, not a regular file"))).context(frame);
                }
            }
        }
        Err(Error::refused(format!("more than {HOPS} links lead to it"))).context(frame)
    }

    /// Reads a file whole; `None` if it does not exist.
    pub(crate) fn read_file(&self, name: &str, limit: Limit) -> Result<Option<Vec<u8>>> {
        let Some(mut slice) = self.open(name.as_bytes())? else { return Ok(None) };
        let frame = || format!("reading `{name}` in the archive");
        limit.check(slice.left()).context(frame)?;
        let mut bytes = Vec::new();
        slice.read_to_end(&mut bytes).context(frame)?;
        Ok(Some(bytes))
    }
}

/// Returns a name without `.` parts and slashes at its ends. Names are only compared, never used as paths.
fn plain(name: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    let mut plain = parts.join(&b'/');
    // An absolute name is another than the relative one.
    if name.starts_with(b"/") {
        plain.insert(0, b'/');
    }
    plain
}

/// Returns what a symlink in the archive means, if that is in the archive.
fn resolve(link: &[u8], target: &[u8]) -> Result<Vec<u8>> {
    let out = || Error::refused(format!("a symlink leads out of the archive, to `{}`", printable(target)));
    if target.starts_with(b"/") {
        return Err(out());
    }
    let mut parts: Vec<&[u8]> = link.split(|b| *b == b'/').collect();
    parts.pop();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(out)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

fn read_bounded(file: &File, at: u64, size: u64) -> Result<Vec<u8>> {
    TAR_EXTENSION.check(size)?;
    let mut bytes = vec![0; usize::try_from(size).expect("it is within the limit")];
    file.read_exact_at(&mut bytes, at).map_err(Error::from)?;
    Ok(bytes)
}

impl Extension {
    fn add(&mut self, kind: u8, bytes: Vec<u8>) -> Result<()> {
        let once = |field: &mut Option<Vec<u8>>, mut bytes: Vec<u8>| {
            bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
            match field.replace(bytes) {
                None => Ok(()),
                Some(_) => Err(Error::invalid("two headers give the next entry's name")),
            }
        };
        match kind {
            b'L' => once(&mut self.path, bytes),
            b'K' => once(&mut self.link, bytes),
            _ => {
                for record in records(&bytes) {
                    let (key, value) = record?;
                    match (kind, key) {
                        (b'x', b"path") => self.path = Some(value.to_vec()),
                        (b'x', b"linkpath") => self.link = Some(value.to_vec()),
                        (b'x', b"size") => self.size = Some(number(value)?),
                        (b'g', b"path" | b"linkpath" | b"size") => {
                            return Err(Error::unsupported("a global header that names entries"));
                        }
                        (_, key) if key.starts_with(b"GNU.sparse.") => {
                            return Err(Error::unsupported("sparse entries"));
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }
}

fn number(digits: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|t| t.parse().ok()).ok_or_else(|| Error::invalid(format!("`{}` is not a number", printable(digits))))
}

/// Splits a PAX header into its records, each `LENGTH KEY=VALUE\n`.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = (|| {
            let space = bytes.iter().take(20).position(|b| *b == b' ')?;
            let length = usize::try_from(number(&bytes[..space]).ok()?).ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            bytes = &bytes[length..];
            let equals = record.iter().position(|b| *b == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            (!key.is_empty() && !value.contains(&0)).then_some((key, value))
        })();
        if record.is_none() {
            bytes = &[];
        }
        Some(record.ok_or_else(|| Error::invalid("malformed PAX record")))
    })
}

struct Header([u8; 512]);

impl Header {
    /// Reads the header at `at`; `None` if the archive ends there.
    fn read(file: &File, at: u64) -> Result<Option<Self>> {
        let mut bytes = [0; 512];
        file.read_exact_at(&mut bytes, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::invalid("not a tar archive, or one that was cut off"),
            _ => error.into(),
        })?;
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u64 =
            bytes.iter().enumerate().map(|(n, b)| u64::from(if (148..156).contains(&n) { b' ' } else { *b })).sum();
        if field_number(&bytes[148..156])? != sum {
            return Err(Error::invalid("not a tar header: its checksum is wrong"));
        }
        Ok(Some(Self(bytes)))
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn size(&self) -> Result<u64> {
        match self.kind() {
            // Links and directories have no contents, whatever the field says.
            b'1'..=b'6' => Ok(0),
            _ => field_number(&self.0[124..136]),
        }
    }

    fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        // GNU's own format has other fields in the place of the prefix.
        match text(&self.0[345..500]) {
            prefix if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

fn field_number(field: &[u8]) -> Result<u64> {
    if field[0] & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            if value >> 55 != 0 {
                return Err(Error::invalid("a number in a tar header is too large"));
            }
            value = value << 8 | u64::from(*byte);
        }
        return Ok(value);
    }
    let digits = field.trim_ascii_start();
    let digits = &digits[..digits.iter().position(|b| *b == 0 || *b == b' ').unwrap_or(digits.len())];
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | u64::from(digit - b'0')),
        _ => Err(Error::invalid("not a tar header: a number is not octal")),
    })
}
