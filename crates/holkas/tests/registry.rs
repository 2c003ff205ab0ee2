//! The `docker://` room against a registry in this process: honest, failing and lying.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "registry/common.rs"]
mod common;
#[path = "registry/honest.rs"]
mod honest;
#[path = "registry/lies.rs"]
mod lies;
#[path = "registry/moments.rs"]
mod moments;
#[path = "registry/secrets.rs"]
mod secrets;
