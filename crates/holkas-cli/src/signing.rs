//! Who signs, of what was typed on either face.

use std::path::Path;
use std::sync::Arc;

use holkas::copy::Signing;
use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::display;
use holkas::fs::named::read_file_or_pipe;
use holkas::limits::PASSPHRASE;
use holkas::reference::Name;
use holkas::registry::auth::Secret;
use holkas::signature::Signer;

use crate::gpg::GpgSigner;

/// What was typed of signing.
#[derive(Debug, Default)]
pub(crate) struct Typed<'a> {
    /// The key of GnuPG.
    pub(crate) by: Option<&'a str>,
    /// The file with its passphrase.
    pub(crate) passphrase_file: Option<&'a Path>,
    /// What the image is called.
    pub(crate) identity: Option<&'a str>,
}

impl Typed<'_> {
    /// Returns who signs, and under what name.
    pub(crate) fn signing(&self) -> Result<Signing> {
        let identity = self.identity.filter(|identity| !identity.is_empty());
        let identity =
            identity.map(Name::parse_normalised).transpose().context(|| "Could not parse --sign-identity")?;
        let mut signers: Vec<Arc<dyn Signer>> = Vec::new();
        if let Some(by) = self.by.filter(|by| !by.is_empty()) {
            signers.push(Arc::new(GpgSigner::new(by, passphrase(self.passphrase_file)?)?));
        }
        Ok(Signing { signers, identity })
    }
}

/// Reads a passphrase, which is all of a file but the white space around it.
pub(crate) fn passphrase(file: Option<&Path>) -> Result<Option<Secret>> {
    let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    let frame = || format!("reading passphrase file `{}`", display(path));
    let (bytes, _) = read_file_or_pipe(path, PASSPHRASE)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(frame)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::invalid("it is not UTF-8")).context(frame)?;
    Ok(Some(Secret::new(text.trim().to_string())).filter(|secret| !secret.expose().is_empty()))
}
