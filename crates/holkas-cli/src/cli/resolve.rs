//! What was typed for `resolve`.

use clap::Args;
use holkas::oci::Platform;

use super::registry;

/// `resolve`
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// The images, as [HOST[:PORT]/]PATH[:TAG|@DIGEST], with docker:// before it or not, or as containers-storage:NAME
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Print the parts of an osbuild manifest, its sources and inputs, instead of image-builder's list
    #[arg(long)]
    pub(crate) osbuild: bool,
    /// The name that the image gets in the OS image, if there is one image only
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The platforms, OS/ARCHITECTURE[/VARIANT] each; an image without a list must be for them
    #[arg(
        long, value_name = "PLATFORM", value_delimiter = ',',
        conflicts_with_all = ["override_arch", "override_os", "override_variant"]
    )]
    pub(crate) platform: Vec<Platform>,
    /// The same by osbuild's or Go's names of architectures, such as x86_64 or arm64
    #[arg(
        long, value_name = "ARCH", value_delimiter = ',',
        conflicts_with_all = ["platform", "override_arch", "override_os", "override_variant"]
    )]
    pub(crate) arch: Vec<String>,
    #[command(flatten)]
    pub(crate) registry: registry::Image,
    #[command(flatten)]
    pub(crate) network: registry::Network,
}
