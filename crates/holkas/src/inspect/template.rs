//! Go's text templates as `inspect --format` takes them: what scripts use, with the position of whatever isn't there.
//!
//! A template is read in three steps: `lexer` cuts it into texts and tokens, `parser` makes a tree, `eval` walks it.

mod eval;
mod functions;
mod lexer;
mod parser;
mod printf;
mod table;
pub(super) mod value;

use serde_json::Value;

use super::{Inspection, OciConfig};
use crate::error::{Context, Error, Result, printable};
use value::Go;

/// Renders a template over an inspection.
///
/// As in skopeo, `\n` and `\t` are what they are in Go, a newline is added unless the template ends with one,
/// `json` and `{{json .}}` give the whole in JSON, and after `table ` words stand in columns.
///
/// # Errors
///
/// `Invalid` or `Unsupported`, with line and column, where the template is wrong or asks for what is not there.
pub fn render(template: &str, inspection: &Inspection) -> Result<String> {
    render_value(template, &value::of_inspection(inspection)?)
}

/// Renders a template over a config, whose fields have the names that Go's OCI types give them.
///
/// # Errors
///
/// As [`render`].
pub fn render_config(template: &str, config: &OciConfig) -> Result<String> {
    render_value(template, &config.to_go()?)
}

fn render_value(template: &str, root: &Go) -> Result<String> {
    let frame = || format!("rendering the template `{}`", printable(template.as_bytes()));
    if let (true, Go::Struct(_, json)) = (is_json(template), root) {
        return super::to_json(json).map(|json| json + "\n");
    }
    let (text, form) = match template.strip_prefix("table ") {
        Some(text) => (text, lexer::Form::Table),
        None => (template, lexer::Form::Plain),
    };
    let (pieces, start) = (lexer::lex(text, form), template.len() - text.len());
    let mut out =
        pieces.and_then(parser::parse).and_then(|nodes| eval::eval(&nodes, root)).map_err(|error| match error {
            Wrong { kind: Kind::Invalid, at, what } => Error::invalid(format!("{}{what}", at.shown(start))),
            Wrong { kind: Kind::Unsupported, at, what } => {
                Error::unsupported(format!("{}{what} is not supported in templates", at.shown(start))).hint(format!(
                    "supported are fields, variables, pipes, if, with, range, and the functions {}",
                    functions::NAMES.join(", ")
                ))
            }
        });
    if let (Ok(out), false) = (&mut out, ends_with_newline(text)) {
        out.push('\n');
    }
    let out = out.context(frame)?;
    Ok(if form == lexer::Form::Table { table::align(&out) } else { out })
}

fn ends_with_newline(text: &str) -> bool {
    text.ends_with('\n') || text.ends_with("\\n")
}

/// Returns whether the whole is wanted in JSON, which skopeo indents.
fn is_json(template: &str) -> bool {
    let action = template.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    match action.and_then(|action| action.strip_prefix("json")) {
        Some(rest) => matches!(rest.trim(), "" | "."),
        None => template.trim() == "json",
    }
}

/// What is wrong with a template, and where.
#[derive(Debug)]
struct Wrong {
    kind: Kind,
    at: At,
    what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invalid,
    Unsupported,
}

impl Wrong {
    fn invalid(at: At, what: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, at, what: what.into() }
    }

    /// `what` names the thing; that it is not supported is added.
    fn unsupported(at: At, what: &str) -> Self {
        Self { kind: Kind::Unsupported, at, what: format!("`{}`", printable(what.as_bytes())) }
    }
}

/// A place in a template: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    line: usize,
    column: usize,
}

impl At {
    /// Writes the place before a message; `start` is how many columns of the first line were cut off.
    fn shown(self, start: usize) -> String {
        format!("{}:{}: ", self.line, if self.line == 1 { self.column + start } else { self.column })
    }
}

/// Serialises a part of what is shown.
fn json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::invalid(error.to_string()))
}
