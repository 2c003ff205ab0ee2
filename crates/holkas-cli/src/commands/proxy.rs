//! `holkas proxy`

use std::sync::Arc;

use holkas::error::Result;
use holkas::open::Rooms;
use holkas::policy::Policy;
use holkas::progress::{Event, Monitor};
use holkas::registry::Client;

use super::{Setting, registries};
use crate::cli::registry::{Network, Registry};
use crate::cli::{self, Global, Progress};
use crate::proxy::{Surroundings, serve};
use crate::seqpacket::Packets;
use crate::{environment, inherited, progress};

/// Serves on the socket that was inherited, until its other side is gone.
pub(crate) fn run(arguments: &cli::proxy::Proxy, setting: &Setting<'_>) -> Result<()> {
    let monitor = progress::monitor(Progress::Plain);
    if arguments.tls_details.is_some() {
        let text = "--tls-details is not obeyed: connections are of TLS 1.2 or 1.3, with ciphers that are safe in them";
        monitor.event(Event::Warning { text });
    }
    let packets = Arc::new(socket(arguments.sockfd)?);
    // A signal ends the wait for the next request, as the client's end does.
    let ended = Arc::clone(&packets);
    setting.cancel.when_cancelled(move || ended.end());
    let global = with_environment(setting.global);
    let around = Around { arguments, setting: Setting { global: &global, cancel: setting.cancel }, monitor };
    serve(&packets, &around, &setting.scratch(), setting.cancel)
}

fn socket(number: u16) -> Result<Packets> {
    inherited::socket(number.into()).map(Packets::new).map_err(|error| {
        error
            .context("looking for the client's socket")
            .hint("the proxy is started by programs such as bootc and ostree, which are at the other end of the socket")
    })
}

/// Adds what the environment says for this command alone, as newer versions of skopeo have it.
fn with_environment(global: &Global) -> Global {
    let mut global = global.clone();
    if !global.insecure_policy {
        global.policy = global.policy.or_else(environment::policy_of_containers);
    }
    global.registries_conf = global.registries_conf.or_else(environment::registries_conf_of_containers);
    global
}

struct Around<'a> {
    arguments: &'a cli::proxy::Proxy,
    setting: Setting<'a>,
    monitor: Arc<dyn Monitor>,
}

impl Surroundings for Around<'_> {
    fn policy(&self) -> Result<Policy> {
        let policy = self.setting.policy()?;
        Ok(if self.arguments.require_signed { policy.signed_only() } else { policy })
    }

    fn rooms(&self) -> Result<Rooms> {
        Ok(Rooms { shared_blob_dir: self.arguments.shared_blob_dir.clone(), ..self.setting.rooms(None)? })
    }

    fn client(&self) -> Result<Client> {
        let typed = Registry::from(&self.arguments.registry);
        // What asks keeps what it gets, so a second copy is made only where a cache is named.
        let asked = &self.arguments.network;
        let network = Network { no_cache: asked.cache.is_none(), ..asked.clone() };
        registries::client(&typed, &network, &self.setting, &self.monitor)
    }
}
