//! `holkas copy`, and what `sync` says in the same words.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use holkas::oci::{Compression, Format, Platform};

use super::{Reporting, registry};

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
    pub(super) fn parse(text: &str) -> Result<Self, String> {
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

pub(super) fn format(text: &str) -> Result<ManifestFormat, String> {
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
