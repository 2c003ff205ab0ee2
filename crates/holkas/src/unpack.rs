//! Layers become trees: the tar of a layer is written into a held directory, and nothing outside it is touched.
//!
//! The result is what skopeo and podman make of the same layer: names are resolved as after chroot, so that `a -> /b` followed by `a/x` gives `b/x` below the directory, whatever is outside.
//!
//! What a store could not give back, or what would act on the mount instead of the tree, is refused: two entries of
//! one name, `..`, sparse files, contents where there can be none, devices 0/0, and overlay's own attributes.

mod attributes;
mod files;
mod flat;
mod parents;
mod tree;

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::BufRead;

use crate::error::{Context, Error, Result, printable};
use crate::fs::Dir;
use crate::limits::{LAYER_ENTRIES, LAYER_OWNERS};
use crate::tar::{self, Kind, after, clean};

pub use crate::tar::{Split, TarPiece, Timestamp, pieces};
pub use flat::{ExcludedPath, FlatTree, Put};

/// What a layer is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisk {
    /// The diff directory of the overlay driver: whiteouts are devices 0/0, opaque directories bear
    /// `trusted.overlay.opaque` (in a user namespace `user.overlay.opaque`), and the layer's own root entry is ignored.
    Overlay,
    /// A whole tree, on which the layers below were unpacked before: whiteouts remove.
    Tree,
}

/// As whom layers are unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privilege {
    /// As root.
    #[default]
    Root,
    /// As root of a user namespace. As with containers-storage, devices are left out, and so are the attributes that
    /// only the system's root may set (`trusted.*`, `security.*`), but for file capabilities.
    UserNamespace,
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions {
    /// What the layer is made into.
    pub on_disk: OnDisk,
    /// The time of what no entry gives a time: implied parents, whiteouts, the root.
    pub clock: Timestamp,
    /// As whom.
    pub privilege: Privilege,
}

/// What was found on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Owners of all entries but whiteouts.
    pub uids: BTreeSet<u32>,
    /// Groups of all entries but whiteouts.
    pub gids: BTreeSet<u32>,
    /// Number of entries.
    pub entries: u64,
}

/// Writes the entries of the tar `layer` into the directory `into`, and reads it to its end.
///
/// Every byte of the tar is handed to `split`, in order, so that the exact tar can be stored.
/// Needs to be root, with all capabilities, for owners, devices and attributes; or root of a user namespace that maps
/// all owners, for less of them.
/// After an error `into` holds a part of the layer, and must be removed.
///
/// # Errors
///
/// `Invalid` and `Refused` where the layer is at fault, `Unsupported` where it has what cannot be stored,
/// `Forbidden` where the operating system does not allow it, and what `layer` and `split` return.
pub fn unpack(
    layer: &mut dyn BufRead,
    into: &Dir,
    options: &UnpackOptions,
    split: Option<Split<'_>>,
) -> Result<Unpacked> {
    let mut reader = tar::Reader::new(layer, split);
    let mut tree = tree::Tree::new(into, *options)?;
    let mut unpacked = Unpacked::default();
    let result = put_all(&mut reader, &mut tree, &mut unpacked);
    tree.finish(result)?;
    Ok(unpacked)
}

fn put_all(reader: &mut tar::Reader<'_, '_>, tree: &mut tree::Tree<'_>, unpacked: &mut Unpacked) -> Result<()> {
    let mut header = tar::Header::new();
    // A collision would only refuse a good layer.
    let mut seen = Names::<1>::default();
    let mut path = Vec::new();
    while reader.next(&mut header).context(|| after(&header, unpacked.entries))? {
        let frame = || format!("unpacking `{}`", printable(&header.name));
        unpacked.entries += 1;
        if unpacked.entries > LAYER_ENTRIES {
            return Err(Error::invalid(format!("the layer has more than {LAYER_ENTRIES} entries")));
        }
        clean(&header.name, &mut path).context(frame)?;
        if !seen.insert(&path) {
            let cause =
                Error::invalid("two entries of the layer have this name, so no store could give the layer back");
            return Err(cause.context(frame()));
        }
        if !base(&path).starts_with(WHITEOUT) {
            unpacked.uids.insert(header.uid);
            unpacked.gids.insert(header.gid);
            if unpacked.uids.len().max(unpacked.gids.len()) > LAYER_OWNERS {
                return Err(Error::invalid(format!("the layer has more than {LAYER_OWNERS} owners or groups")));
            }
        }
        if header.kind != Kind::Global {
            tree.put(&header, &path, reader).context(frame)?;
        }
    }
    Ok(())
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Returns the name that a whiteout hides in its directory.
fn hidden_by<'p>(header: &tar::Header, path: &'p [u8]) -> Result<&'p [u8]> {
    if header.size > 0 {
        return Err(Error::invalid("a whiteout with contents"));
    }
    match &base(path)[WHITEOUT.len()..] {
        b"" | b"." | b".." => Err(Error::invalid("a whiteout of nothing that can be named")),
        hidden => Ok(hidden),
    }
}

/// Returns the last component of a clean path.
fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Returns the clean path of the directory that a clean path is in.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// A set of paths that keeps 8 bytes of each for every `N`, so that a layer of many long names cannot fill the memory.
///
/// The hashes are keyed by chance, so nobody can aim at a collision. With 8 bytes two of a million names meet by
/// chance in one of 40 million layers; with 16, never.
#[derive(Debug)]
struct Names<const N: usize>([(RandomState, HashSet<u64>); N]);

impl<const N: usize> Default for Names<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Default::default()))
    }
}

impl<const N: usize> Names<N> {
    /// Returns whether the path was not there before.
    fn insert(&mut self, path: &[u8]) -> bool {
        self.0.iter_mut().fold(false, |new, (key, set)| set.insert(key.hash_one(path)) || new)
    }

    fn contains(&self, path: &[u8]) -> bool {
        self.0.iter().all(|(key, set)| !set.is_empty() && set.contains(&key.hash_one(path)))
    }
}
