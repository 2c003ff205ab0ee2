//! A registry of files alone, over HTTP/1.0, such as a web server with a directory is.
//!
//! ```text
//! v2/REPOSITORY/manifests/TAG            the manifest's bytes
//! v2/REPOSITORY/manifests/sha256:HEX
//! v2/REPOSITORY/blobs/sha256:HEX
//! ```

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::http::{Connection, Request, Response, Stream, decode};
use super::log::{Exchange, Log};
use super::serve::prepare;
use crate::loopback::{Accepted, Listener};

/// Serves the files below a directory, and nothing else: no digest, no part of a file, no type but a guessed one.
pub struct StaticRegistry {
    host: String,
    log: Arc<Log>,
    _listener: Listener,
}

/// What a web server says of files whose type it cannot tell by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// `application/octet-stream`, whatever the file is.
    OctetStream,
    /// The `mediaType` that the file has, if it is JSON and has one.
    Guessed,
}

impl StaticRegistry {
    /// Serves the files below `dir`, which holds `v2`, each as `application/octet-stream`.
    pub fn start(dir: impl AsRef<Path>) -> Self {
        Self::start_with(dir, FileType::OctetStream)
    }

    /// Serves the files below `dir` under guessed types.
    pub fn start_with(dir: impl AsRef<Path>, file_type: FileType) -> Self {
        let dir = dir.as_ref().to_owned();
        let socket = Listener::bind();
        let host = socket.local_addr().expect("a bound socket has an address").to_string();
        let log: Arc<Log> = Arc::default();
        let own_log = Arc::clone(&log);
        let serve = Box::new(move |accepted| serve(&dir, file_type, &own_log, accepted));
        Self { host, log, _listener: Listener::start(socket, serve) }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns `docker://127.0.0.1:PORT/<name>`.
    pub fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host)
    }

    /// Returns all requests so far.
    pub fn log(&self) -> Vec<Exchange> {
        self.log.exchanges()
    }
}

fn serve(dir: &Path, file_type: FileType, log: &Log, accepted: Accepted) {
    prepare(&accepted.stream);
    let mut connection = Connection::new(Stream::Plain(accepted.stream), accepted.closing, || None);
    let Some(mut request) = connection.request() else { return };
    let entry = log.begin(&request, accepted.number);
    let response = answer(dir, file_type, &request);
    request.is_http_1_0 = true;
    // The client may have hung up; the connection ends either way.
    let _ = connection.respond(&request, &response, &entry);
}

fn answer(dir: &Path, file_type: FileType, request: &Request) -> Response {
    if !["GET", "HEAD"].contains(&request.method.as_str()) {
        return Response::new(405).body("text/plain", b"no such method\n".to_vec());
    }
    let path = PathBuf::from(decode(request.path()).trim_start_matches('/'));
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    let file = dir.join(&path);
    if is_inside && file.is_dir() {
        return Response::new(200).body("text/html", b"<html>a directory</html>\n".to_vec());
    }
    match fs::read(&file) {
        Ok(bytes) if is_inside => {
            let guess =
                || serde_json::from_slice::<serde_json::Value>(&bytes).ok()?["mediaType"].as_str().map(str::to_owned);
            let guessed = if file_type == FileType::Guessed { guess() } else { None };
            Response::new(200).body(guessed.as_deref().unwrap_or("application/octet-stream"), bytes)
        }
        _ => Response::new(404).body("text/html", b"<html>not found</html>\n".to_vec()),
    }
}

/// Writes what a registry holds as files.
pub(super) fn write(content: &Content, dir: &Path) {
    let put = |path: PathBuf, bytes: &[u8]| {
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("directories are made");
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    };
    for (name, repository) in &content.repositories {
        let base = dir.join("v2").join(name);
        for (digest, bytes) in &repository.blobs {
            put(base.join("blobs").join(digest), bytes);
        }
        for (digest, manifest) in &repository.manifests {
            put(base.join("manifests").join(digest), &manifest.bytes);
        }
        for (tag, digest) in &repository.tags {
            if let Some(manifest) = repository.manifests.get(digest) {
                put(base.join("manifests").join(tag), &manifest.bytes);
            }
        }
    }
}
