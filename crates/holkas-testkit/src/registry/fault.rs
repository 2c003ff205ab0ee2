//! How a registry fails or lies, as data: which requests, and what becomes of them.

use std::time::Duration;

use super::http::{Delivery, Request, Response};

/// What goes wrong with a request. Several may come together; they act in the order in which they were told.
///
/// In texts of headers, `{target}` is the path and query of the request, without the first slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Another answer than the true one. Nothing is done, and nobody is asked who he is.
    Answer {
        /// The status.
        status: u16,
        /// All headers but `Content-Length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A header with another value, or one more header.
    Header(String, String),
    /// A header left out.
    WithoutHeader(String),
    /// Another body in the true answer, with the length that it has.
    Body(Vec<u8>),
    /// One bit of this byte of the body is another. Panics if there is no such byte.
    FlipByte(usize),
    /// The connection is closed after so many bytes of the body; all of it was announced.
    Truncate(u64),
    /// The body comes in chunks, then zeros without end.
    Endless,
    /// Nothing more comes after so many bytes of the body, until the registry is dropped.
    Stall(u64),
    /// The body comes one byte at a time, one in each interval.
    Drip(Duration),
    /// The connection is closed before an answer.
    Close,
    /// The connection is closed before an answer, and all later ones are refused.
    StopListening,
    /// The whole is answered with 200, whatever part was asked for.
    IgnoreRange,
    /// The part from the first to the last byte is answered with 206, though it was not asked for.
    UnaskedRange(u64, u64),
    /// A mount begins an upload (202), though the blob is there.
    RefuseMount,
    /// A mount succeeds (201), though the blob is not there.
    FalseMount,
    /// Of the request's body, so many bytes are read and kept, then the connection is closed.
    BreakUpload(u64),
    /// All uploads that were begun are forgotten: BLOB_UPLOAD_UNKNOWN.
    ForgetUploads,
}

impl Fault {
    /// Returns an answer with this status and a short text.
    pub fn status(status: u16) -> Self {
        Self::answer(status, &[("Content-Type", "text/plain")], format!("status {status}, says the test\n"))
    }

    /// Returns any answer.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::Answer { status, headers, body: body.into() }
    }

    /// Returns an error in the form of the distribution specification.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let response = Response::error(status, code, message);
        Self::Answer { status, headers: response.headers, body: response.body.as_slice().to_vec() }
    }

    /// Returns 429 with a `Retry-After`: seconds, or a date as HTTP writes them.
    pub fn too_many_requests(retry_after: &str) -> Self {
        let fault = Self::error(429, "TOOMANYREQUESTS", "too many requests");
        let Self::Answer { status, mut headers, body } = fault else { unreachable!("an error is an answer") };
        headers.push(("Retry-After".into(), retry_after.into()));
        Self::Answer { status, headers, body }
    }

    /// Returns a redirect to an address such as `http://127.0.0.1:1/{target}`; `/{target}` is a loop.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::answer(status, &[("Location", location)], "")
    }

    /// Returns a header with another value.
    pub fn header(name: &str, value: impl Into<String>) -> Self {
        Self::Header(name.to_owned(), value.into())
    }

    /// Returns a header left out.
    pub fn without_header(name: &str) -> Self {
        Self::WithoutHeader(name.to_owned())
    }
}

/// Which requests: a method, a pattern and how many of those that fit.
///
/// In a pattern, `*` is any text, slashes too. A pattern with `?` is held against path and query, another against the
/// path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    method: Option<&'static str>,
    pattern: String,
    first: usize,
    last: usize,
}

impl Matcher {
    /// Returns what fits each request on this pattern.
    pub fn any(pattern: &str) -> Self {
        Self { method: None, pattern: pattern.to_owned(), first: 1, last: usize::MAX }
    }

    /// Returns what fits each `GET`; not `HEAD`.
    pub fn get(pattern: &str) -> Self {
        Self { method: Some("GET"), ..Self::any(pattern) }
    }

    /// Returns what fits each `HEAD`.
    pub fn head(pattern: &str) -> Self {
        Self { method: Some("HEAD"), ..Self::any(pattern) }
    }

    /// Returns what fits each `POST`.
    pub fn post(pattern: &str) -> Self {
        Self { method: Some("POST"), ..Self::any(pattern) }
    }

    /// Returns what fits each `PATCH`.
    pub fn patch(pattern: &str) -> Self {
        Self { method: Some("PATCH"), ..Self::any(pattern) }
    }

    /// Returns what fits each `PUT`.
    pub fn put(pattern: &str) -> Self {
        Self { method: Some("PUT"), ..Self::any(pattern) }
    }

    /// Returns what fits each `DELETE`.
    pub fn delete(pattern: &str) -> Self {
        Self { method: Some("DELETE"), ..Self::any(pattern) }
    }

    /// Keeps to the nth of the requests that fit, counted from one.
    pub fn nth(self, number: usize) -> Self {
        assert!(number > 0, "the first request is number 1");
        Self { first: number, last: number, ..self }
    }

    /// Keeps to the first so many of the requests that fit.
    pub fn first(self, count: usize) -> Self {
        Self { last: count, ..self }
    }

    /// Keeps to the requests after the first so many.
    pub fn after(self, count: usize) -> Self {
        Self { first: count + 1, ..self }
    }

    fn fits(&self, request: &Request) -> bool {
        let text = if self.pattern.contains('?') { &request.target } else { request.path() };
        self.method.is_none_or(|method| method == request.method) && fits(&self.pattern, text)
    }
}

/// Returns whether `text` is of the form of `pattern`, in which `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(front) else { return false };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| fits(rest, &text[at..]))
}

/// What a test has told a registry.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) matcher: Matcher,
    pub(super) fault: Fault,
    pub(super) seen: usize,
}

/// Returns the faults that a request meets, and counts it.
pub(super) fn met(rules: &mut [Rule], request: &Request) -> Vec<Fault> {
    let mut faults = Vec::new();
    for rule in rules.iter_mut().filter(|rule| rule.matcher.fits(request)) {
        rule.seen += 1;
        if (rule.matcher.first..=rule.matcher.last).contains(&rule.seen) {
            faults.push(rule.fault.clone());
        }
    }
    faults
}

/// Changes a request before it is looked at.
pub(super) fn distort_request(request: &mut Request, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::IgnoreRange => request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Range")),
            Fault::UnaskedRange(first, last) => {
                request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Range"));
                request.headers.push(("Range".into(), format!("bytes={first}-{last}")));
            }
            Fault::RefuseMount => request.target = request.path().to_owned(),
            _ => {}
        }
    }
}

/// Returns the answer that a fault puts in the place of the true one.
pub(super) fn answer(request: &Request, faults: &[Fault]) -> Option<Response> {
    faults.iter().find_map(|fault| match fault {
        Fault::Answer { status, headers, body } => {
            let mut response = Response::new(*status);
            response.headers = headers.iter().map(|(name, value)| (name.clone(), fill(value, request))).collect();
            response.body = body.clone().into();
            Some(response)
        }
        Fault::FalseMount => {
            let digest = request.parameter("mount")?;
            let place = request.path().replace("/uploads/", &format!("/{digest}"));
            Some(Response::new(201).with("Location", place).with("Docker-Content-Digest", digest))
        }
        _ => None,
    })
}

/// Changes an answer before it is sent.
pub(super) fn distort_response(response: &mut Response, request: &Request, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::Header(name, value) => response.set(name, fill(value, request)),
            Fault::WithoutHeader(name) => response.remove(name),
            Fault::Body(body) => response.body = body.clone().into(),
            Fault::FlipByte(at) => {
                let mut bytes = response.body.as_slice().to_vec();
                *bytes.get_mut(*at).unwrap_or_else(|| panic!("the body has no byte {at}")) ^= 1;
                response.body = bytes.into();
            }
            Fault::Truncate(at) => response.delivery = Delivery::Truncated(*at),
            Fault::Endless => response.delivery = Delivery::Endless,
            Fault::Stall(at) => response.delivery = Delivery::Stalled(*at),
            Fault::Drip(interval) => response.delivery = Delivery::Dripping(*interval),
            Fault::Answer { .. }
            | Fault::Close
            | Fault::StopListening
            | Fault::IgnoreRange
            | Fault::UnaskedRange(..)
            | Fault::RefuseMount
            | Fault::FalseMount
            | Fault::BreakUpload(_)
            | Fault::ForgetUploads => {}
        }
    }
}

fn fill(value: &str, request: &Request) -> String {
    value.replace("{target}", request.target.trim_start_matches('/'))
}
