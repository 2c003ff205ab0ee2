//! One stream of bytes for several readers, each in a thread of its own: bounded buffers, shared and used again.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::error::{Error, Result};
use crate::limits::CHUNK;

/// Buffers that may wait for one reader.
const WAITING: usize = 4;

type Shared = Arc<Vec<u8>>;

/// The end that gives bytes.
pub(crate) struct Source {
    readers: Vec<SyncSender<io::Result<Shared>>>,
    used: Receiver<Vec<u8>>,
}

/// An end that takes them.
pub(crate) struct Reader {
    /// The stream ends with an empty buffer; a source that is gone without one has failed.
    waiting: Receiver<io::Result<Shared>>,
    used: Sender<Vec<u8>>,
    chunk: Shared,
    at: usize,
    ended: bool,
}

/// Makes a source and those that read it.
pub(crate) fn fan_out<const N: usize>() -> (Source, [Reader; N]) {
    let (give_back, used) = channel();
    let mut readers = Vec::new();
    let all = std::array::from_fn(|_| {
        let (full, waiting) = sync_channel(WAITING);
        readers.push(full);
        Reader { waiting, used: give_back.clone(), chunk: Shared::default(), at: 0, ended: false }
    });
    (Source { readers, used }, all)
}

impl Source {
    /// Reads `stream` to its end and gives its bytes to all readers, who hear of an error too.
    ///
    /// # Errors
    ///
    /// That of the stream; `Cancelled` if a reader is gone.
    pub(crate) fn give_all(&self, stream: &mut impl Read) -> Result<()> {
        let result = self.give(stream);
        if let Err(error) = &result {
            for reader in &self.readers {
                // Who is gone has an error of its own.
                let _gone = reader.send(Err(error.duplicate().into()));
            }
        }
        result
    }

    fn give(&self, stream: &mut impl Read) -> Result<()> {
        loop {
            let mut chunk = self.used.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let length = fill(stream, &mut chunk)?;
            chunk.truncate(length);
            let chunk = Arc::new(chunk);
            for reader in &self.readers {
                reader.send(Ok(Arc::clone(&chunk))).map_err(|_| Error::cancelled())?;
            }
            if length == 0 {
                return Ok(());
            }
        }
    }
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() && !self.ended {
            let next = self.waiting.recv().map_err(|_| Error::cancelled())??;
            self.ended = next.is_empty();
            let read = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            // The last who has read it gives it back; the source may have finished, and then nobody needs it.
            if let Some(buffer) = Arc::into_inner(read) {
                let _unneeded = self.used.send(buffer);
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Error::mismatch("no more").into())
        }
    }

    fn all(mut reader: Reader) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn both_readers_get_every_byte() {
        let bytes: Vec<u8> = (0..10 * CHUNK + 7).map(|n| (n % 251) as u8).collect();
        let (source, [one, other]) = fan_out();
        std::thread::scope(|scope| {
            let one = scope.spawn(|| all(one));
            let other = scope.spawn(|| all(other));
            source.give_all(&mut &bytes[..]).expect("both read");
            for reader in [one, other] {
                assert_eq!(reader.join().expect("it does not panic").expect("no error"), bytes);
            }
        });
    }

    #[test]
    fn both_readers_hear_of_an_error() {
        let (source, [one, other]) = fan_out();
        std::thread::scope(|scope| {
            let readers = [scope.spawn(|| all(one)), scope.spawn(|| all(other))];
            let bytes = vec![1; CHUNK];
            let error = source.give_all(&mut (&bytes[..]).chain(Fails)).expect_err("the stream fails");
            assert_eq!(error.to_string(), "no more");
            for reader in readers {
                let error = reader.join().expect("it does not panic").expect_err("it hears of it");
                assert_eq!(error.to_string(), "no more");
            }
        });
    }

    #[test]
    fn a_source_that_never_began_is_an_error_and_not_an_end() {
        let (source, [one, _other]) = fan_out();
        drop(source);
        all(one).expect_err("the stream did not end");
    }

    #[test]
    fn a_reader_that_leaves_stops_the_other_with_an_error_and_not_an_end() {
        let (source, [one, other]) = fan_out();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| all(one));
            drop(other);
            source.give_all(&mut io::repeat(1)).expect_err("nobody reads it");
            reader.join().expect("it does not panic").expect_err("the stream did not end");
        });
    }
}
