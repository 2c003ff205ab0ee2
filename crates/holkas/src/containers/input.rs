//! A stage's containers input: images and manifest lists as osbuild hands them over, brought together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::lists::{self, List};
use super::with_lists::digests;
use crate::error::{Context, Error, Result, printable};
use crate::image::ImageSource;
use crate::oci::ImageId;
use crate::reference::{ImageReference, LayoutReference, LayoutSelect, StorageReference, StoreSpec, StoredImage};

/// Images, and the manifest lists that may name them. Only read: resolving it twice gives the same result twice.
#[derive(Debug, Clone)]
pub struct ContainersInput {
    /// The directory that the images lie in, each under its key.
    pub images: PathBuf,
    /// The images by their keys.
    pub containers: BTreeMap<String, Container>,
    /// The lists.
    pub lists: Option<ListsInput>,
}

/// One image of the input.
#[derive(Debug, Clone)]
pub struct Container {
    /// What form the image has.
    pub format: ContainerFormat,
    /// The name that the image gets.
    pub name: String,
    /// All that the input says about the image.
    pub data: Map<String, Value>,
}

/// The manifest lists of the input.
#[derive(Debug, Clone)]
pub struct ListsInput {
    /// The directory that the lists lie in.
    pub path: PathBuf,
    /// Their names in it: their digests.
    pub files: BTreeSet<String>,
}

/// In what form an image lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerFormat {
    /// A directory in the layout of skopeo's `dir` transport.
    Dir,
    /// An OCI layout in a tar.
    OciArchive,
    /// In the host's store, which lies at `storage` beside the keys.
    ContainersStorage,
}

/// An image of the input, and the lists that name it.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The image's key in the input.
    pub key: String,
    /// Where the image lies; for [`ContainerFormat::ContainersStorage`], where the store lies.
    pub path: PathBuf,
    /// In what form.
    pub format: ContainerFormat,
    /// The files of the lists that name it, sorted.
    pub lists: Vec<PathBuf>,
    /// All that the input says about the image.
    pub data: Map<String, Value>,
    /// The name that the image gets.
    pub name: String,
}

impl ContainersInput {
    /// Takes the mapping that osbuild gives to stages: `images`, and perhaps `manifest-lists`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let frame = || "reading the containers input";
        let images = member(value, "images").context(frame)?;
        let frame = || "reading `images` of the containers input";
        let archives = member(images, "data").and_then(|data| member(data, "archives")).context(frame)?;
        let mut containers = BTreeMap::new();
        for (key, data) in object(archives).context(|| "`archives`").context(frame)? {
            let place = || format!("container `{}`", printable(key.as_bytes()));
            single_name(key).context(frame)?;
            containers.insert(key.clone(), container(data).context(place).context(frame)?);
        }
        let lists = match value.get("manifest-lists") {
            None | Some(Value::Null) => None,
            Some(lists) => {
                let frame = || "reading `manifest-lists` of the containers input";
                let files = member(lists, "data").and_then(|data| member(data, "files")).context(frame)?;
                let files = object(files).context(|| "`files`").context(frame)?;
                files.keys().try_for_each(|name| single_name(name)).context(frame)?;
                Some(ListsInput {
                    path: text(lists, "path").context(frame)?.into(),
                    files: files.keys().cloned().collect(),
                })
            }
        };
        Ok(Self { images: text(images, "path").context(frame)?.into(), containers, lists })
    }

    /// Finds for every image the lists that name it; a list that names none of them is an error.
    ///
    /// `open` opens a source, as [`crate::open::open_source`] does. It is called only if there are lists.
    pub fn resolve(
        &self,
        open: impl Fn(&ImageReference) -> Result<Box<dyn ImageSource>>,
    ) -> Result<Vec<ResolvedImage>> {
        let mut images: Vec<_> = self.containers.iter().map(|(key, container)| self.image(key, container)).collect();
        if let Some(input) = &self.lists {
            let files: Vec<PathBuf> = input.files.iter().map(|name| input.path.join(name)).collect();
            let lists = lists::read_lists(&files)?;
            pair(&mut images, &lists, &open)?;
        }
        Ok(images)
    }

    fn image(&self, key: &str, container: &Container) -> ResolvedImage {
        let below = match container.format {
            ContainerFormat::Dir | ContainerFormat::OciArchive => key,
            ContainerFormat::ContainersStorage => "storage",
        };
        ResolvedImage {
            key: key.to_string(),
            path: self.images.join(below),
            format: container.format,
            lists: Vec::new(),
            data: container.data.clone(),
            name: container.name.clone(),
        }
    }
}

/// Gives each image the lists that name it.
fn pair(
    images: &mut [ResolvedImage],
    lists: &[List],
    open: &dyn Fn(&ImageReference) -> Result<Box<dyn ImageSource>>,
) -> Result<()> {
    if lists.is_empty() {
        return Ok(());
    }
    let found = lists::of_lists(lists)?;
    let mut used = BTreeSet::new();
    for image in images {
        let frame = || format!("reading the manifest of container `{}`", printable(image.key.as_bytes()));
        let manifest = image.reference().and_then(|reference| open(&reference)).and_then(|s| s.top()).context(frame)?;
        let mut naming = BTreeSet::new();
        for digest in digests(manifest.bytes()).context(frame)? {
            for way in found.get(&digest).into_iter().flatten() {
                lists::check_size(&way.entry, manifest.bytes().len()).context(frame)?;
                naming.extend(way.lists.iter().cloned());
            }
        }
        used.extend(naming.iter().cloned());
        image.lists = naming.into_iter().collect();
    }
    let unused: Vec<_> = lists
        .iter()
        .filter(|list| !used.contains(&list.path))
        .map(|list| list.path.file_name().map(|name| printable(name.as_encoded_bytes())).unwrap_or_default())
        .collect();
    if unused.is_empty() {
        return Ok(());
    }
    // osbuild's own sentence: people search for it.
    Err(Error::invalid(format!(
        "The following manifest lists specified in the input did not match any of the container images: {}",
        unused.join(", ")
    )))
}

impl ResolvedImage {
    /// Returns the reference that opens the image, without its lists.
    pub fn reference(&self) -> Result<ImageReference> {
        Ok(match self.format {
            ContainerFormat::Dir => ImageReference::Dir(self.path.clone()),
            ContainerFormat::OciArchive => {
                ImageReference::OciArchive(LayoutReference { path: self.path.clone(), select: LayoutSelect::Only })
            }
            ContainerFormat::ContainersStorage => ImageReference::Storage(self.storage_reference()?),
        })
    }

    fn storage_reference(&self) -> Result<StorageReference> {
        let hex = self.key.strip_prefix("sha256:").unwrap_or(&self.key);
        let id = crate::oci::Digest::from_sha256_hex(hex)
            .context(|| format!("the key `{}` is not an image ID", printable(self.key.as_bytes())))?;
        let driver = match self.data.get("storage").and_then(|storage| storage.get("driver")) {
            None | Some(Value::Null) => None,
            Some(Value::String(driver)) if driver.is_empty() => None,
            Some(Value::String(driver)) => Some(driver.parse()?),
            Some(_) => return Err(Error::invalid("`storage.driver` is not a string")),
        };
        Ok(StorageReference {
            store: StoreSpec { driver, graph_root: Some(self.path.clone()), ..StoreSpec::default() },
            image: Some(StoredImage::with_id(&ImageId(id))),
        })
    }
}

impl ContainerFormat {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "dir" => Ok(Self::Dir),
            "oci-archive" => Ok(Self::OciArchive),
            "containers-storage" => Ok(Self::ContainersStorage),
            _ => Err(Error::invalid(format!("Unknown container format {}", printable(text.as_bytes())))),
        }
    }
}

fn container(value: &Value) -> Result<Container> {
    Ok(Container {
        data: object(value)?.clone(),
        format: ContainerFormat::parse(text(value, "format")?)?,
        name: text(value, "name")?.to_string(),
    })
}

/// Refuses keys that would name anything but a file directly below.
fn single_name(name: &str) -> Result<()> {
    match Path::new(name).components().count() == 1 && !name.contains(['/', '\0']) && name != ".." && name != "." {
        true => Ok(()),
        false => Err(Error::invalid(format!("`{}` is not the name of a file", printable(name.as_bytes())))),
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().ok_or_else(|| Error::invalid("not an object"))
}

fn member<'a>(value: &'a Value, key: &str) -> Result<&'a Value> {
    object(value)?.get(key).ok_or_else(|| Error::invalid(format!("`{key}` is missing")))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    member(value, key)?.as_str().ok_or_else(|| Error::invalid(format!("`{key}` is not a string")))
}
