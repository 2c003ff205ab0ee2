//! JSON as Go's `encoding/json` writes it, so that a record that nothing changed keeps its bytes.

use serde_json::Value;

/// Appends a string: Go escapes also what is special in HTML, and two line separators.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            '\n' => out.extend(b"\\n"),
            '\r' => out.extend(b"\\r"),
            '\t' => out.extend(b"\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            _ => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends any value; the keys of objects in byte order, as Go writes a map.
pub fn value(out: &mut Vec<u8>, value_: &Value) {
    match value_ {
        Value::Null | Value::Bool(_) | Value::Number(_) => out.extend(value_.to_string().as_bytes()),
        Value::String(text) => string(out, text),
        Value::Array(items) => list(out, items, value),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let mut object = Object::begin(out);
            for (key, item) in entries {
                object.field(key, |out| value(out, item));
            }
            object.end();
        }
    }
}

/// Appends an array.
pub fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut one: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (n, item) in items.into_iter().enumerate() {
        if n != 0 {
            out.push(b',');
        }
        one(out, item);
    }
    out.push(b']');
}

/// An object being written.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes a field.
    pub fn field(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        string(self.out, key);
        self.out.push(b':');
        write(self.out);
    }

    /// Writes a string.
    pub fn text(&mut self, key: &str, text: &str) {
        self.field(key, |out| string(out, text));
    }

    /// Writes a string unless it is empty.
    pub fn text_unless_empty(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.text(key, text);
        }
    }

    /// Writes something as a string if it is there.
    pub fn shown(&mut self, key: &str, shown: Option<&impl ToString>) {
        if let Some(shown) = shown {
            self.text(key, &shown.to_string());
        }
    }

    /// Writes a number unless it is 0.
    pub fn number(&mut self, key: &str, number: i64) {
        if number != 0 {
            self.field(key, |out| out.extend(number.to_string().as_bytes()));
        }
    }

    /// Writes an array unless it is empty.
    pub fn list<T>(&mut self, key: &str, items: &[T], mut one: impl FnMut(&mut Vec<u8>, &T)) {
        if !items.is_empty() {
            self.field(key, |out| list(out, items, &mut one));
        }
    }

    /// Writes an array of strings unless it is empty.
    pub fn texts(&mut self, key: &str, texts: &[String]) {
        self.list(key, texts, |out, text| string(out, text));
    }

    /// Ends the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_go_does() {
        let mut out = Vec::new();
        string(&mut out, "a<b>&\"\\\n\r\t\u{8}\u{1f}\u{7f}\u{2028}\u{2029}é\u{1f600}");
        let expected =
            r#""a\u003cb\u003e\u0026\"\\\n\r\t\u0008\u001f"#.to_owned() + "\u{7f}" + r"\u2028\u2029é😀" + "\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
