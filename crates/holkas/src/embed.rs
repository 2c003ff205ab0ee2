//! A set of images, with their names and manifest lists, into one store: all of them, or none.

pub mod file;

use std::path::PathBuf;

use crate::oci::Platform;
use crate::reference::{ImageReference, Name};

/// One image to embed.
#[derive(Debug, Clone)]
pub struct EmbedImage {
    /// Where the image is.
    pub source: ImageReference,
    /// The names that it gets.
    pub names: Vec<Name>,
    /// Manifest lists that name it and are kept with it.
    pub manifest_lists: Vec<PathBuf>,
    /// The platforms wanted; empty means the default one.
    pub platforms: Vec<Platform>,
}
