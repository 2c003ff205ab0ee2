//! The one error type: what we were doing, why it failed, and what to do next.

use std::fmt;
use std::io;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The image, tag, digest or platform that was asked for is not there.
    NotFound,
    /// Credentials are missing or were not accepted.
    Unauthorized,
    /// The other side, or the operating system, does not allow it.
    Forbidden,
    /// Bytes are not what their digest, size or seal says.
    Mismatch,
    /// A policy, or a rule that protects the user, says no.
    Refused,
    /// Valid, but beyond what this version can do.
    Unsupported,
    /// Malformed input: a document, a name, an archive.
    Invalid,
    /// The network failed; trying again may help.
    Network,
    /// A server failed and does not say of what; trying again may help.
    Server,
    /// Somebody else changed or holds what we need; trying again may help.
    Busy,
    /// The destination is full.
    NoSpace,
    /// The user, or the first error of a sibling, stopped it.
    Cancelled,
    /// The operating system failed in any other way.
    Io,
}

impl ErrorKind {
    /// Returns the kind's name as `--json` output spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Mismatch => "mismatch",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Network => "network",
            Self::Server => "server",
            Self::Busy => "busy",
            Self::NoSpace => "no-space",
            Self::Cancelled => "cancelled",
            Self::Io => "io",
        }
    }
}

/// An error: a cause, the frames around it (what we were doing, and to what), and perhaps a hint.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    cause: String,
    /// Innermost first.
    frames: Vec<String>,
    hint: Option<String>,
}

impl Error {
    /// Makes an error from its kind and its cause (lower case, no full stop).
    pub fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, cause: cause.into(), frames: Vec::new(), hint: None }))
    }

    /// Makes a [`ErrorKind::Invalid`] error.
    pub fn invalid(cause: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, cause)
    }

    /// Makes a [`ErrorKind::Mismatch`] error.
    pub fn mismatch(cause: impl Into<String>) -> Self {
        Self::new(ErrorKind::Mismatch, cause)
    }

    /// Makes a [`ErrorKind::Refused`] error.
    pub fn refused(cause: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, cause)
    }

    /// Makes a [`ErrorKind::Unsupported`] error.
    pub fn unsupported(cause: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, cause)
    }

    /// Makes a [`ErrorKind::NotFound`] error.
    pub fn not_found(cause: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, cause)
    }

    /// Makes the error of something that was stopped from outside.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Returns the same error again, for a second thread that has to hear of it.
    pub(crate) fn duplicate(&self) -> Self {
        let Inner { kind, cause, frames, hint } = &*self.0;
        Self(Box::new(Inner { kind: *kind, cause: cause.clone(), frames: frames.clone(), hint: hint.clone() }))
    }

    /// Makes `NotFound` of a part into `Mismatch` of the whole: what the caller asked for is there, but lacks something.
    #[must_use]
    pub(crate) fn lacking(mut self) -> Self {
        if self.0.kind == ErrorKind::NotFound {
            self.0.kind = ErrorKind::Mismatch;
        }
        self
    }

    /// Adds a frame around the error: what we were doing, and to what.
    #[must_use]
    pub fn context(mut self, frame: impl Into<String>) -> Self {
        self.0.frames.push(frame.into());
        self
    }

    /// Sets the hint: a next step, or what is still safe. The innermost hint stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Returns what a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns what happened, outermost frame first, the cause last.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.0.frames.iter().rev().map(String::as_str).chain(std::iter::once(self.0.cause.as_str()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, line) in self.chain().enumerate() {
            write!(f, "{}{line}", if n == 0 { "" } else { ": " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    /// Keeps an [`Error`] that travelled through an `io::Error` (as from `Read::read`) whole.
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => {
                let kind = match error.kind() {
                    io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
                    _ => ErrorKind::Io,
                };
                Self::new(kind, error.to_string())
            }
        }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// Adds frames to results of any error that can become an [`Error`].
pub trait Context<T> {
    /// Adds a frame, made only if there is an error.
    fn context<S: Into<String>>(self, frame: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context<S: Into<String>>(self, frame: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().context(frame()))
    }
}

/// Returns bytes from outside as text that can be printed: control characters and bytes that are not UTF-8 escaped.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
