//! `org.osbuild.containers-storage`: the store of the host, as it is.

use holkas::error::{Context, Error, Result, printable};
use holkas::fs::display;
use holkas::reference::StoreSpec;
use holkas::storage::location::{Location, StorageConf};
use serde_json::{Map, Value, json};

use super::{Origin, Request, place};
use crate::environment;
use crate::osbuild::mounts::{Mounts, Reach};
use crate::osbuild::source::{check_stored, exact};

/// The run root of containers-storage, if nobody says otherwise.
const DEFAULT_RUN_ROOT: &str = "/run/containers/storage";

/// The store of the host.
pub(in crate::osbuild) struct HostStore {
    /// Where it is. Images of additional stores are not meant: stages see the graph root alone.
    pub(in crate::osbuild) location: Location,
    /// The table `storage` of storage.conf, with what containers-storage takes where it says nothing.
    table: Map<String, Value>,
}

/// Finds the store of the host by its storage.conf, or where that is missing, where containers-storage looks.
pub(in crate::osbuild) fn host_store() -> Result<HostStore> {
    let (conf, mut table) = match environment::storage_conf()? {
        None => (StorageConf::default(), Map::new()),
        Some(file) => {
            let origin = display(&file.path);
            (
                StorageConf::parse(&file.bytes, &origin, &environment::in_storage_conf)?,
                storage_table(&file.bytes, &origin)?,
            )
        }
    };
    let own = StorageConf { additional: Vec::new(), ..conf };
    let location = Location::resolve(&StoreSpec::default(), Some(&own))?;
    let graph_root = location.graph_root.to_str().ok_or_else(|| Error::invalid("the graph root is not UTF-8"))?;
    let run_root = own.run_root.as_ref().and_then(|path| path.to_str()).unwrap_or(DEFAULT_RUN_ROOT);
    table.insert("driver".into(), location.driver.name().into());
    table.insert("graphroot".into(), graph_root.into());
    table.insert("runroot".into(), run_root.into());
    Ok(HostStore { location, table })
}

/// Returns the table `storage` as JSON; an empty one if the file has none.
fn storage_table(bytes: &[u8], origin: &str) -> Result<Map<String, Value>> {
    let frame = || format!("reading storage.conf `{origin}`");
    let text = str::from_utf8(bytes).map_err(|error| Error::invalid(error.to_string())).context(frame)?;
    let document: toml::Table = text.parse().map_err(|error| Error::invalid(format!("{error}"))).context(frame)?;
    let json = serde_json::to_value(document.get("storage"));
    match json.map_err(|error| Error::invalid(error.to_string())).context(frame)? {
        Value::Object(table) => Ok(table),
        _ => Ok(Map::new()),
    }
}

/// Mounts the store, and makes sure that it has the images.
pub(super) fn map(request: &Request, mounts: &mut Mounts) -> Result<Map<String, Value>> {
    if request.origin != Origin::Source {
        return Err(Error::unsupported("images of the host come from sources only, not from pipelines"));
    }
    let store = host_store()?;
    let root = &store.location.graph_root;
    if !root.is_dir() {
        return Err(Error::not_found(format!(
            "the host has no container storage: `{}` is no directory",
            display(root)
        ))
        .hint("the graph root is the one that storage.conf names"));
    }
    let mut archives = Map::new();
    for (id, name) in &request.refs {
        let frame = || format!("mapping image {}", printable(id.as_bytes()));
        exact(id).and_then(|digest| check_stored(&store.location, &digest)).context(frame)?;
        let archive = json!({ "format": "containers-storage", "name": name, "storage": store.table });
        archives.insert(id.clone(), archive);
    }
    mounts.bind(root, &place(&request.target, "storage")?, Reach::Recursive)?;
    Ok(archives)
}
