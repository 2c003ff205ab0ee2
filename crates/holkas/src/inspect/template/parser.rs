//! Makes a tree of a template's pieces, and finds names that are not there before anything is shown.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::functions;
use super::lexer::{Lexeme, Piece, Token};
use super::value::Go;
use super::{At, Wrong};

/// How deep blocks and parentheses may stand in each other.
const DEPTH: usize = 16;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Show(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
}

#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) at: At,
    /// `$x :=`, or `$i, $v :=` of a range.
    pub(super) variables: Vec<String>,
    /// Whether the variable is an old one, given another value by `=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) struct Command {
    /// The first is the function, if there is more than one.
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: At,
    pub(super) term: Term,
    /// The fields that are taken of it, one of the other.
    pub(super) fields: Vec<(At, String)>,
}

#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Variable(String),
    Function(String),
    Constant(Go),
    Group(Pipeline),
}

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, Wrong> {
    // `$` is there from the beginning: it is what the template is shown over.
    let mut parser = Parser { pieces: pieces.into_iter(), variables: vec![String::new()], depth: 0 };
    match parser.block()? {
        (nodes, None) => Ok(nodes),
        (_, Some(end)) => Err(Wrong::invalid(end.at, format!("`{}` has no beginning", end.word))),
    }
}

struct Parser {
    pieces: IntoIter<Piece>,
    variables: Vec<String>,
    depth: usize,
}

type Words = Peekable<IntoIter<Token>>;

/// What ends a block: `end`, or `else` with what follows it.
struct End {
    at: At,
    word: &'static str,
    rest: Words,
}

impl Parser {
    /// Parses up to `else` or `end`.
    fn block(&mut self) -> Result<(Vec<Node>, Option<End>), Wrong> {
        let known = self.variables.len();
        let mut nodes = Vec::new();
        let mut end = None;
        while let Some(piece) = self.pieces.next() {
            let (at, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(at, tokens) => (at, tokens),
            };
            let mut words = tokens.into_iter().peekable();
            let keyword = match words.peek() {
                Some(Token { kind: Lexeme::Word(word), .. }) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" | "else" => {
                    words.next();
                    end = Some(End { at, word: if keyword == "end" { "end" } else { "else" }, rest: words });
                    break;
                }
                "if" | "with" | "range" => nodes.push(self.branch(at, &mut words)?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(Wrong::unsupported(at, &keyword));
                }
                _ => nodes.push(Node::Show(self.whole(at, &mut words, 1)?)),
            }
        }
        self.variables.truncate(known);
        Ok((nodes, end))
    }

    /// Parses `if`, `with` or `range` with its blocks; `words` begins with the keyword.
    fn branch(&mut self, at: At, words: &mut Words) -> Result<Node, Wrong> {
        self.deeper(at)?;
        let keyword = match words.next() {
            Some(Token { kind: Lexeme::Word(word), .. }) => word,
            _ => return Err(Wrong::invalid(at, "an empty action")),
        };
        let known = self.variables.len();
        let pipeline = self.whole(at, words, if keyword == "range" { 2 } else { 1 })?;
        let (body, end) = self.block()?;
        let no_end = || Wrong::invalid(at, format!("`{keyword}` has no end"));
        let mut end = end.ok_or_else(no_end)?;
        let mut otherwise = Vec::new();
        if end.word == "else" {
            if end.rest.peek().is_some() {
                // `else if` is an `if` in the `else`, and its end is the end of both.
                match end.rest.peek() {
                    Some(Token { kind: Lexeme::Word(word), .. }) if word == "if" && keyword == "if" => {}
                    _ => return Err(Wrong::invalid(end.at, "after `else` only `if` may follow, in an `if`")),
                }
                otherwise.push(self.branch(end.at, &mut end.rest)?);
                end.rest = Vec::new().into_iter().peekable();
            } else {
                (otherwise, end) = match self.block()? {
                    (_, None) => return Err(no_end()),
                    (_, Some(end)) if end.word == "else" => {
                        return Err(Wrong::invalid(end.at, format!("a second `else` of one `{keyword}`")));
                    }
                    (nodes, Some(end)) => (nodes, end),
                };
            }
        }
        if let Some(token) = end.rest.peek() {
            return Err(Wrong::invalid(token.at, "nothing may follow `end`"));
        }
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(match keyword.as_str() {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    fn deeper(&mut self, at: At) -> Result<(), Wrong> {
        self.depth += 1;
        if self.depth > DEPTH { Err(Wrong::invalid(at, "it is nested too deeply")) } else { Ok(()) }
    }

    /// Parses all that is left of an action, which may begin with up to `most` variables.
    fn whole(&mut self, at: At, words: &mut Words, most: usize) -> Result<Pipeline, Wrong> {
        let (variables, assigns) = self.declared(at, words, most)?;
        let mut pipeline = self.pipeline(at, words)?;
        if let Some(token) = words.next() {
            return Err(Wrong::invalid(token.at, "`)` has no beginning"));
        }
        for name in &variables {
            if assigns {
                self.known(at, name)?;
            } else {
                self.variables.push(name.clone());
            }
        }
        (pipeline.variables, pipeline.assigns) = (variables, assigns);
        Ok(pipeline)
    }

    /// Reads `$x :=` and its like, if the action begins so.
    fn declared(&mut self, at: At, words: &mut Words, most: usize) -> Result<(Vec<String>, bool), Wrong> {
        let mut ahead = words.clone();
        let mut variables = Vec::new();
        while let Some(Token { kind: Lexeme::Variable(name), .. }) = ahead.next() {
            variables.push(name);
            match ahead.next().map(|token| token.kind) {
                Some(Lexeme::Comma) => {}
                Some(sign @ (Lexeme::Declare | Lexeme::Assign)) => {
                    if variables.len() > most {
                        return Err(Wrong::invalid(at, "too many variables"));
                    }
                    *words = ahead;
                    return Ok((variables, sign == Lexeme::Assign));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn known(&self, at: At, variable: &str) -> Result<(), Wrong> {
        let known = self.variables.iter().any(|name| name == variable);
        if known { Ok(()) } else { Err(Wrong::invalid(at, format!("there is no variable `${variable}`"))) }
    }

    /// Parses up to the end or to a `)` that it leaves.
    fn pipeline(&mut self, at: At, words: &mut Words) -> Result<Pipeline, Wrong> {
        let mut commands = vec![Command { operands: Vec::new() }];
        while let Some(token) = words.next_if(|token| token.kind != Lexeme::Close) {
            let last = commands.last_mut().expect("there is one from the beginning");
            let term = match token.kind {
                Lexeme::Pipe if last.operands.is_empty() => return Err(Wrong::invalid(token.at, "an empty command")),
                Lexeme::Pipe => {
                    commands.push(Command { operands: Vec::new() });
                    continue;
                }
                Lexeme::Field(name) if token.glued && !last.operands.is_empty() => {
                    let operand = last.operands.last_mut().expect("it is not empty");
                    operand.fields.push((token.at, name));
                    continue;
                }
                Lexeme::Field(name) => {
                    let fields = vec![(token.at, name)];
                    last.operands.push(Operand { at: token.at, term: Term::Dot, fields });
                    continue;
                }
                Lexeme::Dot => Term::Dot,
                Lexeme::Variable(name) => {
                    self.known(token.at, &name)?;
                    Term::Variable(name)
                }
                Lexeme::Word(word) if word == "true" || word == "false" => Term::Constant(Go::Bool(word == "true")),
                Lexeme::Word(word) if functions::NAMES.contains(&word.as_str()) => Term::Function(word),
                Lexeme::Word(word) => return Err(Wrong::unsupported(token.at, &word)),
                Lexeme::Text(text) => Term::Constant(Go::Text(text)),
                Lexeme::Number(number) => Term::Constant(Go::Number(number)),
                Lexeme::Open => {
                    self.deeper(token.at)?;
                    let inner = self.pipeline(token.at, words)?;
                    words.next().ok_or_else(|| Wrong::invalid(token.at, "`(` is not closed"))?;
                    self.depth -= 1;
                    Term::Group(inner)
                }
                Lexeme::Close | Lexeme::Comma | Lexeme::Declare | Lexeme::Assign => {
                    return Err(Wrong::invalid(token.at, "`:=`, `=` and `,` stand only after a variable at the start"));
                }
            };
            last.operands.push(Operand { at: token.at, term, fields: Vec::new() });
        }
        if commands.iter().any(|command| command.operands.is_empty()) {
            return Err(Wrong::invalid(at, "an empty command"));
        }
        Ok(Pipeline { at, variables: Vec::new(), assigns: false, commands })
    }
}
