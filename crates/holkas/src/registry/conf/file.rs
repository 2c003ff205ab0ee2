//! One registries.conf or drop-in: its keys, their types and what contradicts itself.
//!
//! Unknown keys are ignored and keys are found in any case (`Blocked`), as in containers/image. A key that is there in
//! two cases is refused: which of them containers/image takes is chance.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::path::Path;

use toml::de::{DeArray, DeTable};

use super::{Matched, Mirror, PullFromMirror, Registry};
use crate::configuration::{Entry, TomlText};
use crate::error::{Error, Result, printable};
use crate::fs::display;
use crate::reference::is_host;

/// How an incomplete name is resolved by programs that do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShortNameMode {
    /// The search registries are all tried.
    Disabled,
    /// A person is asked, or it fails.
    Enforcing,
    /// A person is asked, or the search registries are all tried.
    #[default]
    Permissive,
}

/// What is done with a file in the form of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OldForm {
    Read,
    Refuse,
}

/// What one file says. `None` where it says nothing.
pub(super) struct Said {
    pub(super) registries: BTreeMap<String, Registry>,
    pub(super) unqualified_search_registries: Option<Vec<String>>,
    pub(super) credential_helpers: Option<Vec<String>>,
    pub(super) short_name_mode: Option<ShortNameMode>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) unknown_keys: Vec<String>,
}

/// Parses a file; `path` names it in errors.
pub(super) fn parse(bytes: &[u8], path: &Path, old_form: OldForm) -> Result<Said> {
    let text = TomlText::new(bytes, path)?;
    let document = text.document()?;
    File { text, unknown_keys: Vec::new() }.document(document.get_ref(), old_form)
}

struct File<'a> {
    text: TomlText<'a>,
    unknown_keys: Vec<String>,
}

/// The known keys of a table.
type Keys<'a, 'i> = BTreeMap<&'static str, Entry<'a, 'i>>;

impl File<'_> {
    fn document(mut self, document: &DeTable<'_>, old_form: OldForm) -> Result<Said> {
        let keys = self.keys(
            document,
            "",
            &[
                "registry",
                "unqualified-search-registries",
                "credential-helpers",
                "short-name-mode",
                "aliases",
                "registries",
            ],
        )?;
        let mut registries = Vec::new();
        if let Some(entry) = keys.get("registry") {
            for (n, value) in self.array(entry, "[[registry]] tables")?.iter().enumerate() {
                registries.push(self.registry(&Entry { key: format!("[[registry]] {}", n + 1), value })?);
            }
        }
        let mut hosts = keys.get("unqualified-search-registries").map(|entry| self.hosts(entry)).transpose()?;
        let helpers = keys.get("credential-helpers").map(|entry| self.strings(entry)).transpose()?;
        let mode = keys.get("short-name-mode").map(|entry| self.mode(entry)).transpose()?.flatten();
        let aliases = keys.get("aliases").map_or(Ok(BTreeMap::new()), |entry| self.aliases(entry))?;
        if let Some(entry) = keys.get("registries")
            && let Some(old) = self.old_form(entry)?
        {
            let fault = match old_form {
                OldForm::Refuse => Some("registry must be in v2 format but is in v1"),
                OldForm::Read => {
                    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
                    let new = !registries.is_empty() || some(&hosts) || some(&helpers) || mode.is_some();
                    (new || !aliases.is_empty()).then_some("mixing sysregistry v1/v2 is not supported")
                }
            };
            if let Some(fault) = fault {
                return self.text.at(
                    entry,
                    Err(Error::invalid(fault).hint(
                        "write a [[registry]] with `location` and `insecure` or `blocked` instead of [registries.…]",
                    )),
                );
            }
            registries = old.registries;
            hosts = Some(old.search);
        }
        Ok(Said {
            registries: self.unique(registries)?,
            unqualified_search_registries: hosts,
            credential_helpers: helpers,
            short_name_mode: mode,
            aliases,
            unknown_keys: self.unknown_keys,
        })
    }

    fn registry(&mut self, entry: &Entry<'_, '_>) -> Result<Registry> {
        let keys = self.keys(
            self.table(entry)?,
            &entry.key,
            &["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "pull-from-mirror", "mirror"],
        )?;
        let location = keys.get("location").map(|entry| self.location(entry)).transpose()?.flatten();
        let prefix = keys.get("prefix").map(|entry| self.location(entry)).transpose()?.flatten();
        let prefix = match (prefix, &location) {
            (Some(prefix), Some(_)) => prefix,
            (Some(prefix), None) if prefix.starts_with("*.") => prefix,
            (Some(_), None) => {
                return self.text.at(
                    entry,
                    Err(Error::invalid(
                        "invalid condition: location is unset and prefix is not in the format: *.example.com",
                    )),
                );
            }
            (None, Some(location)) => location.clone(),
            (None, None) => {
                return self
                    .text
                    .at(entry, Err(Error::invalid("invalid condition: both location and prefix are unset")));
            }
        };
        if prefix.starts_with("*.") && prefix.contains(['/', '@', ':']) {
            let entry = keys.get("prefix").unwrap_or(entry);
            return self.text.at(
                entry,
                Err(Error::invalid(format!(
                    "wildcarded prefix should be in the format: *.example.com; `{}` is not",
                    printable(prefix.as_bytes())
                ))),
            );
        }
        if let Some(entry) = keys.get("pull-from-mirror")
            && !self.string(entry)?.is_empty()
        {
            return self
                .text
                .at(entry, Err(Error::invalid("pull-from-mirror must not be set for a non-mirror registry")));
        }
        let mirror_by_digest_only = self.bool(keys.get("mirror-by-digest-only"))?;
        let mut mirrors = Vec::new();
        if let Some(list) = keys.get("mirror") {
            for (n, value) in self.array(list, "[[registry.mirror]] tables")?.iter().enumerate() {
                let key = format!("[[registry.mirror]] {} of {}", n + 1, entry.key);
                mirrors.push(self.mirror(&Entry { key, value }, mirror_by_digest_only)?);
            }
        }
        Ok(Registry {
            location,
            insecure: self.bool(keys.get("insecure"))?,
            blocked: self.bool(keys.get("blocked"))?,
            mirror_by_digest_only,
            mirrors,
            matched: self.matched(prefix, entry),
        })
    }

    fn mirror(&mut self, entry: &Entry<'_, '_>, by_digest_only: bool) -> Result<Mirror> {
        let keys = self.keys(self.table(entry)?, &entry.key, &["location", "insecure", "pull-from-mirror"])?;
        let location = keys.get("location").map(|entry| self.location(entry)).transpose()?.flatten();
        let Some(location) = location else {
            return self.text.at(entry, Err(Error::invalid("invalid condition: mirror location is unset")));
        };
        let pull = match keys.get("pull-from-mirror") {
            None => PullFromMirror::All,
            Some(entry) => match self.string(entry)? {
                "" => PullFromMirror::All,
                _ if by_digest_only => {
                    return self.text.at(entry, Err(Error::invalid(
                        "cannot set mirror-by-digest-only for the registry and pull-from-mirror for a mirror at the same time",
                    )));
                }
                "all" => PullFromMirror::All,
                "digest-only" => PullFromMirror::DigestOnly,
                "tag-only" => PullFromMirror::TagOnly,
                other => {
                    return self.text.at(
                        entry,
                        Err(Error::invalid(format!(
                            "unsupported pull-from-mirror value `{}`",
                            printable(other.as_bytes())
                        ))
                        .hint("it is all, digest-only or tag-only")),
                    );
                }
            },
        };
        Ok(Mirror { location, insecure: self.bool(keys.get("insecure"))?, pull })
    }

    /// Reads `[registries.search]`, `[registries.insecure]` and `[registries.block]`; `None` if they list nothing.
    fn old_form(&mut self, entry: &Entry<'_, '_>) -> Result<Option<Old>> {
        let keys = self.keys(self.table(entry)?, "[registries]", &["search", "insecure", "block"])?;
        let mut old = Old { search: Vec::new(), registries: Vec::new() };
        let mut by_location: BTreeMap<String, Registry> = BTreeMap::new();
        for key in ["search", "block", "insecure"] {
            let Some(part) = keys.get(key) else { continue };
            let lists = self.keys(self.table(part)?, &format!("[registries.{key}]"), &["registries"])?;
            let Some(list) = lists.get("registries") else { continue };
            if key == "search" {
                old.search = self.hosts(list)?;
                continue;
            }
            for value in self.array(list, "a list of strings")?.iter() {
                let entry = Entry { key: list.key.clone(), value };
                let Some(location) = self.location(&entry)? else {
                    return self.text.at(&entry, Err(Error::invalid("the string is empty")));
                };
                let registry = by_location.entry(location.clone()).or_insert_with(|| Registry {
                    location: Some(location.clone()),
                    insecure: false,
                    blocked: false,
                    mirror_by_digest_only: false,
                    mirrors: Vec::new(),
                    matched: self.matched(location, &entry),
                });
                registry.insecure |= key == "insecure";
                registry.blocked |= key == "block";
            }
        }
        old.registries = by_location.into_values().collect();
        Ok((!old.search.is_empty() || !old.registries.is_empty()).then_some(old))
    }

    /// Returns the registries by prefix. Of several with one prefix the first counts, as in containers/image;
    /// but what all with one location say of it must agree.
    fn unique(&self, registries: Vec<Registry>) -> Result<BTreeMap<String, Registry>> {
        let mut by_location: BTreeMap<String, (bool, bool, usize)> = BTreeMap::new();
        let mut unique = BTreeMap::new();
        for registry in registries {
            let location = registry.location.as_ref().unwrap_or(&registry.matched.prefix);
            let says = (registry.insecure, registry.blocked, registry.matched.line);
            match by_location.entry(location.clone()) {
                Place::Vacant(place) => {
                    place.insert(says);
                }
                Place::Occupied(place) => {
                    let (insecure, blocked, line) = *place.get();
                    let contradicted = match (insecure != says.0, blocked != says.1) {
                        (true, _) => "insecure",
                        (false, true) => "blocked",
                        (false, false) => "",
                    };
                    if !contradicted.is_empty() {
                        return Err(Error::invalid(format!(
                            "registry '{}' is defined multiple times with conflicting '{contradicted}' setting, on line {line} and on line {}",
                            printable(location.as_bytes()),
                            says.2
                        ))
                        .context(format!("{}:{}: reading [[registry]]", display(self.text.path()), says.2)));
                    }
                }
            }
            unique.entry(registry.matched.prefix.clone()).or_insert(registry);
        }
        Ok(unique)
    }

    fn matched(&self, prefix: String, entry: &Entry<'_, '_>) -> Matched {
        Matched { prefix, file: self.text.path().to_path_buf(), line: self.text.line(entry.value.span().start) }
    }

    /// Takes a table apart. Unknown keys are noted and otherwise ignored.
    fn keys<'a, 'i>(&mut self, table: &'a DeTable<'i>, what: &str, known: &[&'static str]) -> Result<Keys<'a, 'i>> {
        let mut keys = Keys::new();
        for (name, value) in table.iter() {
            let text: &str = name.get_ref();
            let shown = printable(text.as_bytes());
            let key = format!("`{shown}`{}{what}", if what.is_empty() { "" } else { " of " });
            match known.iter().find(|known| known.eq_ignore_ascii_case(text)) {
                None => {
                    let line = self.text.line(name.span().start);
                    self.unknown_keys.push(format!("{}:{line}: {key}", display(self.text.path())));
                }
                Some(known) => {
                    if keys.insert(*known, Entry { key: key.clone(), value }).is_some() {
                        let error = Error::invalid(format!("the key `{known}` is there in two cases of its letters"));
                        return Err(self.text.error(&key, &name.span(), error));
                    }
                }
            }
        }
        Ok(keys)
    }

    fn table<'v, 'i>(&self, entry: &Entry<'v, 'i>) -> Result<&'v DeTable<'i>> {
        match entry.value.get_ref().as_table() {
            Some(table) => Ok(table),
            None => self.text.wrong_type(entry, "a table"),
        }
    }

    fn array<'v, 'i>(&self, entry: &Entry<'v, 'i>, wanted: &str) -> Result<&'v DeArray<'i>> {
        match entry.value.get_ref().as_array() {
            Some(array) => Ok(array),
            None => self.text.wrong_type(entry, wanted),
        }
    }

    fn string<'v>(&self, entry: &Entry<'v, '_>) -> Result<&'v str> {
        match entry.value.get_ref().as_str() {
            Some(text) => Ok(text),
            None => self.text.wrong_type(entry, "a string"),
        }
    }

    fn bool(&self, entry: Option<&Entry<'_, '_>>) -> Result<bool> {
        match entry.map(|entry| (entry, entry.value.get_ref().as_bool())) {
            None => Ok(false),
            Some((_, Some(value))) => Ok(value),
            Some((entry, None)) => self.text.wrong_type(entry, "true or false"),
        }
    }

    fn strings(&self, entry: &Entry<'_, '_>) -> Result<Vec<String>> {
        let values = self.array(entry, "a list of strings")?.iter();
        values.map(|value| self.string(&Entry { key: entry.key.clone(), value }).map(str::to_string)).collect()
    }

    /// Returns a prefix or location without slashes at its end; `None` if nothing is left.
    fn location(&self, entry: &Entry<'_, '_>) -> Result<Option<String>> {
        let text = self.string(entry)?.trim_end_matches('/');
        if text.starts_with("http://") || text.starts_with("https://") {
            let shown = printable(text.as_bytes());
            return self.text.at(
                entry,
                Err(Error::invalid(format!("invalid location '{shown}': URI schemes are not supported"))
                    .hint("write HOST[:PORT][/PATH], and `insecure = true` to allow HTTP without TLS")),
            );
        }
        Ok(Some(text).filter(|text| !text.is_empty()).map(str::to_string))
    }

    fn hosts(&self, entry: &Entry<'_, '_>) -> Result<Vec<String>> {
        let mut hosts = Vec::new();
        for value in self.array(entry, "a list of strings")?.iter() {
            let entry = Entry { key: entry.key.clone(), value };
            match self.location(&entry)?.filter(|host| is_host(host)) {
                Some(host) => hosts.push(host),
                None => return self.text.at(&entry, Err(Error::invalid("it is not HOST or HOST:PORT"))),
            }
        }
        Ok(hosts)
    }

    fn mode(&self, entry: &Entry<'_, '_>) -> Result<Option<ShortNameMode>> {
        Ok(Some(match self.string(entry)? {
            "" => return Ok(None),
            "disabled" => ShortNameMode::Disabled,
            "enforcing" => ShortNameMode::Enforcing,
            "permissive" => ShortNameMode::Permissive,
            other => {
                let error = Error::invalid(format!("invalid short-name mode: `{}`", printable(other.as_bytes())));
                return self.text.at(entry, Err(error.hint("it is disabled, enforcing or permissive")));
            }
        }))
    }

    fn aliases(&self, entry: &Entry<'_, '_>) -> Result<BTreeMap<String, String>> {
        let table = self.table(entry)?.iter();
        table
            .map(|(name, value)| {
                let name: &str = name.get_ref();
                let entry = Entry { key: format!("`{}` of [aliases]", printable(name.as_bytes())), value };
                Ok((name.to_string(), self.string(&entry)?.to_string()))
            })
            .collect()
    }
}

/// What version 1 says.
struct Old {
    search: Vec<String>,
    registries: Vec<Registry>,
}
