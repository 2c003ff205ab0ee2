//! Writing a docker-archive in one pass: layers are unpacked into it as they come, and their sizes noted afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Mutex, MutexGuard};

use serde_json::json;

use super::legacy::{self, go_json};
use super::{Item, name_of};
use crate::archive::writer::{self, FILE, Header, SYMLINK};
use crate::compress::Decoder;
use crate::error::{Context, Error, Result};
use crate::fs::staging::Staging;
use crate::image::{
    Capabilities, Image, ImageDestination, ImageWriter, Layer, LayerForm, LayerOrder, LayerReader, Stored, Support,
};
use crate::layout::blob;
use crate::layout::place::Place;
use crate::oci::{Digest, ImageConfig, Index};
use crate::reference::{ArchiveSelect, DockerArchiveReference, Name};
use crate::signature::UntrustedSignature;
use crate::verify::DiffReader;

/// A docker-archive to write. An archive that is there is not added to.
#[derive(Debug)]
pub struct DockerArchiveDestination {
    reference: DockerArchiveReference,
    tags: Vec<Name>,
    place: Place,
    staging: Staging,
    file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the next header goes.
    end: u64,
    /// Names in the archive.
    names: BTreeSet<String>,
    image: Option<Finished>,
}

#[derive(Debug)]
struct Finished {
    item: Item,
    /// The ID of the topmost layer for Docker before 1.10.
    top: Option<String>,
}

const ARCHIVE: &str = "archive";

impl DockerArchiveDestination {
    /// Prepares to write an archive, whose directory must exist. The image gets the tag of the reference and these.
    pub fn create(reference: &DockerArchiveReference, additional_tags: &[Name]) -> Result<Self> {
        Self::prepare(reference, additional_tags).context(|| format!("preparing {}", name_of(reference)))
    }

    fn prepare(reference: &DockerArchiveReference, additional_tags: &[Name]) -> Result<Self> {
        let mut tags = match &reference.select {
            ArchiveSelect::Only => Vec::new(),
            ArchiveSelect::Tag(name) => vec![name.clone().with_default_tag()],
            ArchiveSelect::Position(_) => return Err(Error::invalid("an image is written by tag, not by position")),
        };
        for tag in additional_tags {
            let tag = tag.clone().with_default_tag();
            if tag.tag().is_none() || tag.digest().is_some() {
                return Err(Error::invalid(format!("`{tag}` is not a name with a tag")));
            }
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        refuse_existing(reference)?;
        let place = Place::find(&reference.path)?;
        let staging = Staging::create(&place.parent)?;
        let file = staging.dir().open_for_update(ARCHIVE, blob::MODE)?;
        Ok(Self { reference: reference.clone(), tags, place, staging, file, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// Writes a file or symlink, unless the archive has it.
    fn put(&self, name: &str, kind: u8, link: &str, contents: &[u8]) -> Result<()> {
        let mut state = self.state();
        if state.names.insert(name.to_string()) {
            let mode = if kind == SYMLINK { 0 } else { MODE };
            state.end = writer::put(&self.file, state.end, Header { kind, name, mode, link }, contents)?;
        }
        Ok(())
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let diff_id = layer.diff_id.ok_or_else(|| Error::unsupported("a docker-archive holds images only"))?;
        let name = layer_name(&diff_id.0);
        // Held to the end: an entry's place is known only when the one before it is whole.
        let mut state = self.state();
        let known = state.names.contains(&name);
        let at = state.end;
        let header = Header { kind: FILE, name: &name, mode: MODE, link: "" };
        let (offset, _) = match known {
            true => (at, at),
            false => {
                // What an attempt that failed has left must not become padding.
                self.file.set_len(at).map_err(Error::from)?;
                writer::reserve(&self.file, at, header, 0)?
            }
        };
        let mut out = writer::range(&self.file, offset, u64::MAX);
        let mut sink = std::io::sink();
        let out: &mut dyn std::io::Write = if known { &mut sink } else { &mut out };
        let (stored, size) = match body {
            LayerReader::Blob(reader) => {
                let (_, decoder) = Decoder::new(reader)?;
                let mut diff = DiffReader::new(decoder, diff_id);
                let size = blob::copy(&mut diff, out)?;
                let (_, decoder) = diff.finish()?;
                (Stored::verified(layer, decoder.finish()?.finish()?), size)
            }
            LayerReader::Diff(mut diff) => {
                let size = blob::copy(&mut diff, out)?;
                let (proof, _) = diff.finish()?;
                if *proof.diff_id() != diff_id {
                    return Err(Error::mismatch(format!("the layer is {}, not {diff_id}", proof.diff_id())));
                }
                (Stored::unpacked(layer, proof), size)
            }
        };
        if !known {
            (_, state.end) = writer::reserve(&self.file, at, header, size)?;
            state.names.insert(name);
        }
        Ok(stored)
    }

    fn finish_image(&self, image: &Image, config: &ImageConfig) -> Result<()> {
        let config_name = format!("{}.json", image.config_bytes.digest().hex());
        self.put(&config_name, FILE, "", image.config_bytes.bytes())?;
        let legacy = legacy::layers(config);
        for layer in &legacy {
            let target = format!("../{}", layer_name(&layer.diff_id));
            self.put(&format!("{}/layer.tar", layer.id), SYMLINK, &target, &[])?;
            self.put(&format!("{}/VERSION", layer.id), FILE, "", b"1.0")?;
            self.put(&format!("{}/json", layer.id), FILE, "", &layer.json)?;
        }
        let tags: Vec<_> = self.tags.iter().map(Name::to_string).collect();
        let item = Item {
            config: config_name,
            repo_tags: Some(tags),
            layers: Some(config.diff_ids().iter().map(|diff_id| layer_name(&diff_id.0)).collect()),
        };
        let top = legacy.last().map(|layer| layer.id.clone());
        match self.state().image.replace(Finished { item, top }) {
            None => Ok(()),
            Some(_) => Err(Error::refused("one archive is written with one image")),
        }
    }

    fn finish(&self) -> Result<()> {
        let Some(Finished { item, top }) = self.state().image.take() else {
            return Err(Error::invalid("nothing was written"));
        };
        let mut repositories = BTreeMap::<&str, BTreeMap<&str, &str>>::new();
        for name in &self.tags {
            if let (Some(top), Some(tag)) = (&top, name.tag()) {
                repositories.entry(name.repository()).or_default().insert(tag, top);
            }
        }
        self.put("manifest.json", FILE, "", &go_json(&json!([item])))?;
        self.put("repositories", FILE, "", &go_json(&json!(repositories)))?;
        writer::finish(&self.file, self.state().end)?;
        self.file.sync_all().map_err(Error::from)?;
        // Somebody may have put a file there since we looked.
        refuse_existing(&self.reference)?;
        self.staging.dir().rename(ARCHIVE, &self.place.parent, &self.place.name)?;
        self.place.parent.sync()
    }
}

/// What skopeo gives files in an archive.
const MODE: u32 = 0o444;

fn layer_name(diff_id: &Digest) -> String {
    // As in skopeo; an archive cannot tell SHA-512 from SHA-256, but their lengths can.
    format!("{}.tar", diff_id.hex())
}

fn refuse_existing(reference: &DockerArchiveReference) -> Result<()> {
    match std::fs::metadata(&reference.path) {
        Ok(there) if !there.is_file() => Err(Error::refused("it is there, and is not a regular file")),
        Ok(there) if there.len() > 0 => Err(Error::refused("docker-archive doesn't support modifying existing images")
            .hint("write to another file, or remove this one first")),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl ImageDestination for DockerArchiveDestination {
    fn name(&self) -> String {
        name_of(&self.reference)
    }

    fn docker_reference(&self) -> Option<Name> {
        match &self.reference.select {
            ArchiveSelect::Tag(name) => Some(name.clone()),
            ArchiveSelect::Only | ArchiveSelect::Position(_) => None,
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            docker: Support::Native,
            oci: Support::No,
            indexes: false,
            artifacts: false,
            signatures: false,
            layers: LayerForm::Unpacked,
            order: LayerOrder::BaseFirst,
            manifests: false,
        }
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        let Some(config) = &image.config else {
            return Err(Error::unsupported("a docker-archive holds images only, and this is an artifact")
                .context(format!("writing {}", self.name())));
        };
        Ok(Box::new(ArchiveWriter { destination: self, image, config }))
    }

    fn put_index(&self, _: &Index, _: &[UntrustedSignature]) -> Result<()> {
        Err(Error::unsupported("a docker-archive has no place for lists of images"))
    }

    fn put_index_within(&self, index: &Index, signatures: &[UntrustedSignature]) -> Result<()> {
        self.put_index(index, signatures)
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.finish().context(|| format!("publishing {}", self.name()))
    }
}

struct ArchiveWriter<'a> {
    destination: &'a DockerArchiveDestination,
    image: &'a Image,
    config: &'a ImageConfig,
}

impl ImageWriter for ArchiveWriter<'_> {
    fn reuse_layer(&self, _: &Layer) -> Result<Option<Stored>> {
        // A layer that occurs twice is read twice and written once: the second reading proves its blob.
        Ok(None)
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        self.destination
            .put_layer(layer, body)
            .context(|| format!("writing layer {} to {}", layer.descriptor.digest, self.destination.name()))
    }

    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()> {
        let frame = || format!("writing image {} to {}", self.image.config_bytes.digest(), self.destination.name());
        if !self.image.signatures.is_empty() {
            return Err(Error::unsupported("a docker-archive has no place for signatures")).context(frame);
        }
        blob::require_all(self.image, &layers)?;
        self.destination.finish_image(self.image, self.config).context(frame)
    }
}
