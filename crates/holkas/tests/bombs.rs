//! Layers that are small as a blob and large as anything else: time they may take, memory they may not.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::Path;

use holkas::compress::{self, Compression, Decoder};
use holkas::error::ErrorKind;
use holkas::fs::Dir;
use holkas::limits;
use holkas::oci::{Algorithm, Descriptor, MediaType};
use holkas::unpack::{OnDisk, Privilege, Timestamp, UnpackOptions, Unpacked, unpack};
use holkas::verify::UntrustedBlob;
use holkas_testkit::tar::{Entry, FILE, PAX, TarBuilder};

const MIB: u64 = 1 << 20;

/// The greatest resident set since the last call, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    kib << 10
}

/// Runs `what`, which may take `most` bytes of memory beyond what there was.
fn within<T>(most: u64, name: &str, what: impl FnOnce() -> T) -> T {
    peak();
    let before = peak();
    let result = what();
    let taken = peak().saturating_sub(before);
    assert!(taken <= most, "{name} took {} MiB", taken / MIB);
    result
}

/// Unpacks a plain or compressed layer into a new directory.
fn layer(stream: impl Read + Send) -> holkas::Result<Unpacked> {
    layer_in(&std::env::temp_dir(), stream)
}

/// The same in memory, where hundreds of thousands of names are made and removed soon.
fn crowd(stream: impl Read + Send) -> holkas::Result<Unpacked> {
    layer_in(Path::new("/dev/shm"), stream)
}

fn layer_in(parent: &Path, stream: impl Read + Send) -> holkas::Result<Unpacked> {
    let dir = tempfile::tempdir_in(parent).unwrap();
    let (_, mut decoder) = Decoder::new(stream)?;
    let options = UnpackOptions {
        on_disk: OnDisk::Overlay,
        clock: Timestamp { seconds: 0, nanos: 0 },
        privilege: Privilege::Root,
    };
    let mut plain = BufReader::new(&mut decoder);
    let unpacked = unpack(&mut plain, &Dir::open(dir.path())?, &options, None)?;
    decoder.finish()?;
    Ok(unpacked)
}

/// A stream that is made piece by piece, as long as there is a next one.
struct Pieces<F> {
    make: F,
    count: u64,
    piece: Vec<u8>,
    at: usize,
}

fn pieces<F: FnMut(u64) -> Option<Vec<u8>>>(make: F) -> Pieces<F> {
    Pieces { make, count: 0, piece: Vec::new(), at: 0 }
}

impl<F: FnMut(u64) -> Option<Vec<u8>>> Read for Pieces<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match (self.make)(self.count) {
                Some(piece) => (self.piece, self.at, self.count) = (piece, 0, self.count + 1),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// A header with its check sum, made without the builder: millions of them are needed.
fn header(kind: u8, name: &str, uid: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000755");
    block[108..115].copy_from_slice(format!("{uid:07o}").as_bytes());
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(b"00000000000");
    block[136..147].copy_from_slice(b"00000000000");
    block[148..156].fill(b' ');
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A tar of one file of zeros.
fn zeros(bytes: u64) -> impl Read {
    let entry = Entry { size: Some(bytes), ..Entry::new(FILE, "zeros") };
    io::Cursor::new(TarBuilder::new().entry(entry).finish_without_end()).chain(io::repeat(0).take(bytes))
}

fn pack(compression: Compression, stream: &mut impl Read) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut out, bzip2::Compression::best());
            io::copy(stream, &mut encoder).unwrap();
            encoder.finish().unwrap();
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(&mut out, 6);
            io::copy(stream, &mut encoder).unwrap();
            encoder.finish().unwrap();
        }
        _ => {
            let mut encoder = compress::encoder(compression, None, Box::new(&mut out)).unwrap();
            io::copy(stream, &mut encoder).unwrap();
            drop(encoder.finish().unwrap());
        }
    }
    out
}

/// An xz stream whose block says that it needs a dictionary of 4 GiB.
fn greedy_xz() -> Vec<u8> {
    let mut bytes = pack(Compression::Xz, &mut &b"small"[..]);
    assert_eq!(bytes[12..17], [2, 0, 0x21, 1, 0x16], "a block header with one LZMA2 filter and its dictionary size");
    bytes[16] = 40;
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[12..20]);
    bytes[20..24].copy_from_slice(&sum.sum().to_le_bytes());
    bytes
}

/// One test, so that no other one's memory is counted.
#[test]
fn memory_is_bounded_whatever_a_layer_asks_for() {
    // A thousand to one, and more.
    for (compression, most) in [
        (Compression::Gzip, 4 * MIB),
        (Compression::Zstd, 12 * MIB),
        (Compression::Bzip2, 12 * MIB),
        (Compression::Xz, 12 * MIB),
    ] {
        let blob = pack(compression, &mut zeros(100 * MIB));
        assert!(blob.len() < 1 << 20, "{compression:?}: {}", blob.len());
        let unpacked = within(most, compression.name(), || layer(&blob[..]).unwrap());
        assert_eq!(unpacked.entries, 1);
    }

    // A million empty members.
    let empty = pack(Compression::Gzip, &mut io::empty());
    let members = pieces(|n| (n < 1_000_000).then(|| empty.clone()));
    assert_eq!(within(4 * MIB, "empty members", || layer(members).unwrap()).entries, 0);

    // Windows and dictionaries of gigabytes.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    for (name, blob) in [("a zstd window of 2 GiB", window.to_vec()), ("an xz dictionary of 4 GiB", greedy_xz())] {
        let error = within(4 * MIB, name, || layer(&blob[..]).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error}");
        assert!(error.to_string().contains("beyond our limits"), "{name}: {error}");
    }

    // An attribute of 1 GiB.
    let record = Entry { size: Some(1 << 30), ..Entry::new(PAX, "x") };
    let attribute = TarBuilder::new().entry(record).finish_without_end();
    let error = within(4 * MIB, "an attribute", || layer((&attribute[..]).chain(io::repeat(b'x'))).unwrap_err());
    assert!(error.to_string().contains("over the limit"), "{error}");

    // More entries than any layer has. Global headers are entries too, and make no file.
    let entries = pieces(|n| Some(header(b'g', &format!("{n}"), 0)));
    let error = within(72 * MIB, "entries", || layer(entries).unwrap_err());
    assert!(error.to_string().contains(&format!("more than {} entries", limits::LAYER_ENTRIES)), "{error}");

    let owners = pieces(|n| Some(header(b'0', &format!("{}/{n}", n / 1000), n)));
    let error = within(16 * MIB, "owners", || crowd(owners).unwrap_err());
    assert!(error.to_string().contains(&format!("more than {} owners", limits::LAYER_OWNERS)), "{error}");

    let directories = pieces(|n| Some(header(b'5', &format!("{}/{n}", n / 1000), 0)));
    let error = within(96 * MIB, "directories", || crowd(directories).unwrap_err());
    assert!(error.to_string().contains(&format!("more than {} directories", limits::LAYER_DIRECTORIES)), "{error}");
}

/// A stream that never ends stops at the size that its descriptor says.
#[test]
fn what_never_ends_is_read_to_its_size_and_no_further() {
    let descriptor = Descriptor::new(MediaType::new("application/octet-stream"), Algorithm::Sha256.digest(b""), 1000);
    let error = layer(UntrustedBlob::new(io::repeat(0)).verify(&descriptor)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}
