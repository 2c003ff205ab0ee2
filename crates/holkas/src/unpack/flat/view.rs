//! What one layer has at which place of its own tree: found through its own symlinks, and through no other layer's.
//!
//! Places are known by 15 bytes of a hash that is keyed by chance, and one byte for what is there: never by their names,
//! so that many long ones cannot fill the memory, and nobody can aim at a collision.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use rustix::io::Errno;

use super::super::attributes::allowed;
use super::super::parent;
use crate::error::Error;
use crate::limits::{LAYER_DIRECTORIES, PATH};

/// What a place is known by.
pub(super) type Key = [u8; 15];

/// Makes keys of paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys([RandomState; 2]);

impl Keys {
    /// Returns the key of a clean path.
    pub(super) fn of(&self, path: &[u8]) -> Key {
        let [one, other] = &self.0;
        let mut key = Key::default();
        key[..8].copy_from_slice(&one.hash_one(path).to_le_bytes());
        key[8..].copy_from_slice(&other.hash_one(path).to_le_bytes()[..7]);
        key
    }
}

/// Returns the name of a staged thing.
pub(super) fn staged_name(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a layer has at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u8);

impl Place {
    /// A directory, by an entry or only because something is in it.
    pub(super) const DIRECTORY: Self = Self(0);
    /// Something that is no directory and leads nowhere.
    pub(super) const FILE: Self = Self(1);
    pub(super) const SYMLINK: Self = Self(2);
    /// Something that is to be removed below.
    pub(super) const WHITEOUT: Self = Self(3);
    const KIND: u8 = 3;
    /// The layer has put it into the tree.
    pub(super) const MADE: u8 = 4;
    /// It does not come into the tree, and lies where things are staged, to be read or linked to.
    pub(super) const STAGED: u8 = 8;
    /// An entry bears exactly this name.
    pub(super) const NAMED: u8 = 16;
    /// A directory of upper layers whose times are known, to be set again.
    pub(super) const NOTED: u8 = 32;

    pub(super) fn kind(self) -> Self {
        Self(self.0 & Self::KIND)
    }

    pub(super) fn is(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    pub(super) fn with(self, mark: u8) -> Self {
        Self(self.0 | mark)
    }
}

/// Why a directory was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The layer has something else on the way.
    NotDirectory,
    /// It is not in the layer, or not yet.
    Missing,
    /// A symlink leads to where nothing is.
    Dangling,
    /// It would come again where the layer has put something else in its place.
    Again,
    TooManyDirectories,
    System(Errno),
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotDirectory => allowed(Errno::NOTDIR),
            Lost::Missing => allowed(Errno::NOENT),
            Lost::Dangling => Error::invalid("a symlink on the way to it leads to where the layer has nothing"),
            Lost::Again => {
                Error::unsupported("the layer makes a directory where it has replaced one by something else")
            }
            Lost::TooManyDirectories => {
                Error::invalid(format!("the layer has more than {LAYER_DIRECTORIES} directories"))
            }
            Lost::System(errno) => allowed(errno),
        }
    }
}

/// How many symlinks may be followed for one path: as the kernel.
const SYMLINKS: usize = 40;

/// Whether what is missing on the way is taken for a directory that no entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Implied,
    Lost,
}

/// Returns where a symlink leads that is at a place.
pub(super) type ReadLink<'r> = &'r dyn Fn(&[u8], &Key, Place) -> Result<Vec<u8>, Errno>;

/// The places of a layer.
#[derive(Debug)]
pub(super) struct View {
    keys: Keys,
    places: HashMap<Key, Place>,
    directories: usize,
    /// Where something else has come into the place of a directory: what was below it is still in `places`.
    replaced: HashSet<Key>,
}

impl View {
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, places: HashMap::new(), directories: 0, replaced: HashSet::new() }
    }

    pub(super) fn at(&self, key: &Key) -> Option<Place> {
        self.places.get(key).copied()
    }

    /// Says what is at a place.
    pub(super) fn put(&mut self, key: Key, place: Place) -> Result<(), Lost> {
        if place.kind() == Place::DIRECTORY && self.at(&key).is_none_or(|old| old.kind() != Place::DIRECTORY) {
            if self.replaced.contains(&key) {
                return Err(Lost::Again);
            }
            self.directories += 1;
            if self.directories > LAYER_DIRECTORIES {
                return Err(Lost::TooManyDirectories);
            }
        }
        self.places.insert(key, place);
        Ok(())
    }

    /// Says that nothing is at a place any more.
    pub(super) fn remove(&mut self, key: &Key) {
        self.places.remove(key);
    }

    /// Adds a mark to what is at a place.
    pub(super) fn mark(&mut self, key: &Key, mark: u8) {
        if let Some(place) = self.places.get_mut(key) {
            *place = place.with(mark);
        }
    }

    /// Says that a directory will have something else in its place.
    pub(super) fn replace_directory(&mut self, key: Key) {
        self.replaced.insert(key);
    }

    /// Returns where the directory of a clean path is, as after chroot into the layer: a path without symlinks.
    pub(super) fn resolve(&mut self, path: &[u8], missing: Missing, read: ReadLink<'_>) -> Result<Vec<u8>, Lost> {
        let mut real = Vec::with_capacity(path.len());
        // The path itself, and above it what is left of the symlinks that it has led to.
        let mut ways = vec![(path.to_vec(), 0)];
        let mut symlinks = 0;
        while let Some((way, at)) = ways.last_mut() {
            if *at >= way.len() {
                ways.pop();
                continue;
            }
            let rest = &way[*at..];
            let component = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
            *at += component.len() + 1;
            match component {
                b"" | b"." => continue,
                b".." => {
                    real.truncate(parent(&real).len());
                    continue;
                }
                _ => {}
            }
            let above = real.len();
            if above > 0 {
                real.push(b'/');
            }
            real.extend_from_slice(component);
            if real.len() >= PATH {
                return Err(Lost::System(Errno::NAMETOOLONG));
            }
            let key = self.keys.of(&real);
            match self.at(&key) {
                Some(place) if place.kind() == Place::DIRECTORY => {}
                Some(place) if place.kind() == Place::SYMLINK => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(Lost::System(Errno::LOOP));
                    }
                    let target = read(&real, &key, place).map_err(Lost::System)?;
                    real.truncate(if target.first() == Some(&b'/') { 0 } else { above });
                    ways.push((target, 0));
                }
                Some(_) => return Err(Lost::NotDirectory),
                None if ways.len() > 1 => return Err(Lost::Dangling),
                None if missing == Missing::Lost => return Err(Lost::Missing),
                None => self.put(key, Place::DIRECTORY)?,
            }
        }
        Ok(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_as_after_chroot_into_the_layer() {
        let mut view = View::new(Keys::default());
        let read = |path: &[u8], _: &Key, _: Place| {
            Ok(match path {
                b"usr/up" => b"../../../b".to_vec(),
                b"absolute" => b"/usr/./lib//".to_vec(),
                b"loop" => b"loop".to_vec(),
                b"nowhere" => b"not/there".to_vec(),
                _ => b"usr".to_vec(),
            })
        };
        let resolve = |view: &mut View, path: &[u8], missing| view.resolve(path, missing, &read);
        assert_eq!(resolve(&mut view, b"usr/lib", Missing::Implied).as_deref(), Ok(&b"usr/lib"[..]));
        assert_eq!(resolve(&mut view, b"b", Missing::Lost), Err(Lost::Missing));
        assert_eq!(resolve(&mut view, b"b", Missing::Implied).as_deref(), Ok(&b"b"[..]));
        for path in [&b"usr/up"[..], b"absolute", b"loop", b"nowhere", b"short"] {
            view.put(view.keys.of(path), Place::SYMLINK).expect("it is no directory");
        }
        view.put(view.keys.of(b"file"), Place::FILE).expect("it is no directory");
        for (path, real) in [
            (&b"usr/up/x"[..], &b"b/x"[..]),
            (b"absolute/y", b"usr/lib/y"),
            (b"short/up", b"b"),
            (b"short/lib/y", b"usr/lib/y"),
            (b"", b""),
        ] {
            assert_eq!(resolve(&mut view, path, Missing::Implied).as_deref(), Ok(real));
        }
        for (path, lost) in [
            (&b"loop/x"[..], Lost::System(Errno::LOOP)),
            (b"nowhere", Lost::Dangling),
            (b"nowhere/x", Lost::Dangling),
            (b"file/x", Lost::NotDirectory),
            (b"short/file2/x", Lost::Missing),
        ] {
            assert_eq!(resolve(&mut view, path, Missing::Lost), Err(lost));
        }
    }
}
