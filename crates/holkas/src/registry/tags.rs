//! The tags of a repository.

use super::client::Client;
use super::conf::Purpose;
use super::source::repository;
use crate::error::{Error, Result};
use crate::reference::Name;

/// Returns all tags of the name's repository, in the registry's order. Mirrors are not asked.
///
/// # Errors
///
/// `NotFound` if the repository is not there, and whatever the registry says.
pub fn tags(client: &Client, name: &Name) -> Result<Vec<String>> {
    let endpoints = client.settings().registries.endpoints(name, Purpose::List)?;
    let endpoint = endpoints.into_iter().next().ok_or_else(|| Error::not_found("no host is known for it"))?;
    repository(client, &endpoint).tags()
}
