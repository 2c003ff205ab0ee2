//! What is told of a layer: the table of contents, which is made while the layer goes by, and the tar-split.
//!
//! Both are kept compressed until the layer ends; `limits` says how much of each.

use std::collections::HashSet;
use std::io::{self, Write};

use zstd::stream::write::Encoder;

use super::chunks::{Chunk, File};
use crate::error::{Error, Result, printable};
use crate::limits::{CHUNKED_TAR_SPLIT, CHUNKED_TOC, Limit};
use crate::oci::Algorithm;
use crate::tar::split::{Objects, base64_to, json_string, number};
use crate::tar::{Header, Kind, TarPiece, Timestamp, clean};

/// The kind of table that this is; there is no other yet.
pub(super) const TYPE: u64 = 1;
/// The version of the table.
const VERSION: &[u8] = b"{\"version\":1,\"entries\":[";
/// The entry of a chunk is longer than this.
const LEAST_CHUNK: u64 = 128;
/// Go's zero time, the beginning of the year 1, which its JSON cannot tell from no time.
const YEAR_ONE: i64 = -62_135_596_800;

/// The two skippable frames of the end, and how long each is uncompressed.
pub(super) struct Parts {
    pub(super) toc: Vec<u8>,
    pub(super) toc_plain: u64,
    pub(super) tar_split: Vec<u8>,
    pub(super) tar_split_plain: u64,
}

/// What is told so far.
pub(super) struct Table {
    toc: Part,
    tar_split: Objects<Part>,
    /// The entry of the file whose contents are coming: what is before `digest`, and its name in JSON.
    open: Option<(Vec<u8>, Vec<u8>)>,
    begun: bool,
    /// The beginnings of the digests of all paths: 16 bytes each, so that no two of them are alike by chance or design.
    seen: HashSet<[u8; 16]>,
    text: Vec<u8>,
}

impl Table {
    pub(super) fn new(level: i32) -> Result<Self> {
        let mut toc = Part::new(level, Bound::Plain(CHUNKED_TOC))?;
        toc.write_all(VERSION)?;
        let tar_split = Objects::new(Part::new(level, Bound::Compressed(CHUNKED_TAR_SPLIT))?);
        Ok(Self { toc, tar_split, open: None, begun: false, seen: HashSet::new(), text: Vec::new() })
    }

    /// Takes a piece of the tar for the tar-split.
    pub(super) fn piece(&mut self, piece: TarPiece<'_>) -> Result<()> {
        self.tar_split.piece(piece)
    }

    /// Takes an entry; if it has contents, [`Table::file`] must follow.
    pub(super) fn entry(&mut self, header: &Header) -> Result<()> {
        self.check(header).map_err(|error| error.context(format!("`{}`", printable(&header.name))))?;
        let (text, name) = start(header)?;
        if header.size > 0 {
            self.open = Some((text, name));
            return Ok(());
        }
        self.text = text;
        self.put()
    }

    /// Takes what became of the contents of the entry before.
    pub(super) fn file(&mut self, file: &File) -> Result<()> {
        let Some((text, name)) = self.open.take() else { return Ok(()) };
        self.text = text;
        member(&mut self.text, "digest", file.digest.to_string().as_bytes());
        integer(&mut self.text, "offset", i128::from(file.offset));
        integer(&mut self.text, "endOffset", i128::from(file.end));
        if file.chunks.len() < 2 {
            return self.put();
        }
        for (n, chunk) in file.chunks.iter().enumerate() {
            if n > 0 {
                self.text.extend_from_slice(b"{\"type\":\"chunk\",\"name\":");
                self.text.extend_from_slice(&name);
                integer(&mut self.text, "offset", i128::from(chunk.offset));
            }
            chunk_members(&mut self.text, chunk);
            self.put()?;
        }
        Ok(())
    }

    /// Fails if there cannot be room for so many chunks of one file.
    pub(super) fn has_room_for(&self, chunks: usize) -> Result<()> {
        CHUNKED_TOC.check(self.toc.plain + chunks as u64 * LEAST_CHUNK)
    }

    pub(super) fn finish(mut self) -> Result<Parts> {
        let (tar_split_plain, tar_split) = self.tar_split.finish()?.finish()?;
        let digest = Algorithm::Sha256.digest(&tar_split);
        self.toc.write_all(format!("],\"tarSplitDigest\":\"{digest}\"}}").as_bytes())?;
        let (toc_plain, toc) = self.toc.finish()?;
        Ok(Parts { toc, toc_plain, tar_split, tar_split_plain })
    }

    fn check(&mut self, header: &Header) -> Result<()> {
        if header.kind == Kind::Global {
            return Err(Error::unsupported("no table of contents can hold a global header"));
        }
        if header.beside.unclear {
            return Err(Error::unsupported("readers take one of its PAX records in several ways"));
        }
        let mut path = Vec::new();
        clean(&header.name, &mut path)?;
        let mut digest = [0; 16];
        digest.copy_from_slice(&Algorithm::Sha256.digest(&path).bytes()[..16]);
        if !self.seen.insert(digest) {
            return Err(Error::invalid("two entries of the layer have this name"));
        }
        Ok(())
    }

    /// Writes the entry that is in `text`, but for its end.
    fn put(&mut self) -> Result<()> {
        self.text.push(b'}');
        if std::mem::replace(&mut self.begun, true) {
            self.toc.write_all(b",")?;
        }
        self.toc.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }
}

/// Returns the beginning of an entry, and its name in JSON.
fn start(header: &Header) -> Result<(Vec<u8>, Vec<u8>)> {
    let kind: &[u8] = match header.kind {
        Kind::Regular => b"reg",
        Kind::HardLink => b"hardlink",
        Kind::Symlink => b"symlink",
        Kind::CharacterDevice => b"char",
        Kind::BlockDevice => b"block",
        Kind::Directory => b"dir",
        Kind::Fifo => b"fifo",
        Kind::Global | Kind::Pax | Kind::LongName | Kind::LongLink => {
            return Err(Error::unsupported("an entry that is only about others"));
        }
    };
    let text = &mut b"{\"type\":\"".to_vec();
    text.extend_from_slice(kind);
    text.extend_from_slice(b"\",\"name\":");
    let from = text.len();
    json_string(text, utf8(&header.name)?);
    let name = text[from..].to_vec();
    if !header.link.is_empty() {
        text.extend_from_slice(b",\"linkName\":");
        json_string(text, utf8(&header.link)?);
    }
    integer(text, "mode", i128::from(header.beside.mode));
    integer(text, "size", i128::from(header.size));
    integer(text, "uid", i128::from(header.uid));
    integer(text, "gid", i128::from(header.gid));
    member(text, "modtime", time(header.mtime)?.as_bytes());
    for (key, moment) in [("accesstime", header.atime), ("changetime", header.beside.ctime)] {
        if let Some(moment) = moment {
            member(text, key, time(moment)?.as_bytes());
        }
    }
    integer(text, "devMajor", i128::from(header.beside.device.0));
    integer(text, "devMinor", i128::from(header.beside.device.1));
    let mut xattrs: Vec<_> = header.xattrs.iter().collect();
    xattrs.sort();
    for (n, (key, value)) in xattrs.into_iter().enumerate() {
        text.extend_from_slice(if n == 0 { b",\"xattrs\":{" } else { b"," });
        json_string(text, utf8(key)?);
        text.extend_from_slice(b":\"");
        base64_to(text, value);
        text.push(b'"');
    }
    if !header.xattrs.is_empty() {
        text.push(b'}');
    }
    Ok((std::mem::take(text), name))
}

fn chunk_members(text: &mut Vec<u8>, chunk: &Chunk) {
    integer(text, "chunkSize", i128::from(chunk.size));
    integer(text, "chunkOffset", i128::from(chunk.from));
    member(text, "chunkDigest", chunk.digest.to_string().as_bytes());
    if chunk.hole {
        member(text, "chunkType", b"zeros");
    }
}

/// Adds a member whose value needs no escapes.
fn member(text: &mut Vec<u8>, key: &str, value: &[u8]) {
    text.extend_from_slice(b",\"");
    text.extend_from_slice(key.as_bytes());
    text.extend_from_slice(b"\":\"");
    text.extend_from_slice(value);
    text.push(b'"');
}

/// Adds a number; zero is left out, as Go does.
fn integer(text: &mut Vec<u8>, key: &str, value: i128) {
    if value == 0 {
        return;
    }
    text.extend_from_slice(b",\"");
    text.extend_from_slice(key.as_bytes());
    text.extend_from_slice(b"\":");
    if value < 0 {
        text.push(b'-');
    }
    number(text, u64::try_from(value.unsigned_abs()).unwrap_or(u64::MAX));
}

/// JSON has no other strings, and a name that is nearly the right one would be another file.
fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::unsupported(format!("`{}` is not UTF-8, as names in JSON are", printable(bytes))))
}

fn time(moment: Timestamp) -> Result<String> {
    let written = jiff::Timestamp::new(moment.seconds, moment.nanos.cast_signed());
    match written {
        Ok(time) if moment.seconds > YEAR_ONE => Ok(time.to_string()),
        _ => Err(Error::unsupported(format!("no JSON can hold the time {} s after 1970", moment.seconds))),
    }
}

/// Compressed text in memory, up to a limit.
struct Part {
    out: Encoder<'static, Vec<u8>>,
    plain: u64,
    bound: Bound,
}

/// Which of its lengths the limit is for.
enum Bound {
    Plain(Limit),
    Compressed(Limit),
}

impl Part {
    fn new(level: i32, bound: Bound) -> Result<Self> {
        let mut out = Encoder::new(Vec::new(), level)?;
        out.include_checksum(true)?;
        Ok(Self { out, plain: 0, bound })
    }

    /// Returns its length, and its bytes compressed.
    fn finish(self) -> Result<(u64, Vec<u8>)> {
        Ok((self.plain, self.out.finish()?))
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let within = match self.bound {
            Bound::Plain(limit) => limit.check(self.plain + bytes.len() as u64),
            Bound::Compressed(limit) => limit.check(self.out.get_ref().len() as u64),
        };
        within.map_err(io::Error::from)?;
        let n = self.out.write(bytes)?;
        self.plain += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
