//! `skopeo inspect`, `delete`, `list-tags` and `manifest-digest`: commands with one image.

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::oci::Algorithm;

use super::log::{Level, log, quoted};
use super::words::is_of_platform;
use super::{Call, Failure, reference, usage};
use crate::cli;
use crate::commands;

const TAGS: &str = "Error determining repository tags";

/// Shows what an image is.
pub(crate) fn inspect(call: &Call<'_>) -> Result<(), Failure> {
    let image = call.only("Exactly one argument expected")?;
    let given = call.given;
    let format = given.filled("format").map(|format| format.to_string_lossy().into_owned());
    if given.on("raw") && format.is_some() {
        return Err(usage("raw output does not support format option"));
    }
    let frame = || format!("Error parsing image name {}", quoted(&image.to_string_lossy()));
    reference(image).context(frame)?;
    let arguments = cli::Inspect {
        image: image.clone(),
        raw: given.on("raw"),
        config: given.on("config"),
        format,
        no_tags: given.on("no-tags"),
        platform: None,
        shared_blob_dir: given.filled("shared-blob-dir").map(Into::into),
        registry: call.registry("", "creds")?.into(),
        network: call.network(),
    };
    // A registry may not show the tags to everyone, or have no list of them; everything else is a failure.
    let without_tags = |error: Error| match error.kind() {
        ErrorKind::Forbidden | ErrorKind::NotFound => {
            log(Level::Warning, "Registry disallows tag list retrieval; skipping");
            Ok(())
        }
        _ => Err(error.context(TAGS)),
    };
    let shown = commands::inspect::perform(&arguments, &without_tags, call.setting, &call.monitor());
    Ok(shown.map_err(|error| {
        if error.chain().next() == Some(TAGS) {
            error
        } else if is_of_platform(&error) {
            error.context("Error parsing manifest for image")
        } else {
            error.context(frame())
        }
    })?)
}

/// Deletes an image.
pub(crate) fn delete(call: &Call<'_>) -> Result<(), Failure> {
    let image = call.only("Usage: delete imageReference")?;
    reference(image).context(|| format!("Invalid source name {}", image.to_string_lossy()))?;
    let arguments = cli::Delete {
        image: image.clone(),
        shared_blob_dir: call.given.filled("shared-blob-dir").map(Into::into),
        registry: call.registry("", "creds")?.into(),
        network: call.network(),
    };
    Ok(commands::delete::perform(&arguments, call.setting, &call.monitor())?)
}

/// Lists the tags of a repository or of an archive.
pub(crate) fn list_tags(call: &Call<'_>) -> Result<(), Failure> {
    let [repository] = call.exactly("Exactly one non-option argument expected")?;
    let text = repository.to_string_lossy();
    match text.split(':').next().unwrap_or_default() {
        "docker" | "docker-archive" => {}
        _ if reference(repository).is_err() => {
            return Err(usage(format!("Invalid {}: does not specify a transport", quoted(&text))));
        }
        other => {
            let only = "Only supported: docker, docker-archive";
            return Err(usage(format!("Unsupported transport '{other}' for tag listing. {only}")));
        }
    }
    let arguments = cli::ListTags {
        repository: repository.clone(),
        registry: call.registry("", "creds")?.into(),
        network: call.network(),
    };
    Ok(commands::list_tags::perform(&arguments, call.setting, &call.monitor())?)
}

/// Prints the digest of a manifest in a file.
pub(crate) fn manifest_digest(call: &Call<'_>) -> Result<(), Failure> {
    let file = call.only("Usage: skopeo manifest-digest manifest")?;
    let arguments = cli::ManifestDigest { file: file.into(), algorithm: Algorithm::Sha256 };
    let printed = commands::manifest_digest::run(&arguments);
    Ok(printed.context(|| format!("Error reading manifest from {}", file.to_string_lossy()))?)
}
