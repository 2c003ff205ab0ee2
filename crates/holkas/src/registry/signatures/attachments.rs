//! What cosign keeps beside an image: an OCI manifest under the tag `sha256-HEX.sig`, in which each layer is a signature.
//!
//! The layer's blob is what was signed, and its annotations have the signature, certificates and proofs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::repository::Repository;
use super::check_count;
use crate::error::{Context, Error, Result};
use crate::image::cosign_tags;
use crate::limits::{CONFIG, MANIFEST, SIGNATURE, SIGNATURES};
use crate::oci::media_type::{OCI_CONFIG, OCI_MANIFEST};
use crate::oci::{self, Algorithm, Descriptor, Digest, Manifest, MediaType};
use crate::signature::SigstoreSignature;
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// Blobs of the repository that is written to.
pub(in super::super) trait Blobs {
    /// Puts a blob, if it is not there.
    fn put(&self, bytes: &VerifiedBytes) -> Result<()>;
}

/// Returns the tag of a manifest's signatures: there is none for a digest that makes no tag.
fn tag(manifest: &Digest) -> Option<String> {
    cosign_tags(manifest).into_iter().next()
}

/// Reads the manifest of signatures; `None` if there is none.
fn find(repository: &Repository, tag: &str) -> Result<Option<Manifest>> {
    let frame = || format!("reading the signatures under the tag {tag}");
    repository.tagged(tag).context(frame)?.map(|raw| of_signatures(raw).context(frame)).transpose()
}

fn of_signatures(raw: VerifiedBytes) -> Result<Manifest> {
    let manifest = Manifest::parse(raw)?;
    if manifest.media_type().essence() != OCI_MANIFEST {
        return Err(Error::invalid(format!("it is of type `{}`, not an OCI manifest", manifest.media_type())));
    }
    Ok(manifest)
}

/// Reads all signatures of a manifest. `open` opens blobs of the repository.
pub(super) fn read(
    repository: &Repository,
    manifest: &Digest,
    open: &dyn Fn(&Descriptor) -> Result<UntrustedBlob>,
) -> Result<Vec<SigstoreSignature>> {
    let Some(tag) = tag(manifest) else { return Ok(Vec::new()) };
    let Some(found) = find(repository, &tag)? else { return Ok(Vec::new()) };
    let frame = || format!("reading the signatures under the tag {tag}");
    check_layers(found.layers()).context(frame)?;
    // Whoever signs twice signs the same.
    let mut payloads: BTreeMap<Digest, VerifiedBytes> = BTreeMap::new();
    let mut signatures = Vec::new();
    for layer in found.layers() {
        let payload = match payloads.get(&layer.digest) {
            Some(known) if known.bytes().len() as u64 == layer.size => known.clone(),
            _ => open(layer).and_then(|blob| blob.read_verified(layer, SIGNATURE)).context(frame)?,
        };
        signatures.push(SigstoreSignature {
            mime_type: layer.media_type.as_str().to_string(),
            payload: payload.bytes().to_vec(),
            annotations: layer.annotations.clone().unwrap_or_default(),
        });
        payloads.insert(layer.digest, payload);
    }
    Ok(signatures)
}

/// Refuses too many signatures, or too much of them, before any is fetched.
fn check_layers(layers: &[Descriptor]) -> Result<()> {
    check_count(layers.len())?;
    layers.iter().try_for_each(|layer| SIGNATURE.check(layer.size))
}

/// Adds signatures to those that a manifest has, each once, and behind those that are there.
///
/// Who else adds some in the same moment may take them out again: the protocol has no lock.
pub(super) fn write(
    repository: &Repository,
    manifest: &Digest,
    signatures: &[SigstoreSignature],
    blobs: &dyn Blobs,
) -> Result<()> {
    let tag = tag(manifest).ok_or_else(|| {
        Error::unsupported(format!("there are no sigstore signatures of a digest of {}", manifest.algorithm().name()))
    })?;
    let (mut document, mut config, mut layers) = match find(repository, &tag)? {
        None => (new_manifest(), new_config(), Vec::new()),
        Some(found) => {
            let frame = || format!("reading the config of the signatures under the tag {tag}");
            let config = repository.config(found.config()).context(frame)?;
            let config = oci::json::parse_object(config.bytes()).context(frame)?;
            (oci::json::parse_object(found.raw().bytes())?, config, found.layers().to_vec())
        }
    };
    let new = not_yet(&mut layers, signatures)?;
    if new.is_empty() {
        return Ok(());
    }
    for (_, payload) in &new {
        blobs.put(payload)?;
    }
    let diff_ids = new.iter().map(|(layer, _)| json!(layer.digest.to_string()));
    extend(object(&mut config, "rootfs")?, "diff_ids", diff_ids)?;
    let config = written(config, OCI_CONFIG)?;
    CONFIG.check(config.bytes().len() as u64)?;
    blobs.put(&config)?;
    extend(&mut document, "layers", new.iter().map(|(layer, _)| json!(layer)))?;
    let described = Descriptor::new(MediaType::new(OCI_CONFIG), *config.digest(), config.bytes().len() as u64);
    document.insert("config".to_string(), json!(described));
    let document = written(document, OCI_MANIFEST)?;
    let size = document.bytes().len() as u64;
    let descriptor = Descriptor::new(MediaType::new(OCI_MANIFEST), *document.digest(), size);
    repository.put_manifest(&tag, &document, &descriptor).map(|_| ())
}

/// Adds layers for the signatures that are not among them, and returns those with what was signed.
fn not_yet(layers: &mut Vec<Descriptor>, signatures: &[SigstoreSignature]) -> Result<Vec<(Descriptor, VerifiedBytes)>> {
    let mut new = Vec::new();
    for signature in signatures {
        let media_type = MediaType::new(signature.mime_type.clone());
        let payload = UntrustedBlob::from_bytes(signature.payload.clone());
        let payload = payload.identify(Algorithm::Sha256, Some(media_type.clone()), SIGNATURE)?;
        let mut layer = Descriptor::new(media_type, *payload.digest(), payload.bytes().len() as u64);
        layer.annotations = Some(signature.annotations.clone()).filter(|annotations| !annotations.is_empty());
        let same = |known: &Descriptor| {
            let annotations = known.annotations.as_ref().filter(|annotations| !annotations.is_empty());
            (&known.media_type, &known.digest, known.size) == (&layer.media_type, &layer.digest, layer.size)
                && annotations == layer.annotations.as_ref()
        };
        if !layers.iter().any(same) {
            layers.push(layer.clone());
            new.push((layer, payload));
        }
    }
    if layers.len() > SIGNATURES {
        return Err(Error::invalid(format!("there would be more than {SIGNATURES} sigstore signatures")));
    }
    Ok(new)
}

fn new_manifest() -> Map<String, Value> {
    let document = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": null, "layers": [] });
    document.as_object().cloned().unwrap_or_default()
}

/// Returns the config that Go writes for an image that is none.
fn new_config() -> Map<String, Value> {
    let config = json!({ "architecture": "", "os": "", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] } });
    config.as_object().cloned().unwrap_or_default()
}

fn object<'m>(map: &'m mut Map<String, Value>, key: &str) -> Result<&'m mut Map<String, Value>> {
    let value = map.entry(key).or_insert_with(|| json!({ "type": "layers" }));
    value.as_object_mut().ok_or_else(|| Error::invalid(format!("`{key}` is not an object")))
}

fn extend(map: &mut Map<String, Value>, key: &str, new: impl Iterator<Item = Value>) -> Result<()> {
    let list = map.entry(key).or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().ok_or_else(|| Error::invalid(format!("`{key}` is not a list")))?.extend(new);
    Ok(())
}

fn written(document: Map<String, Value>, media_type: &str) -> Result<VerifiedBytes> {
    let text = oci::json::go_escaped(&Value::Object(document).to_string());
    let media_type = Some(MediaType::new(media_type));
    UntrustedBlob::from_bytes(text.into_bytes()).identify(Algorithm::Sha256, media_type, MANIFEST)
}
