//! Docker's manifests and configs as OCI's, as skopeo writes them: the same image gets the same bytes from either.

use holkas::error::{Context, Error, Result};
use holkas::inspect::OciConfig;
use holkas::limits::{CONFIG, MANIFEST};
use holkas::oci::json::go_escaped;
use holkas::oci::media_type::{self, Meaning};
use holkas::oci::{Algorithm, Compression, Descriptor, Manifest, MediaType};
use holkas::verify::{UntrustedBlob, VerifiedBytes};
use serde::Serialize;
use serde_json::Value;

/// An image of Docker's format, as OCI has it.
#[derive(Debug)]
pub(super) struct Converted {
    /// The new manifest, which names the new config.
    pub(super) manifest: VerifiedBytes,
    /// The new config. It exists nowhere else.
    pub(super) config: VerifiedBytes,
}

/// Makes OCI's form of a Docker image.
pub(super) fn convert(manifest: &Manifest, config: &VerifiedBytes) -> Result<Converted> {
    let frame = || format!("converting image {} to OCI", manifest.digest());
    let bytes = OciConfig::parse(config.bytes()).and_then(|config| config.to_bytes()).context(frame)?;
    let config = named(bytes, media_type::OCI_CONFIG, CONFIG).context(frame)?;
    let media_type = MediaType::new(media_type::OCI_CONFIG);
    let described = Descriptor::new(media_type, *config.digest(), config.bytes().len() as u64);
    let layers: Vec<Descriptor> = manifest.layers().iter().map(layer).collect();
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": described,
        "layers": layers,
    });
    let manifest = named(written(&document).context(frame)?, media_type::OCI_MANIFEST, MANIFEST).context(frame)?;
    Ok(Converted { manifest, config })
}

fn named(bytes: Vec<u8>, media_type: &str, limit: holkas::limits::Limit) -> Result<VerifiedBytes> {
    UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, Some(MediaType::new(media_type)), limit)
}

fn layer(old: &Descriptor) -> Descriptor {
    let mut new = Descriptor::new(layer_type(&old.media_type), old.digest, old.size);
    new.urls.clone_from(&old.urls);
    new
}

/// Returns OCI's name for the type of a layer. What is no layer keeps its own.
pub(super) fn layer_type(old: &MediaType) -> MediaType {
    let name = match old.meaning() {
        Meaning::Layer(_, Compression::None) => media_type::OCI_LAYER,
        Meaning::Layer(_, Compression::Gzip) => media_type::OCI_LAYER_GZIP,
        Meaning::Layer(_, Compression::Zstd) => media_type::OCI_LAYER_ZSTD,
        Meaning::ForeignLayer(_, Compression::None) => media_type::OCI_FOREIGN,
        Meaning::ForeignLayer(_, Compression::Gzip) => media_type::OCI_FOREIGN_GZIP,
        Meaning::ForeignLayer(_, Compression::Zstd) => media_type::OCI_FOREIGN_ZSTD,
        _ => return old.clone(),
    };
    MediaType::new(name)
}

/// Returns what runs the image, which is all that `GetConfig` gives of a config.
pub(super) fn runtime_config(config: &VerifiedBytes) -> Result<Vec<u8>> {
    let frame = || format!("reading config {}", config.digest());
    let config = OciConfig::parse(config.bytes()).context(frame)?;
    let mut document = serde_json::to_value(&config).map_err(invalid).context(frame)?;
    written(&document.get_mut("config").map_or(Value::Null, Value::take)).context(frame)
}

fn invalid(error: serde_json::Error) -> Error {
    Error::invalid(error.to_string())
}

/// Writes a value as Go does: without spaces, and what HTML knows escaped.
fn written(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(go_escaped(&serde_json::to_string(value).map_err(invalid)?).into_bytes())
}
