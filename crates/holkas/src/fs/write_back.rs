//! Writes a file system's dirty pages to disk while there is still more to come, so that the sync at the end is short.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::{Dir, Reach};
use crate::error::{Error, Result};

/// After so many bytes it is worth starting: what is left for the sync at the end is about as much.
///
/// A disk that takes longer to write it than we do gets more at a time, since requests do not queue.
const STRETCH: u64 = 16 << 20;

/// A thread that syncs a file system each time that much has been written to it.
///
/// It promises nothing: who needs the bytes on disk syncs at the end, after [`WriteBack::finish`].
#[derive(Debug)]
pub struct WriteBack {
    written: AtomicU64,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    wake: SyncSender<()>,
    handle: JoinHandle<Result<()>>,
}

impl WriteBack {
    /// Starts the thread for the file system that `dir` is on; none, if nothing need reach the disk.
    pub fn start(dir: &Dir, reach: Reach) -> Result<Self> {
        if reach == Reach::System {
            return Ok(Self { written: AtomicU64::new(0), thread: Mutex::default() });
        }
        // One request waits at most: what is written meanwhile goes with it.
        let (wake, woken) = sync_channel(1);
        let dir = dir.reopen()?;
        let handle = thread::spawn(move || woken.iter().try_for_each(|()| dir.sync_file_system()));
        Ok(Self { written: AtomicU64::new(0), thread: Mutex::new(Some(Thread { wake, handle })) })
    }

    /// Gives the bytes of `reader` on, taking each for one that is written.
    pub fn count<R: Read>(&self, reader: R) -> Counted<'_, R> {
        Counted { reader, write_back: self }
    }

    fn written(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / STRETCH == (before + bytes) / STRETCH {
            return;
        }
        if let Some(thread) = &*self.thread.lock().expect("no holder of this lock can panic") {
            // It is full when the thread has not begun yet, and gone after an error, which `finish` tells.
            let _soon = thread.wake.try_send(());
        }
    }

    /// Waits until the thread has ended. What is written later is left to the caller's own sync.
    ///
    /// # Errors
    ///
    /// That of a sync: the kernel tells it once, so that the caller's own sync might not hear of it.
    pub fn finish(&self) -> Result<()> {
        let thread = self.thread.lock().expect("no holder of this lock can panic").take();
        let Some(Thread { wake, handle }) = thread else { return Ok(()) };
        drop(wake);
        handle.join().unwrap_or_else(|_| Err(Error::invalid("a thread panicked; this is a defect of holkas")))
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        // Something else went wrong before, or `finish` was called.
        let _not_needed = self.finish();
    }
}

/// See [`WriteBack::count`].
#[derive(Debug)]
pub struct Counted<'w, R> {
    reader: R,
    write_back: &'w WriteBack,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.write_back.written(length as u64);
        Ok(length)
    }
}
