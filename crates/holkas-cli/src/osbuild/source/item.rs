//! What is to be fetched, as a manifest says it: an image or a list by its digest, and where it is.

use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, Result, printable};
use holkas::oci::{Algorithm, Digest};
use holkas::reference::{DockerReference, ImageReference, Name, StorageReference, StoreSpec, StoredImage};
use serde_json::Value;

/// Where something is, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The name as the manifest has it, with the digest, for messages.
    pub(super) shown: String,
    /// The digest of the manifest or list.
    pub(super) digest: Digest,
    name: Name,
    pub(super) transport: Transport,
}

/// By which way it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    /// Out of a registry, which must prove who it is or need not.
    Docker { tls_verify: bool },
    /// Out of the store of the host, or the one whose graph root this is.
    Storage { location: Option<PathBuf> },
}

impl Item {
    /// Reads the item of an image.
    pub(super) fn of_image(item: &Value) -> Result<Self> {
        let image = image(item)?;
        let digest = image.get("digest").ok_or_else(|| Error::invalid("`digest` is missing"))?;
        let digest = digest.as_str().ok_or_else(|| Error::invalid("`digest` is not a string"))?;
        Self::new(image, exact(digest).context(|| "reading `digest`")?)
    }

    /// Reads the item of a list, whose key is its digest.
    pub(super) fn of_list(digest: Digest, item: &Value) -> Result<Self> {
        Self::new(image(item)?, digest)
    }

    fn new(image: &Value, digest: Digest) -> Result<Self> {
        let text = |key: &str| match image.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Error::invalid(format!("`{key}` is not a string"))),
        };
        let written = text("name")?.ok_or_else(|| Error::invalid("`name` is missing"))?;
        let name = Name::parse_normalised(written).context(|| "reading `name`")?;
        if name.tag().is_some() || name.digest().is_some() {
            let what = if name.tag().is_some() { "tag" } else { "digest" };
            return Err(Error::invalid(format!("the name `{}` has a {what}", printable(written.as_bytes())))
                .hint("which image of the repository is meant is said by the digest alone"));
        }
        let transport = match text("containers-transport")? {
            None | Some("docker") => {
                let tls_verify = match image.get("tls-verify") {
                    None | Some(Value::Null) => true,
                    Some(Value::Bool(verify)) => *verify,
                    Some(_) => return Err(Error::invalid("`tls-verify` is neither true nor false")),
                };
                Transport::Docker { tls_verify }
            }
            Some("containers-storage") => {
                let location = text("storage-location")?.filter(|path| !path.is_empty()).map(PathBuf::from);
                Transport::Storage { location: location.map(checked).transpose()? }
            }
            Some(other) => {
                let other = printable(other.as_bytes());
                return Err(Error::unsupported(format!("`containers-transport` is `{other}`"))
                    .hint("it is docker or containers-storage"));
            }
        };
        Ok(Self { shown: format!("{written}@{digest}"), digest, name, transport })
    }

    /// Returns the reference that opens it.
    pub(super) fn reference(&self) -> Result<ImageReference> {
        let name = self.name.clone().with_digest(self.digest);
        Ok(match &self.transport {
            Transport::Docker { .. } => ImageReference::Docker(DockerReference::named(name)?),
            Transport::Storage { location } => ImageReference::Storage(StorageReference {
                store: StoreSpec { graph_root: location.clone(), ..StoreSpec::default() },
                image: Some(StoredImage::named(name)),
            }),
        })
    }
}

fn image(item: &Value) -> Result<&Value> {
    item.get("image").filter(|image| image.is_object()).ok_or_else(|| Error::invalid("`image` is missing"))
}

/// Makes sure that there is a store to look into: an empty one would only be said not to have the image.
fn checked(location: PathBuf) -> Result<PathBuf> {
    let shown = || holkas::fs::display(&location);
    if !location.is_absolute() {
        return Err(Error::invalid(format!("`storage-location` is `{}`, which is not absolute", shown())));
    }
    match Path::is_dir(&location) {
        true => Ok(location),
        false => Err(Error::not_found(format!("`storage-location` is `{}`, where no directory is", shown()))),
    }
}

/// Parses a digest that is `sha256:` and 64 hex digits, and nothing before, between or after.
pub(in crate::osbuild) fn exact(text: &str) -> Result<Digest> {
    let wrong = || Error::invalid(format!("`{}` is not `sha256:` and 64 hex digits", printable(text.as_bytes())));
    text.parse::<Digest>().ok().filter(|digest| digest.algorithm() == Algorithm::Sha256).ok_or_else(wrong)
}
