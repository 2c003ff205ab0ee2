//! The part of Go's `printf` that has a meaning for strings, numbers and booleans. All else is an error.

use super::value::Go;

/// How wide a field may be asked to be.
const WIDTH: usize = 1024;

pub(super) fn printf(format: &str, values: &[Go]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, verb)) = rest.split_once('%') {
        out.push_str(before);
        let flags = verb.len() - verb.trim_start_matches(['-', '0']).len();
        let (flags, verb) = verb.split_at(flags);
        let (width, verb) = number(verb)?;
        let (precision, verb) = match verb.strip_prefix('.') {
            Some(verb) => number(verb).map(|(precision, verb)| (Some(precision), verb))?,
            None => (None, verb),
        };
        let letter = verb.chars().next().ok_or("the format ends within a `%`")?;
        rest = &verb[letter.len_utf8()..];
        if letter == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("there is no value for `%{letter}`"))?;
        let text = formatted(letter, precision, value)?;
        let padding = width.saturating_sub(text.chars().count());
        let zeros = flags.contains('0') && !flags.contains('-') && matches!(value, Go::Number(_));
        match (flags.contains('-'), zeros, text.strip_prefix('-')) {
            (true, ..) => out.extend([&text, " ".repeat(padding).as_str()]),
            (false, true, Some(digits)) => out.extend(["-", &"0".repeat(padding), digits]),
            (false, true, None) => out.extend(["0".repeat(padding).as_str(), &text]),
            (false, false, _) => out.extend([" ".repeat(padding).as_str(), &text]),
        }
    }
    match values.len() {
        0 => Ok(out + rest),
        n => Err(format!("the format leaves {n} of its values unused")),
    }
}

fn number(text: &str) -> Result<(usize, &str), String> {
    let (digits, rest) = text.split_at(text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len());
    let number = if digits.is_empty() { Some(0) } else { digits.parse().ok() };
    match number.filter(|number| *number <= WIDTH) {
        Some(number) => Ok((number, rest)),
        None => Err(format!("a width of {digits} is too much")),
    }
}

fn formatted(verb: char, precision: Option<usize>, value: &Go) -> Result<String, String> {
    let text = match (verb, value) {
        ('v', value) => value.to_string(),
        ('s', Go::Text(text)) => text.chars().take(precision.unwrap_or(usize::MAX)).collect(),
        ('s', Go::List(_) | Go::Map(..)) => value.to_string(),
        ('q', Go::Text(text)) => quoted(text),
        ('d', Go::Number(number)) => number.to_string(),
        ('x', Go::Number(number)) if *number >= 0 => format!("{number:x}"),
        ('x', Go::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('t', Go::Bool(flag)) => flag.to_string(),
        _ => return Err(format!("`%{verb}` of {} is not supported", value.kind())),
    };
    match precision {
        Some(_) if !matches!((verb, value), ('s', Go::Text(_))) => {
            Err(format!("a precision of `%{verb}` is not supported for {}", value.kind()))
        }
        _ => Ok(text),
    }
}

/// The text as a Go string literal.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_string(),
        '\r' => "\\r".to_string(),
        '\t' => "\\t".to_string(),
        '\x07' => "\\a".to_string(),
        '\x08' => "\\b".to_string(),
        '\x0b' => "\\v".to_string(),
        '\x0c' => "\\f".to_string(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
