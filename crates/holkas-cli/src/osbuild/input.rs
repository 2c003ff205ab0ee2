//! Inputs: give a stage what was fetched or built, as mounts below a directory that osbuild shows it.
//!
//! ```text
//! containers   org.osbuild.containers: images of osbuild's store, and archives that pipelines built
//! storage      org.osbuild.containers-storage: the store of the host
//! ```

mod containers;
mod storage;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, Result, printable};
use holkas::progress::Cancel;
use serde_json::{Map, Value, json};

use super::jsoncomm::read_whole;
use super::mounts::Mounts;
use super::service::{self, Call, Service};
use super::store_api::StoreApi;

pub(super) use storage::host_store;

/// Runs as the input of this name.
pub(super) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let map: Mapping = match name {
        "org.osbuild.containers" => containers::map,
        "org.osbuild.containers-storage" => storage::map,
        _ => return Err(super::unknown("input", name)),
    };
    service::run(arguments, |_: Cancel| Input { map, mounts: Mounts::default() })
}

/// Makes what is asked for seen at its target, and returns the images by their keys.
type Mapping = fn(&Request, &mut Mounts) -> Result<Map<String, Value>>;

struct Input {
    map: Mapping,
    mounts: Mounts,
}

/// What an input is asked to map.
#[derive(Debug)]
struct Request {
    origin: Origin,
    /// What the manifest refers to, each with the name that it wants it to have.
    refs: Vec<(String, String)>,
    /// The directory that the stage will see; there, and empty.
    target: PathBuf,
    /// The socket of osbuild's store.
    store: PathBuf,
}

/// Where the references lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Source,
    Pipeline,
}

impl Service for Input {
    fn call(&mut self, mut call: Call) -> Result<Value> {
        if call.method != "map" {
            return Err(call.unknown());
        }
        let mut fds = std::mem::take(&mut call.fds).into_iter();
        // Before version 125 the arguments came in a file; until version 128 the answer was wanted in another.
        let args = match fds.next() {
            Some(file) if call.args.get("refs").is_none() => parse(file).context(|| "reading the call `map`")?,
            Some(_) | None => call.args,
        };
        let request = Request::parse(&args).context(|| "reading the call `map`")?;
        let archives = (self.map)(&request, &mut self.mounts).inspect_err(|_| {
            // The error that is told is the one which came first.
            let _second = self.mounts.undo();
        })?;
        let answer = json!({ "path": request.target, "data": { "archives": archives } });
        match fds.next() {
            Some(file) => write(file, &answer).map(|()| json!({})).context(|| "writing the answer of `map`"),
            None => Ok(answer),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.mounts.undo()
    }
}

fn parse(file: OwnedFd) -> Result<Value> {
    let bytes = read_whole(file)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("it is no JSON: {error}")))
}

fn write(file: OwnedFd, answer: &Value) -> Result<()> {
    let file = File::from(file);
    file.set_len(0)?;
    Ok(file.write_all_at(answer.to_string().as_bytes(), 0)?)
}

impl Request {
    fn parse(args: &Value) -> Result<Self> {
        let text = |value: &Value, key: &str| match value.get(key).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_string()),
            _ => Err(Error::invalid(format!("`{key}` is missing, or no string"))),
        };
        let origin = match text(args, "origin")?.as_str() {
            "org.osbuild.source" => Origin::Source,
            "org.osbuild.pipeline" => Origin::Pipeline,
            other => return Err(Error::unsupported(format!("the origin `{}`", printable(other.as_bytes())))),
        };
        let refs = args.get("refs").and_then(Value::as_object);
        let refs = refs.ok_or_else(|| Error::invalid("`refs` is missing, or no object"))?;
        if refs.is_empty() {
            return Err(Error::invalid("`refs` refers to nothing"));
        }
        let name = |(key, options): (&String, &Value)| {
            let frame = || format!("reading the reference `{}`", printable(key.as_bytes()));
            let name = text(options, "name").map_err(|error| {
                error.hint("give the reference its options, even in a list: {\"id\": …, \"options\": {\"name\": …}}")
            });
            Ok((key.clone(), name.context(frame)?))
        };
        let refs = refs.iter().map(name).collect::<Result<_>>()?;
        let store = args.get("api").map_or_else(|| text(args, "api"), |api| text(api, "store"))?;
        Ok(Self { origin, refs, target: text(args, "target")?.into(), store: store.into() })
    }

    fn store(&self) -> Result<StoreApi> {
        StoreApi::connect(&self.store)
    }
}

/// Makes a directory below the target, to mount something at, and returns its path.
fn place(target: &Path, name: &str) -> Result<PathBuf> {
    holkas::fs::Dir::create_all(target)?.make(name, 0o755)?;
    Ok(target.join(name))
}
