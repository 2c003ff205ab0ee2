//! What a run needs to know before it speaks to registries. All of it comes from who calls; nothing is looked up.

use std::fmt;
use std::sync::Arc;

use super::auth::{AuthFiles, Credentials};
use super::certificates::CertificatePlaces;
use super::conf::RegistriesConf;
use super::registries_d::RegistriesD;
use super::retry::Retry;
use super::transport::{Proxies, Timeouts};
use crate::cache::Cache;
use crate::progress::{Cancel, Monitor, Silent};

/// Who we are to registries.
#[derive(Debug, Clone)]
pub enum Login {
    /// What the user's files say of the repository.
    Files(AuthFiles),
    /// The same to every registry that is asked for by name: what the command line says.
    As(Credentials),
}

/// How to speak to registries.
#[derive(Clone)]
pub struct Settings {
    /// Which hosts are asked for a name.
    pub registries: RegistriesConf,
    /// Where signatures are.
    pub registries_d: RegistriesD,
    /// Whether mirrors are asked.
    pub mirrors: bool,
    /// Who we are.
    pub login: Login,
    /// Where certificates are found.
    pub certificates: CertificatePlaces,
    /// Whether registries must prove who they are; where nothing is said, `registries` decides.
    pub tls_verify: Option<bool>,
    /// The proxies that connections go through.
    pub proxies: Proxies,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
    /// How we call ourselves.
    pub user_agent: String,
    /// Where blobs are kept for the next time.
    pub cache: Option<Arc<Cache>>,
    /// Hears of what went wrong and was mended.
    pub monitor: Arc<dyn Monitor>,
    /// Stops waits of all kinds.
    pub cancel: Cancel,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registries: RegistriesConf::default(),
            registries_d: RegistriesD::default(),
            mirrors: true,
            login: Login::As(Credentials::Anonymous),
            certificates: CertificatePlaces::PerHost(Vec::new()),
            tls_verify: None,
            proxies: Proxies::default(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            user_agent: concat!("holkas/", env!("CARGO_PKG_VERSION")).to_string(),
            cache: None,
            monitor: Arc::new(Silent),
            cancel: Cancel::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("registries", &self.registries).finish_non_exhaustive()
    }
}
