//! The functions of templates: Go's own, and those that skopeo's and podman's reports add.

use super::printf::printf;
use super::value::Go;

/// All of them. `and` and `or` are in `eval`, because they leave operands unevaluated.
pub(super) const NAMES: [&str; 19] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "print", "printf",
    "println", "split", "upper",
];

pub(super) fn call(name: &str, arguments: &[Go]) -> Result<Go, String> {
    match (name, arguments) {
        ("print", values) => Ok(Go::Text(print(values))),
        ("println", values) => Ok(Go::Text(values.iter().map(Go::to_string).collect::<Vec<_>>().join(" ") + "\n")),
        ("printf", [Go::Text(format), values @ ..]) => printf(format, values).map(Go::Text),
        ("not", [value]) => Ok(Go::Bool(!value.is_true())),
        ("eq", [one, others @ ..]) if !others.is_empty() => {
            let equal = others.iter().map(|other| equal(one, other)).collect::<Result<Vec<_>, _>>()?;
            Ok(Go::Bool(equal.contains(&true)))
        }
        ("ne", [a, b]) => equal(a, b).map(|equal| Go::Bool(!equal)),
        ("lt", [a, b]) => order(a, b).map(|order| Go::Bool(order.is_lt())),
        ("le", [a, b]) => order(a, b).map(|order| Go::Bool(order.is_le())),
        ("gt", [a, b]) => order(a, b).map(|order| Go::Bool(order.is_gt())),
        ("ge", [a, b]) => order(a, b).map(|order| Go::Bool(order.is_ge())),
        ("len", [Go::Text(text)]) => Ok(count(text.len())),
        ("len", [Go::List(items)]) => Ok(count(items.as_ref().map_or(0, Vec::len))),
        ("len", [Go::Map(map, _)]) => Ok(count(map.as_ref().map_or(0, std::collections::BTreeMap::len))),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        // Unlike skopeo's whole output, this function escapes nothing for HTML.
        ("json", [value]) => Ok(Go::Text(value.json().to_string())),
        ("lower", [Go::Text(text)]) => Ok(Go::Text(text.chars().map(|c| one(c, c.to_lowercase())).collect())),
        ("upper", [Go::Text(text)]) => Ok(Go::Text(text.chars().map(|c| one(c, c.to_uppercase())).collect())),
        ("split", [Go::Text(text), Go::Text(by)]) => {
            let parts = text.split(by.as_str()).map(|part| Go::Text(part.to_string()));
            // Go cuts by nothing into characters; Rust gives an empty string at each end.
            Ok(Go::List(Some(if by.is_empty() {
                text.chars().map(|c| Go::Text(c.to_string())).collect()
            } else {
                parts.collect()
            })))
        }
        ("join", [Go::List(items), Go::Text(by)]) => {
            let texts = items.iter().flatten().map(|item| match item {
                Go::Text(text) => Ok(text.as_str()),
                other => Err(format!("it joins strings, not {}", other.kind())),
            });
            Ok(Go::Text(texts.collect::<Result<Vec<_>, _>>()?.join(by)))
        }
        (_, arguments) => {
            let kinds: Vec<&str> = arguments.iter().map(Go::kind).collect();
            Err(format!("wrong arguments ({})", kinds.join(", ")))
        }
    }
}

/// Go maps a letter to one letter, or leaves it as it is.
fn one(letter: char, mut mapped: impl ExactSizeIterator<Item = char>) -> char {
    if mapped.len() == 1 { mapped.next().unwrap_or(letter) } else { letter }
}

/// Go puts a space between two operands when neither is a string.
fn print(values: &[Go]) -> String {
    let mut text = String::new();
    for (n, value) in values.iter().enumerate() {
        let strings = matches!(value, Go::Text(_)) || n > 0 && matches!(values[n - 1], Go::Text(_));
        text.push_str(if n > 0 && !strings { " " } else { "" });
        text.push_str(&value.to_string());
    }
    text
}

fn equal(a: &Go, b: &Go) -> Result<bool, String> {
    match (a, b) {
        (Go::Bool(a), Go::Bool(b)) => Ok(a == b),
        _ => order(a, b).map(std::cmp::Ordering::is_eq),
    }
}

fn order(a: &Go, b: &Go) -> Result<std::cmp::Ordering, String> {
    match (a, b) {
        (Go::Text(a), Go::Text(b)) => Ok(a.cmp(b)),
        (Go::Number(a), Go::Number(b)) => Ok(a.cmp(b)),
        _ => Err(format!("{} cannot be compared with {}", a.kind(), b.kind())),
    }
}

fn index(value: &Go, key: &Go) -> Result<Go, String> {
    match (value, key) {
        (Go::Map(map, element), Go::Text(key)) => {
            Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_else(|| element.zero()))
        }
        (Go::List(items), Go::Number(n)) => {
            let item = usize::try_from(*n).ok().and_then(|n| items.as_ref()?.get(n));
            item.cloned().ok_or_else(|| format!("index out of range: {n}"))
        }
        _ => Err(format!("{} has no index that is {}", value.kind(), key.kind())),
    }
}

fn count(length: usize) -> Go {
    Go::Number(i64::try_from(length).unwrap_or(i64::MAX))
}
