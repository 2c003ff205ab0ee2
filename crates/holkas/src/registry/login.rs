//! Whether a registry lets us in.

use super::auth::Credentials;
use super::client::Client;
use super::conf::Purpose;
use crate::error::{Context, Result};
use crate::reference::Name;

/// Asks the registry at `host` (`HOST[:PORT]`) whether it accepts the credentials. Nothing is written anywhere.
///
/// # Errors
///
/// `Unauthorized` if it does not, and whatever else the registry or the network says.
pub fn check(client: &Client, host: &str, credentials: &Credentials) -> Result<()> {
    let frame = || format!("logging in to {host}");
    // registries.conf speaks of repositories; any of the host's will do.
    let name = Name::parse_normalised(&format!("{host}/any")).context(frame)?;
    let plan = client.settings().registries.plan(&name, Purpose::Push).context(frame)?;
    let insecure = plan.candidates.iter().any(|candidate| candidate.endpoint.insecure);
    client.host(host, insecure).check(credentials).context(frame)
}
