//! What was typed: the commands and their flags. Where skopeo has a flag, it has skopeo's name and meaning.

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
use holkas::oci::{Algorithm, Compression, Format, Platform};
use holkas::registry::auth::Secret;

use crate::{quantities, report};

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
    Copy(Copy),
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
    Login(Login),
    /// Forget the user and the password for a registry
    Logout(Logout),
    /// Look into the blob cache, verify it, or remove something from it
    Cache(Cache),
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

/// `copy`
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The image, as transport:reference
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,
    /// Where to, as transport:reference
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: OsString,
    /// Copy all images of a manifest list; the same as --multi-arch=all
    #[arg(short, long, conflicts_with = "multi_arch")]
    pub(crate) all: bool,
    /// What to copy of a manifest list: system, all, index-only, or platforms, OS/ARCHITECTURE[/VARIANT] each
    #[arg(long, value_name = "WHAT", default_value = "system", value_parser = MultiArch::parse)]
    pub(crate) multi_arch: MultiArch,
    /// Choose the image for this platform, OS/ARCHITECTURE[/VARIANT]; with several, the list with just those images
    #[arg(
        long, value_name = "PLATFORM", value_delimiter = ',',
        conflicts_with_all = ["override_arch", "override_os", "override_variant"]
    )]
    pub(crate) platform: Vec<Platform>,
    /// With several platforms: make a new list without the images that are left behind, whose digest is a new one
    #[arg(long)]
    pub(crate) strip_removed_platforms: bool,
    /// The format of the manifest at the destination: oci, v2s2, or v2s1 (Docker's oldest, for one image)
    #[arg(short, long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<ManifestFormat>,
    /// Fail rather than change a digest
    #[arg(long)]
    pub(crate) preserve_digests: bool,
    /// Let the copy change manifest bytes, and so digests, where the destination cannot hold them as they are
    #[arg(long, conflicts_with = "preserve_digests")]
    pub(crate) allow_changes: bool,
    /// Leave signatures behind
    #[arg(long)]
    pub(crate) remove_signatures: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// Take along what belongs to the image: signatures, attestations and bills of materials that refer to it, or that
    /// cosign keeps under tags, and what belongs to those
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Write the digest of the manifest that was written into this file, without a newline
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// One more name for the image (docker-archive: destinations)
    #[arg(long, value_name = "NAME")]
    pub(crate) additional_tag: Vec<String>,
    /// Compress layers at the destination
    #[arg(long, conflicts_with = "dest_decompress")]
    pub(crate) dest_compress: bool,
    /// Decompress layers at the destination
    #[arg(long)]
    pub(crate) dest_decompress: bool,
    /// The compression of layers at the destination: gzip, zstd, or zstd:chunked, with tables of contents by which podman
    /// can fetch single files
    #[arg(long, value_name = "FORMAT", value_parser = compression, conflicts_with = "dest_decompress")]
    pub(crate) dest_compress_format: Option<LayerCompression>,
    /// The level of that compression
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    pub(crate) dest_compress_level: Option<i32>,
    /// Read the blobs of an oci: source from this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) src_shared_blob_dir: Option<PathBuf>,
    /// Write the blobs of an oci: destination into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dest_shared_blob_dir: Option<PathBuf>,
    /// How many layers are copied at once; if not given, one for each core, and more from a registry
    #[arg(long, alias = "image-parallel-copies", value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// Tell no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
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

/// What of copying signs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Signing {
    /// Sign what is written by this key of GnuPG (simple signing): each image, and the list
    #[arg(long, value_name = "FINGERPRINT", help_heading = "Signing options")]
    pub(crate) sign_by: Option<String>,
    /// Sign what is written with this private key, as cosign does: each image, and the list
    #[arg(long, value_name = "FILE", help_heading = "Signing options")]
    pub(crate) sign_by_sigstore_private_key: Option<PathBuf>,
    /// Sign, as cosign does, with the key that this YAML file names: `privateKeyFile`, `privateKeyPassphraseFile`
    #[arg(long, value_name = "FILE", help_heading = "Signing options")]
    pub(crate) sign_by_sigstore: Option<PathBuf>,
    /// Read the key's passphrase from this file; without it, GnuPG or the program asks for it
    #[arg(long, value_name = "FILE", help_heading = "Signing options")]
    pub(crate) sign_passphrase_file: Option<PathBuf>,
    /// Sign for this name, HOST/PATH:TAG, instead of what the destination calls the image
    #[arg(long, value_name = "NAME", help_heading = "Signing options")]
    pub(crate) sign_identity: Option<String>,
}

impl Signing {
    /// Returns it as it is meant.
    pub(crate) fn typed(&self) -> crate::signing::Typed<'_> {
        crate::signing::Typed {
            by: self.sign_by.as_deref(),
            sigstore_key: self.sign_by_sigstore_private_key.as_deref(),
            sigstore_parameters: self.sign_by_sigstore.as_deref(),
            passphrase_file: self.sign_passphrase_file.as_deref(),
            identity: self.sign_identity.as_deref(),
        }
    }
}

/// What to copy of a manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MultiArch {
    /// The image that suits the platform.
    System,
    /// The list and all its images.
    All,
    /// The list and its images for these platforms.
    Platforms(Vec<Platform>),
    /// The list alone.
    IndexOnly,
}

impl MultiArch {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "system" => Ok(Self::System),
            "all" => Ok(Self::All),
            "index-only" => Ok(Self::IndexOnly),
            text if text.contains('/') => {
                let platforms: holkas::Result<_> = text.split(',').map(str::parse).collect();
                platforms.map(Self::Platforms).map_err(|error| error.to_string())
            }
            _ => Err("choose system, all, index-only, or platforms such as linux/amd64,linux/arm64".to_string()),
        }
    }
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

/// Where `login` and `logout` keep credentials.
#[derive(Debug, Args)]
pub(crate) struct Keeping {
    /// Read and change this file, and no other; $REGISTRY_AUTH_FILE if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Read and change this file, and no other, in the way of docker's config.json
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Whether the registry must have a valid certificate; without, plain HTTP is tried too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
}

/// `login`
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The registry, HOST[:PORT], or a part of it, HOST[:PORT]/PATH
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: String,
    /// The user
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// The password; whoever lists processes can see it there, so better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", value_parser = secret)]
    pub(crate) password: Option<Secret>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password", requires = "username")]
    pub(crate) password_stdin: bool,
    /// Print the user that is logged in, and do nothing else
    #[arg(long)]
    pub(crate) get_login: bool,
    /// Take certificates from this directory: *.crt of authorities, *.cert and *.key of ours
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Print where the credentials are kept
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

/// `logout`
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The registry, HOST[:PORT], or a part of it, HOST[:PORT]/PATH
    #[arg(value_name = "REGISTRY", required_unless_present = "all")]
    pub(crate) registry: Option<String>,
    /// Forget the credentials for all registries
    #[arg(short, long, conflicts_with = "registry")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

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

/// A format of manifests, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestFormat {
    Oci,
    Schema2,
    Schema1,
}

impl From<ManifestFormat> for Format {
    fn from(format: ManifestFormat) -> Self {
        match format {
            ManifestFormat::Oci => Self::Oci,
            ManifestFormat::Schema2 | ManifestFormat::Schema1 => Self::Docker,
        }
    }
}

fn format(text: &str) -> Result<ManifestFormat, String> {
    match text {
        "oci" => Ok(ManifestFormat::Oci),
        "v2s2" => Ok(ManifestFormat::Schema2),
        "v2s1" => Ok(ManifestFormat::Schema1),
        _ => Err("choose oci, v2s2 or v2s1".to_string()),
    }
}

/// How layers shall be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerCompression {
    pub(crate) compression: Compression,
    /// With tables of contents, which zstd alone can have.
    pub(crate) chunked: bool,
}

impl LayerCompression {
    pub(crate) const GZIP: Self = Self { compression: Compression::Gzip, chunked: false };

    /// Returns the one that has this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" => Some(Self::GZIP),
            "zstd" => Some(Self { compression: Compression::Zstd, chunked: false }),
            "zstd:chunked" => Some(Self { compression: Compression::Zstd, chunked: true }),
            _ => None,
        }
    }
}

fn compression(text: &str) -> Result<LayerCompression, String> {
    LayerCompression::named(text).ok_or_else(|| match text {
        "xz" | "bzip2" => format!("{text} layers cannot be written; choose gzip, zstd or zstd:chunked"),
        _ => "choose gzip, zstd or zstd:chunked".to_string(),
    })
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
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
