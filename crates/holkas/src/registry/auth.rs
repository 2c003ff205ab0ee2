//! What we tell a registry about ourselves: where credentials are found, and in which order.
//!
//! | file | what it owns |
//! |---|---|
//! | `key` | what credentials are kept for: a registry, a namespace, a repository |
//! | `file` | one auth.json: parsing and looking up |
//! | `object` | a JSON object that is changed without touching the rest of it |
//! | `helper` | credential helpers: the only programs that this library runs |
//! | `write` | login and logout: changing one file, or what a helper keeps |
//!
//! Reading follows containers/image 5.36; where docker's own readers differ, the difference is told where it is made.
//! Nothing here knows where such files are: the paths come in.

mod file;
mod helper;
mod key;
mod object;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use file::Format;
pub use key::AuthKey;
pub use write::{AuthStore, KeyStyle, login};

use crate::error::{Context, Result};
use crate::fs::display;
use crate::fs::named::{Kind, read_file_or_pipe};
use crate::limits::AUTH_FILE;
use file::{Hit, Parsed};
use helper::Helper;

/// The member of `credential-helpers` in registries.conf that means the auth files.
pub const AUTH_FILES: &str = "containers-auth.json";

/// The user that a helper gives with an identity token instead of a password.
const TOKEN_USER: &str = "<token>";

/// A password or a token. It is never shown, not even by `{:?}`, and goes into no error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for whom it is meant: a registry, a helper or a file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a registry is told about us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password, or what the registry takes in its place.
        password: Secret,
    },
    /// An OAuth2 refresh token: it is changed for an access token by the registry's token server.
    IdentityToken(Secret),
    /// An access token that is sent as it is, as `--registry-token` has it.
    Bearer(Secret),
}

/// Where credentials were found or put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: there are none.
    Nowhere,
    /// An entry of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        key: String,
    },
    /// A credential helper.
    Helper {
        /// Its name, without `docker-credential-`.
        name: String,
        /// The file that names it; `None` if registries.conf does.
        file: Option<PathBuf>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("nowhere"),
            Self::File { path, key } => write!(f, "entry `{}` of `{}`", key::without_userinfo(key), display(path)),
            Self::Helper { name, file: Some(path) } => {
                write!(f, "credential helper `{name}`, named by `{}`", display(path))
            }
            Self::Helper { name, file: None } => write!(f, "credential helper `{name}`, named by registries.conf"),
        }
    }
}

/// Credentials, and where they are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The credentials; `Anonymous` if none were found.
    pub credentials: Credentials,
    /// The user, where one is known: an identity token may stand beside one.
    pub user: Option<String>,
    /// Where they are from.
    pub place: Place,
}

impl Found {
    fn nothing() -> Self {
        Self { credentials: Credentials::Anonymous, user: None, place: Place::Nowhere }
    }
}

/// A file that may hold credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFile {
    /// Its path; nothing need be there. It may be a pipe.
    pub path: PathBuf,
    /// How it is laid out.
    pub format: Format,
}

/// Where credentials are looked for.
#[derive(Debug, Clone)]
pub struct AuthFiles {
    files: Vec<AuthFile>,
    helpers: Vec<String>,
    programs: Vec<PathBuf>,
    pipes: Pipes,
}

/// What was read from pipes, which give it only once.
#[derive(Clone, Default)]
struct Pipes(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

impl fmt::Debug for Pipes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipes(***)")
    }
}

impl AuthFiles {
    /// Makes the look-up. `files` are in the order in which they are asked, and the first credentials count.
    ///
    /// `helpers` is `credential-helpers` of registries.conf, `[AUTH_FILES]` where that has none.
    /// `programs` are the directories that helpers are in, as in `PATH`.
    pub fn new(files: Vec<AuthFile>, helpers: Vec<String>, programs: Vec<PathBuf>) -> Self {
        Self { files, helpers, programs, pipes: Pipes::default() }
    }

    /// Returns the files, in the order in which they are asked.
    pub fn files(&self) -> &[AuthFile] {
        &self.files
    }

    /// Returns the credentials for a repository, a namespace or a registry; `Anonymous` if there are none.
    ///
    /// The helpers are asked in their order. As in containers/image, one that fails does not keep the next from being
    /// asked; its error is returned if none of them has credentials, rather than going on without.
    pub fn find(&self, key: &AuthKey) -> Result<Found> {
        let mut failed = None;
        for name in &self.helpers {
            let found = match name.as_str() {
                AUTH_FILES => self.find_in_files(key),
                name => self.ask(name, key.registry(), None),
            };
            match found {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(Found::nothing()), Err).context(|| format!("looking up credentials for {key}"))
    }

    fn find_in_files(&self, key: &AuthKey) -> Result<Option<Found>> {
        for file in &self.files {
            if let Some(found) = self.find_in(file, key).context(|| format!("in `{}`", display(&file.path)))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_in(&self, file: &AuthFile, key: &AuthKey) -> Result<Option<Found>> {
        let Some(bytes) = self.read(&file.path)? else { return Ok(None) };
        let parsed = Parsed::parse(&bytes, file.format)?;
        match parsed.find(key)? {
            Hit::Nothing => Ok(None),
            Hit::Entry { key, user, credentials } => {
                let place = Place::File { path: file.path.clone(), key: key.to_owned() };
                Ok(Some(Found { credentials, user, place }))
            }
            Hit::Helper { name, server } => self.ask(name, server, Some(&file.path)),
            Hit::Store { name, server, expected } => {
                // Podman and skopeo do not know `credsStore`: where docker has stored nothing, a helper that is not
                // even installed must not keep us from what they would do.
                match Helper::find(name, &self.programs)? {
                    None if !expected => Ok(None),
                    _ => self.ask(name, server, Some(&file.path)),
                }
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let mut pipes = self.pipes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = pipes.get(path) {
            return Ok(Some(bytes.clone()));
        }
        let Some((bytes, kind)) = read_file_or_pipe(path, AUTH_FILE)? else { return Ok(None) };
        if kind == Kind::Pipe {
            pipes.insert(path.to_path_buf(), bytes.clone());
        }
        Ok(Some(bytes))
    }

    fn ask(&self, name: &str, server: &str, file: Option<&Path>) -> Result<Option<Found>> {
        let Some((user, secret)) = Helper::open(name, &self.programs)?.get(server)? else { return Ok(None) };
        let place = Place::Helper { name: name.to_owned(), file: file.map(Path::to_path_buf) };
        Ok(Some(match user.as_str() {
            TOKEN_USER => Found { credentials: Credentials::IdentityToken(secret), user: None, place },
            _ => Found {
                credentials: Credentials::Basic { user: user.clone(), password: secret },
                user: Some(user),
                place,
            },
        }))
    }
}
