//! Cuts a template into texts and the tokens of its actions.

use super::{At, Wrong};

/// What stands between two actions, or in one.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(At, Vec<Token>),
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) at: At,
    /// Whether nothing stands between this token and the one before it, as in `$x.Name`.
    pub(super) glued: bool,
    pub(super) kind: Lexeme,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lexeme {
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name`, without the dollar.
    Variable(String),
    Word(String),
    Text(String),
    Number(i64),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// How text outside of actions is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// A space begins a new column.
    Table,
}

pub(super) fn lex(text: &str, form: Form) -> Result<Vec<Piece>, Wrong> {
    let mut cursor = Cursor { rest: text, at: At { line: 1, column: 1 } };
    let mut pieces = Vec::new();
    let mut trim = false;
    loop {
        let length = cursor.rest.find("{{").unwrap_or(cursor.rest.len());
        let before = unescape(cursor.take(length), form);
        let start = cursor.at;
        let opened = !cursor.take("{{".len().min(cursor.rest.len())).is_empty();
        let trims_before = cursor.rest.starts_with('-') && cursor.rest[1..].starts_with(char::is_whitespace);
        let before = if trim { before.trim_start() } else { &before };
        pieces.push(Piece::Text(if opened && trims_before { before.trim_end() } else { before }.to_string()));
        if !opened {
            return Ok(pieces);
        }
        cursor.take(usize::from(trims_before));
        let comment = cursor.rest.trim_start().starts_with("/*");
        if comment {
            let end = cursor.rest.find("*/").ok_or_else(|| Wrong::invalid(start, "the comment is not closed"))?;
            cursor.take(end + "*/".len());
        }
        let (tokens, trims_after) = action(&mut cursor, start)?;
        trim = trims_after;
        match (comment, tokens.first()) {
            (false, _) => pieces.push(Piece::Action(start, tokens)),
            (true, None) => {}
            (true, Some(token)) => return Err(Wrong::invalid(token.at, "a comment stands alone in its action")),
        }
    }
}

/// Reads the tokens of one action, and whether it trims the text after it.
fn action(cursor: &mut Cursor<'_>, start: At) -> Result<(Vec<Token>, bool), Wrong> {
    let mut tokens = Vec::new();
    let mut glued = false;
    loop {
        let space = cursor.rest.len() - cursor.rest.trim_start().len();
        cursor.take(space);
        glued &= space == 0;
        for (end, trims) in [("}}", false), ("-}}", true)] {
            if cursor.rest.starts_with(end) && (!trims || space > 0) {
                cursor.take(end.len());
                return Ok((tokens, trims));
            }
        }
        let at = cursor.at;
        let first = cursor.rest.chars().next().ok_or_else(|| Wrong::invalid(start, "`{{` is not closed"))?;
        let kind = lexeme(cursor, first)?;
        tokens.push(Token { at, glued, kind });
        glued = true;
    }
}

fn lexeme(cursor: &mut Cursor<'_>, first: char) -> Result<Lexeme, Wrong> {
    let at = cursor.at;
    let simple = [
        (":=", Lexeme::Declare),
        ("=", Lexeme::Assign),
        ("|", Lexeme::Pipe),
        ("(", Lexeme::Open),
        (")", Lexeme::Close),
        (",", Lexeme::Comma),
    ];
    if let Some((text, lexeme)) = simple.into_iter().find(|(text, _)| cursor.rest.starts_with(text)) {
        cursor.take(text.len());
        return Ok(lexeme);
    }
    match first {
        '"' | '`' => string(cursor, first),
        '.' => {
            cursor.take(1);
            let name = cursor.word();
            Ok(if name.is_empty() { Lexeme::Dot } else { Lexeme::Field(name.to_string()) })
        }
        '$' => {
            cursor.take(1);
            Ok(Lexeme::Variable(cursor.word().to_string()))
        }
        '0'..='9' | '+' | '-' => {
            let is_end = |c: char| !c.is_alphanumeric() && !"+-._".contains(c);
            let text = cursor.take(cursor.rest.find(is_end).unwrap_or(cursor.rest.len()));
            text.parse().map(Lexeme::Number).map_err(|_| Wrong::unsupported(at, text))
        }
        c if c.is_alphabetic() || c == '_' => Ok(Lexeme::Word(cursor.word().to_string())),
        c => Err(Wrong::invalid(at, format!("`{}` has no meaning here", c.escape_debug()))),
    }
}

fn string(cursor: &mut Cursor<'_>, quote: char) -> Result<Lexeme, Wrong> {
    let start = cursor.at;
    cursor.take(1);
    let mut text = String::new();
    loop {
        let at = cursor.at;
        let c = cursor.rest.chars().next();
        let c = c.filter(|c| quote == '`' || *c != '\n');
        let c = c.ok_or_else(|| Wrong::invalid(start, "the string is not closed"))?;
        cursor.take(c.len_utf8());
        match c {
            c if c == quote => return Ok(Lexeme::Text(text)),
            '\\' if quote == '"' => {
                let escaped = cursor.rest.chars().next().unwrap_or_default();
                cursor.take(escaped.len_utf8().min(cursor.rest.len()));
                text.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '"' | '\\' => escaped,
                    _ => return Err(Wrong::unsupported(at, &format!("\\{escaped}"))),
                });
            }
            c => text.push(c),
        }
    }
}

/// Outside of actions, `\n` and `\t` written as two characters are what they are in Go.
fn unescape(text: &str, form: Form) -> String {
    let text = text.replace("\\n", "\n").replace("\\t", "\t");
    if form == Form::Table { text.replace(' ', "\t") } else { text }
}

struct Cursor<'a> {
    rest: &'a str,
    at: At,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        for c in taken.chars() {
            self.at = match c {
                '\n' => At { line: self.at.line + 1, column: 1 },
                _ => At { column: self.at.column + 1, ..self.at },
            };
        }
        taken
    }

    fn word(&mut self) -> &'a str {
        let is_end = |c: char| !c.is_alphanumeric() && c != '_';
        self.take(self.rest.find(is_end).unwrap_or(self.rest.len()))
    }
}
