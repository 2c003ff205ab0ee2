//! Where one repository can be read: its mirrors in order, then the registry itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::repository::Repository;
use crate::oci::Digest;
use crate::reference::Name;

/// One of them.
pub(super) struct Place {
    repository: Repository,
    name: Name,
    mirror: bool,
}

/// All of them, and what was found out about each.
pub(super) struct Places {
    client: Client,
    places: Vec<Place>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Places whose bytes of a blob are wrong.
    struck: BTreeSet<(usize, Digest)>,
    /// Places that gave bytes of a blob in its last download.
    gave: BTreeMap<Digest, BTreeSet<usize>>,
}

impl Place {
    pub(super) fn new(repository: Repository, name: Name, mirror: bool) -> Self {
        Self { repository, name, mirror }
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the name of the image as it is here.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// Returns whether it is a mirror, and not the registry itself.
    pub(super) fn is_mirror(&self) -> bool {
        self.mirror
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.mirror { "mirror " } else { "" };
        write!(f, "{kind}{}", self.repository.name())
    }
}

impl Places {
    pub(super) fn new(client: Client, places: Vec<Place>) -> Self {
        Self { client, places, known: Mutex::default() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, place: usize) -> &Place {
        &self.places[place]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Place)> {
        self.places.iter().enumerate()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // The sets are never half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the first place that may still have the blob.
    pub(super) fn next_for(&self, digest: &Digest, gone: impl Fn(usize) -> bool) -> Option<usize> {
        let known = self.known();
        (0..self.places.len()).find(|place| !gone(*place) && !known.struck.contains(&(*place, *digest)))
    }

    /// Notes that a download of the blob begins, to which no place has given anything yet.
    pub(super) fn begin(&self, digest: &Digest) {
        self.known().gave.remove(digest);
    }

    /// Notes that a place gives bytes of the blob.
    pub(super) fn gives(&self, place: usize, digest: &Digest) {
        self.known().gave.entry(*digest).or_default().insert(place);
    }

    /// Notes that the bytes of the last download were wrong, and returns whether another place is left to try.
    ///
    /// If several gave some, it is the mirrors that are not believed: what they do not have, the registry itself has.
    /// If none is left, all are forgiven: who asks again later, asks anew.
    pub(super) fn strike(&self, digest: &Digest) -> bool {
        let mut known = self.known();
        let gave = known.gave.remove(digest).unwrap_or_default();
        let suspects: Vec<usize> = match gave.len() {
            1 => gave.into_iter().collect(),
            _ => gave.into_iter().filter(|place| self.places[*place].mirror).collect(),
        };
        let found = !suspects.is_empty();
        known.struck.extend(suspects.into_iter().map(|place| (place, *digest)));
        drop(known);
        if self.next_for(digest, |_| false).is_none() {
            self.known().struck.retain(|(_, struck)| struck != digest);
            return false;
        }
        found
    }
}
