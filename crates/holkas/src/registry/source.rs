//! Images of registries as a source: from the first place that has them, verified wherever they come from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::client::Client;
use super::conf::{Endpoint, EndpointKind, Purpose};
use super::download::Download;
use super::places::{Place, Places};
use super::repository::Repository;
use super::scopes::docker_scopes;
use super::signatures::Signatures;
use crate::cache::{self, Fetched};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::{ImageSource, Layer, LayerBlob, PolicyIdentity, Referrer};
use crate::limits::MANIFEST;
use crate::oci::{Descriptor, Digest};
use crate::reference::{DockerReference, Name};
use crate::signature::UntrustedSignature;
use crate::verify::{PartialBlob, UntrustedBlob, VerifiedBytes};

/// An image, or a list of images, in a registry.
pub struct RegistrySource {
    reference: DockerReference,
    places: Arc<Places>,
    /// The top document, once it was read, and the place that it is from: a tag may name another image a moment later.
    top: Mutex<Option<(usize, VerifiedBytes)>>,
    /// The signatures that were read, by the manifest: what is verified is what goes on.
    signatures: Mutex<BTreeMap<Digest, Vec<UntrustedSignature>>>,
}

/// Returns where a name can be read, in order.
pub(super) fn places(client: &Client, name: &Name) -> Result<Places> {
    let settings = client.settings();
    let endpoints = settings.registries.endpoints(name, Purpose::Pull)?;
    let is_mirror = |endpoint: &Endpoint| endpoint.kind == EndpointKind::Mirror;
    let wanted = endpoints.iter().filter(|endpoint| settings.mirrors || !is_mirror(endpoint));
    let places =
        wanted.map(|endpoint| Place::new(repository(client, endpoint), endpoint.name.clone(), is_mirror(endpoint)));
    Ok(Places::new(client.clone(), places.collect()))
}

/// Returns the one place that a name has for what no mirror does.
pub(super) fn primary(client: &Client, name: &Name, purpose: Purpose) -> Result<Repository> {
    let endpoints = client.settings().registries.endpoints(name, purpose)?;
    let endpoint = endpoints.first().ok_or_else(|| Error::not_found("no host is known for it"))?;
    Ok(repository(client, endpoint))
}

/// Returns the repository that an endpoint has.
pub(super) fn repository(client: &Client, endpoint: &Endpoint) -> Repository {
    Repository::new(client.host(endpoint.host(), endpoint.insecure), endpoint.path())
}

impl RegistrySource {
    /// Prepares to read an image. Nothing is asked yet.
    pub fn open(client: &Client, reference: &DockerReference) -> Result<Self> {
        if reference.is_unknown_digest() {
            return Err(Error::invalid("it names no image to read, only a place to write one"))
                .context(|| format!("opening docker:{reference}"));
        }
        let places = places(client, reference.name()).context(|| format!("opening docker:{reference}"))?;
        Ok(Self {
            reference: reference.clone(),
            places: Arc::new(places),
            top: Mutex::default(),
            signatures: Mutex::default(),
        })
    }

    /// Asks each place in order, until one has what is wanted.
    fn ask<T>(&self, what: &str, ask: impl Fn(&Repository) -> Result<T>) -> Result<T> {
        self.ask_for_place(what, ask).map(|(_, answer)| answer)
    }

    /// As [`RegistrySource::ask`]; returns also which place it was.
    fn ask_for_place<T>(&self, what: &str, ask: impl Fn(&Repository) -> Result<T>) -> Result<(usize, T)> {
        let mut failed: Option<Error> = None;
        for (n, place) in self.places.iter() {
            match ask(place.repository()) {
                Ok(answer) => return Ok((n, answer)),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) if n + 1 < self.places.len() => {
                    self.places.client().warn(&format!("{what} of {place}: {error}; asking the next place"));
                    failed.get_or_insert(error);
                }
                Err(error) => {
                    // That an image is nowhere is not said by a mirror that could not be reached.
                    return Err(match failed {
                        Some(before) => error.context(format!("a mirror failed, too ({before})")),
                        None => error,
                    });
                }
            }
        }
        Err(Error::not_found("there is no place to read it from"))
    }

    /// Returns what the reference names, and the place that has it.
    fn find_top(&self) -> Result<(usize, VerifiedBytes)> {
        // The document is whole or absent.
        let mut top = self.top.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(top) = &*top {
            return Ok(top.clone());
        }
        let name = self.reference.name();
        let read = |repository: &Repository| repository.manifest(name.tag().unwrap_or_default(), name.digest());
        Ok(top.insert(self.ask_for_place("manifest", read)?).clone())
    }
}

impl ImageSource for RegistrySource {
    fn name(&self) -> String {
        format!("docker:{}", self.reference)
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        docker_scopes(self.reference.name())
    }

    fn top(&self) -> Result<VerifiedBytes> {
        self.find_top().map(|(_, top)| top)
    }

    fn announced(&self) -> Result<Option<Digest>> {
        let name = self.reference.name();
        if let Some(digest) = name.digest() {
            return Ok(Some(*digest));
        }
        let tag = name.tag().unwrap_or_default();
        self.ask("manifest", |repository| match repository.announced(tag) {
            Ok(Some(announced)) => Ok(announced.digest),
            Ok(None) => Err(Error::not_found("not found")),
            // Then it is read.
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        })
        .context(|| format!("looking for {}", self.name()))
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        MANIFEST.check(descriptor.size)?;
        let read = |repository: &Repository| repository.manifest("", Some(&descriptor.digest));
        Ok(UntrustedBlob::from_bytes(self.ask("manifest", read)?.bytes().to_vec()))
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.open_blob(descriptor, None)
    }

    fn blob_size(&self, blob: &Digest) -> Result<u64> {
        self.ask("blob", |repository| repository.blob_size(blob))
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        self.open_blob(&layer.descriptor, None).map(LayerBlob::AsDescribed)
    }

    fn resumes(&self) -> bool {
        true
    }

    fn open_layer_from(&self, layer: &Layer, beginning: PartialBlob) -> Result<LayerBlob> {
        let beginning = Some(beginning).filter(|beginning| beginning.length() <= layer.descriptor.size);
        self.open_blob(&layer.descriptor, beginning).map(LayerBlob::AsDescribed)
    }

    fn try_another_place(&self, blob: &Descriptor, _: &Error) -> bool {
        // What the cache cannot forget it would give again.
        let cache = self.places.client().settings().cache.as_ref();
        match cache.map(|cache| cache.strike_off(&blob.digest)) {
            Some(Ok(true)) => true,
            Some(Err(_)) => false,
            Some(Ok(false)) | None => self.places.strike(&blob.digest),
        }
    }

    fn take_warnings(&self) -> Vec<String> {
        self.places.client().settings().cache.iter().filter_map(|cache| cache.take_warning()).collect()
    }

    fn keeps_referrers(&self) -> bool {
        true
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Referrer>> {
        super::referrers::find(&self.places, subject)
    }

    fn repository(&self) -> Option<&Name> {
        Some(self.reference.name())
    }

    /// As in containers/image, they are where the place says that the image itself was found at, a mirror or not.
    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
        // Each is there as a whole.
        let mut known = self.signatures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(manifest) {
            return Ok(found.clone());
        }
        let place = self.places.get(self.find_top()?.0);
        let signatures = Signatures::of(place.repository(), place.name());
        let found = signatures.read(manifest, &|blob| self.open_blob(blob, None))?;
        Ok(known.entry(*manifest).or_insert(found).clone())
    }
}

impl RegistrySource {
    /// Opens a blob: out of the cache, or from the first place that has it, and then it is kept.
    fn open_blob(&self, blob: &Descriptor, beginning: Option<PartialBlob>) -> Result<UntrustedBlob> {
        let fetch = |from| {
            let reader = Box::new(Download::open(&self.places, blob.digest, blob.size, from)?);
            Ok(Fetched { reader, from })
        };
        match &self.places.client().settings().cache {
            Some(cache) => cache.open_blob(blob, beginning, fetch),
            None => cache::resume(blob, beginning, fetch),
        }
    }
}
