//! `holkas unpack IMAGE DIR`

use std::os::unix::ffi::OsStrExt;

use holkas::Result;
use holkas::error::Context;
use holkas::flatten::{FlattenOptions, unpack_image_to};
use holkas::fs::Reach;
use holkas::fs::display;
use holkas::open::{Rooms, open_source};
use holkas::reference::ImageReference;
use holkas::unpack::ExcludedPath;
use serde_json::json;

use super::{Setting, registries};
use crate::cli::registry::Registry;
use crate::cli::unpack::Unpack;
use crate::{output, progress};

/// Writes the image's file tree.
pub(crate) fn run(arguments: &Unpack, setting: &Setting<'_>) -> Result<()> {
    let reference = ImageReference::parse(&arguments.image)?;
    let exclude: Result<Vec<_>> = arguments.exclude.iter().map(|path| ExcludedPath::parse(path.as_bytes())).collect();
    let exclude = exclude.context(|| "reading --exclude")?;
    let policy = setting.policy()?;
    let monitor = progress::monitor(arguments.reporting.progress);
    let typed = Registry::from(&arguments.registry);
    let rooms = Rooms {
        shared_blob_dir: arguments.shared_blob_dir.clone(),
        registries: registries::client_for([&reference], &typed, &arguments.network, setting, &monitor)?,
        ..setting.rooms(arguments.platform.as_ref())?
    };
    let source = open_source(&reference, &rooms)?;
    let options = FlattenOptions {
        platform: rooms.platform.clone(),
        policy: &policy,
        exclude,
        clock: rooms.clock,
        reach: Reach::Disk,
        cancel: setting.cancel.clone(),
    };
    let flattened = unpack_image_to(&*source, &arguments.dir, &options, &*monitor)?;
    if !arguments.reporting.json {
        return Ok(());
    }
    output::json(&json!({
        "source": reference.to_string(),
        "directory": display(&arguments.dir),
        "platform": flattened.platform,
        "manifest_digest": flattened.manifest_digest,
        "image_id": flattened.image_id.to_string(),
        "layers": flattened.layers,
        "bytes": flattened.bytes,
    }))
}
