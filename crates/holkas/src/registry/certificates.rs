//! certs.d: whom a registry's host is believed to be, and who we are to it.
//!
//! ```text
//! certs.d/
//!   registry.example.com:5000/
//!     ca.crt         one more authority; any number of them
//!     client.cert    a certificate of ours, with its chain, …
//!     client.key     … and its key
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::fs::{self, Dir, display};
use crate::limits::{CERTIFICATE, CERTIFICATE_FILES};

/// Where certificates are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificatePlaces {
    /// In this directory for every host, and in no other: `--cert-dir`.
    One(PathBuf),
    /// In the first of these that has a directory `HOST[:PORT]`.
    PerHost(Vec<PathBuf>),
}

/// What is known of a host beside the system's authorities.
#[derive(Debug, Default)]
pub struct Certificates {
    /// The directory that it is from; `None` if there is none.
    pub dir: Option<PathBuf>,
    /// Authorities that may vouch for the host, in addition to the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What we may prove ourselves with, in the order of the files' names.
    pub identities: Vec<ClientIdentity>,
}

/// A client certificate and its key. They are not held against each other here.
#[derive(Debug)]
pub struct ClientIdentity {
    /// The file of the certificate.
    pub file: PathBuf,
    /// The certificate, and those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
}

impl CertificatePlaces {
    /// Returns the directory of a host, `HOST` or `HOST:PORT`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `Invalid` if the host cannot be a directory's name.
    pub fn directory(&self, host: &str) -> Result<Option<PathBuf>> {
        let candidates = match self {
            Self::One(dir) => vec![dir.clone()],
            Self::PerHost(parents) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
                if host.is_empty() || host.starts_with('.') || !host.bytes().all(plain) {
                    return Err(Error::invalid(format!("`{}` is not a host", printable(host.as_bytes()))));
                }
                parents.iter().map(|parent| parent.join(host)).collect()
            }
        };
        // What may not be looked at is passed over, as containers/image does: certs.d of Docker is often root's alone.
        Ok(candidates.into_iter().find(|dir| dir.exists()))
    }

    /// Reads what there is for a host, `HOST` or `HOST:PORT`. Nothing is fine.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the file, for a certificate without its key, a key without its certificate, and what is no PEM.
    pub fn read(&self, host: &str) -> Result<Certificates> {
        match self.directory(host)? {
            Some(dir) => read(dir),
            None => Ok(Certificates::default()),
        }
    }
}

fn read(path: PathBuf) -> Result<Certificates> {
    let frame = || format!("reading certificates of `{}`", display(&path));
    let entries = match Dir::open(&path).and_then(|dir| dir.entries()) {
        Ok(entries) => entries,
        // As above: without it, the system's authorities decide alone, which lets nobody in.
        Err(error) if error.kind() == ErrorKind::Forbidden => return Ok(Certificates::default()),
        Err(error) => return Err(error).context(frame),
    };
    if entries.len() > CERTIFICATE_FILES {
        let cause =
            format!("the directory has {} files; more than {CERTIFICATE_FILES} are no certificates", entries.len());
        return Err(Error::invalid(cause)).context(frame);
    }
    let mut names: Vec<&[u8]> = entries.iter().map(|name| name.as_bytes()).collect();
    names.sort_unstable();
    let file = |name: &[u8]| path.join(OsStr::from_bytes(name));
    let mut found = Certificates { dir: Some(path.clone()), ..Certificates::default() };
    for name in &names {
        if name.ends_with(b".crt") {
            // A symlink to nowhere is passed over, as containers/image does.
            if let Some(bytes) = fs::read_file(&file(name), CERTIFICATE)? {
                found.authorities.extend(certificates(&bytes).context(|| reading(&file(name)))?);
            }
        } else if let Some(stem) = name.strip_suffix(b".cert") {
            let key = [stem, b".key"].concat();
            if !names.contains(&key.as_slice()) {
                return Err(Error::invalid(format!(
                    "missing key {} for client certificate {}",
                    printable(&key),
                    printable(name)
                ))
                .hint("certificates of authorities have names that end in .crt"))
                .context(frame);
            }
            found.identities.push(identity(file(name), &file(&key))?);
        } else if let Some(stem) = name.strip_suffix(b".key") {
            let certificate = [stem, b".cert"].concat();
            if !names.contains(&certificate.as_slice()) {
                return Err(Error::invalid(format!(
                    "missing client certificate {} for key {}",
                    printable(&certificate),
                    printable(name)
                )))
                .context(frame);
            }
        }
    }
    Ok(found)
}

fn reading(file: &Path) -> String {
    format!("reading `{}`", display(file))
}

fn identity(file: PathBuf, key_file: &Path) -> Result<ClientIdentity> {
    let chain = certificates(&must_exist(&file)?).context(|| reading(&file))?;
    // What a key's file holds never gets into an error.
    let key = PrivateKeyDer::from_pem_slice(&must_exist(key_file)?)
        .map_err(|_| Error::invalid("it holds no private key in PEM form that is not encrypted"))
        .context(|| reading(key_file))?;
    Ok(ClientIdentity { file, chain, key })
}

fn must_exist(file: &Path) -> Result<Vec<u8>> {
    fs::read_file(file, CERTIFICATE)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(|| reading(file))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::invalid("it holds no certificate in PEM form")),
        Err(error) => Err(Error::invalid(format!("its PEM form is broken: {error}"))),
    }
}
