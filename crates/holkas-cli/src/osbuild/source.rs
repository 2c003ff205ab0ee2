//! Sources: fetch what a manifest lists into osbuild's store, and copy what is there into another store.
//!
//! ```text
//! item       what is to be fetched, as the manifest says it
//! images     the images that are in a store: found, placed, exchanged
//! skopeo     org.osbuild.skopeo: images
//! index      org.osbuild.skopeo-index: manifest lists
//! storage    org.osbuild.containers-storage: images of the host, which stay where they are
//! ```

mod fetch;
mod images;
mod index;
mod item;
mod skopeo;
mod storage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::progress::Cancel;
use serde_json::{Map, Value, json};

use super::jsoncomm::read_whole;
use super::service::{self, Call, Service};
use crate::{environment, report};

pub(super) use self::images::check as check_image;
pub(super) use self::item::exact;
pub(super) use self::storage::check as check_stored;

/// So many items are fetched at once.
const AT_ONCE: usize = 4;
/// The first osbuild that reads what a source answers; earlier ones know of failures by exceptions alone.
const READS_ANSWERS: u32 = 186;

/// Runs as the source of this name.
pub(super) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let kind = match name {
        "org.osbuild.skopeo" => Kind::Skopeo,
        "org.osbuild.skopeo-index" => Kind::SkopeoIndex,
        "org.osbuild.containers-storage" => Kind::ContainersStorage,
        _ => return Err(super::unknown("source", name)),
    };
    service::run(arguments, |cancel| Source { kind, cancel })
}

/// Which of the sources it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Skopeo,
    SkopeoIndex,
    ContainersStorage,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Skopeo => "org.osbuild.skopeo",
            Self::SkopeoIndex => "org.osbuild.skopeo-index",
            Self::ContainersStorage => "org.osbuild.containers-storage",
        }
    }
}

struct Source {
    kind: Kind,
    cancel: Cancel,
}

/// What became of an item.
#[derive(Debug)]
struct Outcome {
    /// Its key.
    id: String,
    /// Whether it was there already.
    result: Result<bool>,
}

/// The items of a manifest's source, by their keys.
type Items = Map<String, Value>;

impl Service for Source {
    fn call(&mut self, call: Call) -> Result<Value> {
        match call.method.as_str() {
            "download" => self.download(call),
            "copy" => self.copy(&call.args),
            _ => Err(call.unknown()),
        }
    }
}

impl Source {
    fn download(&self, mut call: Call) -> Result<Value> {
        let frame = || "reading the call `download`";
        let cache = path(&call.args, "cache").context(frame)?;
        let (items, old) = match call.args.get("items") {
            Some(items) => {
                let version = environment::osbuild_version();
                (object(items).context(frame)?, version.is_some_and(|version| version < READS_ANSWERS))
            }
            // Before version 129 they came in a file.
            None if !call.fds.is_empty() => {
                let bytes = read_whole(call.fds.remove(0)).context(|| "the file of items").context(frame)?;
                let items = serde_json::from_slice(&bytes).map_err(|error| Error::invalid(error.to_string()));
                (object(&items.context(|| "the file of items").context(frame)?).context(frame)?, true)
            }
            None => return Err(Error::invalid("`items` is missing")).context(frame),
        };
        let outcomes = match self.kind {
            Kind::Skopeo => skopeo::download(&items, &cache, &self.cancel),
            Kind::SkopeoIndex => index::download(&items, &cache, &self.cancel),
            Kind::ContainersStorage => storage::download(&items),
        };
        let failures = tell(&outcomes);
        match failures.is_empty() || !old {
            true => Ok(self.answer(outcomes, &failures)),
            false => Err(Error::new(ErrorKind::Io, self.summary(&outcomes, &failures))),
        }
    }

    fn copy(&self, args: &Value) -> Result<Value> {
        let frame = || "reading the call `copy`";
        let items = args.get("items").ok_or_else(|| Error::invalid("`items` is missing"));
        let items = items.and_then(object).context(frame)?;
        let (from, to) = (path(args, "cache").context(frame)?, path(args, "dst_cache").context(frame)?);
        let outcomes = match self.kind {
            Kind::Skopeo => skopeo::copy(&items, &from, &to, &self.cancel),
            Kind::SkopeoIndex => index::copy(&items, &from, &to),
            // The images are in the host's store, and not in osbuild's.
            Kind::ContainersStorage => each(&items, |_, _| Ok(true)),
        };
        let failures = tell(&outcomes);
        Ok(self.answer(outcomes, &failures))
    }

    /// Returns what osbuild is told of all items.
    fn answer(&self, outcomes: Vec<Outcome>, failures: &[String]) -> Value {
        let output = self.summary(&outcomes, failures);
        let results: Vec<Value> = outcomes
            .into_iter()
            .map(|Outcome { id, result }| {
                let (success, cached, error) = match result {
                    Ok(cached) => (true, cached, String::new()),
                    Err(error) => (false, false, report::text(&error).trim_end().to_string()),
                };
                json!({ "success": success, "metadata": { "checksum": id, "cached": cached }, "error": error })
            })
            .collect();
        let name = self.kind.name();
        json!({
            "name": format!("source {name}"),
            "source_type": name,
            "success": failures.is_empty(),
            "output": output,
            "results": results,
        })
    }

    fn summary(&self, outcomes: &[Outcome], failures: &[String]) -> String {
        let name = self.kind.name();
        if failures.is_empty() {
            return format!("source {name} finished successfully");
        }
        let (failed, all) = (failures.len(), outcomes.len());
        format!("source {name} failed for {failed} of {all} items:\n{}", failures.join("\n"))
    }
}

/// Tells errors on stderr, since osbuild's log does not show those of the answer, and returns a line for each.
fn tell(outcomes: &[Outcome]) -> Vec<String> {
    let mut failures = Vec::new();
    for Outcome { id, result } in outcomes {
        if let Err(error) = result {
            service::tell(&report::text(error));
            failures.push(format!("{}: {error}", holkas::error::printable(id.as_bytes())));
        }
    }
    failures
}

/// Does something with each item, one after the other.
fn each(items: &Items, mut work: impl FnMut(&str, &Value) -> Result<bool>) -> Vec<Outcome> {
    items.iter().map(|(id, item)| Outcome { id: id.clone(), result: work(id, item) }).collect()
}

/// Does something with each item, several at once, and returns what became of them in their order.
fn each_at_once(items: &Items, work: impl Fn(&str, &Value) -> Result<bool> + Sync) -> Vec<Outcome> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let keep = |n, result| results.lock().expect("no holder of this lock can panic").push((n, result));
    let run = || {
        while let Some((n, (id, item))) = items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(id, item)));
            let panicked = |_| Err(Error::invalid("a worker thread panicked; this is a defect of holkas"));
            keep(n, result.unwrap_or_else(panicked));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(run);
        }
    });
    let mut results = results.into_inner().expect("no holder of this lock can panic");
    results.sort_by_key(|(n, _)| *n);
    items.keys().zip(results).map(|(id, (_, result))| Outcome { id: id.clone(), result }).collect()
}

fn object(value: &Value) -> Result<Items> {
    value.as_object().cloned().ok_or_else(|| Error::invalid("`items` is no object"))
}

fn path(args: &Value, key: &str) -> Result<PathBuf> {
    match args.get(key).and_then(Value::as_str).map(Path::new) {
        Some(path) if !path.as_os_str().is_empty() => Ok(path.to_path_buf()),
        _ => Err(Error::invalid(format!("`{key}` is missing, or no path"))),
    }
}
