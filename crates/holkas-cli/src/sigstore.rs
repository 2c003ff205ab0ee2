//! Keys of sigstore: new ones into files, and signers from files, with the passphrase from a file or the terminal.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::display;
use holkas::fs::named::read_file_or_pipe;
use holkas::limits::{KEYS, PASSPHRASE};
use holkas::progress::Cancel;
use holkas::registry::auth::Secret;
use holkas::signature::sigstore::{Parameters, PrivateKey, SigstoreSigner};

use crate::environment;
use crate::terminal::{Echo, ask};

/// The files of a new key.
pub(crate) struct NewKey {
    /// The private key, under a passphrase.
    pub(crate) private: PathBuf,
    /// The public key.
    pub(crate) public: PathBuf,
}

/// Makes a key, and writes it into `PREFIX.private`, which nobody else can read, and `PREFIX.pub`.
///
/// Neither may be there: a key that is overwritten is lost.
pub(crate) fn generate(prefix: &Path, passphrase: impl FnOnce(&Path) -> Result<Secret>) -> Result<NewKey> {
    let path = |end: &str| {
        let mut name = OsString::from(prefix);
        name.push(end);
        PathBuf::from(name)
    };
    let made = NewKey { private: path(".private"), public: path(".pub") };
    for path in [&made.public, &made.private] {
        // Symlinks to nowhere are there, too. What comes between is found below.
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Error::refused(format!("refusing to overwrite existing \"{}\"", display(path))));
        }
    }
    let passphrase = passphrase(&made.private)?;
    let (key, file) = PrivateKey::generate(passphrase.expose().as_bytes()).context(|| "generating key pair")?;
    let (_, public) = key.public_key().context(|| "generating key pair")?;
    write_new(&made.private, &file, 0o600).context(|| "writing private key")?;
    if let Err(error) = write_new(&made.public, &public, 0o644) {
        // A private key alone would stand in the way of the next try.
        std::fs::remove_file(&made.private).context(|| format!("removing `{}`", display(&made.private)))?;
        return Err(error.context("writing public key"));
    }
    Ok(made)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let frame = || format!("writing `{}`", display(path));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).context(frame)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).context(frame)
}

/// Returns who signs with the private key of a file.
pub(crate) fn signer(file: &Path, passphrase: &Secret) -> Result<SigstoreSigner> {
    let frame = || format!("reading private key `{}`", display(file));
    let (bytes, _) = read_file_or_pipe(file, KEYS)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(frame)?;
    let key = PrivateKey::from_file(&bytes, passphrase.expose().as_bytes()).context(frame)?;
    let creator = concat!("holkas ", env!("CARGO_PKG_VERSION"));
    Ok(SigstoreSigner::new(key, "a sigstore signature".to_string(), creator.to_string(), environment::now()))
}

/// Returns who signs as a file of parameters says.
pub(crate) fn signer_of_parameters(file: &Path, cancel: &Cancel) -> Result<SigstoreSigner> {
    let parameters = Parameters::read(file)?;
    let key = parameters.private_key_file;
    let passphrase = passphrase(&key, parameters.private_key_passphrase_file.as_deref(), cancel)?;
    signer(&key, &passphrase)
}

/// Returns the passphrase of a key: the first line of a file, or what the user types.
pub(crate) fn passphrase(key: &Path, file: Option<&Path>, cancel: &Cancel) -> Result<Secret> {
    match file.filter(|file| !file.as_os_str().is_empty()) {
        Some(file) => first_line(file),
        None => typed(&format!("Passphrase for key {}: ", display(key)), key, cancel),
    }
}

/// Returns the passphrase of a key that is to be made; who types it types it twice.
pub(crate) fn new_passphrase(key: &Path, file: Option<&Path>, cancel: &Cancel) -> Result<Secret> {
    let first = passphrase(key, file, cancel)?;
    if file.is_some() {
        return Ok(first);
    }
    match typed("The same again: ", key, cancel)?.expose() == first.expose() {
        true => Ok(first),
        false => Err(Error::invalid("the two passphrases differ")),
    }
}

fn typed(prompt: &str, key: &Path, cancel: &Cancel) -> Result<Secret> {
    if !std::io::stdin().is_terminal() {
        // skopeo's words.
        let key = display(key);
        return Err(Error::invalid(format!(
            "Cannot prompt for a passphrase for key {key}, standard input is not a TTY"
        ))
        .hint("name a file that has it: --passphrase-file for a new key, --sign-passphrase-file to sign"));
    }
    ask(prompt, "--passphrase-file or --sign-passphrase-file", Echo::Hidden, cancel).map(Secret::new)
}

fn first_line(file: &Path) -> Result<Secret> {
    let frame = || format!("reading passphrase file `{}`", display(file));
    let (bytes, _) = read_file_or_pipe(file, PASSPHRASE)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(frame)?;
    // Like gpg, and like skopeo: the first line, with all the spaces that it has.
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
    String::from_utf8(line).map(Secret::new).map_err(|_| Error::invalid("it is not UTF-8")).context(frame)
}
