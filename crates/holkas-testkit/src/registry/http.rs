//! HTTP/1.1 as a server needs it: requests read, responses written, every byte of a body counted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::log::Entry;
use crate::loopback::Closing;

/// A request line and headers may have so many bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// So much of a body is written or read at once; a hung-up client is noticed, and a limit kept, in steps of it.
const PIECE: usize = 16 * 1024;

/// Plain TCP, or TLS over it.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

/// A request without its body.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path and query as they came.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) is_http_1_0: bool,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Without `Content-Length`, it is what the body has; with it, it is what is said, true or not.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) delivery: Delivery,
}

/// A part of shared bytes: a blob is not copied for each request.
#[derive(Debug, Clone, Default)]
pub(super) struct Bytes {
    whole: Arc<Vec<u8>>,
    start: usize,
    length: usize,
}

/// How a body reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// As announced.
    Whole,
    /// Closed after so many bytes, though all were announced.
    Truncated(u64),
    /// In chunks: the body, then zeros for ever.
    Endless,
    /// Nothing more after so many bytes, and the connection stays open.
    Stalled(u64),
    /// One byte in each interval.
    Dripping(Duration),
}

/// Reads requests from a stream and writes responses to it.
pub(super) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    closing: Arc<Closing>,
    /// Returns the bytes that may be carried in a second, asked anew for each piece.
    limit: Box<dyn Fn() -> Option<u64> + Send>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Request {
    /// Returns the first header of that name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Returns the path, still percent-encoded.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the decoded value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.target.split_once('?')?.1, name)
    }

    /// Returns whether the client waits for `100 Continue` before it sends the body.
    pub(super) fn expects_continue(&self) -> bool {
        self.header("Expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    fn is_chunked(&self) -> bool {
        self.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.header("Content-Length")?.trim().parse().ok()
    }

    /// Returns whether a body follows.
    pub(super) fn has_body(&self) -> bool {
        self.is_chunked() || self.length().is_some_and(|length| length > 0)
    }

    /// Returns whether another request may follow on the connection.
    pub(super) fn keeps_alive(&self) -> bool {
        !self.is_http_1_0 && !self.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::default(), delivery: Delivery::Whole }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    pub(super) fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.set("Content-Type", media_type);
        self.body = body.into();
        self
    }

    pub(super) fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", crate::image::to_bytes(value))
    }

    /// Returns an error as the distribution specification has it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status).json(&serde_json::json!({"errors": [{"code": code, "message": message, "detail": null}]}))
    }

    /// Sets a header, in the place of those of the same name.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }
}

impl Bytes {
    /// Returns these bytes from `start` on, `length` of them.
    pub(super) fn part(&self, start: usize, length: usize) -> Self {
        assert!(start + length <= self.length, "a part is within its whole");
        Self { whole: Arc::clone(&self.whole), start: self.start + start, length }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.whole[self.start..self.start + self.length]
    }
}

impl From<Arc<Vec<u8>>> for Bytes {
    fn from(whole: Arc<Vec<u8>>) -> Self {
        Self { start: 0, length: whole.len(), whole }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Arc::new(bytes).into()
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, closing: Arc<Closing>, limit: impl Fn() -> Option<u64> + Send + 'static) -> Self {
        Self { stream, buffer: Vec::new(), closing, limit: Box::new(limit) }
    }

    /// Returns the next request; `None` if the client hung up, or did not speak HTTP.
    pub(super) fn request(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            // A client that tries TLS first waits for an answer; this is the one of Go's server.
            if self.buffer.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
                // It may be gone already.
                let _ = self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
                return None;
            }
            if self.buffer.len() > LONGEST_HEAD || !self.fill() {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?.to_owned(), words.next()?.to_owned(), words.next()?);
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(Request { method, target, headers, is_http_1_0: version == "HTTP/1.0" })
    }

    /// Tells a client that waits for it to send the body.
    pub(super) fn say_continue(&mut self) -> io::Result<()> {
        self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
    }

    /// Gives the body of `request`, or at most its first `most` bytes, to `take`, piece by piece.
    pub(super) fn body(
        &mut self,
        request: &Request,
        most: u64,
        entry: &Entry,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut left = most;
        if !request.is_chunked() {
            let length = request.length().unwrap_or(0).min(left);
            return self.piece(length, entry, &mut take);
        }
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
            if length == 0 {
                // Trailers, then an empty line.
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.piece(length.min(left), entry, &mut take)?;
            left -= length.min(left);
            if left == 0 {
                return Ok(());
            }
            self.line()?;
        }
    }

    fn piece(&mut self, mut left: u64, entry: &Entry, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.buffer.is_empty() && !self.fill() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let length = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            entry.received(&self.buffer[..length]);
            take(&self.buffer[..length]);
            self.buffer.drain(..length);
            left -= length as u64;
            self.brake(length)?;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.buffer.len() > LONGEST_HEAD || !self.fill() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Writes `response`; returns whether the connection can be used on.
    pub(super) fn respond(&mut self, request: &Request, response: &Response, entry: &Entry) -> io::Result<bool> {
        let version = if request.is_http_1_0 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut head = format!("{version} {} {}\r\n", response.status, reason(response.status));
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let says_length = header(&response.headers, "Content-Length").is_some();
        let is_bare = request.method == "HEAD" || response.status == 204 || response.status == 304;
        if response.delivery == Delivery::Endless {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !says_length && response.status != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", response.body.length));
        }
        head.push_str("\r\n");
        entry.answered(response.status, &response.headers);
        self.stream.write_all(head.as_bytes())?;
        self.stream.flush()?;
        let closes = header(&response.headers, "Connection").is_some_and(|value| value == "close");
        if is_bare {
            return Ok(!closes);
        }
        let bytes = response.body.as_slice();
        let cut = |at: u64| &bytes[..bytes.len().min(usize::try_from(at).unwrap_or(usize::MAX))];
        match response.delivery {
            Delivery::Whole => self.send(bytes, entry)?,
            Delivery::Truncated(at) => self.send(cut(at), entry)?,
            Delivery::Stalled(at) => {
                self.send(cut(at), entry)?;
                self.closing.wait_until_closed();
            }
            Delivery::Dripping(interval) => {
                for byte in bytes {
                    self.send(&[*byte], entry)?;
                    if self.closing.wait(interval) {
                        return Ok(false);
                    }
                }
            }
            Delivery::Endless => self.send_endlessly(bytes, entry)?,
        }
        // After a length that was not true, nobody knows where the next response begins.
        Ok(!closes && !says_length && matches!(response.delivery, Delivery::Whole | Delivery::Dripping(_)))
    }

    /// Sends chunks until the client hangs up.
    fn send_endlessly(&mut self, bytes: &[u8], entry: &Entry) -> io::Result<()> {
        let zeros = vec![0; PIECE];
        let mut pieces = bytes.chunks(PIECE);
        loop {
            let piece = pieces.next().unwrap_or(&zeros);
            self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            self.send(piece, entry)?;
            self.stream.write_all(b"\r\n")?;
        }
    }

    fn send(&mut self, bytes: &[u8], entry: &Entry) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let step =
                (self.limit)().map_or(PIECE, |limit| usize::try_from(limit / 16).unwrap_or(PIECE).clamp(1, PIECE));
            let piece = &left[..left.len().min(step)];
            // Counted before it is written, so that who has got all bytes finds them counted; then corrected.
            entry.sent(piece.len() as u64);
            let written = self.stream.write(piece);
            entry.unsent(piece.len() as u64 - *written.as_ref().unwrap_or(&0) as u64);
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.stream.flush()?;
            left = &left[written..];
            self.brake(written)?;
        }
        Ok(())
    }

    /// Waits as long as the limit of speed says that so many bytes take.
    fn brake(&self, bytes: usize) -> io::Result<()> {
        if let Some(limit) = (self.limit)() {
            let time = Duration::from_secs_f64(bytes as f64 / limit as f64);
            if self.closing.wait(time) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    /// Ends the connection in order: TLS says that no more comes.
    pub(super) fn finish(mut self) {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            // The client may have gone first.
            let _ = stream.flush();
        }
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; PIECE];
        match self.stream.read(&mut piece) {
            Ok(length) if length > 0 => {
                self.buffer.extend_from_slice(&piece[..length]);
                true
            }
            _ => false,
        }
    }
}

/// Returns the first value of a header.
pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Returns the decoded value of a parameter of a query or a form.
pub(super) fn parameter(form: &str, name: &str) -> Option<String> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decode(value))
}

/// Returns all decoded values of a parameter.
pub(super) fn parameters(form: &str, name: &str) -> Vec<String> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| decode(value))
        .collect()
}

/// Undoes `%2F` and, as in forms, `+`.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let code = others.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &others[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = others;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns `text` as it may stand in a query.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
