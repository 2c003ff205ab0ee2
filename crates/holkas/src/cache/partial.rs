//! A blob on its way into the cache: begun by one run, and perhaps ended by another.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use super::{BLOBS, PARTIAL, Warning};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::continued::Continued;
use crate::fs::lock::{Kind, Lock};
use crate::fs::{Dir, share};
use crate::oci::{Descriptor, Digest};
use crate::verify::{Keep, PartialBlob, Unproven, UntrustedBlob, Verified};

/// What blobs have as their mode: anyone who is let into the cache may read them.
const MODE: u32 = 0o644;
/// So often a partial may be finished or removed by others between our opening it and our locking it.
const ATTEMPTS: usize = 16;

/// A blob that is being kept. Dropped, it stays for the next run, unless it is empty.
#[derive(Debug)]
pub struct Partial {
    root: Dir,
    dir: Dir,
    digest: Digest,
    file: Continued,
    /// Keeps others out, where they can hear of it. Without it, the file is still nobody else's.
    _lock: Option<Lock>,
    warning: Arc<Warning>,
}

pub(super) fn name_of(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

impl Partial {
    pub(super) fn begin(root: &Dir, wanted: &Descriptor, warning: &Arc<Warning>) -> Result<Option<Self>> {
        let dir = root.make(PARTIAL, 0o700)?;
        let name = name_of(&wanted.digest);
        for _ in 0..ATTEMPTS {
            let file = dir.open_for_update(&name, MODE)?;
            let mut lock = match Lock::attempt(file.try_clone()?, Kind::Exclusive) {
                Ok(lock) => Some(lock),
                Err(error) if error.kind() == ErrorKind::Busy => return Ok(None),
                // There are file systems without locks.
                Err(_) => None,
            };
            if !dir.names(&name, &file) {
                continue;
            }
            let begun = file.metadata()?.len() > 0;
            let file = if begun && (lock.is_none() || share::is_by_many_machines(&dir)?) {
                // Somebody may still write to the file without our knowing: what we go on with must be ours alone.
                let copy = copy(&dir, &name, &file)?;
                lock = Lock::attempt(copy.try_clone()?, Kind::Exclusive).ok();
                copy
            } else {
                file
            };
            let file = Continued::new(file, wanted.size)?;
            let (root, warning) = (root.reopen()?, Arc::clone(warning));
            return Ok(Some(Self { root, dir, digest: wanted.digest, file, _lock: lock, warning }));
        }
        Ok(None)
    }

    /// Returns how many bytes of the blob are there, perhaps all.
    pub fn length(&self) -> u64 {
        self.file.there()
    }

    /// Returns what is there of the blob.
    pub fn beginning(&self) -> Result<PartialBlob> {
        Ok(PartialBlob::new(self.file.beginning()?, self.length()))
    }

    /// Has the blob kept while it is read, and named when it has proven itself.
    ///
    /// The blob is all of it. What of it is in the partial already is compared, and not written again.
    pub fn keep(self, blob: UntrustedBlob) -> UntrustedBlob {
        blob.kept_by(Keeper { partial: self, failed: false })
    }

    /// Gives the file its name among the blobs.
    fn finish(&self) -> Result<()> {
        self.file.sync()?;
        let blobs = self.root.make(BLOBS, 0o755)?.make(self.digest.algorithm().name(), 0o755)?;
        // Under a name of our own we are sure which file it is that is renamed.
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (name, own) = (name_of(&self.digest), format!("{}.{}-{count}", name_of(&self.digest), std::process::id()));
        if !self.dir.names(&name, self.file.file()) {
            // Somebody removed it, or goes on with a copy.
            return Ok(());
        }
        self.dir.rename(&name, &self.dir, &own)?;
        if !self.dir.names(&own, self.file.file()) {
            return self.dir.rename(&own, &self.dir, &name);
        }
        self.dir.rename(&own, &blobs, self.digest.hex()).or_else(|error| {
            self.dir.remove_file(&own)?;
            Err(error)
        })?;
        blobs.sync()
    }

    fn discard(&self) {
        let name = name_of(&self.digest);
        if self.dir.names(&name, self.file.file()) {
            // What cannot be removed is found wrong again by the next who reads it.
            let _found_wrong_again = self.dir.remove_file(&name);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.file.length() == 0 {
            self.discard();
        }
    }
}

/// Copies a partial to a new file, which takes its name.
fn copy(dir: &Dir, name: &str, from: &File) -> Result<File> {
    let mut staged = dir.stage(MODE)?;
    let mut beginning = Continued::new(from.try_clone()?, u64::MAX)?.beginning()?;
    io::copy(&mut beginning, staged.file()).context(|| "copying what an interrupted run left")?;
    let file = staged.file().try_clone()?;
    staged.finish_unsynced(name)?;
    Ok(file)
}

struct Keeper {
    partial: Partial,
    failed: bool,
}

impl Keeper {
    fn fail(&mut self, error: Error) {
        self.failed = true;
        self.partial.discard();
        // A full disk may be the destination's, too. What cannot be given back now is when the file is closed.
        let _later = self.partial.file.give_up();
        self.partial.warning.set(&error.context(format!("keeping {}", self.partial.digest)));
    }
}

impl Keep for Keeper {
    fn take(&mut self, bytes: &[u8]) {
        if !self.failed
            && let Err(error) = self.partial.file.write_all(bytes)
        {
            self.fail(error.into());
        }
    }

    fn proven(mut self: Box<Self>, proof: &Verified) {
        debug_assert_eq!(proof.descriptor().digest, self.partial.digest, "a partial is kept for its own blob");
        if !self.failed
            && proof.descriptor().digest == self.partial.digest
            && let Err(error) = self.partial.finish()
        {
            self.fail(error);
        }
    }

    fn unproven(self: Box<Self>, why: Unproven) {
        let discard = match why {
            Unproven::Refuted => true,
            Unproven::Interrupted => false,
            // Bytes that could not be used twice are not tried a third time.
            Unproven::Abandoned => self.partial.length() > 0,
        };
        if discard {
            self.partial.discard();
        }
    }
}
