//! What was typed after `osbuild`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `osbuild`
#[derive(Debug, Args)]
pub(crate) struct Osbuild {
    #[command(subcommand)]
    pub(crate) command: OsbuildCommand,
}

/// What is done with osbuild's modules.
#[derive(Debug, Subcommand)]
pub(crate) enum OsbuildCommand {
    /// Take the place of osbuild's container modules
    Install(OsbuildInstall),
    /// Print the files that `install` writes, one a line, relative to the library directory
    Files,
}

/// `osbuild install`
#[derive(Debug, Args)]
pub(crate) struct OsbuildInstall {
    /// osbuild's library directory, such as /usr/lib/osbuild, below a package's root or not
    #[arg(long, value_name = "DIR")]
    pub(crate) libdir: PathBuf,
    /// What the links lead to, as it is written into them: an absolute path, or one from within the modules' folders;
    /// if not given, this program
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Also take the place of modules that are somebody else's; they are moved into the folder `holkas-replaced`
    #[arg(long)]
    pub(crate) force: bool,
}
