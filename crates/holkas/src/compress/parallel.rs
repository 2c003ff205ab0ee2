//! gzip by several threads: one stream, whose bytes do not depend on how many threads there are.
//!
//! The input is cut into pieces of a fixed length, each of which is deflated by itself and ends on a byte's border.
//! Put together they are one deflate stream, and with header and checksum one member, as any reader expects it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Crc, FlushCompress, Status};

use crate::error::{Context, Error, Result};

/// The length of a piece. What it cannot refer back to costs a thousandth of the size.
const PIECE: usize = 1 << 20;
/// gzip's own level.
const LEVEL: u32 = 6;
/// The member's header: deflate, no name, no time, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it. Dropped without [`ParallelGzip::finish`], it leaves a stream without an end.
pub struct ParallelGzip<W: Write> {
    out: W,
    piece: Vec<u8>,
    checksum: Crc,
    /// `None` once there is nothing more to come.
    to_workers: Option<SyncSender<Job>>,
    /// The pieces that are being compressed, in their order.
    coming: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: usize,
    workers: Vec<JoinHandle<()>>,
}

struct Job {
    piece: Vec<u8>,
    end: FlushCompress,
    done: Sender<io::Result<Vec<u8>>>,
}

impl<W: Write> ParallelGzip<W> {
    /// Begins a stream that so many threads, one at least, compress.
    pub fn new(mut out: W, threads: usize) -> Result<Self> {
        out.write_all(&HEADER).context(|| "writing compressed data")?;
        let threads = threads.max(1);
        let (to_workers, jobs) = sync_channel::<Job>(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = (0..threads).map(|_| {
            std::thread::spawn({
                let jobs = Arc::clone(&jobs);
                move || work(&jobs)
            })
        });
        Ok(Self {
            out,
            piece: Vec::with_capacity(PIECE),
            checksum: Crc::new(),
            to_workers: Some(to_workers),
            coming: VecDeque::new(),
            threads,
            workers: workers.collect(),
        })
    }

    /// Ends the stream and returns what it was written to.
    pub fn finish(mut self) -> Result<W> {
        let frame = || "writing compressed data";
        self.hand_out(FlushCompress::Finish).context(frame)?;
        while !self.coming.is_empty() {
            self.take_one().context(frame)?;
        }
        self.to_workers = None;
        for worker in self.workers {
            worker.join().map_err(|_| Error::invalid("a thread panicked; this is a defect of holkas"))?;
        }
        let length = self.checksum.amount();
        self.out.write_all(&[self.checksum.sum().to_le_bytes(), length.to_le_bytes()].concat()).context(frame)?;
        Ok(self.out)
    }

    fn hand_out(&mut self, end: FlushCompress) -> io::Result<()> {
        // Bounded: as many pieces wait as threads work on.
        while self.coming.len() >= 2 * self.threads {
            self.take_one()?;
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.checksum.update(&piece);
        let (done, coming) = channel();
        let to_workers = self.to_workers.as_ref().expect("they end when all was handed out");
        to_workers.send(Job { piece, end, done }).map_err(|_| gone())?;
        self.coming.push_back(coming);
        Ok(())
    }

    fn take_one(&mut self) -> io::Result<()> {
        match self.coming.pop_front() {
            Some(first) => self.out.write_all(&first.recv().map_err(|_| gone())??),
            None => Ok(()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses panicked; this is a defect of holkas")
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { piece, end, done }) = job else { return };
        if done.send(deflate(&piece, end)).is_err() {
            // Who wanted it has failed.
            return;
        }
    }
}

fn deflate(piece: &[u8], end: FlushCompress) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(flate2::Compression::new(LEVEL), false);
    let mut out = Vec::with_capacity(piece.len() / 2 + 64);
    loop {
        let read = usize::try_from(compress.total_in()).expect("it is within the piece");
        let status = compress.compress_vec(&piece[read..], &mut out, end).map_err(io::Error::other)?;
        // Room that is left means that all came out that was to come.
        let all = compress.total_in() == piece.len() as u64 && out.len() < out.capacity();
        match (end, status) {
            (FlushCompress::Finish, Status::StreamEnd) => return Ok(out),
            (FlushCompress::Finish, _) => {}
            _ if all => return Ok(out),
            _ => {}
        }
        out.reserve(piece.len() / 8 + 1024);
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE {
            self.hand_out(FlushCompress::Sync)?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> std::fmt::Debug for ParallelGzip<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ParallelGzip({} threads)", self.threads)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::compress::{Compression, Decoder};

    /// Bytes of which some repeat and some do not.
    fn mixed(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match state >> 62 {
                0 => bytes.extend_from_slice(&state.to_le_bytes()),
                _ => bytes.extend_from_slice(b"what repeats, repeats"),
            }
        }
        bytes.truncate(length);
        bytes
    }

    fn compressed(bytes: &[u8], threads: usize) -> Vec<u8> {
        let mut gzip = ParallelGzip::new(Vec::new(), threads).expect("threads can be started");
        gzip.write_all(bytes).expect("memory takes it");
        gzip.finish().expect("memory takes it")
    }

    #[test]
    fn it_is_one_member_whatever_the_threads() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 77] {
            let bytes = mixed(length);
            let one = compressed(&bytes, 1);
            for threads in [2, 7] {
                assert!(one == compressed(&bytes, threads), "{length} bytes, {threads} threads");
            }
            // This decoder reads one member, and leaves what follows it.
            let mut single = flate2::bufread::GzDecoder::new(&one[..]);
            let mut back = Vec::new();
            single.read_to_end(&mut back).expect("it is gzip");
            assert!(back == bytes && single.into_inner().is_empty(), "{length}");
            let (compression, mut ours) = Decoder::new(&one[..]).expect("it is gzip");
            back.clear();
            ours.read_to_end(&mut back).expect("it is whole");
            assert_eq!(compression, Compression::Gzip);
            assert!(back == bytes && ours.finish().expect("it is whole").is_empty(), "{length}");
        }
    }

    #[test]
    fn an_output_that_fails_is_told() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = ParallelGzip::new(Full(1000), 3).expect("threads can be started");
        let written = gzip.write_all(&mixed(20 * PIECE));
        assert!(written.is_err() || gzip.finish().is_err());
    }
}
