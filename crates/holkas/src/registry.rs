//! The `docker://` room: registries, by the OCI distribution protocol and Docker's.
//!
//! ```text
//! source, destination        what the rooms' traits ask for
//!   places, download, upload where to read, and how a blob travels
//!   signatures               those of images: beside the registry, or in it
//!   referrers, listings      what belongs to an image: how it is found, and listed where a registry does not
//!     repository             the protocol's own words: manifests, blobs, tags, uploads
//!       host                 one registry: ping, credentials, tokens, patience
//!         exchange           one request and its answer
//!           transport        connections: TLS, proxies, timeouts
//! conf, certificates, auth   the files that say which host, who it is, and who we are
//! registries_d               the files that say where signatures are
//! ```

pub mod auth;
pub mod certificates;
pub mod conf;
pub mod registries_d;
pub mod scopes;
pub mod settings;

mod challenge;
pub mod retry;
mod shown;
mod token;
pub mod transport;
pub mod url;

mod exchange;

pub mod client;
mod host;

mod repository;

mod places;

mod listings;
mod referrers;

mod download;
mod signatures;
mod upload;

pub mod destination;
pub mod source;

pub mod delete;
pub mod login;
pub mod tags;

pub use client::Client;
pub use destination::RegistryDestination;
pub use settings::{Login, Settings};
pub use source::RegistrySource;
