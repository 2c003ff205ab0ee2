//! How an error is told, and which exit code it gives: the one place for both.

use std::io::Write;
use std::process::ExitCode;

use holkas::{Error, ErrorKind};

/// Everything that failed, wrong usage included.
pub(crate) const FAILED: u8 = 1;
/// The input image is not there. skopeo has the same code since 1.20.
pub(crate) const NOT_FOUND: u8 = 2;
/// Stopped by the user: 128 + SIGINT, as shells have it.
pub(crate) const CANCELLED: u8 = 130;

/// For whom an error is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs: one line of JSON.
    Json,
}

impl Form {
    /// Returns the form that goes with `--json` or without it.
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Returns the exit code of an error.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Cancelled => CANCELLED,
        _ => FAILED,
    }
}

/// Tells an error on stderr and returns the exit code.
pub(crate) fn report(result: holkas::Result<()>, form: Form) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let text = match form {
        Form::Text => text(&error),
        Form::Json => json(&error),
    };
    // With stderr gone there is nobody left to tell; the exit code still says it.
    let _nobody_left = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(code(error.kind()))
}

/// As [`report`], for people, in ASCII: for who reads in chunks and takes half a character for an error.
pub(crate) fn report_ascii(result: holkas::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _nobody_left = std::io::stderr().write_all(ascii(&text(&error)).as_bytes());
    ExitCode::from(code(error.kind()))
}

/// Returns a text with all escaped that is not ASCII.
pub(crate) fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2026}' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Returns an error as people read it: what, why, and what to do next.
pub(crate) fn text(error: &Error) -> String {
    let mut text = String::new();
    for (n, line) in error.chain().enumerate() {
        let mut lines = line.lines();
        let first = lines.next().unwrap_or_default();
        text += &format!("{}{first}\n", if n == 0 { "error: " } else { "  caused by: " });
        for more in lines {
            text += format!("    {more}").trim_end();
            text += "\n";
        }
    }
    if let Some(hint) = error.hint_text() {
        text += &format!("\nhint: {hint}\n");
    }
    text
}

fn json(error: &Error) -> String {
    let chain: Vec<&str> = error.chain().collect();
    let object = serde_json::json!({
        "error": { "kind": error.kind().name(), "message": error.to_string(), "chain": chain, "hint": error.hint_text() }
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_as_the_style_page_draws_it() {
        let error = Error::mismatch("blob does not match its descriptor\nmore of it")
            .context("reading layer 3")
            .context("copying layer 3 of 7 from dir:/x")
            .hint("nothing was written to `dir:/out`");
        assert_eq!(
            text(&error),
            "error: copying layer 3 of 7 from dir:/x\n  caused by: reading layer 3\n  \
             caused by: blob does not match its descriptor\n    more of it\n\nhint: nothing was written to `dir:/out`\n"
        );
        assert_eq!(text(&Error::invalid("no")), "error: no\n");
    }

    #[test]
    fn nothing_but_ascii_is_left() {
        assert_eq!(ascii("sha256:12\u{2026} of `caf\u{e9}`\n"), "sha256:12... of `caf\\u{e9}`\n");
    }

    #[test]
    fn json_carries_the_kind() {
        let error = Error::not_found("no such image").context("opening x");
        assert_eq!(
            json(&error),
            "{\"error\":{\"kind\":\"not-found\",\"message\":\"opening x: no such image\",\
             \"chain\":[\"opening x\",\"no such image\"],\"hint\":null}}\n"
        );
    }

    #[test]
    fn kinds_have_their_codes() {
        assert_eq!(code(ErrorKind::NotFound), 2);
        assert_eq!(code(ErrorKind::Cancelled), 130);
        assert_eq!(code(ErrorKind::Refused), 1);
        assert_eq!(code(ErrorKind::Io), 1);
    }
}
