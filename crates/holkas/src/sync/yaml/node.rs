//! A YAML document as a tree of scalars, lists and maps, each with its line. What scalars mean is left to who reads them.

use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::error::Error;
use crate::limits::YAML_DEPTH;

/// A value.
#[derive(Debug)]
pub(super) struct Node {
    /// The line that it begins on, counted from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What it is. An alias is the very value that it stands for, so that a document takes no more room than its text.
#[derive(Debug)]
pub(super) enum Value {
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
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// An error, and the line on which it arose.
type Failed = (usize, Error);

/// Parses a text with one document, or none.
pub(super) fn parse(text: &str) -> Result<Option<Rc<Node>>, Failed> {
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
    fn next(&mut self) -> Result<(Event<'a>, Span), Failed> {
        let failed = |error: ScanError| (error.marker().line(), Error::invalid(error.info()));
        match self.parser.next_event() {
            Some(event) => event.map_err(failed),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    /// Returns the value that an event begins.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, Failed> {
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
