//! Images of one platform, built in memory: manifest, config and layers, byte for byte.

use std::io::Write;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub use crate::index::{BuiltIndex, IndexBuilder};
pub use crate::layouts::write_docker_archive_of;

/// Media type of an OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a Docker manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of a Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The `created` of images that set none.
pub const DEFAULT_CREATED: &str = "2023-11-14T22:13:20Z";

/// Whose rules an image follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The OCI image specification.
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

/// How a layer's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, one member, no time and no name in it.
    Gzip,
    /// Zstandard, one frame.
    Zstd,
    /// xz; no registry has it, archives may.
    Xz,
    /// bzip2; no registry has it, archives may.
    Bzip2,
}

/// A platform, as config and index spell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`.
    pub variant: Option<String>,
}

/// A layer as it was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// The bytes that a registry would hold.
    pub blob: Vec<u8>,
    /// The plain tar.
    pub diff: Vec<u8>,
    /// What the manifest says that `blob` is.
    pub media_type: String,
    /// `sha256:…` of `diff`.
    pub diff_id: String,
    /// `sha256:…` of `blob`.
    pub digest: String,
    /// The length of `blob`.
    pub size: u64,
}

/// An image of one platform as it was built. All fields may be changed, to lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// What the manifest is.
    pub manifest_media_type: String,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// What the config is.
    pub config_media_type: String,
    /// The layers, base first.
    pub layers: Vec<BuiltLayer>,
    /// Whose rules the image follows.
    pub format: Format,
    /// The platform as the config has it.
    pub platform: Platform,
}

/// Builds an image. The same calls give the same bytes.
///
/// ```
/// use holkas_testkit::{image::{Compression, ImageBuilder}, tar::TarBuilder};
/// let image = ImageBuilder::docker()
///     .compression(Compression::Gzip)
///     .layer(TarBuilder::new().file("motd", 0o644, "hello\n").finish())
///     .platform("arm", "linux").variant("v7")
///     .command(&["/bin/sh"])
///     .build();
/// assert_eq!(image.layers.len(), 1);
/// assert_ne!(image.layers[0].digest, image.layers[0].diff_id);
/// ```
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    format: Format,
    compression: Compression,
    layers: Vec<BuiltLayer>,
    platform: Platform,
    created: Option<String>,
    history: Vec<Value>,
    run_config: Map<String, Value>,
    config_fields: Map<String, Value>,
    manifest_fields: Map<String, Value>,
    annotations: Map<String, Value>,
    media_type: bool,
}

impl ImageBuilder {
    /// Returns a builder for linux/amd64 whose layers are not compressed.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            compression: Compression::None,
            layers: Vec::new(),
            platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
            created: Some(DEFAULT_CREATED.into()),
            history: Vec::new(),
            run_config: Map::new(),
            config_fields: Map::new(),
            manifest_fields: Map::new(),
            annotations: Map::new(),
            media_type: true,
        }
    }

    /// Returns a builder of an OCI image.
    pub fn oci() -> Self {
        Self::new(Format::Oci)
    }

    /// Returns a builder of a Docker image.
    pub fn docker() -> Self {
        Self::new(Format::Docker)
    }

    /// Sets the compression of the layers that follow.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Adds a layer from its tar, with its line of history.
    pub fn layer(self, diff: impl Into<Vec<u8>>) -> Self {
        let compression = self.compression;
        self.layer_with(diff, compression)
    }

    /// Adds a layer from its tar, compressed in its own way, with its line of history.
    pub fn layer_with(self, diff: impl Into<Vec<u8>>, compression: Compression) -> Self {
        let diff = diff.into();
        let blob = compress(&diff, compression);
        let media_type = layer_media_type(self.format, compression);
        self.layer_blob(blob, diff, media_type)
    }

    /// Adds a layer of which everything is said: blob, tar and media type need not fit each other.
    pub fn layer_blob(
        mut self,
        blob: impl Into<Vec<u8>>,
        diff: impl Into<Vec<u8>>,
        media_type: impl Into<String>,
    ) -> Self {
        self.layers.push(BuiltLayer::new(blob.into(), diff.into(), media_type.into()));
        let number = self.layers.len();
        self.history(json!({"created": DEFAULT_CREATED, "created_by": format!("layer {number}")}))
    }

    /// Adds a line of history that has no layer, such as `ENV A=b`.
    pub fn empty_history(self, created_by: &str) -> Self {
        self.history(json!({"created": DEFAULT_CREATED, "created_by": created_by, "empty_layer": true}))
    }

    /// Leaves out all history. Call it last.
    pub fn without_history(mut self) -> Self {
        self.history.clear();
        self
    }

    /// Sets architecture and operating system.
    pub fn platform(mut self, architecture: &str, os: &str) -> Self {
        self.platform = Platform { os: os.into(), architecture: architecture.into(), variant: None };
        self
    }

    /// Sets the architecture.
    pub fn architecture(mut self, architecture: &str) -> Self {
        self.platform.architecture = architecture.into();
        self
    }

    /// Sets the variant of the architecture.
    pub fn variant(mut self, variant: &str) -> Self {
        self.platform.variant = Some(variant.into());
        self
    }

    /// Sets when the image was made (RFC 3339, written as it is).
    pub fn created(mut self, created: &str) -> Self {
        self.created = Some(created.into());
        self
    }

    /// Leaves out when the image was made.
    pub fn without_created(mut self) -> Self {
        self.created = None;
        self
    }

    /// Adds a variable, `NAME=value`.
    pub fn env(mut self, variable: &str) -> Self {
        let list = self.run_config.entry("Env").or_insert_with(|| json!([]));
        list.as_array_mut().expect("Env is a list").push(variable.into());
        self
    }

    /// Sets `Cmd`.
    pub fn command(self, words: &[&str]) -> Self {
        self.run_field("Cmd", json!(words))
    }

    /// Sets `Entrypoint`.
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.run_field("Entrypoint", json!(words))
    }

    /// Sets `User`.
    pub fn user(self, user: &str) -> Self {
        self.run_field("User", json!(user))
    }

    /// Sets `WorkingDir`.
    pub fn working_dir(self, path: &str) -> Self {
        self.run_field("WorkingDir", json!(path))
    }

    /// Adds a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        let labels = self.run_config.entry("Labels").or_insert_with(|| json!({}));
        labels.as_object_mut().expect("Labels is an object").insert(key.into(), value.into());
        self
    }

    /// Adds Docker's `Healthcheck`, of which OCI knows nothing.
    pub fn healthcheck(self, words: &[&str]) -> Self {
        self.run_field("Healthcheck", json!({"Test": words, "Interval": 30_000_000_000u64, "Retries": 3}))
    }

    /// Sets any field of the config's `config` object.
    pub fn run_field(mut self, name: &str, value: Value) -> Self {
        self.run_config.insert(name.into(), value);
        self
    }

    /// Sets any field at the top of the config, over what the builder would write.
    pub fn config_field(mut self, name: &str, value: Value) -> Self {
        self.config_fields.insert(name.into(), value);
        self
    }

    /// Sets any field at the top of the manifest, over what the builder would write.
    pub fn manifest_field(mut self, name: &str, value: Value) -> Self {
        self.manifest_fields.insert(name.into(), value);
        self
    }

    /// Adds an annotation to the manifest.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Leaves out the manifest's own `mediaType`, as many OCI writers do.
    pub fn without_media_type(mut self) -> Self {
        self.media_type = false;
        self
    }

    /// Returns the image.
    pub fn build(self) -> BuiltImage {
        let (manifest_media_type, config_media_type) = match self.format {
            Format::Oci => (OCI_MANIFEST, OCI_CONFIG),
            Format::Docker => (DOCKER_MANIFEST, DOCKER_CONFIG),
        };
        let mut config = Map::new();
        if let Some(created) = &self.created {
            config.insert("created".into(), json!(created));
        }
        config.insert("architecture".into(), json!(self.platform.architecture));
        if let Some(variant) = &self.platform.variant {
            config.insert("variant".into(), json!(variant));
        }
        config.insert("os".into(), json!(self.platform.os));
        config.insert("config".into(), Value::Object(self.run_config));
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
        if !self.history.is_empty() {
            config.insert("history".into(), json!(self.history));
        }
        config.extend(self.config_fields);
        let config = to_bytes(&Value::Object(config));

        let mut manifest = Map::new();
        manifest.insert("schemaVersion".into(), json!(2));
        if self.media_type {
            manifest.insert("mediaType".into(), json!(manifest_media_type));
        }
        manifest.insert("config".into(), descriptor(config_media_type, &config));
        let layers: Vec<_> = self.layers.iter().map(BuiltLayer::descriptor).collect();
        manifest.insert("layers".into(), json!(layers));
        if !self.annotations.is_empty() {
            manifest.insert("annotations".into(), Value::Object(self.annotations));
        }
        manifest.extend(self.manifest_fields);
        BuiltImage {
            manifest: to_bytes(&Value::Object(manifest)),
            manifest_media_type: manifest_media_type.into(),
            config,
            config_media_type: config_media_type.into(),
            layers: self.layers,
            format: self.format,
            platform: self.platform,
        }
    }

    fn history(mut self, line: Value) -> Self {
        self.history.push(line);
        self
    }
}

impl BuiltLayer {
    /// Returns a layer with the true digests and length of these bytes.
    pub fn new(blob: Vec<u8>, diff: Vec<u8>, media_type: String) -> Self {
        let (diff_id, digest, size) = (sha256_digest(&diff), sha256_digest(&blob), blob.len() as u64);
        Self { blob, diff, media_type, diff_id, digest, size }
    }

    /// Returns the descriptor that the manifest has of the layer.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.size})
    }
}

impl BuiltImage {
    /// Returns `sha256:…` of the manifest.
    pub fn digest(&self) -> String {
        sha256_digest(&self.manifest)
    }

    /// Returns `sha256:…` of the config.
    pub fn config_digest(&self) -> String {
        sha256_digest(&self.config)
    }

    /// Returns the image's ID: the config's digest without its algorithm.
    pub fn id(&self) -> String {
        sha256_hex(&self.config)
    }

    /// Returns the IDs that containers-storage gives to the layers, base first.
    pub fn layer_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for layer in &self.layers {
            let hex = sha256_hex(&layer.diff);
            ids.push(match ids.last() {
                None => hex,
                Some(parent) => sha256_hex(format!("{parent}+{hex}").as_bytes()),
            });
        }
        ids
    }

    /// Returns the descriptor that an index would have of the image, without a platform.
    pub fn descriptor(&self) -> Value {
        descriptor(&self.manifest_media_type, &self.manifest)
    }

    /// Returns the platform's object as an index has it.
    pub fn platform_value(&self) -> Value {
        let mut value = json!({"architecture": self.platform.architecture, "os": self.platform.os});
        if let Some(variant) = &self.platform.variant {
            value["variant"] = json!(variant);
        }
        value
    }

    /// Returns all that the image consists of, manifest last: hex digest and bytes.
    ///
    /// The names are those that the manifest has; for a layer that lies, the bytes do not fit them.
    pub fn blobs(&self) -> Vec<(String, &[u8])> {
        let mut blobs: Vec<(String, &[u8])> = Vec::new();
        for layer in &self.layers {
            blobs.push((hex_of(&layer.digest).to_owned(), &layer.blob));
        }
        blobs.push((sha256_hex(&self.config), &self.config));
        blobs.push((sha256_hex(&self.manifest), &self.manifest));
        blobs
    }

    /// Returns the same image with plain layers: the config unchanged, the manifest another.
    pub fn uncompressed(&self) -> BuiltImage {
        let plain = |layer: &BuiltLayer| {
            BuiltLayer::new(layer.diff.clone(), layer.diff.clone(), layer_media_type(self.format, Compression::None))
        };
        let layers: Vec<_> = self.layers.iter().map(plain).collect();
        let mut manifest: Value = serde_json::from_slice(&self.manifest).expect("a manifest that was built is JSON");
        manifest["layers"] = layers.iter().map(BuiltLayer::descriptor).collect();
        BuiltImage { manifest: to_bytes(&manifest), layers, ..self.clone() }
    }
}

/// Returns the SHA-256 of `bytes` as 64 lower-case hex digits.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the SHA-256 of `bytes` as `sha256:<64 hex digits>`.
pub fn sha256_digest(bytes: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", sha256_hex(bytes))
}

/// Returns `mediaType`, `digest` and `size` of `bytes`.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256_digest(bytes), "size": bytes.len()})
}

/// Returns the media type of a layer.
///
/// For what a specification has no type (zstd in Docker's, xz, bzip2), the name is formed as the others are.
pub fn layer_media_type(format: Format, compression: Compression) -> String {
    let (base, joint) = match format {
        Format::Oci => ("application/vnd.oci.image.layer.v1.tar", "+"),
        Format::Docker => ("application/vnd.docker.image.rootfs.diff.tar", "."),
    };
    match compression {
        Compression::None => base.to_owned(),
        Compression::Gzip => format!("{base}{joint}gzip"),
        Compression::Zstd => format!("{base}{joint}zstd"),
        Compression::Xz => format!("{base}{joint}xz"),
        Compression::Bzip2 => format!("{base}{joint}bzip2"),
    }
}

/// Returns `bytes` compressed, the same on every machine.
pub fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    const WHY: &str = "compressing into memory does not fail";
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            writer.write_all(bytes).expect(WHY);
            writer.finish().expect(WHY)
        }
        Compression::Zstd => zstd::encode_all(bytes, 3).expect(WHY),
        Compression::Xz => {
            let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 6);
            writer.write_all(bytes).expect(WHY);
            writer.finish().expect(WHY)
        }
        Compression::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(9));
            writer.write_all(bytes).expect(WHY);
            writer.finish().expect(WHY)
        }
    }
}

/// Returns the part of a digest after `sha256:`.
pub fn hex_of(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hex)| hex)
}

pub(crate) fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value can be written")
}
