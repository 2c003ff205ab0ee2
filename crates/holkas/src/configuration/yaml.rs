//! YAML files: a document as a tree of scalars, lists and maps, with errors that show the file, the line and the keys.
//!
//! What scalars mean is left to who reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::error::{Error, Result, printable};
use crate::fs::display;
use crate::limits::YAML_DEPTH;

/// A file that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct YamlFile<'a> {
    path: &'a Path,
}

/// A value and the keys that lead to it, as errors name it.
pub(crate) struct Entry<'a> {
    /// The keys, with a zero byte between them.
    pub(crate) key: String,
    pub(crate) node: &'a Node,
}

impl Entry<'_> {
    /// Returns the last key.
    pub(crate) fn name(&self) -> &str {
        self.key.rsplit('\0').next().unwrap_or_default()
    }

    /// Returns all keys, for people.
    pub(crate) fn shown(&self) -> String {
        self.key.split('\0').map(|key| printable(key.as_bytes())).collect::<Vec<_>>().join(" → ")
    }
}

impl<'a> YamlFile<'a> {
    /// Names a file that was read.
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path }
    }

    /// Parses the bytes of the file: one document, or none.
    pub(crate) fn document(&self, bytes: &[u8]) -> Result<Option<Rc<Node>>> {
        let at = |line: usize| format!("{}:{line}: reading the file", display(self.path));
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            Error::invalid("it is not UTF-8").context(at(line))
        })?;
        parse(text).map_err(|(line, error)| error.context(at(line)))
    }

    /// Adds to an error where it arose.
    pub(crate) fn error(&self, entry: &Entry<'_>, error: Error) -> Error {
        let key = if entry.key.is_empty() { "the file".to_string() } else { format!("`{}`", entry.shown()) };
        error.context(format!("{}:{}: reading {key}", display(self.path), entry.node.line))
    }

    /// Returns the error of an entry that is not as it must be.
    pub(crate) fn wrong<T>(&self, entry: &Entry<'_>, why: &str) -> Result<T> {
        Err(self.error(entry, Error::invalid(why)))
    }

    /// Returns the entries of a map; what is left empty has none.
    pub(crate) fn map<'n>(&self, entry: &Entry<'n>) -> Result<Vec<Entry<'n>>> {
        let pairs = match &entry.node.value {
            Value::Map(pairs) => pairs,
            Value::Scalar { .. } if entry.node.is_null() => return Ok(Vec::new()),
            Value::Scalar { .. } | Value::List(_) => return self.wrong(entry, "it must be a map: lines `key: value`"),
        };
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for (key, node) in pairs {
            let Value::Scalar { text, .. } = &key.value else {
                let place = Entry { key: entry.key.clone(), node: key };
                return self.wrong(&place, "a key must be one word, not a list or a map");
            };
            let whole = if entry.key.is_empty() { text.clone() } else { format!("{}\0{text}", entry.key) };
            if !seen.insert(text) {
                return self.wrong(&Entry { key: whole, node: key }, "the key is there twice");
            }
            entries.push(Entry { key: whole, node });
        }
        Ok(entries)
    }

    /// Reads a text that must be there.
    pub(crate) fn text<'n>(&self, entry: &Entry<'n>) -> Result<&'n str> {
        match self.text_if_any(entry)? {
            Some(text) => Ok(text),
            None => self.wrong(entry, "it is empty"),
        }
    }

    /// Reads a text; `None` if nothing stands there.
    pub(crate) fn text_if_any<'n>(&self, entry: &Entry<'n>) -> Result<Option<&'n str>> {
        match &entry.node.value {
            Value::Scalar { text, .. } => {
                Ok(Some(text.as_str()).filter(|text| !entry.node.is_null() && !text.is_empty()))
            }
            Value::List(_) | Value::Map(_) => self.wrong(entry, "it must be a text, not a list or a map"),
        }
    }

    /// Reads a truth value, as YAML 1.1 writes it too.
    pub(crate) fn truth(&self, entry: &Entry<'_>) -> Result<bool> {
        const WORDS: [(bool, [&str; 3]); 2] = [(true, ["true", "yes", "on"]), (false, ["false", "no", "off"])];
        if let Value::Scalar { text, plain: true } = &entry.node.value {
            let known = WORDS.iter().find(|(_, words)| words.iter().any(|word| word.eq_ignore_ascii_case(text)));
            if let Some((truth, _)) = known {
                return Ok(*truth);
            }
        }
        self.wrong(entry, "it must be true or false")
    }
}

/// A value.
#[derive(Debug)]
pub(crate) struct Node {
    /// The line that it begins on, counted from 1.
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// What it is. An alias is the very value that it stands for, so that a document takes no more room than its text.
#[derive(Debug)]
pub(crate) enum Value {
    /// A text as it was written; `plain` without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    /// Returns whether nothing stands here.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// An error, and the line on which it arose.
type Failed = (usize, Error);

/// Parses a text with one document, or none.
fn parse(text: &str) -> std::result::Result<Option<Rc<Node>>, Failed> {
    let mut events = Events { parser: Parser::new_from_str(text), anchors: BTreeMap::new() };
    let mut document = None;
    loop {
        match events.next()? {
            (Event::DocumentStart(_), span) if document.is_some() => {
                return Err((span.start.line(), Error::invalid("a second document begins; there must be one only")));
            }
            (Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return Ok(document),
            (event, span) => document = Some(events.node(event, span, 0)?),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What aliases stand for.
    anchors: BTreeMap<usize, Rc<Node>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> std::result::Result<(Event<'a>, Span), Failed> {
        let failed = |error: ScanError| (error.marker().line(), Error::invalid(error.info()));
        match self.parser.next_event() {
            Some(event) => event.map_err(failed),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    /// Returns the value that an event begins.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> std::result::Result<Rc<Node>, Failed> {
        let line = span.start.line();
        if depth > YAML_DEPTH {
            return Err((line, Error::invalid(format!("it is nested more than {YAML_DEPTH} deep"))));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let unknown = || (line, Error::invalid("an alias stands for a value that has not ended, or for none"));
                return self.anchors.get(&anchor).cloned().ok_or_else(unknown);
            }
            Event::Scalar(text, style, anchor, _) => {
                (Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => list.push(self.node(event, span, depth + 1)?),
                    }
                }
                (Value::List(list), anchor)
            }
            Event::MappingStart(anchor, _) => {
                let mut map = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        (event, span) => self.node(event, span, depth + 1)?,
                    };
                    let (event, span) = self.next()?;
                    map.push((key, self.node(event, span, depth + 1)?));
                }
                (Value::Map(map), anchor)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err((line, Error::invalid("a value is missing"))),
        };
        let node = Rc::new(Node { line, value });
        // 0 says that there is no anchor.
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }
}
