//! Many images from registries or directories to a registry or a directory: only what is not there yet, several at once.
//!
//! ```text
//! yaml        the file that lists images; constraint: versions in it
//!   plan      which images, and the names that they get
//!     present whether one is there already: one request at its source
//!       copy  the rest, each blob once
//! ```

pub mod constraint;
pub mod plan;
pub mod yaml;

mod present;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::plan::{OnError, Plan, Planned};
use crate::copy::{self, CopyOptions};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::Dir;
use crate::image::{ImageDestination, ImageSource};
use crate::oci::Digest;
use crate::policy::Policy;
use crate::progress::{Cancel, Event, Monitor};
use crate::reference::ImageReference;

/// How to sync.
pub struct SyncOptions<'a> {
    /// The policy that every image must pass.
    pub policy: &'a Policy,
    /// Opens the source of an image.
    pub open_source: &'a (dyn Fn(&Planned) -> Result<Box<dyn ImageSource>> + Sync),
    /// Opens the destination of an image.
    pub open_destination: &'a (dyn Fn(&ImageReference) -> Result<Box<dyn ImageDestination>> + Sync),
    /// How each image is copied.
    pub copy: CopyOptions,
    /// How many images at once.
    pub images: usize,
    /// What becomes of the rest when an image fails.
    pub on_error: OnError,
    /// Whether anything is done.
    pub run: Run,
}

/// Whether a run changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It does.
    Real,
    /// It only tells what would be done; nothing is asked and nothing is changed.
    Dry,
}

/// What became of an image.
#[derive(Debug)]
pub enum State {
    /// It was copied; this is its digest at the destination.
    Copied(Digest),
    /// It was there already, with this digest.
    Present(Digest),
    /// It would have been copied.
    WouldCopy,
    /// It is as it was.
    Failed(Error),
}

/// An image, and what became of it.
#[derive(Debug)]
pub struct Synced {
    /// Where it is.
    pub source: ImageReference,
    /// Where it was to be.
    pub destination: ImageReference,
    /// What became of it.
    pub state: State,
}

/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// The images that were begun, in the order of the plan.
    pub images: Vec<Synced>,
    /// Why the run failed, if anything did.
    pub error: Option<Error>,
}

/// What skopeo says when errors were told while the run went on.
const FAILED: &str = "Sync failed due to previous reported error(s) for one or more images";

/// Copies the images of a plan that are not at their destinations yet.
///
/// The first error stops the run, or else all are told as they occur; either way what was synced stays.
/// An image whose destination has another one replaces it.
pub fn sync(plan: &Plan, options: &SyncOptions<'_>, monitor: &dyn Monitor) -> Report {
    for text in &plan.warnings {
        monitor.event(Event::Warning { text });
    }
    for (source, error) in &plan.unlisted {
        monitor.event(Event::SyncFailed { source, error: &error.to_string() });
    }
    let worker = Worker::new(options, monitor);
    let jobs = options.images.clamp(1, plan.images.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((n, image)) = plan.images.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            if worker.stopped() {
                break;
            }
            worker.sync(n, image);
        }
    };
    let panicked = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().err()).count() > 0
    });
    let Worker { done, first, .. } = worker;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let first = first.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = done.values().any(|synced| matches!(synced.state, State::Failed(_))) || !plan.unlisted.is_empty();
    let error = match (first, options.on_error) {
        _ if panicked => Some(Error::invalid("a worker thread panicked; this is a defect of holkas")),
        (Some(error), OnError::Stop) => Some(error),
        (Some(error), OnError::KeepGoing) if error.kind() == ErrorKind::Cancelled => Some(error),
        _ => failed.then(|| Error::new(ErrorKind::Io, FAILED)),
    };
    let synced = done.values().filter(|synced| !matches!(synced.state, State::Failed(_))).count();
    if options.on_error == OnError::KeepGoing || error.is_none() {
        monitor.event(Event::SyncFinished { images: synced, sources: plan.sources, dry: options.run == Run::Dry });
    }
    Report { images: done.into_values().collect(), error }
}

/// What all threads of a run share.
struct Worker<'a> {
    options: &'a SyncOptions<'a>,
    copy: CopyOptions,
    monitor: &'a dyn Monitor,
    /// By their places in the plan.
    done: Mutex<BTreeMap<usize, Synced>>,
    /// The error that stopped the run.
    first: Mutex<Option<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Worker<'a> {
    fn new(options: &'a SyncOptions<'a>, monitor: &'a dyn Monitor) -> Self {
        // The first error stops the other images; what was given to stop this run must not be used for that.
        let cancel = Cancel::default();
        let end = cancel.clone();
        options.copy.cancel.when_cancelled(move || end.cancel());
        let gate = options.copy.gate.clone().or_else(|| Some(Arc::default()));
        let copy = CopyOptions { cancel, gate, ..options.copy.clone() };
        Self { options, copy, monitor, done: Mutex::default(), first: Mutex::default() }
    }

    /// Returns whether no image is to be begun any more.
    fn stopped(&self) -> bool {
        lock(&self.first).is_some()
    }

    fn sync(&self, n: usize, image: &Planned) {
        let state = self.one(image).unwrap_or_else(|error| self.failed(image, error));
        let synced = Synced { source: image.source.clone(), destination: image.destination.clone(), state };
        lock(&self.done).insert(n, synced);
    }

    fn failed(&self, image: &Planned, error: Error) -> State {
        let error = error.context(format!("syncing {}", image.source));
        let all = self.options.copy.cancel.check().is_err();
        match self.options.on_error {
            OnError::KeepGoing if !all => {
                let (source, text) = (image.source.to_string(), error.to_string());
                self.monitor.event(Event::SyncFailed { source: &source, error: &text });
            }
            OnError::KeepGoing | OnError::Stop => {
                lock(&self.first).get_or_insert_with(|| error.duplicate());
                self.copy.cancel.cancel();
            }
        }
        State::Failed(error)
    }

    fn one(&self, image: &Planned) -> Result<State> {
        self.copy.cancel.check()?;
        let Planned { number, of, .. } = *image;
        let (source, destination) = (image.source.to_string(), image.destination.to_string());
        let dry = self.options.run == Run::Dry;
        self.monitor.event(Event::SyncStarted { source: &source, destination: &destination, number, of, dry });
        if dry {
            return Ok(State::WouldCopy);
        }
        let source = (self.options.open_source)(image)?;
        // What is refused is not asked for; what must be signed is checked even if it is there already.
        let demands = self.options.policy.demands(&source.policy_scopes(), &source.name())?;
        let room = match &image.destination {
            // Whether it is there can be seen without preparing anything.
            ImageReference::Dir(_) => None,
            _ => Some((self.options.open_destination)(&image.destination)?),
        };
        let skips = !demands.need_signatures() && self.copy.signing.signers.is_empty();
        if skips && let Some(digest) = present::present(&*source, &image.destination, room.as_deref(), &self.copy)? {
            self.monitor.event(Event::SyncPresent { destination: &destination });
            return Ok(State::Present(digest));
        }
        let room = match (room, &image.destination) {
            (Some(room), _) => room,
            (None, destination) => {
                make_parents(destination).context(|| format!("making the directories above {destination}"))?;
                (self.options.open_destination)(destination)?
            }
        };
        let copied = copy::copy(&*source, room, self.options.policy, &self.copy, self.monitor)?;
        Ok(State::Copied(copied.manifest_digest))
    }
}

/// Makes the directory in which a `dir:` will be.
fn make_parents(destination: &ImageReference) -> Result<()> {
    if let ImageReference::Dir(path) = destination
        && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
    {
        Dir::create_all(parent)?;
    }
    Ok(())
}
