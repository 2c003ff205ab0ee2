//! Registries as a destination: blobs first, then manifests by digest, and the tag last, which makes all of it visible.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::conf::Purpose;
use super::listings::Listings;
use super::repository::{Begun, Repository};
use super::upload;
use super::url::Url;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::{
    Attached, Attachment, Capabilities, Image, ImageDestination, ImageWriter, Layer, LayerForm, LayerOrder,
    LayerReader, Stored, Support,
};
use crate::oci::{Digest, Index};
use crate::reference::DockerReference;
use crate::reference::Name;
use crate::signature::UntrustedSignature;
use crate::verify::VerifiedBytes;

/// The largest layer that is kept in memory and sent at once, in bytes.
const SMALL: u64 = 256 << 10;

/// How often an upload begins anew that cannot go on where it was.
const ATTEMPTS: u32 = 3;

/// A repository of a registry to write to.
pub struct RegistryDestination {
    reference: DockerReference,
    repository: Repository,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Manifests of images and of inner lists, in the order in which they must be put.
    documents: Vec<Attached>,
    top: Option<Attached>,
    /// What belongs to them, in the order in which it must be put.
    referrers: Vec<(Attached, Attachment)>,
    /// Uploads that a registry has begun instead of taking the blob from another repository.
    sessions: BTreeMap<Digest, Url>,
}

impl RegistryDestination {
    /// Prepares to write. Nothing is sent yet.
    pub fn create(client: &Client, reference: &DockerReference) -> Result<Self> {
        let frame = || format!("preparing docker:{reference}");
        let repository = super::source::primary(client, reference.name(), Purpose::Push).context(frame)?;
        Ok(Self { reference: reference.clone(), repository, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in it is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, digest: &Digest) {
        let host = self.repository.host();
        host.client().note_blob(host.authority(), digest, self.repository.path());
    }

    /// Takes the blob from where it is: this repository, or another one of the same host.
    fn is_there(&self, digest: &Digest, size: u64, source: Option<&str>) -> Result<bool> {
        let host = self.repository.host();
        let elsewhere = host.client().repository_with(host.authority(), digest);
        // What this run has put there, or seen there, is still there.
        if elsewhere.as_deref() == Some(self.repository.path()) || self.repository.has_blob(digest, size)? {
            self.note(digest);
            return Ok(true);
        }
        let from = elsewhere.as_deref().or(source).filter(|from| *from != self.repository.path());
        let Some(from) = from else { return Ok(false) };
        match self.repository.begin_upload(Some((digest, from))) {
            Ok(Begun::Mounted) => {
                self.note(digest);
                Ok(true)
            }
            Ok(Begun::Session(session)) => {
                self.state().sessions.insert(*digest, session);
                Ok(false)
            }
            // Who may not read there uploads.
            Err(error) if matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Forbidden) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn session(&self, digest: &Digest) -> Result<Url> {
        if let Some(session) = self.state().sessions.remove(digest) {
            return Ok(session);
        }
        match self.repository.begin_upload(None)? {
            Begun::Session(session) => Ok(session),
            Begun::Mounted => Err(Error::invalid("the registry answers an upload as if it had ended")),
        }
    }

    /// Puts a small blob, which goes along with the request that names it.
    fn put_small(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let mut attempt = 1;
        loop {
            let session = self.session(digest)?;
            match upload::finish(&self.repository, &session, digest, bytes) {
                Ok(()) => {
                    self.note(digest);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn put_document(&self, document: &VerifiedBytes) -> Result<()> {
        let (digest, bytes) = (document.digest(), document.bytes());
        if self.is_there(digest, bytes.len() as u64, None)? {
            return Ok(());
        }
        self.put_small(digest, bytes)
    }

    /// Returns the digest that the registry gives for a manifest, if it has it and says so.
    fn look_for(&self, reference: &str) -> Result<Option<Digest>> {
        match self.repository.announced(reference) {
            Ok(found) => Ok(found.and_then(|found| found.digest)),
            // A repository that is not there yet may be hidden. What matters is whether it can be written to.
            Err(error)
                if matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::Unsupported) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context(|| format!("looking for {reference} in {}", self.repository.name())),
        }
    }

    /// Puts a manifest by a tag, or by its digest, and notes where it must be listed.
    fn put_manifest(&self, tag: Option<&str>, document: &Attached, listings: &mut Listings) -> Result<()> {
        let digest = document.raw.digest().to_string();
        let (reference, media_type) = (tag.unwrap_or(&digest), &document.descriptor.media_type);
        let listed = self.repository.put_manifest(reference, &document.raw, media_type)?;
        if let Some(subject) = document.subject.filter(|subject| listed != Some(*subject)) {
            listings.add(subject, document.descriptor.clone());
        }
        Ok(())
    }
}

impl ImageDestination for RegistryDestination {
    fn name(&self) -> String {
        format!("docker:{}", self.reference)
    }

    fn docker_reference(&self) -> Option<Name> {
        Some(self.reference.name().clone())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            docker: Support::Native,
            oci: Support::Native,
            indexes: true,
            artifacts: true,
            signatures: false,
            layers: LayerForm::Blob,
            order: LayerOrder::Any,
            manifests: true,
        }
    }

    fn announced(&self) -> Result<Option<Digest>> {
        let name = self.reference.name();
        match (name.tag(), name.digest()) {
            (Some(tag), _) => self.look_for(tag),
            (None, Some(digest)) => self.look_for(&digest.to_string()),
            (None, None) => Ok(None),
        }
    }

    fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        self.look_for(&digest.to_string()).map(|found| found.is_some_and(|found| found == *digest))
    }

    fn begin<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        Ok(Box::new(RegistryWriter { destination: self, image, role: Role::Image }))
    }

    fn holds_referrers(&self) -> bool {
        true
    }

    fn begin_referrer<'a>(&'a self, image: &'a Image) -> Result<Box<dyn ImageWriter + 'a>> {
        Ok(Box::new(RegistryWriter { destination: self, image, role: Role::Referrer }))
    }

    fn put_referrer(&self, document: &Attached, attachment: &Attachment) -> Result<()> {
        self.state().referrers.push((document.clone(), attachment.clone()));
        Ok(())
    }

    fn put_index(&self, index: &Index, _: &[UntrustedSignature]) -> Result<()> {
        match self.state().top.replace(index.into()) {
            None => Ok(()),
            Some(_) => Err(Error::refused("a tag names one list of images only")),
        }
    }

    fn put_index_within(&self, index: &Index, _: &[UntrustedSignature]) -> Result<()> {
        self.state().documents.push(index.into());
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        let frame = || format!("publishing {}", self.name());
        let mut state = self.state();
        let (documents, referrers) = (std::mem::take(&mut state.documents), std::mem::take(&mut state.referrers));
        let (last, before) = match (state.top.take(), &documents[..]) {
            (Some(top), all) => (top, all),
            (None, [only]) => (only.clone(), &[][..]),
            (None, []) => return Err(Error::invalid("nothing was written")).context(frame),
            (None, all) => {
                let many = format!("a tag names one image, or one list of images; not {} images", all.len());
                return Err(Error::refused(many)).context(frame);
            }
        };
        drop(state);
        let name = self.reference.name();
        let tag = match (name.tag(), name.digest()) {
            (None, Some(digest)) if digest != last.raw.digest() => {
                return Err(Error::mismatch(format!("the image's manifest is {}, not {digest}", last.raw.digest())))
                    .context(|| "Digest of source image's manifest would not match destination reference")
                    .context(frame);
            }
            (tag, _) => tag,
        };
        let mut listings = Listings::default();
        for document in before {
            self.put_manifest(None, document, &mut listings).context(frame)?;
        }
        for (document, attachment) in &referrers {
            let tag = match attachment {
                Attachment::Tag(tag) => Some(tag.as_str()),
                Attachment::Subject | Attachment::Within => None,
            };
            self.put_manifest(tag, document, &mut listings).context(frame)?;
        }
        listings.write(&self.repository).context(frame)?;
        self.put_manifest(tag, &last, &mut listings).context(frame)?;
        listings.write(&self.repository).context(frame)
    }
}

struct RegistryWriter<'a> {
    destination: &'a RegistryDestination,
    image: &'a Image,
    role: Role,
}

/// What the blobs are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// An image, whose manifest is put with them.
    Image,
    /// Something that belongs to one; its manifest comes by itself.
    Referrer,
}

impl ImageWriter for RegistryWriter<'_> {
    fn reuse_layer(&self, layer: &Layer) -> Result<Option<Stored>> {
        let Layer { descriptor, .. } = layer;
        let host = self.destination.repository.host().authority();
        let source = self.image.repository.as_ref().filter(|name| name.host() == host);
        let source = source.and_then(|name| name.repository().split_once('/')).map(|(_, path)| path);
        let there = self.destination.is_there(&descriptor.digest, descriptor.size, source)?;
        Ok(there.then(|| Stored::trusted_from_destinations_own_record(layer)))
    }

    fn put_layer(&self, layer: &Layer, body: LayerReader) -> Result<Stored> {
        let Layer { descriptor, .. } = layer;
        let LayerReader::Blob(mut reader) = body else {
            return Err(Error::unsupported("a registry takes layers as the blobs that the manifest describes only"));
        };
        let (digest, size) = (descriptor.digest, descriptor.size);
        let frame = || format!("uploading blob {digest} to {}", self.destination.repository.name());
        let repository = &self.destination.repository;
        if size <= SMALL {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).context(frame)?;
            let verified = reader.finish().context(frame)?;
            self.destination.put_small(&digest, &bytes).context(frame)?;
            return Ok(Stored::verified(layer, verified));
        }
        let session = self.destination.session(&digest).context(frame)?;
        let session = upload::send(repository, session, size, &mut reader).context(frame)?;
        let verified = reader.finish().context(frame)?;
        upload::finish(repository, &session, &digest, b"")?;
        self.destination.note(&digest);
        Ok(Stored::verified(layer, verified))
    }

    fn commit(self: Box<Self>, layers: Vec<Stored>) -> Result<()> {
        for layer in &self.image.layers {
            if !layers.iter().any(|stored| stored.position == layer.position) {
                return Err(Error::invalid(format!("layer {} was not put", layer.position)))
                    .context(|| format!("writing image {}", self.image.manifest.digest()));
            }
        }
        self.destination.put_document(&self.image.config_bytes).context(|| "writing the image's config")?;
        match self.role {
            Role::Image => self.destination.state().documents.push((&self.image.manifest).into()),
            Role::Referrer => {}
        }
        Ok(())
    }
}
