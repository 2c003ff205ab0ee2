//! `holkas completion SHELL`

use holkas::Result;

use crate::{cli, output};

/// Prints the completion script.
pub(crate) fn run(arguments: &cli::Completion) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::tree(), "holkas", &mut script);
    output::write(&script)
}
