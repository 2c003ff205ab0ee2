//! Signatures of images in registries: beside a registry, in it by an extension of the protocol, or as cosign keeps them.
//!
//! As in containers/image, a registry that has the extension is asked by it, and a lookaside server is where one has
//! not; what cosign has signed is in the repository itself, and only looked for where registries.d says so.

mod api;
mod attachments;
mod lookaside;

pub(super) use self::attachments::Blobs;
use super::registries_d::{Lookaside, RegistriesD, Use};
use super::repository::Repository;
use crate::error::{Context, Error, Result, printable};
use crate::limits::SIGNATURES;
use crate::oci::{Descriptor, Digest};
use crate::reference::Name;
use crate::signature::{Kind, SigstoreSignature, UntrustedSignature};
use crate::verify::UntrustedBlob;

/// The signatures of one repository, as a name leads to them.
pub(super) struct Signatures<'a> {
    repository: &'a Repository,
    name: &'a Name,
}

impl<'a> Signatures<'a> {
    /// `name` is what the repository is looked up by in registries.d, with its tag or digest.
    pub(super) fn of(repository: &'a Repository, name: &'a Name) -> Self {
        Self { repository, name }
    }

    fn conf(&self) -> &RegistriesD {
        &self.repository.host().client().settings().registries_d
    }

    /// Returns the signatures of a manifest. `open` opens blobs of the repository.
    pub(super) fn read(
        &self,
        manifest: &Digest,
        open: &dyn Fn(&Descriptor) -> Result<UntrustedBlob>,
    ) -> Result<Vec<UntrustedSignature>> {
        let frame = || format!("reading the signatures of {}@{manifest}", self.repository.name());
        // That a signature is not there must not read as if the image were not.
        self.read_all(manifest, open).map_err(Error::lacking).context(frame)
    }

    fn read_all(
        &self,
        manifest: &Digest,
        open: &dyn Fn(&Descriptor) -> Result<UntrustedBlob>,
    ) -> Result<Vec<UntrustedSignature>> {
        // What the file says wrongly is told before anything is asked.
        let lookaside = self.conf().lookaside(self.name, Use::Read)?;
        let mut found = if self.repository.host().supports_signatures()? {
            api::read(self.repository, manifest)?
        } else if let Some(Lookaside { base, .. }) = &lookaside {
            lookaside::read(self.repository.host(), base, self.name.path(), manifest)?
        } else {
            Vec::new()
        };
        if self.conf().attachments(self.name).0 {
            let attached = attachments::read(self.repository, manifest, open)?;
            found.extend(attached.iter().map(UntrustedSignature::from));
        }
        check_count(found.len())?;
        Ok(found)
    }

    /// Makes sure that there is a place for signatures, before anything is written.
    ///
    /// # Errors
    ///
    /// `Refused` where there is none.
    pub(super) fn check(&self, destination: &str, signatures: &[UntrustedSignature]) -> Result<()> {
        let sorted = Sorted::of(signatures)?;
        if !sorted.sigstore.is_empty() && !self.conf().attachments(self.name).0 {
            return Err(Error::refused(format!(
                "{destination} cannot hold the image's sigstore signatures: `use-sigstore-attachments` is not true for it"
            ))
            .hint("set it in registries.d, or copy without signatures by --remove-signatures"));
        }
        if !sorted.simple.is_empty() && !self.repository.host().supports_signatures()? {
            match self.conf().lookaside(self.name, Use::Write)? {
                Some(lookaside) => lookaside::check_writable(&lookaside)?,
                None => {
                    return Err(Error::refused(format!("{destination} cannot hold the image's signatures")).hint(
                        "name a `lookaside-staging` in registries.d, or copy without them by --remove-signatures",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Writes the signatures of a manifest that is there. `blobs` puts blobs into the repository.
    ///
    /// As in containers/image, those of a lookaside server are replaced; to others these are added.
    pub(super) fn write(&self, manifest: &Digest, signatures: &[UntrustedSignature], blobs: &dyn Blobs) -> Result<()> {
        let frame = || format!("writing the signatures of {}@{manifest}", self.repository.name());
        self.write_all(manifest, signatures, blobs).map_err(Error::lacking).context(frame)
    }

    fn write_all(&self, manifest: &Digest, signatures: &[UntrustedSignature], blobs: &dyn Blobs) -> Result<()> {
        let sorted = Sorted::of(signatures)?;
        if !sorted.sigstore.is_empty() {
            attachments::write(self.repository, manifest, &sorted.sigstore, blobs)?;
        }
        if sorted.simple.is_empty() {
            return Ok(());
        }
        if self.repository.host().supports_signatures()? {
            return api::write(self.repository, manifest, &sorted.simple);
        }
        match self.conf().lookaside(self.name, Use::Write)? {
            Some(lookaside) => lookaside::write(&lookaside, self.name.path(), manifest, &sorted.simple),
            None => Err(Error::refused("there is no place for them")),
        }
    }

    /// Returns where signatures would be deleted.
    pub(super) fn written_to(&self) -> Result<Option<Lookaside>> {
        self.conf().lookaside(self.name, Use::Write)
    }

    /// Deletes the signatures of a manifest at a lookaside server; others go with the image, or stay.
    pub(super) fn delete(&self, lookaside: &Lookaside, manifest: &Digest) -> Result<()> {
        let frame = || format!("deleting the signatures of {}@{manifest}", self.repository.name());
        lookaside::delete(lookaside, self.name.path(), manifest).context(frame)
    }
}

/// Signatures by where they go; the order stays.
struct Sorted<'a> {
    simple: Vec<&'a [u8]>,
    sigstore: Vec<SigstoreSignature>,
}

impl<'a> Sorted<'a> {
    fn of(signatures: &'a [UntrustedSignature]) -> Result<Self> {
        let mut sorted = Self { simple: Vec::new(), sigstore: Vec::new() };
        for signature in signatures {
            match recognised(signature)? {
                Kind::Sigstore(sigstore) => sorted.sigstore.push(sigstore),
                Kind::Simple(bytes) => sorted.simple.push(bytes),
                Kind::Unknown(kind) => return Err(unknown(kind)),
            }
        }
        Ok(sorted)
    }
}

/// Returns what a signature is. What begins with none of the packets of OpenPGP that can be one is none, such as the
/// page that a web server has for everything: `signature.FromBlob` of containers/image refuses the same.
fn recognised(signature: &UntrustedSignature) -> Result<Kind<'_>> {
    match signature.kind()? {
        Kind::Unknown(kind) => Err(unknown(kind)),
        Kind::Simple([0xa0..=0xa3 | 0xc8 | 0x90..=0x93 | 0xc4 | 0x88..=0x8b | 0xc2, ..]) | Kind::Sigstore(_) => {
            signature.kind()
        }
        Kind::Simple([]) => Err(Error::invalid("it is empty, and no signature")),
        Kind::Simple(bytes) => {
            let beginning = bytes.get(..16).unwrap_or(bytes);
            Err(Error::invalid(format!("it is no signature: it begins with `{}`", printable(beginning))))
        }
    }
}

fn unknown(kind: &[u8]) -> Error {
    let kind = kind.get(..64).unwrap_or(kind);
    Error::unsupported(format!("signatures of the kind `{}` are not known", printable(kind)))
        .hint("copy without signatures by --remove-signatures")
}

/// Refuses more signatures than anybody could want.
fn check_count(count: usize) -> Result<()> {
    if count > SIGNATURES {
        return Err(Error::invalid(format!("there are more than {SIGNATURES} signatures")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_known_by_their_beginning() {
        for bytes in [&b"\x90\x0d"[..], b"\x88x", b"\xc2", b"\xa3\x01", b"\xc8"] {
            recognised(&UntrustedSignature(bytes.to_vec())).expect("OpenPGP");
        }
        for (bytes, said) in [
            (&b"<html>\x1b"[..], "it begins with `<html>\\u{1b}`"),
            (b"", "it is empty"),
            (b"\0future\nx", "of the kind `future`"),
            (b"\x99", "no signature"),
            (b"\0sigstore-json\n{", "sigstore signature"),
        ] {
            let error = recognised(&UntrustedSignature(bytes.to_vec())).expect_err(said);
            assert!(error.chain().any(|line| line.contains(said)), "{error}");
        }
    }
}
