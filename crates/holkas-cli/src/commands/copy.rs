//! `holkas copy SOURCE DESTINATION`

use std::path::Path;

use holkas::copy::{CopyOptions, MultiArch, copy};
use holkas::error::{Context, Result};
use holkas::fs::display;
use holkas::oci::{Compression, Digest, Platform};
use holkas::open::{Rooms, open_destination, open_source};
use holkas::progress::{Event, Monitor};
use holkas::reference::{ImageReference, Name};
use serde_json::json;

use super::{Setting, registries};
use crate::cli::Progress;
use crate::cli::registry::Registry;
use crate::{cli, environment, output, progress};

/// Copies the image.
pub(crate) fn run(arguments: &cli::Copy, setting: &Setting<'_>) -> Result<()> {
    let from = ImageReference::parse(&arguments.source)?;
    let to = ImageReference::parse(&arguments.destination)?;
    let additional_tags = arguments
        .additional_tag
        .iter()
        .map(|text| Name::parse_normalised(text).map(Name::with_default_tag))
        .collect::<Result<Vec<_>>>()
        .context(|| "reading --additional-tag")?;
    let policy = setting.policy()?;
    if matches!(to, ImageReference::Storage(_)) {
        environment::may_write_stores()?;
    }
    let wanted = if arguments.quiet { Progress::None } else { arguments.reporting.progress };
    let monitor = progress::monitor(wanted);
    warn_of_what_has_no_effect(arguments, &to, &*monitor);
    let rooms = setting.rooms(arguments.platform.first())?;
    let (multi_arch, platforms) = multi_arch(arguments);
    let options = CopyOptions {
        platform: rooms.platform.clone(),
        multi_arch,
        platforms,
        strip_removed_platforms: arguments.strip_removed_platforms,
        format: arguments.format,
        preserve_digests: arguments.preserve_digests,
        remove_signatures: arguments.remove_signatures,
        referrers: arguments.referrers,
        compress: compress(arguments, &to),
        decompress: arguments.dest_decompress && matches!(to, ImageReference::Dir(_)),
        allow_changes: arguments.allow_changes,
        jobs: registries::jobs(arguments.jobs, [&from], matches!(to, ImageReference::Storage(_))),
        cancel: setting.cancel.clone(),
        ..CopyOptions::default()
    };
    let client = |reference: &ImageReference, mut typed: Registry| {
        typed.authfile = typed.authfile.or_else(|| arguments.authfile.clone());
        registries::client_for([reference], &typed, &arguments.network, setting, &monitor)
    };
    let source = Rooms {
        shared_blob_dir: arguments.src_shared_blob_dir.clone(),
        registries: client(&from, (&arguments.source_registry).into())?,
        ..rooms.clone()
    };
    let destination = Rooms {
        shared_blob_dir: arguments.dest_shared_blob_dir.clone(),
        registries: client(&to, (&arguments.destination_registry).into())?,
        additional_tags,
        ..rooms
    };
    let source = open_source(&from, &source)?;
    let destination = open_destination(&to, &destination)?;
    let copied = copy(&*source, destination, &policy, &options, &*monitor)?;
    if let Some(path) = &arguments.digestfile {
        write_digest(path, &copied.manifest_digest)?;
    }
    if !arguments.reporting.json {
        return Ok(());
    }
    output::json(&json!({
        "source": from.to_string(),
        "destination": to.to_string(),
        "manifest_digest": copied.manifest_digest,
        "image_id": copied.image_id.map(|id| id.to_string()),
        "layers": copied.layers,
        "bytes": copied.bytes,
        "referrers": copied.referrers,
    }))
}

/// Returns what is wanted of a list, and the platforms if it is several.
fn multi_arch(arguments: &cli::Copy) -> (MultiArch, Vec<Platform>) {
    match &arguments.multi_arch {
        _ if arguments.all => (MultiArch::All, Vec::new()),
        cli::MultiArch::System if arguments.platform.len() > 1 => (MultiArch::Platforms, arguments.platform.clone()),
        cli::MultiArch::System => (MultiArch::System, Vec::new()),
        cli::MultiArch::All => (MultiArch::All, Vec::new()),
        cli::MultiArch::Platforms(platforms) => (MultiArch::Platforms, platforms.clone()),
        cli::MultiArch::IndexOnly => (MultiArch::IndexOnly, Vec::new()),
    }
}

/// Returns the compression that was asked for. As in skopeo, --dest-compress means `dir:` destinations only.
fn compress(arguments: &cli::Copy, to: &ImageReference) -> Option<(Compression, Option<i32>)> {
    let level = arguments.dest_compress_level;
    let asked = arguments.dest_compress && matches!(to, ImageReference::Dir(_)) || level.is_some();
    let format = arguments.dest_compress_format.or(asked.then_some(Compression::Gzip))?;
    Some((format, level))
}

fn warn_of_what_has_no_effect(arguments: &cli::Copy, to: &ImageReference, monitor: &dyn Monitor) {
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
