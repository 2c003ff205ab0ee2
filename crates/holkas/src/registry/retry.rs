//! Trying again: after how long, and how often.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use ureq::http::HeaderMap;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Cancel, Event, Monitor};

/// How often and how patiently requests are repeated that failed for a reason which may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often at most, after the first time.
    pub times: u32,
    /// How often a registry is tried that could not be reached at all, with which nothing has gone well yet.
    pub first_contact: u32,
    /// The wait before the first repetition.
    pub delay: Duration,
    /// Whether it doubles with each further one.
    pub grows: bool,
    /// The longest wait, whatever a registry asks for.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            times: 5,
            first_contact: 0,
            delay: Duration::from_secs(1),
            grows: true,
            longest: Duration::from_secs(60),
        }
    }
}

/// Returns whether an error may be gone the next time.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Network | ErrorKind::Server | ErrorKind::Busy)
}

/// The repetitions of one thing.
pub(super) struct Attempts<'a> {
    retry: Retry,
    made: u32,
    cancel: &'a Cancel,
    monitor: &'a dyn Monitor,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(retry: Retry, cancel: &'a Cancel, monitor: &'a dyn Monitor) -> Self {
        Self { retry, made: 0, cancel, monitor }
    }

    /// As [`Attempts::new`], for one who counts by himself that `made` repetitions were made already.
    pub(super) fn after(made: u32, retry: Retry, cancel: &'a Cancel, monitor: &'a dyn Monitor) -> Self {
        Self { made, ..Self::new(retry, cancel, monitor) }
    }

    /// Waits before the next time, telling why; after the last time it returns the error instead.
    ///
    /// `asked` is the wait that the other side asks for.
    pub(super) fn again(&mut self, error: Error, asked: Option<Duration>) -> Result<()> {
        self.cancel.check()?;
        if self.made >= self.retry.times {
            return Err(match self.made {
                0 => error,
                made => error.context(format!("after {} attempts", made + 1)),
            });
        }
        let times = if self.retry.grows { 1 << self.made.min(16) } else { 1 };
        let grown = self.retry.delay.saturating_mul(times);
        let wait = asked.unwrap_or(grown).min(self.retry.longest);
        self.made += 1;
        let (error, number, of) = (error.to_string(), self.made, self.retry.times);
        self.monitor.event(Event::Retrying { error: &error, wait, number, of });
        self.cancel.sleep(wait)
    }

    /// Something went well: what fails next is a new thing.
    pub(super) fn progressed(&mut self) {
        self.made = 0;
    }
}

/// Returns the wait that a `Retry-After` asks for: seconds, or a date, by the clock of who sent it.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        // A number too large for 64 bits is as good as the largest.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = |text| DateTimeParser::new().parse_timestamp(text).ok().map(Timestamp::as_second);
    let (then, now) = (date(text)?, date(headers.get("date")?.to_str().ok()?)?);
    Some(Duration::from_secs(u64::try_from(then - now).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn waits_that_registries_ask_for() {
        for (text, seconds) in [
            ("0", Some(0)),
            (" 17 ", Some(17)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Fri, 02 Jan 2026 03:04:35 GMT", Some(30)),
            ("Fri, 02 Jan 2026 03:04:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().expect("a header"));
            headers.insert("date", "Fri, 02 Jan 2026 03:04:05 GMT".parse().expect("a header"));
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn the_last_attempt_returns_the_error() {
        let cancel = Cancel::default();
        let retry = Retry { times: 2, first_contact: 0, delay: Duration::ZERO, grows: true, longest: Duration::ZERO };
        let mut attempts = Attempts::new(retry, &cancel, &Silent);
        let error = || Error::new(ErrorKind::Network, "gone");
        attempts.again(error(), Some(Duration::MAX)).expect("the first of two");
        attempts.again(error(), None).expect("the second of two");
        assert_eq!(attempts.again(error(), None).expect_err("no third").to_string(), "after 3 attempts: gone");
        attempts.progressed();
        cancel.cancel();
        assert_eq!(attempts.again(error(), None).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    }
}
