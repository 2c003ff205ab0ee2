//! stderr as logrus writes it: `time="…" level=fatal msg="…"`, and `FATA[0000] …` on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Returns the colour on a terminal, as the number of an escape sequence.
    fn colour(self) -> u8 {
        match self {
            Self::Debug => 37,
            Self::Info => 36,
            Self::Warning => 33,
            Self::Error | Self::Fatal => 31,
        }
    }
}

static DEBUG: AtomicBool = AtomicBool::new(false);
static BEGINNING: OnceLock<Instant> = OnceLock::new();

/// Notes when the program began, and whether debug lines are wanted.
pub(crate) fn begin(debug: bool) {
    BEGINNING.get_or_init(Instant::now);
    DEBUG.store(debug, Ordering::Relaxed);
}

/// Writes a line.
pub(crate) fn log(level: Level, message: &str) {
    log_with(level, message, &[]);
}

/// Writes a line with fields, which are sorted by their names.
pub(crate) fn log_with(level: Level, message: &str, fields: &[(&str, &str)]) {
    if level == Level::Debug && !DEBUG.load(Ordering::Relaxed) {
        return;
    }
    let stderr = std::io::stderr();
    let line = if stderr.is_terminal() {
        let seconds = BEGINNING.get_or_init(Instant::now).elapsed().as_secs();
        for_people(level, message, fields, seconds)
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        for_programs(level, message, fields, now)
    };
    // With stderr gone there is nobody left to tell.
    let _nobody_left = stderr.lock().write_all(line.as_bytes());
}

fn for_programs(level: Level, message: &str, fields: &[(&str, &str)], now: u64) -> String {
    let mut line = format!("time=\"{}\" level={} msg={}", rfc3339(now), level.name(), value(message));
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    for (name, text) in fields {
        line += &format!(" {name}={}", value(text));
    }
    line + "\n"
}

fn for_people(level: Level, message: &str, fields: &[(&str, &str)], seconds: u64) -> String {
    let (short, colour) = (&level.name().to_uppercase()[..4], level.colour());
    let message = message.trim_end_matches('\n');
    let mut line = format!("\x1b[{colour}m{short}\x1b[0m[{seconds:04}] {message:<44} ");
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    for (name, text) in fields {
        line += &format!("\x1b[{colour}m{name}\x1b[0m={} ", value(text));
    }
    line.trim_end().to_string() + "\n"
}

/// Returns a value as logrus writes it: quoted, if there is anything in it but letters, digits and a few signs.
fn value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) { text.to_string() } else { quoted(text) }
}

/// Returns a text as Go's `%q` writes it.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if invisible(c) && u32::from(c) > 0xffff => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c if invisible(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns whether a character shows nothing, or changes how others are shown.
fn invisible(c: char) -> bool {
    let spaces = c.is_whitespace() && c != ' ';
    let formats =
        matches!(u32::from(c), 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe000..=0xf8ff);
    c.is_control() || spaces || formats
}

/// Returns a time in seconds since 1970 in UTC, as RFC 3339 has it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Returns the date that so many days since 1970 lead to.
///
/// Years are counted from March, so that a leap day is the last of its year, in cycles of 400 years (146 097 days).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_programs_are_logrus_text() {
        let line = |message, fields: &[(&str, &str)]| for_programs(Level::Info, message, fields, 1_796_000_000);
        assert_eq!(line("word", &[]), "time=\"2026-11-30T00:53:20Z\" level=info msg=word\n");
        assert_eq!(
            line("a \"b\"\n\tc\\", &[("to", "dir:/x"), ("from", "docker://h/r:1")]),
            "time=\"2026-11-30T00:53:20Z\" level=info msg=\"a \\\"b\\\"\\n\\tc\\\\\" from=\"docker://h/r:1\" to=\"dir:/x\"\n"
        );
        assert_eq!(value(""), "");
        assert_eq!(value("/a/b-c_d@e^f+g.h"), "/a/b-c_d@e^f+g.h");
        assert_eq!(value("ä"), "\"ä\"");
        assert_eq!(quoted("\u{1b}\u{85}\u{feff}\u{7f}é"), "\"\\x1b\\u0085\\ufeff\\x7fé\"");
    }

    #[test]
    fn lines_for_people_have_the_seconds() {
        let line = for_people(Level::Fatal, "gone", &[], 7);
        assert_eq!(line, "\u{1b}[31mFATA\u{1b}[0m[0007] gone\n");
        let line = for_people(Level::Warning, "x", &[("to", "y z")], 0);
        assert!(line.starts_with("\u{1b}[33mWARN\u{1b}[0m[0000] x   "), "{line}");
        assert!(line.ends_with(" \u{1b}[33mto\u{1b}[0m=\"y z\"\n"), "{line}");
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
