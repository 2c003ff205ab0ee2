//! Scopes: the names under which a policy speaks of images, most specific first.

use std::path::Path;

use crate::error::{Error, Result, printable};
use crate::fs;
use crate::reference::{Driver, StoredImage};

/// Returns the scopes of an image that is known by a path: the path itself, then its parents without `/`.
///
/// That is what containers/image has for `dir`, `oci` and `oci-archive`. An image's name in a layout is no part
/// of it, because the image may be had without the name too. `docker-archive` has no scopes but `""`.
/// The path should have been made absolute and free of symlinks; see [`crate::fs::resolve`].
pub fn of_path(path: &Path) -> Vec<String> {
    // A path that is not UTF-8 is escaped, and so matches no scope but those of its parents.
    path.ancestors().map(fs::display).filter(|scope| scope.len() > 1).collect()
}

/// Returns the scopes of an image in a store.
pub fn of_stored_image(driver: Driver, graph_root: &Path, image: &StoredImage) -> Vec<String> {
    let root = fs::display(graph_root);
    let store = format!("[{driver}@{root}]");
    let mut scopes = Vec::new();
    let id = image.id.as_deref().map(|id| format!("@{id}")).unwrap_or_default();
    match &image.name {
        Some(name) => {
            scopes.push(format!("{store}{name}{id}"));
            scopes.push(format!("{store}{name}"));
            if name.tag().is_some() {
                scopes.push(format!("{store}{}", name.clone().without_digest()));
            }
            let mut repository = Some(name.repository());
            while let Some(path) = repository {
                scopes.push(format!("{store}{path}"));
                repository = path.rsplit_once('/').map(|(parent, _)| parent);
            }
        }
        None => scopes.push(format!("{store}{id}")),
    }
    scopes.push(store);
    scopes.push(format!("[{root}]"));
    scopes.dedup();
    scopes
}

/// Checks that a scope can match anything at all; one that cannot is a mistake that would leave a hole.
pub(super) fn validate(transport: &str, scope: &str) -> Result<()> {
    if scope.is_empty() {
        return Ok(());
    }
    let fine = match transport {
        "dir" | "oci" | "oci-archive" => match scope {
            "/" => return Err(Error::invalid("use the scope \"\" for everything")),
            _ => {
                scope.strip_prefix('/').is_some_and(|path| path.split('/').all(|part| !matches!(part, "" | "." | "..")))
            }
        },
        "containers-storage" => {
            scope.strip_prefix('[').and_then(|rest| rest.split_once(']')).is_some_and(|(store, _)| {
                store.starts_with('/')
                    || store.split_once('@').is_some_and(|(driver, root)| !driver.is_empty() && root.starts_with('/'))
            })
        }
        "docker-archive" | "docker-daemon" | "tarball" => {
            return Err(Error::invalid("this transport has no scope but \"\""));
        }
        _ => true,
    };
    if fine {
        return Ok(());
    }
    let form = match transport {
        "containers-storage" => "[DRIVER@GRAPHROOT]NAME or a part of that",
        _ => "an absolute path without `.`, `..` and double or trailing slashes",
    };
    Err(Error::invalid(format!("`{}` is not a scope of this transport", printable(scope.as_bytes())))
        .hint(format!("a scope of `{transport}` is {form}")))
}
