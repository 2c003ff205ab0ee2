//! Signs what is copied: the manifest or the list that is written, by each of the signers.

use std::sync::Arc;

use super::CopyOptions;
use crate::error::{Context, Error, Result};
use crate::image::ImageDestination;
use crate::oci::Digest;
use crate::progress::{Event, Monitor};
use crate::reference::Name;
use crate::signature::{Signer, UntrustedSignature};

/// Who signs what is copied, and under what name.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// Those who sign; each makes a signature of its own.
    pub signers: Vec<Arc<dyn Signer>>,
    /// The name that the signatures are for; `None` for what the destination calls the image.
    pub identity: Option<Name>,
}

/// Checks that signatures can be made and kept, before anything is moved.
pub(super) fn check(destination: &dyn ImageDestination, signing: &Signing) -> Result<()> {
    if signing.signers.is_empty() {
        return Ok(());
    }
    identity(destination, signing)?;
    match destination.capabilities().signatures {
        true => Ok(()),
        false => Err(Error::unsupported(format!("{} has no place for signatures", destination.name())).hint(
            "sign into docker://, dir: or containers-storage:, or the manifest alone by `holkas signature sign`",
        )),
    }
}

/// Returns new signatures of what has this digest at the destination.
pub(super) fn sign(
    manifest: &Digest,
    destination: &dyn ImageDestination,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<UntrustedSignature>> {
    let signing = &options.signing;
    if signing.signers.is_empty() {
        return Ok(Vec::new());
    }
    let identity = identity(destination, signing)?;
    let one = |signer: &Arc<dyn Signer>| {
        options.cancel.check()?;
        let name = signer.name();
        monitor.event(Event::Signing { signer: &name });
        signer.sign(manifest, &identity).context(|| format!("signing {identity} by {name}"))
    };
    let signatures: Vec<_> = signing.signers.iter().map(one).collect::<Result<_>>()?;
    // A registry may have a place for one kind of signatures, and none for another.
    destination.check_signatures(&signatures)?;
    Ok(signatures)
}

/// Returns the name that signatures are for.
fn identity(destination: &dyn ImageDestination, signing: &Signing) -> Result<Name> {
    match &signing.identity {
        Some(name) if name.tag().is_none() && name.digest().is_none() => {
            Err(Error::invalid(format!("Sign identity must be a fully specified reference {name}"))
                .hint("name the image with its tag or digest by --sign-identity"))
        }
        Some(name) => Ok(name.clone()),
        None => destination.docker_reference().ok_or_else(|| {
            let name = destination.name();
            Error::refused(format!("Cannot determine canonical Docker reference for destination {name}"))
                .hint("say by --sign-identity what the image is called")
        }),
    }
}
