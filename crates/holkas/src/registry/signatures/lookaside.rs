//! Lookaside servers: signatures as numbered files in a directory or of a web server, beside the registry.
//!
//! ```text
//! BASE/REPOSITORY@sha256=HEX/signature-1
//!                           /signature-2      and so on, up to the first that is not there
//! ```
//!
//! The repository is without its host. Only directories are written to; who serves them to the world is another matter.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::super::host::Host;
use super::super::registries_d::{Base, Lookaside};
use super::super::url::Url;
use super::{check_count, recognised};
use crate::error::{Context, Error, Result};
use crate::fs::staging::sweep_files;
use crate::fs::{self, Dir, display, path_of};
use crate::limits::{SIGNATURE, SIGNATURES};
use crate::oci::Digest;
use crate::signature::UntrustedSignature;

/// Returns what the names of a manifest's signatures begin with, after the base.
fn stem(repository: &str, manifest: &Digest) -> String {
    format!("/{repository}@{}={}", manifest.algorithm().name(), manifest.hex())
}

fn file_name(number: usize) -> String {
    format!("signature-{number}")
}

/// Reads all signatures of a manifest.
pub(super) fn read(host: &Host, base: &Base, repository: &str, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
    let stem = stem(repository, manifest);
    let mut found = Vec::new();
    // One more is asked for, so that too many are an error, and not fewer than there are.
    for number in 1..=SIGNATURES + 1 {
        let one = match base {
            Base::Dir(dir) => {
                let path = below(dir, &stem).join(file_name(number));
                let frame = || format!("reading `{}`", display(&path));
                fs::read_there(&path, SIGNATURE)?.map(|bytes| check(bytes).context(frame)).transpose()?
            }
            Base::Web(base, query) => {
                let url = address(base, query, &format!("{stem}/{}", file_name(number)))?;
                let frame = || format!("reading {url}");
                fetch(host, &url).context(frame)?
            }
        };
        match one {
            Some(signature) => found.push(signature),
            None => return Ok(found),
        }
        check_count(found.len())?;
    }
    Ok(found)
}

/// Asks a web server for a signature. It is told nothing of who we are.
fn fetch(host: &Host, url: &Url) -> Result<Option<UntrustedSignature>> {
    let response = host.fetch(url.clone())?;
    match response.status {
        200 => check(host.read(response, SIGNATURE)?).map(Some),
        404 => Ok(None),
        _ => Err(response.into_error()),
    }
}

fn check(bytes: Vec<u8>) -> Result<UntrustedSignature> {
    let signature = UntrustedSignature(bytes);
    recognised(&signature)?;
    Ok(signature)
}

fn address(base: &str, query: &str, path: &str) -> Result<Url> {
    Url::parse(&format!("{base}{path}{query}"))
}

fn below(dir: &Path, stem: &str) -> PathBuf {
    // A slash too many means nothing, but `join` of what begins with one would leave the directory.
    dir.join(path_of(stem.trim_start_matches('/').as_bytes()))
}

/// Makes sure that signatures can be written to a lookaside server at all.
pub(super) fn check_writable(lookaside: &Lookaside) -> Result<()> {
    directory(lookaside).map(|_| ())
}

fn directory(lookaside: &Lookaside) -> Result<&PathBuf> {
    match &lookaside.base {
        Base::Dir(dir) => Ok(dir),
        base @ Base::Web(..) => {
            let by = lookaside.said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
            Err(Error::refused(format!("signatures at the lookaside server {base}{by} cannot be changed"))
                .hint("name a directory as `lookaside-staging` in registries.d: file:///PATH"))
        }
    }
}

/// Writes the signatures of a manifest, in the place of those that are there.
///
/// All bytes are on the disk before the first file has its name. The first is named last: who reads begins there, so
/// that a directory that was not there shows all signatures or none. Each file is replaced as a whole.
pub(super) fn write(lookaside: &Lookaside, repository: &str, manifest: &Digest, signatures: &[&[u8]]) -> Result<()> {
    let dir = Dir::create_all(&below(directory(lookaside)?, &stem(repository, manifest)))?;
    sweep_files(&dir)?;
    let mut staged = Vec::new();
    for (n, bytes) in signatures.iter().enumerate() {
        let mut file = dir.stage(0o644)?;
        file.write_all(bytes).context(|| format!("writing a signature into `{}`", display(dir.path())))?;
        staged.push((n + 1, file));
    }
    for (number, file) in staged.into_iter().rev() {
        file.finish(file_name(number))?;
    }
    remove_from(&dir, signatures.len() + 1)
}

/// Deletes the signatures of a manifest.
pub(super) fn delete(lookaside: &Lookaside, repository: &str, manifest: &Digest) -> Result<()> {
    match Dir::open_there(&below(directory(lookaside)?, &stem(repository, manifest)))? {
        Some(dir) => remove_from(&dir, 1),
        None => Ok(()),
    }
}

/// Removes signatures from one on, up to the first that is not there: nobody looks for what is behind it.
fn remove_from(dir: &Dir, first: usize) -> Result<()> {
    let mut number = first;
    while dir.exists(file_name(number))? {
        dir.remove_file(file_name(number))?;
        number += 1;
    }
    dir.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn signatures_have_the_paths_that_others_look_for() {
        let digest = Algorithm::Sha256.digest(b"");
        let stem = stem("ns/repo", &digest);
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(stem, format!("/ns/repo@sha256={hex}"));
        let path = format!("{stem}/{}", file_name(2));
        for (base, query, whole) in [
            ("https://h", "", format!("https://h/ns/repo@sha256={hex}/signature-2")),
            ("https://h/", "", format!("https://h//ns/repo@sha256={hex}/signature-2")),
            ("https://h:1/p", "?a=b", format!("https://h:1/p/ns/repo@sha256={hex}/signature-2?a=b")),
        ] {
            assert_eq!(address(base, query, &path).expect(base).whole(), whole);
        }
        assert_eq!(below("/a".as_ref(), "/b").display().to_string(), "/a/b");
    }
}
