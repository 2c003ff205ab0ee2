//! One request and its answer, redirects followed: what goes over the wire, and how its failures read.

use std::io::{self, Read};

use ureq::http::{HeaderMap, Method};
use ureq::{Agent, Body, SendBody, Timeout};

use super::shown::AN_AUTHORITYS;
use super::url::Url;
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::limits::{ERROR_BODY, Limit};

/// How many redirects are followed, as in Go and in browsers.
const REDIRECTS: usize = 10;

/// What is asked of a server.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Payload<'a>,
}

/// What goes along with a request.
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A stream of so many bytes, which can be sent once only.
    Stream(&'a mut dyn Read, u64),
}

/// What a server answers.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Where the answer came from, redirects followed.
    pub(super) url: Url,
    body: Body,
}

/// Sends a request, and follows redirects of those that only read.
///
/// `agent_of` gives the connections to another host. What we are to the first host (`Authorization`) is for no other.
pub(super) fn exchange(mut request: Request<'_>, agent_of: &dyn Fn(&Url) -> Result<Agent>) -> Result<Response> {
    let follows = request.method == Method::GET || request.method == Method::HEAD;
    let mut hops = 0;
    loop {
        let agent = agent_of(&request.url)?;
        let response = send(&mut request, &agent)?;
        let location = match response.status {
            301 | 302 | 303 | 307 | 308 if follows => response.header("location"),
            _ => return Ok(response),
        };
        let frame = || format!("following a redirect of {}", request.url);
        let location = location.ok_or_else(|| Error::invalid("the redirect says not where to")).context(frame)?;
        hops += 1;
        if hops > REDIRECTS {
            return Err(Error::refused(format!("more than {REDIRECTS} redirects")).context(frame()));
        }
        let next = request.url.join(location).context(frame)?;
        if request.url.is_secure() && !next.is_secure() {
            return Err(Error::refused(format!("it leads from https to {next}")).context(frame()));
        }
        if !next.same_origin(&request.url) {
            request.headers.retain(|(name, _)| *name != "authorization");
        }
        request.url = next;
    }
}

fn send(request: &mut Request<'_>, agent: &Agent) -> Result<Response> {
    let url = request.url.clone();
    let frame = || format!("{} {url}", request.method);
    let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url.whole());
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let invalid = |error: ureq::http::Error| Error::invalid(format!("it cannot be asked for: {error}"));
    let answer = match &mut request.body {
        Payload::None => agent.run(builder.body(()).map_err(invalid).context(frame)?),
        Payload::Bytes(bytes) => agent.run(builder.body(*bytes).map_err(invalid).context(frame)?),
        Payload::Stream(stream, length) => {
            let body = SendBody::from_reader(*stream);
            agent.run(builder.header("content-length", *length).body(body).map_err(invalid).context(frame)?)
        }
    };
    let (parts, body) = answer.map_err(failure).context(frame)?.into_parts();
    Ok(Response { status: parts.status.as_u16(), headers: parts.headers, url, body })
}

impl Response {
    /// Returns a header as text; `None` if it is not there or cannot be printed.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the length that the server announces, in bytes.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// Reads the body as it comes. Whether it is what it should be is for others to say.
    pub(super) fn into_reader(self) -> impl Read + Send + 'static {
        Stream(self.body.into_with_config().limit(u64::MAX).reader())
    }

    /// Reads the whole body, bounded.
    pub(super) fn read(self, limit: Limit) -> Result<Vec<u8>> {
        let frame = format!("reading the answer of {}", self.url);
        if let Some(length) = self.length() {
            limit.check(length).context(|| frame.clone())?;
        }
        let mut bytes = Vec::new();
        self.into_reader().take(limit.bytes + 1).read_to_end(&mut bytes).context(|| frame.clone())?;
        limit.check(bytes.len() as u64).context(|| frame)?;
        Ok(bytes)
    }

    /// Makes the error of an answer that is none of those that were hoped for.
    pub(super) fn into_error(self) -> Error {
        let status = self.status;
        let frame = format!("asking {}", self.url);
        let said = self.read(ERROR_BODY).map(|bytes| said(&bytes)).unwrap_or_default();
        let reason = reason(status);
        let cause = match (said.is_empty(), reason) {
            (false, _) => format!("{said} (HTTP {status})"),
            (true, "") => format!("HTTP {status}"),
            (true, reason) => format!("{reason} (HTTP {status})"),
        };
        let kind = match status {
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Forbidden,
            404 | 410 => ErrorKind::NotFound,
            405 | 501 => ErrorKind::Unsupported,
            429 => ErrorKind::Busy,
            500 if said.is_empty() => ErrorKind::Server,
            408 | 500 | 502..=504 => ErrorKind::Network,
            _ => ErrorKind::Invalid,
        };
        Error::new(kind, cause).context(frame)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "bad request",
        401 => "authentication required",
        403 => "access to the resource is denied",
        404 => "not found",
        405 => "the registry does not allow this",
        413 => "too large for the registry",
        429 => "too many requests",
        500 => "internal server error",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        _ => "",
    }
}

/// Reads `{"errors":[{"code":…,"message":…}]}`, or what token services write; a page of HTML is left out.
fn said(bytes: &[u8]) -> String {
    /// The longest text of a registry that is worth printing.
    const LONGEST: usize = 500;
    let text = |value: &serde_json::Value| value.as_str().map(|text| printable(text.as_bytes()));
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return String::new() };
    let mut texts = Vec::new();
    for error in value["errors"].as_array().into_iter().flatten() {
        let code = text(&error["code"]).map(|code| code.to_ascii_lowercase().replace('_', " "));
        texts.push(match (code, text(&error["message"]).filter(|message| !message.is_empty())) {
            (Some(code), Some(message)) if message.to_ascii_lowercase().starts_with(&code) => message,
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (one, other) => one.or(other).unwrap_or_default(),
        });
    }
    texts.extend(["details", "error_description", "error", "message"].iter().find_map(|key| text(&value[*key])));
    let mut text = texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    if let Some((cut, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// A body, whose errors read as all others.
struct Stream<R>(R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| failure(ureq::Error::from(error)).into())
    }
}

/// Tells a failure of the network as one of ours.
fn failure(error: ureq::Error) -> Error {
    let network = |text: String| Error::new(ErrorKind::Network, text);
    match error {
        ureq::Error::Timeout(timeout) => network(match timeout {
            Timeout::Resolve => "the name was not resolved in time".to_string(),
            Timeout::Connect => "no connection was made in time".to_string(),
            Timeout::RecvResponse => "no answer came in time".to_string(),
            Timeout::PerRead => "the connection stalled: no byte came in time".to_string(),
            Timeout::PerWrite => "the connection stalled: no byte was taken in time".to_string(),
            _ => "it took too long".to_string(),
        }),
        ureq::Error::HostNotFound => network("no such host".to_string()),
        ureq::Error::ConnectionFailed => network("no connection could be made".to_string()),
        ureq::Error::Rustls(error) => tls(&error),
        ureq::Error::ConnectProxyFailed(text) => network(format!("the proxy refused: {}", printable(text.as_bytes()))),
        ureq::Error::Io(error) => of_io(error),
        error @ (ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
            network(format!("the answer is not HTTP as we know it: {}", printable(error.to_string().as_bytes())))
        }
        error => network(printable(error.to_string().as_bytes())),
    }
}

fn of_io(error: io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error.into();
    }
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls(error);
    }
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed too early".to_string(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_string(),
        io::ErrorKind::NotConnected => return Error::cancelled(),
        _ => printable(error.to_string().as_bytes()),
    };
    Error::new(ErrorKind::Network, text)
}

/// Nobody is who cannot prove it: no retry helps.
fn tls(error: &rustls::Error) -> Error {
    use rustls::Error as E;
    let told = |text: String| Error::new(ErrorKind::Refused, text);
    match error {
        E::InvalidCertificate(why) => told(format!("the server's certificate is not trusted: {}", certificate(why)))
            .hint(
                "put the authority's certificate into certs.d (see `holkas explain`), \
                 or give --tls-verify=false if you trust the network",
            ),
        E::InvalidMessage(_) => told("the server does not speak TLS".to_string())
            .hint("if it is a registry without TLS, mark it `insecure` in registries.conf or give --tls-verify=false"),
        E::AlertReceived(alert) => told(format!("the server refused the TLS connection: {alert:?}"))
            .hint("it may want a client certificate: *.cert and *.key in certs.d"),
        other => told(format!("TLS: {}", printable(other.to_string().as_bytes()))),
    }
}

fn certificate(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as C;
    match why {
        C::UnknownIssuer => "its issuer is unknown".to_string(),
        C::Expired | C::ExpiredContext { .. } => "it has expired".to_string(),
        C::NotValidYet | C::NotValidYetContext { .. } => "it is not valid yet".to_string(),
        C::NotValidForName | C::NotValidForNameContext { .. } => "it is for another name".to_string(),
        C::Revoked => "it is revoked".to_string(),
        C::Other(why) if why.to_string() == AN_AUTHORITYS => "it is an authority's, and not trusted itself".to_string(),
        other => printable(other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_is_told_in_one_line() {
        for (body, text) in [
            (r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#, "manifest unknown"),
            (r#"{"errors":[{"code":"DENIED","message":"no \u001b[31mred"}]}"#, "denied: no \\u{1b}[31mred"),
            (r#"{"errors":[{"code":"A_B"},{"message":"second"}]}"#, "a b; second"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("<html>", ""),
            ("[]", ""),
        ] {
            assert_eq!(said(body.as_bytes()), text, "{body}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "ä".repeat(10_000));
        assert_eq!(said(long.as_bytes()).chars().count(), 501);
    }

    #[test]
    fn errors_of_streams_that_are_sent_come_through() {
        let error = failure(ureq::Error::from(io::Error::from(Error::mismatch("lies"))));
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Mismatch, "lies".to_string()));
    }
}
