//! Configs that a Docker before 1.8.3 has written: docker and containers/image read them into their own structures and
//! write those, so that an image's ID depends on the fields that these have.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::steps;
use crate::error::{Error, Result};

/// `Schema2V1Image` of containers/image.
#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Old {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    comment: String,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    container: String,
    #[serde(deserialize_with = "nullable")]
    container_config: OldConfig,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    docker_version: String,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    author: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<OldConfig>,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    architecture: String,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    os: String,
}

/// `Schema2Config` of containers/image.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct OldConfig {
    #[serde(deserialize_with = "nullable")]
    hostname: String,
    #[serde(deserialize_with = "nullable")]
    domainname: String,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    attach_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stdout: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    exposed_ports: BTreeMap<String, Nothing>,
    #[serde(deserialize_with = "nullable")]
    tty: bool,
    #[serde(deserialize_with = "nullable")]
    open_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    stdin_once: bool,
    env: Option<Vec<String>>,
    cmd: Option<Words>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Health>,
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "nullable")]
    args_escaped: bool,
    #[serde(deserialize_with = "nullable")]
    image: String,
    volumes: Option<BTreeMap<String, Nothing>>,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    entrypoint: Option<Words>,
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "nullable")]
    network_disabled: bool,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    mac_address: String,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "nullable")]
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "none_of")]
    shell: Option<Words>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Health {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    interval: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    timeout: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    start_period: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    retries: i64,
}

/// `{}`, whatever was there.
#[derive(Serialize, Deserialize)]
#[serde(from = "Value")]
struct Nothing {}

impl From<Value> for Nothing {
    fn from(_: Value) -> Self {
        Self {}
    }
}

/// Words of a command, or a single one.
#[derive(Serialize)]
#[serde(transparent)]
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Many(Vec<String>),
            One(String),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Many(words) => words,
            Either::One(word) => vec![word],
        }))
    }
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn none_of(words: &Option<Words>) -> bool {
    words.as_ref().is_none_or(|words| words.0.is_empty())
}

/// Returns a history entry as a Docker since 1.8.3 would have written it.
pub(super) fn modern(text: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Version {
        docker_version: Option<String>,
    }
    let invalid = |error: serde_json::Error| Error::invalid(error.to_string());
    let version: Version = serde_json::from_str(text).map_err(invalid)?;
    match version.docker_version.filter(|version| !version.is_empty()) {
        Some(version) if is_before(&version, &[1, 8, 3]) => {}
        Some(_) | None => return Ok(text.to_string()),
    }
    let mut old: Old = serde_json::from_str(text).map_err(invalid)?;
    old.created = Some(steps::time(old.created.take())?);
    serde_json::to_string(&old).map_err(invalid)
}

/// Returns whether a version is a lower one. As in Docker, what is no number counts as 0, and what is missing, too.
fn is_before(version: &str, other: &[u64]) -> bool {
    let own: Vec<u64> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    let longest = own.len().max(other.len());
    let padded =
        |list: &[u64]| -> Vec<u64> { list.iter().copied().chain(std::iter::repeat(0)).take(longest).collect() };
    padded(&own) < padded(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, before) in [
            ("1.8.2", true),
            ("1.8.3", false),
            ("1.10.0", false),
            ("1.8", true),
            ("0.9.1-dev", true),
            ("20.10.1", false),
        ] {
            assert_eq!(is_before(version, &[1, 8, 3]), before, "{version}");
        }
    }
}
