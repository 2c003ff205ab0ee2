//! An image config as OCI has it: what `inspect --config` shows. Fields outside OCI are dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::oci::json;

/// An image config, its fields in the order in which skopeo prints them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OciConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    author: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    variant: Option<String>,
    #[serde(default)]
    os: Option<String>,
    #[serde(rename = "os.version", default, skip_serializing_if = "is_empty")]
    os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "is_none_or_empty")]
    os_features: Option<Vec<String>>,
    #[serde(default)]
    config: Option<Run>,
    #[serde(default)]
    rootfs: Option<RootFs>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    history: Option<Vec<Step>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    #[serde(default, skip_serializing_if = "is_empty")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty_map")]
    exposed_ports: Option<BTreeMap<String, Nothing>>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "none_or_empty_map")]
    volumes: Option<BTreeMap<String, Nothing>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty_map")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    stop_signal: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    args_escaped: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct RootFs {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    created_by: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    author: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    comment: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    empty_layer: Option<bool>,
}

/// `{}`, whatever was there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(from = "Value")]
struct Nothing {}

impl From<Value> for Nothing {
    fn from(_: Value) -> Self {
        Self {}
    }
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

fn is_none_or_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_deref().is_none_or(<[T]>::is_empty)
}

fn none_or_empty_map<T>(map: &Option<BTreeMap<String, T>>) -> bool {
    map.as_ref().is_none_or(BTreeMap::is_empty)
}

fn is_false(flag: &Option<bool>) -> bool {
    !flag.unwrap_or_default()
}

impl OciConfig {
    /// Parses a config strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let fields = json::parse_object(bytes)?;
        let mut config: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|error| Error::invalid(format!("not an image config: {error}")))?;
        let time = |text: &mut Option<String>| {
            *text = text.take().filter(|t| !t.starts_with("0001-01-01T00:00:00Z")).map(|t| super::go_time(&t))
        };
        time(&mut config.created);
        config.history.iter_mut().flatten().for_each(|step| time(&mut step.created));
        config.architecture.get_or_insert_default();
        config.os.get_or_insert_default();
        config.config.get_or_insert_default();
        config.rootfs.get_or_insert_default().kind.get_or_insert_default();
        Ok(config)
    }
}
