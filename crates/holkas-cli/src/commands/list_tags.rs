//! `holkas list-tags REPOSITORY`

use std::sync::Arc;

use holkas::docker_archive;
use holkas::error::{Context, Error, Result};
use holkas::inspect::to_json;
use holkas::progress::Monitor;
use holkas::reference::{ArchiveSelect, ImageReference, Name};
use holkas::registry::tags::tags;
use serde_json::json;

use super::{Setting, registries};
use crate::cli::Progress;
use crate::cli::registry::Registry;
use crate::{cli, output, progress};

/// Prints the tags as JSON, in skopeo's form.
pub(crate) fn run(arguments: &cli::ListTags, setting: &Setting<'_>) -> Result<()> {
    perform(arguments, setting, &progress::monitor(Progress::Plain))
}

/// The same, telling `monitor` what happens.
pub(crate) fn perform(arguments: &cli::ListTags, setting: &Setting<'_>, monitor: &Arc<dyn Monitor>) -> Result<()> {
    let reference = ImageReference::parse(&arguments.repository)?;
    let listed = match &reference {
        ImageReference::Docker(docker) => {
            refuse_more_than_a_repository(&arguments.repository)?;
            let typed = Registry::from(&arguments.registry);
            let client = registries::client(&typed, &arguments.network, setting, monitor)?;
            let tags = tags(&client, docker.name())?;
            json!({ "Repository": docker.name().repository(), "Tags": tags })
        }
        ImageReference::DockerArchive(archive) if archive.select == ArchiveSelect::Only => {
            json!({ "Tags": docker_archive::tags(&archive.path, &setting.scratch())? })
        }
        _ => {
            return Err(Error::unsupported(format!("there is no list of tags for {reference}"))
                .hint("tags are listed of docker://REPOSITORY and of docker-archive:FILE"));
        }
    };
    output::line(to_json(&listed)?)
}

/// A reference without a tag is given one when it is parsed; here none may have been typed.
fn refuse_more_than_a_repository(typed: &std::ffi::OsStr) -> Result<()> {
    let text = typed.to_string_lossy();
    let name = Name::parse_normalised(text.trim_start_matches("docker://")).context(|| "reading the repository")?;
    if name.tag().is_some() || name.digest().is_some() {
        return Err(Error::invalid("No tag or digest allowed in reference").hint("name the repository alone"));
    }
    Ok(())
}
