//! Small files are made by several threads: making one costs the kernel far more than it costs us to read it.
//!
//! Who adds them must [`settle`](Files::settle) before doing anything that could meet one of them by its name.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::attributes::{Attributes, allowed};
use crate::error::{Error, Result, printable};
use crate::fs::at;

/// The largest file that is made aside, in bytes.
pub(super) const SMALL: u64 = 64 << 10;
/// A batch is handed out with so many files, so many bytes, or files of so many directories, which it keeps open.
const BATCH: (usize, usize, usize) = (64, 128 << 10, 16);
/// More workers than this only wait for each other within the file system.
const WORKERS: usize = 3;

/// A file that is to be made. The ranges are of its batch's bytes.
struct NewFile {
    /// The number of the entry within the tar.
    entry: u64,
    dir: Arc<OwnedFd>,
    /// As in the tar, for messages.
    full_name: Range<usize>,
    name: Range<usize>,
    contents: Range<usize>,
    attributes: Attributes,
}

#[derive(Default)]
struct Batch {
    files: Vec<NewFile>,
    bytes: Vec<u8>,
    /// How often the directory has changed from one file to the next.
    dirs: usize,
}

/// The files that are under way, and the threads that make them.
pub(super) struct Files {
    gathered: Batch,
    shared: Arc<Shared>,
    /// None until there is a whole batch to do.
    workers: Option<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Batches that workers are busy with.
    running: usize,
    /// Empty batches, to be used again.
    spare: Vec<Batch>,
    /// The failure of the first entry that has failed.
    failed: Option<(u64, Error)>,
    closed: bool,
}

impl Files {
    pub(super) fn new() -> Self {
        Self { gathered: Batch::default(), shared: Arc::default(), workers: None }
    }

    /// Takes a file that will be made in `dir`; nothing has its name, and `contents` are appended by `read`.
    ///
    /// # Errors
    ///
    /// What `read` returns, and `Cancelled` if a file before it could not be made: see [`Files::end`].
    pub(super) fn add(
        &mut self,
        entry: u64,
        (dir, full_name, name): (Arc<OwnedFd>, &[u8], &[u8]),
        attributes: Attributes,
        read: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let bytes = &mut self.gathered.bytes;
        let full_name = append(bytes, full_name);
        let name = append(bytes, name);
        let start = bytes.len();
        read(bytes)?;
        let contents = start..bytes.len();
        let batch = &mut self.gathered;
        batch.dirs += usize::from(batch.files.last().is_none_or(|last| !Arc::ptr_eq(&last.dir, &dir)));
        batch.files.push(NewFile { entry, dir, full_name, name, contents, attributes });
        if batch.files.len() >= BATCH.0 || batch.bytes.len() >= BATCH.1 || batch.dirs >= BATCH.2 {
            return self.hand_out();
        }
        Ok(())
    }

    /// Gives the batch to a worker, or makes it here if all are busy.
    fn hand_out(&mut self) -> Result<()> {
        let shared = &self.shared;
        let workers = self.workers.get_or_insert_with(|| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let start = |_| {
                let shared = Arc::clone(shared);
                thread::spawn(move || shared.work())
            };
            (0..(cores - 1).min(WORKERS)).map(start).collect()
        });
        let mut state = shared.lock();
        if state.failed.is_some() {
            return Err(Error::cancelled());
        }
        let empty = state.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.gathered, empty);
        if state.waiting.len() < workers.len() {
            state.waiting.push_back(batch);
            shared.changed.notify_all();
        } else {
            drop(state);
            shared.make(batch);
        }
        Ok(())
    }

    /// Waits until all files are made, or have failed.
    pub(super) fn settle(&mut self) {
        if !self.gathered.files.is_empty() {
            self.shared.make(std::mem::take(&mut self.gathered));
        }
        let mut state = self.shared.lock();
        while let Some(batch) = state.waiting.pop_front() {
            drop(state);
            self.shared.make(batch);
            state = self.shared.lock();
        }
        while state.running > 0 {
            state = self.shared.changed.wait(state).expect("no holder of this lock can panic");
        }
    }

    /// Waits until all files are made; of their failure and that of the caller it returns the one of the earlier entry.
    pub(super) fn end(mut self, result: Result<()>) -> Result<()> {
        self.settle();
        let panicked = self.close();
        // All files that were added come before the entry that the caller has failed at.
        match self.shared.lock().failed.take() {
            Some((_, error)) => Err(error),
            None if panicked => Err(Error::invalid("a thread panicked; this is a defect of holkas")),
            None => result,
        }
    }

    /// Stops the workers, and returns whether one has panicked.
    fn close(&mut self) -> bool {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let ended = self.workers.take().into_iter().flatten().map(JoinHandle::join);
        ended.filter(|ended| ended.is_err()).count() > 0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Something else went wrong, or `end` was called.
        let _known = self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// What a worker does.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.waiting.pop_front() {
                state.running += 1;
                drop(state);
                let running = Running(self);
                self.make(batch);
                drop(running);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state = self.changed.wait(state).expect("no holder of this lock can panic");
            }
        }
    }

    /// Makes the files of a batch up to the first that fails.
    fn make(&self, mut batch: Batch) {
        let Batch { files, bytes, dirs } = &mut batch;
        for file in files.drain(..) {
            if let Err(error) = file.make(bytes) {
                let error = error.context(format!("unpacking `{}`", printable(&bytes[file.full_name])));
                let mut state = self.lock();
                if state.failed.as_ref().is_none_or(|(entry, _)| file.entry < *entry) {
                    state.failed = Some((file.entry, error));
                }
                break;
            }
        }
        bytes.clear();
        *dirs = 0;
        self.lock().spare.push(batch);
    }
}

impl NewFile {
    fn make(&self, bytes: &[u8]) -> Result<()> {
        let name = &bytes[self.name.clone()];
        let fd = at::create_file(self.dir.as_fd(), name, self.attributes.mode).map_err(allowed)?;
        let mut file = File::from(fd);
        file.write_all(&bytes[self.contents.clone()])?;
        self.attributes.set(&OwnedFd::from(file))
    }
}

/// A batch that a worker is busy with, until it is dropped.
struct Running<'s>(&'s Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(more);
    start..bytes.len()
}
