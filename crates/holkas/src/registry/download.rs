//! A blob on its way from a registry: resumed where it broke off, from a mirror or the next if one gives up.
//!
//! What comes is not trusted, and this file hashes nothing: the door above hashes across every seam.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::places::Places;
use super::repository::Opened;
use super::retry::{Attempts, may_pass};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::limits::CHUNK;
use crate::oci::Digest;

/// After so many bytes a failure is a new one. Less is what a server may give again and again that is of no use.
const PROGRESS: u64 = 16 << 10;

/// A blob, readable to its end whatever happens on the way, or an error that says what did.
pub(super) struct Download {
    places: Arc<Places>,
    digest: Digest,
    size: u64,
    /// How many bytes were given to the reader so far, or were there before.
    at: u64,
    /// Where the bytes come from now.
    open: Option<(usize, Box<dyn Read + Send>)>,
    pace: Pace,
    /// Failures in a row at the current place: between two of them came less than [`PROGRESS`].
    failures: u32,
    /// How many bytes came since the last failure.
    came: u64,
    /// Places that gave up in this download, with what they said.
    gone: Vec<(usize, Error)>,
}

impl Download {
    /// Opens a blob of `size` bytes from byte `from` on.
    pub(super) fn open(places: &Arc<Places>, digest: Digest, size: u64, from: u64) -> Result<Self> {
        let timeouts = places.client().settings().timeouts;
        let mut download = Self {
            places: Arc::clone(places),
            digest,
            size,
            at: from,
            open: None,
            pace: Pace::new(timeouts.idle, timeouts.least_rate),
            failures: 0,
            came: 0,
            gone: Vec::new(),
        };
        places.begin(&digest);
        if from < size || size == 0 {
            download.reopen(None)?;
        }
        Ok(download)
    }

    /// Opens the rest of the blob, at the place that has it now if it may go on there, or else at the next.
    ///
    /// `broken` is why it must be opened again.
    fn reopen(&mut self, broken: Option<(usize, Error)>) -> Result<()> {
        let mut broken = broken;
        loop {
            if let Some((place, error)) = broken.take() {
                self.give_up_or_wait(place, error)?;
            }
            let places = Arc::clone(&self.places);
            let Some(place) = places.next_for(&self.digest, |place| self.gone.iter().any(|(gone, _)| *gone == place))
            else {
                return Err(self.all_gone());
            };
            // The client has been patient with the request itself: what it gave up is not asked for again.
            let opened = match places.get(place).repository().open_blob(&self.digest, self.size, self.at) {
                Ok(opened) => opened,
                Err(error) => {
                    self.give_up(place, error)?;
                    continue;
                }
            };
            match self.read_over(opened) {
                Ok(stream) => {
                    self.places.gives(place, &self.digest);
                    self.open = Some((place, stream));
                    return Ok(());
                }
                Err(error) => broken = Some((place, error)),
            }
        }
    }

    /// Waits until the place can be tried again, or notes that it cannot.
    fn give_up_or_wait(&mut self, place: usize, error: Error) -> Result<()> {
        let settings = self.places.client().settings().clone();
        settings.cancel.check()?;
        let another = self.places.len() > self.gone.len() + 1;
        // Patience here is for what breaks off again and again.
        let patience = if another { 1 } else { settings.retry.times };
        if may_pass(&error) && self.failures < patience {
            let error = error.context(self.told(place));
            let mut attempts = Attempts::after(self.failures, settings.retry, &settings.cancel, &*settings.monitor);
            self.failures += 1;
            return attempts.again(error, None);
        }
        self.give_up(place, error)
    }

    /// Notes that a place cannot be tried again.
    fn give_up(&mut self, place: usize, error: Error) -> Result<()> {
        self.places.client().settings().cancel.check()?;
        if self.places.len() > self.gone.len() + 1 {
            let text = format!("{}: {error}; going on with the next place", self.told(place));
            self.places.client().warn(&text);
        }
        self.gone.push((place, error));
        self.failures = 0;
        Ok(())
    }

    fn told(&self, place: usize) -> String {
        let place = self.places.get(place);
        format!("reading blob {} of {} at byte {} of {}", self.digest.short(), place, self.at, self.size)
    }

    /// Returns the error of the last place, with what the others said.
    fn all_gone(&mut self) -> Error {
        let Some((place, error)) = self.gone.pop() else {
            return Error::new(ErrorKind::NotFound, format!("no place is left to read blob {} from", self.digest));
        };
        let place = self.places.get(place);
        self.gone
            .drain(..)
            .rev()
            .fold(error.context(format!("reading blob {} of {place}", self.digest)), |error, (other, why)| {
                error.context(format!("{} failed, too ({why})", self.places.get(other)))
            })
    }

    /// Returns what follows the bytes that are known.
    fn read_over(&self, Opened { response, at }: Opened) -> Result<Box<dyn Read + Send>> {
        let mut stream = response.into_reader();
        // It was asked for the rest only, and has sent all: what is known is read over.
        let mut over = self.at - at;
        let mut buffer = vec![0; CHUNK.min(usize::try_from(over).unwrap_or(CHUNK))];
        while over > 0 {
            let most = buffer.len().min(usize::try_from(over).unwrap_or(usize::MAX));
            match stream.read(&mut buffer[..most]).context(|| "reading over what came before")? {
                0 => return Err(Error::new(ErrorKind::Network, "the connection was closed too early")),
                read => over -= read as u64,
            }
        }
        Ok(Box::new(stream))
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some((place, stream)) = &mut self.open else { return Ok(0) };
            let place = *place;
            let began = Instant::now();
            let read = stream.read(buffer).map_err(Error::from).and_then(|read| match read {
                0 if self.at < self.size && !buffer.is_empty() => {
                    Err(Error::new(ErrorKind::Network, "the connection was closed too early"))
                }
                read => self.pace.keep(read, began.elapsed()).map(|()| read),
            });
            match read {
                Ok(read) => {
                    self.at += read as u64;
                    self.came += read as u64;
                    if self.came >= PROGRESS {
                        self.failures = 0;
                    }
                    return Ok(read);
                }
                Err(error) => {
                    // What is beyond its size is the door's to refuse, and no reason to ask again.
                    if self.at >= self.size {
                        return Ok(0);
                    }
                    self.open = None;
                    self.came = 0;
                    self.reopen(Some((place, error)))?;
                }
            }
        }
    }
}

/// Whether bytes come fast enough, not counting the time in which nobody asks for them.
struct Pace {
    over: Duration,
    least_rate: u64,
    waited: Duration,
    came: u64,
}

impl Pace {
    fn new(over: Duration, least_rate: u64) -> Self {
        Self { over, least_rate, waited: Duration::ZERO, came: 0 }
    }

    fn keep(&mut self, bytes: usize, waited: Duration) -> Result<()> {
        self.waited += waited;
        self.came += bytes as u64;
        if self.waited < self.over {
            return Ok(());
        }
        let (came, waited) = (self.came, self.waited);
        (self.waited, self.came) = (Duration::ZERO, 0);
        if (came as f64) < self.least_rate as f64 * waited.as_secs_f64() {
            let text = format!("the connection stalled: {came} bytes came in {} s", waited.as_secs());
            return Err(Error::new(ErrorKind::Network, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_told_from_stalled() {
        let mut pace = Pace::new(Duration::from_secs(30), 128);
        assert!(pace.keep(4000, Duration::from_secs(29)).is_ok());
        assert!(pace.keep(1, Duration::from_secs(1)).is_ok());
        assert!(pace.keep(1, Duration::from_secs(20)).is_ok());
        assert!(pace.keep(1, Duration::from_secs(20)).is_err());
    }
}
