//! Where a requirement has its keys from: one file, several, or the policy itself.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::requirements::text;
use crate::error::{Context, Error, Result};
use crate::fs;
use crate::limits::KEYS;

/// Keys, as a policy names them. Files are read when they are needed, so that they may change while it is in use.
#[derive(Debug, Clone)]
pub(super) enum Keys {
    /// `keyPath` and `keyPaths`.
    Files(Vec<PathBuf>),
    /// `keyData` and `keyDatas`.
    Data(Vec<Vec<u8>>),
}

impl Keys {
    /// Reads exactly one of the three keys of `signedBy`. A list may be empty there, as in containers/image: then no
    /// signature is accepted.
    pub(super) fn parse(fields: &Map<String, Value>) -> Result<Self> {
        Self::one_of(fields, &["keyPath", "keyPaths", "keyData"])?
            .ok_or_else(|| Error::invalid("exactly one of `keyPath`, `keyPaths` and `keyData` must be there"))
    }

    /// Reads at most one of some keys, whose endings say what they hold: `Path`, `Paths`, `Data` or `Datas`.
    ///
    /// # Errors
    ///
    /// `Invalid` if there are several, or if a list is empty.
    pub(super) fn parse_one_of(fields: &Map<String, Value>, names: &[&str]) -> Result<Option<Self>> {
        let is_empty = |name: &&&str| fields.get(**name).and_then(Value::as_array).is_some_and(Vec::is_empty);
        match names.iter().find(is_empty) {
            Some(name) => Err(Error::invalid(format!("`{name}`: the list is empty"))),
            None => Self::one_of(fields, names),
        }
    }

    fn one_of(fields: &Map<String, Value>, names: &[&str]) -> Result<Option<Self>> {
        let mut given = names.iter().filter_map(|name| fields.get_key_value(*name));
        let Some((name, value)) = given.next() else { return Ok(None) };
        if given.next().is_some() {
            return Err(Error::invalid(format!("only one of `{}` may be there", names.join("`, `"))));
        }
        let keys = if name.ends_with("Path") {
            Ok(Self::Files(vec![text(fields, name)?.into()]))
        } else if name.ends_with("Paths") {
            strings(value).map(|paths| Self::Files(paths.into_iter().map(PathBuf::from).collect()))
        } else if name.ends_with("Data") {
            base64(text(fields, name)?).map(|data| Self::Data(vec![data]))
        } else {
            strings(value).and_then(|texts| texts.into_iter().map(base64).collect::<Result<_>>()).map(Self::Data)
        };
        keys.context(|| format!("`{name}`")).map(Some)
    }

    /// Returns what the files hold.
    pub(super) fn read(&self) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Data(data) => Ok(data.clone()),
            Self::Files(paths) => paths
                .iter()
                .map(|path| {
                    fs::read_file(path, KEYS)
                        .and_then(|bytes| bytes.ok_or_else(|| Error::invalid("no such file")))
                        .context(|| format!("reading keys `{}`, which the policy names", fs::display(path)))
                })
                .collect(),
        }
    }
}

fn strings(value: &Value) -> Result<Vec<&str>> {
    let list = value.as_array().ok_or_else(|| Error::invalid("not a list of strings"))?;
    list.iter().map(|value| value.as_str().ok_or_else(|| Error::invalid("one of the list is not a string"))).collect()
}

fn base64(text: &str) -> Result<Vec<u8>> {
    // Go's decoder passes over line feeds.
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).map_err(|error| Error::invalid(format!("not base64: {error}")))
}
