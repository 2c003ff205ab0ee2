//! `images.toml`: the images to embed, as a person writes them. Errors point at line, column and key.
//!
//! ```toml
//! [store]                                  # all optional
//! path = "/usr/share/containers/storage"   # below the root; default /var/lib/containers/storage
//! driver = "overlay"                       # or "vfs"
//!
//! [[image]]
//! source = "oci:images/app:1.4"            # relative paths are relative to this file
//! name = "registry.example.org/team/app:1.4"
//! manifest-list = "lists/app.json"         # optional, or several
//! platform = "linux/arm64"                 # optional, or several
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::EmbedImage;
use crate::configuration::{Entry, TomlText};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::fs::{self, display};
use crate::limits::CONFIGURATION;
use crate::oci::Platform;
use crate::reference::{Driver, ImageReference, Name};

/// Where Podman and CRI-O look for images if nothing tells them otherwise.
const DEFAULT_STORE: &str = "/var/lib/containers/storage";

/// What an `images.toml` says.
#[derive(Debug, Clone)]
pub struct ImagesFile {
    /// The graph root as the OS that runs will see it: absolute, without `.` and `..`.
    pub store: PathBuf,
    /// The driver of the store.
    pub driver: Driver,
    /// The images, in the order of the file.
    pub images: Vec<EmbedImage>,
}

/// Reads an `images.toml`.
///
/// # Errors
///
/// `Invalid`, with line, column, key and the line itself, for anything that is not as it must be.
pub fn read(path: &Path) -> Result<ImagesFile> {
    let frame = || format!("reading `{}`", display(path));
    let bytes = fs::read_file(path, CONFIGURATION)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(frame)?;
    parse(&bytes, path)
}

/// Parses an `images.toml`. `path` names it in errors, and its directory is where relative paths begin.
pub fn parse(bytes: &[u8], path: &Path) -> Result<ImagesFile> {
    let file = File { text: TomlText::new(bytes, path)? };
    let document = file.text.document()?;
    file.document(document.get_ref(), document.span())
}

/// The file that is being read.
struct File<'a> {
    text: TomlText<'a>,
}

/// A table whose keys are all known.
struct Table<'a, 'i> {
    what: String,
    span: Range<usize>,
    entries: BTreeMap<&'a str, Entry<'a, 'i>>,
}

impl Table<'_, '_> {
    fn get(&self, key: &str) -> Option<&Entry<'_, '_>> {
        self.entries.get(key)
    }
}

impl<'a> File<'a> {
    /// Takes a table apart, refusing unknown keys.
    fn table<'t, 'i>(
        &self,
        table: &'t DeTable<'i>,
        span: Range<usize>,
        what: &str,
        known: &[&str],
    ) -> Result<Table<'t, 'i>> {
        let mut entries = BTreeMap::new();
        for (name, value) in table.iter() {
            let text: &str = name.get_ref();
            let key = format!("`{}`{}{what}", printable(text.as_bytes()), if what.is_empty() { "" } else { " of " });
            if !known.contains(&text) {
                let error = Error::invalid(format!("unknown key; the keys here are {}", quoted(known)));
                return Err(self.text.error(&key, &name.span(), error));
            }
            entries.insert(text, Entry { key, value });
        }
        Ok(Table { what: what.to_string(), span, entries })
    }

    fn required<'t, 'i, 's>(&self, table: &'s Table<'t, 'i>, key: &str) -> Result<&'s Entry<'t, 'i>> {
        table.entries.get(key).ok_or_else(|| {
            let what = if table.what.is_empty() { "the file" } else { &table.what };
            self.text.error(what, &table.span, Error::invalid(format!("the key `{key}` is missing")))
        })
    }

    fn string<'v>(&self, entry: &'v Entry<'_, '_>) -> Result<&'v str> {
        let text = match entry.value.get_ref().as_str() {
            Some(text) => text,
            None => return self.text.wrong_type(entry, "a string"),
        };
        match text {
            "" => self.text.at(entry, Err(Error::invalid("the string is empty"))),
            _ if text.contains('\0') => self.text.at(entry, Err(Error::invalid("the string has a NUL character"))),
            _ => Ok(text),
        }
    }

    /// Returns the entries of a list, or the one entry that stands in its place.
    fn one_or_more<'v, 'i>(&self, entry: &Entry<'v, 'i>) -> Result<Vec<Entry<'v, 'i>>> {
        let key = || entry.key.clone();
        match entry.value.get_ref() {
            DeValue::String(_) => Ok(vec![Entry { key: key(), value: entry.value }]),
            DeValue::Array(array) if array.iter().next().is_none() => {
                self.text.at(entry, Err(Error::invalid("the list is empty")))
            }
            DeValue::Array(array) => Ok(array.iter().map(|value| Entry { key: key(), value }).collect()),
            _ => self.text.wrong_type(entry, "a string or a list of strings"),
        }
    }

    fn document(&self, document: &DeTable<'_>, span: Range<usize>) -> Result<ImagesFile> {
        let document = self.table(document, span.start..span.start, "", &["store", "image"])?;
        let (store, driver) = match document.get("store") {
            Some(entry) => self.store(entry)?,
            None => (PathBuf::from(DEFAULT_STORE), Driver::Overlay),
        };
        let entry = self.required(&document, "image")?;
        let Some(array) = entry.value.get_ref().as_array() else {
            return self.text.wrong_type(entry, "[[image]] tables");
        };
        let mut names = BTreeMap::new();
        let images = array
            .iter()
            .enumerate()
            .map(|(n, value)| {
                let what = format!("[[image]] {}", n + 1);
                self.image(&Entry { key: what, value }, &mut names)
            })
            .collect::<Result<_>>()?;
        Ok(ImagesFile { store, driver, images })
    }

    fn store(&self, entry: &Entry<'_, '_>) -> Result<(PathBuf, Driver)> {
        let Some(table) = entry.value.get_ref().as_table() else {
            return self.text.wrong_type(entry, "a table");
        };
        let table = self.table(table, entry.value.span(), "[store]", &["path", "driver"])?;
        let path = match table.get("path") {
            Some(entry) => self.text.at(entry, store_path(self.string(entry)?))?,
            None => PathBuf::from(DEFAULT_STORE),
        };
        let driver = match table.get("driver") {
            Some(entry) => self.text.at(entry, self.string(entry)?.parse())?,
            None => Driver::Overlay,
        };
        Ok((path, driver))
    }

    /// Reads one image. `names` has all names so far, with the lines that they stand on.
    fn image(&self, entry: &Entry<'_, '_>, names: &mut BTreeMap<Name, usize>) -> Result<EmbedImage> {
        let Some(table) = entry.value.get_ref().as_table() else {
            return self.text.wrong_type(entry, "a table");
        };
        let known = ["source", "name", "manifest-list", "platform"];
        let table = self.table(table, entry.value.span(), &entry.key, &known)?;
        let source = self.required(&table, "source")?;
        let source = self.text.at(source, self.string(source)?.parse()).map(|source| self.relative(source))?;
        let mut image = EmbedImage { source, names: Vec::new(), manifest_lists: Vec::new(), platforms: Vec::new() };
        for entry in self.one_or_more(self.required(&table, "name")?)? {
            let name = self.text.at(&entry, name(self.string(&entry)?))?;
            let line = self.text.line(entry.value.span().start);
            if let Some(first) = names.insert(name.clone(), line) {
                let error =
                    Error::invalid(format!("the name {name} is given twice, on line {first} and on line {line}"));
                return self.text.at(
                    &entry,
                    Err(error.hint("several platforms of one image are one [[image]] with a list as its `platform`")),
                );
            }
            image.names.push(name);
        }
        for entry in table.get("manifest-list").map_or(Ok(Vec::new()), |entry| self.one_or_more(entry))? {
            image.manifest_lists.push(self.below(Path::new(self.string(&entry)?)));
        }
        for entry in table.get("platform").map_or(Ok(Vec::new()), |entry| self.one_or_more(entry))? {
            let platform: Platform = self.text.at(&entry, self.string(&entry)?.parse())?;
            if image.platforms.contains(&platform) {
                return self.text.at(&entry, Err(Error::invalid(format!("the platform {platform} is given twice"))));
            }
            image.platforms.push(platform);
        }
        Ok(image)
    }

    /// Returns a path that the file gives, with the file's directory before it if it is relative.
    fn below(&self, path: &Path) -> PathBuf {
        self.text.path().parent().unwrap_or(Path::new("")).join(path)
    }

    fn relative(&self, mut source: ImageReference) -> ImageReference {
        match &mut source {
            ImageReference::Dir(path) => *path = self.below(path),
            ImageReference::Oci(layout) | ImageReference::OciArchive(layout) => layout.path = self.below(&layout.path),
            ImageReference::DockerArchive(archive) => archive.path = self.below(&archive.path),
            // Their grammars have absolute paths only, or none.
            ImageReference::Storage(_) | ImageReference::Docker(_) => {}
        }
        source
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn store_path(text: &str) -> Result<PathBuf> {
    let not = |why: &str| Err(Error::invalid(format!("`{}` {why}", printable(text.as_bytes()))));
    if !text.starts_with('/') {
        return not("is not an absolute path");
    }
    if text.split('/').any(|part| part == "..") {
        return not("has a `..`");
    }
    let path: PathBuf = Path::new(text).components().collect();
    if path == Path::new("/") {
        return not("is the root itself");
    }
    Ok(path)
}

fn name(text: &str) -> Result<Name> {
    let name = Name::parse_normalised(text)?.with_default_tag();
    match name.digest() {
        None => Ok(name),
        Some(_) => Err(Error::invalid("a name to give must not have a digest")
            .hint("an embedded image is found by its digests without being named so")),
    }
}
