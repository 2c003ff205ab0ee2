//! Which kind of document is it: an image manifest, an index, or Docker's schema 1?
//!
//! A document that two readers could take for different kinds is refused (CVE-2021-41190).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::media_type::{self, Format, Meaning, MediaType};
use super::{Algorithm, Descriptor, Digest, Index, Manifest, json, schema1::Schema1};
use crate::error::{Context, Error, Result};
use crate::limits::Limit;
use crate::verify::VerifiedBytes;

/// What a source's manifest can be.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A list of images, or of lists.
    Index(Index),
    /// One image in Docker's oldest format.
    Schema1(Schema1),
}

impl Document {
    /// Parses a verified document strictly, deciding its kind by its content.
    ///
    /// The media type of the descriptor, or of the source, must agree with the content.
    pub fn parse(raw: VerifiedBytes) -> Result<Self> {
        let frame = || format!("parsing manifest {}", raw.digest());
        let fields = json::parse_object(raw.bytes()).context(frame)?;
        Ok(match kind(&fields, raw.media_type()).context(frame)? {
            Kind::Manifest(format) => {
                Self::Manifest(Manifest::from_fields(format, &fields, raw.clone()).context(frame)?)
            }
            Kind::Index(format) => Self::Index(Index::from_fields(format, &fields, raw.clone()).context(frame)?),
            Kind::Schema1 => Self::Schema1(Schema1::from_fields(&fields, raw.clone()).context(frame)?),
        })
    }

    /// Returns the bytes as they came.
    pub fn raw(&self) -> &VerifiedBytes {
        match self {
            Self::Manifest(manifest) => manifest.raw(),
            Self::Index(index) => index.raw(),
            Self::Schema1(schema1) => schema1.raw(),
        }
    }

    /// Returns the manifest or index that this one is about, if it says so.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject(),
            Self::Index(index) => index.subject(),
            Self::Schema1(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest(Format),
    Index(Format),
    Schema1,
}

/// Fields that tell the kinds apart, and the kind that may have them.
const TELLING: [&str; 7] = ["mediaType", "schemaVersion", "config", "layers", "manifests", "fsLayers", "history"];

fn kind(fields: &Map<String, Value>, said: Option<&MediaType>) -> Result<Kind> {
    for key in fields.keys() {
        if let Some(telling) = TELLING.iter().find(|t| t.eq_ignore_ascii_case(key) && *t != key) {
            return Err(Error::invalid(format!(
                "ambiguous document: it has the key `{key}`, which some readers take for `{telling}`"
            )));
        }
    }
    let present = |key: &str| fields.contains_key(key);
    let own = match fields.get("mediaType") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(MediaType::new(text.clone())),
        Some(_) => return Err(Error::invalid("`mediaType` is not a string")),
    };
    let version = match fields.get("schemaVersion") {
        Some(Value::Number(number)) => number.as_u64(),
        _ => None,
    };
    let from_type = |media_type: &MediaType| match media_type.meaning() {
        Meaning::Manifest(format) => Ok(Kind::Manifest(format)),
        Meaning::Index(format) => Ok(Kind::Index(format)),
        Meaning::Schema1 => Ok(Kind::Schema1),
        _ => Err(Error::unsupported(format!("`{media_type}` is not the type of an image manifest or an index"))),
    };
    let kind = match &own {
        Some(media_type) => from_type(media_type)?,
        None if version == Some(1) => Kind::Schema1,
        // OCI does not require the field: only what is exclusive to one kind may decide.
        None if present("manifests") => match said.map(MediaType::meaning) {
            Some(Meaning::Index(format)) => Kind::Index(format),
            _ => Kind::Index(Format::Oci),
        },
        None if present("config") || present("layers") => Kind::Manifest(config_format(fields)),
        None => {
            return Err(Error::invalid(
                "the document is no image manifest: it has no `mediaType`, `config`, `layers` or `manifests`",
            ));
        }
    };
    // Registries of old say `text/plain` or `application/json`; only a type that says something can contradict.
    if let Some(said) = said.filter(|said| said.meaning() != Meaning::Other) {
        let said_kind = from_type(said)?;
        if std::mem::discriminant(&said_kind) != std::mem::discriminant(&kind) || (own.is_some() && said_kind != kind) {
            return Err(Error::mismatch(format!(
                "the document is not what its source says: `{said}` was announced, but it is {}",
                own.as_ref().map_or_else(|| format!("{kind:?}"), |own| format!("`{own}`"))
            )));
        }
    }
    let (foreign, wanted): (&[&str], u64) = match kind {
        Kind::Manifest(_) => (&["manifests", "fsLayers", "history"], 2),
        Kind::Index(_) => (&["config", "layers", "fsLayers", "history"], 2),
        Kind::Schema1 => (&["config", "layers", "manifests"], 1),
    };
    if let Some(key) = foreign.iter().find(|key| present(key)) {
        let what = match kind {
            Kind::Manifest(_) => "an image manifest",
            Kind::Index(_) => "a manifest list",
            Kind::Schema1 => "a schema 1 manifest",
        };
        return Err(Error::invalid(format!("ambiguous document: {what} must not have the key `{key}`")));
    }
    if version != Some(wanted) {
        let found = fields.get("schemaVersion").map_or_else(|| "absent".to_string(), Value::to_string);
        return Err(Error::invalid(format!("`schemaVersion` must be {wanted}, but is {found}")));
    }
    Ok(kind)
}

fn config_format(fields: &Map<String, Value>) -> Format {
    match fields.get("config").and_then(|c| c.get("mediaType")).and_then(Value::as_str) {
        Some(media_type::DOCKER_CONFIG) => Format::Docker,
        _ => Format::Oci,
    }
}

/// Parses one descriptor of a document; `place` names it in the error.
pub(super) fn descriptor(value: &Value, place: impl Fn() -> String) -> Result<Descriptor> {
    if !value.is_object() {
        return Err(Error::invalid("not a descriptor: it is not an object").context(place()));
    }
    let descriptor: Descriptor = serde_json::from_value(value.clone())
        .map_err(|error| Error::invalid(format!("not a descriptor: {error}")))
        .context(&place)?;
    if i64::try_from(descriptor.size).is_err() {
        return Err(Error::invalid(format!("the size {} is beyond any blob", descriptor.size)).context(place()));
    }
    Ok(descriptor)
}

/// Parses what a manifest or an index is about.
pub(super) fn subject(fields: &Map<String, Value>) -> Result<Option<Box<Descriptor>>> {
    match fields.get("subject") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => descriptor(value, || "`subject`".to_string()).map(|subject| Some(Box::new(subject))),
    }
}

/// Parses the annotations of a manifest or an index.
pub(super) fn annotations(fields: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    match fields.get("annotations") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|error| Error::invalid(error.to_string()))
            .context(|| "`annotations`"),
    }
}

/// Returns the type that a manifest or an index gives itself; the empty one is none.
pub(super) fn artifact_type(fields: &Map<String, Value>) -> Option<MediaType> {
    fields.get("artifactType").and_then(Value::as_str).filter(|text| !text.is_empty()).map(MediaType::new)
}

/// Guesses a manifest's media type from its bytes alone, as containers/image does for `dir:` and stores.
///
/// Lenient on purpose: it answers for whatever existing callers have. Returns `None` where no guess is possible.
pub fn guess_media_type(bytes: &[u8]) -> Option<MediaType> {
    #[derive(serde::Deserialize)]
    struct Guess {
        #[serde(rename = "mediaType", default)]
        media_type: Option<String>,
        #[serde(rename = "schemaVersion", default)]
        schema_version: i64,
        #[serde(default)]
        signatures: Option<Value>,
        #[serde(default)]
        config: Option<Config>,
        #[serde(default)]
        manifests: Option<Vec<serde::de::IgnoredAny>>,
    }
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(rename = "mediaType", default)]
        media_type: Option<String>,
    }
    let guess: Guess = serde_json::from_slice(bytes).ok()?;
    if let Some(own) = guess.media_type.map(MediaType::new)
        && matches!(own.meaning(), Meaning::Manifest(_) | Meaning::Index(_) | Meaning::Schema1)
        && own.as_str() != media_type::DOCKER_SCHEMA1
    {
        return Some(own);
    }
    let text = match guess.schema_version {
        1 if guess.signatures.is_some_and(|s| !s.is_null()) => media_type::DOCKER_SCHEMA1_SIGNED,
        1 => media_type::DOCKER_SCHEMA1,
        2 => {
            let config = guess.config.and_then(|c| c.media_type);
            match config.as_deref() {
                Some(media_type::OCI_CONFIG) => media_type::OCI_MANIFEST,
                Some(media_type::DOCKER_CONFIG) => media_type::DOCKER_MANIFEST,
                _ if guess.manifests.is_some_and(|m| !m.is_empty()) => media_type::OCI_INDEX,
                _ => media_type::OCI_MANIFEST,
            }
        }
        _ => return None,
    };
    Some(MediaType::new(text))
}

/// Returns the digest that a manifest is known by: of its bytes, but of the payload for a signed schema 1.
///
/// Like `skopeo manifest-digest`, it takes any bytes at all, and fails only for a damaged signed schema 1.
pub fn manifest_digest(bytes: &[u8], algorithm: Algorithm, limit: Limit) -> Result<Digest> {
    limit.check(bytes.len() as u64)?;
    let signed = guess_media_type(bytes).is_some_and(|t| t.essence() == media_type::DOCKER_SCHEMA1_SIGNED);
    if signed { Ok(algorithm.digest(&super::schema1::payload(bytes)?)) } else { Ok(algorithm.digest(bytes)) }
}
