//! The small part of Go's text templates that people use with `inspect --format`.
//!
//! Fields (`{{.Name}}`, `{{.Labels.x}}`), `index`, `json`, `len`, `print`, `println`, `if`, `range`, pipes,
//! and `{{-`, `-}}`. Anything else is an error that names it, never a wrong output.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Inspection, LayerData};
use crate::error::{Context, Error, Result, printable};

/// How deep `if` and `range` may stand in each other.
const DEPTH: usize = 16;

/// Renders a template over an inspection. As in skopeo, `\n` and `\t` are what they are in Go,
/// and a newline is added unless the template ends with one.
pub fn render(template: &str, inspection: &Inspection) -> Result<String> {
    let frame = || format!("rendering the template `{}`", printable(template.as_bytes()));
    let text = template.replace("\\n", "\n").replace("\\t", "\t");
    let (nodes, rest) = parse(&mut tokens(&text).context(frame)?.into_iter().peekable(), 0).context(frame)?;
    if let Some(word) = rest {
        return Err(Error::invalid(format!("`{{{{{word}}}}}` has no beginning"))).context(frame);
    }
    let root = of_inspection(inspection)?;
    let mut out = String::new();
    run(&nodes, &root, &root, &mut out).context(frame)?;
    if !text.ends_with('\n') {
        out.push('\n');
    }
    Ok(out)
}

/// A value as Go has it, because Go prints by type.
#[derive(Debug, Clone)]
enum Go {
    Text(String),
    Number(i64),
    Time(Option<String>),
    List(Vec<Go>),
    Map(BTreeMap<String, Go>),
    Struct(Vec<(&'static str, Go)>, Value),
    /// A map or list that is nil: printed as an empty one, but `null` in JSON.
    Nil(&'static str),
    NoValue,
}

enum Token<'a> {
    Text(&'a str),
    Action(&'a str),
}

enum Node<'a> {
    Text(&'a str),
    Print(&'a str),
    If(&'a str, Vec<Node<'a>>, Vec<Node<'a>>),
    Range(&'a str, Vec<Node<'a>>, Vec<Node<'a>>),
}

fn tokens(mut text: &str) -> Result<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut trim = false;
    loop {
        let (before, rest) = match text.split_once("{{") {
            Some((before, rest)) => (before, Some(rest)),
            None => (text, None),
        };
        let before = if trim { before.trim_start() } else { before };
        let trim_end = rest.is_some_and(|rest| rest.starts_with("- "));
        tokens.push(Token::Text(if trim_end { before.trim_end() } else { before }));
        let Some(rest) = rest else { return Ok(tokens) };
        let (action, after) = rest.split_once("}}").ok_or_else(|| Error::invalid("`{{` is not closed"))?;
        trim = action.ends_with(" -");
        let action = action.strip_prefix("- ").unwrap_or(action);
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            tokens.push(Token::Action(action));
        }
        text = after;
    }
}

type Tokens<'a> = std::iter::Peekable<std::vec::IntoIter<Token<'a>>>;

/// Parses up to `else` or `end`, and returns which of them it was.
fn parse<'a>(tokens: &mut Tokens<'a>, depth: usize) -> Result<(Vec<Node<'a>>, Option<&'a str>)> {
    if depth > DEPTH {
        return Err(Error::invalid("it is nested too deeply"));
    }
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
        match word {
            "end" | "else" if rest.is_empty() => return Ok((nodes, Some(word))),
            "if" | "range" => {
                let (body, end) = parse(tokens, depth + 1)?;
                let (otherwise, end) = match end {
                    Some("else") => parse(tokens, depth + 1)?,
                    end => (Vec::new(), end),
                };
                if end != Some("end") {
                    return Err(Error::invalid(format!("`{{{{{action}}}}}` has no end")));
                }
                nodes.push(if word == "if" {
                    Node::If(rest, body, otherwise)
                } else {
                    Node::Range(rest, body, otherwise)
                });
            }
            "else" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                return Err(unsupported(action));
            }
            _ => nodes.push(Node::Print(action)),
        }
    }
    Ok((nodes, None))
}

fn unsupported(what: &str) -> Error {
    Error::unsupported(format!("`{}` is not supported in templates", printable(what.as_bytes())))
        .hint("supported are fields, index, json, len, print, println, if, range and pipes")
}

fn run(nodes: &[Node<'_>], dot: &Go, root: &Go, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&evaluate(pipeline, dot, root)?.to_string()),
            Node::If(pipeline, body, otherwise) => {
                let chosen = if evaluate(pipeline, dot, root)?.is_true() { body } else { otherwise };
                run(chosen, dot, root, out)?;
            }
            Node::Range(pipeline, body, otherwise) => {
                let items: Vec<Go> = match evaluate(pipeline, dot, root)? {
                    Go::List(items) => items,
                    Go::Map(map) => map.into_values().collect(),
                    Go::Nil(_) => Vec::new(),
                    _ => return Err(Error::invalid(format!("cannot range over `{pipeline}`"))),
                };
                if items.is_empty() {
                    run(otherwise, dot, root, out)?;
                }
                items.iter().try_for_each(|item| run(body, item, root, out))?;
            }
        }
    }
    Ok(())
}

/// Splits a pipeline into words; a quoted string keeps its first quote as its mark.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '`' => {
                let end = rest[1..].find(first).ok_or_else(|| Error::invalid("a string is not closed"))?;
                if first == '"' && rest[1..=end].contains('\\') {
                    return Err(unsupported("a string with `\\`"));
                }
                end + 2
            }
            '|' => 1,
            '(' | ')' | '$' | ':' | '=' | ',' if !rest.starts_with("$.") && rest != "$" => {
                return Err(unsupported(text));
            }
            _ => rest.find(|c: char| c.is_whitespace() || "|()\"`".contains(c)).unwrap_or(rest.len()),
        };
        words.push(rest[..length].to_string());
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

fn evaluate(pipeline: &str, dot: &Go, root: &Go) -> Result<Go> {
    let words = words(pipeline)?;
    let mut piped: Option<Go> = None;
    for command in words.split(|word| word == "|") {
        let (first, rest) = command.split_first().ok_or_else(|| Error::invalid("an empty command"))?;
        let mut arguments = rest.iter().map(|word| operand(word, dot, root)).collect::<Result<Vec<_>>>()?;
        let is_function = first.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_function && (!rest.is_empty() || piped.is_some()) {
            return Err(Error::invalid(format!("`{}` is not a function", printable(first.as_bytes()))));
        }
        arguments.extend(piped.take());
        piped = Some(if is_function { call(first, arguments)? } else { operand(first, dot, root)? });
    }
    piped.ok_or_else(|| Error::invalid("an empty action"))
}

fn operand(word: &str, dot: &Go, root: &Go) -> Result<Go> {
    if let Some(text) = word.strip_prefix(['"', '`']) {
        return Ok(Go::Text(text[..text.len() - 1].to_string()));
    }
    if let Ok(number) = word.parse() {
        return Ok(Go::Number(number));
    }
    let (mut value, path) = match word.strip_prefix('$') {
        Some(path) => (root.clone(), path),
        None => (dot.clone(), word),
    };
    let path = match path {
        "" | "." => return Ok(value),
        path => path.strip_prefix('.').ok_or_else(|| unsupported(word))?,
    };
    for name in path.split('.') {
        value = match value {
            Go::Struct(fields, _) => match fields.into_iter().find(|(field, _)| *field == name) {
                Some((_, value)) => value,
                None => return Err(Error::invalid(format!("there is no field `{}`", printable(name.as_bytes())))),
            },
            Go::Map(mut map) => map.remove(name).unwrap_or(Go::NoValue),
            Go::Nil("map[]") => Go::NoValue,
            _ => return Err(Error::invalid(format!("there is no field `{}`", printable(name.as_bytes())))),
        };
    }
    Ok(value)
}

fn call(function: &str, arguments: Vec<Go>) -> Result<Go> {
    let wrong = || Error::invalid(format!("wrong arguments for `{function}`"));
    match (function, arguments.as_slice()) {
        ("json", [value]) => Ok(Go::Text(super::escape(&value.json().to_string()))),
        ("len", [Go::Text(text)]) => Ok(count(text.len())),
        ("len", [Go::List(items)]) => Ok(count(items.len())),
        ("len", [Go::Map(map)]) => Ok(count(map.len())),
        ("len", [Go::Nil(_)]) => Ok(count(0)),
        ("index", [Go::Map(map), Go::Text(key)]) => Ok(map.get(key).cloned().unwrap_or(Go::Text(String::new()))),
        ("index", [Go::Nil("map[]"), Go::Text(_)]) => Ok(Go::Text(String::new())),
        ("index", [Go::List(items), Go::Number(n)]) => {
            let item = usize::try_from(*n).ok().and_then(|n| items.get(n)).cloned();
            item.ok_or_else(|| Error::invalid(format!("index out of range: {n}")))
        }
        ("println", values) => Ok(Go::Text(values.iter().map(Go::to_string).collect::<Vec<_>>().join(" ") + "\n")),
        ("print", values) => {
            // Go puts a space between two operands when neither is a string.
            let mut text = String::new();
            for (n, value) in values.iter().enumerate() {
                let strings = matches!(value, Go::Text(_)) || n > 0 && matches!(values[n - 1], Go::Text(_));
                text.push_str(if n > 0 && !strings { " " } else { "" });
                text.push_str(&value.to_string());
            }
            Ok(Go::Text(text))
        }
        ("json" | "len" | "index", _) => Err(wrong()),
        _ => Err(unsupported(function)),
    }
}

fn count(length: usize) -> Go {
    Go::Number(i64::try_from(length).unwrap_or(i64::MAX))
}

impl Go {
    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0,
            Self::Time(time) => time.is_some(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(..) => true,
            Self::Nil(_) | Self::NoValue => false,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(number) => (*number).into(),
            Self::Time(time) => time.clone().into(),
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Map(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), value.json())).collect()),
            Self::Struct(_, json) => json.clone(),
            Self::Nil(_) | Self::NoValue => Value::Null,
        }
    }
}

impl std::fmt::Display for Go {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let joined = |items: Vec<String>| items.join(" ");
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Time(None) => f.write_str("<nil>"),
            Self::Time(Some(time)) => f.write_str(&go_time_string(time)),
            Self::List(items) => write!(f, "[{}]", joined(items.iter().map(Self::to_string).collect())),
            Self::Map(map) => write!(f, "map[{}]", joined(map.iter().map(|(k, v)| format!("{k}:{v}")).collect())),
            Self::Struct(fields, _) => write!(f, "{{{}}}", joined(fields.iter().map(|(_, v)| v.to_string()).collect())),
            Self::Nil(text) => f.write_str(text),
            Self::NoValue => f.write_str("<no value>"),
        }
    }
}

/// Writes a time as Go's `Time.String` does: `2006-01-02 15:04:05.9 +0000 UTC`.
fn go_time_string(time: &str) -> String {
    let at = time.rfind(['Z', '+', '-']).filter(|at| *at > 10).unwrap_or(time.len());
    let zone = match &time[at..] {
        "" | "Z" => "+0000 UTC".to_string(),
        offset => {
            let offset = offset.replace(':', "");
            format!("{offset} {offset}")
        }
    };
    format!("{} {zone}", time[..at].replace('T', " "))
}

fn of_inspection(inspection: &Inspection) -> Result<Go> {
    let json = |value: serde_json::Result<Value>| value.map_err(|error| Error::invalid(error.to_string()));
    let text = |text: &Option<String>| Go::Text(text.clone().unwrap_or_default());
    let texts = |texts: &[String]| Go::List(texts.iter().cloned().map(Go::Text).collect());
    let map = |map: &Option<BTreeMap<String, String>>| match map {
        Some(map) => Go::Map(map.iter().map(|(key, value)| (key.clone(), Go::Text(value.clone()))).collect()),
        None => Go::Nil("map[]"),
    };
    let layer = |layer: &LayerData| -> Result<Go> {
        let fields = vec![
            ("MIMEType", Go::Text(layer.media_type.clone())),
            ("Digest", Go::Text(layer.digest.to_string())),
            ("Size", Go::Number(layer.size)),
            ("Annotations", map(&layer.annotations)),
        ];
        Ok(Go::Struct(fields, json(serde_json::to_value(layer))?))
    };
    let fields = vec![
        ("Name", text(&inspection.name)),
        ("Tag", text(&inspection.tag)),
        ("Digest", Go::Text(inspection.digest.to_string())),
        ("RepoTags", texts(&inspection.repo_tags)),
        ("Created", Go::Time(inspection.created.clone())),
        ("DockerVersion", Go::Text(inspection.docker_version.clone())),
        ("Labels", map(&inspection.labels)),
        ("Architecture", Go::Text(inspection.architecture.clone())),
        ("Os", Go::Text(inspection.os.clone())),
        ("Layers", texts(&inspection.layers)),
        ("LayersData", Go::List(inspection.layers_data.iter().map(layer).collect::<Result<_>>()?)),
        ("Env", inspection.env.as_deref().map_or(Go::Nil("[]"), texts)),
        ("Author", text(&inspection.author)),
    ];
    Ok(Go::Struct(fields, json(serde_json::to_value(inspection))?))
}
