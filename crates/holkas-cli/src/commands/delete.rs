//! `holkas delete IMAGE`

use std::sync::Arc;

use holkas::error::{Context, Error, Result};
use holkas::layout;
use holkas::progress::Monitor;
use holkas::reference::ImageReference;
use holkas::registry;
use holkas::storage::delete::delete;
use holkas::storage::location::Location;

use super::{Setting, registries};
use crate::cli::Progress;
use crate::cli::registry::Registry;
use crate::{cli, environment, progress};

/// Deletes the image.
pub(crate) fn run(arguments: &cli::Delete, setting: &Setting<'_>) -> Result<()> {
    perform(arguments, setting, &progress::monitor(Progress::Plain))
}

/// The same, telling `monitor` what happens.
pub(crate) fn perform(arguments: &cli::Delete, setting: &Setting<'_>, monitor: &Arc<dyn Monitor>) -> Result<()> {
    let reference = ImageReference::parse(&arguments.image)?;
    match &reference {
        ImageReference::Storage(storage) => {
            let frame = || format!("deleting {reference}");
            let rooms = setting.rooms(None)?;
            let location = Location::resolve(&storage.store, rooms.storage_conf.as_ref()).context(frame)?;
            let image = storage.image.as_ref().ok_or_else(|| Error::invalid("it names a store, but no image in it"));
            environment::privilege()?;
            delete(&location, image.context(frame)?, &rooms.platform, environment::source_date_epoch()?).map(drop)
        }
        ImageReference::Oci(layout) => layout::delete(layout, arguments.shared_blob_dir.as_deref()),
        ImageReference::Docker(docker) => {
            let typed = Registry::from(&arguments.registry);
            let client = registries::client(&typed, &arguments.network, setting, monitor)?;
            registry::delete::delete(&client, docker).map(drop)
        }
        ImageReference::Dir(_) | ImageReference::OciArchive(_) | ImageReference::DockerArchive(_) => {
            Err(Error::unsupported(format!("images cannot be deleted from {}: rooms", reference.transport()))
                .context(format!("deleting {reference}")))
        }
    }
}
