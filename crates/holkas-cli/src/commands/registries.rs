//! From flags and the environment to how registries are spoken to.

use std::num::NonZeroUsize;
use std::sync::Arc;

use holkas::cache::Cache;
use holkas::error::{Context, Error, Result};
use holkas::progress::{Event, Monitor};
use holkas::reference::ImageReference;
use holkas::registry::auth::{Credentials, Secret};
use holkas::registry::conf::RegistriesConf;
use holkas::registry::{Client, Login, Settings};

use super::Setting;
use crate::cli::registry::{Network, Registry};
use crate::environment;
use crate::terminal::{Echo, ask};

/// Makes the client for one side of a command, if any of its references is an image in a registry.
pub(super) fn client_for<'r>(
    references: impl IntoIterator<Item = &'r ImageReference>,
    typed: &Registry,
    network: &Network,
    setting: &Setting<'_>,
    monitor: &Arc<dyn Monitor>,
) -> Result<Option<Client>> {
    let wanted = references.into_iter().any(|reference| matches!(reference, ImageReference::Docker(_)));
    wanted.then(|| client(typed, network, setting, monitor)).transpose()
}

/// Returns how many layers to work on at once: what was typed, or one for each core; more where a network makes us wait,
/// but fewer of those if they are unpacked, which takes memory and cores.
pub(super) fn jobs<'r>(
    typed: Option<NonZeroUsize>,
    sources: impl IntoIterator<Item = &'r ImageReference>,
    unpacks: bool,
) -> usize {
    let remote = sources.into_iter().any(|source| matches!(source, ImageReference::Docker(_)));
    let least = match (remote, unpacks) {
        (false, _) => 1,
        (true, true) => 3,
        (true, false) => 6,
    };
    typed.map_or_else(|| environment::cores().max(least), Into::into)
}

/// Makes a client. `monitor` hears of retries and mirrors that failed.
pub(crate) fn client(
    typed: &Registry,
    network: &Network,
    setting: &Setting<'_>,
    monitor: &Arc<dyn Monitor>,
) -> Result<Client> {
    let registries = setting.registries()?;
    let mut settings = Settings {
        mirrors: !network.no_mirrors,
        login: login(typed, &registries, setting)?,
        registries,
        registries_d: setting.registries_d()?,
        certificates: environment::certificate_places(typed.cert_dir.as_deref()),
        tls_verify: typed.tls_verify,
        proxies: environment::proxies()?,
        monitor: Arc::clone(monitor),
        cancel: setting.cancel.clone(),
        ..Settings::default()
    };
    if let Some(prefix) = &setting.global.user_agent_prefix {
        settings.user_agent = format!("{prefix} {}", settings.user_agent);
    }
    if let Some(times) = network.retry_times {
        settings.retry.times = times.max(settings.retry.times);
        settings.retry.first_contact = times;
    }
    if let Some(delay) = network.retry_delay {
        settings.retry.delay = delay;
        settings.retry.grows = false;
    }
    if let Some(idle) = network.idle_timeout {
        settings.timeouts.idle = idle;
        settings.timeouts.first_byte = idle;
    }
    if !network.no_cache {
        settings.cache = cache(network, monitor)?;
    }
    Ok(Client::new(settings))
}

fn login(typed: &Registry, registries: &RegistriesConf, setting: &Setting<'_>) -> Result<Login> {
    let basic = |user: &str, password: &str| {
        if user.is_empty() {
            return Err(Error::invalid("the user is empty").context("reading credentials"));
        }
        Ok(Login::As(Credentials::Basic { user: user.to_string(), password: Secret::new(password) }))
    };
    if typed.no_creds {
        return Ok(Login::As(Credentials::Anonymous));
    }
    if let Some(token) = &typed.registry_token {
        return Ok(Login::As(Credentials::Bearer(Secret::new(token))));
    }
    if let Some(creds) = &typed.creds {
        return match creds.split_once(':') {
            Some((user, password)) => basic(user, password),
            None => {
                let asked = ask("Password: ", "USER:PASSWORD", Echo::Hidden, setting.cancel);
                basic(creds, &asked.context(|| "asking for the password")?)
            }
        };
    }
    if let (Some(user), Some(password)) = (&typed.username, &typed.password) {
        return basic(user, password);
    }
    let helpers = registries.credential_helpers.clone();
    Ok(Login::Files(environment::auth_files(typed.authfile.as_deref(), helpers)))
}

/// Opens the blob cache. Only one that was asked for must be there.
fn cache(network: &Network, monitor: &Arc<dyn Monitor>) -> Result<Option<Arc<Cache>>> {
    let opened = environment::cache_dir(network.cache.as_deref()).and_then(|dir| Cache::open(&dir));
    match opened {
        Ok(cache) => Ok(Some(Arc::new(cache))),
        Err(error) if network.cache.is_some() => Err(error),
        Err(error) => {
            monitor.event(Event::Warning { text: &format!("blobs are not kept for the next time: {error}") });
            Ok(None)
        }
    }
}
