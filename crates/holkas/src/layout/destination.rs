//! Writing an OCI layout: blobs are staged, then renamed to their digests; `index.json` comes last, under a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::index::{LayoutIndex, OCI_LAYOUT_FILE};
use super::partials::Partials;
use super::place::Place;
use super::{blob, blob_path, check_version, name_of, shared_blob_path};
use crate::error::{Context, Error, Result};
use crate::fs::Dir;
use crate::fs::lock::{Kind, Lock};
use crate::fs::staging::{Staging, sweep, sweep_files};
use crate::image::{
    Attached, Attachment, Capabilities, Image, ImageDestination, ImageWriter, Layer, LayerForm, LayerOrder,
    LayerReader, Stored, Support,
};
use crate::limits::{LAYOUT_INDEX, OCI_LAYOUT};
use crate::oci::{Algorithm, Descriptor, Digest, Index};
use crate::reference::{LayoutReference, LayoutSelect};
use crate::signature::UntrustedSignature;
use crate::verify::{PartialBlob, UntrustedBlob, VerifiedBytes};

/// An image of an OCI layout, to write.
#[derive(Debug)]
pub struct LayoutDestination {
    reference: LayoutReference,
    target: Target,
    /// Where blobs will be at last, if not in the layout itself.
    shared: Option<Dir>,
    /// Where blobs are written, on the file system where they will be.
    staged: Dir,
    /// Layers that an interrupted run leaves to the next.
    partials: Partials,
    staging: Staging,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Target {
    /// There is no such directory: a whole one is made beside its place, and renamed.
    New { place: Place, layout: Staging },
    /// The directory is there.
    Existing(Dir),
}

#[derive(Debug, Default)]
struct State {
    written: BTreeSet<Digest>,
    images: BTreeMap<Digest, Descriptor>,
    /// Images that got names of their own.
    named: Vec<(String, Descriptor)>,
    index: Option<Descriptor>,
    /// Indexes that lead to the images; they belong to what is written only if an index does.
    nested: BTreeMap<Digest, VerifiedBytes>,
    /// What belongs to them.
    referrers: Vec<(Attached, Attachment)>,
}

/// The new layout's directory in its staging directory.
const LAYOUT: &str = "layout";
/// The blobs' directory, in a layout and in its staging directory.
const BLOBS: &str = "blobs";

impl LayoutDestination {
    /// Prepares to write an image to a layout, which is made if it is missing; its parent must exist.
    ///
    /// Blobs go to `shared_blob_dir` if that is given, which must exist.
    pub fn create(reference: &LayoutReference, shared_blob_dir: Option<&Path>) -> Result<Self> {
        let frame = || format!("preparing {}", name_of("oci", reference));
        Self::prepare(reference, shared_blob_dir).context(frame)
    }

    fn prepare(reference: &LayoutReference, shared_blob_dir: Option<&Path>) -> Result<Self> {
        if let LayoutSelect::Position(_) = reference.select {
            return Err(Error::invalid("an image is written by name, not by position"));
        }
        let shared = shared_blob_dir.map(Dir::open).transpose()?;
        let existing = Dir::open_if_exists(&reference.path)?;
        let place = if existing.is_none() { Some(Place::find(&reference.path)?) } else { None };
        Self::prepare_in(reference, shared, existing, place)
    }

    /// Prepares to write images to a layout at a place that is held; it is made if it is missing.
    pub(crate) fn create_at(place: Place) -> Result<Self> {
        let reference = place.layout_reference();
        let frame = || format!("preparing {}", name_of("oci", &reference));
        // A run that was killed when the layout had just got its name left the rest beside it.
        sweep(&place.parent).context(frame)?;
        let existing = place.parent.sub_if_exists(&place.name).context(frame)?;
        if existing.is_none() && place.parent.exists(&place.name)? {
            return Err(Error::refused("it is there, and is not a directory")).context(frame);
        }
        let place = if existing.is_none() { Some(place) } else { None };
        Self::prepare_in(&reference, None, existing, place).context(frame)
    }

    fn prepare_in(
        reference: &LayoutReference,
        shared: Option<Dir>,
        existing: Option<Dir>,
        place: Option<Place>,
    ) -> Result<Self> {
        if let Some(dir) = &existing {
            // Look now at what would stop us at the end.
            check_version(dir.read("oci-layout", OCI_LAYOUT)?)?;
            read_index(dir)?;
        }
        // Blobs are renamed, so they are staged on the file system where they will be.
        let on = shared.as_ref().or(existing.as_ref()).or(place.as_ref().map(|place| &place.parent));
        let on = on.expect("the layout is there, or its place was found");
        let (staging, partials) = Staging::create_taking_partials(on)?;
        let target = match (existing, place) {
            (Some(dir), _) => Target::Existing(dir),
            (None, Some(place)) => {
                let layout = Staging::create(&place.parent)?;
                layout.dir().make(LAYOUT, 0o755)?.make(BLOBS, 0o755)?;
                Target::New { place, layout }
            }
            (None, None) => unreachable!("the place was looked for"),
        };
        let staged = staging.dir().make(BLOBS, 0o755)?;
        let (reference, partials) = (reference.clone(), Partials::new(partials));
        Ok(Self { reference, target, shared, staged, partials, staging, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    fn staged_for(&self, digest: &Digest) -> Result<Dir> {
        self.staged.make(digest.algorithm().name(), 0o755)
    }

    fn put_document(&self, document: &VerifiedBytes) -> Result<()> {
        blob::put_document(&self.staged_for(document.digest())?, &document.digest().hex(), document)
            .context(|| format!("writing {} to {}", document.digest(), self.name()))?;
        self.state().written.insert(*document.digest());
        Ok(())
    }

    /// Returns what `index.json` shall name, and by which names.
    fn tops(&self) -> Result<Vec<(Option<String>, Descriptor)>> {
        let state = self.state();
        if !state.named.is_empty() {
            return Ok(state.named.iter().map(|(name, image)| (Some(name.clone()), image.clone())).collect());
        }
        let top = match (&state.index, state.images.len()) {
            (Some(index), _) => index.clone(),
            (None, 1) => state.images.values().next().expect("there is one").clone(),
            (None, 0) => return Err(Error::invalid("nothing was written")),
            (None, n) => {
                return Err(Error::refused(format!("one name cannot stand for {n} images without a list of them")));
            }
        };
        let name = match &self.reference.select {
            LayoutSelect::Named(name) => Some(name.clone()),
            LayoutSelect::Only | LayoutSelect::Position(_) => None,
        };
        Ok(vec![(name, top)])
    }

    /// Begins an image that gets a name of its own; every image of the run must then get one.
    pub(crate) fn begin_named<'a>(&'a self, image: &'a Image, name: &str) -> Result<Box<dyn ImageWriter + 'a>> {
        self.put_document(&image.config_bytes)?;
        Ok(Box::new(LayoutWriter { destination: self, image, role: Role::Image, name: Some(name.to_string()) }))
    }

    /// Moves the staged blobs to where they shall be.
    fn place_blobs(&self, blobs: &Dir) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let Some(from) = self.staged.sub_if_exists(algorithm.name())? else { continue };
            let to = blobs.make(algorithm.name(), 0o755)?;
            for digest in self.state().written.iter().filter(|digest| digest.algorithm() == algorithm) {
                from.rename(digest.hex(), &to, digest.hex())?;
            }
            to.sync()?;
        }
        blobs.sync()
    }

    fn place(&self) -> Result<()> {
        let tops = self.tops()?;
        self.staging.leave_partials(false);
        self.partials.place(|digest| Ok((self.staged_for(digest)?, digest.hex())))?;
        let nested = std::mem::take(&mut self.state().nested);
        let is_top = |digest: &Digest| tops.iter().any(|(_, top)| top.digest == *digest);
        for index in nested.values().filter(|index| !is_top(index.digest()) && self.state().index.is_some()) {
            self.put_document(index)?;
        }
        if let Some(shared) = &self.shared {
            self.place_blobs(shared)?;
        }
        let (place, layout) = match &self.target {
            Target::New { place, layout } => (place, layout),
            Target::Existing(dir) => return self.add_to(dir, &tops),
        };
        if let Some(dir) = place.parent.sub_if_exists(&place.name)? {
            // Somebody else made it meanwhile.
            return self.add_to(&dir, &tops);
        }
        let new = layout.dir().sub(LAYOUT)?;
        if self.shared.is_none() {
            self.place_blobs(&new.sub(BLOBS)?)?;
        }
        let mut index = LayoutIndex::new();
        self.add_entries(&mut index, &tops)?;
        blob::put_bytes(&new, "index.json", &index.to_bytes())?;
        blob::put_bytes(&new, "oci-layout", OCI_LAYOUT_FILE)?;
        new.sync()?;
        layout.dir().rename(LAYOUT, &place.parent, &place.name)?;
        place.parent.sync()
    }

    /// Adds the images, then what belongs to them.
    fn add_entries(&self, index: &mut LayoutIndex, tops: &[(Option<String>, Descriptor)]) -> Result<()> {
        for (name, top) in tops {
            index.add(top, name.as_deref());
        }
        let state = self.state();
        state.referrers.iter().try_for_each(|(document, attachment)| index.add_referrer(document, attachment))
    }

    /// Makes the images visible in a layout that is there.
    fn add_to(&self, dir: &Dir, tops: &[(Option<String>, Descriptor)]) -> Result<()> {
        let blobs = dir.make(BLOBS, 0o755)?;
        if self.shared.is_none() {
            self.place_blobs(&blobs)?;
        }
        // The lock is on the one file that every layout has and nobody replaces.
        let lock = Lock::wait(dir.open_for_update("oci-layout", blob::MODE)?, Kind::Exclusive)?;
        sweep_files(dir)?;
        let mut index = read_index(dir)?;
        self.add_entries(&mut index, tops)?;
        if lock.file().metadata().map_err(Error::from)?.len() == 0 {
            std::io::Write::write_all(&mut lock.file(), OCI_LAYOUT_FILE).map_err(Error::from)?;
            lock.file().sync_data().map_err(Error::from)?;
        }
        blob::put_bytes(dir, "index.json", &index.to_bytes())?;
        dir.sync()
    }

    /// Opens a blob that the destination had before this run.
    fn open_present(&self, digest: &Digest) -> Result<Option<std::fs::File>> {
        match (&self.shared, &self.target) {
            (Some(shared), _) => shared.open_file(shared_blob_path(digest)),
            (None, Target::Existing(dir)) => dir.open_file(blob_path(digest)),
            (None, Target::New { .. }) => Ok(None),
        }
    }
}

fn read_index(dir: &Dir) -> Result<LayoutIndex> {
    match dir.read("index.json", LAYOUT_INDEX)? {
        Some(bytes) => LayoutIndex::parse(&bytes),
        None => Ok(LayoutIndex::new()),
    }
}

impl ImageDestination for LayoutDestination {
    fn name(&self) -> String {
        name_of("oci", &self.reference)
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        self.put_document(&image.config_bytes)?;
        Ok(Box::new(LayoutWriter { destination: self, image, role: Role::Image, name: None }))
    }

    fn holds_referrers(&self) -> bool {
        true
    }

    fn begin_referrer<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        self.put_document(&image.config_bytes)?;
        Ok(Box::new(LayoutWriter { destination: self, image, role: Role::Referrer, name: None }))
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
        self.put_document(index.raw())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.place().context(|| format!("publishing {}", self.name()))
    }
}

/// What an OCI layout can hold, as a directory or in a tar.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    docker: Support::OnRequest,
    oci: Support::Native,
    indexes: true,
    artifacts: true,
    signatures: false,
    layers: LayerForm::Blob,
    order: LayerOrder::Any,
    manifests: true,
};

/// Refuses what an OCI layout has no place for.
pub(crate) fn refuse_signatures(signatures: &[UntrustedSignature]) -> Result<()> {
    match signatures {
        [] => Ok(()),
        _ => Err(Error::unsupported("an OCI layout has no place for signatures")),
    }
}

struct LayoutWriter<'a> {
    destination: &'a LayoutDestination,
    image: &'a Image,
    role: Role,
    name: Option<String>,
}

/// What the blobs are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An image, whose manifest is put with them.
    Image,
    /// Something that belongs to one; its manifest comes by itself.
    Referrer,
}

impl ImageWriter for LayoutWriter<'_> {
    fn reuse_layer(&self, layer: &Layer) -> Result<Option<Stored>> {
        let digest = layer.descriptor.digest;
        if self.destination.state().written.contains(&digest) {
            return Ok(Some(Stored::trusted_from_destinations_own_record(layer)));
        }
        // A blob that was there is believed only when it has been read; a damaged one is written anew.
        let frame = || format!("looking for layer {digest} in {}", self.destination.name());
        match self.destination.open_present(&digest).context(frame)? {
            Some(file) if file.metadata().context(frame)?.len() == layer.descriptor.size => {
                Ok(UntrustedBlob::new(file).verify(&layer.descriptor).finish().ok().map(|p| Stored::verified(layer, p)))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn partial(&self, layer: &Layer) -> Result<Option<PartialBlob>> {
        self.destination.partials.claim(layer, &self.destination.staging)
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let digest = layer.descriptor.digest;
        let frame = || format!("writing layer {digest} to {}", self.destination.name());
        let LayoutDestination { partials, staging, .. } = self.destination;
        let stored = match partials.is_claimed_for(layer) {
            true => partials.put_layer(layer, body, staging),
            false => {
                let dir = self.destination.staged_for(&digest).context(frame)?;
                blob::put_layer(&dir, &digest.hex(), layer, body)
            }
        };
        let stored = stored.context(frame)?;
        self.destination.state().written.insert(digest);
        Ok(stored)
    }

    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()> {
        refuse_signatures(&self.image.signatures)?;
        blob::require_all(self.image, &layers)?;
        match self.role {
            Role::Image => {}
            Role::Referrer => return Ok(()),
        }
        self.destination.put_document(self.image.manifest.raw())?;
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
