//! What a user writes to name an image in a room: `transport:…`, and the values it stands for.
//!
//! The grammar is that of the skopeo family. All fields are values: nothing parses them out of text again,
//! so that a path that was given as a value may hold any byte, `:` included.

mod docker;
pub(crate) mod name;
mod storage;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

pub use docker::DockerReference;
pub use name::Name;
pub(crate) use name::is_host;
pub use storage::{Driver, StorageReference, StoreSpec, StoredImage};

use crate::error::{Context, Error, Result, printable};
use crate::fs;

/// One image, or what a room holds as its only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageReference {
    /// `dir:PATH`: a directory in the layout of skopeo's `dir` transport.
    Dir(PathBuf),
    /// `oci:PATH[:REF]`: an OCI image layout.
    Oci(LayoutReference),
    /// `oci-archive:FILE[:REF]`: an OCI image layout in a tar.
    OciArchive(LayoutReference),
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive(DockerArchiveReference),
    /// `containers-storage:[STORE]IMAGE`: a store that Podman and CRI-O run images from.
    Storage(StorageReference),
    /// `docker://[HOST[:PORT]/]PATH[:TAG|@DIGEST]`: a registry.
    Docker(DockerReference),
}

/// An image of an OCI layout, which is a directory or a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutReference {
    /// The directory or the file.
    pub path: PathBuf,
    /// Which of the images.
    pub select: LayoutSelect,
}

/// Which image of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutSelect {
    /// The only one there is.
    Only,
    /// The one whose `org.opencontainers.image.ref.name` is this.
    Named(String),
    /// The one at this place in `index.json`, counted from 0. Only to read.
    Position(usize),
}

/// An image of a docker-archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerArchiveReference {
    /// The file.
    pub path: PathBuf,
    /// Which of the images.
    pub select: ArchiveSelect,
}

/// Which image of a docker-archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveSelect {
    /// The only one there is.
    Only,
    /// The one that has this tag.
    Tag(Name),
    /// The one at this place in `manifest.json`, counted from 0. Only to read.
    Position(usize),
}

/// What a reference can begin with.
const TRANSPORTS: &str = "docker, dir, oci, oci-archive, docker-archive and containers-storage";

impl ImageReference {
    /// Returns the transport's name: what the text begins with.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Dir(_) => "dir",
            Self::Oci(_) => "oci",
            Self::OciArchive(_) => "oci-archive",
            Self::DockerArchive(_) => "docker-archive",
            Self::Storage(_) => "containers-storage",
            Self::Docker(_) => "docker",
        }
    }

    /// Parses what a user wrote, in which paths need not be UTF-8.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self> {
        let text = text.as_ref().as_bytes();
        parse(text).context(|| format!("reading image reference `{}`", printable(text)))
    }
}

impl FromStr for ImageReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

fn parse(text: &[u8]) -> Result<ImageReference> {
    let Some((transport, rest)) = cut(text) else {
        return Err(Error::invalid("it has no transport").hint(format!(
            "an image reference is TRANSPORT:…, such as oci:/srv/image; the transports are {TRANSPORTS}"
        )));
    };
    Ok(match transport {
        b"dir" => ImageReference::Dir(path(rest)?),
        b"oci" => ImageReference::Oci(layout(rest, true)?),
        b"oci-archive" => ImageReference::OciArchive(layout(rest, false)?),
        b"docker-archive" => ImageReference::DockerArchive(docker_archive(rest)?),
        b"containers-storage" => ImageReference::Storage(storage::parse(rest)?),
        b"docker" => ImageReference::Docker(docker::parse(rest)?),
        b"docker-daemon" | b"tarball" | b"sif" | b"ostree" | b"atomic" => {
            let transport = printable(transport);
            return Err(Error::unsupported(format!("the transport `{transport}` is not supported"))
                .hint(format!("the transports are {TRANSPORTS}")));
        }
        _ => {
            return Err(Error::invalid(format!("unknown transport `{}`", printable(transport)))
                .hint(format!("the transports are {TRANSPORTS}")));
        }
    })
}

/// Cuts at the first `:`.
fn cut(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((&text[..colon], &text[colon + 1..]))
}

fn path(bytes: &[u8]) -> Result<PathBuf> {
    match bytes {
        [] => Err(Error::invalid("the path is empty")),
        bytes if bytes.contains(&0) => Err(Error::invalid("the path has a NUL byte")),
        bytes => Ok(fs::path_of(bytes).to_path_buf()),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::invalid(format!("`{}` is not UTF-8", printable(bytes))))
}

/// Parses the digits of `@N`.
fn position(digits: &str) -> Result<usize> {
    let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| digits.parse().ok()).flatten().ok_or_else(|| {
        Error::invalid(format!("`@{}` is not a position", printable(digits.as_bytes())))
            .hint("a position is @ and a number, @0 being the first image")
    })
}

fn layout(rest: &[u8], positions: bool) -> Result<LayoutReference> {
    let (file, image) = cut(rest).unwrap_or((rest, b""));
    let select = match utf8(image)? {
        "" => LayoutSelect::Only,
        text => match text.strip_prefix('@') {
            Some(digits) if positions => LayoutSelect::Position(position(digits)?),
            Some(_) => return Err(Error::invalid("an oci-archive has no positions (`@N`): name the image instead")),
            None => LayoutSelect::Named(layout_name(text)?),
        },
    };
    Ok(LayoutReference { path: path(file)?, select })
}

/// Checks a name by the grammar of `org.opencontainers.image.ref.name`.
fn layout_name(text: &str) -> Result<String> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    let component =
        |part: &str| part.replace("--", "-").split(['-', '.', '_', ':', '@', '+']).all(word) && !part.contains("---");
    if text.split('/').all(component) {
        return Ok(text.to_string());
    }
    let text = printable(text.as_bytes());
    Err(Error::invalid(format!("`{text}` is not a name that an OCI layout can hold"))
        .hint("it is letters and digits, with single - . _ : @ + / between them"))
}

fn docker_archive(rest: &[u8]) -> Result<DockerArchiveReference> {
    let (file, select) = match cut(rest) {
        None => (rest, ArchiveSelect::Only),
        Some((file, image)) => {
            let text = utf8(image)?;
            let select = match text.strip_prefix('@') {
                Some(digits) => ArchiveSelect::Position(position(digits)?),
                None => {
                    let name = Name::parse_normalised(text)?.with_default_tag();
                    if name.digest().is_some() {
                        return Err(Error::invalid("an image in a docker-archive has no digest to be named by"));
                    }
                    ArchiveSelect::Tag(name)
                }
            };
            (file, select)
        }
    };
    Ok(DockerArchiveReference { path: path(file)?, select })
}

impl fmt::Display for ImageReference {
    /// Writes what [`ImageReference::parse`] reads, but bytes of paths that cannot be printed are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.transport())?;
        match self {
            Self::Dir(path) => f.write_str(&fs::display(path)),
            Self::Oci(layout) | Self::OciArchive(layout) => fmt::Display::fmt(layout, f),
            Self::DockerArchive(archive) => fmt::Display::fmt(archive, f),
            Self::Storage(storage) => fmt::Display::fmt(storage, f),
            Self::Docker(docker) => fmt::Display::fmt(docker, f),
        }
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fs::display(&self.path))?;
        match &self.select {
            LayoutSelect::Only => Ok(()),
            LayoutSelect::Named(name) => write!(f, ":{}", printable(name.as_bytes())),
            LayoutSelect::Position(position) => write!(f, ":@{position}"),
        }
    }
}

impl fmt::Display for DockerArchiveReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fs::display(&self.path))?;
        match &self.select {
            ArchiveSelect::Only => Ok(()),
            ArchiveSelect::Tag(name) => write!(f, ":{name}"),
            ArchiveSelect::Position(position) => write!(f, ":@{position}"),
        }
    }
}
