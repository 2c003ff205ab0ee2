//! `skopeo sync`: one image after the other, as skopeo does it.

use std::num::NonZeroUsize;

use holkas::copy::CopyOptions;
use holkas::reference::Name;

use super::log::{Level, log, log_with, quoted};
use super::{Call, Failure, copy, usage};
use crate::cli::copy::{MultiArch, Signing};
use crate::cli::sync::{DestinationKind, SourceKind, SyncImages};
use crate::cli::{Progress, Reporting};
use crate::commands::sync::{Existing, Manner, Unlisted, perform};

/// Syncs the images.
pub(crate) fn run(call: &Call<'_>) -> Result<(), Failure> {
    let [source, destination] = call.exactly("Exactly two arguments expected")?;
    call.warn_of_tls_verify();
    let given = call.given;
    let policy = call.policy()?;
    let text = |name: &str| given.filled(name).map(|value| value.to_string_lossy().into_owned());
    let src = match text("src").as_deref() {
        None => return Err(usage("A source transport must be specified")),
        Some("docker") => SourceKind::Docker,
        Some("dir") => SourceKind::Dir,
        Some("yaml") => SourceKind::Yaml,
        Some(other) => return Err(usage(format!("{} is not a valid source transport", quoted(other)))),
    };
    let dest = match text("dest").as_deref() {
        None => return Err(usage("A destination transport must be specified")),
        Some("docker") => DestinationKind::Docker,
        Some("dir") => DestinationKind::Dir,
        Some(other) => return Err(usage(format!("{} is not a valid destination transport", quoted(other)))),
    };
    let dry_run = given.on("dry-run");
    let arguments = SyncImages {
        source: source.clone(),
        destination: destination.clone(),
        src,
        dest,
        scoped: given.on("scoped"),
        append_suffix: text("append-suffix").unwrap_or_default(),
        all: given.on("all"),
        multi_arch: MultiArch::System,
        dry_run,
        keep_going: given.on("keep-going"),
        digestfile: given.filled("digestfile").map(Into::into),
        format: None,
        preserve_digests: false,
        allow_changes: false,
        remove_signatures: false,
        signing: Signing::default(),
        jobs: NonZeroUsize::MIN,
        reporting: Reporting { json: false, progress: Progress::None },
        authfile: None,
        source_registry: call.registry("src-", "screds")?.into(),
        destination_registry: call.registry("dest-", "dcreds")?.into(),
        network: call.network(),
    };
    let copied = copy::options(call, None)?;
    let manner = Manner {
        policy,
        copy: CopyOptions {
            compress_plain: copied.compress_plain.filter(|_| dest == DestinationKind::Docker),
            ..copied
        },
        existing: Existing::Refused,
        unlisted: Unlisted::LeftOut,
    };
    if src == SourceKind::Docker {
        tell_of_tag(&source.to_string_lossy());
    }
    if dry_run {
        log(Level::Warning, "Running in dry-run mode");
    }
    let unchangeable = given.on("preserve-digests").then_some("Instructed to preserve digests");
    let synced = perform(&arguments, &manner, call.setting, &call.monitor());
    synced.map_err(|error| Failure { unchangeable, ..error.into() })
}

/// Tells whether the source is one image, or a repository whose tags are listed.
fn tell_of_tag(source: &str) {
    let Ok(name) = Name::parse_normalised(source) else { return };
    let tagged = name.tag().is_some() || name.digest().is_some();
    let fields = [("imagename", source), ("tagged", if tagged { "true" } else { "false" })];
    log_with(Level::Info, "Tag presence check", &fields);
    if !tagged {
        log_with(Level::Info, "Getting tags", &[("image", name.repository())]);
    }
}
