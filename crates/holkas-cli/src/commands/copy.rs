//! `holkas copy SOURCE DESTINATION`, and the copy that both faces make.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holkas::copy::{Copied, CopyOptions, MultiArch, copy};
use holkas::error::{Context, Result};
use holkas::fs::display;
use holkas::oci::{Digest, Platform};
use holkas::open::{Rooms, open_destination, open_source};
use holkas::policy::Policy;
use holkas::progress::{Event, Monitor};
use holkas::reference::{ImageReference, Name};
use serde_json::json;

use super::{Setting, registries};
use crate::cli::Progress;
use crate::cli::copy::LayerCompression;
use crate::cli::registry::{Network, Registry};
use crate::{cli, environment, output, progress};

/// One side of a copy.
pub(crate) struct Side {
    /// The image there.
    pub(crate) reference: ImageReference,
    /// Where the blobs of an `oci:` image are.
    pub(crate) shared_blob_dir: Option<PathBuf>,
    /// How its registry is spoken to.
    pub(crate) registry: Registry,
}

/// A copy as it is meant, however it was typed.
pub(crate) struct Request {
    pub(crate) source: Side,
    pub(crate) destination: Side,
    pub(crate) additional_tags: Vec<Name>,
    pub(crate) policy: Policy,
    /// The platform, if it is not the one of the global flags.
    pub(crate) platform: Option<Platform>,
    /// How many layers at once, if it was said.
    pub(crate) jobs: Option<NonZeroUsize>,
    pub(crate) network: Network,
    /// How to copy, but for the platform, the number of jobs, and what stops it.
    pub(crate) options: CopyOptions,
    pub(crate) digestfile: Option<PathBuf>,
}

/// Copies the image.
pub(crate) fn run(arguments: &cli::copy::Copy, setting: &Setting<'_>) -> Result<()> {
    let from = ImageReference::parse(&arguments.source)?;
    let to = ImageReference::parse(&arguments.destination)?;
    let additional_tags = arguments
        .additional_tag
        .iter()
        .map(|text| Name::parse_normalised(text).map(Name::with_default_tag))
        .collect::<Result<Vec<_>>>()
        .context(|| "reading --additional-tag")?;
    let policy = setting.policy()?;
    let wanted = if arguments.quiet { Progress::None } else { arguments.reporting.progress };
    let monitor = progress::monitor(wanted);
    warn_of_what_has_no_effect(arguments, &to, &*monitor);
    let (multi_arch, platforms) = multi_arch(arguments);
    let compress = compress(arguments, &to);
    let options = CopyOptions {
        multi_arch,
        platforms,
        strip_removed_platforms: arguments.strip_removed_platforms,
        format: arguments.format.map(Into::into),
        schema1: arguments.format == Some(cli::copy::ManifestFormat::Schema1),
        preserve_digests: arguments.preserve_digests,
        remove_signatures: arguments.remove_signatures,
        signing: arguments.signing.typed().signing(setting.cancel)?,
        referrers: arguments.referrers,
        compress: compress.map(|(format, level)| (format.compression, level)),
        chunked: compress.is_some_and(|(format, _)| format.chunked),
        decompress: arguments.dest_decompress && matches!(to, ImageReference::Dir(_)),
        allow_changes: arguments.allow_changes,
        ..CopyOptions::default()
    };
    let registry = |mut typed: Registry| {
        typed.authfile = typed.authfile.or_else(|| arguments.authfile.clone());
        typed
    };
    let request = Request {
        source: Side {
            reference: from,
            shared_blob_dir: arguments.src_shared_blob_dir.clone(),
            registry: registry((&arguments.source_registry).into()),
        },
        destination: Side {
            reference: to,
            shared_blob_dir: arguments.dest_shared_blob_dir.clone(),
            registry: registry((&arguments.destination_registry).into()),
        },
        additional_tags,
        policy,
        platform: arguments.platform.first().cloned(),
        jobs: arguments.jobs,
        network: arguments.network.clone(),
        options,
        digestfile: arguments.digestfile.clone(),
    };
    let copied = perform(&request, setting, &monitor)?;
    if !arguments.reporting.json {
        return Ok(());
    }
    output::json(&json!({
        "source": request.source.reference.to_string(),
        "destination": request.destination.reference.to_string(),
        "manifest_digest": copied.manifest_digest,
        "image_id": copied.image_id.map(|id| id.to_string()),
        "layers": copied.layers,
        "bytes": copied.bytes,
        "referrers": copied.referrers,
    }))
}

/// Makes the copy, and writes its digest where it was asked for.
pub(crate) fn perform(request: &Request, setting: &Setting<'_>, monitor: &Arc<dyn Monitor>) -> Result<Copied> {
    let (from, to) = (&request.source.reference, &request.destination.reference);
    let into_store = matches!(to, ImageReference::Storage(_));
    if into_store {
        environment::privilege()?;
    }
    let rooms = setting.rooms(request.platform.as_ref())?;
    let options = CopyOptions {
        platform: rooms.platform.clone(),
        jobs: registries::jobs(request.jobs, [from], into_store),
        cancel: setting.cancel.clone(),
        scratch: Some(rooms.scratch.clone()),
        ..request.options.clone()
    };
    let room = |side: &Side, additional_tags: Vec<Name>| -> Result<Rooms> {
        let typed = &side.registry;
        Ok(Rooms {
            shared_blob_dir: side.shared_blob_dir.clone(),
            registries: registries::client_for([&side.reference], typed, &request.network, setting, monitor)?,
            additional_tags,
            ..rooms.clone()
        })
    };
    let source = room(&request.source, Vec::new())?;
    let destination = room(&request.destination, request.additional_tags.clone())?;
    let source = open_source(from, &source)?;
    let destination = open_destination(to, &destination)?;
    let copied = copy(&*source, destination, &request.policy, &options, &**monitor)?;
    if let Some(path) = &request.digestfile {
        write_digest(path, &copied.manifest_digest)?;
    }
    Ok(copied)
}

/// Returns what is wanted of a list, and the platforms if it is several.
fn multi_arch(arguments: &cli::copy::Copy) -> (MultiArch, Vec<Platform>) {
    match &arguments.multi_arch {
        _ if arguments.all => (MultiArch::All, Vec::new()),
        cli::copy::MultiArch::System if arguments.platform.len() > 1 => {
            (MultiArch::Platforms, arguments.platform.clone())
        }
        cli::copy::MultiArch::System => (MultiArch::System, Vec::new()),
        cli::copy::MultiArch::All => (MultiArch::All, Vec::new()),
        cli::copy::MultiArch::Platforms(platforms) => (MultiArch::Platforms, platforms.clone()),
        cli::copy::MultiArch::IndexOnly => (MultiArch::IndexOnly, Vec::new()),
    }
}

/// Returns the compression that was asked for. As in skopeo, --dest-compress means `dir:` destinations only.
fn compress(arguments: &cli::copy::Copy, to: &ImageReference) -> Option<(LayerCompression, Option<i32>)> {
    let level = arguments.dest_compress_level;
    let asked = arguments.dest_compress && matches!(to, ImageReference::Dir(_)) || level.is_some();
    let format = arguments.dest_compress_format.or(asked.then_some(LayerCompression::GZIP))?;
    Some((format, level))
}

fn warn_of_what_has_no_effect(arguments: &cli::copy::Copy, to: &ImageReference, monitor: &dyn Monitor) {
    let only = |given: bool, flag: &str, transport: &str| {
        if given && to.transport() != transport {
            let text = format!("{flag} has no effect: it is for {transport}: destinations");
            monitor.event(Event::Warning { text: &text });
        }
    };
    only(arguments.dest_compress, "--dest-compress", "dir");
    only(arguments.dest_decompress, "--dest-decompress", "dir");
    only(!arguments.additional_tag.is_empty(), "--additional-tag", "docker-archive");
}

/// Writes the bare digest; scripts compare the file's whole content, so that no newline follows.
fn write_digest(path: &Path, digest: &Digest) -> Result<()> {
    // Not atomic: the user may have named a pipe or `/dev/stdout`.
    std::fs::write(path, digest.to_string()).context(|| format!("writing digest file `{}`", display(path)))
}
