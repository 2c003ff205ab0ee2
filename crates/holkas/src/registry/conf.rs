//! registries.conf, version 2 and its drop-ins: which hosts are asked for a name, in which order.
//!
//! The rules are those of containers/image 5.23, measured with skopeo 1.9.3 where its manual page is silent.
//!
//! - For reading, the `[[registry]]` with the longest `prefix` of the name's repository decides.
//!   Its mirrors are asked in their order, and itself last.
//! - For everything else the name's own host is asked: neither mirrors nor `location` matter, only `insecure` and
//!   `blocked` do.
//! - `blocked` means each place that is asked, not the name: a registry that is blocked is still read from its mirrors,
//!   which is how a machine is told never to ask the registry itself; and a mirror within a blocked registry is not asked.
//!
//! Two things differ. containers/image asks a blocked registry after all if its `location` is elsewhere, against its
//! manual page; here it is refused. And it cannot use a mirror whose location ends in `/`.

mod file;
mod rewrite;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use file::ShortNameMode;

use crate::error::{Context, Error, Result, printable};
use crate::fs::display;
use crate::reference::Name;

/// The credential helper that is none: auth.json itself.
pub const AUTH_FILE_HELPER: &str = "containers-auth.json";

/// The host that images of `docker.io` are really at.
pub(super) const DOCKER_HUB: &str = "registry-1.docker.io";

/// A configuration file: where it was found, and what is in it.
#[derive(Debug, Clone)]
pub struct ConfFile {
    /// The path, for messages.
    pub path: PathBuf,
    /// The file, whole.
    pub bytes: Vec<u8>,
}

/// What registries.conf and its drop-ins say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistriesConf {
    /// By prefix, which is the order in which the first of several prefixes of one length is found.
    registries: BTreeMap<String, Registry>,
    /// Where credentials are looked for, in this order: helpers by name, and [`AUTH_FILE_HELPER`].
    pub credential_helpers: Vec<String>,
    /// The hosts that an incomplete name may mean. Not used: a name without a host is of docker.io.
    pub unqualified_search_registries: Vec<String>,
    /// How incomplete names are resolved. Not used.
    pub short_name_mode: ShortNameMode,
    /// Names for incomplete names; an empty one takes an alias of an earlier file back. Not used.
    pub aliases: BTreeMap<String, String>,
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    /// Keys that mean nothing, as `FILE:LINE: KEY`: they are ignored, as in containers/image, and may be mistakes.
    pub unknown_keys: Vec<String>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registry {
    /// `None` only if the prefix is `*.…`: then each host is its own location.
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirrors: Vec<Mirror>,
    matched: Matched,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    pull: PullFromMirror,
}

/// `pull-from-mirror`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PullFromMirror {
    All,
    DigestOnly,
    TagOnly,
}

/// Which `[[registry]]` it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Its prefix.
    pub prefix: String,
    /// The file that it is in.
    pub file: PathBuf,
    /// The line that it begins on, counted from 1.
    pub line: usize,
}

/// What a registry is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read an image.
    Pull,
    /// To change something: push or delete.
    Push,
    /// To list tags.
    List,
}

/// Whether it is the name's own registry, or one that has copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// Has copies.
    Mirror,
    /// The registry itself, under its `location`.
    Primary,
}

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name as this place has it: host and repository rewritten, tag and digest as they were.
    pub name: Name,
    /// Whether certificates need not be right, and HTTP without TLS is allowed.
    pub insecure: bool,
    /// Mirror or primary.
    pub kind: EndpointKind,
    /// The `[[registry]]` that brought it here; `None` if no file speaks of the name.
    pub matched: Option<Matched>,
}

/// What becomes of a name: all places in their order, with those that are not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The `[[registry]]` that decided; `None` if no file speaks of the name.
    pub matched: Option<Matched>,
    /// The places. A pull ends with the primary; everything else has no other.
    pub candidates: Vec<Candidate>,
}

/// A place, and why it is not asked, if it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The place.
    pub endpoint: Endpoint,
    /// Why it is not asked.
    pub skipped: Option<Skipped>,
}

/// Why a place is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skipped {
    /// The mirror is for names with a digest, and this has none.
    DigestOnly,
    /// The mirror is for names without a digest, and this has one.
    TagOnly,
    /// This `[[registry]]` says `blocked = true`.
    Blocked(Matched),
}

impl Endpoint {
    /// Returns the host that connections go to, with its port: `registry-1.docker.io` for `docker.io`.
    pub fn authority(&self) -> &str {
        match self.name.host() {
            "docker.io" => DOCKER_HUB,
            host => host,
        }
    }

    /// Returns the host that certificates and credentials are filed under, with its port: `docker.io` stays.
    pub fn host(&self) -> &str {
        self.name.host()
    }

    /// Returns the repository without its host, as it stands in URLs.
    pub fn path(&self) -> &str {
        self.name.path()
    }
}

impl Skipped {
    /// Returns the error of somebody who needed that place.
    pub fn error(&self) -> Error {
        match self {
            Self::DigestOnly => Error::refused("the mirror is for pulls by digest only"),
            Self::TagOnly => Error::refused("the mirror is for pulls by tag only"),
            Self::Blocked(Matched { prefix, file, line }) => Error::refused(format!(
                "registry {} is blocked in {}:{line}",
                printable(prefix.as_bytes()),
                display(file)
            )),
        }
    }
}

impl Default for RegistriesConf {
    /// Returns what holds without any file.
    fn default() -> Self {
        Self {
            registries: BTreeMap::new(),
            credential_helpers: vec![AUTH_FILE_HELPER.to_string()],
            unqualified_search_registries: Vec::new(),
            short_name_mode: ShortNameMode::default(),
            aliases: BTreeMap::new(),
            files: Vec::new(),
            unknown_keys: Vec::new(),
        }
    }
}

impl RegistriesConf {
    /// Parses registries.conf and its drop-ins, which are given in the order in which they apply.
    ///
    /// A `[[registry]]` of a drop-in replaces one of the same prefix whole; a list replaces the list.
    ///
    /// # Errors
    ///
    /// `Invalid`, with file, line, column and key, for anything that is not as it must be.
    pub fn parse(main: Option<&ConfFile>, drop_ins: &[ConfFile]) -> Result<Self> {
        let mut conf = Self::default();
        let files = main.into_iter().map(|file| (file, true)).chain(drop_ins.iter().map(|file| (file, false)));
        for (file, is_main) in files {
            let old_form = if is_main { file::OldForm::Read } else { file::OldForm::Refuse };
            let what = if is_main { "registries configuration" } else { "drop-in registries configuration" };
            let said = file::parse(&file.bytes, &file.path, old_form).context(|| format!("loading {what}"))?;
            conf.registries.extend(said.registries);
            conf.aliases.extend(said.aliases);
            conf.unknown_keys.extend(said.unknown_keys);
            if let Some(hosts) = said.unqualified_search_registries {
                conf.unqualified_search_registries = hosts;
            }
            if let Some(helpers) = said.credential_helpers {
                conf.credential_helpers = helpers;
            }
            if let Some(mode) = said.short_name_mode {
                conf.short_name_mode = mode;
            }
            conf.files.push(file.path.clone());
        }
        if conf.credential_helpers.is_empty() {
            conf.credential_helpers = Self::default().credential_helpers;
        }
        Ok(conf)
    }

    /// Returns the places to ask, in their order. There is at least one.
    ///
    /// # Errors
    ///
    /// `Refused` if nothing is left to ask because the registry is blocked; `Invalid` if a `location` makes no name.
    pub fn endpoints(&self, name: &Name, purpose: Purpose) -> Result<Vec<Endpoint>> {
        self.plan(name, purpose)?.endpoints()
    }

    /// Returns all places for a name with what becomes of each.
    ///
    /// A mirror that is not asked is left out if its location makes no name.
    ///
    /// # Errors
    ///
    /// `Invalid` if a `location` makes no name.
    pub fn plan(&self, name: &Name, purpose: Purpose) -> Result<Plan> {
        let registry = self.find(name);
        let matched = registry.map(|registry| registry.matched.clone());
        let candidates = match (registry, purpose) {
            (Some(registry), Purpose::Pull) => self.sources(registry, name)?,
            (registry, Purpose::Pull | Purpose::Push | Purpose::List) => {
                let endpoint = Endpoint {
                    name: name.clone(),
                    insecure: registry.is_some_and(|registry| registry.insecure),
                    kind: EndpointKind::Primary,
                    matched: matched.clone(),
                };
                vec![Candidate { skipped: registry.and_then(Registry::block), endpoint }]
            }
        };
        Ok(Plan { matched, candidates })
    }

    /// Returns what a registry and its mirrors make of a name that is to be read.
    fn sources(&self, registry: &Registry, name: &Name) -> Result<Vec<Candidate>> {
        let has_digest = name.digest().is_some();
        let candidate = |location: Option<&str>, insecure, kind, skipped: Option<Skipped>| {
            let name = rewrite::rewrite(name, &registry.matched.prefix, location).context(|| {
                let Matched { prefix, file, line } = &registry.matched;
                format!("rewriting {name} by prefix `{}` of {}:{line}", printable(prefix.as_bytes()), display(file))
            })?;
            let skipped = skipped.or_else(|| self.find(&name).and_then(Registry::block));
            Ok(Candidate {
                endpoint: Endpoint { name, insecure, kind, matched: Some(registry.matched.clone()) },
                skipped,
            })
        };
        let mirrors = registry.mirrors.iter().filter_map(|mirror| {
            let pull = if registry.mirror_by_digest_only { PullFromMirror::DigestOnly } else { mirror.pull };
            let skipped = match pull {
                PullFromMirror::DigestOnly if !has_digest => Some(Skipped::DigestOnly),
                PullFromMirror::TagOnly if has_digest => Some(Skipped::TagOnly),
                PullFromMirror::All | PullFromMirror::DigestOnly | PullFromMirror::TagOnly => None,
            };
            let is_skipped = skipped.is_some();
            match candidate(Some(&mirror.location), mirror.insecure, EndpointKind::Mirror, skipped) {
                // Nobody asks it: that its location makes no name out of this one harms nobody.
                Err(_) if is_skipped => None,
                candidate => Some(candidate),
            }
        });
        let primary =
            || candidate(registry.location.as_deref(), registry.insecure, EndpointKind::Primary, registry.block());
        mirrors.chain(std::iter::once_with(primary)).collect()
    }

    /// Returns the `[[registry]]` with the longest prefix of the name's repository.
    fn find(&self, name: &Name) -> Option<&Registry> {
        let mut found: Option<&Registry> = None;
        for registry in self.registries.values() {
            let prefix = &registry.matched.prefix;
            let longer = found.is_none_or(|found| prefix.len() > found.matched.prefix.len());
            if longer && rewrite::matching(name.repository(), prefix).is_some() {
                found = Some(registry);
            }
        }
        found
    }
}

impl Registry {
    fn block(&self) -> Option<Skipped> {
        self.blocked.then(|| Skipped::Blocked(self.matched.clone()))
    }
}

impl Plan {
    /// Returns the places that are asked, in their order. There is at least one.
    ///
    /// # Errors
    ///
    /// `Refused` if nothing is left to ask because the registry is blocked.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        let asked = |candidate: &Candidate| candidate.skipped.is_none().then(|| candidate.endpoint.clone());
        let endpoints: Vec<_> = self.candidates.iter().filter_map(asked).collect();
        match (endpoints.is_empty(), self.primary_skipped()) {
            (true, Some(why)) => Err(why.error()),
            _ => Ok(endpoints),
        }
    }

    /// Returns why the primary is not asked, for the error if no mirror has the image.
    pub fn primary_skipped(&self) -> Option<&Skipped> {
        self.candidates.last().and_then(|primary| primary.skipped.as_ref())
    }
}
