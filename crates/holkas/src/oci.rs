//! Pure data, no I/O: digests, descriptors, manifests, indexes, configs, platforms.

pub mod config;
pub mod descriptor;
pub mod digest;
pub mod document;
pub mod index;
pub mod json;
pub mod manifest;
pub mod media_type;
pub mod oci_config;
pub mod platform;
pub mod schema1;

pub use config::ImageConfig;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, ChainId, DiffId, Digest, Hasher, ImageId};
pub use document::Document;
pub use index::Index;
pub use manifest::Manifest;
pub use media_type::{Compression, Format, Meaning, MediaType};
pub use platform::Platform;
