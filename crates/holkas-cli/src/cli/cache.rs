//! `holkas cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::quantities;

/// `cache`
#[derive(Debug, Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// The commands of `cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the blobs, and what interrupted runs left of blobs, what was used longest ago first
    List(CachePlace),
    /// Read all blobs and remove those that are damaged; exit with 1 if there were any
    Verify(CachePlace),
    /// Remove blobs, those first that were used longest ago
    Prune(CachePrune),
}

/// Which cache, and how to tell.
#[derive(Debug, Args)]
pub(crate) struct CachePlace {
    /// The cache, instead of `$XDG_CACHE_HOME/holkas`, `~/.cache/holkas` or, for root without HOME, `/var/cache/holkas`
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Print the result, and an error, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cache prune`
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true, args = ["older_than", "max_size", "partials", "all"])]
pub(crate) struct CachePrune {
    /// Remove blobs that were not used for so long, such as 30d or 12h
    #[arg(long, value_name = "DURATION", value_parser = quantities::duration)]
    pub(crate) older_than: Option<std::time::Duration>,
    /// Remove blobs until the rest has no more bytes than this, such as 20G or 500M
    #[arg(long, value_name = "SIZE", value_parser = quantities::size)]
    pub(crate) max_size: Option<u64>,
    /// Remove what interrupted runs left of blobs
    #[arg(long)]
    pub(crate) partials: bool,
    /// Remove everything that nobody is writing
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) place: CachePlace,
}

impl Cache {
    /// Returns which cache is meant, and how to tell.
    pub(crate) fn place(&self) -> &CachePlace {
        match &self.command {
            CacheCommand::List(place) | CacheCommand::Verify(place) => place,
            CacheCommand::Prune(prune) => &prune.place,
        }
    }
}
