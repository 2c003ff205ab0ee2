//! A registry in this process: honest, or lying as a test tells it to.
//!
//! It speaks the distribution specification 1.1 over HTTP/1.1 on the loopback interface, keeps all in memory, and
//! writes down what it was asked.
//!
//! ```
//! use holkas_testkit::image::ImageBuilder;
//! use holkas_testkit::registry::{Auth, Bearer, Fault, Matcher, Registry};
//! let registry = Registry::builder().auth(Auth::Bearer(Bearer::anonymous())).start();
//! let digest = registry.put_image(&ImageBuilder::oci().layer("x").build(), "team/app", "1.0");
//! registry.on(Matcher::get("/v2/team/app/blobs/*").nth(1), Fault::Truncate(1));
//! assert_eq!(registry.digest("team/app", "1.0"), Some(digest));
//! assert!(registry.log().is_empty());
//! ```

mod auth;
mod content;
mod fault;
mod http;
mod log;
mod routes;
mod serve;
mod static_files;
mod tls;
mod uploads;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use rustls::ServerConfig;

pub use self::auth::{Auth, Bearer};
use self::content::Content;
pub use self::content::Manifest;
use self::fault::Rule;
pub use self::fault::{Fault, Matcher};
pub use self::log::Exchange;
use self::log::Log;
pub use self::static_files::{FileType, StaticRegistry};
pub use self::tls::{Certificates, Tls};
use crate::image::{BuiltImage, BuiltIndex, sha256_digest};
use crate::loopback::Listener;

/// A running registry. Dropped, it closes its connections and forgets all.
pub struct Registry {
    shared: Arc<Shared>,
    certificates: Option<Certificates>,
}

/// What a registry is to be like.
#[derive(Debug, Clone)]
pub struct Builder {
    auth: Auth,
    tls: Option<Tls>,
    options: Options,
}

#[derive(Debug, Clone)]
struct Options {
    referrers: bool,
    signatures: bool,
    absolute_locations: bool,
    chunk_min_length: Option<u64>,
    page_size: Option<usize>,
}

struct Shared {
    /// `http://127.0.0.1:PORT`, or https.
    url: String,
    options: Options,
    tls: Option<Arc<ServerConfig>>,
    auth: Mutex<Auth>,
    /// Tokens with lower numbers were revoked.
    oldest_token: Mutex<u64>,
    content: Mutex<Content>,
    rules: Mutex<Vec<Rule>>,
    log: Log,
    throttle: Mutex<Option<u64>>,
    handshake_errors: Mutex<Vec<String>>,
    listener: OnceLock<Listener>,
}

impl Shared {
    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(|_| panic!("a thread of the registry {} has panicked", self.url))
    }

    fn listener(&self) -> &Listener {
        self.listener.wait()
    }

    fn stop_listening(&self) {
        self.listener().stop();
    }
}

impl Builder {
    /// Sets what clients are asked for.
    pub fn auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Speaks TLS.
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Answers 404 to questions for referrers, as registries before 1.1 do.
    pub fn without_referrers(mut self) -> Self {
        self.options.referrers = false;
        self
    }

    /// Keeps signatures itself, and announces it: `X-Registry-Supports-Signatures`.
    pub fn signatures(mut self) -> Self {
        self.options.signatures = true;
        self
    }

    /// Gives addresses of uploads and blobs with scheme and host; without it, they begin with a slash.
    pub fn absolute_locations(mut self) -> Self {
        self.options.absolute_locations = true;
        self
    }

    /// Asks that pieces of uploads, but the last, have at least so many bytes (`OCI-Chunk-Min-Length`).
    pub fn chunk_min_length(mut self, bytes: u64) -> Self {
        self.options.chunk_min_length = Some(bytes);
        self
    }

    /// Lists at most so many tags or repositories at once, whatever was asked for.
    pub fn page_size(mut self, entries: usize) -> Self {
        self.options.page_size = Some(entries);
        self
    }

    /// Starts it on a free port.
    pub fn start(self) -> Registry {
        let socket = Listener::bind();
        let port = socket.local_addr().expect("a bound socket has an address").port();
        let certificates = self.tls.map(Certificates::new);
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            url: format!("{scheme}://127.0.0.1:{port}"),
            options: self.options,
            tls: certificates.as_ref().map(Certificates::server_config),
            auth: Mutex::new(self.auth),
            oldest_token: Mutex::new(0),
            content: Mutex::default(),
            rules: Mutex::default(),
            log: Log::default(),
            throttle: Mutex::new(None),
            handshake_errors: Mutex::default(),
            listener: OnceLock::new(),
        });
        // The listener is within what it serves; a strong reference would keep both for ever.
        let weak: Weak<Shared> = Arc::downgrade(&shared);
        let listener = Listener::start(
            socket,
            Box::new(move |accepted| {
                if let Some(shared) = weak.upgrade() {
                    serve::serve(&shared, accepted);
                }
            }),
        );
        assert!(shared.listener.set(listener).is_ok(), "it is set once");
        Registry { shared, certificates }
    }
}

impl Registry {
    /// Returns what makes a registry: plain HTTP, nobody asked who he is, with referrers.
    pub fn builder() -> Builder {
        let options = Options {
            referrers: true,
            signatures: false,
            absolute_locations: false,
            chunk_min_length: None,
            page_size: None,
        };
        Builder { auth: Auth::None, tls: None, options }
    }

    /// Starts a registry with plain HTTP that asks nobody who he is.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Starts a registry with TLS that asks nobody who he is.
    pub fn start_tls(tls: Tls) -> Self {
        Self::builder().tls(tls).start()
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.url().split_once("://").expect("a URL").1
    }

    /// Returns `http://127.0.0.1:PORT`, or https.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Returns `docker://127.0.0.1:PORT/<name>`.
    pub fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host())
    }

    /// Returns the files for its clients. Panics without TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("the registry speaks TLS")
    }

    /// Returns why TLS connections did not come about.
    pub fn handshake_errors(&self) -> Vec<String> {
        self.shared.lock(&self.shared.handshake_errors).clone()
    }

    /// Puts an image with all its blobs and returns its digest. Layers that lie keep the digest that they claim.
    pub fn put_image(&self, image: &BuiltImage, repository: &str, tag: &str) -> String {
        self.put_blobs(image, repository);
        self.put_manifest(repository, tag, &image.manifest_media_type, &image.manifest)
    }

    /// Puts an index with all that is in it and returns its digest.
    pub fn put_index(&self, index: &BuiltIndex, repository: &str, tag: &str) -> String {
        self.put_contents(index, repository);
        self.put_manifest(repository, tag, &index.manifest_media_type, &index.manifest)
    }

    /// Puts bytes under `reference`: a tag, or a digest, which is believed. Returns the digest.
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> String {
        let manifest = Manifest { media_type: media_type.to_owned(), bytes: Arc::new(bytes.to_vec()) };
        self.content().put_manifest(repository, reference, manifest)
    }

    /// Puts a blob and returns its digest.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256_digest(bytes);
        self.put_blob_as(repository, &digest, bytes);
        digest
    }

    /// Puts a blob under any digest.
    pub fn put_blob_as(&self, repository: &str, digest: &str, bytes: &[u8]) {
        self.content().repository(repository).blobs.insert(digest.to_owned(), Arc::new(bytes.to_vec()));
    }

    /// Puts any tag on any digest, whether they are good names or not.
    pub fn put_tag(&self, repository: &str, tag: &str, digest: &str) {
        self.content().repository(repository).tags.insert(tag.to_owned(), digest.to_owned());
    }

    /// Takes a blob out of a repository; returns whether it was there.
    pub fn remove_blob(&self, repository: &str, digest: &str) -> bool {
        self.content().repository(repository).blobs.remove(digest).is_some()
    }

    /// Returns the names of all repositories.
    pub fn repositories(&self) -> Vec<String> {
        self.content().repositories.keys().cloned().collect()
    }

    /// Returns the tags of a repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.content().repository(repository).tags.keys().cloned().collect()
    }

    /// Returns the digest of a tag.
    pub fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        self.content().repository(repository).tags.get(tag).cloned()
    }

    /// Returns a manifest by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        self.content().manifest(repository, reference).map(|(_, manifest)| manifest)
    }

    /// Returns the digests of all manifests of a repository.
    pub fn manifests(&self, repository: &str) -> Vec<String> {
        self.content().repository(repository).manifests.keys().cloned().collect()
    }

    /// Returns a blob.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Arc<Vec<u8>>> {
        self.content().blob(repository, digest)
    }

    /// Returns the digests of all blobs of a repository.
    pub fn blobs(&self, repository: &str) -> Vec<String> {
        self.content().repository(repository).blobs.keys().cloned().collect()
    }

    /// Returns the signatures that a repository keeps of a manifest, as they were put.
    pub fn signatures(&self, repository: &str, digest: &str) -> Vec<serde_json::Value> {
        self.content().repository(repository).signatures.get(digest).cloned().unwrap_or_default()
    }

    /// Returns how many uploads were begun and neither ended nor cancelled.
    pub fn open_uploads(&self) -> usize {
        self.content().uploads.len()
    }

    /// Writes the image's files below `dir/v2`, for [`StaticRegistry`] or any file server.
    pub fn write_static(&self, dir: impl AsRef<Path>) {
        static_files::write(&self.content(), dir.as_ref());
    }

    /// Has requests that fit `matcher` meet a fault.
    pub fn on(&self, matcher: Matcher, fault: Fault) -> &Self {
        self.shared.lock(&self.shared.rules).push(Rule { matcher, fault, seen: 0 });
        self
    }

    /// Makes the registry honest again.
    pub fn clear_faults(&self) {
        self.shared.lock(&self.shared.rules).clear();
    }

    /// Asks clients for something else from now on.
    pub fn set_auth(&self, auth: Auth) {
        *self.shared.lock(&self.shared.auth) = auth;
    }

    /// Makes all tokens invalid that were given so far, by any registry of the process, here.
    pub fn revoke_tokens(&self) {
        *self.shared.lock(&self.shared.oldest_token) = auth::next_token();
    }

    /// Carries at most so many bytes of bodies in a second from now on, in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "for nothing at all there is Fault::Stall");
        *self.shared.lock(&self.shared.throttle) = Some(bytes_per_second);
    }

    /// Carries bytes as fast as it can.
    pub fn unthrottle(&self) {
        *self.shared.lock(&self.shared.throttle) = None;
    }

    /// Closes the listening socket: new connections are refused. Open ones are cut.
    pub fn stop_listening(&self) {
        self.shared.stop_listening();
        self.shared.listener().cut();
    }

    /// Listens on the same port again.
    pub fn listen_again(&self) {
        self.shared.listener().resume();
    }

    /// Returns how many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.listener().accepted()
    }

    /// Returns all requests so far, or since [`Registry::reset_log`], in the order in which they came.
    pub fn log(&self) -> Vec<Exchange> {
        self.shared.log.exchanges()
    }

    /// Returns the requests with this method whose path has `part` in it.
    pub fn requests(&self, method: &str, part: &str) -> Vec<Exchange> {
        self.log().into_iter().filter(|one| one.method == method && one.path().contains(part)).collect()
    }

    /// Returns how many requests the token service had.
    pub fn token_requests(&self) -> usize {
        self.log().iter().filter(|exchange| exchange.path() == "/token").count()
    }

    /// Returns how many bytes of bodies were sent.
    pub fn sent(&self) -> u64 {
        self.log().iter().map(|exchange| exchange.sent).sum()
    }

    /// Returns how many bytes of bodies came.
    pub fn received(&self) -> u64 {
        self.log().iter().map(|exchange| exchange.received).sum()
    }

    /// Forgets the requests so far.
    pub fn reset_log(&self) {
        self.shared.log.reset();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.shared.lock(&self.shared.content)
    }

    fn put_blobs(&self, image: &BuiltImage, repository: &str) {
        let mut blobs = image.blobs();
        // The last one is the manifest.
        blobs.pop();
        for (hex, bytes) in blobs {
            self.put_blob_as(repository, &format!("sha256:{hex}"), bytes);
        }
    }

    fn put_contents(&self, index: &BuiltIndex, repository: &str) {
        for image in &index.images {
            self.put_blobs(image, repository);
            self.put_manifest(repository, &image.digest(), &image.manifest_media_type, &image.manifest);
        }
        for index in &index.indexes {
            self.put_contents(index, repository);
            self.put_manifest(repository, &index.digest(), &index.manifest_media_type, &index.manifest);
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Threads with open connections hold what is shared; this is what ends them.
        self.shared.listener().close();
    }
}
