//! Images in Docker's schema 1: copied as they are, made into schema 2 on their way, and made out of others.
//!
//! Such a manifest tells no sizes and no diff IDs, and an image's config and manifest must be known before its first
//! layer is put. So a layer of an image that is converted is read once to learn its diff ID; what comes over a network
//! is kept meanwhile in a file without a name, so that it does not come twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::convert::{self, Converted};
use super::{Copied, CopyOptions, Rewrite, admit_to, copy_one, layers, refuse_change, sign};
use crate::compress::{Compression, Decoder};
use crate::error::{Context, Error, Result};
use crate::fs::Dir;
use crate::image::{
    Image, ImageDestination, ImageSource, Layer, LayerBlob, LayerReader, Origin, PolicyIdentity, Schema1Support,
    from_any_place,
};
use crate::limits::{CHUNK, CONFIG, MANIFEST, SCHEMA1_SPOOL};
use crate::oci::schema1::{EMPTY_LAYER, Schema1, Step, downgrade, upgraded_config};
use crate::oci::{Algorithm, Descriptor, DiffId, Digest, Format, Manifest, MediaType, media_type};
use crate::policy::{Demands, Policy};
use crate::progress::Monitor;
use crate::signature::UntrustedSignature;
use crate::verify::{PartialBlob, UntrustedBlob, VerifiedBytes};

/// Copies an image that is in schema 1.
pub(super) fn copy(
    from: (&dyn ImageSource, &Demands<'_>),
    destination: &dyn ImageDestination,
    schema1: &Schema1,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let (source, _) = from;
    let signatures = admit_to(from, (schema1.raw(), schema1.digest()), destination, options)?;
    let room = destination.schema1();
    let yields = options.yields && (options.preserve_digests || !signatures.is_empty());
    let stays = options.schema1 || options.format.is_none() || yields;
    match stays && room != Schema1Support::No {
        true => copy_as_it_is(source, destination, schema1, (room, signatures), options, monitor),
        false => {
            let reason = match options.format {
                Some(_) => "another format was asked for".to_string(),
                None => format!("{} holds no manifests of Docker's schema 1", destination.name()),
            };
            if destination.capabilities().manifests {
                refuse_change("image", &reason, options.may_change(source), &signatures, options)?;
            }
            copy_upgraded(source, destination, schema1, options, monitor)
        }
    }
}

fn copy_as_it_is(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    schema1: &Schema1,
    (room, signatures): (Schema1Support, Vec<UntrustedSignature>),
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    // What makes no sense to anybody is not handed on either.
    schema1.steps()?;
    let preserved = options.yields && options.preserve_digests;
    if (options.decompress || options.compress.is_some()) && !preserved {
        let text = "layers are not compressed otherwise in an image that stays in Docker's schema 1";
        return Err(Error::unsupported(text).hint("ask for another format, too, such as by --format v2s2"));
    }
    let mut schema1 = schema1.clone();
    // A registry that is old enough looks at the name. Unasked, we leave it nevertheless.
    let renames = options.rewrite == Rewrite::Skopeo || options.may_change(source);
    if let Schema1Support::Named { name, tag } = &room
        && renames
        && !schema1.is_named(name, tag)
    {
        let reason = format!("it says another name of itself than that of {}", destination.name());
        refuse_change("image", &reason, options.may_change(source), &signatures, options)?;
        schema1 = schema1.renamed(name, tag)?;
    }
    let mut seen = BTreeSet::new();
    let blobs: Vec<Digest> = schema1.layers().iter().copied().filter(|blob| seen.insert(*blob)).collect();
    let new = sign::sign(schema1.digest(), destination, options, monitor)?;
    let signatures = signatures.into_iter().chain(new).collect();
    let image = Image { signatures, ..stand_in(source, &blobs, Some(&schema1))? };
    let order = destination.capabilities().order;
    layers::move_layers(source, &image, destination.begin(&image)?, order, options, monitor)?;
    let (layers, bytes) = (image.layers.len(), image.layers.iter().map(|layer| layer.descriptor.size).sum());
    Ok(Copied { manifest_digest: *schema1.digest(), image_id: None, layers, bytes, referrers: 0 })
}

/// Makes an image whose manifest describes these blobs, so that they can be read.
fn stand_in(source: &dyn ImageSource, blobs: &[Digest], schema1: Option<&Schema1>) -> Result<Image> {
    let layer = |digest: &Digest| -> Result<Descriptor> {
        let size = source.blob_size(digest)?;
        Ok(Descriptor::new(MediaType::new(media_type::DOCKER_LAYER_GZIP), *digest, size))
    };
    let descriptors = blobs.iter().map(layer).collect::<Result<Vec<_>>>()?;
    let config_bytes = UntrustedBlob::from_bytes(b"{}".to_vec()).identify(Algorithm::Sha256, None, CONFIG)?;
    let manifest = manifest(&config_bytes, &descriptors)?;
    let layers = descriptors.into_iter().enumerate();
    Ok(Image {
        manifest: Manifest::parse(manifest)?,
        config_bytes,
        config: None,
        layers: layers.map(|(position, descriptor)| Layer { position, descriptor, diff_id: None }).collect(),
        indexes: Vec::new(),
        signatures: Vec::new(),
        repository: source.repository().cloned(),
        schema1: schema1.cloned(),
    })
}

/// Writes a manifest of schema 2, as skopeo does.
fn manifest(config: &VerifiedBytes, layers: &[Descriptor]) -> Result<VerifiedBytes> {
    let written = |media_type: &str, digest: &Digest, size: u64| serde_json::json!({ "mediaType": media_type, "size": size, "digest": digest });
    let layers: Vec<_> = layers.iter().map(|it| written(it.media_type.as_str(), &it.digest, it.size)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": written(media_type::DOCKER_CONFIG, config.digest(), config.bytes().len() as u64),
        "layers": layers,
    });
    UntrustedBlob::from_bytes(manifest.to_string().into_bytes()).identify(Algorithm::Sha256, None, MANIFEST)
}

/// Copies the image as one in schema 2, or as what becomes of that.
fn copy_upgraded(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    schema1: &Schema1,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let steps = schema1.steps()?;
    let upgraded = Upgraded::of(source, &steps, options, monitor)
        .context(|| format!("making an image with a config of {}, which is in Docker's schema 1", source.name()))?;
    let manifest = Manifest::parse(upgraded.top()?)?;
    // What it was made of has been checked.
    let policy = Policy::accept_anything();
    let demands = policy.demands(&upgraded.policy_scopes(), &upgraded.name())?;
    copy_one((&upgraded, &demands), destination, manifest, Vec::new(), options, monitor).map(|(copied, _)| copied)
}

/// A schema 1 image as one in schema 2.
struct Upgraded<'a> {
    source: &'a dyn ImageSource,
    manifest: VerifiedBytes,
    config: VerifiedBytes,
    /// Layers that were fetched already.
    spooled: BTreeMap<Digest, Arc<File>>,
}

/// What was learned of a layer.
struct Measured {
    diff_id: DiffId,
    descriptor: Descriptor,
    spool: Option<File>,
}

impl<'a> Upgraded<'a> {
    fn of(
        source: &'a dyn ImageSource,
        steps: &[Step],
        options: &CopyOptions,
        monitor: &dyn Monitor,
    ) -> Result<Upgraded<'a>> {
        let made: Vec<Digest> = steps.iter().filter(|step| !step.empty).map(|step| step.blob).collect();
        let mut seen = BTreeSet::new();
        let blobs: Vec<Digest> = made.iter().copied().filter(|blob| seen.insert(*blob)).collect();
        let image = stand_in(source, &blobs, None)?;
        let total = image.layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.descriptor.size));
        SCHEMA1_SPOOL.check(total.unwrap_or(u64::MAX))?;
        // What is at hand is read again; what a network brings is kept.
        let scratch = options.scratch.as_ref().filter(|_| source.repository().is_some());
        let scratch = scratch.map(|path| Dir::open(path)).transpose()?;
        let mut measured = BTreeMap::new();
        for layer in &image.layers {
            let frame = || format!("reading layer {} of {}", layer.position + 1, image.layers.len());
            let told = |error: &Error| layers::given_up(layer, error, monitor);
            let read = || measure(source, layer, scratch.as_ref(), options);
            let one = from_any_place(source, &layer.descriptor, told, read).context(frame)?;
            measured.insert(layer.descriptor.digest, one);
        }
        let ids: Vec<DiffId> = made.iter().map(|blob| measured[blob].diff_id).collect();
        let config = UntrustedBlob::from_bytes(upgraded_config(steps, &ids)?);
        let config = config.identify(Algorithm::Sha256, None, CONFIG)?;
        let descriptors: Vec<Descriptor> = made.iter().map(|blob| measured[blob].descriptor.clone()).collect();
        let manifest = manifest(&config, &descriptors)?;
        let spooled = measured.into_iter().filter_map(|(blob, one)| Some((blob, Arc::new(one.spool?)))).collect();
        Ok(Self { source, manifest, config, spooled })
    }
}

/// Reads a layer, verified, to learn its diff ID and how it is compressed; keeps it in a file, if in any directory.
fn measure(source: &dyn ImageSource, layer: &Layer, scratch: Option<&Dir>, options: &CopyOptions) -> Result<Measured> {
    let LayerReader::Blob(blob) = layers::open_layer(source, layer, &options.cancel)? else {
        return Err(Error::unsupported("the source has no longer the blob that the manifest names"));
    };
    let spool = scratch.map(Dir::unnamed_file).transpose()?;
    let (compression, mut decoder) = Decoder::new(Spooling { blob, spool })?;
    let mut hasher = Algorithm::Sha256.hasher();
    let mut buffer = vec![0; CHUNK];
    loop {
        match decoder.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let Spooling { blob, spool } = decoder.finish()?;
    let mut descriptor = blob.finish()?.descriptor().clone();
    descriptor.media_type = MediaType::new(match compression {
        Compression::None => media_type::DOCKER_LAYER,
        Compression::Gzip => media_type::DOCKER_LAYER_GZIP,
        Compression::Zstd => media_type::DOCKER_LAYER_ZSTD,
        Compression::Xz | Compression::Bzip2 => {
            return Err(Error::unsupported(format!("today's formats have no layers in {}", compression.name())));
        }
    });
    Ok(Measured { diff_id: DiffId(hasher.finish()), descriptor, spool })
}

/// A blob, what is read of which is kept.
struct Spooling<R> {
    blob: R,
    spool: Option<File>,
}

impl<R: Read> Read for Spooling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.blob.read(buffer)?;
        if let Some(spool) = &mut self.spool {
            spool.write_all(&buffer[..n])?;
        }
        Ok(n)
    }
}

/// A file that several read at once, each from its beginning.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl ImageSource for Upgraded<'_> {
    fn name(&self) -> String {
        self.source.name()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.source.policy_scopes()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        Ok(self.manifest.clone())
    }

    fn open_manifest(&self, _: &Descriptor) -> Result<UntrustedBlob> {
        Ok(UntrustedBlob::from_bytes(self.manifest.bytes().to_vec()))
    }

    fn open_config(&self, _: &Descriptor) -> Result<UntrustedBlob> {
        Ok(UntrustedBlob::from_bytes(self.config.bytes().to_vec()))
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        match self.spooled.get(&layer.descriptor.digest) {
            Some(file) => Ok(LayerBlob::AsDescribed(UntrustedBlob::new(FromStart { file: Arc::clone(file), at: 0 }))),
            None => self.source.open_layer(layer),
        }
    }

    fn try_another_place(&self, blob: &Descriptor, error: &Error) -> bool {
        !self.spooled.contains_key(&blob.digest) && self.source.try_another_place(blob, error)
    }

    fn take_warnings(&self) -> Vec<String> {
        self.source.take_warnings()
    }

    fn signatures(&self, _: &Digest) -> Result<Vec<UntrustedSignature>> {
        Ok(Vec::new())
    }

    fn repository(&self) -> Option<&crate::reference::Name> {
        self.source.repository()
    }

    fn origin(&self) -> Origin {
        Origin::Synthesised
    }
}

/// Moves an image as one in schema 1. Returns what describes the new manifest, and the bytes of its layers.
pub(super) fn move_downgraded(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    image: &Image,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<(Descriptor, u64)> {
    let (name, tag) = match destination.schema1() {
        Schema1Support::Named { name, tag } => (name, tag),
        Schema1Support::AnyName => (String::new(), String::new()),
        Schema1Support::No => {
            let text = format!("{} holds no manifests of Docker's schema 1", destination.name());
            return Err(Error::unsupported(text).hint("use -f v2s2, or copy to dir: or docker://"));
        }
    };
    if image.config.is_none() {
        return Err(Error::unsupported("an artifact cannot be converted"));
    }
    let new = Converted::of(source, image, Format::Docker, image.config_bytes.clone(), options, monitor)?;
    let mut moved = Image::open(&new, new.parsed()?, Vec::new())?;
    let pairs = image.layers.iter().zip(&moved.layers);
    let pairs: Vec<_> = pairs.map(|(old, new)| (old.descriptor.digest, new.descriptor.digest)).collect();
    let schema1 = downgrade(image.config_bytes.bytes(), &pairs, &name, &tag)
        .context(|| format!("making a manifest of Docker's schema 1 of config {}", image.config_bytes.digest()))?;
    let empty = Algorithm::Sha256.digest(&EMPTY_LAYER);
    if schema1.layers().contains(&empty) && !moved.layers.iter().any(|layer| layer.descriptor.digest == empty) {
        let media_type = MediaType::new(media_type::DOCKER_LAYER_GZIP);
        let descriptor = Descriptor::new(media_type, empty, EMPTY_LAYER.len() as u64);
        moved.layers.push(Layer { position: moved.layers.len(), descriptor, diff_id: None });
    }
    moved.signatures = sign::sign(schema1.digest(), destination, options, monitor)?;
    moved.schema1 = Some(schema1.clone());
    let order = destination.capabilities().order;
    let new = WithEmptyLayer { converted: &new, layers: image.layers.len() };
    convert::telling_as(options, new.converted, monitor, |monitor| {
        layers::move_layers(&new, &moved, destination.begin(&moved)?, order, options, monitor)
    })?;
    Ok((schema1.descriptor(), moved.layers.iter().map(|layer| layer.descriptor.size).sum()))
}

/// A converted image as a source, with the empty layer after its own.
struct WithEmptyLayer<'a> {
    converted: &'a Converted<'a>,
    /// How many layers are its own.
    layers: usize,
}

impl ImageSource for WithEmptyLayer<'_> {
    fn name(&self) -> String {
        self.converted.name()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.converted.policy_scopes()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        self.converted.top()
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.converted.open_manifest(descriptor)
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.converted.open_config(descriptor)
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        match layer.position < self.layers {
            true => self.converted.open_layer(layer),
            false => Ok(LayerBlob::AsDescribed(UntrustedBlob::from_bytes(EMPTY_LAYER.to_vec()))),
        }
    }

    fn resumes(&self) -> bool {
        self.converted.resumes()
    }

    fn open_layer_from(&self, layer: &Layer, beginning: PartialBlob) -> Result<LayerBlob> {
        match layer.position < self.layers {
            true => self.converted.open_layer_from(layer, beginning),
            false => self.open_layer(layer),
        }
    }

    fn try_another_place(&self, blob: &Descriptor, error: &Error) -> bool {
        self.converted.try_another_place(blob, error)
    }

    fn take_warnings(&self) -> Vec<String> {
        self.converted.take_warnings()
    }

    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
        self.converted.signatures(manifest)
    }

    fn origin(&self) -> Origin {
        Origin::Synthesised
    }
}
