//! A JSON object that is changed in one place, while the bytes of all other values and the order of keys stay.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::ser::PrettyFormatter;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// An object, its keys in the order of the file.
#[derive(Default)]
pub(super) struct Object(Vec<(String, Field)>);

/// A value: as it was in the file, or a part that we know.
pub(super) enum Field {
    Raw(Box<RawValue>),
    Text(String),
    Object(Object),
}

impl Object {
    /// Parses bytes that the strict parser has taken before: no key is there twice.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        // What serde would say may hold a part of the file.
        serde_json::from_slice(bytes).map_err(|_| Error::invalid("it is not an object"))
    }

    /// Returns the object under a key, parsed, putting an empty one there if it is missing or null.
    pub(super) fn object(&mut self, key: &str) -> Result<&mut Self> {
        let at = match self.0.iter().position(|(name, _)| name == key) {
            Some(at) => at,
            None => {
                self.0.push((key.to_owned(), Field::Object(Self::default())));
                self.0.len() - 1
            }
        };
        let field = &mut self.0[at].1;
        if let Field::Raw(raw) = field {
            let parsed = if raw.get() == "null" { Self::default() } else { Self::parse(raw.get().as_bytes())? };
            *field = Field::Object(parsed);
        }
        match field {
            Field::Object(object) => Ok(object),
            Field::Raw(_) | Field::Text(_) => Err(Error::invalid(format!("`{key}` is not an object"))),
        }
    }

    /// Sets a value in its old place, or at the end.
    pub(super) fn set(&mut self, key: &str, field: Field) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = field,
            None => self.0.push((key.to_owned(), field)),
        }
    }

    /// Removes all for which this holds, and returns whether there were any.
    pub(super) fn remove(&mut self, mut which: impl FnMut(&str) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|(key, _)| !which(key));
        self.0.len() < before
    }

    /// Returns the document, laid out as podman and docker do.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"\t"));
        self.serialize(&mut serializer).map_err(|_| Error::invalid("it cannot be written as JSON"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, field)| (key, field)))
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw(raw) => raw.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, raw)) = entries.next_entry::<String, Box<RawValue>>()? {
                    fields.push((key, Field::Raw(raw)));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
