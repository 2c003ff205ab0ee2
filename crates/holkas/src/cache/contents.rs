//! What is in the cache: listed, verified, pruned.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::{BLOBS, Cache, PARTIAL, path_of};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::lock::{Kind, Lock};
use crate::fs::{Dir, display};
use crate::oci::{Algorithm, Descriptor, Digest, MediaType};
use crate::progress::Cancel;
use crate::verify::UntrustedBlob;

/// A blob of the cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it was last used, in seconds since 1970.
    pub used: i64,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes; 0 for what is no regular file.
    pub size: u64,
}

/// A blob that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartialEntry {
    /// When it was last written to, in seconds since 1970.
    pub used: i64,
    /// The name of its file.
    pub name: String,
    /// How many bytes are there.
    pub size: u64,
    /// Whether somebody writes it now.
    pub busy: bool,
}

/// All that is in a cache, what was used longest ago first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Whole blobs.
    pub blobs: Vec<Entry>,
    /// Blobs that are not whole.
    pub partials: Vec<PartialEntry>,
}

/// What to remove. What several rules name goes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prune {
    /// Blobs that were not used since then, in seconds since 1970.
    pub used_before: Option<i64>,
    /// So many blobs, those first that were used longest ago, that the rest has no more than these bytes.
    pub max_size: Option<u64>,
    /// Partials that nobody writes.
    pub partials: bool,
    /// All blobs.
    pub blobs: bool,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// Whole blobs.
    pub blobs: Vec<Entry>,
    /// Partials.
    pub partials: Vec<PartialEntry>,
}

impl Entry {
    /// Returns when the blob was last used, as RFC 3339 in UTC.
    pub fn last_used(&self) -> String {
        rfc3339(self.used)
    }
}

impl PartialEntry {
    /// Returns when the partial was last written to, as RFC 3339 in UTC.
    pub fn last_used(&self) -> String {
        rfc3339(self.used)
    }
}

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

impl Cache {
    /// Returns what is in the cache. Files that are not named by a digest are not ours, and not told.
    pub fn contents(&self) -> Result<Contents> {
        let mut blobs = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let Some(dir) = self.root.sub_if_exists(format!("{BLOBS}/{}", algorithm.name()))? else { continue };
            for name in dir.entries()? {
                let Some(digest) = digest(algorithm, &name) else { continue };
                // It may be gone by now, or be something that verification removes.
                let found = dir.open_file_itself(name.as_bytes()).ok().flatten();
                if found.is_none() && !dir.exists(name.as_bytes())? {
                    continue;
                }
                let (used, size) = found.map_or(Ok((0, 0)), |file| times_and_size(&file))?;
                blobs.push(Entry { used, digest, size });
            }
        }
        let mut partials = Vec::new();
        if let Some(dir) = self.root.sub_if_exists(PARTIAL)? {
            for name in dir.entries()? {
                let Ok(Some(file)) = dir.open_file_itself(name.as_bytes()) else { continue };
                let (used, size) = times_and_size(&file)?;
                let busy = matches!(Lock::attempt(file, Kind::Shared), Err(error) if error.kind() == ErrorKind::Busy);
                partials.push(PartialEntry { used, name: display(name.as_ref()), size, busy });
            }
        }
        blobs.sort();
        partials.sort();
        Ok(Contents { blobs, partials })
    }

    /// Reads every blob, removes those that are not what their names say, and returns these, with what was wrong.
    pub fn verify(&self, cancel: &Cancel, mut told: impl FnMut(&Entry, bool)) -> Result<Vec<(Entry, Error)>> {
        let mut damaged = Vec::new();
        for entry in self.contents()?.blobs {
            cancel.check()?;
            match self.verify_one(&entry, cancel) {
                Ok(()) => told(&entry, true),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    self.forget(&entry.digest)?;
                    told(&entry, false);
                    damaged.push((entry, error));
                }
            }
        }
        Ok(damaged)
    }

    fn verify_one(&self, entry: &Entry, cancel: &Cancel) -> Result<()> {
        // Somebody else may have removed it meanwhile.
        let Some(file) = self.root.open_file_itself(path_of(&entry.digest))? else { return Ok(()) };
        let octets = MediaType::new("application/octet-stream");
        let wanted = Descriptor::new(octets, entry.digest, file.metadata()?.len());
        UntrustedBlob::new(file).verify(&wanted).cancelled_by(cancel).finish().map(drop)
    }

    /// Removes what is named by the rules, in the order in which it was used.
    ///
    /// Who reads a blob that goes reads it to its end. A partial that is being written stays.
    pub fn prune(&self, rules: &Prune) -> Result<Removed> {
        let frame = || format!("pruning cache `{}`", display(&self.path));
        let mut removed = Removed::default();
        let Contents { blobs, partials } = self.contents().context(frame)?;
        let mut left: u64 = blobs.iter().map(|blob| blob.size).sum();
        for blob in blobs {
            let is_old = rules.used_before.is_some_and(|time| blob.used < time);
            let is_much = rules.max_size.is_some_and(|most| left > most);
            if rules.blobs || is_old || is_much {
                self.forget(&blob.digest)?;
                left -= blob.size;
                removed.blobs.push(blob);
            }
        }
        if rules.partials
            && let Some(dir) = self.root.sub_if_exists(PARTIAL).context(frame)?
        {
            for partial in partials {
                if remove_partial(&dir, &partial.name).context(frame)? {
                    removed.partials.push(partial);
                }
            }
        }
        Ok(removed)
    }
}

fn digest(algorithm: Algorithm, name: &OsString) -> Option<Digest> {
    format!("{}:{}", algorithm.name(), name.to_str()?).parse().ok()
}

fn times_and_size(file: &File) -> Result<(i64, u64)> {
    let found = file.metadata()?;
    Ok((found.mtime(), found.len()))
}

/// Removes a partial unless it is being written; returns whether it was removed.
fn remove_partial(dir: &Dir, name: &str) -> Result<bool> {
    let Some(file) = dir.open_file_itself(name)? else { return Ok(false) };
    match Lock::attempt(file, Kind::Shared) {
        Ok(lock) if dir.names(name, lock.file()) => dir.remove_file(name).map(|()| true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Busy => Ok(false),
        // There are file systems without locks.
        Err(_) => dir.remove_file(name).map(|()| true),
    }
}
