//! Images and layers as they travel, and what a room must be able to do to send or receive them.

mod referrers;

use crate::error::{Error, Result};
use crate::oci::media_type::Meaning;
use crate::oci::{Descriptor, DiffId, Digest, Document, ImageConfig, Index, Manifest};
use crate::progress::Counter;
use crate::reference::Name;
use crate::signature::UntrustedSignature;
use crate::verify::{BlobReader, DiffReader, PartialBlob, UntrustedBlob, Verified, VerifiedBytes, VerifiedDiff};

pub use referrers::{Attached, Attachment, Referrer};
pub(crate) use referrers::{cosign_tags, list_tag, listed};

/// One image on its way: everything about it that is known before its first layer is opened.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Manifest,
    /// The config's bytes.
    pub config_bytes: VerifiedBytes,
    /// The parsed config; `None` for an artifact.
    pub config: Option<ImageConfig>,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// The indexes that name the image and travel with it, the one that was asked for first.
    pub indexes: Vec<Index>,
    /// Signatures of the manifest.
    pub signatures: Vec<UntrustedSignature>,
    /// The repository of a registry that has the blobs, if they come from one: another there can take them over.
    pub repository: Option<Name>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The layer's place, 0 being the lowest.
    pub position: usize,
    /// The blob, as the manifest describes it.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed layer, as the config gives it; `None` for an artifact's blobs.
    pub diff_id: Option<DiffId>,
}

/// How a source can give a layer.
#[derive(Debug)]
pub enum LayerBlob {
    /// The blob that the descriptor describes.
    AsDescribed(UntrustedBlob),
    /// The uncompressed layer, where the source no longer has the blob. The size in bytes, where known.
    Uncompressed(UntrustedBlob, Option<u64>),
}

/// A layer on its way through the door.
#[derive(Debug)]
pub enum LayerReader {
    /// Reads the blob; its descriptor is the proof.
    Blob(BlobReader),
    /// Reads the uncompressed layer; its diff ID is the proof.
    Diff(DiffReader<crate::verify::Bounded>),
}

impl LayerReader {
    /// Counts what is read from the source.
    #[must_use]
    pub fn counted_by(self, counter: &Counter) -> Self {
        match self {
            Self::Blob(reader) => Self::Blob(reader.counted_by(counter)),
            Self::Diff(reader) => Self::Diff(reader.counted_by(counter)),
        }
    }
}

/// Whether a source's manifest is what a publisher made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The bytes are the publisher's; their digest is known to others.
    Published,
    /// The source has no manifest of its own; we wrote one to describe it.
    Synthesised,
}

/// A room to take images from.
pub trait ImageSource: Send + Sync {
    /// Returns the reference as the user would write it, for messages.
    fn name(&self) -> String;

    /// Returns the scopes under which a policy may speak of this source, most specific first,
    /// after the transport's name. See [`crate::policy`].
    fn policy_scopes(&self) -> PolicyIdentity;

    /// Opens what the reference names now: a manifest or an index.
    ///
    /// The result is verified against the reference's digest where it has one, else identified by its own.
    fn top(&self) -> Result<VerifiedBytes>;

    /// Returns the digest of what the reference names now, if the source can tell it for less than
    /// [`ImageSource::top`] costs.
    ///
    /// Nothing proves it, and what the reference names may be something else a moment later.
    fn announced(&self) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Opens a manifest or an index that another document describes.
    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob>;

    /// Opens a config.
    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob>;

    /// Opens a layer.
    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob>;

    /// Returns whether [`ImageSource::open_layer_from`] saves anything.
    fn resumes(&self) -> bool {
        false
    }

    /// Opens a layer of which the destination has the beginning, so that only the rest need be fetched.
    ///
    /// The beginning need not be used. The blob that is returned has all of the layer's bytes.
    fn open_layer_from(&self, layer: &Layer, _beginning: PartialBlob) -> Result<LayerBlob> {
        self.open_layer(layer)
    }

    /// Hears that what was last opened for a descriptor was wrong (`error` says how), gives up the place that it came
    /// from, such as a damaged file of a cache or a mirror that lies, and returns whether there is another.
    ///
    /// If there is, the same is opened again, and then comes from there.
    fn try_another_place(&self, _blob: &Descriptor, _error: &Error) -> bool {
        false
    }

    /// Returns what the user should know of since this was last asked, and that failed nothing.
    fn take_warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the signatures of a manifest or an index.
    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>>;

    /// Returns the indexes that the source keeps beside this image without their being what was asked for.
    fn indexes(&self, _manifest: &Digest) -> Result<Vec<VerifiedBytes>> {
        Ok(Vec::new())
    }

    /// Returns whether [`ImageSource::referrers`] can find anything.
    fn keeps_referrers(&self) -> bool {
        false
    }

    /// Returns what belongs to a manifest or an index, in an order that is the same every time.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is more of it than [`crate::limits::REFERRERS`]; whatever the room says.
    fn referrers(&self, _subject: &Digest) -> Result<Vec<Referrer>> {
        Ok(Vec::new())
    }

    /// Returns the repository of a registry that the images are read from.
    fn repository(&self) -> Option<&Name> {
        None
    }

    /// Returns whether the manifest is what a publisher made.
    fn origin(&self) -> Origin {
        Origin::Published
    }

    /// Returns whether `open_layer` can give the blob as it is described, or only its uncompressed form.
    fn keeps_blobs(&self) -> bool {
        true
    }
}

/// Under what names a policy may speak of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyIdentity {
    /// The transport's name in `policy.json`.
    pub transport: &'static str,
    /// Scopes, most specific first; the transport's own `""` scope is not among them.
    pub scopes: Vec<String>,
    /// What the image is called in a registry, where the transport knows it: signatures may have to be for that name.
    pub docker_reference: Option<Name>,
}

/// What a room can hold without changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Docker schema 2 manifests and lists.
    pub docker: Support,
    /// OCI manifests and indexes.
    pub oci: Support,
    /// Indexes with their instances beside them.
    pub indexes: bool,
    /// Artifacts: manifests whose config is no image config.
    pub artifacts: bool,
    /// Signatures.
    pub signatures: bool,
    /// Layers keep their blobs. A room that unpacks takes either form of a layer.
    pub layers: LayerForm,
    /// The order in which layers must be put.
    pub order: LayerOrder,
    /// The manifest itself is kept, so that its digest survives.
    pub manifests: bool,
}

/// Whether a room holds documents of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Yes.
    Native,
    /// Only when the user insists on unchanged digests.
    OnRequest,
    /// Not at all.
    No,
}

/// In what form a room takes layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// Blobs, byte for byte.
    Blob,
    /// Uncompressed only.
    Uncompressed,
    /// Either: the room unpacks.
    Unpacked,
}

/// In what order a room takes the layers of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOrder {
    /// Any order, from many threads.
    Any,
    /// Lowest first, one at a time.
    BaseFirst,
}

/// A room to put images into. Nothing is visible in it before [`ImageDestination::publish`].
pub trait ImageDestination: Send + Sync {
    /// Returns the reference as the user would write it, for messages.
    fn name(&self) -> String;

    /// Returns what the room can hold without changing it.
    fn capabilities(&self) -> Capabilities;

    /// Returns what the image will be called in a registry, where the transport knows it: signatures are for that name.
    fn docker_reference(&self) -> Option<Name> {
        None
    }

    /// Returns the digest of what the reference names before anything is put; `None` for nothing, and for a room that
    /// does not tell.
    fn announced(&self) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Returns whether the room says that it has a manifest or an index, whatever names it.
    fn has_manifest(&self, _digest: &Digest) -> Result<bool> {
        Ok(false)
    }

    /// Begins an image. Its manifest and config are known and verified.
    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>>;

    /// Puts the index that the reference shall name, after its instances (or without them, if sparse),
    /// with its own signatures.
    fn put_index(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()>;

    /// Puts an index that another index names, after its own instances.
    fn put_index_within(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()>;

    /// Returns whether the room can hold what belongs to an image: see [`ImageDestination::put_referrer`].
    fn holds_referrers(&self) -> bool {
        false
    }

    /// Begins the blobs of something that belongs to an image, and that the reference does not name.
    fn begin_referrer<'a>(&'a self, _image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        Err(no_referrers(self.name()))
    }

    /// Puts a manifest or an index that belongs to an image, after its blobs, or after what it names.
    fn put_referrer(&self, _document: &Attached, _attachment: &Attachment) -> Result<()> {
        Err(no_referrers(self.name()))
    }

    /// Syncs what was committed and makes all of it visible at once.
    fn publish(self: Box<Self>) -> Result<()>;
}

/// Makes the error of a destination that has no place for what belongs to an image.
pub(crate) fn no_referrers(destination: String) -> Error {
    Error::unsupported(format!("{destination} has no place for what belongs to an image, such as its signatures"))
        .hint("copy to docker://, oci: or oci-archive:, or without --referrers")
}

/// An image being written.
pub trait ImageWriter: Send + Sync {
    /// Returns a layer that the room has already, so that it need not be read.
    fn reuse_layer(&self, layer: &Layer) -> Result<Option<Stored>>;

    /// Returns the beginning of a layer that an interrupted run left here, and prepares to leave one itself.
    ///
    /// Called before [`ImageWriter::put_layer`] if the source can go on from there, from the same thread.
    fn partial(&self, _layer: &Layer) -> Result<Option<PartialBlob>> {
        Ok(None)
    }

    /// Puts a layer. Callable from many threads if the room's order is [`LayerOrder::Any`].
    ///
    /// A second call for the same layer after one that failed is as good as the first, unless
    /// [`ImageWriter::can_put_again`] says that there cannot be one.
    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored>;

    /// Returns whether a layer can be put again after [`ImageWriter::put_layer`] failed for it.
    fn can_put_again(&self) -> bool {
        true
    }

    /// Ends the image: all of it is in the room, staged. A drop without it leaves nothing.
    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()>;
}

/// A layer that is in the destination, and why we believe that it is the right one.
#[derive(Debug)]
pub struct Stored {
    /// The layer's place in the image.
    pub position: usize,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    Blob(#[expect(dead_code, reason = "held as the proof")] Verified),
    Unpacked(#[expect(dead_code, reason = "held as the proof")] VerifiedDiff),
    TrustedRecord,
}

impl Stored {
    /// The blob was read to its end and matched its descriptor.
    pub fn verified(layer: &Layer, proof: Verified) -> Self {
        Self { position: layer.position, proof: Proof::Blob(proof) }
    }

    /// The uncompressed layer was read to its end and matched its diff ID.
    pub fn unpacked(layer: &Layer, proof: VerifiedDiff) -> Self {
        Self { position: layer.position, proof: Proof::Unpacked(proof) }
    }

    /// THE ONE HONEST HOLE: the layer is believed to be right because the destination recorded it
    /// under this digest when it was verified. Allowed only where the destination itself keeps that record.
    pub fn trusted_from_destinations_own_record(layer: &Layer) -> Self {
        Self { position: layer.position, proof: Proof::TrustedRecord }
    }

    /// Returns whether the layer was there already.
    pub fn reused(&self) -> bool {
        matches!(self.proof, Proof::TrustedRecord)
    }
}

impl Image {
    /// Reads an image's config and puts the parts together, checking that they agree.
    ///
    /// Signatures are the source's; `indexes` are what leads to the manifest, to which those are added
    /// that the source keeps beside it.
    pub fn open(source: &dyn ImageSource, manifest: Manifest, indexes: Vec<Index>) -> Result<Self> {
        let signatures = source.signatures(manifest.digest())?;
        Self::open_with(source, manifest, indexes, signatures)
    }

    /// Does what [`Image::open`] does for an image whose signatures were asked for, or are not wanted.
    pub fn open_with(
        source: &dyn ImageSource,
        manifest: Manifest,
        mut indexes: Vec<Index>,
        signatures: Vec<UntrustedSignature>,
    ) -> Result<Self> {
        use crate::error::Context;

        let frame = || format!("reading config {} of {}", manifest.config().digest, source.name());
        let config_bytes = read_config(source, &manifest)?;
        let config = match manifest.is_image() {
            true => Some(ImageConfig::parse(config_bytes.clone()).context(frame)?),
            false => None,
        };
        if let Some(config) = &config
            && config.diff_ids().len() != manifest.layers().len()
        {
            return Err(Error::mismatch(format!(
                "the config lists {} diff IDs, but the manifest {} layers",
                config.diff_ids().len(),
                manifest.layers().len()
            )))
            .context(|| format!("reading image {} of {}", manifest.digest(), source.name()));
        }
        let layers = manifest
            .layers()
            .iter()
            .enumerate()
            .map(|(position, descriptor)| Layer {
                position,
                descriptor: descriptor.clone(),
                diff_id: config.as_ref().map(|config| config.diff_ids()[position]),
            })
            .collect();
        for kept in source.indexes(manifest.digest())? {
            let index = Index::parse(kept)?;
            if indexes.iter().all(|known| known.digest() != index.digest()) {
                indexes.push(index);
            }
        }
        let repository = source.repository().cloned();
        Ok(Self { manifest, config_bytes, config, layers, indexes, signatures, repository })
    }

    /// Returns whether any layer is of a kind that no room can unpack, such as an encrypted one.
    pub fn opaque_layer(&self) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.descriptor.media_type.meaning() == Meaning::Other)
    }
}

/// Reads a manifest's config.
fn read_config(source: &dyn ImageSource, manifest: &Manifest) -> Result<VerifiedBytes> {
    use crate::error::Context;
    let frame = || format!("reading config {} of {}", manifest.config().digest, source.name());
    let read = || source.open_config(manifest.config())?.read_verified(manifest.config(), crate::limits::CONFIG);
    from_any_place(source, manifest.config(), |_| {}, read).context(frame)
}

/// Reads what a source's reference names, parsed.
pub fn open_top(source: &dyn ImageSource) -> Result<Document> {
    use crate::error::Context;
    source.top().and_then(Document::parse).context(|| format!("reading manifest of {}", source.name()))
}

/// Does what reads a blob of a source, and does it again for as long as the bytes are wrong and the source has another
/// place for them. `told` hears of each place that was given up.
pub fn from_any_place<T>(
    source: &dyn ImageSource,
    blob: &Descriptor,
    told: impl Fn(&Error),
    mut read: impl FnMut() -> Result<T>,
) -> Result<T> {
    use crate::error::ErrorKind;
    for _ in 1..crate::limits::PLACES {
        match read() {
            // Wrong bytes may not come to their end, as when they cannot be decompressed.
            Err(error) if matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Invalid) => {
                if !source.try_another_place(blob, &error) {
                    return Err(error);
                }
                told(&error);
            }
            other => return other,
        }
    }
    read()
}
