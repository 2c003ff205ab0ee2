//! Where a store is: what a reference says, else storage.conf, else the defaults of containers-storage.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::{Context, Error, Result, printable};
use crate::fs::display;
use crate::reference::{Driver, StoreSpec};

/// Where containers-storage is, if nobody says otherwise.
pub const DEFAULT_GRAPH_ROOT: &str = "/var/lib/containers/storage";

/// What we need of a storage.conf. Keys that concern mounting and pulling mean nothing to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageConf {
    /// `driver`.
    pub driver: Option<Driver>,
    /// `graphroot`.
    pub graph_root: Option<PathBuf>,
    /// `runroot`.
    pub run_root: Option<PathBuf>,
    /// `rootless_storage_path`: the graph root of users who are not root.
    pub rootless: Option<PathBuf>,
    /// `additionalimagestores`.
    pub additional: Vec<PathBuf>,
}

impl StorageConf {
    /// Parses a storage.conf. `origin` is where it came from, for messages; `variable` gives the values of the variables
    /// that paths may name (`$HOME`).
    pub fn parse(bytes: &[u8], origin: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        parse(bytes, variable).context(|| format!("reading storage.conf `{origin}`"))
    }

    /// Adds the additional stores that options name (`additionalimagestore=PATH`), before those that are there.
    ///
    /// # Errors
    ///
    /// `Invalid` if an option has no value, or names no absolute path.
    pub fn add_options(&mut self, options: &[String]) -> Result<()> {
        let mut named = Vec::new();
        for option in options {
            named.extend(additional_store(option)?);
        }
        self.additional.splice(0..0, named);
        Ok(())
    }

    /// Returns what holds for a user who is not root, of the user's own file and the system's.
    ///
    /// As in containers-storage: the user's own file stands alone. Where there is none, only the driver of the system's
    /// file counts; and its graph root is never the user's, which is `graph_root` unless a file names another.
    pub fn of_user(own: Option<Self>, system: Option<Self>, graph_root: PathBuf) -> Self {
        let system = system.unwrap_or_default();
        let usual = system.rootless.unwrap_or(graph_root);
        match own {
            Some(own) => {
                let graph_root = own.graph_root.or_else(|| own.rootless.clone()).unwrap_or(usual);
                Self { graph_root: Some(graph_root), ..own }
            }
            None => Self { driver: system.driver, graph_root: Some(usual), ..Self::default() },
        }
    }

    /// Puts a drop-in on top: what it sets, it replaces.
    #[must_use]
    pub fn merged_with(self, later: Self) -> Self {
        Self {
            driver: later.driver.or(self.driver),
            graph_root: later.graph_root.or(self.graph_root),
            run_root: later.run_root.or(self.run_root),
            rootless: later.rootless.or(self.rootless),
            additional: if later.additional.is_empty() { self.additional } else { later.additional },
        }
    }
}

fn parse(bytes: &[u8], variable: &dyn Fn(&str) -> Option<String>) -> Result<StorageConf> {
    let text = str::from_utf8(bytes).map_err(|error| Error::invalid(format!("not valid UTF-8: {error}")))?;
    let document: Table = text.parse().map_err(|error| Error::invalid(format!("not valid TOML: {error}")))?;
    let Some(storage) = table(&document, "storage")? else { return Ok(StorageConf::default()) };
    if let Some(split) = text_of(storage, "imagestore")? {
        return Err(Error::unsupported(format!(
            "images are kept apart from containers, in `{}`",
            printable(split.as_bytes())
        ))
        .hint("name that directory as the graph root, or set `additionalimagestores` in place of `imagestore`"));
    }
    let options = table(storage, "options")?;
    let additional = match options.and_then(|options| options.get("additionalimagestores")) {
        None => Vec::new(),
        Some(Value::Array(paths)) => paths
            .iter()
            .map(|path| path.as_str().ok_or_else(|| Error::invalid("`additionalimagestores` is not a list of strings")))
            .filter(|path| !matches!(path, Ok("")))
            .map(|path| path.and_then(absolute))
            .collect::<Result<_>>()?,
        Some(_) => return Err(Error::invalid("`additionalimagestores` is not a list of strings")),
    };
    let path = |key| text_of(storage, key)?.map(|text| absolute(&expanded(text, variable))).transpose();
    Ok(StorageConf {
        driver: text_of(storage, "driver")?.map(str::parse).transpose()?,
        graph_root: path("graphroot")?,
        run_root: path("runroot")?,
        rootless: path("rootless_storage_path")?,
        additional,
    })
}

fn table<'a>(table: &'a Table, key: &str) -> Result<Option<&'a Table>> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::Table(table)) => Ok(Some(table)),
        Some(_) => Err(Error::invalid(format!("`{key}` is not a table"))),
    }
}

/// Returns a string; an empty one counts as absent, as in containers-storage.
fn text_of<'a>(table: &'a Table, key: &str) -> Result<Option<&'a str>> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Error::invalid(format!("`{key}` is not a string"))),
    }
}

/// Puts the values of variables into a text, as a shell does it with `$NAME` and `${NAME}`; none is the empty one.
fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
            Some(braced) => braced,
            None => part.split_at(part.find(|c| !is_of_name(c)).unwrap_or(part.len())),
        };
        whole += &variable(name).unwrap_or_default();
        whole += rest;
    }
    whole
}

fn absolute(path: &str) -> Result<PathBuf> {
    match Path::new(path) {
        path if path.is_absolute() => Ok(path.to_path_buf()),
        _ => Err(Error::invalid(format!("`{}` is not an absolute path", printable(path.as_bytes())))),
    }
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// How layers are kept.
    pub driver: Driver,
    /// The directory that all is in.
    pub graph_root: PathBuf,
    /// The graph roots of read-only stores of the same driver that are looked into next.
    pub additional: Vec<PathBuf>,
}

impl Location {
    /// Finds out where the store of a reference is.
    ///
    /// As in containers-storage, the additional stores of storage.conf belong to its own graph root:
    /// a reference that names a graph root also names its additional stores, or has none.
    /// Where nobody names a driver, the one whose directory is there is taken.
    pub fn resolve(spec: &StoreSpec, conf: Option<&StorageConf>) -> Result<Self> {
        let own = match (&spec.graph_root, conf) {
            (None, Some(conf)) => conf.additional.as_slice(),
            _ => &[],
        };
        let graph_root = spec
            .graph_root
            .clone()
            .or_else(|| conf.and_then(|conf| conf.graph_root.clone()))
            .unwrap_or_else(|| DEFAULT_GRAPH_ROOT.into());
        let mut additional = Vec::new();
        for option in &spec.options {
            additional.extend(additional_store(option)?);
        }
        additional.extend_from_slice(own);
        let driver = match spec.driver.or_else(|| conf.and_then(|conf| conf.driver)) {
            Some(driver) => driver,
            None => present_driver(&graph_root),
        };
        Ok(Self { driver, graph_root, additional })
    }

    /// Returns the store as it stands in a reference.
    pub fn specification(&self) -> String {
        format!("[{}@{}]", self.driver, display(&self.graph_root))
    }
}

/// Returns the store that an option of the driver adds. Options that concern mounting mean nothing to us.
fn additional_store(option: &str) -> Result<Option<PathBuf>> {
    let (key, value) = option
        .split_once('=')
        .ok_or_else(|| Error::invalid(format!("store option `{}` has no `=`", printable(option.as_bytes()))))?;
    let key = key.trim().to_ascii_lowercase();
    let name = key.split_once('.').map_or(key.as_str(), |(_driver, name)| name);
    match name {
        "imagestore" | "additionalimagestore" => absolute(value.trim()).map(Some),
        _ => Ok(None),
    }
}

/// Returns the driver that a graph root was used with. containers-storage never chooses vfs by itself,
/// but then looks into an `overlay` that is not there.
fn present_driver(graph_root: &Path) -> Driver {
    let has = |driver: Driver| graph_root.join(driver.name()).is_dir();
    match has(Driver::Vfs) && !has(Driver::Overlay) {
        true => Driver::Vfs,
        false => Driver::Overlay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        [storage]
        driver = "overlay"
        graphroot = "/srv/g"
        runroot = ""
        transient_store = true
        [storage.options]
        additionalimagestores = ["/usr/lib/containers/storage", ""]
        pull_options = {enable_partial_images = "true"}
        [storage.options.overlay]
        mountopt = "nodev,metacopy=on"
    "#;

    fn conf(text: &str) -> Result<StorageConf> {
        let variable = |name: &str| (name == "HOME" || name == "UID").then(|| format!("of-{name}"));
        StorageConf::parse(text.as_bytes(), "test.conf", &variable)
    }

    #[test]
    fn a_users_store_is_never_the_systems() {
        let graph_root = |own: Option<&str>, system: Option<&str>| {
            let [own, system] = [own, system].map(|text| text.map(|text| conf(text).unwrap()));
            StorageConf::of_user(own, system, "/home/u".into())
        };
        let system = "[storage]\ndriver='vfs'\ngraphroot='/var/g'\n[storage.options]\nadditionalimagestores=['/a']";
        let of_system = graph_root(None, Some(system));
        assert_eq!(of_system.graph_root.as_deref(), Some(Path::new("/home/u")));
        assert_eq!((of_system.driver, of_system.additional.len()), (Some(Driver::Vfs), 0));
        let rootless = "[storage]\nrootless_storage_path='/srv/$UID/${HOME}/x'";
        for (own, system, expected) in [
            (None, None, "/home/u"),
            (None, Some(rootless), "/srv/of-UID/of-HOME/x"),
            (Some("[storage]\ngraphroot='/$HOME$NONE/g'"), Some(rootless), "/of-HOME/g"),
            (Some("[storage]\nrootless_storage_path='/own'"), Some(rootless), "/own"),
            (Some("[storage]"), Some(rootless), "/srv/of-UID/of-HOME/x"),
            (Some("[storage]"), Some(system), "/home/u"),
        ] {
            assert_eq!(graph_root(own, system).graph_root.as_deref(), Some(Path::new(expected)), "{own:?} {system:?}");
        }
        assert_eq!(graph_root(Some(system), None).additional.len(), 1);
    }

    #[test]
    fn what_a_reference_says_wins_over_the_file() {
        let conf = conf(CONF).unwrap();
        let location = Location::resolve(&StoreSpec::default(), Some(&conf)).unwrap();
        assert_eq!(location.graph_root, Path::new("/srv/g"));
        assert_eq!(location.additional, [Path::new("/usr/lib/containers/storage")]);
        let spec = StoreSpec {
            driver: Some(Driver::Vfs),
            graph_root: Some("/other".into()),
            run_root: None,
            options: vec![
                "overlay.imagestore=/a".into(),
                "additionalimagestore=/b".into(),
                "vfs.ignore_chown_errors=true".into(),
            ],
        };
        let location = Location::resolve(&spec, Some(&conf)).unwrap();
        assert_eq!(location.driver, Driver::Vfs);
        assert_eq!(location.graph_root, Path::new("/other"));
        assert_eq!(location.additional, [Path::new("/a"), Path::new("/b")]);
        assert_eq!(Location::resolve(&StoreSpec::default(), None).unwrap().graph_root, Path::new(DEFAULT_GRAPH_ROOT));
    }

    #[test]
    fn a_drop_in_replaces_what_it_sets() {
        let merged = conf(CONF).unwrap().merged_with(conf("[storage]\ngraphroot='/x'").unwrap());
        assert_eq!(merged.graph_root.as_deref(), Some(Path::new("/x")));
        assert_eq!(merged.driver, Some(Driver::Overlay));
        assert_eq!(merged.additional.len(), 1);
    }

    #[test]
    fn wrong_files_are_named() {
        for (text, message) in [
            ("storage = 1", "`storage` is not a table"),
            ("[storage]\ndriver='btrfs'", "not supported"),
            ("[storage]\ngraphroot='x'", "not an absolute path"),
            ("[storage]\ngraphroot=1", "`graphroot` is not a string"),
            ("[storage.options]\nadditionalimagestores='x'", "not a list of strings"),
            ("[storage]\nimagestore='/x'", "kept apart"),
            ("[storage", "not valid TOML"),
        ] {
            let error = conf(text).unwrap_err().to_string();
            assert!(error.contains("test.conf") && error.contains(message), "{error}");
        }
    }
}
