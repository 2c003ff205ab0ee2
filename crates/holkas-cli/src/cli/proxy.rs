//! What was typed for the image proxy.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::registry;

/// `proxy`
#[derive(Debug, Default, Args)]
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
    pub(crate) decryption_key: Vec<OsString>,
    /// Accepted for skopeo's sake: there is no docker-daemon: here
    #[arg(long, value_name = "HOST", hide = true)]
    pub(crate) daemon_host: Option<OsString>,
    /// Accepted for skopeo's sake: TLS 1.2 and 1.3 are spoken, with the ciphers that are safe in them
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) tls_details: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}
