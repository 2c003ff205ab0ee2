//! Pipes to the client, and the threads that fill them: bounded in number, each ending when its client is gone.

use std::collections::BTreeMap;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use holkas::progress::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::body::Body;
use super::failure::Failure;

/// Pipes that are open at once, each with a thread, a buffer and a descriptor of ours: clients have one for each core.
const OPEN: usize = 128;
/// Pipes that the client has closed and not finished. Of these only the outcome is kept.
const ABANDONED: usize = 1024;

/// The pipes that wait for `FinishPipe`, and the threads of those that do not.
#[derive(Debug)]
pub(super) struct Pipes {
    last: u32,
    board: Arc<Board>,
    cancel: Cancel,
    /// Threads of [`Pipes::start_raw`].
    raw: Arc<AtomicUsize>,
}

/// Where threads say that they have ended.
#[derive(Debug, Default)]
struct Board {
    open: Mutex<BTreeMap<u32, State>>,
    changed: Condvar,
}

#[derive(Debug)]
enum State {
    Running,
    /// The write end stays open until the pipe is finished, so that nobody takes the end of the data for its proof.
    Ended(Option<PipeWriter>, Result<(), Failure>),
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, State>> {
        // The map is never half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipes {
    /// Makes the place for pipes. Once `cancel` is set, nobody waits for them any more.
    pub(super) fn new(cancel: &Cancel) -> Self {
        let board = Arc::<Board>::default();
        let told = Arc::clone(&board);
        cancel.when_cancelled(move || {
            // Whoever is about to wait has the lock, and has not seen the flag yet.
            drop(told.lock());
            told.changed.notify_all();
        });
        Self { last: 0, board, cancel: cancel.clone(), raw: Arc::default() }
    }

    /// Begins to write a body. Returns the pipe's number and its read end.
    pub(super) fn start(&mut self, body: Body) -> Result<(u32, OwnedFd), Failure> {
        self.make_room()?;
        let (reader, mut writer) = pipe(&body)?;
        let id = self.next_id();
        let board = Arc::clone(&self.board);
        if fits(&body, &writer) {
            let written = body.write_to(&mut writer);
            board.lock().insert(id, State::Ended(Some(writer), written));
            return Ok((id, reader));
        }
        board.lock().insert(id, State::Running);
        let ending = Ending { id, board: Arc::clone(&board) };
        let started = spawn(move || {
            let result = body.write_to(&mut writer);
            ending.end(Some(writer), result);
        });
        if let Err(failure) = started {
            board.lock().remove(&id);
            return Err(failure);
        }
        Ok((id, reader))
    }

    /// Begins to write a body into a pipe that ends by itself. Returns the read ends of the data, and of what failed.
    pub(super) fn start_raw(&mut self, body: Body) -> Result<[OwnedFd; 2], Failure> {
        self.make_room()?;
        let (reader, mut writer) = pipe(&body)?;
        let (failed, mut telling) =
            std::io::pipe().map_err(|error| Failure::other(format!("making a pipe: {error}")))?;
        let counted = Counted::one_more_of(&self.raw);
        let write = move || {
            let result = body.write_to(&mut writer);
            if let Err(failure) = result {
                // Whoever has closed it does not want to know.
                let _not_wanted = telling.write_all(failure.to_json().to_string().as_bytes());
            }
            drop(counted);
        };
        spawn(write)?;
        Ok([reader, failed.into()])
    }

    /// Waits until all was written, closes the pipe, and returns what became of it.
    pub(super) fn finish(&mut self, id: u64) -> Result<(), Failure> {
        let unknown = || Failure::other(format!("FinishPipe: there is no pipe {id}"));
        let id = u32::try_from(id).map_err(|_| unknown())?;
        let running = |open: &mut BTreeMap<u32, State>| {
            matches!(open.get(&id), Some(State::Running)) && self.cancel.check().is_ok()
        };
        let waited = self.board.changed.wait_while(self.board.lock(), running);
        let mut open = waited.unwrap_or_else(PoisonError::into_inner);
        match open.remove(&id) {
            Some(State::Ended(_closed_now, result)) => result,
            Some(State::Running) => Err(Failure::other("cancelled")),
            None => Err(unknown()),
        }
    }

    fn next_id(&mut self) -> u32 {
        let open = self.board.lock();
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !open.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// Closes pipes whose client has closed them, and refuses more than there may be.
    fn make_room(&self) -> Result<(), Failure> {
        let mut open = self.board.lock();
        let mut abandoned = Vec::new();
        let mut held = self.raw.load(Ordering::Relaxed);
        for (id, state) in open.iter_mut() {
            match state {
                State::Ended(writer, _) if writer.as_ref().is_none_or(has_no_reader) => {
                    *writer = None;
                    abandoned.push(*id);
                }
                State::Ended(..) | State::Running => held += 1,
            }
        }
        for id in abandoned.iter().take(abandoned.len().saturating_sub(ABANDONED)) {
            open.remove(id);
        }
        match held < OPEN {
            true => Ok(()),
            false => Err(Failure::other(format!("{held} pipes are open, and there can be no more: finish some first"))),
        }
    }
}

/// Makes a pipe that is as large as a small body, so that no thread is needed for it, or large enough to be quick.
fn pipe(body: &Body) -> Result<(OwnedFd, PipeWriter), Failure> {
    /// What a pipe has by itself.
    const USUAL: usize = 64 << 10;
    /// Two parts of a blob: the client reads one while we hash the next.
    const LARGE: usize = 256 << 10;
    let (reader, writer) = std::io::pipe().map_err(|error| Failure::other(format!("making a pipe: {error}")))?;
    let wanted = match body {
        Body::Bytes(bytes, _) => bytes.len().min(LARGE),
        Body::Blob(..) | Body::Ahead(..) => LARGE,
    };
    if wanted > USUAL {
        // A user may have only so much in pipes. Smaller ones are slower, and no less right.
        let _slower = rustix::pipe::fcntl_setpipe_size(&writer, wanted);
    }
    Ok((reader.into(), writer))
}

/// Returns whether a body fits into its empty pipe: writing it waits for nobody.
fn fits(body: &Body, writer: &PipeWriter) -> bool {
    match body {
        Body::Bytes(bytes, _) => rustix::pipe::fcntl_getpipe_size(writer).is_ok_and(|room| bytes.len() <= room),
        Body::Blob(..) | Body::Ahead(..) => false,
    }
}

fn has_no_reader(writer: &PipeWriter) -> bool {
    let mut fds = [PollFd::new(writer, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = std::thread::Builder::new().name("pipe".to_string()).spawn(work);
    spawned.map(drop).map_err(|error| Failure::other(format!("starting a thread: {error}")))
}

/// The duty to say how a pipe ended, whatever happens.
struct Ending {
    id: u32,
    board: Arc<Board>,
}

impl Ending {
    fn end(&self, writer: Option<PipeWriter>, result: Result<(), Failure>) {
        // Not if it was given up: then the client knows of no such pipe.
        if let Some(state) = self.board.lock().get_mut(&self.id) {
            *state = State::Ended(writer, result);
        }
        self.board.changed.notify_all();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let running = matches!(self.board.lock().get(&self.id), Some(State::Running));
        if running {
            self.end(None, Err(Failure::other("the thread of the pipe panicked; this is a defect of holkas")));
        }
    }
}

/// One of those that are counted, for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_more_of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
