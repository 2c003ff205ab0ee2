//! Compression: told by magic bytes, undone with bounded memory, made without a trace of the moment.
//!
//! Decompression is all or nothing: a stream that ends too early, or that is followed by anything that is not
//! another member of its kind, is an error and not an end.

pub mod chunked;
mod parallel;

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::ops::RangeInclusive;

use crate::error::{Context, Error, Result};
use crate::limits::{CHUNK, XZ_MEMORY, ZSTD_WINDOW_LOG};
pub use crate::oci::Compression;
pub use parallel::ParallelGzip;

/// The level of zstd that nobody asked for another, and those that there are.
const ZSTD_LEVEL: i32 = 3;
const ZSTD_LEVELS: RangeInclusive<i32> = 1..=19;
/// How many bytes [`detect`] looks at.
const HEAD: usize = 6;

impl Compression {
    /// Returns the name that people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no compression",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Returns how a stream is compressed, by its first six bytes (fewer if it has no more).
///
/// bzip2's three letters could begin the name of a tar's first entry, so the block's own magic is asked for too.
pub fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        // The second form is a skippable frame, with which parallel compressors begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Compression::Xz,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
            Compression::Bzip2
        }
        _ => Compression::None,
    }
}

/// Gives the uncompressed bytes of a stream, whatever it is compressed with.
pub struct Decoder<R> {
    form: Form<R>,
    failed: bool,
}

enum Form<R> {
    Plain(Peeked<R>),
    Gzip(flate2::bufread::MultiGzDecoder<Peeked<R>>),
    Zstd(zstd::stream::read::Decoder<'static, Peeked<R>>),
    Xz(liblzma::bufread::XzDecoder<Peeked<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<Peeked<R>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `reader` and begins to decompress it accordingly. An empty stream is not compressed.
    pub fn new(reader: R) -> io::Result<(Compression, Self)> {
        let mut peeked = Peeked { reader, buffer: vec![0; CHUNK].into_boxed_slice(), start: 0, end: 0 };
        peeked.fill_at_least(HEAD)?;
        let compression = detect(&peeked.buffer[..peeked.end]);
        let form = match compression {
            Compression::None => Form::Plain(peeked),
            Compression::Gzip => Form::Gzip(flate2::bufread::MultiGzDecoder::new(peeked)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(peeked)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Form::Zstd(decoder)
            }
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(io::Error::from)?;
                Form::Xz(liblzma::bufread::XzDecoder::new_stream(peeked, stream))
            }
            Compression::Bzip2 => Form::Bzip2(bzip2::bufread::MultiBzDecoder::new(peeked)),
        };
        Ok((compression, Self { form, failed: false }))
    }
}

impl<R: Read> Decoder<R> {
    /// Reads what is left, makes sure that the compressed stream ends there, and returns the reader below.
    ///
    /// The reader below has then been read to its end too, so that a [`crate::verify::BlobReader`] can prove itself.
    pub fn finish(mut self) -> Result<R> {
        io::copy(&mut self, &mut io::sink())?;
        let compression = self.compression();
        let mut peeked = match self.form {
            Form::Plain(peeked) => peeked,
            Form::Gzip(decoder) => decoder.into_inner(),
            Form::Zstd(decoder) => decoder.finish(),
            Form::Xz(decoder) => decoder.into_inner(),
            Form::Bzip2(decoder) => decoder.into_inner(),
        };
        if !peeked.fill_buf()?.is_empty() {
            return Err(Error::invalid(format!("bytes follow the end of the {} data", compression.name())));
        }
        Ok(peeked.reader)
    }
}

impl<R> Decoder<R> {
    /// Returns how the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self.form {
            Form::Plain(_) => Compression::None,
            Form::Gzip(_) => Compression::Gzip,
            Form::Zstd(_) => Compression::Zstd,
            Form::Xz(_) => Compression::Xz,
            Form::Bzip2(_) => Compression::Bzip2,
        }
    }

    /// Says what is wrong with the data; errors of the reader below stay as they are.
    fn explain(&self, error: io::Error) -> io::Error {
        let ours = error.get_ref().is_some_and(|inner| inner.is::<Error>());
        let of_decoders = matches!(
            error.kind(),
            io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::Other
                | io::ErrorKind::OutOfMemory
        );
        if ours || !of_decoders || error.raw_os_error().is_some() || matches!(self.form, Form::Plain(_)) {
            return error;
        }
        let name = self.compression().name();
        let cause = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("the {name} data ends too early"),
            _ => format!("the {name} data is damaged or beyond our limits: {error}"),
        };
        Error::invalid(cause).into()
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            // Some decoders report an end after an error; a failed stream has none.
            return Err(Error::invalid("reading on after the data turned out to be damaged").into());
        }
        let result = match &mut self.form {
            Form::Plain(reader) => reader.read(buffer),
            Form::Gzip(reader) => reader.read(buffer),
            Form::Zstd(reader) => reader.read(buffer),
            Form::Xz(reader) => reader.read(buffer),
            Form::Bzip2(reader) => reader.read(buffer),
        };
        result.map_err(|error| {
            self.failed = error.kind() != io::ErrorKind::Interrupted;
            self.explain(error)
        })
    }
}

impl<R> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({})", self.compression().name())
    }
}

/// A buffered reader that can be asked for some bytes before it is read.
struct Peeked<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Peeked<R> {
    /// Reads until the buffer holds `count` bytes or the stream ends.
    fn fill_at_least(&mut self, count: usize) -> io::Result<()> {
        while self.end < count {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.fill_at_least(1)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

/// Compresses what is written to it.
pub struct Encoder<'a>(Out<'a>);

type Sink<'a> = Box<dyn Write + Send + 'a>;

enum Out<'a> {
    Plain(Sink<'a>),
    Gzip(flate2::write::GzEncoder<Sink<'a>>),
    Zstd(zstd::stream::write::Encoder<'static, Sink<'a>>),
}

/// Begins to compress into `out`. The bytes depend on nothing but the input, `compression` and `level`.
///
/// Without a level it is the format's own default: gzip 6 (of 0 to 9), zstd 3 (of 1 to 19).
/// zstd's levels 20 to 22 take windows of up to 128 MiB from everybody who reads the layer, and are not offered.
/// xz and bzip2 are read only: no image format has such layers.
pub fn encoder<'a>(
    compression: Compression,
    level: Option<i32>,
    out: Box<dyn Write + Send + 'a>,
) -> Result<Encoder<'a>> {
    Ok(Encoder(match compression {
        Compression::None => Out::Plain(out),
        Compression::Gzip => {
            let level = flate2::Compression::new(self::level("gzip", level.unwrap_or(6), 0..=9)?.unsigned_abs());
            // mtime 0 and an unknown system are flate2's defaults; they are said here because bytes depend on them.
            Out::Gzip(flate2::GzBuilder::new().mtime(0).operating_system(255).write(out, level))
        }
        Compression::Zstd => {
            let frame = || "starting zstd compression";
            let level = self::level("zstd", level.unwrap_or(ZSTD_LEVEL), ZSTD_LEVELS)?;
            let mut encoder = zstd::stream::write::Encoder::new(out, level).context(frame)?;
            encoder.include_checksum(true).context(frame)?;
            Out::Zstd(encoder)
        }
        Compression::Xz | Compression::Bzip2 => {
            return Err(Error::unsupported(format!("layers cannot be written with {}", compression.name()))
                .hint("gzip and zstd can be written"));
        }
    }))
}

/// Returns the level, if it is one.
fn level(name: &str, level: i32, levels: RangeInclusive<i32>) -> Result<i32> {
    if levels.contains(&level) {
        return Ok(level);
    }
    Err(Error::invalid(format!("{name} has no compression level {level}")).hint(format!(
        "its levels are {} to {}",
        levels.start(),
        levels.end()
    )))
}

impl<'a> Encoder<'a> {
    /// Ends the compressed stream and returns what it was written to.
    pub fn finish(self) -> Result<Box<dyn Write + Send + 'a>> {
        let frame = || "writing compressed data";
        match self.0 {
            Out::Plain(out) => Ok(out),
            Out::Gzip(encoder) => encoder.finish().context(frame),
            Out::Zstd(encoder) => encoder.finish().context(frame),
        }
    }
}

impl Write for Encoder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Out::Plain(out) => out.write(bytes),
            Out::Gzip(out) => out.write(bytes),
            Out::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Out::Plain(out) => out.flush(),
            Out::Gzip(out) => out.flush(),
            Out::Zstd(out) => out.flush(),
        }
    }
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}
