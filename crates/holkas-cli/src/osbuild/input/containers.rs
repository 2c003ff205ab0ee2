//! `org.osbuild.containers`: images that a source fetched, and archives that pipelines built.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, Result, printable};
use holkas::fs::{Dir, display};
use serde_json::{Map, Value, json};

use super::{Origin, Request, place};
use crate::osbuild::mounts::{Mounts, Reach};
use crate::osbuild::source::{check_image, exact};
use crate::osbuild::store_api::StoreApi;

/// Mounts the images.
pub(super) fn map(request: &Request, mounts: &mut Mounts) -> Result<Map<String, Value>> {
    let store = request.store()?;
    let mut archives = Map::new();
    match request.origin {
        Origin::Source => {
            let images = store.source("org.osbuild.containers")?;
            for (id, name) in &request.refs {
                let frame = || format!("mapping image {}", printable(id.as_bytes()));
                map_image(&images, id, &request.target, mounts).context(frame)?;
                archives.insert(id.clone(), json!({ "format": "dir", "name": name }));
            }
        }
        Origin::Pipeline => {
            for (object, name) in &request.refs {
                let frame = || format!("mapping the archive of pipeline object {}", printable(object.as_bytes()));
                let key = match request.refs.len() {
                    1 => only_archive(&store, object, &request.target),
                    _ => one_archive(&store, object, &request.target, mounts),
                };
                archives.insert(key.context(frame)?, json!({ "format": "oci-archive", "name": name }));
            }
        }
    }
    Ok(archives)
}

/// Mounts an image of the store, and makes sure that it is the one.
fn map_image(images: &Path, id: &str, target: &Path, mounts: &mut Mounts) -> Result<()> {
    let digest = exact(id)?;
    let image = images.join(id).join("image");
    if !image.is_dir() {
        return Err(Error::not_found(format!("the store has no image {id}: `{}` is no directory", display(&image)))
            .hint("an item of the manifest's source org.osbuild.skopeo must have the ID as its key, and be fetched"));
    }
    let place = place(target, id)?;
    mounts.bind(&image, &place, Reach::Alone)?;
    // What is seen now stays, even if another build has another manifest put into its place.
    check_image(&place, &digest).map(drop).map_err(|error| {
        error
            .context(format!("`{}` is not image {id}", display(&image)))
            .hint("remove the directory, so that the source fetches the image again")
    })
}

/// Has the one tree mounted at the target itself, as stages know it, and returns the name of its archive.
fn only_archive(store: &StoreApi, object: &str, target: &Path) -> Result<String> {
    Dir::create_all(target)?;
    store.read_tree_at(object, target)?;
    first_file(target).map(|(name, _)| name)
}

/// Has one of several trees mounted at a place of its own, and its archive beside it, under the object's ID:
/// archives of one name would else be one, and of several trees at one place only the last be seen.
fn one_archive(store: &StoreApi, object: &str, target: &Path, mounts: &mut Mounts) -> Result<String> {
    if object.is_empty() || object.contains('/') || object.starts_with('.') {
        return Err(Error::invalid("it is no object ID"));
    }
    let tree = place(target, &format!(".tree-{object}"))?;
    store.read_tree_at(object, &tree)?;
    let (_, file) = first_file(&tree)?;
    let held = Dir::open(target)?;
    held.write(object, b"", 0o644)?;
    // By its descriptor: what has the name a moment later may be something else.
    let archive = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    mounts.bind(&archive, &target.join(object), Reach::Alone)?;
    Ok(object.to_string())
}

/// Returns the name of the alphabetically first regular file in a tree's root, and the file.
fn first_file(tree: &Path) -> Result<(String, std::fs::File)> {
    let dir = Dir::open(tree)?;
    for name in dir.entries()? {
        // Directories, devices and links that lead out of the tree are no files of it.
        let Ok(Some(file)) = dir.open_file(name.as_encoded_bytes()) else { continue };
        let name = name.into_string().map_err(|name| {
            Error::invalid(format!("the name of the archive is not UTF-8: `{}`", printable(name.as_encoded_bytes())))
        })?;
        return Ok((name, file));
    }
    Err(Error::not_found("No archive files in source").hint(
        "the pipeline must have an oci-archive in the root of its tree, such as by the stage org.osbuild.oci-archive",
    ))
}
