//! What went wrong, as the protocol tells it: a text, and one of three codes.

use std::io;

use holkas::error::{Error, ErrorKind};
use serde_json::{Value, json};

/// What a client can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The client closed the pipe before all was written to it.
    ClosedPipe,
    /// The same may go well the next time.
    Retryable,
    /// Anything else.
    Other,
}

impl Code {
    /// Returns the code as the protocol writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ClosedPipe => "EPIPE",
            Self::Retryable => "retryable",
            Self::Other => "other",
        }
    }
}

/// A request, or a transfer, that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Failure {
    /// Makes the failure of a request that asks for what cannot be had.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self { code: Code::Other, message: message.into() }
    }

    /// Makes the failure of a write to the client's pipe.
    pub(super) fn of_pipe(error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { Code::ClosedPipe } else { Code::Other };
        Self { code, message: format!("writing to the pipe: {error}") }
    }

    /// Says that the same may go well the next time.
    pub(super) fn retryable(self) -> Self {
        Self { code: Code::Retryable, ..self }
    }

    /// Returns what the second descriptor of `GetRawBlob` is given, as one line of JSON.
    pub(super) fn to_json(&self) -> Value {
        json!({ "code": self.code.as_str(), "message": cut(&self.message, LONGEST) })
    }
}

/// The longest message that is sent whole, in bytes: far more than anybody reads, and far less than a packet holds.
pub(super) const LONGEST: usize = 16 << 10;

/// Returns the beginning of a text that is too long, and says so.
pub(super) fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_string();
    }
    let mut end = longest;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} bytes in all)", &text[..end], text.len())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            // As skopeo has it: what a server has no name for (`ErrorKind::Server`) is not worth another try.
            ErrorKind::Network | ErrorKind::Busy => Code::Retryable,
            _ => Code::Other,
        };
        Self { code, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_codes() {
        let code = |kind| Failure::from(Error::new(kind, "no").context("reading x")).code;
        assert_eq!(code(ErrorKind::Network), Code::Retryable);
        assert_eq!(code(ErrorKind::Busy), Code::Retryable);
        assert_eq!(code(ErrorKind::Server), Code::Other);
        assert_eq!(code(ErrorKind::NotFound), Code::Other);
        assert_eq!(code(ErrorKind::Refused), Code::Other);
        assert_eq!(Failure::of_pipe(&io::ErrorKind::BrokenPipe.into()).code, Code::ClosedPipe);
        assert_eq!(Failure::of_pipe(&io::ErrorKind::StorageFull.into()).code, Code::Other);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("äää", 3), "ä… (6 bytes in all)");
    }
}
