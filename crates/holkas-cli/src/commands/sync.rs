//! `holkas sync --src KIND --dest KIND SOURCE DESTINATION`

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holkas::copy::{CopyOptions, MultiArch};
use holkas::error::{Context, Error, Result};
use holkas::fs::display;
use holkas::oci::{Digest, Platform};
use holkas::open::{Rooms, open_destination, open_source};
use holkas::policy::Policy;
use holkas::progress::Monitor;
use holkas::reference::{ImageReference, Name};
use holkas::registry::tags::tags;
use holkas::registry::{Client, auth::Secret};
use holkas::sync::plan::{Destination, Naming, OnError, Plan, Source, plan};
use holkas::sync::{Report, Run, State, SyncOptions, Synced, sync, yaml};
use serde_json::{Value, json};

use super::{Setting, registries};
use crate::cli::registry::Registry;
use crate::cli::sync::{DestinationKind, SourceKind, SyncImages};
use crate::{cli, output, progress};

/// How images are synced: what is not typed, or typed in another way in skopeo's place.
pub(crate) struct Manner {
    pub(crate) policy: Policy,
    /// How each image is copied, but for what the arguments say of lists, and what stops it.
    pub(crate) copy: CopyOptions,
    /// What becomes of an image directory that is where an image shall be.
    pub(crate) existing: Existing,
    /// What becomes of a run that has a repository which cannot be listed.
    pub(crate) unlisted: Unlisted,
}

/// What becomes of an image directory that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is left as it is if it has the image, and else replaced.
    Kept,
    /// It is an error.
    Refused,
}

/// What becomes of a run that has a repository which cannot be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unlisted {
    /// It fails.
    Fails,
    /// The repository is told of and left out.
    LeftOut,
}

/// Syncs the images.
pub(crate) fn run(arguments: &SyncImages, setting: &Setting<'_>) -> Result<()> {
    let manner = Manner {
        policy: setting.policy()?,
        copy: CopyOptions {
            format: arguments.format.map(Into::into),
            schema1: arguments.format == Some(cli::copy::ManifestFormat::Schema1),
            preserve_digests: arguments.preserve_digests,
            remove_signatures: arguments.remove_signatures,
            signing: arguments.signing.typed().signing(setting.cancel)?,
            allow_changes: arguments.allow_changes,
            ..CopyOptions::default()
        },
        existing: Existing::Kept,
        unlisted: Unlisted::Fails,
    };
    perform(arguments, &manner, setting, &progress::monitor(arguments.reporting.progress))
}

/// Syncs the images in such a manner, and writes the files and the results that were asked for.
pub(crate) fn perform(
    arguments: &SyncImages,
    manner: &Manner,
    setting: &Setting<'_>,
    monitor: &Arc<dyn Monitor>,
) -> Result<()> {
    let from = source(arguments)?;
    let to = destination(arguments)?;
    let on_error = if arguments.keep_going { OnError::KeepGoing } else { OnError::Stop };
    let rooms = setting.rooms(None)?;
    let sources: Vec<Rooms> = source_clients(arguments, &from, setting, monitor)?
        .into_iter()
        .map(|client| Rooms { registries: Some(client), ..rooms.clone() })
        .collect();
    let destination = match &to {
        Destination::Docker(_) => Some(client((&arguments.destination_registry).into(), arguments, setting, monitor)?),
        Destination::Dir(_) => None,
    };
    let siblings = Some(Arc::default());
    let destination = Rooms { registries: destination, siblings, ..rooms.clone() };
    let listing = |registry: usize, name: &Name| {
        let client = sources.get(registry).and_then(|rooms| rooms.registries.as_ref());
        tags(client.ok_or_else(|| Error::unsupported("nothing is known of registries here"))?, name)
    };
    let naming = Naming { scoped: arguments.scoped, suffix: arguments.append_suffix.clone() };
    let mut plan = match manner.unlisted {
        Unlisted::Fails => plan(&from, &to, &naming, &listing, on_error)?,
        Unlisted::LeftOut => plan(&from, &to, &naming, &listing, OnError::KeepGoing)?,
    };
    if manner.unlisted == Unlisted::LeftOut {
        let told = plan.unlisted.drain(..).map(|(source, error)| format!("{source} is left out: {error}"));
        plan.warnings.extend(told);
    }
    let (multi_arch, platforms) = multi_arch(arguments);
    let options = SyncOptions {
        policy: &manner.policy,
        open_source: &|image| {
            if manner.existing == Existing::Refused {
                refuse_existing(&image.destination)?;
            }
            open_source(&image.source, sources.get(image.registry).unwrap_or(&rooms))
        },
        open_destination: &|reference| open_destination(reference, &destination),
        copy: CopyOptions {
            platform: rooms.platform.clone(),
            multi_arch,
            platforms,
            cancel: setting.cancel.clone(),
            scratch: Some(rooms.scratch.clone()),
            ..manner.copy.clone()
        },
        images: arguments.jobs.get(),
        on_error,
        run: if arguments.dry_run { Run::Dry } else { Run::Real },
    };
    let report = sync(&plan, &options, &**monitor);
    if let Some(path) = arguments.digestfile.as_deref().filter(|_| !arguments.dry_run) {
        write_digests(path, &report)?;
    }
    if arguments.reporting.json {
        output::json(&result(&plan, &report))?;
    }
    report.error.map_or(Ok(()), Err)
}

/// Refuses a directory that is there, in skopeo's words.
fn refuse_existing(destination: &ImageReference) -> Result<()> {
    match destination {
        ImageReference::Dir(path) if path.exists() => {
            Err(Error::refused(format!("Refusing to overwrite destination directory \"{}\"", display(path))))
        }
        _ => Ok(()),
    }
}

fn utf8<'a>(text: &'a OsStr, what: &str) -> Result<&'a str> {
    text.to_str().ok_or_else(|| Error::invalid("it is not UTF-8").context(format!("reading the {what}")))
}

fn source(arguments: &SyncImages) -> Result<Source> {
    Ok(match arguments.src {
        SourceKind::Docker => {
            let text = utf8(&arguments.source, "source")?;
            let name = Name::parse_normalised(text).context(|| "reading the source").map_err(|error| {
                error.hint("a source of the kind docker is REGISTRY/REPOSITORY[:TAG|@DIGEST], without docker://")
            });
            Source::Docker(name?)
        }
        SourceKind::Dir => Source::Dir(PathBuf::from(&arguments.source)),
        SourceKind::Yaml => Source::Yaml(yaml::read(Path::new(&arguments.source))?),
    })
}

fn destination(arguments: &SyncImages) -> Result<Destination> {
    Ok(match arguments.dest {
        DestinationKind::Docker => Destination::Docker(utf8(&arguments.destination, "destination")?.to_string()),
        DestinationKind::Dir => Destination::Dir(PathBuf::from(&arguments.destination)),
    })
}

fn client(
    mut typed: Registry,
    arguments: &SyncImages,
    setting: &Setting<'_>,
    monitor: &Arc<dyn Monitor>,
) -> Result<Client> {
    typed.authfile = typed.authfile.or_else(|| arguments.authfile.clone());
    registries::client(&typed, &arguments.network, setting, monitor)
}

/// Returns how the registries of the source are spoken to: each of a YAML file for itself.
fn source_clients(
    arguments: &SyncImages,
    source: &Source,
    setting: &Setting<'_>,
    monitor: &Arc<dyn Monitor>,
) -> Result<Vec<Client>> {
    let typed = Registry::from(&arguments.source_registry);
    match source {
        Source::Dir(_) => Ok(Vec::new()),
        Source::Docker(_) => Ok(vec![client(typed, arguments, setting, monitor)?]),
        Source::Yaml(registries) => {
            let one = |registry| client(as_the_file_says(typed.clone(), registry), arguments, setting, monitor);
            registries.iter().map(one).collect()
        }
    }
}

/// What the file says of a registry goes before what was typed for all of them.
fn as_the_file_says(mut typed: Registry, registry: &yaml::Registry) -> Registry {
    if let Some(yaml::Credentials { username, password }) = &registry.credentials {
        let password = Some(Secret::expose(password).to_string());
        let authfile = typed.authfile.take();
        let Registry { cert_dir, tls_verify, .. } = typed;
        typed = Registry {
            authfile,
            username: Some(username.clone()),
            password,
            cert_dir,
            tls_verify,
            ..Registry::default()
        };
    }
    typed.tls_verify = registry.tls_verify.or(typed.tls_verify);
    typed.cert_dir = registry.cert_dir.clone().or(typed.cert_dir);
    typed
}

/// Returns what is wanted of lists, and the platforms if it is some.
fn multi_arch(arguments: &SyncImages) -> (MultiArch, Vec<Platform>) {
    match &arguments.multi_arch {
        _ if arguments.all => (MultiArch::All, Vec::new()),
        cli::copy::MultiArch::System => (MultiArch::System, Vec::new()),
        cli::copy::MultiArch::All => (MultiArch::All, Vec::new()),
        cli::copy::MultiArch::Platforms(platforms) => (MultiArch::Platforms, platforms.clone()),
        cli::copy::MultiArch::IndexOnly => (MultiArch::IndexOnly, Vec::new()),
    }
}

fn digest(synced: &Synced) -> Option<&Digest> {
    match &synced.state {
        State::Copied(digest) | State::Present(digest) => Some(digest),
        State::WouldCopy | State::Failed(_) => None,
    }
}

/// Writes a line for each image that is at its destination.
fn write_digests(path: &Path, report: &Report) -> Result<()> {
    let line = |synced: &Synced| digest(synced).map(|digest| format!("{digest} {}\n", synced.destination));
    let lines: String = report.images.iter().filter_map(line).collect();
    // Not atomic: the user may have named a pipe or `/dev/stdout`.
    std::fs::write(path, lines).context(|| format!("writing digest file `{}`", display(path)))
}

fn result(plan: &Plan, report: &Report) -> Value {
    let unlisted = plan.unlisted.iter().map(|(source, error)| {
        json!({
            "source": source, "destination": null, "digest": null, "state": "failed", "error": error.to_string(),
        })
    });
    let image = |synced: &Synced| {
        let (state, error) = match &synced.state {
            State::Copied(_) => ("copied", None),
            State::Present(_) => ("present", None),
            State::WouldCopy => ("would-copy", None),
            State::Failed(error) => ("failed", Some(error.to_string())),
        };
        json!({
            "source": synced.source.to_string(),
            "destination": synced.destination.to_string(),
            "digest": digest(synced),
            "state": state,
            "error": error,
        })
    };
    unlisted.chain(report.images.iter().map(image)).collect()
}
