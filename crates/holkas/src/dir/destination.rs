//! Writing a `dir:`: the whole directory is made beside its place, and takes it in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::siblings::Siblings;
use super::{VERSION, VERSION_PREFIX, blob_name};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::staging::Staging;
use crate::fs::{Dir, display};
use crate::image::{
    Capabilities, Image, ImageDestination, ImageWriter, Layer, LayerForm, LayerOrder, LayerReader, Schema1Support,
    Stored, Support,
};
use crate::layout::blob;
use crate::layout::partials::Partials;
use crate::layout::place::Place;
use crate::limits::DIR_VERSION;
use crate::oci::{Digest, Index};
use crate::signature::UntrustedSignature;
use crate::verify::{PartialBlob, VerifiedBytes};

/// A `dir:` to write to.
#[derive(Debug)]
pub struct DirDestination {
    path: PathBuf,
    target: Target,
    /// Below `staging`: the directory that will be the image.
    image: Dir,
    /// Layers that an interrupted run leaves to the next.
    partials: Partials,
    staging: Staging,
    siblings: Option<Arc<Siblings>>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Target {
    /// The staging directory is beside the place, and what it holds is renamed into it.
    Beside(Place),
    /// The directory stays and files are moved into it one by one, `manifest.json` last: it is empty, so that this is
    /// as good as a step, or it cannot be replaced, being a mount point or in a directory that is not ours.
    Within(Dir),
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeSet<Digest>,
    images: BTreeMap<Digest, Committed>,
    index: Option<(VerifiedBytes, Vec<UntrustedSignature>)>,
    /// Indexes that the index leads to.
    within: Vec<(VerifiedBytes, Vec<UntrustedSignature>)>,
}

#[derive(Debug)]
struct Committed {
    manifest: VerifiedBytes,
    signatures: Vec<UntrustedSignature>,
    /// Indexes through which the top index leads here, and perhaps the top index itself.
    indexes: Vec<VerifiedBytes>,
}

const IMAGE: &str = "image";
const OLD: &str = "old";

impl DirDestination {
    /// Prepares to write an image to `path`, whose parent must exist.
    ///
    /// An image that is there is replaced when the new one is published. Any other directory must be empty.
    pub fn create(path: &Path) -> Result<Self> {
        let frame = || format!("preparing dir:{}", display(path));
        let mut mode = 0o755;
        let (target, (staging, partials)) = match Dir::open_if_exists(path).context(frame)? {
            None => {
                let place = Place::find(path)?;
                let staging = Staging::create_taking_partials(&place.parent).context(frame)?;
                (Target::Beside(place), staging)
            }
            Some(dir) => {
                refuse_foreign(&dir).context(frame)?;
                mode = std::fs::metadata(path).context(frame)?.mode() & 0o7777;
                match replaceable(path, &dir).context(frame)? {
                    Some((place, staging)) => (Target::Beside(place), staging),
                    None => {
                        let staging = Staging::create_taking_partials(&dir).context(frame)?;
                        (Target::Within(dir), staging)
                    }
                }
            }
        };
        Self::prepare(path, target, (staging, partials), mode).context(frame)
    }

    /// Prepares to write an image at a place that is held.
    pub(crate) fn create_at(place: Place) -> Result<Self> {
        let path = place.path();
        let frame = || format!("preparing dir:{}", display(&path));
        let mut mode = 0o755;
        if let Some(dir) = place.parent.sub_if_exists(&place.name).context(frame)? {
            refuse_foreign(&dir).context(frame)?;
            if !place.parent.names(&place.name, &dir) {
                return Err(Error::refused("it is a symlink")).context(frame);
            }
            mode = rustix::fs::fstat(&dir).context(frame)?.st_mode & 0o7777;
        } else if place.parent.exists(&place.name)? {
            return Err(Error::refused("it is there, and is not a directory")).context(frame);
        }
        let staging = Staging::create_taking_partials(&place.parent).context(frame)?;
        Self::prepare(&path, Target::Beside(place), staging, mode).context(frame)
    }

    fn prepare(path: &Path, target: Target, (staging, partials): (Staging, Dir), mode: u32) -> Result<Self> {
        let image = staging.dir().make(IMAGE, mode)?;
        let partials = Partials::new(partials);
        let (path, state) = (path.to_path_buf(), Mutex::default());
        Ok(Self { path, target, image, partials, staging, siblings: None, state })
    }

    /// Shares blobs with the other directories of a run.
    #[must_use]
    pub fn sharing(self, siblings: Option<Arc<Siblings>>) -> Self {
        Self { siblings, ..self }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// Writes all that is known only when everything is there: manifests under their final names, signatures, version.
    fn finish(&self) -> Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let (top, signatures) = match (&state.index, state.images.len()) {
            (Some((index, signatures)), _) => (index, signatures),
            (None, 1) => {
                let (_, only) = state.images.first_key_value().expect("there is one");
                (&only.manifest, &only.signatures)
            }
            (None, 0) => return Err(Error::invalid("nothing was written")),
            (None, n) => {
                return Err(Error::refused(format!("a dir: holds one image, or one list of images; not {n} images")));
            }
        };
        self.partials.place(|digest| Ok((self.image.reopen()?, blob_name(digest))))?;
        blob::put_document(&self.image, "manifest.json", top)?;
        put_signatures(&self.image, "", signatures)?;
        for (digest, instance) in state.images.iter().filter(|_| state.index.is_some()) {
            let name = blob_name(digest);
            blob::put_document(&self.image, &format!("{name}.manifest.json"), &instance.manifest)?;
            put_signatures(&self.image, &format!("{name}."), &instance.signatures)?;
            for index in instance.indexes.iter().filter(|index| index.digest() != top.digest()) {
                blob::put_document(&self.image, &format!("{}.manifest.json", blob_name(index.digest())), index)?;
            }
        }
        for (index, signatures) in &state.within {
            let name = blob_name(index.digest());
            blob::put_document(&self.image, &format!("{name}.manifest.json"), index)?;
            put_signatures(&self.image, &format!("{name}."), signatures)?;
        }
        blob::put_bytes(&self.image, "version", VERSION)?;
        self.image.sync()
    }
}

/// Returns the place of a directory with an image, and a staging directory beside it, if it can be replaced.
fn replaceable(path: &Path, dir: &Dir) -> Result<Option<(Place, (Staging, Dir))>> {
    if is_empty(&dir.entries()?) {
        return Ok(None);
    }
    let real = std::fs::canonicalize(path)?;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
    match real.parent() {
        Some(parent) if device(parent)? == device(&real)? => {}
        Some(_) | None => return Ok(None),
    }
    let place = Place::find(&real)?;
    match Staging::create_taking_partials(&place.parent) {
        Ok(staging) => Ok(Some((place, staging))),
        Err(error) if error.kind() == ErrorKind::Forbidden => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether there is nothing but what a killed run left.
fn is_empty(entries: &[OsString]) -> bool {
    entries.iter().all(|name| name.as_bytes().starts_with(crate::fs::UNVERIFIED.as_bytes()))
}

/// Refuses a directory with files that are no image: they are somebody's, and replacing would destroy them.
fn refuse_foreign(dir: &Dir) -> Result<()> {
    let entries = dir.entries()?;
    if is_empty(&entries) {
        return Ok(());
    }
    match dir.read("version", DIR_VERSION) {
        Ok(Some(version)) if version.starts_with(VERSION_PREFIX) => Ok(()),
        _ => Err(Error::refused("not a containers image directory, don't want to overwrite important data")
            .hint("choose a path that does not exist yet, or an empty directory")),
    }
}

fn put_signatures(dir: &Dir, prefix: &str, signatures: &[UntrustedSignature]) -> Result<()> {
    for (n, signature) in signatures.iter().enumerate() {
        blob::put_bytes(dir, &format!("{prefix}signature-{}", n + 1), &signature.0)?;
    }
    Ok(())
}

impl ImageDestination for DirDestination {
    fn name(&self) -> String {
        format!("dir:{}", display(&self.path))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            docker: Support::Native,
            oci: Support::Native,
            indexes: true,
            artifacts: true,
            signatures: true,
            layers: LayerForm::Blob,
            order: LayerOrder::Any,
            manifests: true,
        }
    }

    fn schema1(&self) -> Schema1Support {
        Schema1Support::AnyName
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        if let Some(config) = image.kept_config() {
            let name = blob_name(config.digest());
            blob::put_document(&self.image, &name, config).context(|| format!("writing {}", self.name()))?;
        }
        Ok(Box::new(DirWriter { destination: self, image }))
    }

    fn put_index(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        match self.state().index.replace((index.raw().clone(), signatures.to_vec())) {
            None => Ok(()),
            Some(_) => Err(Error::refused("a dir: holds one list of images only")),
        }
    }

    fn put_index_within(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        self.state().within.push((index.raw().clone(), signatures.to_vec()));
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        let frame = || format!("publishing dir:{}", display(&self.path));
        self.staging.leave_partials(false);
        self.finish().context(frame)?;
        let work = self.staging.dir();
        match &self.target {
            Target::Beside(place) => {
                if place.parent.exists(&place.name)? {
                    // Somebody may have put files there since we looked.
                    refuse_foreign(&place.parent.sub(&place.name)?).context(frame)?;
                    place.parent.rename(&place.name, work, OLD).context(frame)?;
                    if let Err(error) = work.rename(IMAGE, &place.parent, &place.name) {
                        work.rename(OLD, &place.parent, &place.name).context(frame)?;
                        return Err(error).context(frame);
                    }
                } else {
                    work.rename(IMAGE, &place.parent, &place.name).context(frame)?;
                }
                place.parent.sync().context(frame)
            }
            Target::Within(dir) => {
                refuse_foreign(dir).context(frame)?;
                for name in dir.entries()? {
                    if !name.as_bytes().starts_with(crate::fs::UNVERIFIED.as_bytes()) {
                        dir.remove_all(name.as_bytes()).context(frame)?;
                    }
                }
                // The file without which there is no image comes last.
                let (last, first): (Vec<_>, Vec<_>) =
                    self.image.entries()?.into_iter().partition(|name| name.as_bytes() == b"manifest.json");
                for name in first.into_iter().chain(last) {
                    self.image.rename(name.as_bytes(), dir, name.as_bytes()).context(frame)?;
                }
                dir.sync().context(frame)
            }
        }
    }
}

struct DirWriter<'a> {
    destination: &'a DirDestination,
    image: &'a Image,
}

impl ImageWriter for DirWriter<'_> {
    fn reuse_layer(&self, layer: &Layer) -> Result<Option<Stored>> {
        // Only what this run has verified itself.
        let (digest, destination) = (&layer.descriptor.digest, self.destination);
        let mut here = destination.state().blobs.contains(digest);
        if let (false, Some(siblings)) = (here, &destination.siblings) {
            here = siblings.link(&layer.descriptor, &destination.image, &blob_name(digest))?;
            if here {
                destination.state().blobs.insert(*digest);
            }
        }
        Ok(here.then(|| Stored::trusted_from_destinations_own_record(layer)))
    }

    fn partial(&self, layer: &Layer) -> Result<Option<PartialBlob>> {
        self.destination.partials.claim(layer, &self.destination.staging)
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let digest = layer.descriptor.digest;
        let DirDestination { partials, staging, image, .. } = self.destination;
        let claimed = partials.is_claimed_for(layer);
        let stored = match claimed {
            true => partials.put_layer(layer, body, staging),
            false => blob::put_layer(image, &blob_name(&digest), layer, body),
        };
        let stored = stored.context(|| format!("writing layer {digest} to {}", self.destination.name()))?;
        if let Some(siblings) = &self.destination.siblings {
            let file = if claimed { partials.open(&digest)? } else { image.open_file_itself(blob_name(&digest))? };
            file.into_iter().for_each(|file| siblings.keep(&digest, file));
        }
        self.destination.state().blobs.insert(digest);
        Ok(stored)
    }

    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()> {
        blob::require_all(self.image, &layers)?;
        let (manifest, descriptor) = self.image.kept_manifest();
        let committed = Committed {
            manifest: manifest.clone(),
            signatures: self.image.signatures.clone(),
            indexes: self.image.indexes.iter().map(|index| index.raw().clone()).collect(),
        };
        self.destination.state().images.insert(descriptor.digest, committed);
        Ok(())
    }
}
