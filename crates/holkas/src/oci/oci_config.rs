//! An image config as OCI has it: what `inspect --config` shows, and what skopeo makes of Docker's.
//!
//! Other fields are dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::error::{Error, Result};

/// An image config, its fields in the order in which skopeo prints them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OciConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) author: Option<String>,
    #[serde(default)]
    pub(crate) architecture: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) variant: Option<String>,
    #[serde(default)]
    pub(crate) os: Option<String>,
    #[serde(rename = "os.version", default, skip_serializing_if = "is_empty")]
    pub(crate) os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "is_none_or_empty")]
    pub(crate) os_features: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) config: Option<Run>,
    #[serde(default)]
    pub(crate) rootfs: Option<RootFs>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    pub(crate) history: Option<Vec<Step>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Run {
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty_map")]
    pub(crate) exposed_ports: Option<BTreeMap<String, Nothing>>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "none_or_empty_map")]
    pub(crate) volumes: Option<BTreeMap<String, Nothing>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty_map")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) stop_signal: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) args_escaped: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) created_by: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) author: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) comment: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) empty_layer: Option<bool>,
}

/// `{}`, whatever was there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(from = "Value")]
pub(crate) struct Nothing {}

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
        let time = |text: &mut Option<String>| *text = text.take().map(|t| go_time(&t));
        time(&mut config.created);
        config.history.iter_mut().flatten().for_each(|step| time(&mut step.created));
        config.architecture.get_or_insert_default();
        config.os.get_or_insert_default();
        config.config.get_or_insert_default();
        config.rootfs.get_or_insert_default().kind.get_or_insert_default();
        Ok(config)
    }

    /// Returns the bytes that skopeo writes for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string(self).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(json::go_escaped(&text).into_bytes())
    }
}

/// Writes an RFC 3339 time as Go writes it again: no zeros at the end of a fraction, `Z` for UTC.
pub(crate) fn go_time(text: &str) -> String {
    let zone = text.rfind(['Z', '+', '-']).filter(|at| *at > 10).unwrap_or(text.len());
    let (time, zone) = text.split_at(zone);
    let time = if time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { time };
    format!("{time}{}", if zone == "+00:00" { "Z" } else { zone })
}
