//! References into a containers-storage: `[DRIVER@GRAPHROOT+RUNROOT:OPTIONS]IMAGE`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::name::is_hex64;
use super::{Name, cut, path, utf8};
use crate::error::{Error, Result, printable};
use crate::fs;
use crate::oci::ImageId;

/// The least number of digits that are taken for the beginning of an image ID, as in containers/image.
const SHORTEST_ID: usize = 3;

/// An image in a store, or the store itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageReference {
    /// Which store.
    pub store: StoreSpec,
    /// Which image; `None` is the store as such.
    pub image: Option<StoredImage>,
}

/// Which store: what is not given comes from storage.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreSpec {
    /// The driver.
    pub driver: Option<Driver>,
    /// The store's directory.
    pub graph_root: Option<PathBuf>,
    /// The directory of what does not outlive a boot.
    pub run_root: Option<PathBuf>,
    /// The driver's options, `KEY=VALUE` each.
    pub options: Vec<String>,
}

/// Which image of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredImage {
    /// The image's name; with a default tag if it was written without tag and digest.
    pub name: Option<Name>,
    /// The image's ID: 64 hex digits, or the beginning of an ID (three digits or more) that the store must have.
    /// With a name, the image must have both.
    pub id: Option<String>,
    /// Text that is the beginning of an image's ID if the store has such an image; only if not, `name` holds.
    /// `containers-storage:cafe` is the image whose ID begins so, else `docker.io/library/cafe:latest`.
    pub perhaps_id: Option<String>,
}

/// How a store keeps its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Driver {
    /// Differences, for the kernel's overlay file system.
    Overlay,
    /// Whole trees.
    Vfs,
}

impl StoredImage {
    /// Means the image that has this name.
    pub fn named(name: Name) -> Self {
        Self { name: Some(name.with_default_tag()), ..Self::default() }
    }

    /// Means the image that has this ID.
    pub fn with_id(id: &ImageId) -> Self {
        Self { id: Some(id.0.hex()), ..Self::default() }
    }
}

impl Driver {
    /// Returns the name that storage.conf and references know the driver by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "overlay" | "overlay2" => Ok(Self::Overlay),
            "vfs" => Ok(Self::Vfs),
            "aufs" | "btrfs" | "composefs" | "devicemapper" | "windows" | "zfs" => {
                Err(Error::unsupported(format!("the storage driver `{text}` is not supported"))
                    .hint("the drivers are overlay and vfs"))
            }
            _ => Err(Error::invalid(format!("unknown storage driver `{}`", printable(text.as_bytes())))
                .hint("the drivers are overlay and vfs")),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Parses what follows `containers-storage:`.
pub(super) fn parse(text: &[u8]) -> Result<StorageReference> {
    let (store, rest) = match text.strip_prefix(b"[") {
        None => (StoreSpec::default(), text),
        Some(inner) => {
            let Some(end) = inner.iter().position(|b| *b == b']') else {
                return Err(Error::invalid("the store specification has no closing `]`"));
            };
            (parse_store(&inner[..end])?, &inner[end + 1..])
        }
    };
    let image = match utf8(rest)? {
        "" if text.is_empty() => return Err(Error::invalid("it names neither a store nor an image")),
        "" => None,
        image => Some(parse_image(image)?),
    };
    Ok(StorageReference { store, image })
}

/// Parses what stands between the brackets, cutting in containers/image's order: driver, options, run root.
fn parse_store(text: &[u8]) -> Result<StoreSpec> {
    let empty = |what: &str| Error::invalid(format!("the store specification has an empty {what}"));
    let (driver, rest) = match text.iter().position(|b| *b == b'@') {
        Some(0) => return Err(empty("driver before `@`")),
        Some(at) if at + 1 == text.len() => return Err(empty("place after `@`")),
        Some(at) => (Some(utf8(&text[..at])?.parse()?), &text[at + 1..]),
        None if text.is_empty() => return Err(Error::invalid("the store specification `[]` is empty")),
        None => (None, text),
    };
    let (places, options) = match cut(rest) {
        Some((places, options)) => (places, utf8(options)?.split(',').map(str::to_string).collect()),
        None => (rest, Vec::new()),
    };
    let (graph_root, run_root) = match places.iter().position(|b| *b == b'+') {
        Some(plus) => (&places[..plus], &places[plus + 1..]),
        None => (places, &b""[..]),
    };
    let absolute = |what: &str, bytes: &[u8]| -> Result<Option<PathBuf>> {
        match bytes {
            [] => Ok(None),
            [b'/', ..] => path(bytes).map(Some),
            _ => Err(Error::invalid(format!("the {what} `{}` is not an absolute path", printable(bytes)))),
        }
    };
    Ok(StoreSpec {
        driver,
        graph_root: absolute("graph root", graph_root)?,
        run_root: absolute("run root", run_root)?,
        options,
    })
}

fn parse_image(text: &str) -> Result<StoredImage> {
    // osbuild and Podman write image IDs as digests too. A name `sha256` with such a tag nobody can mean.
    let bare = text.strip_prefix("sha256:").filter(|hex| is_hex64(hex)).unwrap_or(text);
    if is_hex64(bare) {
        return Ok(StoredImage { id: Some(bare.to_string()), ..StoredImage::default() });
    }
    let (name, id) = match text.rsplit_once('@') {
        Some((_, "")) => return Err(Error::invalid("the digest or image ID after `@` is empty")),
        Some((name, last)) if !last.contains(':') => {
            if !is_id(last) {
                let last = printable(last.as_bytes());
                return Err(Error::invalid(format!("`{last}` is neither a digest nor an image ID")));
            }
            (name, Some(last.to_string()))
        }
        _ => (text, None),
    };
    if name.is_empty() {
        return Ok(StoredImage { id, ..StoredImage::default() });
    }
    let perhaps_id = (id.is_none() && is_id(name)).then(|| name.to_string());
    Ok(StoredImage { name: Some(Name::parse_normalised(name)?.with_default_tag()), id, perhaps_id })
}

/// Returns whether the text can be an image ID or the beginning of one.
fn is_id(text: &str) -> bool {
    (SHORTEST_ID..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for StorageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.store, f)?;
        match &self.image {
            Some(image) => fmt::Display::fmt(image, f),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StoreSpec {
    /// Writes the specification with its brackets; nothing if all is left to storage.conf.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return Ok(());
        }
        f.write_str("[")?;
        if let Some(driver) = self.driver {
            write!(f, "{driver}@")?;
        }
        if let Some(root) = &self.graph_root {
            f.write_str(&fs::display(root))?;
        }
        match &self.run_root {
            Some(root) => write!(f, "+{}", fs::display(root))?,
            // Nothing at all after `@` would not be read again.
            None if self.graph_root.is_none() && self.options.is_empty() => f.write_str("+")?,
            None => {}
        }
        if !self.options.is_empty() {
            write!(f, ":{}", printable(self.options.join(",").as_bytes()))?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for StoredImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.id, &self.perhaps_id) {
            (_, None, Some(text)) => f.write_str(text),
            (Some(name), Some(id), _) => write!(f, "{name}@{id}"),
            (Some(name), None, _) => fmt::Display::fmt(name, f),
            (None, Some(id), _) if id.len() < 64 => write!(f, "@{id}"),
            (None, Some(id), _) => f.write_str(id),
            (None, None, None) => Ok(()),
        }
    }
}
