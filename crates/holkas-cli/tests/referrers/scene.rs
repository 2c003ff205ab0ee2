//! An image for two platforms with all that can belong to it, and how the tests copy it.

use holkas_testkit::image::ImageBuilder;
use holkas_testkit::image::{
    BuiltImage, BuiltIndex, BuiltLayer, Format, IndexBuilder, OCI_INDEX, OCI_MANIFEST, Platform,
};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};

use crate::common::{Output, finish, holkas};

/// Runs `copy`; registries may speak http.
pub(crate) fn run_copy(arguments: &[&str]) -> Output {
    let flags = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--no-cache"];
    finish(holkas().args(flags).args(arguments))
}

pub(crate) fn plain(arguments: &[&str]) -> Output {
    run_copy(&[&["-q"], arguments].concat())
}

/// Copies with all that belongs to the image, and returns what was said.
#[track_caller]
pub(crate) fn copied(arguments: &[&str]) -> String {
    let output = plain(&[&["--referrers", "--json"], arguments].concat());
    assert_eq!(output.code, 0, "{arguments:?}: {}", output.err);
    output.out
}

/// Fails to copy, for this reason, and returns all that was said.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], said: &str) -> String {
    let output = plain(&[&["--referrers"], arguments].concat());
    assert_eq!(output.code, 1, "{arguments:?}: {}", output.err);
    assert!(output.err.contains(said), "{said:?} is not in: {}", output.err);
    output.err
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A registry that keeps no lists of referrers, and so does not say that it did.
pub(crate) fn old_registry() -> Registry {
    let registry = Registry::builder().without_referrers().start();
    registry.on(Matcher::put("/v2/*/manifests/*"), Fault::without_header("OCI-Subject"));
    registry
}

/// The tag under which a list of referrers is kept; cosign's begin so, too.
pub(crate) fn list_tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

pub(crate) fn image(architecture: &str) -> BuiltImage {
    let layer = TarBuilder::new().file("architecture", 0o644, architecture.repeat(1000)).finish();
    ImageBuilder::oci().architecture(architecture).layer(layer).build()
}

/// An artifact with one blob and the empty config; without a type of its own if `artifact_type` is empty.
pub(crate) fn artifact(subject: Option<&Value>, artifact_type: &str, blob: &[u8]) -> BuiltImage {
    artifact_with(subject, artifact_type, blob, &json!({}))
}

pub(crate) fn artifact_with(
    subject: Option<&Value>,
    artifact_type: &str,
    blob: &[u8],
    annotations: &Value,
) -> BuiltImage {
    let config_media_type = "application/vnd.oci.empty.v1+json";
    let (config, layer) = (b"{}".to_vec(), BuiltLayer::new(blob.to_vec(), blob.to_vec(), "application/x".into()));
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": config_media_type,
            "digest": holkas_testkit::image::sha256_digest(&config),
            "size": 2,
        },
        "layers": [layer.descriptor()],
        "annotations": annotations,
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject.clone();
    }
    if !artifact_type.is_empty() {
        manifest["artifactType"] = json!(artifact_type);
    }
    BuiltImage {
        manifest: serde_json::to_vec(&manifest).unwrap(),
        manifest_media_type: OCI_MANIFEST.into(),
        config,
        config_media_type: config_media_type.into(),
        layers: vec![layer],
        format: Format::Oci,
        platform: Platform { os: "linux".into(), architecture: "unknown".into(), variant: None },
    }
}

/// What cosign makes: an image, by its types, whose layers are payloads.
pub(crate) fn cosign(payload: &[u8]) -> BuiltImage {
    ImageBuilder::oci().layer_blob(payload, payload, "application/vnd.dev.cosign.simplesigning.v1+json").build()
}

/// Puts something under its digest.
pub(crate) fn put(registry: &Registry, repository: &str, image: &BuiltImage) {
    registry.put_image(image, repository, &image.digest());
}

/// The digest that a manifest of a registry refers to.
pub(crate) fn subject_of(registry: &Registry, repository: &str, digest: &str) -> String {
    let manifest = registry.manifest(repository, digest).unwrap();
    json(&String::from_utf8_lossy(&manifest.bytes))["subject"]["digest"].as_str().unwrap().to_owned()
}

/// The image, and what belongs to it.
pub(crate) struct Scene {
    pub(crate) amd64: BuiltImage,
    pub(crate) index: BuiltIndex,
    /// Belongs to `amd64`; an annotation of it names it as the image is named.
    pub(crate) sbom: BuiltImage,
    /// Belongs to `sbom`, and has no type of its own.
    pub(crate) signature: BuiltImage,
    /// Belongs to the index.
    pub(crate) attestation: BuiltImage,
    /// cosign's signature of `amd64`.
    pub(crate) cosigned: BuiltImage,
    /// cosign's attestation of the index.
    pub(crate) cosign_attestation: BuiltImage,
    /// cosign's signature of `sbom`.
    pub(crate) cosigned_sbom: BuiltImage,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (amd64, arm64) = (image("amd64"), image("arm64"));
        let index = IndexBuilder::oci().image(&amd64).image(&arm64).build();
        let named = json!({"org.opencontainers.image.ref.name": "1"});
        let sbom = artifact_with(Some(&amd64.descriptor()), "application/spdx+json", b"all that is in it", &named);
        Self {
            signature: artifact(Some(&sbom.descriptor()), "", b"signed"),
            attestation: artifact(Some(&index.descriptor()), "application/vnd.in-toto+json", b"built here"),
            cosigned: cosign(b"amd64"),
            cosign_attestation: cosign(b"index"),
            cosigned_sbom: cosign(b"sbom"),
            amd64,
            index,
            sbom,
        }
    }

    /// How much belongs to the image.
    pub(crate) fn count(&self) -> usize {
        6
    }

    pub(crate) fn put(&self, registry: &Registry, repository: &str) {
        registry.put_index(&self.index, repository, "1");
        for artifact in [&self.sbom, &self.signature, &self.attestation] {
            put(registry, repository, artifact);
        }
        for (artifact, subject, what) in [
            (&self.cosigned, self.amd64.digest(), "sig"),
            (&self.cosign_attestation, self.index.digest(), "att"),
            (&self.cosigned_sbom, self.sbom.digest(), "sig"),
        ] {
            registry.put_image(artifact, repository, &format!("{}.{what}", list_tag(&subject)));
        }
    }

    /// Puts the images alone.
    pub(crate) fn put_images(&self, registry: &Registry, repository: &str) {
        for image in &self.index.images {
            put(registry, repository, image);
        }
    }

    /// Puts the lists that a registry without lists needs.
    pub(crate) fn put_lists(&self, registry: &Registry, repository: &str) {
        for (artifact, subject) in [
            (&self.sbom, self.amd64.digest()),
            (&self.signature, self.sbom.digest()),
            (&self.attestation, self.index.digest()),
        ] {
            put_list(registry, repository, &subject, &[artifact.descriptor()]);
        }
    }
}

/// Puts a list of referrers under its tag.
pub(crate) fn put_list(registry: &Registry, repository: &str, subject: &str, entries: &[Value]) {
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    registry.put_manifest(repository, &list_tag(subject), OCI_INDEX, list.as_bytes());
}
