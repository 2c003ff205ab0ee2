//! The library's only voice: what a run tells while it works, and how it is told to stop.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Something that happened in a run. Texts are printable as they are; `bytes` are compressed bytes.
#[allow(missing_docs, reason = "each variant's line says what its fields are")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Work on an image has begun; `image` is its reference as the user wrote it.
    ImageStarted { image: &'a str, layers: usize, bytes: u64 },
    /// A layer (blob digest) of `bytes` compressed bytes has begun.
    LayerStarted { image: &'a str, digest: &'a str, bytes: u64 },
    /// `bytes` more compressed bytes of a layer have been read.
    LayerAdvanced { digest: &'a str, bytes: u64 },
    /// A layer is at the destination.
    LayerFinished { digest: &'a str, bytes: u64, reused: bool },
    /// So many signatures of the image that was just begun go along.
    SignaturesFound { image: &'a str, signatures: usize },
    /// A new signature is made, by a kind of signer.
    Signing { signer: &'a str },
    /// All layers are at the destination; `config` (blob digest) and the manifest with its signatures follow.
    LayersFinished { image: &'a str, config: &'a str },
    /// Work on a list has begun: `images` of its `of` entries are copied.
    ListStarted { images: usize, of: usize },
    /// Work on an entry (manifest digest) of a list has begun, the `number`th of `of`.
    InstanceStarted { digest: &'a str, number: usize, of: usize },
    /// The list itself follows: all that is copied of it is staged.
    InstancesFinished,
    /// The image is staged at the destination; it gets its names when the whole run commits.
    ImageFinished { image: &'a str },
    /// Something that belongs to the manifest `subject` is staged: a manifest with its blobs. `kind` is its type or tag.
    ReferrerFinished { subject: &'a str, digest: &'a str, kind: &'a str },
    /// What has been staged is now being synced and named.
    Committing,
    /// One of many images is looked at, and copied if need be; in a `dry` run it only would be.
    SyncStarted { source: &'a str, destination: &'a str, number: usize, of: usize, dry: bool },
    /// It was at its destination already.
    SyncPresent { destination: &'a str },
    /// It failed, and the run goes on.
    SyncFailed { source: &'a str, error: &'a str },
    /// All images are done: so many of them, from so many repositories or directories, did not fail.
    SyncFinished { images: usize, sources: usize, dry: bool },
    /// Something failed that may work the next time: it is tried again after `wait`, for the `number`th of `of` times.
    Retrying { error: &'a str, wait: Duration, number: u32, of: u32 },
    /// Something the user should know that is no failure.
    Warning { text: &'a str },
}

/// Hears what happens. Called from many threads.
pub trait Monitor: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event<'_>);
}

/// A monitor that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// A flag that stops a run: set by Ctrl-C, checked wherever bytes are read, and told to those who wait elsewhere.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    set: AtomicBool,
    /// What ends waits that no flag can end: of sockets, for example.
    ends: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    asleep: Condvar,
}

impl Cancel {
    /// Asks everything that holds this flag to stop.
    pub fn cancel(&self) {
        let mut ends = self.0.lock();
        self.0.set.store(true, Ordering::Relaxed);
        self.0.asleep.notify_all();
        for end in ends.drain(..) {
            end();
        }
    }

    /// Returns an error of kind `Cancelled` once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.0.set.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Has `end` called once when the run is cancelled; at once if it was.
    pub fn when_cancelled(&self, end: impl FnOnce() + Send + 'static) {
        let mut ends = self.0.lock();
        if self.0.set.load(Ordering::Relaxed) {
            end();
        } else {
            ends.push(Box::new(end));
        }
    }

    /// Sleeps, but no longer than until the run is cancelled, which is an error of kind `Cancelled`.
    pub fn sleep(&self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        let mut ends = self.0.lock();
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            ends = self.0.asleep.wait_timeout(ends, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Waiting {
    /// What ends a wait may panic and leave the rest in order.
    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn FnOnce() + Send>>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.0.set.load(Ordering::Relaxed))
    }
}

/// How many bytes of a stream were read: counted by who reads, looked at by who tells.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts bytes that were just read.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the number of bytes so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_run_wakes_who_sleeps_and_ends_what_waits() {
        let cancel = Cancel::default();
        let ended = Counter::default();
        let count = ended.clone();
        cancel.when_cancelled(move || count.add(1));
        assert!(cancel.sleep(Duration::ZERO).is_ok());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| cancel.sleep(Duration::from_secs(3600)));
            cancel.cancel();
            assert!(sleeper.join().expect("it does not panic").is_err());
        });
        let count = ended.clone();
        cancel.when_cancelled(move || count.add(1));
        cancel.cancel();
        assert_eq!(ended.get(), 2);
    }
}
