//! `holkas inspect IMAGE`

use std::sync::Arc;

use holkas::Result;
use holkas::error::Error;
use holkas::inspect::{config, inspect, raw, raw_config, render, render_config, to_json};
use holkas::open::{Rooms, open_source};
use holkas::progress::{Event, Monitor};
use holkas::reference::{ArchiveSelect, ImageReference};
use holkas::registry::tags::tags;

use super::{Setting, registries};
use crate::cli::Progress;
use crate::cli::registry::Registry;
use crate::{cli, output, progress};

/// Prints what was asked for of the image. As in skopeo, no policy is asked: nothing is let in.
pub(crate) fn run(arguments: &cli::Inspect, setting: &Setting<'_>) -> Result<()> {
    let monitor = progress::monitor(Progress::Plain);
    // That a registry does not list the tags is no reason to show nothing.
    let without_tags = |error: Error| {
        monitor.event(Event::Warning { text: &format!("{error}; go without them by --no-tags") });
        Ok(())
    };
    perform(arguments, &without_tags, setting, &monitor)
}

/// The same, telling `monitor` what happens. `without_tags` says whether it is well that tags cannot be listed.
pub(crate) fn perform(
    arguments: &cli::Inspect,
    without_tags: &dyn Fn(Error) -> Result<()>,
    setting: &Setting<'_>,
    monitor: &Arc<dyn Monitor>,
) -> Result<()> {
    if arguments.raw && arguments.format.is_some() {
        return Err(Error::invalid("raw output does not support format option"));
    }
    let reference = ImageReference::parse(&arguments.image)?;
    let typed = Registry::from(&arguments.registry);
    let rooms = Rooms {
        shared_blob_dir: arguments.shared_blob_dir.clone(),
        registries: registries::client_for([&reference], &typed, &arguments.network, setting, monitor)?,
        ..setting.rooms(arguments.platform.as_ref())?
    };
    let source = open_source(&reference, &rooms)?;
    let platform = &rooms.platform;
    match (arguments.raw, arguments.config) {
        (true, false) => output::write(raw(&*source)?.bytes()),
        (true, true) => output::write(raw_config(&*source, platform)?.bytes()),
        (false, true) => {
            let config = config(&*source, platform)?;
            match &arguments.format {
                Some(template) => output::write(render_config(template, &config)?.as_bytes()),
                None => output::line(to_json(&config)?),
            }
        }
        (false, false) => {
            let mut inspection = inspect(&*source, platform)?;
            inspection.name = repository(&reference);
            if let (ImageReference::Docker(docker), Some(client), false) =
                (&reference, &rooms.registries, arguments.no_tags)
            {
                inspection.repo_tags = match tags(client, docker.name()) {
                    Ok(tags) => tags,
                    Err(error) => without_tags(error).map(|()| Vec::new())?,
                };
            }
            match &arguments.format {
                Some(template) => output::write(render(template, &inspection)?.as_bytes()),
                None => output::line(to_json(&inspection)?),
            }
        }
    }
}

/// Returns the repository that a reference names, where its transport knows names of registries.
fn repository(reference: &ImageReference) -> Option<String> {
    let name = match reference {
        ImageReference::Storage(storage) => storage.image.as_ref().and_then(|image| image.name.as_ref()),
        ImageReference::Docker(docker) => Some(docker.name()),
        ImageReference::DockerArchive(archive) => match &archive.select {
            ArchiveSelect::Tag(name) => Some(name),
            ArchiveSelect::Only | ArchiveSelect::Position(_) => None,
        },
        ImageReference::Dir(_) | ImageReference::Oci(_) | ImageReference::OciArchive(_) => None,
    };
    name.map(|name| name.repository().to_string())
}
