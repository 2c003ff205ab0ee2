//! The tags of a repository.

use super::client::Client;
use super::conf::Purpose;
use super::source::primary;
use crate::error::Result;
use crate::reference::Name;

/// Returns all tags of the name's repository, in the registry's order. Mirrors are not asked.
///
/// # Errors
///
/// `NotFound` if the repository is not there, and whatever the registry says.
pub fn tags(client: &Client, name: &Name) -> Result<Vec<String>> {
    primary(client, name, Purpose::List)?.tags()
}
