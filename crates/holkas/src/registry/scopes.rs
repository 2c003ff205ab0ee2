//! Scopes of an image in a registry: the names under which a policy speaks of it, most specific first.

use crate::image::PolicyIdentity;
use crate::reference::Name;

/// Returns the scopes of an image in a registry: the image, its repository, the repository's parents up to the host,
/// then `*.example.com` and `*.com` for a host like `registry.example.com`.
///
/// The image is `REPOSITORY:TAG` or `REPOSITORY@DIGEST`; of a name with neither, the repository is the most specific.
/// A port is part of the host's own scope, but not of the wildcards: that is containers-policy.json(5).
pub fn docker_scopes(name: &Name) -> PolicyIdentity {
    let repository = name.repository();
    let mut scopes = Vec::new();
    match (name.digest(), name.tag()) {
        (Some(digest), _) => scopes.push(format!("{repository}@{digest}")),
        (None, Some(tag)) => scopes.push(format!("{repository}:{tag}")),
        (None, None) => {}
    }
    let mut parent = Some(repository);
    while let Some(path) = parent {
        scopes.push(path.to_string());
        parent = path.rsplit_once('/').map(|(parent, _)| parent);
    }
    let mut domain = name.host().split_once(':').map_or(name.host(), |(host, _port)| host);
    while let Some((_, rest)) = domain.split_once('.') {
        scopes.push(format!("*.{rest}"));
        domain = rest;
    }
    PolicyIdentity { transport: "docker", scopes, docker_reference: Some(name.clone()) }
}
