//! Deleting an image from a registry: its manifest, by digest, and then its signatures at a lookaside server.

use super::client::Client;
use super::conf::Purpose;
use super::signatures::Signatures;
use super::source::primary;
use crate::error::{Context, Error, Result};
use crate::oci::Digest;
use crate::reference::DockerReference;

/// Deletes the manifest that a reference names, and with it every tag that names the same. Returns its digest.
///
/// # Errors
///
/// `Invalid` if a tag names nothing, as in skopeo; whatever the registry says. `Refused` if the lookaside server is one
/// that nothing can be deleted from: then, as in skopeo, the image itself is deleted nevertheless.
pub fn delete(client: &Client, reference: &DockerReference) -> Result<Digest> {
    let frame = || format!("deleting docker:{reference}");
    let name = reference.name();
    let repository = primary(client, name, Purpose::Push).context(frame)?;
    let signatures = Signatures::of(&repository, name);
    let lookaside = signatures.written_to().context(frame)?;
    let digest = match (name.digest(), name.tag()) {
        (Some(digest), _) => *digest,
        (None, Some(tag)) => {
            let announced = repository.announced(tag).context(frame)?;
            let announced =
                announced.ok_or_else(|| Error::invalid(format!("there is no tag `{tag}`")).context(frame()))?;
            match announced.digest {
                Some(digest) => digest,
                // A registry that announces nothing still sends it.
                None => *repository.manifest(tag, None).context(frame)?.digest(),
            }
        }
        (None, None) => return Err(Error::invalid("it names no image")).context(frame),
    };
    repository.delete_manifest(&digest).context(frame)?;
    if let Some(lookaside) = &lookaside {
        signatures.delete(lookaside, &digest).context(frame)?;
    }
    Ok(digest)
}
