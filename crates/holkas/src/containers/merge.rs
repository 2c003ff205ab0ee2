//! An image directory with its manifest list inside, as skopeo reads it: `holkas merge-manifest LIST DIR OUT`.
//!
//! ```text
//! OUT/manifest.json         the list
//! OUT/HEX.manifest.json     the image's manifest, HEX being its digest
//! OUT/HEX.signature-1…      the image's signatures
//! OUT/version, OUT/HEX…     as in DIR
//! ```

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{identify, lists};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::{self, Dir, UNVERIFIED, share::share, staging::Staging};
use crate::limits::MANIFEST;
use crate::oci::{Algorithm, Digest, Manifest, document};

/// Writes the image directory `dir` with the list `list` to `out`, which must not exist. `dir` is not changed.
///
/// `out` appears whole or not at all. Its blobs are reflinks or hard links where the file system has them.
pub fn merge_manifest(list: &Path, dir: &Path, out: &Path) -> Result<()> {
    merge(list, dir, out)
        .context(|| format!("merging manifest list `{}` with image `dir:{}`", fs::display(list), fs::display(dir)))
}

fn merge(list: &Path, dir: &Path, out: &Path) -> Result<()> {
    let lists = lists::read_lists(&[list.to_path_buf()])?;
    let index = &lists[0].index;
    let source = Dir::open(dir)?;
    let bytes = source
        .read("manifest.json", MANIFEST)?
        .ok_or_else(|| Error::not_found("it has no manifest.json"))
        .context(|| format!("reading `{}`", fs::display(dir)))?;
    let digest = document::manifest_digest(&bytes, Algorithm::Sha256, MANIFEST)?;
    let entries: Vec<_> = index.entries().iter().filter(|entry| entry.digest == digest).collect();
    if entries.is_empty() {
        return Err(Error::refused(format!("the list does not name the image, whose manifest is {digest}")));
    }
    for entry in entries {
        lists::check_size(entry, bytes.len())?;
    }
    Manifest::parse(identify(bytes)?)?;

    let name = out.file_name().ok_or_else(|| Error::invalid("the output path has no name"))?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Dir::open(parent)?,
        _ => Dir::open(Path::new("."))?,
    };
    if parent.exists(name.as_bytes())? {
        return Err(Error::new(ErrorKind::Refused, format!("`{}` exists already", fs::display(out))));
    }
    let staging = Staging::create(&parent)?;
    let merged = staging.dir().make("image", 0o755)?;
    for entry in source.entries()? {
        let name = entry.as_bytes();
        if !name.starts_with(UNVERIFIED.as_bytes()) {
            share(&source, name, &merged, &merged_name(name, &digest))?;
        }
    }
    merged.write("manifest.json", index.raw().bytes(), 0o644)?;
    merged.sync()?;
    staging.dir().rename("image", &parent, name.as_bytes())?;
    parent.sync()
}

fn merged_name(name: &[u8], digest: &Digest) -> Vec<u8> {
    let numbered = name.strip_prefix(b"signature-").is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit));
    match name == b"manifest.json" || numbered {
        true => [digest.hex().as_bytes(), b".", name].concat(),
        false => name.to_vec(),
    }
}
