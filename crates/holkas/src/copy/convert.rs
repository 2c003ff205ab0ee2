//! Makes a new image out of an old one: another manifest format, other compression. Its digest is a new one.
//!
//! Kept apart from the way that preserves digests. The config's bytes stay what they are, so the image ID stays too,
//! unless skopeo's way is asked for.

use std::sync::Mutex;

use serde_json::{Map, Value};

use super::{CopyOptions, Rewrite, layers, sign};
use crate::compress::{self, Compression};
use crate::error::{Context, Error, Result};
use crate::image::{
    Image, ImageDestination, ImageSource, Layer, LayerBlob, LayerReader, Origin, PolicyIdentity, from_any_place,
};
use crate::oci::media_type::{self, MediaType};
use crate::oci::oci_config::OciConfig;
use crate::oci::{Algorithm, Descriptor, Digest, Format, Index, Manifest, Meaning, json};
use crate::progress::{Event, Monitor};
use crate::signature::UntrustedSignature;
use crate::verify::{PartialBlob, UntrustedBlob, VerifiedBytes};

/// Converts the image on its way. Returns what describes the new manifest, and the bytes of its layers.
///
/// The new layers' digests must be known before the destination begins, and compression is deterministic:
/// so a layer that changes is read twice, once to learn what it becomes and once to move it.
pub fn move_converted(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    image: &Image,
    format: Format,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<(Descriptor, u64)> {
    let mut converted = Vec::new();
    for layer in &image.layers {
        let frame = || format!("converting layer {} of {}", layer.position + 1, image.layers.len());
        let told = |error: &Error| layers::given_up(layer, error, monitor);
        let convert = || convert_layer(source, layer, format, options);
        converted.push(from_any_place(source, &layer.descriptor, told, convert).context(frame)?);
    }
    let config = config(image, format, options.rewrite)?;
    let manifest = new_manifest(image, format, &config, &converted, options.rewrite)?;
    let new = Converted { source, config, manifest, layers: converted, old: image, options };
    let manifest = new.parsed()?;
    let signatures = sign::sign(manifest.digest(), destination, options, monitor)?;
    let image = Image::open_with(&new, manifest, Vec::new(), signatures)?;
    let order = destination.capabilities().order;
    let by_old_names = ByOldNames { new: &new, monitor };
    let monitor = match options.rewrite {
        Rewrite::Least => monitor,
        Rewrite::Skopeo => &by_old_names,
    };
    layers::move_layers(&new, &image, destination.begin(&image)?, order, options, monitor)?;
    Ok((image.manifest.descriptor(), image.layers.iter().map(|layer| layer.descriptor.size).sum()))
}

/// What becomes of a layer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// They stay; only the media type is another.
    None,
    /// The uncompressed bytes, compressed so.
    Recompress(Compression, Option<i32>),
}

struct ConvertedLayer {
    descriptor: Descriptor,
    change: Change,
}

fn convert_layer(
    source: &dyn ImageSource,
    layer: &Layer,
    format: Format,
    options: &CopyOptions,
) -> Result<ConvertedLayer> {
    let old = match layer.descriptor.media_type.meaning() {
        Meaning::Layer(_, compression) | Meaning::ForeignLayer(_, compression) => compression,
        _ => {
            return Err(Error::unsupported(format!(
                "a layer of type `{}` cannot be converted",
                layer.descriptor.media_type
            )));
        }
    };
    let kept = source.keeps_blobs() || old == Compression::None;
    let plain = || options.compress_plain.unwrap_or((Compression::None, None));
    let wanted = match (options.decompress, options.compress) {
        (true, _) => (Compression::None, None),
        (false, Some(wanted)) => wanted,
        (false, None) if kept && old != Compression::None => (old, None),
        (false, None) => plain(),
    };
    let media_type = layer_media_type(format, wanted.0)?;
    if wanted.0 == old && kept {
        let mut descriptor = layer.descriptor.clone();
        descriptor.media_type = media_type;
        return Ok(ConvertedLayer { descriptor, change: Change::None });
    }
    let change = Change::Recompress(wanted.0, wanted.1);
    let mut measure = Measure { hasher: Algorithm::Sha256.hasher(), size: 0 };
    recompress(layers::open_layer(source, layer, &options.cancel)?, layer, wanted, &mut measure)?;
    let descriptor = Descriptor::new(media_type, measure.hasher.finish(), measure.size);
    Ok(ConvertedLayer { descriptor, change })
}

fn layer_media_type(format: Format, compression: Compression) -> Result<MediaType> {
    Ok(MediaType::new(match (format, compression) {
        (Format::Oci, Compression::None) => media_type::OCI_LAYER,
        (Format::Oci, Compression::Gzip) => media_type::OCI_LAYER_GZIP,
        (Format::Oci, Compression::Zstd) => media_type::OCI_LAYER_ZSTD,
        (Format::Docker, Compression::None) => media_type::DOCKER_LAYER,
        (Format::Docker, Compression::Gzip) => media_type::DOCKER_LAYER_GZIP,
        (Format::Docker, Compression::Zstd) => {
            return Err(
                Error::unsupported("Docker's format has no zstd layers").hint("use -f oci, or another compression")
            );
        }
        (_, Compression::Xz | Compression::Bzip2) => {
            return Err(Error::unsupported("layers are written with gzip, zstd or no compression")
                .hint("choose one by --dest-compress-format"));
        }
    }))
}

struct Measure {
    hasher: crate::oci::Hasher,
    size: u64,
}

impl std::io::Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a layer whole, verified by both its digests, and writes its bytes as they shall be.
fn recompress(
    body: LayerReader,
    layer: &Layer,
    (compression, level): (Compression, Option<i32>),
    out: &mut (dyn std::io::Write + Send),
) -> Result<()> {
    let diff_id = layer.diff_id.ok_or_else(|| Error::unsupported("an artifact cannot be converted"))?;
    let mut encoder = compress::encoder(compression, level, Box::new(out))?;
    match body {
        LayerReader::Diff(mut reader) => {
            std::io::copy(&mut reader, &mut encoder)?;
            reader.finish()?;
        }
        LayerReader::Blob(reader) => {
            let (_, decoder) = compress::Decoder::new(reader)?;
            let mut plain = crate::verify::DiffReader::new(decoder, diff_id);
            std::io::copy(&mut plain, &mut encoder)?;
            plain.finish()?.1.finish()?.finish()?;
        }
    }
    encoder.finish()?;
    Ok(())
}

/// Returns the config of the new image.
fn config(image: &Image, format: Format, rewrite: Rewrite) -> Result<VerifiedBytes> {
    let old = &image.config_bytes;
    match (rewrite, image.manifest.format(), format) {
        (Rewrite::Skopeo, Format::Docker, Format::Oci) => {
            let bytes = OciConfig::parse(old.bytes()).and_then(|config| config.to_bytes());
            let bytes = bytes.context(|| format!("rewriting config {}", old.digest()))?;
            UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, None, crate::limits::CONFIG)
        }
        _ => Ok(old.clone()),
    }
}

/// Returns a descriptor as the format's manifests have it.
fn descriptor(descriptor: &Descriptor, format: Format, rewrite: Rewrite) -> Value {
    match (rewrite, format) {
        (Rewrite::Least, _) | (_, Format::Oci) => serde_json::json!(descriptor),
        (Rewrite::Skopeo, Format::Docker) => {
            let Descriptor { media_type, digest, size, urls, .. } = descriptor;
            let mut value = serde_json::json!({ "mediaType": media_type, "size": size, "digest": digest });
            if let Some(urls) = urls {
                value["urls"] = serde_json::json!(urls);
            }
            value
        }
    }
}

fn new_manifest(
    image: &Image,
    format: Format,
    config_bytes: &VerifiedBytes,
    layers: &[ConvertedLayer],
    rewrite: Rewrite,
) -> Result<Vec<u8>> {
    let (own, config) = match format {
        Format::Oci => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        Format::Docker => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
    };
    let mut config_descriptor = image.manifest.config().clone();
    config_descriptor.media_type = MediaType::new(config);
    config_descriptor.digest = *config_bytes.digest();
    config_descriptor.size = config_bytes.bytes().len() as u64;
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(&layer.descriptor, format, rewrite)).collect();
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": own,
        "config": descriptor(&config_descriptor, format, rewrite),
        "layers": layers,
    });
    if format == Format::Oci && !image.manifest.annotations().is_empty() {
        manifest["annotations"] = serde_json::json!(image.manifest.annotations());
    }
    let text = serde_json::to_string(&manifest).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(match rewrite {
        Rewrite::Least => text.into_bytes(),
        Rewrite::Skopeo => json::go_escaped(&text).into_bytes(),
    })
}

/// Makes the index that names `entries` instead of its own, in another format if need be.
///
/// Entries without a new one are left out. What it says of the others stays. An attestation that names an image of the list by its digest
/// (`vnd.docker.reference.digest`) names what has become of it, so that it is still found.
pub(super) fn new_index(
    index: &Index,
    format: Format,
    entries: &[Option<Descriptor>],
    rewrite: Rewrite,
) -> Result<Index> {
    let invalid = |error: serde_json::Error| Error::invalid(error.to_string());
    let mut document: Map<String, Value> = serde_json::from_slice(index.raw().bytes()).map_err(invalid)?;
    let own = match format {
        Format::Oci => media_type::OCI_INDEX,
        Format::Docker => media_type::DOCKER_LIST,
    };
    document.insert("mediaType".to_string(), own.into());
    if format == Format::Docker {
        // Docker's lists have nothing but entries.
        document.retain(|key, _| ["schemaVersion", "mediaType", "manifests"].contains(&key.as_str()));
    }
    let old = index.entries();
    let values = document.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten();
    for ((value, old_entry), new) in values.zip(old).zip(entries) {
        let (Some(value), Some(new)) = (value.as_object_mut(), new) else { continue };
        value.insert("mediaType".to_string(), new.media_type.as_str().into());
        value.insert("digest".to_string(), new.digest.to_string().into());
        value.insert("size".to_string(), new.size.into());
        if new.digest != old_entry.digest {
            value.shift_remove("data");
        }
        if format == Format::Docker {
            if old_entry.platform.is_none() {
                return Err(Error::unsupported(format!(
                    "entry {} of the list has no platform, which Docker's lists must have",
                    old_entry.digest
                )));
            }
            value.retain(|key, _| ["mediaType", "digest", "size", "platform", "urls"].contains(&key.as_str()));
        }
        let reference = value.get_mut("annotations").and_then(|all| all.get_mut("vnd.docker.reference.digest"));
        if let Some(reference) = reference
            && let Some(n) = old.iter().position(|entry| reference.as_str() == Some(&entry.digest.to_string()))
        {
            *reference = entries[n].as_ref().unwrap_or(&old[n]).digest.to_string().into();
        }
    }
    if let Some(values) = document.get_mut("manifests").and_then(Value::as_array_mut) {
        let mut kept = entries.iter().map(Option::is_some);
        values.retain(|_| kept.next().unwrap_or(true));
    }
    let bytes = match rewrite {
        Rewrite::Least => serde_json::to_vec(&document).map_err(invalid)?,
        Rewrite::Skopeo => {
            put_in_order(&mut document, format);
            json::go_escaped(&serde_json::to_string(&document).map_err(invalid)?).into_bytes()
        }
    };
    Index::parse(UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, None, crate::limits::MANIFEST)?)
}

/// Leaves of a list what skopeo knows, in its order.
fn put_in_order(document: &mut Map<String, Value>, format: Format) {
    const LIST: [&str; 6] = ["schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"];
    const PLATFORM: [&str; 6] = ["architecture", "os", "os.version", "os.features", "variant", "features"];
    let entry: &[&str] = match format {
        Format::Oci => &["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"],
        Format::Docker => &["mediaType", "size", "digest", "urls", "platform"],
    };
    let order = |map: &mut Map<String, Value>, keys: &[&str]| {
        let mut known = |key: &&str| map.remove(*key).map(|value| ((*key).to_string(), value));
        *map = keys.iter().filter_map(&mut known).collect();
    };
    for value in document.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(value) = value.as_object_mut() else { continue };
        if let Some(platform) = value.get_mut("platform").and_then(Value::as_object_mut) {
            order(platform, &PLATFORM);
        }
        order(value, entry);
    }
    order(document, &LIST);
}

/// The new image as a source.
struct Converted<'a> {
    source: &'a dyn ImageSource,
    config: VerifiedBytes,
    manifest: Vec<u8>,
    layers: Vec<ConvertedLayer>,
    old: &'a Image,
    options: &'a CopyOptions,
}

impl Converted<'_> {
    fn parsed(&self) -> Result<Manifest> {
        Manifest::parse(self.top()?)
    }
}

impl ImageSource for Converted<'_> {
    fn name(&self) -> String {
        self.source.name()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.source.policy_scopes()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        let limit = crate::limits::MANIFEST;
        UntrustedBlob::from_bytes(self.manifest.clone()).identify(Algorithm::Sha256, None, limit)
    }

    fn open_manifest(&self, _: &Descriptor) -> Result<UntrustedBlob> {
        Ok(UntrustedBlob::from_bytes(self.manifest.clone()))
    }

    fn open_config(&self, _: &Descriptor) -> Result<UntrustedBlob> {
        Ok(UntrustedBlob::from_bytes(self.config.bytes().to_vec()))
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        let old = &self.old.layers[layer.position];
        match self.layers[layer.position].change {
            Change::None => self.source.open_layer(old),
            Change::Recompress(compression, level) => {
                let body = layers::open_layer(self.source, old, &self.options.cancel)?;
                Ok(LayerBlob::AsDescribed(UntrustedBlob::new(pipe(body, old.clone(), (compression, level))?)))
            }
        }
    }

    fn resumes(&self) -> bool {
        self.source.resumes()
    }

    fn open_layer_from(&self, layer: &Layer, beginning: PartialBlob) -> Result<LayerBlob> {
        match self.layers[layer.position].change {
            Change::None => self.source.open_layer_from(&self.old.layers[layer.position], beginning),
            Change::Recompress(..) => self.open_layer(layer),
        }
    }

    fn try_another_place(&self, blob: &Descriptor, error: &Error) -> bool {
        let new = self.layers.iter().position(|layer| layer.descriptor.digest == blob.digest);
        new.is_some_and(|n| self.source.try_another_place(&self.old.layers[n].descriptor, error))
    }

    fn take_warnings(&self) -> Vec<String> {
        self.source.take_warnings()
    }

    fn signatures(&self, _: &Digest) -> Result<Vec<UntrustedSignature>> {
        Ok(Vec::new())
    }

    fn origin(&self) -> Origin {
        Origin::Synthesised
    }
}

/// Tells of layers by the digests that they have at the source, as skopeo does.
struct ByOldNames<'a> {
    new: &'a Converted<'a>,
    monitor: &'a dyn Monitor,
}

impl ByOldNames<'_> {
    fn old(&self, digest: &str) -> String {
        let n = self.new.layers.iter().position(|layer| layer.descriptor.digest.to_string() == digest);
        n.map_or_else(|| digest.to_string(), |n| self.new.old.layers[n].descriptor.digest.to_string())
    }
}

impl Monitor for ByOldNames<'_> {
    fn event(&self, event: Event<'_>) {
        let old = match &event {
            Event::LayerStarted { digest, .. }
            | Event::LayerAdvanced { digest, .. }
            | Event::LayerFinished { digest, .. } => self.old(digest),
            _ => return self.monitor.event(event),
        };
        self.monitor.event(match event {
            Event::LayerStarted { image, bytes, .. } => Event::LayerStarted { image, digest: &old, bytes },
            Event::LayerAdvanced { bytes, .. } => Event::LayerAdvanced { digest: &old, bytes },
            Event::LayerFinished { bytes, reused, .. } => Event::LayerFinished { digest: &old, bytes, reused },
            other => other,
        });
    }
}

/// Recompresses in a thread of its own and gives what comes out as a stream.
fn pipe(body: LayerReader, layer: Layer, how: (Compression, Option<i32>)) -> Result<impl std::io::Read + Send> {
    let (reader, mut writer) = std::io::pipe()?;
    let worker = std::thread::spawn(move || recompress(body, &layer, how, &mut writer));
    Ok(Recompressed { reader, worker: Mutex::new(Some(worker)) })
}

struct Recompressed {
    reader: std::io::PipeReader,
    worker: Mutex<Option<std::thread::JoinHandle<Result<()>>>>,
}

impl std::io::Read for Recompressed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        let finished = if n == 0 { self.worker.get_mut().ok().and_then(Option::take) } else { None };
        if let Some(worker) = finished {
            worker.join().map_err(|_| Error::invalid("the compressor panicked; this is a defect of holkas"))??;
        }
        Ok(n)
    }
}
