//! An OCI config as Go's types have it, for templates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::template::value::{Element, Go};
use crate::error::{Error, Result};
use crate::oci::oci_config::{Nothing, OciConfig, Step};

impl OciConfig {
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
