//! Configuration as people write it, with errors that show the file, the line, the column and the key: TOML here, YAML below.

pub(crate) mod yaml;

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result, printable};
use crate::fs::display;

/// The text of a file that is being read, and where it came from.
pub(crate) struct TomlText<'a> {
    path: &'a Path,
    text: &'a str,
}

/// A value and the key that it stands at, as errors name it.
pub(crate) struct Entry<'a, 'i> {
    pub(crate) key: String,
    pub(crate) value: &'a Spanned<DeValue<'i>>,
}

impl<'a> TomlText<'a> {
    /// Takes the bytes of a file; `path` names it in errors.
    pub(crate) fn new(bytes: &'a [u8], path: &'a Path) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            Error::invalid("it is not UTF-8").context(format!("{}:{line}: reading the file", display(path)))
        })?;
        Ok(Self { path, text })
    }

    /// Returns the file's tables and values, with their places.
    pub(crate) fn document(&self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            self.error("the file", &span, Error::invalid(error.message().replace('\n', ", ")))
        })
    }

    /// Returns where the file is.
    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// Returns the number of the line of a byte, counted from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Adds to an error where it arose, and the line.
    pub(crate) fn error(&self, key: &str, span: &Range<usize>, error: Error) -> Error {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let number = self.line(start);
        let column = before[line_start..].chars().count() + 1;
        let end = span.end.clamp(start, line_start + line.len().max(start - line_start));
        // What a tab or an escape is shown as has the same width in both lines.
        let indent = printable(before[line_start..].replace('\t', " ").as_bytes()).chars().count();
        let marked = self.text.get(start..end).unwrap_or_default().chars().count().max(1);
        let shown = printable(line.replace('\t', " ").as_bytes());
        let gutter = " ".repeat(number.to_string().len());
        let cause = error.chain().collect::<Vec<_>>().join(": ");
        let excerpt =
            format!("{gutter} |\n{number} | {shown}\n{gutter} | {}{}", " ".repeat(indent), "^".repeat(marked));
        let mut placed = Error::new(error.kind(), format!("{cause}\n{excerpt}"));
        if let Some(hint) = error.hint_text() {
            placed = placed.hint(hint);
        }
        placed.context(format!("{}:{number}:{column}: reading {key}", display(self.path)))
    }

    /// Adds to an error of an entry where it arose.
    pub(crate) fn at<T>(&self, entry: &Entry<'_, '_>, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.error(&entry.key, &entry.value.span(), error))
    }

    /// Returns the error of an entry whose value is of another type than it must be.
    pub(crate) fn wrong_type<T>(&self, entry: &Entry<'_, '_>, wanted: &str) -> Result<T> {
        let found = entry.value.get_ref().type_str();
        self.at(entry, Err(Error::invalid(format!("expected {wanted}, found {}", type_name(found)))))
    }
}

/// Returns a TOML type's name with its article.
fn type_name(name: &str) -> String {
    format!("{} {name}", if name.starts_with(['a', 'i']) { "an" } else { "a" })
}
