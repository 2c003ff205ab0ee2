//! Login and logout: changing one auth file, or what a credential helper keeps.
//!
//! ```text
//! DIRECTORY/              made with mode 0700 if it is missing
//!   auth.json             0600; replaced whole, by a rename
//!   .auth.json.lock       0600; held by a record lock from the reading to the rename, and left there
//! ```
//!
//! The lock is for writers of ours: podman, skopeo and docker take none, so that one of them may still lose what was
//! written in the moment of its own login. It is a file of its own because the auth file is replaced, and because `flock`
//! on a directory is not to be had on NFS, where home directories are.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::file::{AUTHS, Format, Parsed, encode};
use super::helper::Helper;
use super::key::{AuthKey, HUB};
use super::object::{Field, Object};
use super::{AUTH_FILES, Credentials, Place, Secret};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::lock::{Kind, Lock};
use crate::fs::named::create_all_private;
use crate::fs::{Dir, display, resolve};
use crate::limits::AUTH_FILE;

/// What registries are called in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    /// `HOST[:PORT][/PATH]`, as podman and skopeo write it.
    Containers,
    /// As docker reads it: `HOST[:PORT]` only, and Docker Hub by its old URL. Only helpers that the file names are used.
    Docker,
}

/// Where credentials are kept for good.
#[derive(Debug, Clone)]
pub struct AuthStore {
    /// The one file that is changed.
    pub file: PathBuf,
    /// What registries are called in it.
    pub style: KeyStyle,
    /// `credential-helpers` of registries.conf, `[AUTH_FILES]` where that has none.
    pub helpers: Vec<String>,
    /// The directories that helpers are in, as in `PATH`.
    pub programs: Vec<PathBuf>,
}

/// Has the registry check a user and a password, and only then keeps them.
pub fn login(
    store: &AuthStore,
    key: &AuthKey,
    user: &str,
    password: &Secret,
    check: &dyn Fn(&Credentials) -> Result<()>,
) -> Result<Place> {
    store.check_key(key)?;
    check_user(user)?;
    check(&Credentials::Basic { user: user.to_owned(), password: password.clone() })
        .context(|| format!("logging in to {key}"))?;
    store.store(key, user, password)
}

impl AuthStore {
    /// Keeps a user and a password, and returns where. The first of the helpers that takes them has them.
    pub fn store(&self, key: &AuthKey, user: &str, password: &Secret) -> Result<Place> {
        self.check_key(key)?;
        check_user(user)?;
        let mut failed = None;
        for name in self.helpers() {
            let stored = match name {
                AUTH_FILES => self.store_in_file(key, user, password),
                name => only_registries(name, key)
                    .and_then(|()| Helper::open(name, &self.programs)?.store(key.registry(), user, password))
                    .map(|()| Place::Helper { name: name.to_owned(), file: None }),
            };
            match stored {
                Ok(place) => return Ok(place),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        let failed = failed.unwrap_or_else(|| Error::invalid("there is no credential helper, and no auth file"));
        Err(failed.context(format!("storing credentials for {key}")))
    }

    /// Forgets the credentials of a key, and returns whether there were any. Those of other files stay.
    ///
    /// Old forms of a registry's key go too, as they would be found again.
    pub fn erase(&self, key: &AuthKey) -> Result<bool> {
        self.check_key(key)?;
        let mut known = false;
        for name in self.helpers() {
            known |= match name {
                AUTH_FILES => self.erase_in_file(key)?,
                _ if key.is_namespaced() => false,
                name => Helper::open(name, &self.programs)?.erase(key.registry())?,
            };
        }
        Ok(known)
    }

    /// Forgets the credentials of all keys. Which helper has which registry is no secret, and stays.
    pub fn erase_all(&self) -> Result<()> {
        for name in self.helpers() {
            if name == AUTH_FILES {
                self.erase_all_in_file()?;
            } else if let Some(helper) = Helper::find(name, &self.programs)? {
                for server in helper.list()? {
                    helper.erase(&server)?;
                }
            }
        }
        Ok(())
    }

    /// Docker knows nothing of registries.conf.
    fn helpers(&self) -> impl Iterator<Item = &str> {
        let own = match self.style {
            KeyStyle::Containers => self.helpers.as_slice(),
            KeyStyle::Docker => &[],
        };
        let only_the_file = (self.style == KeyStyle::Docker).then_some(AUTH_FILES);
        own.iter().map(String::as_str).chain(only_the_file)
    }

    fn check_key(&self, key: &AuthKey) -> Result<()> {
        if self.style == KeyStyle::Docker && key.is_namespaced() {
            return Err(Error::unsupported(format!(
                "docker's config.json has no credentials for a part of a registry: {key}"
            )));
        }
        Ok(())
    }

    fn written<'a>(&self, key: &'a AuthKey) -> &'a str {
        match self.style {
            KeyStyle::Docker if key.docker_server() == HUB => HUB,
            KeyStyle::Docker | KeyStyle::Containers => key.as_str(),
        }
    }

    fn store_in_file(&self, key: &AuthKey, user: &str, password: &Secret) -> Result<Place> {
        let by_helper = |name: &str| Place::Helper { name: name.to_owned(), file: Some(self.file.clone()) };
        if let Some(parsed) = self.read()? {
            if let Some((name, server)) = parsed.helper(key) {
                only_registries(name, key).context(|| self.frame())?;
                Helper::open(name, &self.programs)?.store(server, user, password)?;
                return Ok(by_helper(name));
            }
            if let Some(name) = parsed.store() {
                only_registries(name, key).context(|| self.frame())?;
                Helper::open(name, &self.programs)?.store(key.docker_server(), user, password)?;
                // As docker does it: the entry tells that the store has it, and holds no password any more.
                self.change(|auths| {
                    auths.set(self.written(key), Field::Object(Object::default()));
                    true
                })?;
                return Ok(by_helper(name));
            }
        }
        self.change(|auths| {
            let mut entry = Object::default();
            entry.set("auth", Field::Text(encode(user, password)));
            auths.set(self.written(key), Field::Object(entry));
            true
        })?;
        Ok(Place::File { path: self.file.clone(), key: self.written(key).to_owned() })
    }

    fn erase_in_file(&self, key: &AuthKey) -> Result<bool> {
        let Some(parsed) = self.read()? else { return Ok(false) };
        let mut known = false;
        if !key.is_namespaced() {
            if let Some((name, server)) = parsed.helper(key) {
                known |= Helper::open(name, &self.programs)?.erase(server)?;
            } else if let Some(name) = parsed.store()
                && let Some(helper) = Helper::find(name, &self.programs)?
            {
                known |= helper.erase(key.docker_server())?;
            }
        }
        let ours = |written: &str| written == key.as_str() || !key.is_namespaced() && key.is_old_form(written, false);
        if !parsed.keys().any(ours) {
            return Ok(known);
        }
        self.change(|auths| auths.remove(ours))?;
        Ok(true)
    }

    fn erase_all_in_file(&self) -> Result<()> {
        let Some(parsed) = self.read()? else { return Ok(()) };
        for (server, name) in parsed.helpers() {
            Helper::open(name, &self.programs)?.erase(server)?;
        }
        if let Some(name) = parsed.store()
            && let Some(helper) = Helper::find(name, &self.programs)?
        {
            for server in parsed.keys() {
                helper.erase(server)?;
            }
        }
        self.change(|auths| auths.remove(|_| true))
    }

    fn frame(&self) -> String {
        format!("in `{}`", display(&self.file))
    }

    /// Reads the file as it is now; `None` if it does not exist.
    fn read(&self) -> Result<Option<Parsed>> {
        let Some((dir, name)) = self.open_dir(Missing::Leave).context(|| self.frame())? else { return Ok(None) };
        let bytes = dir.read(&name, AUTH_FILE)?;
        bytes.map(|bytes| Parsed::parse(&bytes, Format::Current)).transpose().context(|| self.frame())
    }

    /// Changes `auths` under the lock, and writes the file if `edit` says that it changed anything.
    fn change(&self, edit: impl FnOnce(&mut Object) -> bool) -> Result<()> {
        let changing = || -> Result<()> {
            let Some((dir, name)) = self.open_dir(Missing::Make)? else { return Ok(()) };
            let lock_name = [b".", name.as_slice(), b".lock"].concat();
            let _lock = Lock::wait(dir.open_for_update(&lock_name, 0o600)?, Kind::Exclusive)?;
            let bytes = dir.read(&name, AUTH_FILE)?.unwrap_or_else(|| b"{}".to_vec());
            // A file that is not understood is not changed.
            Parsed::parse(&bytes, Format::Current)?;
            let mut document = Object::parse(&bytes)?;
            if edit(document.object(AUTHS)?) {
                dir.write(&name, &document.to_bytes()?, 0o600)?;
            }
            Ok(())
        };
        changing().context(|| self.frame())
    }

    /// Opens the directory of the file, and returns the file's name in it. A symlink is followed, so that it stays.
    fn open_dir(&self, missing: Missing) -> Result<Option<(Dir, Vec<u8>)>> {
        let path = match resolve(&self.file) {
            Ok(path) => path,
            Err(_absent) if !self.file.is_symlink() && !self.file.exists() => self.file.clone(),
            Err(error) => return Err(error),
        };
        let name = path.file_name().ok_or_else(|| Error::invalid("it is not the name of a file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = match missing {
            Missing::Make => Some(create_all_private(parent)?),
            Missing::Leave => Dir::open_if_exists(parent)?,
        };
        Ok(dir.map(|dir| (dir, name.as_bytes().to_vec())))
    }
}

/// What to do about a directory that does not exist.
#[derive(Clone, Copy)]
enum Missing {
    Make,
    Leave,
}

/// Helpers know registries only: what they got for a namespace would never be found again.
fn only_registries(helper: &str, key: &AuthKey) -> Result<()> {
    if !key.is_namespaced() {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "the credential helper `{helper}` keeps the registry's credentials, and knows no parts of a registry"
    ))
    .hint("log in to the registry as a whole, or name another file with --authfile"))
}

/// The user ends at the first `:` of what is sent and kept.
fn check_user(user: &str) -> Result<()> {
    if user.is_empty() || user.contains(':') {
        return Err(Error::new(ErrorKind::Invalid, "a user name is not empty and has no `:`"));
    }
    Ok(())
}
