//! Resolved images as the parts of an osbuild manifest (version 2): its sources, and the inputs of a stage.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Resolved;
use crate::error::{Error, Result};
use crate::oci::{Algorithm, Digest};

/// Returns `{"sources": …, "inputs": {"images": …, "manifest-lists": …}}`, as osbuild-mpp and image-builder write them.
///
/// `tls_verify` is what was said about all registries, if anything.
///
/// # Errors
///
/// `Unsupported` where a manifest cannot say it: osbuild knows images by their ID, so that one ID has one name and one
/// manifest; images of registries and of this machine's store are inputs of different types; and digests are SHA-256.
pub fn fragment(resolved: &[Resolved], tls_verify: Option<bool>) -> Result<Value> {
    let images = by_id(resolved)?;
    let local = images.values().filter(|image| image.local).count();
    if local != 0 && local != images.len() {
        return Err(Error::unsupported(
            "images of registries and images of this machine's store are inputs of different types",
        )
        .hint("resolve them in two runs: each becomes a stage of its own"));
    }
    let mut sources = Map::new();
    let mut lists = BTreeMap::new();
    if local == 0 {
        let mut items = Map::new();
        for (id, image) in &images {
            items.insert(id.clone(), json!({ "image": described(image, Some(&image.manifest_digest), tls_verify) }));
            for list in &image.lists {
                lists.insert(sha256(list)?, json!({ "image": described(image, None, tls_verify) }));
            }
        }
        sources.insert("org.osbuild.skopeo".into(), json!({ "items": items }));
        if !lists.is_empty() {
            sources.insert("org.osbuild.skopeo-index".into(), json!({ "items": lists }));
        }
    } else {
        let items: Map<_, _> = images.keys().map(|id| (id.clone(), json!({}))).collect();
        sources.insert("org.osbuild.containers-storage".into(), json!({ "items": items }));
    }
    let references: Map<_, _> =
        images.iter().map(|(id, image)| (id.clone(), json!({ "name": image.local_name }))).collect();
    let kind = if local == 0 { "org.osbuild.containers" } else { "org.osbuild.containers-storage" };
    let mut inputs = Map::new();
    inputs.insert("images".into(), input(kind, references.into()));
    if !lists.is_empty() {
        inputs.insert("manifest-lists".into(), input("org.osbuild.files", lists.into_keys().collect()));
    }
    Ok(json!({ "sources": sources, "inputs": inputs }))
}

fn input(kind: &str, references: Value) -> Value {
    json!({ "type": kind, "origin": "org.osbuild.source", "references": references })
}

fn described(image: &Resolved, digest: Option<&Digest>, tls_verify: Option<bool>) -> Value {
    let mut described = Map::new();
    let repository = image.repository.as_ref().expect("images of registries are named by their repository");
    described.insert("name".into(), repository.to_string().into());
    if let Some(digest) = digest {
        described.insert("digest".into(), digest.to_string().into());
    }
    if let Some(verify) = tls_verify {
        described.insert("tls-verify".into(), verify.into());
    }
    described.into()
}

/// Returns the images by their IDs. The same image twice is one.
fn by_id(resolved: &[Resolved]) -> Result<BTreeMap<String, &Resolved>> {
    let mut images: BTreeMap<String, &Resolved> = BTreeMap::new();
    for image in resolved {
        sha256(&image.manifest_digest)?;
        let id = sha256(&image.image_id.0)?;
        let Some(first) = images.insert(id, image) else { continue };
        let what = match first {
            _ if first.manifest_digest != image.manifest_digest => {
                format!("two manifests ({}, {})", first.manifest_digest, image.manifest_digest)
            }
            _ if first.local_name != image.local_name => {
                format!("two names ({}, {})", first.local_name, image.local_name)
            }
            _ => continue,
        };
        return Err(Error::unsupported(format!(
            "{what} for the image ID {}, by which osbuild's manifests know an image",
            image.image_id
        ))
        .hint("resolve them in two runs: each becomes a stage of its own"));
    }
    Ok(images)
}

/// Returns a digest as osbuild's schemas have it.
fn sha256(digest: &Digest) -> Result<String> {
    match digest.algorithm() {
        Algorithm::Sha256 => Ok(digest.to_string()),
        Algorithm::Sha512 => Err(Error::unsupported(format!("osbuild knows SHA-256 digests only, not {digest}"))),
    }
}
