//! `docker-archive:`, what `docker save` writes: plain layers and configs in a tar, named by a `manifest.json` of its own kind.
//!
//! ```text
//! <config hex>.json
//! <diff ID hex>.tar
//! <id>/{VERSION,json,layer.tar}    for Docker before 1.10
//! manifest.json                    [{"Config":…,"RepoTags":[…],"Layers":[…]}]
//! repositories                     for Docker before 1.10
//! ```
//!
//! There is no manifest that a registry would know. We make one, as skopeo does: Docker's schema 2 with plain layers.

mod destination;
mod legacy;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::archive::entries::{Entries, Slice};
use crate::archive::input::{self, SCRATCH};
use crate::compress::{Compression, Decoder};
use crate::error::{Context, Error, Result, printable};
use crate::fs::display;
use crate::image::{ImageSource, Layer, LayerBlob, Origin, PolicyIdentity};
use crate::limits::{ARCHIVE_MANIFEST, CONFIG, LAYERS, MANIFEST};
use crate::oci::{Algorithm, Descriptor, Digest, ImageConfig, MediaType, json, media_type};
use crate::reference::{ArchiveSelect, DockerArchiveReference, Name};
use crate::signature::UntrustedSignature;
use crate::verify::{UntrustedBlob, VerifiedBytes};

pub use destination::DockerArchiveDestination;

/// An image of a docker-archive, to read from.
#[derive(Debug)]
pub struct DockerArchiveSource {
    reference: DockerArchiveReference,
    entries: Entries,
    manifest: VerifiedBytes,
    config: VerifiedBytes,
    /// The names of the layers' entries.
    layers: BTreeMap<Digest, String>,
}

/// One image, as `manifest.json` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

impl DockerArchiveSource {
    /// Opens an archive and finds the image.
    ///
    /// A compressed archive, or one that comes through a pipe, is first written to a temporary file without a name.
    pub fn open(reference: &DockerArchiveReference) -> Result<Self> {
        Self::open_by_way_of(reference, Path::new(SCRATCH))
    }

    /// As [`DockerArchiveSource::open`], with the temporary file in the directory `scratch`.
    pub fn open_by_way_of(reference: &DockerArchiveReference, scratch: &Path) -> Result<Self> {
        Self::find(reference, scratch).context(|| format!("opening {}", name_of(reference)))
    }

    fn find(reference: &DockerArchiveReference, scratch: &Path) -> Result<Self> {
        let entries = input::open(&reference.path, scratch).and_then(Entries::read)?;
        let item = select(read_manifest(&entries)?, &reference.select)?;
        let Some(config) = entries.read_file(&item.config, CONFIG)? else {
            return Err(missing("config", &item.config).lacking());
        };
        let media_type = MediaType::new(media_type::DOCKER_CONFIG);
        let config = UntrustedBlob::from_bytes(config).identify(Algorithm::Sha256, Some(media_type), CONFIG)?;
        let parsed = ImageConfig::parse(config.clone())?;
        let names = item.layers.unwrap_or_default();
        if names.len() != parsed.diff_ids().len() {
            let (layers, diff_ids) = (names.len(), parsed.diff_ids().len());
            return Err(Error::mismatch(format!(
                "the config lists {diff_ids} diff IDs, but `manifest.json` {layers} layers"
            )));
        }
        if names.len() > LAYERS {
            return Err(Error::invalid(format!("the image has {} layers; the limit is {LAYERS}", names.len())));
        }
        // No digest of a layer is known but its diff ID, which is proven when the layer is read.
        let mut layers = BTreeMap::new();
        let mut sizes = BTreeMap::new();
        let mut descriptors = Vec::new();
        for (name, diff_id) in names.into_iter().zip(parsed.diff_ids()) {
            let size = match sizes.get(&diff_id.0) {
                Some(size) => *size,
                None => plain_size(&entries, &name)
                    .map_err(Error::lacking)
                    .context(|| format!("looking at layer {diff_id}"))?,
            };
            sizes.insert(diff_id.0, size);
            layers.entry(diff_id.0).or_insert(name);
            descriptors.push(descriptor(media_type::DOCKER_LAYER, &diff_id.0, size));
        }
        let manifest = serde_json::to_vec(&Synthesised {
            schema_version: 2,
            media_type: media_type::DOCKER_MANIFEST,
            config: descriptor(media_type::DOCKER_CONFIG, config.digest(), config.bytes().len() as u64),
            layers: descriptors,
        })
        .expect("plain data can be written as JSON");
        let manifest = UntrustedBlob::from_bytes(manifest).identify(
            Algorithm::Sha256,
            Some(MediaType::new(media_type::DOCKER_MANIFEST)),
            MANIFEST,
        )?;
        Ok(Self { reference: reference.clone(), entries, manifest, config, layers })
    }
}

/// The manifest that we make, with its keys in the order in which Go's containers/image writes them.
#[derive(Serialize)]
struct Synthesised {
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    config: SynthesisedDescriptor,
    layers: Vec<SynthesisedDescriptor>,
}

#[derive(Serialize)]
struct SynthesisedDescriptor {
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    size: u64,
    digest: Digest,
}

fn descriptor(media_type: &'static str, digest: &Digest, size: u64) -> SynthesisedDescriptor {
    SynthesisedDescriptor { media_type, size, digest: *digest }
}

fn missing(what: &str, name: &str) -> Error {
    Error::not_found(format!("the archive has no {what} `{}`", printable(name.as_bytes())))
}

/// Returns the tags of all images of the archive at `path`, in its order, as they are written there.
/// `scratch` is where it is unpacked if it is compressed.
pub fn tags(path: &Path, scratch: &Path) -> Result<Vec<String>> {
    let frame = || format!("listing the tags of docker-archive:{}", display(path));
    let items = input::open(path, scratch)
        .and_then(Entries::read)
        .and_then(|entries| read_manifest(&entries))
        .context(frame)?;
    Ok(items.into_iter().flat_map(|item| item.repo_tags.unwrap_or_default()).collect())
}

fn read_manifest(entries: &Entries) -> Result<Vec<Item>> {
    let Some(bytes) = entries.read_file("manifest.json", ARCHIVE_MANIFEST)? else {
        return Err(Error::not_found("the archive has no `manifest.json`"));
    };
    let frame = || "reading `manifest.json`";
    let value = json::parse(&bytes).context(frame)?;
    serde_json::from_value(value).map_err(|error| Error::invalid(error.to_string())).context(frame)
}

fn select(mut items: Vec<Item>, select: &ArchiveSelect) -> Result<Item> {
    let count = items.len();
    match select {
        ArchiveSelect::Only if count == 1 => Ok(items.remove(0)),
        ArchiveSelect::Only if count == 0 => Err(Error::not_found("the archive holds no image")),
        ArchiveSelect::Only => {
            let tags: Vec<_> = items.iter().flat_map(|item| item.repo_tags.iter().flatten()).take(20).collect();
            let tags: Vec<_> = tags.into_iter().map(|tag| printable(tag.as_bytes())).collect();
            Err(Error::not_found(format!("the archive holds {count} images; name one"))
                .hint(format!("the archive has: {}", tags.join(", "))))
        }
        ArchiveSelect::Position(n) if *n < count => Ok(items.remove(*n)),
        ArchiveSelect::Position(n) => {
            Err(Error::not_found(format!("there is no image @{n}: the archive holds {count}")))
        }
        ArchiveSelect::Tag(name) => {
            let wanted = name.clone().with_default_tag();
            for item in items {
                for tag in item.repo_tags.iter().flatten() {
                    let found = Name::parse_normalised(tag).context(|| "reading `RepoTags` of `manifest.json`")?;
                    if found == wanted {
                        return Ok(item);
                    }
                }
            }
            Err(Error::not_found(format!("the archive has no image with the tag {wanted}")))
        }
    }
}

fn open_layer(entries: &Entries, name: &str) -> Result<Slice> {
    entries.open(name.as_bytes())?.ok_or_else(|| missing("layer", name))
}

/// Returns how many bytes a layer has, uncompressed. One that is compressed in the archive is read for it.
fn plain_size(entries: &Entries, name: &str) -> Result<u64> {
    let slice = open_layer(entries, name)?;
    let stored = slice.left();
    let (compression, mut decoder) = Decoder::new(slice)?;
    if compression == Compression::None {
        return Ok(stored);
    }
    let size = std::io::copy(&mut decoder, &mut std::io::sink())?;
    decoder.finish()?;
    Ok(size)
}

/// Returns a reference as the user would write it.
fn name_of(reference: &DockerArchiveReference) -> String {
    let path = display(&reference.path);
    match &reference.select {
        ArchiveSelect::Only => format!("docker-archive:{path}"),
        ArchiveSelect::Tag(name) => format!("docker-archive:{path}:{name}"),
        ArchiveSelect::Position(n) => format!("docker-archive:{path}:@{n}"),
    }
}

impl ImageSource for DockerArchiveSource {
    fn name(&self) -> String {
        name_of(&self.reference)
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        // As in containers/image, which knows no scopes of archives.
        let docker_reference = match &self.reference.select {
            ArchiveSelect::Tag(name) => Some(name.clone()),
            ArchiveSelect::Only | ArchiveSelect::Position(_) => None,
        };
        PolicyIdentity { transport: "docker-archive", scopes: Vec::new(), docker_reference }
    }

    fn top(&self) -> Result<VerifiedBytes> {
        Ok(self.manifest.clone())
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        match descriptor.digest == *self.manifest.digest() {
            true => Ok(UntrustedBlob::from_bytes(self.manifest.bytes().to_vec())),
            false => Err(Error::not_found(format!("manifest {} is not in a docker-archive", descriptor.digest))),
        }
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        match descriptor.digest == *self.config.digest() {
            true => Ok(UntrustedBlob::from_bytes(self.config.bytes().to_vec())),
            false => Err(Error::not_found(format!("config {} is not that of the image", descriptor.digest))),
        }
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        let digest = layer.descriptor.digest;
        let name = self
            .layers
            .get(&digest)
            .ok_or_else(|| Error::not_found(format!("layer {digest} is not one of the image")))?;
        let (_, decoder) = Decoder::new(open_layer(&self.entries, name)?)?;
        Ok(LayerBlob::AsDescribed(UntrustedBlob::new(decoder)))
    }

    fn signatures(&self, _: &Digest) -> Result<Vec<UntrustedSignature>> {
        Ok(Vec::new())
    }

    fn origin(&self) -> Origin {
        Origin::Synthesised
    }
}
