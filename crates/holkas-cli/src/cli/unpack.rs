//! What was typed after `unpack`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use holkas::oci::Platform;

use super::{Reporting, registry};

/// `unpack`
#[derive(Debug, Args)]
pub(crate) struct Unpack {
    /// The image, as transport:reference
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,
    /// The directory that the image's root becomes; if it is there, it must be empty
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Leave out this path of the image, such as /usr/share/doc, and all below it; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) exclude: Vec<OsString>,
    /// Choose the image for this platform, OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM", conflicts_with_all = ["override_arch", "override_os", "override_variant"])]
    pub(crate) platform: Option<Platform>,
    /// Read the blobs of an oci: image from this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_blob_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}
