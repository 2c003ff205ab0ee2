//! Media types: the text as it was written, and what it means.

use std::fmt;

/// How a layer's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952), many members allowed.
    Gzip,
    /// Zstandard (RFC 8878), many frames allowed.
    Zstd,
    /// xz; only in archives that people bring.
    Xz,
    /// bzip2; only in archives that people bring.
    Bzip2,
}

/// Whose rules a document follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The OCI image specification.
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

/// What a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The manifest of one image.
    Manifest(Format),
    /// An index, or manifest list.
    Index(Format),
    /// Docker's schema 1, signed or not.
    Schema1,
    /// The config of a runnable image.
    Config(Format),
    /// A file system layer.
    Layer(Format, Compression),
    /// A file system layer that its publisher keeps elsewhere.
    ForeignLayer(Format, Compression),
    /// Anything else: artifacts, encrypted layers, types yet to come.
    Other,
}

/// A media type, exactly as it was written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $meaning:expr;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        impl MediaType {
            /// Returns what the type stands for. Parameters after `;` are not part of it.
            pub fn meaning(&self) -> Meaning {
                match self.essence() {
                    $($name => $meaning,)*
                    _ => Meaning::Other,
                }
            }
        }
    };
}

types! {
    /// OCI image manifest.
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json" => Meaning::Manifest(Format::Oci);
    /// OCI image index.
    OCI_INDEX = "application/vnd.oci.image.index.v1+json" => Meaning::Index(Format::Oci);
    /// OCI image config.
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json" => Meaning::Config(Format::Oci);
    /// OCI layer, plain tar.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar" => Meaning::Layer(Format::Oci, Compression::None);
    /// OCI layer, gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip" => Meaning::Layer(Format::Oci, Compression::Gzip);
    /// OCI layer, zstd.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd" => Meaning::Layer(Format::Oci, Compression::Zstd);
    /// OCI foreign layer, plain tar.
    OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
        => Meaning::ForeignLayer(Format::Oci, Compression::None);
    /// OCI foreign layer, gzip.
    OCI_FOREIGN_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        => Meaning::ForeignLayer(Format::Oci, Compression::Gzip);
    /// OCI foreign layer, zstd.
    OCI_FOREIGN_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        => Meaning::ForeignLayer(Format::Oci, Compression::Zstd);
    /// Docker schema 2 manifest.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json" => Meaning::Manifest(Format::Docker);
    /// Docker manifest list.
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json" => Meaning::Index(Format::Docker);
    /// Docker image config.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json" => Meaning::Config(Format::Docker);
    /// Docker layer, plain tar.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar" => Meaning::Layer(Format::Docker, Compression::None);
    /// Docker layer, gzip.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        => Meaning::Layer(Format::Docker, Compression::Gzip);
    /// Docker layer, zstd; not in any specification, but written by some builders.
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
        => Meaning::Layer(Format::Docker, Compression::Zstd);
    /// Docker foreign layer, plain tar.
    DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
        => Meaning::ForeignLayer(Format::Docker, Compression::None);
    /// Docker foreign layer, gzip.
    DOCKER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        => Meaning::ForeignLayer(Format::Docker, Compression::Gzip);
    /// Docker schema 1, unsigned.
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json" => Meaning::Schema1;
    /// Docker schema 1, signed.
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws" => Meaning::Schema1;
}

impl MediaType {
    /// Takes a media type as it was written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the type without parameters and the white space around it.
    pub fn essence(&self) -> &str {
        self.0.split(';').next().unwrap_or_default().trim()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::printable(self.0.as_bytes()))
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
