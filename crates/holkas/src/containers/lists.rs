//! Which manifest lists name which image.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::fs;
use crate::limits::{INDEX_DEPTH, MANIFEST};
use crate::oci::media_type::Meaning;
use crate::oci::{Descriptor, Digest, Index};
use crate::verify::UntrustedBlob;

/// A manifest list in a file.
#[derive(Debug, Clone)]
pub struct List {
    /// The file.
    pub path: PathBuf,
    /// The list.
    pub index: Index,
}

/// A way from a list down to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPath {
    /// The files of the lists, from the outermost to the one that has the entry.
    pub lists: Vec<PathBuf>,
    /// The entry that names the image.
    pub entry: Descriptor,
}

/// Reads files that must be manifest lists. A file whose name is a digest must have that digest.
pub fn read_lists(files: &[PathBuf]) -> Result<Vec<List>> {
    files
        .iter()
        .map(|path| read_list(path).context(|| format!("reading manifest list `{}`", fs::display(path))))
        .collect()
}

fn read_list(path: &Path) -> Result<List> {
    let blob = UntrustedBlob::from_bytes(super::read(path)?);
    let name = path.file_name().map(|name| name.as_bytes()).unwrap_or_default();
    let raw = match std::str::from_utf8(name) {
        Ok(name) if name.starts_with("sha256:") || name.starts_with("sha512:") => {
            let digest = name.parse().context(|| "the name of the file")?;
            blob.read_matching(&digest, None, MANIFEST).context(|| "the file is not what its name says")?
        }
        _ => blob.identify(crate::oci::Algorithm::Sha256, None, MANIFEST)?,
    };
    Ok(List { path: path.to_path_buf(), index: Index::parse(raw)? })
}

/// Returns, for each image that any of the lists names, all the ways that lead to it.
///
/// An entry that is another of the given lists is followed.
pub fn instances(files: &[PathBuf]) -> Result<BTreeMap<Digest, Vec<ListPath>>> {
    of_lists(&read_lists(files)?)
}

pub(super) fn of_lists(lists: &[List]) -> Result<BTreeMap<Digest, Vec<ListPath>>> {
    let by_digest: BTreeMap<Digest, &List> = lists.iter().map(|list| (*list.index.digest(), list)).collect();
    let mut found = BTreeMap::new();
    for list in by_digest.values() {
        follow(&mut vec![*list], &by_digest, &mut found)?;
    }
    Ok(found)
}

fn follow<'a>(
    down: &mut Vec<&'a List>,
    by_digest: &BTreeMap<Digest, &'a List>,
    found: &mut BTreeMap<Digest, Vec<ListPath>>,
) -> Result<()> {
    let list: &List = down.last().expect("callers begin with one list");
    let mut seen = BTreeSet::new();
    for (n, entry) in list.index.entries().iter().enumerate() {
        let frame = || format!("`manifests[{n}]` of manifest list `{}`", fs::display(&list.path));
        // A list may repeat an entry, but not contradict itself.
        if !seen.insert((entry.digest, entry.size)) {
            continue;
        }
        match by_digest.get(&entry.digest) {
            Some(nested) => {
                check_size(entry, nested.index.raw().bytes().len()).context(frame)?;
                if down.len() >= INDEX_DEPTH {
                    return Err(
                        Error::invalid(format!("lists within lists are deeper than {INDEX_DEPTH}")).context(frame())
                    );
                }
                down.push(nested);
                follow(down, by_digest, found)?;
                down.pop();
            }
            // An index that was not given leads nowhere.
            None if matches!(entry.media_type.meaning(), Meaning::Index(_)) => {}
            None => {
                let lists = down.iter().map(|list| list.path.clone()).collect();
                found.entry(entry.digest).or_default().push(ListPath { lists, entry: entry.clone() });
            }
        }
    }
    Ok(())
}

/// Checks that an entry gives the true size of what it names.
pub(super) fn check_size(entry: &Descriptor, length: usize) -> Result<()> {
    if entry.size == length as u64 {
        return Ok(());
    }
    Err(Error::mismatch(format!("the entry says that {} has {} bytes, but it has {length}", entry.digest, entry.size)))
}
