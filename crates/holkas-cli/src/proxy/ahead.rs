//! Reads layers of registries ahead: what a client that takes one layer after the other will ask for next.
//!
//! The protocol lets it ask only once it has finished the layer before. As the kernel does with files, we read ahead only
//! where requests follow each other, one layer at first and more with each that was guessed right, so that a client that
//! needs few of an image's layers, or only its manifest, costs nobody a download. See docs/image-proxy.md.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holkas::image::{ImageSource, Layer};
use holkas::oci::Digest;
use holkas::progress::Cancel;

use super::body::Blob;
use super::failure::Failure;
use super::spool::Spool;

/// Bytes of layers that are held in files at once: some layers of usual size. Larger ones are not read ahead.
const SPOOLED: u64 = 256 << 20;
/// Layers ahead at most.
const FARTHEST: usize = 8;
/// Layers that are read at once, beside the one that the client reads.
const THREADS: usize = 2;

/// What was read ahead, and what that is guessed from.
#[derive(Debug)]
pub(super) struct Ahead {
    scratch: PathBuf,
    cancel: Cancel,
    /// The image and the layer that were asked for last.
    last: Option<(u64, usize)>,
    /// How many layers ahead we are.
    reach: usize,
    entries: Vec<Entry>,
    jobs: Arc<Jobs>,
    taken: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Entry {
    image: u64,
    position: usize,
    digest: Digest,
    spool: Arc<Spool>,
}

/// What threads have to do.
#[derive(Debug, Default)]
struct Jobs(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Arc<dyn ImageSource>, Layer, Arc<Spool>)>,
    threads: usize,
    /// The files could not take what came: then there are no more.
    full: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting, {} threads)", self.waiting.len(), self.threads)
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does all that waits, then ends.
    fn work(&self, cancel: &Cancel) {
        loop {
            let mut queue = self.lock();
            let Some((source, layer, spool)) = queue.waiting.pop_front() else {
                queue.threads -= 1;
                return;
            };
            drop(queue);
            if !spool.fill(Blob::open_layer(&source, &layer, cancel).map_err(Failure::from)) {
                self.lock().full = true;
            }
        }
    }
}

impl Ahead {
    /// Makes nothing yet. Files are made in the directory `scratch`.
    pub(super) fn new(scratch: PathBuf, cancel: &Cancel) -> Self {
        let cancel = cancel.clone();
        Self { scratch, cancel, last: None, reach: 0, entries: Vec::new(), jobs: Arc::default(), taken: Arc::default() }
    }

    /// Returns a layer that was read ahead, or is being read.
    pub(super) fn take(&mut self, image: u64, digest: &Digest) -> Option<Arc<Spool>> {
        let n = self.entries.iter().position(|entry| entry.image == image && entry.digest == *digest)?;
        let entry = self.entries.remove(n);
        // One that nobody has begun with would only wait for others.
        let waiting = |job: &(_, _, Arc<Spool>)| Arc::ptr_eq(&job.2, &entry.spool);
        let mut queue = self.jobs.lock();
        if let Some(n) = queue.waiting.iter().position(waiting) {
            queue.waiting.remove(n);
            return None;
        }
        (!entry.spool.has_failed()).then_some(entry.spool)
    }

    /// Hears that a layer was asked for, and begins to read those that will be next. `layers` are the image's.
    pub(super) fn asked(&mut self, image: u64, digest: &Digest, layers: &[Layer], source: &Arc<dyn ImageSource>) {
        let next = self.last.filter(|(before, _)| *before == image).map_or(0, |(_, last)| last + 1);
        let is_asked = |layer: &Layer| layer.descriptor.digest == *digest;
        // The same layer may be in an image twice.
        let follows = layers.get(next).is_some_and(is_asked);
        let Some(position) = (if follows { Some(next) } else { layers.iter().position(is_asked) }) else { return };
        self.last = Some((image, position));
        if !follows {
            self.reach = 0;
            self.give_up(|_| true);
            return;
        }
        self.reach = (self.reach * 2).clamp(1, FARTHEST);
        self.give_up(|entry| entry.image != image || entry.position <= position);
        for (position, layer) in layers.iter().enumerate().skip(position + 1).take(self.reach) {
            if self.entries.iter().any(|entry| entry.position == position) {
                continue;
            }
            let room = self.taken.load(Ordering::Relaxed).saturating_add(layer.descriptor.size) <= SPOOLED;
            if !room || !self.read(image, position, layer, source) {
                return;
            }
        }
    }

    /// Begins to read a layer; `false` if that is not possible.
    fn read(&mut self, image: u64, position: usize, layer: &Layer, source: &Arc<dyn ImageSource>) -> bool {
        let mut queue = self.jobs.lock();
        if queue.full {
            return false;
        }
        // Without a place for files nothing is read ahead, and nothing else is amiss.
        let Ok(spool) = Spool::new(&self.scratch, layer.descriptor.size, &self.taken) else { return false };
        let spool = Arc::new(spool);
        queue.waiting.push_back((Arc::clone(source), layer.clone(), Arc::clone(&spool)));
        if queue.threads < THREADS {
            let (jobs, cancel) = (Arc::clone(&self.jobs), self.cancel.clone());
            let started = std::thread::Builder::new().name("ahead".to_string()).spawn(move || jobs.work(&cancel));
            match started {
                Ok(_) => queue.threads += 1,
                Err(_) if queue.threads == 0 => {
                    queue.waiting.clear();
                    return false;
                }
                Err(_) => {}
            }
        }
        drop(queue);
        self.entries.push(Entry { image, position, digest: layer.descriptor.digest, spool });
        true
    }

    /// Hears that an image was closed.
    pub(super) fn closed(&mut self, image: u64) {
        self.give_up(|entry| entry.image == image);
        if self.last.is_some_and(|(last, _)| last == image) {
            (self.last, self.reach) = (None, 0);
        }
    }

    fn give_up(&mut self, which: impl Fn(&Entry) -> bool) {
        let mut queue = self.jobs.lock();
        self.entries.retain(|entry| {
            let gone = which(entry);
            if gone {
                entry.spool.give_up();
                queue.waiting.retain(|(.., spool)| !Arc::ptr_eq(spool, &entry.spool));
            }
            !gone
        });
    }
}
