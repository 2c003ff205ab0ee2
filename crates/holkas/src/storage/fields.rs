//! Takes typed fields out of a JSON object, leaving those that we do not know.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Context, Error, Result, printable};
use crate::oci::Digest;

/// The fields of an object that are not yet taken.
///
/// `null` counts as absent, as it does for Go.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Takes an object.
    pub fn new(value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(Error::invalid("it is not an object")),
        }
    }

    /// Takes a field; `None` if it is absent or null.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Takes a field and reads it; what is absent is the default.
    fn read<T: Default>(&mut self, key: &str, what: &str, read: impl FnOnce(Value) -> Option<T>) -> Result<T> {
        match self.take(key) {
            Some(value) => read(value).ok_or_else(|| Error::invalid(format!("`{key}` is not {what}"))),
            None => Ok(T::default()),
        }
    }

    /// Takes a string.
    pub fn text(&mut self, key: &str) -> Result<String> {
        self.read(key, "a string", text)
    }

    /// Takes a list of strings.
    pub fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        self.read(key, "a list of strings", |value| each(value, text))
    }

    /// Takes an integer.
    pub fn integer(&mut self, key: &str) -> Result<i64> {
        self.read(key, "an integer", |value| value.as_i64())
    }

    /// Takes a list of 32-bit integers.
    pub fn ids(&mut self, key: &str) -> Result<Vec<u32>> {
        self.read(key, "a list of numbers of 32 bits", |value| each(value, id))
    }

    /// Takes a digest; the empty string counts as absent.
    pub fn digest(&mut self, key: &str) -> Result<Option<Digest>> {
        match self.text(key)?.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).context(|| format!("reading `{key}`")),
        }
    }

    /// Takes an object as it is.
    pub fn object(&mut self, key: &str) -> Result<Map<String, Value>> {
        self.read(key, "an object", |value| match value {
            Value::Object(map) => Some(map),
            _ => None,
        })
    }

    /// Takes an object of integers.
    pub fn integers(&mut self, key: &str) -> Result<BTreeMap<String, i64>> {
        let number = |(name, value): (String, Value)| {
            let number = value.as_i64().ok_or_else(|| not(key, &name, "an integer"))?;
            Ok((name, number))
        };
        self.object(key)?.into_iter().map(number).collect()
    }

    /// Takes an object of digests.
    pub fn digests(&mut self, key: &str) -> Result<BTreeMap<String, Digest>> {
        let digest = |(name, value): (String, Value)| {
            let text = value.as_str().ok_or_else(|| not(key, &name, "a string"))?;
            let digest = text.parse().context(|| format!("reading `{}` of `{key}`", printable(name.as_bytes())))?;
            Ok((name, digest))
        };
        self.object(key)?.into_iter().map(digest).collect()
    }

    /// Takes a list of objects.
    pub fn each<T>(&mut self, key: &str, one: impl Fn(&mut Fields) -> Result<T>) -> Result<Vec<T>> {
        let items = self.read(key, "a list", |value| each(value, Some))?;
        let item =
            |value| Fields::new(value).and_then(|mut fields| one(&mut fields)).context(|| format!("reading `{key}`"));
        items.into_iter().map(item).collect()
    }

    /// Returns what was not taken. A key that differs from one of `known` in case only is refused:
    /// Go would take it for the same.
    pub fn rest(self, known: &[&str]) -> Result<Map<String, Value>> {
        match self.0.keys().find(|key| known.iter().any(|known| known.eq_ignore_ascii_case(key))) {
            Some(key) => {
                Err(Error::invalid(format!("the key `{}` is not spelled in lower case", printable(key.as_bytes()))))
            }
            None => Ok(self.0),
        }
    }
}

fn not(key: &str, name: &str, what: &str) -> Error {
    Error::invalid(format!("`{}` of `{key}` is not {what}", printable(name.as_bytes())))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn id(value: Value) -> Option<u32> {
    value.as_u64().and_then(|id| id.try_into().ok())
}

fn each<T>(value: Value, one: impl Fn(Value) -> Option<T>) -> Option<Vec<T>> {
    match value {
        Value::Array(items) => items.into_iter().map(one).collect(),
        _ => None,
    }
}
