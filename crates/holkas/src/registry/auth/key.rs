//! What credentials are kept for: a registry, or a namespace or repository of it.

use std::fmt;

use crate::error::{Error, Result, printable};
use crate::reference::Name;
use crate::reference::name::{is_component, is_host};

/// What docker calls Docker Hub, in its files and to its helpers.
pub(super) const HUB: &str = "https://index.docker.io/v1/";

/// A registry (`HOST[:PORT]`), or a namespace or repository of it (`HOST[:PORT]/PATH`), without tag and digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthKey(String);

impl AuthKey {
    /// Parses a key as people type it. As in skopeo, a URL (`https://HOST/…`) means its host.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Err(Error::invalid(format!("`{}` is no registry: {why}", without_userinfo(text))));
        let key = match without_scheme(text) {
            Some(rest) => rest.split('/').next().unwrap_or_default(),
            None => text,
        };
        if key.contains('@') {
            return invalid("it must have neither a user nor a digest");
        }
        let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
        if !is_host(host) {
            return invalid("its form is not HOST[:PORT][/PATH]");
        }
        if path.is_some_and(|path| path.contains(':')) {
            return invalid("credentials are kept for repositories, not for tags");
        }
        if path.is_some_and(|path| !path.split('/').all(is_component)) {
            return invalid("the path after the host is not one of a repository");
        }
        Ok(Self(key.to_owned()))
    }

    /// Returns the registry: `HOST[:PORT]`.
    pub fn registry(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Returns the key as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is a part of a registry only.
    pub fn is_namespaced(&self) -> bool {
        self.0.contains('/')
    }

    /// Returns the key and all above it, the most specific first, the registry last.
    pub(super) fn lookups(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |key| key.rsplit_once('/').map(|(above, _)| above))
    }

    /// Returns what docker calls the registry to its helpers.
    pub(super) fn docker_server(&self) -> &str {
        if normal_host(self.registry()) == normal_host("docker.io") { HUB } else { self.registry() }
    }

    /// Returns whether a key of a file is another, older way to write the registry.
    pub(super) fn is_old_form(&self, written: &str, legacy: bool) -> bool {
        let rest = without_scheme(written);
        let host = match rest {
            None if !legacy => written,
            rest => rest.unwrap_or(written).split('/').next().unwrap_or_default(),
        };
        normal_host(host) == normal_host(self.registry())
    }
}

impl From<&Name> for AuthKey {
    fn from(name: &Name) -> Self {
        Self(name.repository().to_owned())
    }
}

impl fmt::Display for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))
}

/// Docker Hub has three names, and one account for all.
fn normal_host(host: &str) -> &str {
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        host => host,
    }
}

/// Returns a key of a file, or what was typed as one, for messages: printable, and without `user:password@`.
pub(super) fn without_userinfo(key: &str) -> String {
    match key.rsplit_once('@') {
        Some((_, rest)) => format!("***@{}", printable(rest.as_bytes())),
        None => printable(key.as_bytes()),
    }
}
