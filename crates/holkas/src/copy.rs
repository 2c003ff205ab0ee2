//! From a source to a destination: select, admit, move, publish. Sees traits only.

pub mod convert;
mod gate;
pub mod layers;
mod list;
mod referrers;
mod sign;
pub(crate) mod ticker;

use std::num::NonZero;
use std::sync::Arc;

pub use self::gate::Gate;
pub use self::sign::Signing;
use crate::error::{Context, Error, Result};
use crate::image::{Capabilities, Image, ImageDestination, ImageSource, LayerForm, Origin, Support};
use crate::limits::{INDEX_DEPTH, MANIFEST};
use crate::oci::{Compression, Descriptor, Digest, Document, Format, ImageId, Index, Manifest, Meaning, Platform};
use crate::policy::{Demands, Policy};
use crate::progress::{Cancel, Event, Monitor};
use crate::signature::UntrustedSignature;
use crate::verify::VerifiedBytes;

/// What of a manifest list is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MultiArch {
    /// The instance for the platform.
    #[default]
    System,
    /// The list and all its instances.
    All,
    /// The list with its instances for some platforms: [`CopyOptions::platforms`].
    Platforms,
    /// The list alone.
    IndexOnly,
}

/// How an image is written that has to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rewrite {
    /// Only what must: the config's bytes stay, and with them the image ID.
    #[default]
    Least,
    /// As skopeo does: Docker's config becomes one with the fields that OCI has, and manifests have skopeo's bytes.
    /// A list of the other format never goes into a layout, though an image does where digests are preserved.
    Skopeo,
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which instance of a list is wanted.
    pub platform: Platform,
    /// What of a list is copied.
    pub multi_arch: MultiArch,
    /// Which instances of a list are wanted by [`MultiArch::Platforms`].
    pub platforms: Vec<Platform>,
    /// Make a new list without the instances that are not wanted; else the list stays as it is, and lacks them.
    pub strip_removed_platforms: bool,
    /// The format that the manifest shall have at the destination.
    pub format: Option<Format>,
    /// Fail rather than change a byte, and store a manifest in a room of another format if it has to be.
    pub preserve_digests: bool,
    /// Leave signatures behind.
    pub remove_signatures: bool,
    /// Sign what is written: each image, and the list, if one is copied with its images.
    pub signing: Signing,
    /// Take along what belongs to the image: its referrers and what cosign keeps under tags, and what belongs to those.
    pub referrers: bool,
    /// Compress layers so, at this level.
    pub compress: Option<(Compression, Option<i32>)>,
    /// Compress the layers so, at this level, that are not compressed, where the destination takes blobs.
    pub compress_plain: Option<(Compression, Option<i32>)>,
    /// Store layers uncompressed.
    pub decompress: bool,
    /// How a new image is written where a changed one has to be.
    pub rewrite: Rewrite,
    /// Where digests or signatures are kept, an image goes as it is, whatever format and compression were asked for.
    /// So does skopeo.
    pub yields: bool,
    /// Allow a new manifest where the destination, or the source, cannot keep the old one.
    pub allow_changes: bool,
    /// How many layers at once.
    pub jobs: usize,
    /// What all copies share that run at the same time, so that none moves a blob while another does.
    pub gate: Option<Arc<Gate>>,
    /// Stops the copy.
    pub cancel: Cancel,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            multi_arch: MultiArch::System,
            platforms: Vec::new(),
            strip_removed_platforms: false,
            format: None,
            preserve_digests: false,
            remove_signatures: false,
            signing: Signing::default(),
            referrers: false,
            compress: None,
            compress_plain: None,
            decompress: false,
            rewrite: Rewrite::Least,
            yields: false,
            allow_changes: false,
            jobs: default_jobs(),
            gate: None,
            cancel: Cancel::default(),
        }
    }
}

/// More layers at once cost memory and gain nothing: each keeps more than one core busy.
const MOST_JOBS: usize = 6;

/// Returns how many layers are worth moving at once: one for each core, within bounds.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_JOBS)
}

impl CopyOptions {
    /// Returns whether the user asked for a new manifest.
    fn may_change(&self, source: &dyn ImageSource) -> bool {
        let compress = self.compress.or(self.compress_plain).is_some() || self.decompress;
        let asked = self.format.is_some() || compress || self.allow_changes;
        !self.preserve_digests && (asked || source.origin() == Origin::Synthesised)
    }
}

/// What a copy did.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The digest of the manifest or index that the destination's reference now names.
    pub manifest_digest: Digest,
    /// The ID of the one image that was copied; `None` for a list or an artifact.
    pub image_id: Option<ImageId>,
    /// Layers that were moved or found.
    pub layers: usize,
    /// Compressed bytes of those layers.
    pub bytes: u64,
    /// Manifests that belong to what was copied, and that were taken along.
    pub referrers: usize,
}

/// Copies what the source's reference names.
///
/// Nothing is visible at the destination before everything is verified; after an error nothing is.
///
/// # Errors
///
/// `Refused` by the policy, or because a byte would have to change unasked; `Mismatch` where the source lies;
/// `NotFound` where the list has no image for the platform; whatever the rooms say.
pub fn copy(
    source: &dyn ImageSource,
    destination: Box<dyn ImageDestination>,
    policy: &Policy,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let frame = || format!("copying {} to {}", source.name(), destination.name());
    let copied = stage(source, &*destination, policy, options, monitor).context(frame)?;
    options.cancel.check()?;
    monitor.event(Event::Committing);
    let frame = frame();
    destination.publish().context(|| frame)?;
    Ok(copied)
}

/// Copies what the source's reference names, as [`copy`] does, but leaves it to the caller to publish it.
pub fn stage(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    policy: &Policy,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let demands = policy.demands(&source.policy_scopes(), &source.name())?;
    sign::check(destination, &options.signing)?;
    if options.referrers {
        referrers::check(source, destination)?;
    }
    let (mut copied, subjects) = stage_top((source, &demands), destination, options, monitor)?;
    if options.referrers {
        copied.referrers = referrers::copy(source, destination, &subjects, options, monitor)?;
    }
    Ok(copied)
}

/// Stages what the source's reference names, and returns the digests of all manifests and indexes that were.
fn stage_top(
    from: (&dyn ImageSource, &Demands<'_>),
    destination: &dyn ImageDestination,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<(Copied, Vec<Digest>)> {
    let (source, _) = from;
    let one = |(copied, descriptor): (Copied, Descriptor)| (copied, vec![descriptor.digest]);
    match (crate::image::open_top(source)?, options.multi_arch) {
        (Document::Schema1(schema1), _) => Err(schema1.refusal()),
        (Document::Manifest(manifest), _) => {
            copy_one(from, destination, manifest, Vec::new(), options, monitor).map(one)
        }
        (Document::Index(index), MultiArch::System) => {
            let (manifest, indexes) = select(source, index, &options.platform)?;
            copy_one(from, destination, manifest, indexes, options, monitor).map(one)
        }
        (Document::Index(index), MultiArch::IndexOnly) => {
            let mut signatures = admit_to(from, index.raw(), destination, options)?;
            let index = index_alone(destination, index, options)?;
            monitor.event(Event::ListStarted { images: 0, of: index.entries().len() });
            monitor.event(Event::InstancesFinished);
            signatures.extend(sign::sign(index.digest(), destination, options, monitor)?);
            destination.put_index(&index, &signatures)?;
            let manifest_digest = *index.digest();
            let copied = Copied { manifest_digest, image_id: None, layers: 0, bytes: 0, referrers: 0 };
            Ok((copied, vec![manifest_digest]))
        }
        (Document::Index(index), MultiArch::All | MultiArch::Platforms) => {
            refuse_ungrouped(destination)?;
            list::Lists::new(from, destination, options, monitor).copy(&index)
        }
    }
}

/// Reads the image of an index that suits the platform, following indexes within indexes.
///
/// Returns the manifest and the indexes that lead to it, the outermost first.
pub fn select(source: &dyn ImageSource, index: Index, platform: &Platform) -> Result<(Manifest, Vec<Index>)> {
    let mut path = vec![index];
    loop {
        let last = path.last().expect("the path begins with one index and only grows");
        let entry = platform.choose(last).context(|| format!("choosing an image of {}", source.name()))?.clone();
        match open_document(source, &entry)? {
            Document::Manifest(manifest) => return Ok((manifest, path)),
            Document::Schema1(schema1) => return Err(schema1.refusal()),
            Document::Index(index) => path.push(index),
        }
        if path.len() > INDEX_DEPTH {
            return Err(Error::invalid(format!(
                "the indexes of {} are nested more than {INDEX_DEPTH} deep",
                source.name()
            )));
        }
    }
}

/// Opens and verifies a manifest or an index that an index names.
pub fn open_document(source: &dyn ImageSource, entry: &Descriptor) -> Result<Document> {
    source
        .open_manifest(entry)
        .and_then(|blob| blob.read_verified(entry, MANIFEST))
        .and_then(Document::parse)
        .context(|| format!("reading manifest {} of {}", entry.digest, source.name()))
}

/// Checks that a manifest or a list fulfils what the policy demands, and returns the signatures that travel on:
/// all, or none if the user wants none. The source is asked for them once, and only for one of the two.
pub(crate) fn admit(
    source: &dyn ImageSource,
    document: &VerifiedBytes,
    demands: &Demands<'_>,
    options: &CopyOptions,
) -> Result<Vec<UntrustedSignature>> {
    if options.remove_signatures {
        return demands.check_in(source, document).map(|()| Vec::new());
    }
    let signatures = source.signatures(document.digest())?;
    demands.check(document, &signatures)?;
    Ok(signatures)
}

/// Admits a manifest or a list as [`admit`] does, to a destination that must have room for its signatures.
fn admit_to(
    (source, demands): (&dyn ImageSource, &Demands<'_>),
    document: &VerifiedBytes,
    destination: &dyn ImageDestination,
    options: &CopyOptions,
) -> Result<Vec<UntrustedSignature>> {
    let signatures = admit(source, document, demands, options)?;
    if !signatures.is_empty() && !destination.capabilities().signatures {
        return Err(Error::refused(format!("{} cannot hold the image's signatures", destination.name()))
            .hint("copy without them by --remove-signatures"));
    }
    Ok(signatures)
}

/// Copies one image, and returns what its manifest is at the destination, too.
fn copy_one(
    from: (&dyn ImageSource, &Demands<'_>),
    destination: &dyn ImageDestination,
    manifest: Manifest,
    indexes: Vec<Index>,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<(Copied, Descriptor)> {
    let (source, _) = from;
    let signatures = admit_to(from, manifest.raw(), destination, options)?;
    let mut image = Image::open_with(source, manifest, indexes, signatures)?;
    let image_id = image.config.as_ref().map(crate::oci::ImageConfig::image_id);
    let plan = plan(source, destination, &image, options)?;
    let (descriptor, bytes) = match plan {
        Plan::AsIs => {
            image.signatures.extend(sign::sign(image.manifest.digest(), destination, options, monitor)?);
            layers::move_layers(
                source,
                &image,
                destination.begin(&image)?,
                destination.capabilities().order,
                options,
                monitor,
            )?;
            (image.manifest.descriptor(), image.layers.iter().map(|l| l.descriptor.size).sum())
        }
        Plan::Convert(format) => convert::move_converted(source, destination, &image, format, options, monitor)?,
    };
    let layers = image.layers.len();
    let copied = Copied { manifest_digest: descriptor.digest, image_id, layers, bytes, referrers: 0 };
    Ok((copied, descriptor))
}

/// Returns the index as it can go alone: as it is, or as skopeo changes it, which leaves what it names as it is.
fn index_alone(destination: &dyn ImageDestination, index: Index, options: &CopyOptions) -> Result<Index> {
    refuse_ungrouped(destination)?;
    if options.rewrite == Rewrite::Skopeo {
        let native = support(&destination.capabilities(), index.format()) == Support::Native;
        let wanted = options.format.unwrap_or(if native { index.format() } else { other(index.format()) });
        if wanted == index.format() {
            return Ok(index);
        }
        refuse_change("list", "another format is wanted", !options.preserve_digests, &[], options)?;
        let entries: Vec<_> = index.entries().iter().cloned().map(Some).collect();
        return convert::new_index(&index, wanted, &entries, options.rewrite);
    }
    if options.format.is_some_and(|format| format != index.format()) {
        return Err(Error::unsupported("a list cannot be converted to another format without its images")
            .hint("copy it with them, by --multi-arch=all"));
    }
    match support(&destination.capabilities(), index.format()) {
        Support::Native => Ok(index),
        Support::OnRequest if options.preserve_digests => Ok(index),
        Support::OnRequest | Support::No => Err(Error::refused(format!(
            "{} holds no lists of type `{}`, and converting one would change its digest",
            destination.name(),
            index.media_type()
        ))
        .hint("copy to dir:, or keep the list as it is by --preserve-digests where the destination allows it")),
    }
}

fn refuse_ungrouped(destination: &dyn ImageDestination) -> Result<()> {
    if destination.capabilities().indexes {
        return Ok(());
    }
    Err(Error::unsupported(format!("{} cannot hold a manifest list with its images as a group", destination.name()))
        .hint("copy one platform by --multi-arch=system, or several into one store by `holkas embed`"))
}

/// Refuses a change that was not asked for, or that signatures or referrers forbid.
fn refuse_change(
    what: &str,
    reasons: &str,
    asked: bool,
    signatures: &[UntrustedSignature],
    options: &CopyOptions,
) -> Result<()> {
    if options.referrers {
        return Err(Error::refused(format!(
            "the {what} would have to change, and what refers to it would then refer to nothing: {reasons}"
        ))
        .hint("copy without --referrers, or keep it as it is by --preserve-digests where the destination allows it"));
    }
    if !asked {
        return Err(Error::refused(format!("the {what} would have to change: {reasons}"))
            .hint("its digest would be a new one; ask for that with -f oci, -f v2s2 or --allow-changes"));
    }
    if !signatures.is_empty() {
        return Err(Error::refused(format!("a change would invalidate the {what}'s signatures: {reasons}"))
            .hint("copy without them by --remove-signatures"));
    }
    Ok(())
}

fn other(format: Format) -> Format {
    match format {
        Format::Oci => Format::Docker,
        Format::Docker => Format::Oci,
    }
}

fn support(capabilities: &Capabilities, format: Format) -> Support {
    match format {
        Format::Oci => capabilities.oci,
        Format::Docker => capabilities.docker,
    }
}

/// Returns how a layer is compressed; what is no layer has no compression.
fn compression(layer: &Descriptor) -> Option<Compression> {
    match layer.media_type.meaning() {
        Meaning::Layer(_, compression) | Meaning::ForeignLayer(_, compression) => Some(compression),
        _ => None,
    }
}

enum Plan {
    AsIs,
    Convert(Format),
}

/// Decides whether the image can go as it is, must become a new one, or must be refused.
fn plan(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    image: &Image,
    options: &CopyOptions,
) -> Result<Plan> {
    let capabilities = destination.capabilities();
    let own = image.manifest.format();
    if !image.manifest.is_image() && !capabilities.artifacts {
        return Err(Error::unsupported(format!(
            "{} is an artifact (config type `{}`), which {} cannot hold",
            source.name(),
            image.manifest.config().media_type,
            destination.name()
        )));
    }
    let held = support(&capabilities, own);
    let mut reasons = Vec::new();
    let yields = options.yields && (options.preserve_digests || !image.signatures.is_empty());
    let wanted = options.format.filter(|_| !yields);
    let format = match wanted {
        Some(wanted) if wanted != own => {
            reasons.push("another format was asked for".to_string());
            wanted
        }
        Some(wanted) => wanted,
        None if held == Support::Native || (held == Support::OnRequest && options.preserve_digests) => own,
        None => {
            reasons.push(format!(
                "{} holds no manifests of type `{}`",
                destination.name(),
                image.manifest.media_type()
            ));
            other(own)
        }
    };
    let compressions = || image.layers.iter().filter_map(|layer| compression(&layer.descriptor));
    let compressed_otherwise = |wanted: Compression| compressions().any(|own| own != wanted);
    match capabilities.layers {
        LayerForm::Unpacked => {}
        LayerForm::Blob => {
            if !source.keeps_blobs() && compressed_otherwise(Compression::None) {
                reasons.push(format!(
                    "{} keeps layers unpacked and cannot give back their compressed bytes",
                    source.name()
                ));
            }
            let wanted = if options.decompress { Some(Compression::None) } else { options.compress.map(|(to, _)| to) };
            if !yields && wanted.is_some_and(compressed_otherwise) {
                reasons.push("other compression was asked for".to_string());
            }
            if !yields && options.compress_plain.is_some() && compressions().any(|own| own == Compression::None) {
                reasons.push("layers that are not compressed shall be".to_string());
            }
        }
        LayerForm::Uncompressed => {}
    }
    if reasons.is_empty() || !capabilities.manifests {
        return Ok(Plan::AsIs);
    }
    refuse_change("image", &reasons.join(", and "), options.may_change(source), &image.signatures, options)?;
    Ok(Plan::Convert(format))
}
