//! Images of many platforms: an OCI index or a Docker manifest list, built in memory.

use serde_json::{Map, Value, json};

use crate::image::{
    BuiltImage, BuiltLayer, DOCKER_LIST, Format, OCI_INDEX, OCI_MANIFEST, Platform, descriptor, sha256_digest,
    sha256_hex, to_bytes,
};

/// An index as it was built, with what it lists. All fields may be changed, to lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIndex {
    /// The index's bytes.
    pub manifest: Vec<u8>,
    /// What the index is.
    pub manifest_media_type: String,
    /// The images that are there; a listed one may be missing.
    pub images: Vec<BuiltImage>,
    /// The indexes within, for nested ones.
    pub indexes: Vec<BuiltIndex>,
}

/// Builds an index. The same calls give the same bytes.
///
/// ```
/// use holkas_testkit::image::{ImageBuilder, IndexBuilder};
/// let amd64 = ImageBuilder::oci().architecture("amd64").build();
/// let arm64 = ImageBuilder::oci().architecture("arm64").build();
/// let index = IndexBuilder::oci().image(&amd64).image(&arm64).attestation(&amd64).build();
/// assert_eq!(index.images.len(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct IndexBuilder {
    format: Format,
    entries: Vec<Value>,
    images: Vec<BuiltImage>,
    indexes: Vec<BuiltIndex>,
    fields: Map<String, Value>,
    annotations: Map<String, Value>,
    media_type: bool,
}

impl IndexBuilder {
    /// Returns a builder of an index without entries.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            entries: Vec::new(),
            images: Vec::new(),
            indexes: Vec::new(),
            fields: Map::new(),
            annotations: Map::new(),
            media_type: true,
        }
    }

    /// Returns a builder of an OCI index.
    pub fn oci() -> Self {
        Self::new(Format::Oci)
    }

    /// Returns a builder of a Docker manifest list.
    pub fn docker() -> Self {
        Self::new(Format::Docker)
    }

    /// Adds an image under the platform of its config.
    pub fn image(self, image: &BuiltImage) -> Self {
        let platform = image.platform_value();
        self.image_with(image, platform, &[])
    }

    /// Adds an image under any platform object (`Value::Null` leaves it out) and with annotations.
    pub fn image_with(mut self, image: &BuiltImage, platform: Value, annotations: &[(&str, &str)]) -> Self {
        let mut entry = image.descriptor();
        if !platform.is_null() {
            entry["platform"] = platform;
        }
        for (key, value) in annotations {
            entry["annotations"][key] = json!(value);
        }
        self.images.push(image.clone());
        self.entry(entry)
    }

    /// Lists an image under the platform of its config, but leaves its manifest and blobs out.
    pub fn missing_image(self, image: &BuiltImage) -> Self {
        let mut entry = image.descriptor();
        entry["platform"] = image.platform_value();
        self.entry(entry)
    }

    /// Adds what BuildKit adds for `image`: a manifest of platform unknown/unknown with an in-toto statement.
    pub fn attestation(self, image: &BuiltImage) -> Self {
        let statement = to_bytes(&json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "_", "digest": {"sha256": sha256_hex(&image.manifest)}}],
            "predicate": {},
        }));
        let attestation = artifact(statement, "application/vnd.in-toto+json", None);
        self.image_with(
            &attestation,
            json!({"architecture": "unknown", "os": "unknown"}),
            &[("vnd.docker.reference.digest", &image.digest()), ("vnd.docker.reference.type", "attestation-manifest")],
        )
    }

    /// Adds an artifact without platform: one blob, an empty config, and an `artifactType`.
    pub fn artifact(self, blob: impl Into<Vec<u8>>, media_type: &str, artifact_type: &str) -> Self {
        self.image_with(&artifact(blob.into(), media_type, Some(artifact_type)), Value::Null, &[])
    }

    /// Adds an index within the index.
    pub fn index(mut self, index: &BuiltIndex) -> Self {
        self.indexes.push(index.clone());
        self.entry(descriptor(&index.manifest_media_type, &index.manifest))
    }

    /// Adds a descriptor as it is, without anything behind it.
    pub fn entry(mut self, descriptor: Value) -> Self {
        self.entries.push(descriptor);
        self
    }

    /// Adds an annotation to the index.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets any field at the top of the index, over what the builder would write.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.into(), value);
        self
    }

    /// Leaves out the index's own `mediaType`, as many OCI writers do.
    pub fn without_media_type(mut self) -> Self {
        self.media_type = false;
        self
    }

    /// Returns the index.
    pub fn build(self) -> BuiltIndex {
        let media_type = match self.format {
            Format::Oci => OCI_INDEX,
            Format::Docker => DOCKER_LIST,
        };
        let mut index = Map::new();
        index.insert("schemaVersion".into(), json!(2));
        if self.media_type {
            index.insert("mediaType".into(), json!(media_type));
        }
        index.insert("manifests".into(), json!(self.entries));
        if !self.annotations.is_empty() {
            index.insert("annotations".into(), Value::Object(self.annotations));
        }
        index.extend(self.fields);
        BuiltIndex {
            manifest: to_bytes(&Value::Object(index)),
            manifest_media_type: media_type.into(),
            images: self.images,
            indexes: self.indexes,
        }
    }
}

impl BuiltIndex {
    /// Returns `sha256:…` of the index.
    pub fn digest(&self) -> String {
        sha256_digest(&self.manifest)
    }

    /// Returns the descriptor of the index.
    pub fn descriptor(&self) -> Value {
        descriptor(&self.manifest_media_type, &self.manifest)
    }

    /// Returns the image for `architecture` and linux; the first, if there are several.
    pub fn image(&self, architecture: &str) -> &BuiltImage {
        self.images
            .iter()
            .find(|image| image.platform.architecture == architecture && image.platform.os == "linux")
            .unwrap_or_else(|| panic!("the index has no image for linux/{architecture}"))
    }

    /// Returns all that the index consists of, itself last: hex digest and bytes.
    pub fn blobs(&self) -> Vec<(String, &[u8])> {
        let mut blobs: Vec<_> = self.images.iter().flat_map(BuiltImage::blobs).collect();
        blobs.extend(self.indexes.iter().flat_map(BuiltIndex::blobs));
        blobs.push((sha256_hex(&self.manifest), &self.manifest));
        blobs
    }
}

fn artifact(blob: Vec<u8>, media_type: &str, artifact_type: Option<&str>) -> BuiltImage {
    let config = b"{}".to_vec();
    let config_media_type = "application/vnd.oci.empty.v1+json";
    let layer = BuiltLayer::new(blob.clone(), blob, media_type.into());
    let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST});
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    manifest["config"] = descriptor(config_media_type, &config);
    manifest["layers"] = json!([layer.descriptor()]);
    BuiltImage {
        manifest: to_bytes(&manifest),
        manifest_media_type: OCI_MANIFEST.into(),
        config,
        config_media_type: config_media_type.into(),
        layers: vec![layer],
        format: Format::Oci,
        platform: Platform { os: "unknown".into(), architecture: "unknown".into(), variant: None },
    }
}
