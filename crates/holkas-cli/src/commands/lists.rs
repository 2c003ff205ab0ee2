//! `holkas lists FILE...`

use holkas::Result;
use holkas::containers::instances;
use holkas::fs::display;
use serde_json::{Map, Value, json};

use crate::{cli, output};

/// Prints, for each image that any of the lists names, all the ways that lead to it.
pub(crate) fn run(arguments: &cli::Lists) -> Result<()> {
    let mut images = Map::new();
    for (digest, ways) in instances(&arguments.files)? {
        let ways: Vec<Value> = ways
            .iter()
            .map(|way| {
                let lists: Vec<_> = way.lists.iter().map(|path| display(path)).collect();
                json!({ "lists": lists, "platform": way.entry.platform.as_ref().map(ToString::to_string) })
            })
            .collect();
        images.insert(digest.to_string(), ways.into());
    }
    output::json(&images)
}
