//! The only door: bytes from outside come in as [`UntrustedBlob`], are read through [`BlobReader`],
//! and prove themselves as [`Verified`].
//!
//! Nothing outside this file can make a [`Verified`], [`VerifiedBytes`] or [`VerifiedDiff`].

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::limits::{CHUNK, Limit};
use crate::oci::{Algorithm, Descriptor, DiffId, Digest, Hasher, MediaType};
use crate::progress::{Cancel, Counter};

/// A blob that a source claims to be something. Deliberately not `Read`: it can only be verified.
pub struct UntrustedBlob {
    reader: Box<dyn Read + Send>,
    keeper: Option<Box<dyn Keep>>,
}

impl UntrustedBlob {
    /// Takes a stream of unverified bytes.
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self { reader: Box::new(reader), keeper: None }
    }

    /// Has what is read of the blob kept, if it proves itself against a descriptor. It is not hashed a second time.
    #[must_use]
    pub fn kept_by(mut self, keeper: impl Keep + 'static) -> Self {
        self.keeper = Some(Box::new(keeper));
        self
    }

    /// Takes unverified bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::new(io::Cursor::new(bytes))
    }

    /// Begins to read the blob against what it must be.
    pub fn verify(self, expected: &Descriptor) -> BlobReader {
        BlobReader {
            reader: self.reader,
            hasher: expected.digest.algorithm().hasher(),
            expected: Box::new(expected.clone()),
            read: 0,
            proven: false,
            too_long: false,
            keeping: Keeping { keeper: self.keeper, interrupted: false },
            cancel: Cancel::default(),
            counter: Counter::default(),
        }
    }

    /// Reads the whole blob into memory, verified. `limit` bounds it before anything is read.
    pub fn read_verified(self, expected: &Descriptor, limit: Limit) -> Result<VerifiedBytes> {
        limit.check(expected.size)?;
        let mut reader = self.verify(expected);
        let mut bytes = Vec::with_capacity(usize::try_from(expected.size).unwrap_or(0));
        reader.read_to_end(&mut bytes)?;
        let verified = reader.finish()?;
        Ok(VerifiedBytes {
            bytes: bytes.into(),
            media_type: Some(verified.descriptor.media_type),
            digest: expected.digest,
        })
    }

    /// Reads the whole blob into memory and names it by its own digest.
    ///
    /// For the one document of an image that nothing vouches for: what a bare tag or a directory holds.
    /// `media_type` is what the source says it is, if it says anything.
    pub fn identify(self, algorithm: Algorithm, media_type: Option<MediaType>, limit: Limit) -> Result<VerifiedBytes> {
        let mut bytes = Vec::new();
        self.reader.take(limit.bytes + 1).read_to_end(&mut bytes).map_err(Error::from)?;
        limit.check(bytes.len() as u64)?;
        let digest = algorithm.digest(&bytes);
        Ok(VerifiedBytes { bytes: bytes.into(), media_type, digest })
    }

    /// Reads the whole blob into memory and holds it against a digest whose size is not known.
    pub fn read_matching(self, digest: &Digest, media_type: Option<MediaType>, limit: Limit) -> Result<VerifiedBytes> {
        let found = self.identify(digest.algorithm(), media_type, limit)?;
        if found.digest != *digest {
            return Err(mismatch(digest, &found.digest, found.bytes.len() as u64));
        }
        Ok(found)
    }

    /// Reads a layer that its source stores unpacked: no blob digest exists, the diff ID is the proof.
    ///
    /// `size` is the length in bytes where it is known; no more is read.
    pub fn verify_diff(self, expected: DiffId, size: Option<u64>) -> DiffReader<Bounded> {
        DiffReader::new(
            Bounded {
                reader: self.reader,
                left: size.unwrap_or(u64::MAX),
                cancel: Cancel::default(),
                counter: Counter::default(),
            },
            expected,
        )
    }
}

impl fmt::Debug for UntrustedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UntrustedBlob")
    }
}

/// The beginning of a blob that an interrupted run left. Deliberately not `Read`, and not trusted: the door hashes it
/// again, together with what follows.
pub struct PartialBlob {
    reader: Box<dyn Read + Send>,
    length: u64,
}

impl PartialBlob {
    /// Takes the first `length` bytes of a blob, perhaps all of them.
    pub fn new(reader: impl Read + Send + 'static, length: u64) -> Self {
        Self { reader: Box::new(reader), length }
    }

    /// Returns how many bytes of the blob are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the blob that begins so and goes on with `rest`: with the bytes from [`PartialBlob::length`] on.
    /// If all are there already, that is [`std::io::empty`].
    pub fn followed_by(self, rest: impl Read + Send + 'static) -> UntrustedBlob {
        // Should somebody have shortened the beginning meanwhile, the bytes are wrong, and the door says so.
        UntrustedBlob::new(self.reader.take(self.length).chain(rest))
    }
}

impl fmt::Debug for PartialBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartialBlob({} bytes)", self.length)
    }
}

/// Keeps the bytes of a blob while they go through the door. What fails in it must not fail the reading.
pub trait Keep: Send {
    /// Takes the next bytes of the blob: all of them, in order. Nothing is known of them yet.
    fn take(&mut self, bytes: &[u8]);

    /// All bytes were taken and match their descriptor: now they may get their name.
    fn proven(self: Box<Self>, proof: &Verified);

    /// There will be no proof. Not called when the process is killed.
    fn unproven(self: Box<Self>, why: Unproven);
}

/// Why the bytes of a blob were not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// They are not what they must be: nothing of them may be used again.
    Refuted,
    /// Reading failed or was cancelled: as far as they came they may be right.
    Interrupted,
    /// Nobody wanted more of them. They may be right; or they may be why, as when they cannot be decompressed.
    Abandoned,
}

/// The keeper of a blob that is being read, who is told once how it ended.
struct Keeping {
    keeper: Option<Box<dyn Keep>>,
    interrupted: bool,
}

impl Keeping {
    fn take(&mut self, bytes: &[u8]) {
        if let Some(keeper) = &mut self.keeper {
            keeper.take(bytes);
        }
    }

    fn prove(&mut self, proof: &Verified) {
        if let Some(keeper) = self.keeper.take() {
            keeper.proven(proof);
        }
    }

    fn refute(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.unproven(Unproven::Refuted);
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.unproven(if self.interrupted { Unproven::Interrupted } else { Unproven::Abandoned });
        }
    }
}

fn mismatch(expected: &Digest, found: &Digest, bytes: u64) -> Error {
    Error::mismatch(format!("blob does not match its digest: expected {expected}, read {found} ({bytes} bytes)"))
}

/// Reads a blob while hashing it. Never returns bytes past the expected size; a mismatch is an error, not an end.
pub struct BlobReader {
    reader: Box<dyn Read + Send>,
    hasher: Hasher,
    expected: Box<Descriptor>,
    read: u64,
    proven: bool,
    /// Too many bytes came. Said again if anybody reads on: what follows could look right.
    too_long: bool,
    keeping: Keeping,
    cancel: Cancel,
    counter: Counter,
}

impl BlobReader {
    /// Stops reading with an error once `cancel` is set.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Counts what is read of the blob as it came.
    #[must_use]
    pub fn counted_by(mut self, counter: &Counter) -> Self {
        self.counter = counter.clone();
        self
    }

    /// Returns what the blob must be.
    pub fn expected(&self) -> &Descriptor {
        &self.expected
    }

    /// Reads what is left, then proves that size and digest are right.
    pub fn finish(mut self) -> Result<Verified> {
        let mut rest = vec![0; CHUNK.min(64 << 10)];
        while !self.proven {
            self.read(&mut rest).map_err(Error::from)?;
        }
        Ok(Verified { descriptor: *self.expected })
    }

    /// Called once all expected bytes were read: one byte more is one too many, and the digest decides.
    fn prove(&mut self) -> Result<()> {
        if !self.too_long {
            let more = read_retrying(&mut self.reader, &mut [0]).inspect_err(|_| self.keeping.interrupted = true);
            self.too_long = more.context(|| "reading past the end of the blob")? != 0;
        }
        if self.too_long {
            self.keeping.refute();
            return Err(Error::mismatch(format!(
                "blob is longer than its descriptor says: {} is {} bytes, and more follow",
                self.expected.digest, self.expected.size
            )));
        }
        let found = self.hasher.clone().finish();
        if found != self.expected.digest {
            self.keeping.refute();
            return Err(mismatch(&self.expected.digest, &found, self.read));
        }
        self.proven = true;
        self.keeping.prove(&Verified { descriptor: (*self.expected).clone() });
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().inspect_err(|_| self.keeping.interrupted = true)?;
        let left = self.expected.size - self.read;
        if left == 0 {
            if !self.proven {
                self.prove()?;
            }
            return Ok(0);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n =
            read_retrying(&mut self.reader, &mut buffer[..most]).inspect_err(|_| self.keeping.interrupted = true)?;
        if n == 0 {
            self.keeping.refute();
            return Err(Error::mismatch(format!(
                "blob is shorter than its descriptor says: {} is {} bytes, but only {} came",
                self.expected.digest, self.expected.size, self.read
            ))
            .into());
        }
        self.hasher.update(&buffer[..n]);
        self.keeping.take(&buffer[..n]);
        self.read += n as u64;
        self.counter.add(n);
        Ok(n)
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobReader({} of {} bytes of {})", self.read, self.expected.size, self.expected.digest)
    }
}

fn read_retrying(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The proof that all bytes of a blob were read and match its descriptor. Has no public constructor.
#[derive(Debug)]
pub struct Verified {
    descriptor: Descriptor,
}

impl Verified {
    /// Returns what was proven.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// A document in memory whose bytes match its digest.
#[derive(Clone)]
pub struct VerifiedBytes {
    bytes: Arc<[u8]>,
    media_type: Option<MediaType>,
    digest: Digest,
}

impl VerifiedBytes {
    /// Returns the document, byte by byte as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the media type that the descriptor, or the source, gave it.
    pub fn media_type(&self) -> Option<&MediaType> {
        self.media_type.as_ref()
    }
}

impl fmt::Debug for VerifiedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedBytes({}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// A stream that ends with an error when the source gives more than it promised.
pub struct Bounded {
    reader: Box<dyn Read + Send>,
    left: u64,
    cancel: Cancel,
    counter: Counter,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        let n = read_retrying(&mut self.reader, buffer)?;
        self.counter.add(n);
        self.left =
            self.left.checked_sub(n as u64).ok_or_else(|| Error::mismatch("layer is longer than its source says"))?;
        Ok(n)
    }
}

impl DiffReader<Bounded> {
    /// Stops reading with an error once `cancel` is set.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.reader.cancel = cancel.clone();
        self
    }

    /// Counts what is read.
    #[must_use]
    pub fn counted_by(mut self, counter: &Counter) -> Self {
        self.reader.counter = counter.clone();
        self
    }
}

/// Reads a layer's uncompressed bytes while hashing them against its diff ID.
pub struct DiffReader<R> {
    reader: R,
    hasher: Hasher,
    expected: DiffId,
    read: u64,
    /// How many of the next bytes were hashed already: those that were given by `fill_buf` and not consumed.
    ahead: usize,
}

impl<R: Read> DiffReader<R> {
    /// Hashes what is read from `reader`, which gives the uncompressed layer.
    pub fn new(reader: R, expected: DiffId) -> Self {
        Self { reader, hasher: expected.0.algorithm().hasher(), expected, read: 0, ahead: 0 }
    }

    /// Reads what is left, then proves the diff ID. Also returns the reader below, so that it can prove itself.
    pub fn finish(mut self) -> Result<(VerifiedDiff, R)> {
        io::copy(&mut self, &mut io::sink())?;
        let found = self.hasher.finish();
        if found != self.expected.0 {
            return Err(Error::mismatch(format!(
                "layer does not match its diff ID: expected {}, unpacked {found} ({} bytes)",
                self.expected, self.read
            )));
        }
        Ok((VerifiedDiff { diff_id: self.expected, size: self.read }, self.reader))
    }
}

impl<R> fmt::Debug for DiffReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiffReader({} bytes of {})", self.read, self.expected)
    }
}

impl<R: Read> Read for DiffReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = read_retrying(&mut self.reader, buffer)?;
        self.hasher.update(&buffer[self.ahead.min(n)..n]);
        self.ahead -= self.ahead.min(n);
        self.read += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for DiffReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.reader.fill_buf()?;
        self.hasher.update(&bytes[self.ahead..]);
        self.ahead = bytes.len();
        Ok(bytes)
    }

    fn consume(&mut self, n: usize) {
        self.reader.consume(n);
        self.ahead -= n;
        self.read += n as u64;
    }
}

/// The proof that a layer's uncompressed bytes match its diff ID. Has no public constructor.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedDiff {
    diff_id: DiffId,
    size: u64,
}

impl VerifiedDiff {
    /// Returns the diff ID that was proven.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }

    /// Returns the number of uncompressed bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}
