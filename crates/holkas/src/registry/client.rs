//! What all registries of a run share: settings, connections, and what was learnt of each host.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::Agent;

use super::certificates::Certificates;
use super::conf::DOCKER_HUB;
use super::host::Host;
use super::settings::Settings;
use super::transport::{self, SystemRoots, Trust};
use super::url::{Url, host_of};
use crate::error::Result;
use crate::oci::Digest;
use crate::progress::Event;

/// The registries of a run. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    settings: Settings,
    system: SystemRoots,
    agents: Mutex<BTreeMap<AgentKey, Agent>>,
    hosts: Mutex<BTreeMap<(String, Trust), Arc<Host>>>,
    /// Repositories of a host that have a blob, as this run has learnt: it can be mounted from there.
    blobs: Mutex<BTreeMap<(String, Digest), String>>,
}

/// Connections are the same for what has the same scheme, server, trust, and host whose certificates we show.
type AgentKey = (bool, String, Trust, String);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // None of the maps is ever half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            system: SystemRoots::default(),
            agents: Mutex::default(),
            hosts: Mutex::default(),
            blobs: Mutex::default(),
        }))
    }

    /// Returns how to speak to registries.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn warn(&self, text: &str) {
        self.0.settings.monitor.event(Event::Warning { text });
    }

    /// Returns a registry's host; `insecure` is what registries.conf says of it.
    pub(super) fn host(&self, authority: &str, insecure: bool) -> Arc<Host> {
        let insecure = self.0.settings.tls_verify.map_or(insecure, |verify| !verify);
        let trust = if insecure { Trust::Anyone } else { Trust::Verified };
        let key = (authority.to_string(), trust);
        let mut hosts = lock(&self.0.hosts);
        let host = hosts.entry(key).or_insert_with(|| Arc::new(Host::new(self.clone(), authority, trust)));
        Arc::clone(host)
    }

    /// Returns the connections for an address that `host` has sent us to, or that is its own.
    ///
    /// Only the host itself, whatever its port, is trusted without proof if `trust` says so, and is shown who we are;
    /// any other is shown nothing, and is believed on the word of the same authorities or its own.
    pub(super) fn agent(&self, url: &Url, host: &str, trust: Trust) -> Result<Agent> {
        let same = url.host() == host_of(host);
        let trust = if same { trust } else { Trust::Verified };
        let key = (url.is_secure(), url.authority().to_string(), trust, host.to_string());
        if let Some(agent) = lock(&self.0.agents).get(&key) {
            return Ok(agent.clone());
        }
        let Settings { certificates, proxies, timeouts, cancel, .. } = &self.0.settings;
        let mut own = Certificates::default();
        if url.is_secure() {
            // certs.d speaks of docker.io, wherever that really is.
            own = certificates.read(if host == DOCKER_HUB { "docker.io" } else { host })?;
            if !same {
                own.identities.clear();
            }
            if url.authority() != host {
                let there = certificates.read(url.authority())?;
                own.authorities.extend(there.authorities);
                own.identities.extend(there.identities);
            }
        }
        let secure = url.is_secure();
        let made = transport::agent((secure, url.authority()), trust, &own, &self.0.system, proxies, timeouts)?;
        let agent = lock(&self.0.agents).entry(key).or_insert(made).clone();
        let end = agent.clone();
        cancel.when_cancelled(move || end.shutdown());
        Ok(agent)
    }

    /// Notes that a repository of a host has a blob.
    pub(super) fn note_blob(&self, host: &str, digest: &Digest, repository: &str) {
        lock(&self.0.blobs).entry((host.to_string(), *digest)).or_insert_with(|| repository.to_string());
    }

    /// Returns a repository of a host that has the blob.
    pub(super) fn repository_with(&self, host: &str, digest: &Digest) -> Option<String> {
        lock(&self.0.blobs).get(&(host.to_string(), *digest)).cloned()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.0.settings)
    }
}
