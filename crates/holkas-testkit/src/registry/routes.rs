//! The addresses of the distribution specification, and what is read from them: manifests, blobs, tags, referrers.

use serde_json::{Value, json};

use super::content::{Content, Manifest, is_digest, proves};
use super::http::{Bytes, Request, Response, decode, encode};
use super::{Options, uploads};
use crate::image::OCI_INDEX;

/// What an address is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Catalog,
    Token,
    Manifest { repository: String, reference: String },
    Blob { repository: String, digest: String },
    NewUpload { repository: String },
    Upload { repository: String, id: String },
    Tags { repository: String },
    Referrers { repository: String, digest: String },
    Signatures { repository: String, digest: String },
    Unknown,
}

impl Route {
    pub(super) fn of(request: &Request) -> Self {
        let path = decode(request.path());
        if let Some((repository, digest)) =
            path.strip_prefix("/extensions/v2/").and_then(|rest| rest.rsplit_once("/signatures/"))
        {
            return Self::Signatures { repository: repository.into(), digest: digest.into() };
        }
        let Some(rest) = path.strip_prefix("/v2") else {
            return if path == "/token" { Self::Token } else { Self::Unknown };
        };
        match rest {
            "" | "/" => return Self::Base,
            "/_catalog" => return Self::Catalog,
            _ => {}
        }
        let Some(rest) = rest.strip_prefix('/') else { return Self::Unknown };
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Self::Tags { repository: repository.into() };
        }
        // Upload first: an ID may hold anything, but a digest has no slash.
        if let Some((repository, id)) = rest.rsplit_once("/blobs/uploads/") {
            let repository = repository.into();
            return if id.is_empty() {
                Self::NewUpload { repository }
            } else {
                Self::Upload { repository, id: id.into() }
            };
        }
        if let Some(repository) = rest.strip_suffix("/blobs/uploads") {
            return Self::NewUpload { repository: repository.into() };
        }
        let Some((front, last)) = rest.rsplit_once('/') else { return Self::Unknown };
        let last = last.to_owned();
        if let Some(repository) = front.strip_suffix("/manifests") {
            Self::Manifest { repository: repository.into(), reference: last }
        } else if let Some(repository) = front.strip_suffix("/blobs") {
            Self::Blob { repository: repository.into(), digest: last }
        } else if let Some(repository) = front.strip_suffix("/referrers") {
            Self::Referrers { repository: repository.into(), digest: last }
        } else {
            Self::Unknown
        }
    }

    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::NewUpload { repository }
            | Self::Upload { repository, .. }
            | Self::Tags { repository }
            | Self::Referrers { repository, .. }
            | Self::Signatures { repository, .. } => Some(repository),
            Self::Base | Self::Catalog | Self::Token | Self::Unknown => None,
        }
    }
}

/// Answers a request that may be answered; `base` is what absolute addresses begin with.
pub(super) fn answer(
    content: &mut Content,
    options: &Options,
    base: &str,
    request: &Request,
    body: Vec<u8>,
) -> Response {
    let method = if request.method == "HEAD" { "GET" } else { &request.method };
    let route = Route::of(request);
    let response = match (method, &route) {
        ("GET", Route::Base) => Response::new(200).json(&json!({})),
        ("GET", Route::Catalog) => {
            let names: Vec<_> = content.repositories.keys().cloned().collect();
            page(options, request, "repositories", &names, json!({}))
        }
        ("GET", Route::Tags { repository }) => match content.repositories.get(repository) {
            Some(found) => {
                let tags: Vec<_> = found.tags.keys().cloned().collect();
                page(options, request, "tags", &tags, json!({"name": repository}))
            }
            None => Response::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
        },
        ("GET", Route::Manifest { repository, reference }) => manifest(content, request, repository, reference),
        ("PUT", Route::Manifest { repository, reference }) => {
            put_manifest(content, request, repository, reference, body)
        }
        ("DELETE", Route::Manifest { repository, reference }) => delete_manifest(content, repository, reference),
        ("GET", Route::Blob { repository, digest }) => match content.blob(repository, digest) {
            Some(bytes) => blob(request, digest, bytes.into()),
            None => Response::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        },
        ("DELETE", Route::Blob { repository, digest }) => match content.repository(repository).blobs.remove(digest) {
            Some(_) => Response::new(202),
            None => Response::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        },
        ("GET", Route::Referrers { repository, digest }) if options.referrers => {
            let wanted = request.parameter("artifactType");
            let found = content.repositories.get(repository).map(|found| found.referrers(digest, wanted.as_deref()));
            let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found.unwrap_or_default()});
            let response = Response::new(200).body(OCI_INDEX, crate::image::to_bytes(&index));
            if wanted.is_some() { response.with("OCI-Filters-Applied", "artifactType") } else { response }
        }
        ("GET", Route::Signatures { repository, digest }) if options.signatures => {
            let found = content.repository(repository).signatures.get(digest).cloned().unwrap_or_default();
            Response::new(200).json(&json!({ "signatures": found }))
        }
        ("PUT", Route::Signatures { repository, digest }) if options.signatures => {
            put_signature(content, repository, digest, &body)
        }
        (_, Route::Referrers { .. } | Route::Signatures { .. } | Route::Unknown) => {
            Response::error(404, "UNSUPPORTED", "no such page")
        }
        (_, Route::NewUpload { .. } | Route::Upload { .. }) => {
            uploads::answer(content, options, base, request, &route, body)
        }
        _ => Response::error(405, "UNSUPPORTED", "the operation is unsupported"),
    };
    response.with("Docker-Distribution-API-Version", "registry/2.0")
}

/// Takes a signature as OpenShift does: of a manifest that is there, under a name that is new.
fn put_signature(content: &mut Content, repository: &str, digest: &str, body: &[u8]) -> Response {
    let repository = content.repository(repository);
    let Ok(signature) = serde_json::from_slice::<Value>(body) else {
        return Response::error(400, "SIGNATURE_INVALID", "the signature is not JSON");
    };
    let name = signature["name"].as_str().unwrap_or_default();
    let fits = signature["schemaVersion"] == 2
        && signature["type"] == "atomic"
        && signature["content"].is_string()
        && name.strip_prefix(digest).is_some_and(|rest| rest.len() == 33 && rest.starts_with('@'));
    if !fits {
        return Response::error(400, "SIGNATURE_INVALID", "the signature is not as the extension has it");
    }
    if !repository.manifests.contains_key(digest) {
        return Response::error(404, "MANIFEST_UNKNOWN", "there is nothing of that digest to sign");
    }
    let known = repository.signatures.entry(digest.to_owned()).or_default();
    if known.iter().any(|known| known["name"] == name) {
        return Response::error(409, "SIGNATURE_EXISTS", "there is a signature of that name");
    }
    known.push(signature);
    Response::new(201)
}

fn manifest(content: &Content, request: &Request, repository: &str, reference: &str) -> Response {
    let Some((digest, manifest)) = content.manifest(repository, reference) else {
        let message = format!("manifest unknown: {reference} in {repository}");
        return Response::error(404, "MANIFEST_UNKNOWN", &message);
    };
    if !accepts(request, &manifest.media_type) {
        // As distribution 2.8 does for OCI: `handlers/manifests.go`, GetManifest.
        let message = format!("{} found, but the accept header does not support it", manifest.media_type);
        return Response::error(404, "MANIFEST_UNKNOWN", &message);
    }
    Response::new(200).with("Docker-Content-Digest", digest).body(&manifest.media_type, Bytes::from(manifest.bytes))
}

fn accepts(request: &Request, media_type: &str) -> bool {
    let wanted: Vec<&str> = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("Accept"))
        .flat_map(|(_, value)| value.split(','))
        .map(|value| value.split(';').next().unwrap_or_default().trim())
        .collect();
    wanted.is_empty() || wanted.iter().any(|wanted| ["*/*", "application/*", media_type].contains(wanted))
}

fn put_manifest(
    content: &mut Content,
    request: &Request,
    repository: &str,
    reference: &str,
    body: Vec<u8>,
) -> Response {
    if is_digest(reference) && proves(reference, &body) != Some(true) {
        return Response::error(400, "DIGEST_INVALID", "provided digest did not match the manifest");
    }
    let Ok(document @ Value::Object(_)) = serde_json::from_slice::<Value>(&body) else {
        return Response::error(400, "MANIFEST_INVALID", "the manifest is not a JSON object");
    };
    let Some(media_type) = request.header("Content-Type") else {
        return Response::error(400, "MANIFEST_INVALID", "no Content-Type");
    };
    if document["mediaType"].as_str().is_some_and(|own| own != media_type) {
        return Response::error(400, "MANIFEST_INVALID", "the manifest's mediaType is not its Content-Type");
    }
    if let Some(missing) = missing(content, repository, &document) {
        let code = if document["manifests"].is_array() { "MANIFEST_UNKNOWN" } else { "MANIFEST_BLOB_UNKNOWN" };
        return Response::error(400, code, &format!("the manifest refers to {missing}, which is not there"));
    }
    let manifest = Manifest { media_type: media_type.to_owned(), bytes: body.into() };
    let digest = content.put_manifest(repository, reference, manifest);
    let response = Response::new(201)
        .with("Location", format!("/v2/{repository}/manifests/{digest}"))
        .with("Docker-Content-Digest", digest);
    match document["subject"]["digest"].as_str() {
        Some(subject) => response.with("OCI-Subject", subject),
        None => response,
    }
}

/// Returns the first thing that a manifest refers to and the repository does not have.
fn missing(content: &Content, repository: &str, document: &Value) -> Option<String> {
    let none = Vec::new();
    let list = |name: &str| document[name].as_array().unwrap_or(&none).iter();
    let known = content.repositories.get(repository);
    let digest = |entry: &Value| entry["digest"].as_str().map(str::to_owned);
    let is_foreign = |layer: &&Value| layer["urls"].as_array().is_some_and(|urls| !urls.is_empty());
    let config = [&document["config"]];
    let blobs = list("layers").filter(|layer| !is_foreign(layer)).chain(config).filter_map(digest);
    let schema1 = list("fsLayers").filter_map(|layer| layer["blobSum"].as_str().map(str::to_owned));
    let has_blob = |digest: &String| known.is_some_and(|known| known.blobs.contains_key(digest));
    let has_manifest = |digest: &String| known.is_some_and(|known| known.manifests.contains_key(digest));
    let missing_blob = blobs.chain(schema1).find(|digest| !has_blob(digest));
    missing_blob.or_else(|| list("manifests").filter_map(digest).find(|digest| !has_manifest(digest)))
}

fn delete_manifest(content: &mut Content, repository: &str, reference: &str) -> Response {
    let repository = content.repository(repository);
    let was_there = if is_digest(reference) {
        repository.tags.retain(|_, digest| digest != reference);
        repository.manifests.remove(reference).is_some()
    } else {
        repository.tags.remove(reference).is_some()
    };
    if was_there { Response::new(202) } else { Response::error(404, "MANIFEST_UNKNOWN", "manifest unknown") }
}

fn blob(request: &Request, digest: &str, bytes: Bytes) -> Response {
    let length = bytes.as_slice().len();
    let response = Response::new(200).with("Docker-Content-Digest", digest).with("Accept-Ranges", "bytes");
    match request.header("Range").and_then(|range| asked_part(range, length)) {
        None => response.body("application/octet-stream", bytes),
        Some(None) => {
            Response::error(416, "RANGE_INVALID", "no such part").with("Content-Range", format!("bytes */{length}"))
        }
        Some(Some((first, last))) => {
            let part = bytes.part(first, last + 1 - first);
            let mut response = response.body("application/octet-stream", part);
            response.status = 206;
            response.with("Content-Range", format!("bytes {first}-{last}/{length}"))
        }
    }
}

/// Returns the first and last byte of `bytes=a-b`, `bytes=a-` or `bytes=-n`: `Some(None)` if they are not there, `None`
/// for what is to be answered with the whole, such as several parts.
fn asked_part(range: &str, length: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1);
    let (first, last) = match (first, last) {
        ("", count) => (length.saturating_sub(count.parse().ok()?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => {
            let last: usize = last.parse().ok()?;
            (first.parse().ok()?, end.map(|end| end.min(last)))
        }
    };
    Some(last.filter(|last| first <= *last).map(|last| (first, last)))
}

/// Answers one page of a sorted list, with the `Link` to the next.
fn page(options: &Options, request: &Request, name: &str, all: &[String], mut document: Value) -> Response {
    let last = request.parameter("last").unwrap_or_default();
    let asked = request.parameter("n").and_then(|n| n.parse::<usize>().ok());
    let most = asked.unwrap_or(usize::MAX).min(options.page_size.unwrap_or(usize::MAX));
    let rest: Vec<_> = all.iter().filter(|item| last.is_empty() || **item > last).collect();
    let here = &rest[..rest.len().min(most)];
    document[name] = json!(here);
    let response = Response::new(200).json(&document);
    match here.last() {
        Some(end) if here.len() < rest.len() => {
            let next = format!("<{}?n={most}&last={}>; rel=\"next\"", request.path(), encode(end));
            response.with("Link", next)
        }
        _ => response,
    }
}
