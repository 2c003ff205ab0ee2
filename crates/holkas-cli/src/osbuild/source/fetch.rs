//! How sources reach registries and stores: as the host's files and its environment say, once for a call.

use std::sync::Arc;

use holkas::copy::{CopyOptions, Gate};
use holkas::dir::{Shelf, Siblings};
use holkas::error::Result;
use holkas::image::ImageSource;
use holkas::open::{Rooms, open_source};
use holkas::policy::Policy;
use holkas::progress::{Cancel, Monitor};
use holkas::registry::Client;
use holkas::verify::VerifiedBytes;

use super::item::{Item, Transport};
use crate::cli::registry::{Network, Registry};
use crate::cli::{Global, Progress};
use crate::commands::{Setting, registries};
use crate::progress;

/// Layers of one image at once: more than cores, since it is the network that makes us wait.
const LAYERS_AT_ONCE: usize = 6;

/// What all items of a call share.
pub(super) struct Fetching {
    pub(super) policy: Policy,
    pub(super) monitor: Arc<dyn Monitor>,
    rooms: Rooms,
    verified: Client,
    unverified: Client,
    gate: Arc<Gate>,
    cancel: Cancel,
}

impl Fetching {
    /// Reads what the host says of policies, registries, credentials, proxies and its store. Nothing is sent yet.
    ///
    /// No blob cache is used: what is fetched stays in osbuild's store, and would only be there twice.
    pub(super) fn prepare(shelf: Option<Shelf>, cancel: &Cancel) -> Result<Self> {
        let global = Global::default();
        let setting = Setting { global: &global, cancel };
        let monitor = progress::monitor(Progress::Plain);
        let network = Network { no_cache: true, ..Network::default() };
        let client = |tls_verify| {
            let typed = Registry { tls_verify, ..Registry::default() };
            registries::client(&typed, &network, &setting, &monitor)
        };
        let siblings = shelf.map_or_else(Siblings::default, Siblings::with_shelf);
        Ok(Self {
            policy: setting.policy()?,
            rooms: Rooms { siblings: Some(Arc::new(siblings)), ..Rooms::default() },
            // As skopeo without a flag: registries.conf may still say that a registry is insecure.
            verified: client(None)?,
            unverified: client(Some(false))?,
            gate: Arc::default(),
            cancel: cancel.clone(),
            monitor,
        })
    }

    fn setting<'a>(&'a self, global: &'a Global) -> Setting<'a> {
        Setting { global, cancel: &self.cancel }
    }

    /// Returns what rooms need.
    pub(super) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Opens an item's source, unless the policy refuses it whatever it is signed by.
    pub(super) fn open(&self, item: &Item) -> Result<Box<dyn ImageSource>> {
        let client = match item.transport {
            Transport::Docker { tls_verify: true } => Some(self.verified.clone()),
            Transport::Docker { tls_verify: false } => Some(self.unverified.clone()),
            Transport::Storage { .. } => None,
        };
        let storage_conf = match &item.transport {
            Transport::Storage { location: None } => self.setting(&Global::default()).rooms(None)?.storage_conf,
            // What storage.conf says is of its own store; which driver another has, can be seen in it.
            Transport::Storage { location: Some(_) } | Transport::Docker { .. } => None,
        };
        let rooms = Rooms { registries: client, storage_conf, ..self.rooms.clone() };
        let source = open_source(&item.reference()?, &rooms)?;
        self.policy.demands(&source.policy_scopes(), &source.name())?;
        Ok(source)
    }

    /// Checks that what an item's source names fulfils what the policy demands, by its signatures, too.
    pub(super) fn admit(&self, source: &dyn ImageSource, document: &VerifiedBytes) -> Result<()> {
        self.policy.demands(&source.policy_scopes(), &source.name())?.check_in(source, document)
    }

    /// Returns how an item is copied.
    pub(super) fn options(&self, item: &Item) -> CopyOptions {
        CopyOptions {
            platform: self.rooms.platform.clone(),
            jobs: LAYERS_AT_ONCE,
            // A store has layers unpacked: their blobs, and with them the manifest, cannot be as they were.
            allow_changes: matches!(item.transport, Transport::Storage { .. }),
            gate: Some(Arc::clone(&self.gate)),
            cancel: self.cancel.clone(),
            ..CopyOptions::default()
        }
    }
}
