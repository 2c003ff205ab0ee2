//! What was typed: the commands and their flags. Where skopeo has a flag, it has skopeo's name and meaning.

pub(crate) mod cache;
pub(crate) mod copy;
pub(crate) mod login;
pub(crate) mod osbuild;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod resolve;
pub(crate) mod signature;
pub(crate) mod sync;
pub(crate) mod unpack;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use holkas::oci::{Algorithm, Platform};

use crate::report;

/// Puts container images into OS images: exact, verified, fast.
#[derive(Debug, Parser)]
#[command(name = "holkas", version, disable_version_flag = true, propagate_version = false, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that may stand before or after the command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Read the signature policy from this file, and from no other
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "insecure_policy")]
    pub(crate) policy: Option<PathBuf>,
    /// Accept every image, signed or not; no policy file is read
    #[arg(long, global = true)]
    pub(crate) insecure_policy: bool,
    /// Read registries.conf from this file, and from no other
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub(crate) registries_conf: Option<PathBuf>,
    /// Read where signatures of images in registries are from this directory (*.yaml), and from no other
    #[arg(long = "registries.d", value_name = "DIR", global = true)]
    pub(crate) registries_d: Option<PathBuf>,
    /// Choose images for this architecture (Go's name) instead of the host's
    #[arg(long, value_name = "ARCH", global = true)]
    pub(crate) override_arch: Option<String>,
    /// Choose images for this operating system instead of the host's
    #[arg(long, value_name = "OS", global = true)]
    pub(crate) override_os: Option<String>,
    /// Choose images for this variant of the architecture
    #[arg(long, value_name = "VARIANT", global = true)]
    pub(crate) override_variant: Option<String>,
    /// Call ourselves so before registries, ahead of our own name
    #[arg(long, value_name = "PREFIX", global = true)]
    pub(crate) user_agent_prefix: Option<String>,
    /// End the command with an error after so long
    #[arg(long, value_name = "DURATION", global = true, value_parser = registry::duration)]
    pub(crate) command_timeout: Option<std::time::Duration>,
    /// Where archives that are compressed are unpacked, and layers of a schema 1 image kept that comes from a registry
    /// and is converted, in files without names; nothing else is spooled
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) tmpdir: Option<PathBuf>,
    /// Accepted for skopeo's sake: an error always tells all that is known of its causes
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    pub(crate) version: Option<bool>,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one value a run")]
pub(crate) enum Command {
    /// Put a set of images into the store of an OS tree: all of them, or none
    Embed(Embed),
    /// Copy an image from one place to another
    Copy(copy::Copy),
    /// Copy many images, those that are not at the destination yet, between registries and directories
    Sync(sync::SyncImages),
    /// Write the file tree of an image into a directory, all layers as one
    Unpack(unpack::Unpack),
    /// Show what an image is
    Inspect(Inspect),
    /// Delete an image from a registry, a store or an OCI layout
    Delete(Delete),
    /// Show which hosts a name leads to, in which order, and which configuration says so
    Explain(Explain),
    /// Log in to a registry, and keep the user and the password for later commands
    Login(login::Login),
    /// Forget the user and the password for a registry
    Logout(login::Logout),
    /// Look into the blob cache, verify it, or remove something from it
    Cache(cache::Cache),
    /// List the tags of a repository, as JSON
    ListTags(ListTags),
    /// Print the digest that a manifest is known by
    ManifestDigest(ManifestDigest),
    /// Tell whether a document is a manifest list: prints `true` or `false`
    IsManifestList(IsManifestList),
    /// Print which manifest lists name which image, as JSON
    Lists(Lists),
    /// Put a manifest list and the image directory that it names into one new image directory
    MergeManifest(MergeManifest),
    /// Print what pins images, their digests and IDs: as image-builder's list, or as parts of an osbuild manifest
    Resolve(resolve::Resolve),
    /// Resolve an osbuild containers input into images with their manifest lists, as JSON
    ResolveInput(ResolveInput),
    /// Serve manifests and blobs of images to the program at the other end of a socket, as skopeo does
    #[command(visible_alias = "experimental-image-proxy")]
    Proxy(proxy::Proxy),
    /// Sign a manifest, verify a signature of one, or show what a signature says
    Signature(signature::Signature),
    /// Be osbuild's container modules: its sources, inputs and stages
    Osbuild(osbuild::Osbuild),
    /// Print the completion script for a shell
    #[command(visible_alias = "completions")]
    Completion(Completion),
    /// Write the man pages into a directory, or print the main one
    Man(Man),
}

/// What goes for every command that reports progress.
#[derive(Debug, Args)]
pub(crate) struct Reporting {
    /// Print the result, and an error, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is told on stderr
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: Progress,
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, else plain lines
    Auto,
    /// One line for each thing that happens
    Plain,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

/// `embed`
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// The file that lists the images (images.toml)
    #[arg(value_name = "IMAGES.toml")]
    pub(crate) images: PathBuf,
    /// The root of the OS tree
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// How many layers are worked on at once; if not given, one for each core, and more from a registry
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}

/// `inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The image, as transport:reference
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,
    /// Print the manifest (with --config: the config) byte for byte
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print the image's config instead
    #[arg(long)]
    pub(crate) config: bool,
    /// Print through a Go template, such as '{{.Digest}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Do not ask a registry for the tags of the repository
    #[arg(short, long)]
    pub(crate) no_tags: bool,
    /// Choose the image for this platform, OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM", conflicts_with_all = ["override_arch", "override_os", "override_variant"])]
    pub(crate) platform: Option<Platform>,
    /// Read the blobs of an oci: image from this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_blob_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The image, as docker://…, containers-storage:… or oci:PATH:REF
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,
    /// The shared blob directory of an oci: image, whose blobs are left alone
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_blob_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}

/// `list-tags`
#[derive(Debug, Args)]
pub(crate) struct ListTags {
    /// The repository, as docker://HOST/PATH, or docker-archive:FILE
    #[arg(value_name = "REPOSITORY")]
    pub(crate) repository: OsString,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The image, as [HOST[:PORT]/]PATH[:TAG|@DIGEST], with docker:// before it or not
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What the registry would be asked for
    #[arg(long = "for", value_name = "PURPOSE", default_value = "pull")]
    pub(crate) purpose: Purpose,
    /// Look for credentials in this file, and in no other
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Look for certificates in this directory, and in no other
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Print the result, and an error, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a registry is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// To read an image: mirrors are asked first
    Pull,
    /// To push or delete an image
    Push,
    /// To list tags
    List,
}

/// `manifest-digest`
#[derive(Debug, Args)]
pub(crate) struct ManifestDigest {
    /// The manifest, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The hash algorithm: sha256 or sha512
    #[arg(long, value_name = "ALGORITHM", default_value = "sha256", value_parser = algorithm)]
    pub(crate) algorithm: Algorithm,
}

/// `is-manifest-list`
#[derive(Debug, Args)]
pub(crate) struct IsManifestList {
    /// The document, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `lists`
#[derive(Debug, Args)]
pub(crate) struct Lists {
    /// Manifest lists, each in a file that is named by its digest
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `merge-manifest`
#[derive(Debug, Args)]
pub(crate) struct MergeManifest {
    /// The manifest list
    #[arg(value_name = "LIST")]
    pub(crate) list: PathBuf,
    /// The image directory (`dir:` layout) that the list names
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The directory to make
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
}

/// `resolve-input`
#[derive(Debug, Args)]
pub(crate) struct ResolveInput {
    /// The containers input, or `-` for standard input
    #[arg(value_name = "INPUT.json")]
    pub(crate) input: PathBuf,
}

/// `completion`
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory to write the pages into; it must exist
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

impl Cli {
    /// Returns whether results and errors are wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Embed(embed) => embed.reporting.json,
            Command::Copy(copy) => copy.reporting.json,
            Command::Explain(explain) => explain.json,
            Command::Cache(cache) => cache.place().json,
            Command::Sync(sync) => sync.reporting.json,
            Command::Unpack(unpack) => unpack.reporting.json,
            Command::Signature(signature) => signature.json(),
            _ => false,
        }
    }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "sha256" => Ok(Algorithm::Sha256),
        "sha512" => Ok(Algorithm::Sha512),
        _ => Err("choose sha256 or sha512".to_string()),
    }
}

/// Returns the commands and flags, for completions and man pages.
pub(crate) fn tree() -> clap::Command {
    Cli::command()
}

/// Reads the command line. Help, the version and wrong usage are answered here; then the exit code comes back.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // What cannot be printed cannot be reported either; the exit code still says it.
        let _nobody_left = error.print();
        // clap would exit with 2 for wrong usage, which here means that an image was not found.
        if error.use_stderr() { ExitCode::from(report::FAILED) } else { ExitCode::SUCCESS }
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_sound() {
        super::tree().debug_assert();
    }
}
