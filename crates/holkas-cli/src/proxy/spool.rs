//! A blob in a file without a name, which one thread writes while another may already read it.

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use holkas::error::Error;
use holkas::fs::Dir;

use super::body::Blob;
use super::failure::Failure;

/// The file, and how far it is.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    progress: Mutex<Progress>,
    changed: Condvar,
    /// The room that it takes, given back when it is gone.
    size: u64,
    taken: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Progress {
    written: u64,
    /// What became of it, once nothing more is written.
    end: Option<Result<(), Failure>>,
    unwanted: bool,
}

impl Spool {
    /// Makes the file in the directory `scratch`. `taken` has `size` more until this is dropped.
    pub(super) fn new(scratch: &Path, size: u64, taken: &Arc<AtomicU64>) -> Result<Self, Error> {
        let file = Dir::open(scratch)?.unnamed_file()?;
        taken.fetch_add(size, Ordering::Relaxed);
        Ok(Self { file, progress: Mutex::default(), changed: Condvar::new(), size, taken: Arc::clone(taken) })
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Each field is whole by itself.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all of a blob into it. Returns whether the file took all that came.
    pub(super) fn fill(&self, blob: Result<Blob, Failure>) -> bool {
        let mut into = Into { spool: self, failed: false };
        let read = AssertUnwindSafe(|| blob.and_then(|blob| blob.write_to(&mut into)).map(drop));
        // Somebody may be waiting for an end.
        let result = catch_unwind(read)
            .unwrap_or_else(|_| Err(Failure::other("reading ahead panicked; this is a defect of holkas")));
        let (took_all, result) = match result {
            // What went wrong is ours: without the file the same blob can be had.
            Err(failure) if into.failed => (false, Err(failure.retryable())),
            other => (true, other),
        };
        self.lock().end = Some(result);
        self.changed.notify_all();
        took_all
    }

    /// Says that nobody will read it, so that nothing more need be written.
    pub(super) fn give_up(&self) {
        self.lock().unwanted = true;
    }

    /// Returns whether it came to a bad end.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.lock().end, Some(Err(_)))
    }

    /// Writes all of it to a pipe, as it comes. Returns the number of bytes.
    pub(super) fn write_to(&self, out: &mut PipeWriter) -> Result<u64, Failure> {
        let mut at = 0;
        loop {
            let waiting = |progress: &mut Progress| progress.written == at && progress.end.is_none();
            let progress = self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
            let (written, end) = (progress.written, progress.end.clone());
            drop(progress);
            if written == at {
                return end.unwrap_or(Ok(())).map(|()| at);
            }
            while at < written {
                at += self.send(out, at, written - at)?;
            }
        }
    }

    /// Has the kernel move bytes from the file to a pipe; returns how many.
    fn send(&self, out: &PipeWriter, at: u64, most: u64) -> Result<u64, Failure> {
        let mut from = at;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match rustix::fs::sendfile(out, &self.file, Some(&mut from), most) {
            Ok(0) => Err(Failure::other("the spool is shorter than what was written to it")),
            Ok(sent) => Ok(sent as u64),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(Failure::of_pipe(&error.into())),
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Appends to the file, for as long as somebody may want it.
struct Into<'a> {
    spool: &'a Spool,
    failed: bool,
}

impl Write for Into<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.spool.lock().unwanted {
            return Err(Error::cancelled().into());
        }
        let written = (&self.spool.file).write(bytes).inspect_err(|_| self.failed = true)?;
        self.spool.lock().written += written as u64;
        self.spool.changed.notify_all();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
