//! One auth.json: parsing and looking up.
//!
//! ```json
//! {
//!   "auths": { "HOST[:PORT][/PATH]": { "auth": "base64 of USER:PASSWORD", "identitytoken": "…" } },
//!   "credHelpers": { "HOST[:PORT]": "NAME" },
//!   "credsStore": "NAME"
//! }
//! ```
//!
//! The legacy `~/.dockercfg` is the inside of `auths` alone, and its keys are URLs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::helper;
use super::key::{AuthKey, without_userinfo};
use super::{Credentials, Secret};
use crate::error::{Context, Error, Result};
use crate::oci::json;

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// auth.json, and docker's config.json.
    Current,
    /// `~/.dockercfg`: the entries without anything around them.
    Legacy,
}

/// The keys of a file that are understood; all others are left alone.
pub(super) const AUTHS: &str = "auths";
pub(super) const CRED_HELPERS: &str = "credHelpers";
pub(super) const CREDS_STORE: &str = "credsStore";
const KNOWN: [&str; 3] = [AUTHS, CRED_HELPERS, CREDS_STORE];
const KNOWN_OF_ENTRY: [&str; 2] = ["auth", "identitytoken"];

/// A file, parsed. Entries are decoded when they are looked up: one that is damaged does not hide the others.
pub(super) struct Parsed {
    format: Format,
    auths: Map<String, Value>,
    helpers: Vec<(String, String)>,
    store: Option<String>,
}

/// What a file says of a key.
pub(super) enum Hit<'a> {
    /// Nothing: the next file is asked.
    Nothing,
    /// Credentials.
    Entry { key: &'a str, user: Option<String>, credentials: Credentials },
    /// A helper has them, under this name of the registry.
    Helper { name: &'a str, server: &'a str },
    /// Docker's store for all registries may have them; `expected` if the file says that it does.
    Store { name: &'a str, server: &'a str, expected: bool },
}

impl Parsed {
    pub(super) fn parse(bytes: &[u8], format: Format) -> Result<Self> {
        let mut fields = json::parse_object(bytes)?;
        if format == Format::Legacy {
            return Ok(Self { format, auths: entries(fields)?, helpers: Vec::new(), store: None });
        }
        exact_keys(&fields, &KNOWN)?;
        let mut helpers = Vec::new();
        for (key, name) in object(fields.remove(CRED_HELPERS), CRED_HELPERS)? {
            let frame = || format!("`{CRED_HELPERS}`, key `{}`", without_userinfo(&key));
            let name = string(Some(&name), "the helper").context(frame)?.unwrap_or_default();
            helper::check_name(name).context(frame)?;
            let name = name.to_owned();
            helpers.push((key, name));
        }
        let store = string(fields.get(CREDS_STORE), "it").context(|| format!("`{CREDS_STORE}`"))?;
        let store = store.filter(|name| !name.is_empty()).map(str::to_owned);
        if let Some(name) = &store {
            helper::check_name(name).context(|| format!("`{CREDS_STORE}`"))?;
        }
        let auths = entries(object(fields.remove(AUTHS), AUTHS)?).context(|| format!("`{AUTHS}`"))?;
        Ok(Self { format, auths, helpers, store })
    }

    /// Returns the credentials for a key, or who has them.
    pub(super) fn find<'a>(&'a self, key: &'a AuthKey) -> Result<Hit<'a>> {
        if let Some((name, server)) = self.helper(key) {
            return Ok(Hit::Helper { name, server });
        }
        let mut expected = false;
        for (written, entry) in self.matching(key) {
            let frame = || format!("entry `{}`", without_userinfo(written));
            match decode(entry).context(frame)? {
                Some((user, credentials)) => return Ok(Hit::Entry { key: written, user, credentials }),
                // Docker leaves an empty entry where a helper has the secret.
                None => expected = true,
            }
        }
        let Some(name) = &self.store else { return Ok(Hit::Nothing) };
        Ok(Hit::Store { name, server: key.docker_server(), expected })
    }

    /// Returns the helper that `credHelpers` has for a registry, and what the registry is called to it.
    ///
    /// A namespace has no helper of its own: its registry's has it too.
    pub(super) fn helper<'a>(&'a self, key: &'a AuthKey) -> Option<(&'a str, &'a str)> {
        let exact = self.helpers.iter().find(|(written, _)| written == key.registry());
        if let Some((_, name)) = exact {
            return Some((name, key.registry()));
        }
        let old = self.helpers.iter().find(|(written, _)| key.is_old_form(written, false));
        old.map(|(_, name)| (name.as_str(), key.docker_server()))
    }

    /// Returns all of `credHelpers`.
    pub(super) fn helpers(&self) -> &[(String, String)] {
        &self.helpers
    }

    /// Returns the helper that docker uses for all other registries.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// Returns the keys of all entries.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.auths.keys().map(String::as_str)
    }

    /// Returns the entries that speak of a key: from the most specific to the registry's, then old forms of that.
    fn matching<'a>(&'a self, key: &'a AuthKey) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let legacy = self.format == Format::Legacy;
        // Namespaces came with the current format.
        let exact = key.lookups().filter(move |lookup| !legacy || *lookup == key.registry());
        let exact = exact.filter_map(|lookup| self.auths.get_key_value(lookup));
        let old = self.auths.iter();
        let old = old.filter(move |(written, _)| *written != key.registry() && key.is_old_form(written, legacy));
        exact.chain(old).map(|(written, entry)| (written.as_str(), entry))
    }
}

/// Returns an error if a key that is understood is written in other letters: Go's readers take it for the same,
/// and would see another file than we do.
fn exact_keys(fields: &Map<String, Value>, known: &[&str]) -> Result<()> {
    let other = |key: &&String| known.iter().any(|known| known.eq_ignore_ascii_case(key) && known != key);
    match fields.keys().find(other) {
        Some(key) => {
            Err(Error::invalid(format!("the key `{key}` is ambiguous: some readers see its letters as small")))
        }
        None => Ok(()),
    }
}

fn object(value: Option<Value>, name: &str) -> Result<Map<String, Value>> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(Error::invalid(format!("`{name}` is not an object"))),
    }
}

fn string<'a>(value: Option<&'a Value>, name: &str) -> Result<Option<&'a str>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::invalid(format!("{name} is not a string"))),
    }
}

fn entries(map: Map<String, Value>) -> Result<Map<String, Value>> {
    for (key, entry) in &map {
        let frame = || format!("entry `{}`", without_userinfo(key));
        match entry {
            Value::Object(fields) => exact_keys(fields, &KNOWN_OF_ENTRY).context(frame)?,
            Value::Null => {}
            _ => return Err(Error::invalid("it is not an object")).context(frame),
        }
    }
    Ok(map)
}

/// Returns the user and the credentials of an entry; `None` if it is empty.
///
/// An identity token counts before the password, as in containers/image, and also without `auth`, as in docker.
fn decode(entry: &Value) -> Result<Option<(Option<String>, Credentials)>> {
    let token = string(entry.get("identitytoken"), "`identitytoken`")?.filter(|token| !token.is_empty());
    let auth = string(entry.get("auth"), "`auth`")?.filter(|auth| !auth.is_empty());
    let basic = auth.map(user_and_password).transpose()?;
    Ok(match (token, basic) {
        (Some(token), basic) => Some((basic.map(|(user, _)| user), Credentials::IdentityToken(Secret::new(token)))),
        (None, Some((user, password))) => Some((Some(user.clone()), Credentials::Basic { user, password })),
        (None, None) => None,
    })
}

/// No error here says what was found in the place of what was expected: it may be a password.
fn user_and_password(auth: &str) -> Result<(String, Secret)> {
    // Go's decoder passes over line ends.
    let auth: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let decoded = STANDARD.decode(auth).map_err(|_| Error::invalid("`auth` is not base64"))?;
    let text = String::from_utf8(decoded).map_err(|_| Error::invalid("`auth` is not UTF-8 within its base64"))?;
    let (user, password) =
        text.split_once(':').ok_or_else(|| Error::invalid("`auth` is not USER:PASSWORD within its base64: no `:`"))?;
    // Docker once padded passwords.
    Ok((user.to_owned(), Secret::new(password.trim_matches('\0'))))
}

/// Returns the entry that holds a user and a password.
pub(super) fn encode(user: &str, password: &Secret) -> String {
    STANDARD.encode(format!("{user}:{}", password.expose()))
}
