//! What was typed for the image proxy: by our name for it, and by skopeo's.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};

use super::{Global, registry};

/// `proxy`
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// The inherited socket to serve on, of the kind SOCK_SEQPACKET; 0 is standard input
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) sockfd: u16,
    /// Read the blobs of oci: images from this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_blob_dir: Option<PathBuf>,
    /// Refuse every image for which the policy demands no signature
    #[arg(long, conflicts_with = "insecure_policy")]
    pub(crate) require_signed: bool,
    /// Accepted for the sake of skopeo's clients: layers come as they are, encrypted or not
    #[arg(long, value_name = "KEY", hide = true)]
    decryption_key: Vec<OsString>,
    /// Accepted for skopeo's sake: there is no docker-daemon: here
    #[arg(long, value_name = "HOST", hide = true)]
    daemon_host: Option<OsString>,
    /// Accepted for skopeo's sake: signatures of lookaside servers are not read
    #[arg(long = "registries.d", value_name = "DIR", hide = true)]
    registries_d: Option<PathBuf>,
    /// Accepted for skopeo's sake: TLS 1.2 and 1.3 are spoken, with the ciphers that are safe in them
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) tls_details: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}

/// `experimental-image-proxy`, with skopeo's global flags beside its own.
#[derive(Debug, Parser)]
#[command(
    name = "experimental-image-proxy",
    args_override_self = true,
    version,
    disable_version_flag = true,
    about = "Serve manifests and blobs of images to the program at the other end of a socket"
)]
pub(crate) struct ExperimentalImageProxy {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) proxy: Proxy,
}
