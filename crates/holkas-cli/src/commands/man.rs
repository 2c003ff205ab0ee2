//! `holkas man [DIR]`

use holkas::error::{Context, Error, Result};
use holkas::fs::{Dir, display};

use crate::{cli, output};

/// Writes `holkas.1` and a page for each command into the directory, or prints `holkas.1`.
pub(crate) fn run(arguments: &cli::Man) -> Result<()> {
    let mut tree = cli::tree();
    tree.build();
    let Some(path) = &arguments.dir else {
        return output::write(&page(tree)?);
    };
    let dir = Dir::open(path).context(|| format!("writing man pages into `{}`", display(path)))?;
    for command in tree.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        let name = format!("holkas-{}", command.get_name());
        // The page's file, its title and its cross-reference all come from this name.
        let command = command.clone().display_name(name.clone());
        dir.write(format!("{name}.1"), &page(command)?, 0o644)?;
    }
    dir.write("holkas.1", &page(tree)?, 0o644)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(Error::from)?;
    Ok(page)
}
