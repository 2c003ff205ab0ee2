//! Writing an OCI archive: every blob's size is known before it comes, so every blob has its place beforehand.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard};

use super::writer::{self, DIRECTORY, FILE, Header};
use crate::error::{Context, Error, Result};
use crate::fs::staging::Staging;
use crate::image::{
    Attached, Attachment, Capabilities, Image, ImageDestination, ImageWriter, Layer, LayerReader, Stored,
};
use crate::layout::destination::{CAPABILITIES, Role, refuse_signatures};
use crate::layout::index::{LayoutIndex, OCI_LAYOUT_FILE};
use crate::layout::place::Place;
use crate::layout::{blob, blob_path, name_of};
use crate::oci::{Descriptor, Digest, Index};
use crate::reference::{LayoutReference, LayoutSelect};
use crate::signature::UntrustedSignature;
use crate::verify::VerifiedBytes;

/// An OCI archive to write. It replaces a file that is there, when published.
#[derive(Debug)]
pub struct OciArchiveDestination {
    reference: LayoutReference,
    place: Place,
    staging: Staging,
    file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the next header goes.
    end: u64,
    blobs: BTreeMap<Digest, Blob>,
    images: BTreeMap<Digest, Descriptor>,
    /// Images that got names of their own.
    named: Vec<(String, Descriptor)>,
    index: Option<Descriptor>,
    /// Indexes that lead to the images; they belong to what is written only if an index does.
    nested: BTreeMap<Digest, VerifiedBytes>,
    /// What belongs to them.
    referrers: Vec<(Attached, Attachment)>,
}

#[derive(Debug, Clone, Copy)]
struct Blob {
    offset: u64,
    size: u64,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reserved,
    Begun,
    Verified,
}

const ARCHIVE: &str = "archive";

impl OciArchiveDestination {
    /// Prepares to write an archive, whose directory must exist.
    pub fn create(reference: &LayoutReference) -> Result<Self> {
        Self::prepare(reference).context(|| format!("preparing {}", name_of("oci-archive", reference)))
    }

    fn prepare(reference: &LayoutReference) -> Result<Self> {
        if let LayoutSelect::Position(_) = reference.select {
            return Err(Error::invalid("an image is written by name, not by position"));
        }
        if reference.path.exists() && !reference.path.is_file() {
            return Err(Error::refused("it is there, and is not a regular file"));
        }
        Self::prepare_at(reference, Place::find(&reference.path)?)
    }

    /// Prepares to write an archive at a place that is held.
    pub(crate) fn create_at(place: Place) -> Result<Self> {
        let reference = place.layout_reference();
        let frame = || format!("preparing {}", name_of("oci-archive", &reference));
        place.refuse_all_but_a_file().context(frame)?;
        Self::prepare_at(&reference, place).context(frame)
    }

    fn prepare_at(reference: &LayoutReference, place: Place) -> Result<Self> {
        let staging = Staging::create(&place.parent)?;
        let file = staging.dir().open_for_update(ARCHIVE, blob::MODE)?;
        let directory = |name| Header { kind: DIRECTORY, name, mode: 0o755, link: "" };
        let mut end = writer::put(&file, 0, directory("blobs/"), &[])?;
        end = writer::put(&file, end, directory("blobs/sha256/"), &[])?;
        let state = Mutex::new(State { end, ..State::default() });
        Ok(Self { reference: reference.clone(), place, staging, file, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// Gives a blob its place, if it has none yet.
    fn reserve(&self, state: &mut State, digest: &Digest, size: u64) -> Result<()> {
        if let Some(blob) = state.blobs.get(digest) {
            return match blob.size == size {
                true => Ok(()),
                false => {
                    Err(Error::mismatch(format!("blob {digest} is said to be of {} and of {size} bytes", blob.size)))
                }
            };
        }
        let name = blob_path(digest);
        if name.len() > 100 {
            // `blobs/sha512/<128 digits>` needs an extended header.
            return Err(Error::unsupported(format!("blob {digest}: only SHA-256 can be written to an oci-archive")));
        }
        let header = Header { kind: FILE, name: &name, mode: blob::MODE, link: "" };
        let (offset, next) = writer::reserve(&self.file, state.end, header, size)?;
        state.end = next;
        state.blobs.insert(*digest, Blob { offset, size, progress: Progress::Reserved });
        Ok(())
    }

    fn put_document(&self, document: &VerifiedBytes) -> Result<()> {
        let mut state = self.state();
        self.reserve(&mut state, document.digest(), document.bytes().len() as u64)?;
        let blob = state.blobs.get_mut(document.digest()).expect("it was just reserved");
        if blob.progress == Progress::Reserved {
            blob.progress = Progress::Begun;
            let mut out = writer::range(&self.file, blob.offset, blob.size);
            std::io::Write::write_all(&mut out, document.bytes()).map_err(Error::from)?;
            blob.progress = Progress::Verified;
        }
        Ok(())
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let digest = layer.descriptor.digest;
        let blob = {
            let mut state = self.state();
            self.reserve(&mut state, &digest, layer.descriptor.size)?;
            let blob = state.blobs.get_mut(&digest).expect("it was just reserved");
            let before = *blob;
            if before.progress == Progress::Reserved {
                blob.progress = Progress::Begun;
            }
            before
        };
        if blob.progress != Progress::Reserved {
            // Another layer, or another thread, writes the same bytes to the same place: only prove them.
            return blob::write_layer(layer, body, &mut std::io::sink());
        }
        let stored = blob::write_layer(layer, body, &mut writer::range(&self.file, blob.offset, blob.size));
        // A place that was filled with something wrong is filled again, whole, or nothing is published.
        let progress = if stored.is_ok() { Progress::Verified } else { Progress::Reserved };
        self.state().blobs.get_mut(&digest).expect("it was reserved").progress = progress;
        stored
    }

    fn finish(&self) -> Result<()> {
        let (tops, nested) = {
            let mut state = self.state();
            if let Some((digest, _)) = state.blobs.iter().find(|(_, blob)| blob.progress != Progress::Verified) {
                return Err(Error::invalid(format!("blob {digest} was not written whole")));
            }
            let select = match &self.reference.select {
                LayoutSelect::Named(name) => Some(name.clone()),
                LayoutSelect::Only | LayoutSelect::Position(_) => None,
            };
            let tops = match (&state.index, state.images.len()) {
                _ if !state.named.is_empty() => {
                    state.named.iter().map(|(name, image)| (Some(name.clone()), image.clone())).collect()
                }
                (Some(index), _) => vec![(select, index.clone())],
                (None, 1) => vec![(select, state.images.values().next().expect("there is one").clone())],
                (None, 0) => return Err(Error::invalid("nothing was written")),
                (None, n) => {
                    return Err(Error::refused(format!("one name cannot stand for {n} images without a list of them")));
                }
            };
            let nested = std::mem::take(&mut state.nested);
            (tops, if state.index.is_some() { nested } else { BTreeMap::new() })
        };
        for index in nested.values() {
            self.put_document(index)?;
        }
        let mut index = LayoutIndex::new();
        for (name, top) in &tops {
            index.add(top, name.as_deref());
        }
        for (document, attachment) in std::mem::take(&mut self.state().referrers) {
            index.add_referrer(&document, &attachment)?;
        }
        let file = |name| Header { kind: FILE, name, mode: blob::MODE, link: "" };
        let end = writer::put(&self.file, self.state().end, file("index.json"), &index.to_bytes())?;
        let end = writer::put(&self.file, end, file("oci-layout"), OCI_LAYOUT_FILE)?;
        writer::finish(&self.file, end)?;
        self.file.sync_all().map_err(Error::from)?;
        self.staging.dir().rename(ARCHIVE, &self.place.parent, &self.place.name)?;
        self.place.parent.sync()
    }
}

impl ImageDestination for OciArchiveDestination {
    fn name(&self) -> String {
        name_of("oci-archive", &self.reference)
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        self.begin_as(image, Role::Image, None)
    }

    fn holds_referrers(&self) -> bool {
        true
    }

    fn begin_referrer<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        self.begin_as(image, Role::Referrer, None)
    }

    fn put_referrer(&self, document: &Attached, attachment: &Attachment) -> Result<()> {
        self.put_document(&document.raw)?;
        self.state().referrers.push((document.clone(), attachment.clone()));
        Ok(())
    }

    fn put_index(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        self.put_index_within(index, signatures)?;
        match self.state().index.replace(index.descriptor()) {
            None => Ok(()),
            Some(_) => Err(Error::refused("one name cannot stand for two lists of images")),
        }
    }

    fn put_index_within(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        refuse_signatures(signatures)?;
        self.put_document(index.raw()).context(|| format!("writing list {} to {}", index.digest(), self.name()))
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.finish().context(|| format!("publishing {}", self.name()))
    }
}

impl OciArchiveDestination {
    /// Begins an image that gets a name of its own; every image of the run must then get one.
    pub(crate) fn begin_named<'a>(&'a self, image: &'a Image, name: &str) -> Result<Box<dyn ImageWriter + 'a>> {
        self.begin_as(image, Role::Image, Some(name.to_string()))
    }

    fn begin_as<'a>(&'a self, image: &'a Image, role: Role, name: Option<String>) -> Result<Box<dyn ImageWriter + 'a>> {
        let frame = || format!("writing image {} to {}", image.manifest.digest(), self.name());
        // All places at once and in order, so that the same image gives the same archive, however its layers come.
        let mut state = self.state();
        for layer in image.manifest.layers() {
            self.reserve(&mut state, &layer.digest, layer.size).context(frame)?;
        }
        drop(state);
        self.put_document(&image.config_bytes).context(frame)?;
        self.put_document(image.manifest.raw()).context(frame)?;
        Ok(Box::new(ArchiveWriter { destination: self, image, role, name }))
    }
}

struct ArchiveWriter<'a> {
    destination: &'a OciArchiveDestination,
    image: &'a Image,
    role: Role,
    name: Option<String>,
}

impl ImageWriter for ArchiveWriter<'_> {
    fn reuse_layer(&self, layer: &Layer) -> Result<Option<Stored>> {
        // Only what this run has verified and written itself.
        let state = self.destination.state();
        let here = state.blobs.get(&layer.descriptor.digest).is_some_and(|blob| blob.progress == Progress::Verified);
        Ok(here.then(|| Stored::trusted_from_destinations_own_record(layer)))
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let frame = || format!("writing layer {} to {}", layer.descriptor.digest, self.destination.name());
        self.destination.put_layer(layer, body).context(frame)
    }

    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()> {
        refuse_signatures(&self.image.signatures)?;
        blob::require_all(self.image, &layers)?;
        match self.role {
            Role::Image => {}
            Role::Referrer => return Ok(()),
        }
        let descriptor = self.image.manifest.descriptor();
        let mut state = self.destination.state();
        state.nested.extend(self.image.indexes.iter().map(|index| (*index.digest(), index.raw().clone())));
        if let Some(name) = self.name {
            state.named.push((name, descriptor.clone()));
        }
        state.images.insert(descriptor.digest, descriptor);
        Ok(())
    }
}
