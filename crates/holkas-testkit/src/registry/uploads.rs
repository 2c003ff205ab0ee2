//! Uploads of blobs: begun, mounted from another repository, carried in pieces, ended by a digest.

use super::Options;
use super::content::{Content, proves};
use super::http::{Request, Response};
use super::routes::Route;

/// Answers a request on `/v2/<repository>/blobs/uploads/`.
pub(super) fn answer(
    content: &mut Content,
    options: &Options,
    base: &str,
    request: &Request,
    route: &Route,
    body: Vec<u8>,
) -> Response {
    let base = if options.absolute_locations { base } else { "" };
    match (request.method.as_str(), route) {
        ("POST", Route::NewUpload { repository }) => begin(content, options, base, request, repository, body),
        (_, Route::Upload { repository, id }) => {
            if content.uploads.get(id).is_none_or(|upload| &upload.repository != repository) {
                return unknown();
            }
            match request.method.as_str() {
                "GET" | "HEAD" => status(content, base, id, 204),
                "PATCH" => append(content, base, request, id, &body).unwrap_or_else(|| status(content, base, id, 202)),
                "PUT" => {
                    append(content, base, request, id, &body).unwrap_or_else(|| finish(content, base, request, id))
                }
                "DELETE" => {
                    content.uploads.remove(id);
                    Response::new(204)
                }
                _ => Response::error(405, "UNSUPPORTED", "the operation is unsupported"),
            }
        }
        _ => Response::error(405, "UNSUPPORTED", "the operation is unsupported"),
    }
}

/// Keeps what came of a piece before the connection broke.
pub(super) fn keep_part(content: &mut Content, id: &str, body: &[u8]) {
    if let Some(upload) = content.uploads.get_mut(id) {
        upload.bytes.extend_from_slice(body);
    }
}

fn unknown() -> Response {
    Response::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}

fn begin(
    content: &mut Content,
    options: &Options,
    base: &str,
    request: &Request,
    repository: &str,
    body: Vec<u8>,
) -> Response {
    if let (Some(digest), Some(from)) = (request.parameter("mount"), request.parameter("from"))
        && let Some(bytes) = content.blob(&from, &digest)
    {
        content.repository(repository).blobs.insert(digest.clone(), bytes);
        return created(base, repository, &digest);
    }
    let id = content.begin_upload(repository);
    if request.parameter("digest").is_some() {
        keep_part(content, &id, &body);
        return finish(content, base, request, &id);
    }
    let response = status(content, base, &id, 202);
    match options.chunk_min_length {
        Some(length) => response.with("OCI-Chunk-Min-Length", length.to_string()),
        None => response,
    }
}

/// Adds a piece; returns the refusal if it does not fit.
fn append(content: &mut Content, base: &str, request: &Request, id: &str, body: &[u8]) -> Option<Response> {
    let upload = content.uploads.get_mut(id).expect("it was looked up");
    if request.parameter("_state") != Some(upload.state.to_string()) {
        return Some(Response::error(400, "BLOB_UPLOAD_INVALID", "that was not the newest address of the upload"));
    }
    if let Some(range) = request.header("Content-Range") {
        let expected = format!("{}-{}", upload.bytes.len(), (upload.bytes.len() + body.len()).saturating_sub(1));
        if range != expected && !body.is_empty() {
            return Some(status(content, base, id, 416));
        }
    }
    upload.bytes.extend_from_slice(body);
    upload.state += 1;
    None
}

fn finish(content: &mut Content, base: &str, request: &Request, id: &str) -> Response {
    let upload = content.uploads.get_mut(id).expect("it was looked up");
    let Some(digest) = request.parameter("digest") else {
        return Response::error(400, "DIGEST_INVALID", "no digest");
    };
    if proves(&digest, &upload.bytes) != Some(true) {
        let (message, length) = ("provided digest did not match uploaded content", upload.bytes.len());
        content.uploads.remove(id);
        return Response::error(400, "DIGEST_INVALID", &format!("{message} of {length} bytes"));
    }
    let upload = content.uploads.remove(id).expect("it was looked up");
    content.repository(&upload.repository).blobs.insert(digest.clone(), upload.bytes.into());
    created(base, &upload.repository, &digest)
}

fn created(base: &str, repository: &str, digest: &str) -> Response {
    Response::new(201)
        .with("Location", format!("{base}/v2/{repository}/blobs/{digest}"))
        .with("Docker-Content-Digest", digest)
}

fn status(content: &Content, base: &str, id: &str, status: u16) -> Response {
    let upload = content.uploads.get(id).expect("it was looked up");
    // As distribution does, `0-0` is said of nothing as of one byte.
    let range = format!("0-{}", upload.bytes.len().saturating_sub(1));
    Response::new(status)
        .with("Location", format!("{base}/v2/{}/blobs/uploads/{id}?_state={}", upload.repository, upload.state))
        .with("Docker-Upload-UUID", id)
        .with("Range", range)
}
