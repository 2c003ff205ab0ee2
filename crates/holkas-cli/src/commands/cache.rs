//! `holkas cache list|verify|prune`

use std::time::SystemTime;

use holkas::cache::{Cache, Contents, Entry, PartialEntry, Prune};
use holkas::error::{Context, Error, Result};
use holkas::fs::display;
use serde_json::{Value, json};

use super::Setting;
use crate::cli::cache::{self, CacheCommand};
use crate::table::table;
use crate::{environment, output};

/// Lists, verifies or prunes the cache. One that does not exist is empty.
pub(crate) fn run(arguments: &cache::Cache, setting: &Setting<'_>) -> Result<()> {
    let place = arguments.place();
    let path = environment::cache_dir(place.cache.as_deref())?;
    let cache = Cache::open_if_exists(&path)?;
    let told = Told { path: display(&path), json: place.json };
    match &arguments.command {
        CacheCommand::List(_) => list(cache.as_ref(), &told),
        CacheCommand::Verify(_) => verify(cache.as_ref(), &told, setting),
        CacheCommand::Prune(prune) => self::prune(cache.as_ref(), &told, prune),
    }
}

/// Of which cache is told, and how.
struct Told {
    path: String,
    json: bool,
}

impl Told {
    /// Prints blobs and partials, as JSON under these keys.
    fn print(&self, blobs: (&str, &[Entry]), partials: (&str, &[PartialEntry])) -> Result<()> {
        let bytes: u64 = blobs.1.iter().map(|b| b.size).chain(partials.1.iter().map(|p| p.size)).sum();
        if self.json {
            return output::json(&json!({
                "cache": self.path,
                (blobs.0): blobs.1.iter().map(blob_json).collect::<Vec<_>>(),
                (partials.0): partials.1.iter().map(partial_json).collect::<Vec<_>>(),
                "bytes": bytes,
            }));
        }
        let blob = |b: &Entry| [b.digest.to_string(), b.size.to_string(), b.last_used(), "whole".to_string()];
        let partial = |p: &PartialEntry| {
            let state = if p.busy { "being written" } else { "partial" };
            [p.name.clone(), p.size.to_string(), p.last_used(), state.to_string()]
        };
        let rows: Vec<_> = blobs.1.iter().map(blob).chain(partials.1.iter().map(partial)).collect();
        output::write(table(["BLOB", "BYTES", "LAST USED", "STATE"], &rows).as_bytes())
    }
}

fn blob_json(blob: &Entry) -> Value {
    json!({ "digest": blob.digest, "size": blob.size, "last_used": blob.last_used() })
}

fn partial_json(partial: &PartialEntry) -> Value {
    let PartialEntry { name, size, busy, .. } = partial;
    json!({ "name": name, "size": size, "last_used": partial.last_used(), "being_written": busy })
}

fn list(cache: Option<&Cache>, told: &Told) -> Result<()> {
    let nothing = Contents { blobs: Vec::new(), partials: Vec::new() };
    let Contents { blobs, partials } = cache.map_or(Ok(nothing), Cache::contents)?;
    told.print(("blobs", &blobs), ("partials", &partials))
}

fn verify(cache: Option<&Cache>, told: &Told, setting: &Setting<'_>) -> Result<()> {
    let mut read = 0_usize;
    let damaged = match cache {
        Some(cache) => cache.verify(setting.cancel, |_, _| read += 1)?,
        None => Vec::new(),
    };
    if told.json {
        let why = |(blob, error): &(Entry, Error)| json!({ "digest": blob.digest, "error": error.to_string() });
        output::json(&json!({
            "cache": told.path,
            "verified": read,
            "damaged": damaged.iter().map(why).collect::<Vec<_>>(),
        }))?;
    } else if !damaged.is_empty() {
        let rows: Vec<_> = damaged.iter().map(|(blob, error)| [blob.digest.to_string(), error.to_string()]).collect();
        output::write(table(["REMOVED", "WHY"], &rows).as_bytes())?;
    }
    match damaged.len() {
        0 => Ok(()),
        n => {
            let what = format!("{n} of {read} blobs {} damaged", if n == 1 { "was" } else { "were" });
            Err(Error::mismatch(what).context(format!("verifying cache `{}`", told.path))).map_err(|error: Error| {
                error.hint("what was damaged is removed, and is fetched anew when it is needed")
            })
        }
    }
}

fn prune(cache: Option<&Cache>, told: &Told, prune: &cache::CachePrune) -> Result<()> {
    let rules = Prune {
        used_before: prune.older_than.map(seconds_ago).transpose()?,
        max_size: prune.max_size,
        partials: prune.partials || prune.all,
        blobs: prune.all,
    };
    let removed = cache.map(|cache| cache.prune(&rules)).transpose()?.unwrap_or_default();
    told.print(("removed", &removed.blobs), ("removed_partials", &removed.partials))
}

/// Returns the time that was `age` ago, in seconds since 1970.
fn seconds_ago(age: std::time::Duration) -> Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_err(|error| Error::invalid(error.to_string())).context(|| "reading the clock")?;
    // Before 1970 nothing was used.
    Ok(i64::try_from(now.saturating_sub(age).as_secs()).unwrap_or(i64::MAX))
}
