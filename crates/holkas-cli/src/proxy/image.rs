//! One open image: what the client may ask for, read when it first does.

use std::sync::Arc;

use holkas::error::{Context, Error, Result};
use holkas::image::{ImageSource, Layer, LayerBlob};
use holkas::limits::CONFIG;
use holkas::oci::media_type::OCI_LAYER;
use holkas::oci::{Descriptor, Digest, Document, Format, ImageConfig, Manifest, MediaType, Platform};
use holkas::progress::Cancel;
use holkas::verify::VerifiedBytes;
use serde_json::{Value, json};

use super::body::{Blob, Body, verify};
use super::convert::{self, Converted};

/// What one layer takes beside the documents, about, in bytes.
const LAYER: usize = 512;

/// An open image, without its source.
#[derive(Debug)]
pub(super) struct Image {
    document: Document,
    config: Option<VerifiedBytes>,
    converted: Option<Converted>,
    layers: Option<Layers>,
}

/// The layers, as the source can give them.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    /// As the source is asked for them.
    pub(super) asked: Arc<[Layer]>,
    /// What comes then: type, digest and size.
    served: Arc<[Descriptor]>,
}

/// A blob that an image has.
enum Found {
    Bytes(VerifiedBytes),
    /// The config of something that is no image.
    Config(Descriptor),
    Layer(Layer, u64),
}

impl Image {
    /// Begins with what the image's reference names.
    pub(super) fn new(top: Document) -> Self {
        Self { document: top, config: None, converted: None, layers: None }
    }

    /// Returns how many bytes are kept of it, about.
    pub(super) fn weight(&self) -> usize {
        let converted = self.converted.iter().flat_map(|converted| [&converted.manifest, &converted.config]);
        let kept = converted.chain(&self.config).chain([self.document.raw()]);
        let layers = self.layers.as_ref().map_or(0, |layers| layers.asked.len());
        kept.map(|document| document.bytes().len()).sum::<usize>() + layers * LAYER
    }

    /// Forgets what can be had again from the source.
    pub(super) fn slim(&mut self) {
        (self.config, self.converted, self.layers) = (None, None, None);
    }

    /// Returns the list, if the image is not chosen from it yet.
    pub(super) fn list(&self) -> Option<Document> {
        self.is_list().then(|| self.document.clone())
    }

    /// Takes back a choice.
    pub(super) fn choose_again_from(&mut self, list: Document) {
        self.document = list;
        self.slim();
    }

    /// Returns whether the image of a list is not chosen yet.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.document, Document::Index(_))
    }

    /// Chooses the image for the platform, if this is a list and it was not done yet. It must be admitted, too.
    pub(super) fn choose(
        &mut self,
        source: &dyn ImageSource,
        platform: &Platform,
        admit: impl FnOnce(&VerifiedBytes) -> Result<()>,
    ) -> Result<()> {
        if let Document::Index(index) = &self.document {
            let (manifest, _) = holkas::copy::select(source, index.clone(), platform)?;
            admit(manifest.raw())?;
            self.document = Document::Manifest(manifest);
        }
        Ok(())
    }

    /// Returns the image's own manifest; of a list, that of the image that was chosen.
    fn manifest(&self) -> Result<&Manifest> {
        match &self.document {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Schema1(schema1) => {
                let media_type = schema1.raw().media_type().map_or("schema 1", MediaType::as_str);
                Err(schema1.refusal().context(format!("unsupported legacy manifest MIME type: {media_type}")))
            }
            Document::Index(_) => Err(Error::invalid("the list was not chosen from")),
        }
    }

    /// Returns the digest of the manifest as it is at the source, and the manifest as OCI has it.
    pub(super) fn oci_manifest(&mut self, source: &dyn ImageSource) -> Result<(Digest, VerifiedBytes)> {
        let manifest = self.manifest()?;
        let (digest, format, raw) = (*manifest.digest(), manifest.format(), manifest.raw().clone());
        match format {
            Format::Oci => Ok((digest, raw)),
            Format::Docker => self.converted(source).map(|converted| (digest, converted.manifest.clone())),
        }
    }

    /// Returns the config as OCI has it: the very bytes of the blob that the manifest names.
    pub(super) fn oci_config(&mut self, source: &dyn ImageSource) -> Result<VerifiedBytes> {
        match self.manifest()?.format() {
            Format::Oci => self.config(source).cloned(),
            Format::Docker => self.converted(source).map(|converted| converted.config.clone()),
        }
    }

    /// Returns the config as it is at the source.
    fn config(&mut self, source: &dyn ImageSource) -> Result<&VerifiedBytes> {
        let manifest = self.manifest()?;
        if !manifest.is_image() {
            let (digest, media_type) = (manifest.digest(), &manifest.config().media_type);
            return Err(Error::unsupported(format!("{digest} is no image: its config is of the type `{media_type}`")));
        }
        let described = manifest.config().clone();
        if self.config.is_none() {
            let read = source.open_config(&described).and_then(|blob| blob.read_verified(&described, CONFIG));
            self.config = Some(read.context(|| format!("reading config {} of {}", described.digest, source.name()))?);
        }
        self.config.as_ref().ok_or_else(|| Error::invalid("the config was not read"))
    }

    fn converted(&mut self, source: &dyn ImageSource) -> Result<&Converted> {
        if self.converted.is_none() {
            let config = self.config(source)?.clone();
            self.converted = Some(convert::convert(self.manifest()?, &config)?);
        }
        self.converted.as_ref().ok_or_else(|| Error::invalid("the image was not converted"))
    }

    /// Returns the layers, as the source can give them.
    pub(super) fn layers(&mut self, source: &dyn ImageSource, cancel: &Cancel) -> Result<Layers> {
        if let Some(layers) = &self.layers {
            return Ok(layers.clone());
        }
        let manifest = self.manifest()?;
        let described = manifest.layers().to_vec();
        let diff_ids = match source.keeps_blobs() || !manifest.is_image() {
            true => vec![None; described.len()],
            false => {
                let config = ImageConfig::parse(self.config(source)?.clone())?;
                config.diff_ids().iter().copied().map(Some).collect()
            }
        };
        if diff_ids.len() != described.len() {
            return Err(Error::mismatch(format!(
                "the config lists {} diff IDs, but the manifest {} layers",
                diff_ids.len(),
                described.len()
            )))
            .context(|| format!("reading image {}", source.name()));
        }
        let layers = described.into_iter().zip(diff_ids).enumerate();
        let asked: Arc<[Layer]> =
            layers.map(|(position, (descriptor, diff_id))| Layer { position, descriptor, diff_id }).collect();
        let served: Result<Vec<_>> = asked.iter().map(|layer| served(source, layer, cancel)).collect();
        let layers = Layers { asked, served: served?.into() };
        Ok(self.layers.insert(layers).clone())
    }

    fn find(&mut self, digest: &Digest, source: &dyn ImageSource, cancel: &Cancel) -> Result<Option<Found>> {
        let manifest = self.manifest()?;
        let (described, is_image, format) = (manifest.config().clone(), manifest.is_image(), manifest.format());
        if described.digest == *digest {
            return match is_image {
                true => Ok(Some(Found::Bytes(self.config(source)?.clone()))),
                false => Ok(Some(Found::Config(described))),
            };
        }
        let layers = self.layers(source, cancel)?;
        if let Some(n) = layers.served.iter().position(|layer| layer.digest == *digest) {
            return Ok(Some(Found::Layer(layers.asked[n].clone(), layers.served[n].size)));
        }
        if is_image && format == Format::Docker {
            let config = &self.converted(source)?.config;
            if config.digest() == digest {
                return Ok(Some(Found::Bytes(config.clone())));
            }
        }
        Ok(None)
    }

    /// Opens a blob, and returns its size. `size` is what the client expects.
    ///
    /// Blobs that the manifest does not name are given, too, if the source has them and the client knows their size.
    pub(super) fn open_blob(
        &mut self,
        digest: &Digest,
        size: Option<u64>,
        source: &Arc<dyn ImageSource>,
        cancel: &Cancel,
    ) -> Result<(Body, u64)> {
        let frame = || format!("opening blob {digest} of {}", source.name());
        let found = self.find(digest, &**source, cancel)?;
        match (found, size) {
            (Some(Found::Bytes(bytes)), size) => {
                Ok((Body::Bytes(bytes.bytes().into(), size), bytes.bytes().len() as u64))
            }
            (Some(Found::Config(config)), size) => {
                let blob = Blob::open_config(source, &config, cancel).context(frame)?;
                Ok((Body::Blob(Box::new(blob), size), config.size))
            }
            (Some(Found::Layer(layer, real)), size) => {
                let blob = Blob::open_layer(source, &layer, cancel).context(frame)?;
                Ok((Body::Blob(Box::new(blob), size), real))
            }
            (None, Some(size)) if source.keeps_blobs() => {
                let media_type = MediaType::new("application/octet-stream");
                let descriptor = Descriptor::new(media_type, *digest, size);
                let layer = Layer { position: 0, descriptor, diff_id: None };
                let blob = Blob::open_layer(source, &layer, cancel).context(frame)?;
                Ok((Body::Blob(Box::new(blob), Some(size)), size))
            }
            (None, _) => {
                let unknown = Error::not_found("the image has no such blob");
                Err(unknown.context(frame()).hint("GetLayerInfo names the layers that can be had"))
            }
        }
    }
}

impl Layers {
    /// Returns the list that `GetLayerInfo` gives.
    pub(super) fn to_json(&self) -> Value {
        let layer =
            |layer: &Descriptor| json!({ "digest": layer.digest, "size": layer.size, "media_type": layer.media_type });
        self.served.iter().map(layer).collect()
    }

    /// Returns the size of a layer that comes under this digest.
    pub(super) fn size_of(&self, digest: &Digest) -> Option<u64> {
        self.served.iter().find(|layer| layer.digest == *digest).map(|layer| layer.size)
    }
}

/// Returns what comes when a layer is asked for.
fn served(source: &dyn ImageSource, layer: &Layer, cancel: &Cancel) -> Result<Descriptor> {
    let media_type = convert::layer_type(&layer.descriptor.media_type);
    let Some(diff_id) = layer.diff_id.filter(|_| !source.keeps_blobs()) else {
        return Ok(Descriptor::new(media_type, layer.descriptor.digest, layer.descriptor.size));
    };
    let plain = |size| Descriptor::new(MediaType::new(OCI_LAYER), diff_id.0, size);
    let frame = || format!("looking at layer {} of {}", layer.descriptor.digest, source.name());
    match source.open_layer(layer).context(frame)? {
        LayerBlob::AsDescribed(_) => Ok(Descriptor::new(media_type, layer.descriptor.digest, layer.descriptor.size)),
        LayerBlob::Uncompressed(_, Some(size)) => Ok(plain(size)),
        // A store that has not recorded the size is read to learn it.
        blob @ LayerBlob::Uncompressed(_, None) => {
            let mut reader = verify(blob, layer, cancel).context(frame)?;
            let read = match &mut reader {
                holkas::image::LayerReader::Blob(reader) => std::io::copy(reader, &mut std::io::sink()),
                holkas::image::LayerReader::Diff(reader) => std::io::copy(reader, &mut std::io::sink()),
            };
            read.map(plain).context(frame)
        }
    }
}
