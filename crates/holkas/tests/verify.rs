//! The door: every check is lied to. And compression, which stands right behind it.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex};

use holkas::ErrorKind;
use holkas::compress::{self, Compression, Decoder};
use holkas::limits::{Limit, MANIFEST};
use holkas::oci::{Algorithm, Descriptor, DiffId, Digest, MediaType};
use holkas::progress::Cancel;
use holkas::verify::{BlobReader, DiffReader, Keep, PartialBlob, Unproven, UntrustedBlob, Verified};
use holkas_testkit::oddities::pattern;

const BODY: &[u8] = b"the bytes that were promised";

fn digest(bytes: &[u8]) -> Digest {
    Algorithm::Sha256.digest(bytes)
}

fn described(digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(MediaType::new("application/octet-stream"), digest, size)
}

fn honest() -> Descriptor {
    described(digest(BODY), BODY.len() as u64)
}

/// Gives bytes in pieces of `step`, then fails if anybody asks for more than `allowed` in all.
struct Drip {
    bytes: Vec<u8>,
    step: usize,
    allowed: usize,
    given: usize,
}

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.len() - self.given;
        let n = self.step.min(left).min(buffer.len());
        buffer[..n].copy_from_slice(&self.bytes[self.given..self.given + n]);
        self.given += n;
        assert!(self.given <= self.allowed, "more was read than was promised");
        Ok(n)
    }
}

/// Never ends.
struct Endless;

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    }
}

fn read_all(mut reader: BlobReader) -> holkas::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(holkas::Error::from)?;
    reader.finish()?;
    Ok(bytes)
}

#[test]
fn honest_blobs_pass() {
    for step in [1, 7, BODY.len(), 4096] {
        let drip = Drip { bytes: BODY.to_vec(), step, allowed: BODY.len(), given: 0 };
        assert_eq!(read_all(UntrustedBlob::new(drip).verify(&honest())).expect("honest"), BODY);
    }
    let empty = described(digest(b""), 0);
    assert_eq!(read_all(UntrustedBlob::from_bytes(Vec::new()).verify(&empty)).expect("empty"), b"");
    let wide = described(Algorithm::Sha512.digest(BODY), BODY.len() as u64);
    assert_eq!(read_all(UntrustedBlob::from_bytes(BODY.to_vec()).verify(&wide)).expect("sha512"), BODY);
    let unread = UntrustedBlob::from_bytes(BODY.to_vec()).verify(&honest());
    assert_eq!(unread.finish().expect("drained").descriptor(), &honest());
}

#[test]
fn lying_blobs_do_not() {
    let mut wrong = BODY.to_vec();
    wrong[3] ^= 1;
    let more = [BODY, b"!"].concat();
    let length = BODY.len() as u64;
    #[allow(clippy::type_complexity, reason = "a table with one row a case")]
    let cases: [(&str, Box<dyn Read + Send>, Descriptor, ErrorKind, &str); 8] = [
        ("short", Box::new(io::Cursor::new(BODY[..9].to_vec())), honest(), ErrorKind::Mismatch, "shorter"),
        ("nothing", Box::new(io::empty()), honest(), ErrorKind::Mismatch, "shorter"),
        ("long", Box::new(io::Cursor::new(more)), honest(), ErrorKind::Mismatch, "longer"),
        ("wrong byte", Box::new(io::Cursor::new(wrong)), honest(), ErrorKind::Mismatch, "does not match"),
        (
            "wrong digest",
            Box::new(io::Cursor::new(BODY.to_vec())),
            described(digest(b"other"), length),
            ErrorKind::Mismatch,
            "does not match",
        ),
        ("endless", Box::new(Endless), honest(), ErrorKind::Mismatch, "longer"),
        ("not empty", Box::new(Endless), described(digest(b""), 0), ErrorKind::Mismatch, "longer"),
        ("broken", Box::new(Broken), honest(), ErrorKind::Io, "reset"),
    ];
    for (what, reader, descriptor, kind, why) in cases {
        let error = read_all(UntrustedBlob::new(reader).verify(&descriptor)).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
}

/// No byte beyond the promised size reaches the caller, and only one is read to know.
#[test]
fn no_more_than_promised() {
    let drip = Drip { bytes: [BODY, &[0]].concat(), step: 8192, allowed: BODY.len() + 1, given: 0 };
    let mut reader = UntrustedBlob::new(drip).verify(&honest());
    let mut buffer = [0; 8192];
    assert_eq!(reader.read(&mut buffer).expect("the promised bytes"), BODY.len());
    assert!(reader.read(&mut buffer).is_err());
    assert!(reader.finish().is_err(), "an error is not forgotten");
}

#[test]
fn limits_and_cancel() {
    let limit = Limit { bytes: 8, what: "test" };
    let error = UntrustedBlob::new(Endless).read_verified(&honest(), limit).expect_err("over the limit");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = UntrustedBlob::new(Endless).identify(Algorithm::Sha256, None, MANIFEST).expect_err("endless");
    assert!(error.to_string().contains("over the limit"), "{error}");
    let huge = described(digest(BODY), u64::MAX);
    assert!(UntrustedBlob::from_bytes(BODY.to_vec()).read_verified(&huge, MANIFEST).is_err());

    let found = UntrustedBlob::from_bytes(BODY.to_vec()).identify(Algorithm::Sha256, None, MANIFEST).expect("a name");
    assert_eq!(found.digest(), &digest(BODY));
    let matching = |expected: Digest| UntrustedBlob::from_bytes(BODY.to_vec()).read_matching(&expected, None, MANIFEST);
    assert!(matching(digest(BODY)).is_ok());
    assert_eq!(matching(digest(b"x")).expect_err("another").kind(), ErrorKind::Mismatch);

    let cancel = Cancel::default();
    let reader = UntrustedBlob::new(Endless).verify(&described(digest(b""), u64::MAX)).cancelled_by(&cancel);
    cancel.cancel();
    assert_eq!(read_all(reader).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    let reader = UntrustedBlob::new(Endless).verify_diff(DiffId(digest(b"")), None).cancelled_by(&cancel);
    assert_eq!(reader.finish().map(|_| ()).expect_err("cancelled").kind(), ErrorKind::Cancelled);
}

#[test]
fn diff_ids() {
    let (proof, _) = DiffReader::new(BODY, DiffId(digest(BODY))).finish().expect("honest");
    assert_eq!(proof.size(), BODY.len() as u64);
    let error = DiffReader::new(BODY, DiffId(digest(b"x"))).finish().map(|_| ()).expect_err("another");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let lie = UntrustedBlob::new(Endless).verify_diff(DiffId(digest(BODY)), Some(10));
    assert!(lie.finish().map(|_| ()).expect_err("longer").to_string().contains("longer"));
}

/// What a keeper was told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Told {
    bytes: Vec<u8>,
    end: Option<Result<Digest, Unproven>>,
}

struct Keeper(Arc<Mutex<Told>>);

impl Keeper {
    fn end(&self, end: Result<Digest, Unproven>) {
        assert_eq!(self.0.lock().unwrap().end.replace(end), None, "told twice");
    }
}

impl Keep for Keeper {
    fn take(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap().bytes.extend(bytes);
    }

    fn proven(self: Box<Self>, proof: &Verified) {
        self.end(Ok(proof.descriptor().digest));
    }

    fn unproven(self: Box<Self>, why: Unproven) {
        self.end(Err(why));
    }
}

fn told(reader: impl Read + Send + 'static, read: impl FnOnce(BlobReader)) -> Told {
    let told = Arc::default();
    read(UntrustedBlob::new(reader).kept_by(Keeper(Arc::clone(&told))).verify(&honest()));
    let told = told.lock().unwrap();
    told.clone()
}

#[test]
fn a_keeper_takes_every_byte_and_is_told_once_how_it_ended() {
    let all = |reader: BlobReader| drop(read_all(reader));
    let kept = |bytes: &[u8], end| Told { bytes: bytes.to_vec(), end: Some(end) };
    assert_eq!(told(BODY, all), kept(BODY, Ok(digest(BODY))));
    assert_eq!(told(BODY, |reader| drop(reader.finish())), kept(BODY, Ok(digest(BODY))));
    let beginning = PartialBlob::new(BODY, 9);
    assert_eq!(beginning.length(), 9);
    let whole = Arc::default();
    let resumed = beginning.followed_by(&BODY[9..]).kept_by(Keeper(Arc::clone(&whole)));
    assert_eq!(resumed.read_verified(&honest(), MANIFEST).unwrap().bytes(), BODY);
    assert_eq!(*whole.lock().unwrap(), kept(BODY, Ok(digest(BODY))));

    let mut wrong = BODY.to_vec();
    wrong[3] ^= 1;
    assert_eq!(told(io::Cursor::new(wrong.clone()), all), kept(&wrong, Err(Unproven::Refuted)));
    assert_eq!(told(&BODY[..9], all), kept(&BODY[..9], Err(Unproven::Refuted)));
    assert_eq!(told(BODY.chain(&b"!"[..]), all), kept(BODY, Err(Unproven::Refuted)));
    assert_eq!(told((&BODY[..9]).chain(Broken), all), kept(&BODY[..9], Err(Unproven::Interrupted)));
    assert_eq!(told(BODY.chain(Broken), all), kept(BODY, Err(Unproven::Interrupted)));
    assert_eq!(told(BODY, drop), kept(b"", Err(Unproven::Abandoned)));
    let cancelled = |reader: BlobReader| {
        let cancel = Cancel::default();
        let mut reader = reader.cancelled_by(&cancel);
        reader.read_exact(&mut [0; 4]).unwrap();
        cancel.cancel();
        assert!(reader.finish().is_err());
    };
    assert_eq!(told(BODY, cancelled), kept(&BODY[..4], Err(Unproven::Interrupted)));
}

/// A beginning is hashed like everything else, and one that was shortened does not shift what follows unseen.
#[test]
fn a_beginning_is_not_trusted() {
    let mut wrong = BODY[..9].to_vec();
    wrong[0] ^= 1;
    for beginning in [wrong, BODY[..8].to_vec()] {
        let blob = PartialBlob::new(io::Cursor::new(beginning), 9).followed_by(&BODY[9..]);
        assert_eq!(read_all(blob.verify(&honest())).expect_err("a lie").kind(), ErrorKind::Mismatch);
    }
    let blob = PartialBlob::new(BODY, 9).followed_by(io::empty());
    assert_eq!(read_all(blob.verify(&honest())).expect_err("no more than it said").kind(), ErrorKind::Mismatch);
}

#[test]
fn every_byte_of_a_diff_is_hashed_once_however_it_is_read() {
    for looked_at in 0..=BODY.len() {
        for capacity in [1, 5, 100] {
            let mut diff = DiffReader::new(io::BufReader::with_capacity(capacity, BODY), DiffId(digest(BODY)));
            let mut left = looked_at;
            while left > 0 {
                diff.fill_buf().expect("honest");
                let length = diff.fill_buf().expect("honest, looked at again").len();
                // Some is looked at, but read and not consumed, and some is never asked for.
                let length = length.min(left);
                diff.consume(length - length / 2);
                diff.read_exact(&mut vec![0; length / 2]).expect("honest");
                left -= length;
            }
            diff.fill_buf().expect("honest");
            let (proof, _) = diff.finish().expect("honest");
            assert_eq!(proof.size(), BODY.len() as u64);
        }
    }
    let mut lie = DiffReader::new(BODY, DiffId(digest(b"x")));
    let length = lie.fill_buf().expect("not known yet").len();
    lie.consume(length);
    assert_eq!(lie.finish().map(|_| ()).expect_err("another").kind(), ErrorKind::Mismatch);
}

fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Xz => liblzma_write(&mut out, bytes),
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut out, bzip2::Compression::best());
            encoder.write_all(bytes).expect("bzip2");
            encoder.finish().expect("bzip2");
        }
        _ => {
            let mut encoder = compress::encoder(compression, None, Box::new(&mut out)).expect("an encoder");
            encoder.write_all(bytes).expect("written");
            drop(encoder.finish().expect("finished"));
        }
    }
    out
}

fn liblzma_write(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut encoder = liblzma::write::XzEncoder::new(out, 6);
    encoder.write_all(bytes).expect("xz");
    encoder.finish().expect("xz");
}

fn unpacked(bytes: &[u8]) -> holkas::Result<(Compression, Vec<u8>)> {
    let drip = Drip { bytes: bytes.to_vec(), step: 3, allowed: usize::MAX, given: 0 };
    let (compression, mut decoder) = Decoder::new(drip)?;
    let mut out = Vec::new();
    decoder.read_to_end(&mut out).map_err(holkas::Error::from)?;
    let drip = decoder.finish()?;
    assert_eq!(drip.given, bytes.len(), "the reader below is read to its end");
    Ok((compression, out))
}

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

#[test]
fn every_compression_is_undone() {
    let big: Vec<u8> = pattern(400_000);
    for body in [BODY, &big[..]] {
        for compression in ALL {
            let one = packed(compression, body);
            assert_eq!(unpacked(&one).expect("one"), (compression, body.to_vec()), "{compression:?}");
            let two = [one.clone(), one].concat();
            assert_eq!(unpacked(&two).expect("two").1, [body, body].concat(), "{compression:?}: two members");
        }
    }
    for compression in &ALL[1..] {
        let empty = packed(*compression, b"");
        assert_eq!(unpacked(&empty).expect("empty"), (*compression, Vec::new()));
    }
    assert_eq!(unpacked(b"").expect("nothing"), (Compression::None, Vec::new()));
    assert_eq!(unpacked(b"BZh9 is a fine file name").expect("a tar may begin so").0, Compression::None);
}

#[test]
fn damaged_compression_is_an_error() {
    for compression in &ALL[1..] {
        let whole = packed(*compression, &pattern(100_000));
        for cut in [whole.len() - 1, whole.len() - 5, whole.len() / 2, 7] {
            let error = unpacked(&whole[..cut]).expect_err("cut off");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{compression:?} cut at {cut}: {error}");
        }
        for garbage in [&b"garbage"[..], b"\0\0\0\0\0\0\0", b"x", &whole[..4]] {
            let error = unpacked(&[&whole, garbage].concat()).expect_err("garbage behind it");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{compression:?}: {error}");
        }
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        // A flipped byte is found by the decoder, or at the latest by its check sum.
        assert_eq!(unpacked(&flipped).expect_err("flipped").kind(), ErrorKind::Invalid, "{compression:?}");
    }
}

#[test]
fn errors_below_stay_what_they_are() {
    let whole = packed(Compression::Gzip, &pattern(1 << 20));
    let descriptor = described(digest(b"another"), whole.len() as u64);
    let blob = UntrustedBlob::from_bytes(whole).verify(&descriptor);
    let (_, decoder) = Decoder::new(blob).expect("a decoder");
    assert_eq!(decoder.finish().map(|_| ()).expect_err("a mismatch").kind(), ErrorKind::Mismatch);
    let short = Decoder::new((&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..]).chain(Broken)).expect("a header").1;
    assert_eq!(short.finish().map(|_| ()).expect_err("broken").kind(), ErrorKind::Io);
}

/// E: a decoder that fails does not later report an end, and windows are bounded.
#[test]
fn bombs_and_stubborn_readers() {
    let mut whole = packed(Compression::Gzip, BODY);
    let last = whole.len() - 1;
    whole[last] ^= 1;
    let (_, mut decoder) = Decoder::new(&whole[..]).expect("a decoder");
    let mut out = Vec::new();
    assert!(decoder.read_to_end(&mut out).is_err());
    assert!(decoder.read(&mut [0; 8]).is_err(), "still an error");

    // A frame header that asks for a window of 2 GiB.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert_eq!(unpacked(&window).expect_err("a window beyond the limit").kind(), ErrorKind::Invalid);
    // A million empty members take time, but no memory.
    let empty = packed(Compression::Gzip, b"");
    assert_eq!(unpacked_fast(&empty.repeat(100_000)), 0);
    // 1000:1.
    assert_eq!(unpacked_fast(&packed(Compression::Gzip, &vec![0; 64 << 20])), 64 << 20);
}

fn unpacked_fast(bytes: &[u8]) -> u64 {
    let (_, mut decoder) = Decoder::new(bytes).expect("a decoder");
    let count = io::copy(&mut decoder, &mut io::sink()).expect("good data");
    decoder.finish().expect("an end");
    count
}

#[test]
fn compressed_bytes_are_the_same_each_time() {
    let body = pattern(1 << 20);
    for compression in [Compression::Gzip, Compression::Zstd] {
        assert_eq!(packed(compression, &body), packed(compression, &body), "{compression:?}");
    }
    assert_eq!(packed(Compression::Gzip, BODY)[3..10], [0, 0, 0, 0, 0, 0, 255], "no time, no name, no system");
    for (compression, level) in
        [(Compression::Gzip, 10), (Compression::Gzip, -1), (Compression::Zstd, 0), (Compression::Zstd, 20)]
    {
        let result = compress::encoder(compression, Some(level), Box::new(io::sink()));
        assert_eq!(result.map(|_| ()).expect_err("no such level").kind(), ErrorKind::Invalid);
    }
    for compression in [Compression::Xz, Compression::Bzip2] {
        let result = compress::encoder(compression, None, Box::new(io::sink()));
        assert_eq!(result.map(|_| ()).expect_err("read only").kind(), ErrorKind::Unsupported);
    }
}
