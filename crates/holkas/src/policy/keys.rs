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
    /// `keyData`.
    Data(Vec<u8>),
}

impl Keys {
    /// Reads exactly one of the three keys of a requirement.
    pub(super) fn parse(fields: &Map<String, Value>) -> Result<Self> {
        let given: Vec<_> =
            ["keyPath", "keyPaths", "keyData"].into_iter().filter(|key| fields.contains_key(*key)).collect();
        match given.as_slice() {
            ["keyPath"] => Ok(Self::Files(vec![text(fields, "keyPath")?.into()])),
            ["keyPaths"] => paths(&fields["keyPaths"]).map(Self::Files).context(|| "`keyPaths`"),
            ["keyData"] => base64(text(fields, "keyData")?).map(Self::Data).context(|| "`keyData`"),
            _ => Err(Error::invalid("exactly one of `keyPath`, `keyPaths` and `keyData` must be there")),
        }
    }

    /// Returns what the files hold.
    pub(super) fn read(&self) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Data(data) => Ok(vec![data.clone()]),
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

fn paths(value: &Value) -> Result<Vec<PathBuf>> {
    let list = value.as_array().ok_or_else(|| Error::invalid("not a list of paths"))?;
    let path =
        |value: &Value| value.as_str().map(PathBuf::from).ok_or_else(|| Error::invalid("a path is not a string"));
    list.iter().map(path).collect()
}

fn base64(text: &str) -> Result<Vec<u8>> {
    // Go's decoder passes over line feeds.
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).map_err(|error| Error::invalid(format!("not base64: {error}")))
}
