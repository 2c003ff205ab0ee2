//! Who signs, of what was typed on either face.

use std::path::Path;
use std::sync::Arc;

use holkas::copy::Signing;
use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::display;
use holkas::fs::named::read_file_or_pipe;
use holkas::limits::PASSPHRASE;
use holkas::progress::Cancel;
use holkas::reference::Name;
use holkas::registry::auth::Secret;
use holkas::signature::Signer;

use crate::gpg::GpgSigner;
use crate::sigstore;

/// What was typed of signing.
#[derive(Debug, Default)]
pub(crate) struct Typed<'a> {
    /// The key of GnuPG.
    pub(crate) by: Option<&'a str>,
    /// The file of a key of sigstore.
    pub(crate) sigstore_key: Option<&'a Path>,
    /// The file that says with which key of sigstore.
    pub(crate) sigstore_parameters: Option<&'a Path>,
    /// The file with the passphrase of one of the first two.
    pub(crate) passphrase_file: Option<&'a Path>,
    /// What the image is called.
    pub(crate) identity: Option<&'a str>,
}

impl Typed<'_> {
    /// Returns who signs, and under what name.
    ///
    /// Who is at the terminal may be asked for a passphrase; `cancel` ends that.
    pub(crate) fn signing(&self, cancel: &Cancel) -> Result<Signing> {
        let identity = self.identity.filter(|identity| !identity.is_empty());
        let identity =
            identity.map(Name::parse_normalised).transpose().context(|| "Could not parse --sign-identity")?;
        let filled = |path: Option<&'_ Path>| path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf);
        let mut signers: Vec<Arc<dyn Signer>> = Vec::new();
        let (by, key) = (self.by.filter(|by| !by.is_empty()), filled(self.sigstore_key));
        if by.is_some() && key.is_some() && filled(self.passphrase_file).is_some() {
            // skopeo's words.
            return Err(Error::invalid(
                "Only one of --sign-by and sign-by-sigstore-private-key can be used with sign-passphrase-file",
            )
            .hint("name the sigstore key and its passphrase in a file for --sign-by-sigstore"));
        }
        if let Some(file) = filled(self.sigstore_parameters) {
            let signer = sigstore::signer_of_parameters(&file, cancel).context(|| "error using --sign-by-sigstore")?;
            signers.push(Arc::new(signer));
        }
        if let Some(key) = key {
            let passphrase = sigstore::passphrase(&key, self.passphrase_file, cancel)?;
            signers.push(Arc::new(sigstore::signer(&key, &passphrase)?));
        }
        if let Some(by) = by {
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
