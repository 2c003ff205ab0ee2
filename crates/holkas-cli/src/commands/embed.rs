//! `holkas embed IMAGES.toml --root DIR`

use holkas::Result;
use holkas::copy::CopyOptions;
use holkas::embed::{EmbedOptions, Embedded, embed, file};
use holkas::fs::Reach;
use holkas::open::{Rooms, open_source};
use serde_json::json;

use super::{Setting, registries};
use crate::cli::registry::Registry;
use crate::table::table;
use crate::{cli, environment, output, progress};

/// Embeds all images, and prints what became of each.
pub(crate) fn run(arguments: &cli::Embed, setting: &Setting<'_>) -> Result<()> {
    let listed = file::read(&arguments.images)?;
    environment::may_write_system_stores()?;
    let policy = setting.policy()?;
    let monitor = progress::monitor(arguments.reporting.progress);
    let sources = listed.images.iter().map(|image| &image.source);
    let typed = Registry::from(&arguments.registry);
    let registries = registries::client_for(sources, &typed, &arguments.network, setting, &monitor)?;
    let rooms = Rooms { registries, ..setting.rooms(None)? };
    let options = EmbedOptions {
        driver: listed.driver,
        clock: rooms.clock,
        reach: Reach::Disk,
        policy: &policy,
        open: &|reference| open_source(reference, &rooms),
        copy: CopyOptions {
            platform: rooms.platform.clone(),
            jobs: registries::jobs(arguments.jobs, listed.images.iter().map(|image| &image.source), true),
            cancel: setting.cancel.clone(),
            ..CopyOptions::default()
        },
    };
    let embedded = embed(&listed.images, &arguments.root, &listed.store, &options, &*monitor)?;
    match arguments.reporting.json {
        true => output::json(&json!({ "images": embedded.iter().map(json_of).collect::<Vec<_>>() })),
        false => output::write(text_of(&embedded).as_bytes()),
    }
}

fn state(image: &Embedded) -> &'static str {
    if image.new { "new" } else { "present" }
}

fn json_of(image: &Embedded) -> serde_json::Value {
    json!({
        "names": image.names,
        "platform": image.platform,
        "image_id": image.image_id.to_string(),
        "manifest_digest": image.manifest_digest,
        "list_digest": image.list_digest,
        "layers": image.layers,
        "bytes": image.bytes,
        "state": state(image),
    })
}

fn text_of(embedded: &[Embedded]) -> String {
    const HEADINGS: [&str; 8] =
        ["NAME", "PLATFORM", "IMAGE-ID", "MANIFEST-DIGEST", "LIST-DIGEST", "LAYERS", "BYTES", "STATE"];
    let mut rows = Vec::new();
    for image in embedded {
        let (first, more) = match image.names.split_first() {
            Some((first, more)) => (first.clone(), more),
            None => ("-".to_string(), &[][..]),
        };
        let list = image.list_digest.map_or_else(|| "-".to_string(), |digest| digest.to_string());
        rows.push([
            first,
            image.platform.clone(),
            image.image_id.0.hex()[..12].to_string(),
            image.manifest_digest.to_string(),
            list,
            image.layers.to_string(),
            image.bytes.to_string(),
            state(image).to_string(),
        ]);
        // An image's other names stand below it, each on a line, so that every line begins with a name.
        rows.extend(more.iter().map(|name| {
            let mut row = <[String; 8]>::default();
            row[0].clone_from(name);
            row
        }));
    }
    table(HEADINGS, &rows)
}
