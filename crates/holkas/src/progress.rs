//! The library's only voice: what a run tells while it works, and how it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// The image is staged at the destination; it gets its names when the whole run commits.
    ImageFinished { image: &'a str },
    /// What has been staged is now being synced and named.
    Committing,
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

/// A flag that stops a run: set by Ctrl-C or by a sibling's first error, checked wherever bytes are read.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks everything that holds this flag to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns an error of kind `Cancelled` once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
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
