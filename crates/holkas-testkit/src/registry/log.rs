//! What a registry was asked, and how many bytes went each way.

use std::sync::{Arc, Mutex, MutexGuard};

use super::http::{Request, header};

/// So much of a request's body is kept; blobs are in the registry itself.
const LONGEST_BODY: usize = 4096;

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// `GET`, `HEAD` and so on.
    pub method: String,
    /// The path and query, as they came.
    pub target: String,
    /// The headers, in their order, as they came: `Authorization` too.
    pub headers: Vec<(String, String)>,
    /// The connection, counted from zero: two requests with the same number shared it.
    pub connection: usize,
    /// How many bytes of the request's body came, without the framing of chunks.
    pub received: u64,
    /// The first 4096 bytes of that body, such as the form that a token service gets.
    pub body: Vec<u8>,
    /// The status; `None` if the request was not answered (yet).
    pub status: Option<u16>,
    /// The headers of the response.
    pub response_headers: Vec<(String, String)>,
    /// How many bytes of the response's body the socket took, without the framing of chunks.
    ///
    /// If the client hung up, what it did not read is counted as far as it was in the kernel's buffers.
    pub sent: u64,
}

impl Exchange {
    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Returns the header `Authorization`.
    pub fn authorization(&self) -> Option<&str> {
        self.header("Authorization")
    }

    /// Returns the path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns `GET /v2/ 200`, for comparing many at once.
    pub fn line(&self) -> String {
        match self.status {
            Some(status) => format!("{} {} {status}", self.method, self.target),
            None => format!("{} {} -", self.method, self.target),
        }
    }
}

/// The exchanges in the order in which their requests came.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<Entry>>);

/// An exchange that may still be going on.
#[derive(Debug, Clone)]
pub(super) struct Entry(Arc<Mutex<Exchange>>);

impl Log {
    pub(super) fn begin(&self, request: &Request, connection: usize) -> Entry {
        let entry = Entry(Arc::new(Mutex::new(Exchange {
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            connection,
            received: 0,
            body: Vec::new(),
            status: None,
            response_headers: Vec::new(),
            sent: 0,
        })));
        self.0.lock().expect("no thread panics with it").push(entry.clone());
        entry
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.0.lock().expect("no thread panics with it").iter().map(|entry| entry.lock().clone()).collect()
    }

    pub(super) fn reset(&self) {
        self.0.lock().expect("no thread panics with it").clear();
    }
}

impl Entry {
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut exchange = self.lock();
        exchange.received += bytes.len() as u64;
        let kept = bytes.len().min(LONGEST_BODY - exchange.body.len());
        exchange.body.extend_from_slice(&bytes[..kept]);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.lock().sent += bytes;
    }

    pub(super) fn unsent(&self, bytes: u64) {
        self.lock().sent -= bytes;
    }

    pub(super) fn answered(&self, status: u16, headers: &[(String, String)]) {
        let mut exchange = self.lock();
        exchange.status = Some(status);
        exchange.response_headers = headers.to_vec();
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.0.lock().expect("no thread panics with it")
    }
}
