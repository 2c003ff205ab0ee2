//! Looking at an image without moving it: what `skopeo inspect` shows, in its fields and their order.

mod oci_config;
mod template;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

pub use crate::oci::oci_config::OciConfig;
pub use template::{render, render_config};

use crate::error::{Context, Error, Result};
use crate::image::{ImageSource, open_top};
use crate::limits::{CONFIG, INDEX_DEPTH, MANIFEST};
use crate::oci::media_type::Format;
use crate::oci::oci_config::go_time;
use crate::oci::schema1::Schema1;
use crate::oci::{Algorithm, Digest, Document, ImageConfig, Manifest, Platform, document, json};

use crate::verify::VerifiedBytes;

/// What there is to say about an image. Serialised, it is skopeo's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspection {
    /// The repository; only registries have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tag that a schema 1 manifest gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest of what the reference names: of a list, if it is one.
    pub digest: Digest,
    /// The repository's tags; only registries have them.
    pub repo_tags: Vec<String>,
    /// When the image was made (RFC 3339).
    pub created: Option<String>,
    /// The version of Docker that made it.
    pub docker_version: String,
    /// The labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The processor architecture, in Go's names.
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The layers' blob digests, lowest first.
    pub layers: Vec<String>,
    /// The layers, lowest first.
    pub layers_data: Vec<LayerData>,
    /// The environment, `NAME=VALUE` each.
    pub env: Option<Vec<String>>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// One layer of an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerData {
    /// The media type; empty where the manifest gives none.
    #[serde(rename = "MIMEType")]
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes; -1 where the manifest gives none, as skopeo has it.
    pub size: i64,
    /// The layer's annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Returns what `inspect` shows. Of a list, the instance for `platform` is shown, but the list's digest.
pub fn inspect(source: &dyn ImageSource, platform: &Platform) -> Result<Inspection> {
    let top = source.top().context(|| format!("reading manifest of {}", source.name()))?;
    let digest = document::manifest_digest(top.bytes(), Algorithm::Sha256, MANIFEST)?;
    match choose(source, platform)? {
        Chosen::Manifest(manifest) => {
            let config = read_config(source, &manifest)?;
            let parsed = ImageConfig::parse(config).context(|| format!("inspecting {}", source.name()))?;
            Ok(of_image(digest, &manifest, &parsed))
        }
        Chosen::Schema1(schema1) => of_schema1(digest, &schema1).context(|| format!("inspecting {}", source.name())),
    }
}

/// Returns the bytes of what the reference names, as they are: a manifest or a list.
pub fn raw(source: &dyn ImageSource) -> Result<VerifiedBytes> {
    source.top().context(|| format!("reading manifest of {}", source.name()))
}

/// Returns the bytes of the image's config, as they are. Of a list, the instance for `platform` is taken.
pub fn raw_config(source: &dyn ImageSource, platform: &Platform) -> Result<VerifiedBytes> {
    match choose(source, platform)? {
        Chosen::Manifest(manifest) => read_config(source, &manifest),
        Chosen::Schema1(schema1) => Err(schema1.refusal()),
    }
}

/// Returns the image's config with the fields that OCI has, in OCI's order.
pub fn config(source: &dyn ImageSource, platform: &Platform) -> Result<OciConfig> {
    let bytes = raw_config(source, platform)?;
    OciConfig::parse(bytes.bytes()).context(|| format!("reading config {} of {}", bytes.digest(), source.name()))
}

/// Writes a value as skopeo prints it: four spaces, and `<`, `>`, `&` escaped as Go does. No newline at the end.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(json::go_escaped(&String::from_utf8_lossy(&bytes)))
}

enum Chosen {
    Manifest(Manifest),
    Schema1(Schema1),
}

/// Follows lists down to one image.
fn choose(source: &dyn ImageSource, platform: &Platform) -> Result<Chosen> {
    let mut document = open_top(source)?;
    for _ in 0..=INDEX_DEPTH {
        let index = match document {
            Document::Manifest(manifest) => return Ok(Chosen::Manifest(manifest)),
            Document::Schema1(schema1) => return Ok(Chosen::Schema1(schema1)),
            Document::Index(index) => index,
        };
        let entry = platform.choose(&index).context(|| format!("choosing an image of {}", source.name()))?;
        document = source
            .open_manifest(entry)
            .and_then(|blob| blob.read_verified(entry, MANIFEST))
            .and_then(Document::parse)
            .context(|| format!("reading manifest {} of {}", entry.digest, source.name()))?;
    }
    Err(Error::invalid(format!("lists within lists are deeper than {INDEX_DEPTH}")))
        .context(|| format!("reading manifest of {}", source.name()))
}

fn read_config(source: &dyn ImageSource, manifest: &Manifest) -> Result<VerifiedBytes> {
    source
        .open_config(manifest.config())
        .and_then(|blob| blob.read_verified(manifest.config(), CONFIG))
        .context(|| format!("reading config {} of {}", manifest.config().digest, source.name()))
}

fn of_image(digest: Digest, manifest: &Manifest, config: &ImageConfig) -> Inspection {
    let layers_data: Vec<_> = manifest
        .layers()
        .iter()
        .map(|layer| LayerData {
            media_type: layer.media_type.as_str().to_string(),
            digest: layer.digest,
            // Descriptors beyond i64 are refused when they are parsed.
            size: i64::try_from(layer.size).unwrap_or(i64::MAX),
            annotations: layer.annotations.clone(),
        })
        .collect();
    of_fields(digest, config.document(), layers_data, manifest.format() == Format::Docker)
}

fn of_schema1(digest: Digest, schema1: &Schema1) -> Result<Inspection> {
    let newest = schema1.config()?;
    let layer = |digest: &Digest| LayerData { media_type: String::new(), digest: *digest, size: -1, annotations: None };
    let layers_data = schema1.layers().iter().map(layer).collect();
    let tag = schema1.fields().get("tag").and_then(Value::as_str).filter(|tag| !tag.is_empty());
    Ok(Inspection { tag: tag.map(str::to_string), ..of_fields(digest, &newest, layers_data, true) })
}

fn of_fields(digest: Digest, fields: &Map<String, Value>, layers_data: Vec<LayerData>, docker: bool) -> Inspection {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let run = |key: &str| fields.get("config").and_then(|config| config.get(key));
    let labels = run("Labels").and_then(Value::as_object).map(|labels| {
        labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_string())).collect()
    });
    let env = run("Env").and_then(Value::as_array);
    let created = fields.get("created").and_then(Value::as_str).filter(|text| !text.is_empty());
    Inspection {
        name: None,
        tag: None,
        digest,
        repo_tags: Vec::new(),
        // skopeo shows Go's zero time for a Docker image without one.
        created: created.map(go_time).or_else(|| docker.then(|| "0001-01-01T00:00:00Z".to_string())),
        docker_version: text("docker_version"),
        labels,
        architecture: text("architecture"),
        os: text("os"),
        layers: layers_data.iter().map(|layer| layer.digest.to_string()).collect(),
        layers_data,
        env: env.map(|list| list.iter().filter_map(Value::as_str).map(str::to_string).collect()),
        author: Some(text("author")).filter(|author| !author.is_empty()),
    }
}
