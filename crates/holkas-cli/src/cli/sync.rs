//! What was typed after `sync`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::copy::{ManifestFormat, MultiArch, Signing, format};
use super::{Reporting, registry};

/// `sync`
#[derive(Debug, Args)]
pub(crate) struct SyncImages {
    /// An image or a repository, as REGISTRY/REPOSITORY[:TAG|@DIGEST]; a directory; or a YAML file: see --src
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,
    /// A registry, perhaps with the beginning of a path, or a directory: see --dest
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: OsString,
    /// What SOURCE is
    #[arg(short, long, value_name = "KIND")]
    pub(crate) src: SourceKind,
    /// What DESTINATION is
    #[arg(short, long, value_name = "KIND")]
    pub(crate) dest: DestinationKind,
    /// Name the images by their whole names, host and path included, not by the last part alone
    #[arg(long)]
    pub(crate) scoped: bool,
    /// Add this to the tags at the destination
    #[arg(long, value_name = "SUFFIX", default_value = "", hide_default_value = true)]
    pub(crate) append_suffix: String,
    /// Copy all images of manifest lists; the same as --multi-arch=all
    #[arg(short, long, conflicts_with = "multi_arch")]
    pub(crate) all: bool,
    /// What to copy of manifest lists: system, all, index-only, or platforms, OS/ARCHITECTURE[/VARIANT] each
    #[arg(long, value_name = "WHAT", default_value = "system", value_parser = MultiArch::parse)]
    pub(crate) multi_arch: MultiArch,
    /// Tell what would be copied, and copy nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on with the other images when one fails; the command fails in the end
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Write a line with digest and reference into this file for each image that is at the destination
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// The format of the manifests at the destination: oci, v2s2, or v2s1 (Docker's oldest)
    #[arg(short, long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<ManifestFormat>,
    /// Fail rather than change a digest
    #[arg(long)]
    pub(crate) preserve_digests: bool,
    /// Let the copies change manifest bytes, and so digests, where the destination cannot hold them as they are
    #[arg(long, conflicts_with = "preserve_digests")]
    pub(crate) allow_changes: bool,
    /// Leave signatures behind
    #[arg(long)]
    pub(crate) remove_signatures: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// How many images are copied at once
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) jobs: std::num::NonZeroUsize,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    /// Read credentials for both sides from this file, and from no other
    #[arg(long, value_name = "FILE", help_heading = "Registry options")]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source_registry: registry::Source,
    #[command(flatten)]
    pub(crate) destination_registry: registry::Destination,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceKind {
    /// An image of a registry, or a repository with all its tags
    Docker,
    /// All images (`dir:` layout) in and below a directory
    Dir,
    /// What a YAML file lists
    Yaml,
}

/// What a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DestinationKind {
    /// A registry
    Docker,
    /// A directory
    Dir,
}
