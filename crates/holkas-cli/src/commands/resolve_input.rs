//! `holkas resolve-input INPUT.json`

use holkas::containers::{ContainersInput, ResolvedImage};
use holkas::error::{Context, Result};
use holkas::fs::display;
use holkas::limits::CONFIGURATION;
use holkas::oci::json::parse;
use holkas::open::open_source;
use serde_json::{Map, Value, json};

use super::Setting;
use crate::{cli, output};

/// Prints each image of the input with the lists that name it, under its key.
pub(crate) fn run(arguments: &cli::ResolveInput, setting: &Setting<'_>) -> Result<()> {
    let bytes = super::read_document(&arguments.input, CONFIGURATION)?;
    let frame = || format!("reading `{}`", display(&arguments.input));
    let input = parse(&bytes).and_then(|value| ContainersInput::from_json(&value)).context(frame)?;
    let rooms = setting.rooms(None)?;
    let resolved = input.resolve(|reference| open_source(reference, &rooms))?;
    let mut images = Map::new();
    for image in &resolved {
        images.insert(image.key.clone(), json_of(image)?);
    }
    output::json(&images)
}

fn json_of(image: &ResolvedImage) -> Result<Value> {
    Ok(json!({
        "path": display(&image.path),
        "reference": image.reference()?.to_string(),
        "name": image.name,
        "manifest_lists": image.lists.iter().map(|path| display(path)).collect::<Vec<_>>(),
        "data": image.data,
    }))
}
