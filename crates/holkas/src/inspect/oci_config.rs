//! An image config as OCI has it: what `inspect --config` shows. Fields outside OCI are dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::template::value::{Element, Go};
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

    /// Returns it as Go's OCI types have it, for templates.
    pub(super) fn to_go(&self) -> Result<Go> {
        let strings = |list: &Option<Vec<String>>| Go::texts(list.as_deref());
        let value = |part: serde_json::Result<Value>| part.map_err(|error| Error::invalid(error.to_string()));
        let set = |set: &Option<BTreeMap<String, Nothing>>| {
            let entries =
                |set: &BTreeMap<String, Nothing>| set.keys().map(|key| (key.clone(), Go::empty_struct())).collect();
            Go::Map(set.as_ref().map(entries), Element::EmptyStruct)
        };
        let run = self.config.clone().unwrap_or_default();
        let run_fields = vec![
            ("User", Go::text(&run.user)),
            ("ExposedPorts", set(&run.exposed_ports)),
            ("Env", strings(&run.env)),
            ("Entrypoint", strings(&run.entrypoint)),
            ("Cmd", strings(&run.cmd)),
            ("Volumes", set(&run.volumes)),
            ("WorkingDir", Go::text(&run.working_dir)),
            ("Labels", Go::labels(&run.labels)),
            ("StopSignal", Go::text(&run.stop_signal)),
            ("ArgsEscaped", Go::Bool(run.args_escaped.unwrap_or_default())),
        ];
        let root = self.rootfs.clone().unwrap_or_default();
        let root_fields = vec![("Type", Go::text(&root.kind)), ("DiffIDs", strings(&root.diff_ids))];
        let step = |step: &Step| -> Result<Go> {
            let fields = vec![
                ("Created", Go::Time(step.created.clone())),
                ("CreatedBy", Go::text(&step.created_by)),
                ("Author", Go::text(&step.author)),
                ("Comment", Go::text(&step.comment)),
                ("EmptyLayer", Go::Bool(step.empty_layer.unwrap_or_default())),
            ];
            Ok(Go::Struct(fields, value(serde_json::to_value(step))?))
        };
        let history = self.history.as_ref().map(|steps| steps.iter().map(step).collect::<Result<_>>()).transpose()?;
        let fields = vec![
            ("Created", Go::Time(self.created.clone())),
            ("Author", Go::text(&self.author)),
            ("Architecture", Go::text(&self.architecture)),
            ("Variant", Go::text(&self.variant)),
            ("OS", Go::text(&self.os)),
            ("OSVersion", Go::text(&self.os_version)),
            ("OSFeatures", strings(&self.os_features)),
            ("Config", Go::Struct(run_fields, value(serde_json::to_value(&run))?)),
            ("RootFS", Go::Struct(root_fields, value(serde_json::to_value(&root))?)),
            ("History", Go::List(history)),
        ];
        Ok(Go::Struct(fields, value(serde_json::to_value(self))?))
    }
}
