//! holkas puts container images into OS images: exact, verified, fast.
#![deny(unsafe_code)]

pub mod error;
pub mod progress;

pub mod child;
mod fan_out;
pub mod fs;
pub mod limits;
pub mod oci;

pub mod compress;
mod configuration;
pub mod reference;
pub mod verify;

pub mod signature;

pub mod cache;
pub mod image;
pub mod layer_tar;
pub mod unpack;

pub mod archive;
pub mod dir;
pub mod docker_archive;
pub mod layout;
pub mod policy;
pub mod registry;
pub mod storage;

pub mod build;
pub mod containers;
pub mod copy;
pub mod embed;
pub mod flatten;
pub mod inspect;
pub mod open;
pub mod pack;
pub mod resolve;
pub mod sync;

pub use error::{Context, Error, ErrorKind, Result};
