//! Copies a list with all its images, and the lists within it.
//!
//! A list whose images all stay as they are stays as it is. Where one has to change, the list becomes a new one.

use std::collections::{BTreeSet, HashMap};

use super::{Copied, CopyOptions, MultiArch, Rewrite, admit_to, convert, copy_one, open_document, other, support};
use crate::error::{Error, Result};
use crate::image::{ImageDestination, ImageSource, Support};
use crate::limits::INDEX_DEPTH;
use crate::oci::{Descriptor, Digest, Document, Format, Index};
use crate::policy::Demands;
use crate::progress::{Event, Monitor};
use crate::signature::UntrustedSignature;

/// A copy of all that an index leads to.
pub(super) struct Lists<'a> {
    source: &'a dyn ImageSource,
    demands: &'a Demands<'a>,
    destination: &'a dyn ImageDestination,
    options: &'a CopyOptions,
    monitor: &'a dyn Monitor,
    /// What has become of the entries so far: lists may name an image or a list more than once.
    done: HashMap<Digest, Descriptor>,
    /// Every image and list that was copied, as it came.
    copied: Vec<Digest>,
    layers: usize,
    bytes: u64,
}

/// The annotation by which an attestation names the image that it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// Whether the reference names the index, or another index does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Within,
}

impl<'a> Lists<'a> {
    pub(super) fn new(
        (source, demands): (&'a dyn ImageSource, &'a Demands<'a>),
        destination: &'a dyn ImageDestination,
        options: &'a CopyOptions,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let (done, copied) = (HashMap::new(), Vec::new());
        Self { source, demands, destination, options, monitor, done, copied, layers: 0, bytes: 0 }
    }

    /// Copies the index that the source's reference names, with everything below it.
    ///
    /// Returns with it the digests of all that was copied, as the source has them.
    pub(super) fn copy(mut self, index: &Index) -> Result<(Copied, Vec<Digest>)> {
        let new = self.copy_index(index, Place::Top, 1)?;
        let Self { copied, layers, bytes, .. } = self;
        Ok((Copied { manifest_digest: new.digest, image_id: None, layers, bytes, referrers: 0 }, copied))
    }

    fn copy_index(&mut self, index: &Index, place: Place, depth: usize) -> Result<Descriptor> {
        if depth > INDEX_DEPTH {
            return Err(Error::invalid(format!(
                "the indexes of {} are nested more than {INDEX_DEPTH} deep",
                self.source.name()
            )));
        }
        let mut signatures = admit_to((self.source, self.demands), index.raw(), self.destination, self.options)?;
        let format = self.format(index, &signatures)?;
        let wanted = self.wanted(index, place)?;
        let of = index.entries().iter().filter(|entry| wanted.contains(&entry.digest)).count();
        self.monitor.event(Event::ListStarted { images: of, of: index.entries().len() });
        let mut number = 0;
        let mut entries = Vec::new();
        for entry in index.entries() {
            if wanted.contains(&entry.digest) {
                number += 1;
                self.monitor.event(Event::InstanceStarted { digest: &entry.digest.to_string(), number, of });
            }
            let new = match self.done.get(&entry.digest) {
                _ if !wanted.contains(&entry.digest) && self.options.strip_removed_platforms => {
                    entries.push(None);
                    continue;
                }
                _ if !wanted.contains(&entry.digest) => {
                    entries.push(Some(entry.clone()));
                    continue;
                }
                Some(new) => new.clone(),
                None => self.copy_entry(entry, depth)?,
            };
            self.done.insert(entry.digest, new.clone());
            entries.push(Some(new));
        }
        let as_before =
            |(old, new): (&Descriptor, &Option<Descriptor>)| new.as_ref().is_some_and(|new| new.digest == old.digest);
        let same = format == index.format() && index.entries().iter().zip(&entries).all(as_before);
        let changed;
        let new = if same {
            index
        } else {
            // Leaving images out was asked for by its own flag.
            let (asked, what) = match entries.iter().all(Option::is_some) {
                true => (self.options.may_change(self.source), "an image of the list changes, and with it the list"),
                false => (!self.options.preserve_digests, "images are left out of the list"),
            };
            super::refuse_change("list", what, asked, &signatures, self.options)?;
            changed = convert::new_index(index, format, &entries, self.options.rewrite)?;
            &changed
        };
        self.monitor.event(Event::InstancesFinished);
        signatures.extend(super::sign::sign(new.digest(), self.destination, self.options, self.monitor)?);
        match place {
            Place::Top => self.destination.put_index(new, &signatures)?,
            Place::Within => self.destination.put_index_within(new, &signatures)?,
        }
        self.copied.push(*index.digest());
        Ok(new.descriptor())
    }

    fn copy_entry(&mut self, entry: &Descriptor, depth: usize) -> Result<Descriptor> {
        match open_document(self.source, entry)? {
            Document::Manifest(manifest) => {
                let from = (self.source, self.demands);
                let (copied, new) = copy_one(from, self.destination, manifest, Vec::new(), self.options, self.monitor)?;
                self.copied.push(entry.digest);
                self.layers += copied.layers;
                self.bytes += copied.bytes;
                Ok(new)
            }
            Document::Index(index) => self.copy_index(&index, Place::Within, depth + 1),
            Document::Schema1(schema1) => Err(schema1.refusal()),
        }
    }

    /// Returns the entries that are copied: all, or those for the platforms that are wanted, with their attestations.
    ///
    /// # Errors
    ///
    /// `NotFound` if the list that the reference names has nothing for one of the platforms.
    fn wanted(&self, index: &Index, place: Place) -> Result<BTreeSet<Digest>> {
        if self.options.multi_arch != MultiArch::Platforms {
            return Ok(index.entries().iter().map(|entry| entry.digest).collect());
        }
        let mut wanted = BTreeSet::new();
        for platform in &self.options.platforms {
            match platform.choose(index) {
                Ok(chosen) => wanted.insert(chosen.digest),
                Err(error) if place == Place::Top => return Err(error),
                Err(_) => false,
            };
        }
        let chosen: BTreeSet<String> = wanted.iter().map(Digest::to_string).collect();
        let named = |entry: &&Descriptor| {
            let annotations = entry.annotations.as_ref();
            annotations.and_then(|all| all.get(ATTESTED)).is_some_and(|digest| chosen.contains(digest))
        };
        wanted.extend(index.entries().iter().filter(named).map(|entry| entry.digest));
        Ok(wanted)
    }

    /// Decides the format that the list gets.
    fn format(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<Format> {
        let own = index.format();
        match (self.options.format, support(&self.destination.capabilities(), own)) {
            (Some(wanted), _) if wanted == own => Ok(own),
            (Some(wanted), _) => {
                self.refuse_change(signatures, "another format was asked for")?;
                Ok(wanted)
            }
            (None, Support::Native) => Ok(own),
            (None, Support::OnRequest) if self.options.preserve_digests && self.options.rewrite == Rewrite::Least => {
                Ok(own)
            }
            (None, Support::OnRequest | Support::No) => {
                let reason = format!("{} holds no lists of type `{}`", self.destination.name(), index.media_type());
                self.refuse_change(signatures, &reason)?;
                Ok(other(own))
            }
        }
    }

    fn refuse_change(&self, signatures: &[UntrustedSignature], reason: &str) -> Result<()> {
        super::refuse_change("list", reason, self.options.may_change(self.source), signatures, self.options)
    }
}
