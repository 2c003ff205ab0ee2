//! What the tests of holkas stand on: images made by code, trees compared, real peers run.
//!
//! The kit shares no code with holkas, so that a mistake is not made twice and called right.
//! It panics where something is wrong: it is test code, and a panic is its error message.
//!
//! ```
//! use holkas_testkit::{image::ImageBuilder, tar::TarBuilder};
//! let dir = tempfile::tempdir().expect("temp dir");
//! let image = ImageBuilder::oci().layer(TarBuilder::new().file("motd", 0o644, "hello\n").finish()).build();
//! image.write_oci(dir.path(), Some("1.0"));
//! assert!(dir.path().join("blobs/sha256").join(&image.digest()[7..]).exists());
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "what tests do to their own temporary directories needs no held directory"
)]

pub mod tar;

pub mod image;
mod index;
mod layouts;

pub mod oddities;
pub mod samples;

pub mod tree;

pub mod gpg;
pub mod osbuild;
pub mod peers;

mod loopback;

pub mod docker_registry;
pub mod proxy;
pub mod registry;

pub mod corrupt;
pub mod fault;
