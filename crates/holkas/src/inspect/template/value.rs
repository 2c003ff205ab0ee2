//! A value as Go has it, because Go prints by type.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json;
use crate::error::Result;
use crate::inspect::{Inspection, LayerData};

#[derive(Debug, Clone, PartialEq)]
pub(in crate::inspect) enum Go {
    Text(String),
    Number(i64),
    Bool(bool),
    Time(Option<String>),
    /// `None` is nil: printed as an empty one, but `null` in JSON.
    List(Option<Vec<Go>>),
    Map(Option<BTreeMap<String, Go>>, Element),
    /// The fields in Go's order, and the whole as JSON.
    Struct(Vec<(&'static str, Go)>, Value),
    NoValue,
}

/// What a map holds, and so what `index` gives for a key that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inspect) enum Element {
    Text,
    EmptyStruct,
}

impl Element {
    pub(super) fn zero(self) -> Go {
        match self {
            Self::Text => Go::Text(String::new()),
            Self::EmptyStruct => Go::empty_struct(),
        }
    }
}

impl Go {
    pub(in crate::inspect) fn text(text: &Option<String>) -> Self {
        Self::Text(text.clone().unwrap_or_default())
    }

    pub(in crate::inspect) fn texts(texts: Option<&[String]>) -> Self {
        Self::List(texts.map(|texts| texts.iter().cloned().map(Go::Text).collect()))
    }

    pub(in crate::inspect) fn labels(map: &Option<BTreeMap<String, String>>) -> Self {
        let entries =
            |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| (k.clone(), Go::Text(v.clone()))).collect();
        Self::Map(map.as_ref().map(entries), Element::Text)
    }

    pub(in crate::inspect) fn empty_struct() -> Self {
        Self::Struct(Vec::new(), Value::Object(serde_json::Map::new()))
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0,
            Self::Bool(flag) => *flag,
            Self::Time(time) => time.is_some(),
            Self::List(items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Self::Map(map, _) => map.as_ref().is_some_and(|map| !map.is_empty()),
            Self::Struct(..) => true,
            Self::NoValue => false,
        }
    }

    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Time(_) => "a time",
            Self::List(_) => "a list",
            Self::Map(..) => "a map",
            Self::Struct(..) => "a struct",
            Self::NoValue => "nothing",
        }
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(number) => (*number).into(),
            Self::Bool(flag) => (*flag).into(),
            Self::Time(time) => time.clone().into(),
            Self::List(items) => items.as_ref().map(|items| items.iter().map(Self::json).collect::<Value>()).into(),
            Self::Map(None, _) => Value::Null,
            Self::Map(Some(map), _) => Value::Object(map.iter().map(|(k, v)| (k.clone(), v.json())).collect()),
            Self::Struct(_, json) => json.clone(),
            Self::NoValue => Value::Null,
        }
    }
}

impl std::fmt::Display for Go {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let joined = |items: Vec<String>| items.join(" ");
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Time(None) => f.write_str("<nil>"),
            Self::Time(Some(time)) => f.write_str(&go_time_string(time)),
            Self::List(items) => {
                write!(f, "[{}]", joined(items.iter().flatten().map(Self::to_string).collect()))
            }
            Self::Map(map, _) => {
                write!(f, "map[{}]", joined(map.iter().flatten().map(|(k, v)| format!("{k}:{v}")).collect()))
            }
            Self::Struct(fields, _) => write!(f, "{{{}}}", joined(fields.iter().map(|(_, v)| v.to_string()).collect())),
            Self::NoValue => f.write_str("<no value>"),
        }
    }
}

/// Writes a time as Go's `Time.String` does: `2006-01-02 15:04:05.9 +0000 UTC`.
fn go_time_string(time: &str) -> String {
    let at = time.rfind(['Z', '+', '-']).filter(|at| *at > 10).unwrap_or(time.len());
    let zone = match &time[at..] {
        "" | "Z" => "+0000 UTC".to_string(),
        offset => {
            let offset = offset.replace(':', "");
            format!("{offset} {offset}")
        }
    };
    format!("{} {zone}", time[..at].replace('T', " "))
}

pub(super) fn of_inspection(inspection: &Inspection) -> Result<Go> {
    let layer = |layer: &LayerData| -> Result<Go> {
        let fields = vec![
            ("MIMEType", Go::Text(layer.media_type.clone())),
            ("Digest", Go::Text(layer.digest.to_string())),
            ("Size", Go::Number(layer.size)),
            ("Annotations", Go::labels(&layer.annotations)),
        ];
        Ok(Go::Struct(fields, json(layer)?))
    };
    let layers = inspection.layers_data.iter().map(layer).collect::<Result<_>>()?;
    let fields = vec![
        ("Name", Go::text(&inspection.name)),
        ("Tag", Go::text(&inspection.tag)),
        ("Digest", Go::Text(inspection.digest.to_string())),
        ("RepoTags", Go::texts(Some(&inspection.repo_tags))),
        ("Created", Go::Time(inspection.created.clone())),
        ("DockerVersion", Go::Text(inspection.docker_version.clone())),
        ("Labels", Go::labels(&inspection.labels)),
        ("Architecture", Go::Text(inspection.architecture.clone())),
        ("Os", Go::Text(inspection.os.clone())),
        ("Layers", Go::texts(Some(&inspection.layers))),
        ("LayersData", Go::List(Some(layers))),
        ("Env", Go::texts(inspection.env.as_deref())),
        ("Author", Go::text(&inspection.author)),
    ];
    Ok(Go::Struct(fields, json(inspection)?))
}
