//! What a registry holds, in memory: repositories with their blobs, manifests, tags and uploads.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::image::sha256_digest;

/// All repositories by name.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) repositories: BTreeMap<String, Repository>,
    /// By their ID, which is part of the upload's address.
    pub(super) uploads: BTreeMap<String, Upload>,
    uploads_begun: usize,
}

/// A repository: nothing of another one can be seen in it.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// By digest, which is not always true: a test may put bytes under any.
    pub(super) blobs: BTreeMap<String, Arc<Vec<u8>>>,
    /// By digest.
    pub(super) manifests: BTreeMap<String, Manifest>,
    /// Tags and the digests that they stand for.
    pub(super) tags: BTreeMap<String, String>,
    /// Signatures as they were put, by the digest of the manifest.
    pub(super) signatures: BTreeMap<String, Vec<Value>>,
}

/// A manifest or an index with the type under which it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What is answered as `Content-Type`.
    pub media_type: String,
    /// The bytes as they were put.
    pub bytes: Arc<Vec<u8>>,
}

/// An upload that has begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) bytes: Vec<u8>,
    /// Changes with each request, so that a client that does not take the newest address is found out.
    pub(super) state: usize,
}

impl Content {
    pub(super) fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Arc<Vec<u8>>> {
        self.repositories.get(repository)?.blobs.get(digest).cloned()
    }

    /// Returns a manifest by tag or digest, and the digest under which it is stored.
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Manifest)> {
        let repository = self.repositories.get(repository)?;
        let digest = if is_digest(reference) { reference } else { repository.tags.get(reference)? };
        Some((digest.to_owned(), repository.manifests.get(digest)?.clone()))
    }

    /// Puts a manifest under `reference`; a tag names it by its true digest, a digest is believed.
    pub(super) fn put_manifest(&mut self, repository: &str, reference: &str, manifest: Manifest) -> String {
        let repository = self.repository(repository);
        let digest = if is_digest(reference) {
            reference.to_owned()
        } else {
            let digest = sha256_digest(manifest.bytes.as_slice());
            repository.tags.insert(reference.to_owned(), digest.clone());
            digest
        };
        repository.manifests.insert(digest.clone(), manifest);
        digest
    }

    pub(super) fn begin_upload(&mut self, repository: &str) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        self.uploads.insert(id.clone(), Upload { repository: repository.to_owned(), ..Upload::default() });
        id
    }
}

impl Repository {
    /// Returns the descriptors of the manifests whose `subject` is `digest`.
    pub(super) fn referrers(&self, digest: &str, artifact_type: Option<&str>) -> Vec<Value> {
        let mut found = Vec::new();
        for (own_digest, manifest) in &self.manifests {
            let Ok(document) = serde_json::from_slice::<Value>(&manifest.bytes) else { continue };
            if document["subject"]["digest"] != digest {
                continue;
            }
            let own_type = match &document["artifactType"] {
                Value::String(own_type) if !own_type.is_empty() => own_type.clone(),
                _ => document["config"]["mediaType"].as_str().unwrap_or_default().to_owned(),
            };
            if artifact_type.is_some_and(|wanted| wanted != own_type) {
                continue;
            }
            let mut descriptor = json!({
                "mediaType": manifest.media_type, "digest": own_digest, "size": manifest.bytes.len(),
            });
            if !own_type.is_empty() {
                descriptor["artifactType"] = json!(own_type);
            }
            if document["annotations"].is_object() {
                descriptor["annotations"] = document["annotations"].clone();
            }
            found.push(descriptor);
        }
        found
    }
}

/// Returns whether a reference is a digest, and not a tag.
pub(super) fn is_digest(reference: &str) -> bool {
    reference.contains(':')
}

/// Returns whether `digest` is that of `bytes`; `None` if it is no digest that a registry knows.
pub(super) fn proves(digest: &str, bytes: &[u8]) -> Option<bool> {
    let (algorithm, hex) = digest.split_once(':')?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match algorithm {
        "sha256" if is_hex && hex.len() == 64 => Some(sha256_digest(bytes) == digest),
        "sha512" if is_hex && hex.len() == 128 => {
            Some(Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>() == hex)
        }
        _ => None,
    }
}
