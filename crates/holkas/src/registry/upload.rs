//! A blob on its way to a registry: one session, one stream, taken up again where the registry still has it.

use std::collections::VecDeque;
use std::io::{self, Read};

use ureq::http::Method;

use super::exchange::{Payload, Response};
use super::repository::{Repository, location};
use super::retry::{Attempts, may_pass};
use super::url::Url;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::Digest;

/// How many of the bytes that were sent last are kept: as many as may be under way when a connection breaks.
const KEPT: usize = 4 << 20;

/// Sends a blob of `size` bytes into a session, and returns where it then can be given its name: see [`finish`].
///
/// # Errors
///
/// Those of `body`; `Busy` where the registry has lost the session, so that the blob must be sent anew.
pub(super) fn send(repository: &Repository, session: Url, size: u64, body: &mut dyn Read) -> Result<Url> {
    let settings = repository.host().client().settings();
    let mut attempts = Attempts::new(settings.retry, &settings.cancel, &*settings.monitor);
    let mut body = Rewinding { body, kept: VecDeque::new(), sent: 0, again: 0, failed: None };
    let mut session = session;
    loop {
        let before = body.position();
        let error = match patch(repository, &session, &mut body, size) {
            Ok(next) => return Ok(next),
            Err(error) => error,
        };
        if let Some(error) = body.failed.take() {
            return Err(error);
        }
        if !may_pass(&error) {
            return Err(error);
        }
        if body.position() > before {
            attempts.progressed();
        }
        attempts.again(error, None)?;
        session = resume(repository, session, &mut body)?;
        if body.position() == size && size > 0 {
            // All was taken, and only the answer was lost.
            return Ok(session);
        }
    }
}

/// Sends what is left in one request, and returns where the session goes on.
fn patch(repository: &Repository, session: &Url, body: &mut Rewinding<'_>, size: u64) -> Result<Url> {
    let (from, left) = (body.position(), size - body.position());
    let mut headers = vec![("content-type", "application/octet-stream".to_string())];
    if from > 0 {
        headers.push(("content-range", format!("{from}-{}", size - 1)));
    }
    let response = repository.upload(Method::PATCH, session, headers, Payload::Stream(body, left))?;
    match response.status {
        202 | 204 => location(&response),
        _ => Err(response.into_error()),
    }
}

/// Asks how much the registry has of the session, and goes back to there.
fn resume(repository: &Repository, session: Url, body: &mut Rewinding<'_>) -> Result<Url> {
    let response = repository.upload(Method::GET, &session, Vec::new(), Payload::None)?;
    if response.status != 204 && response.status != 202 {
        return Err(lost(response.into_error()));
    }
    // `0-99`: a hundred bytes. A registry without any says `0-0`, as it would for one: that one is sent again.
    let has =
        response.header("range").and_then(|range| range.trim().strip_prefix("bytes=").or(Some(range)).and_then(last));
    let next = if response.header("location").is_some() { location(&response)? } else { session };
    let has = match has {
        None | Some(0) => 0,
        Some(last) => last + 1,
    };
    body.rewind(has).map_err(lost)?;
    Ok(next)
}

fn last(range: &str) -> Option<u64> {
    range.split_once('-')?.1.trim().parse().ok()
}

/// What cannot go on can begin anew, as another layer would.
fn lost(error: Error) -> Error {
    Error::new(ErrorKind::Busy, format!("the upload cannot be taken up again ({error})"))
}

/// Gives a blob that was sent its name, sending its last bytes along.
pub(super) fn finish(repository: &Repository, session: &Url, digest: &Digest, last: &[u8]) -> Result<()> {
    let to = session.clone().with_query("digest", &digest.to_string());
    let frame = || format!("ending the upload of blob {digest} to {}", repository.name());
    let headers = vec![("content-type", "application/octet-stream".to_string())];
    let response: Response = repository.upload(Method::PUT, &to, headers, Payload::Bytes(last)).context(frame)?;
    match response.status {
        201..=204 => Ok(()),
        _ => Err(response.into_error()).context(frame),
    }
}

/// A stream that can go back a little.
struct Rewinding<'a> {
    body: &'a mut dyn Read,
    /// The bytes that were sent last.
    kept: VecDeque<u8>,
    /// How many bytes were taken from `body`.
    sent: u64,
    /// How many of `kept`, from its end, are to be sent again.
    again: usize,
    /// What the stream itself failed with: no fault of the registry.
    failed: Option<Error>,
}

impl Rewinding<'_> {
    fn position(&self) -> u64 {
        self.sent - self.again as u64
    }

    fn rewind(&mut self, to: u64) -> Result<()> {
        let back = self.sent.checked_sub(to).and_then(|back| usize::try_from(back).ok());
        match back {
            Some(back) if back <= self.kept.len() => {
                self.again = back;
                Ok(())
            }
            _ => Err(Error::invalid(format!(
                "the registry has {to} bytes, and of the {} that were sent only the last {} are still known",
                self.sent,
                self.kept.len()
            ))),
        }
    }
}

impl Read for Rewinding<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.again > 0 {
            let start = self.kept.len() - self.again;
            let length = buffer.len().min(self.again);
            for (to, from) in buffer.iter_mut().zip(self.kept.range(start..start + length)) {
                *to = *from;
            }
            self.again -= length;
            return Ok(length);
        }
        let length = self.body.read(buffer).map_err(|error| {
            let error = Error::from(error);
            self.failed = Some(error.duplicate());
            error
        })?;
        self.sent += length as u64;
        let fresh = &buffer[length.saturating_sub(KEPT)..length];
        let over = (self.kept.len() + fresh.len()).saturating_sub(KEPT);
        self.kept.drain(..over.min(self.kept.len()));
        self.kept.extend(fresh);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_back_as_far_as_it_remembers() {
        let bytes: Vec<u8> = (0..KEPT + 1000).map(|n| (n % 253) as u8).collect();
        let mut body = &bytes[..];
        let mut stream = Rewinding { body: &mut body, kept: VecDeque::new(), sent: 0, again: 0, failed: None };
        let mut first = vec![0; 5000];
        stream.read_exact(&mut first).expect("there is more");
        stream.rewind(100).expect("it is known");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it is there");
        assert_eq!(rest, bytes[100..]);
        assert_eq!(stream.position(), bytes.len() as u64);
        stream.rewind(999).expect_err("too long ago");
        stream.rewind(bytes.len() as u64 + 1).expect_err("not sent yet");
        stream.rewind(1000).expect("it is known");
    }
}
