//! What osbuild gives to a stage: tree, inputs, options and meta, from the file `/run/osbuild/api/arguments`.

use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, Result, printable};
use holkas::fs::{display, read_file};
use holkas::limits::STAGE_ARGUMENTS;
use holkas::oci::json::parse_object;
use serde_json::{Map, Value};

use crate::environment;

/// Where osbuild puts the arguments.
const FILE: &str = "/run/osbuild/api/arguments";
/// The year 9999 is the last that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// The arguments of a stage.
#[derive(Debug)]
pub(super) struct Arguments {
    /// The tree to work on.
    pub(super) tree: PathBuf,
    /// The inputs by their names.
    pub(super) inputs: Object,
    /// The options.
    pub(super) options: Object,
    /// The time for everything that nothing else gives a time, in seconds since 1970.
    pub(super) clock: i64,
}

impl Arguments {
    /// Reads the arguments.
    pub(super) fn read() -> Result<Self> {
        let path = Path::new(FILE);
        let frame = || format!("reading the arguments `{FILE}`");
        let bytes = read_file(path, STAGE_ARGUMENTS)?
            .ok_or_else(|| Error::not_found("no such file"))
            .context(frame)
            .map_err(|error| error.hint("a stage is started by osbuild, which puts its arguments there"))?;
        Self::parse(&bytes).context(frame)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let all = Object::new("the arguments", parse_object(bytes)?);
        let tree = PathBuf::from(all.required_text("tree")?);
        if !tree.is_absolute() {
            return Err(Error::invalid(format!("`tree` is `{}`, which is not an absolute path", display(&tree))));
        }
        Ok(Self {
            tree,
            inputs: all.object("inputs")?.unwrap_or_else(|| Object::new("`inputs`", Map::new())),
            options: all.object("options")?.unwrap_or_else(|| Object::new("`options`", Map::new())),
            clock: clock(&all)?,
        })
    }
}

/// Returns the time of the pipeline: `meta.source-epoch`, from which osbuild also makes `SOURCE_DATE_EPOCH`;
/// that variable alone where a stage is started without meta; else 1970.
fn clock(arguments: &Object) -> Result<i64> {
    let meta = arguments.object("meta")?;
    match meta.as_ref().and_then(|meta| meta.fields.get("source-epoch")) {
        None | Some(Value::Null) => Ok(environment::source_date_epoch()?.unwrap_or(0)),
        Some(value) => value.as_i64().filter(|seconds| (0..=LAST_SECOND).contains(seconds)).ok_or_else(|| {
            Error::invalid(format!(
                "`source-epoch` of `meta` is {}, which is not a number of seconds since 1970 up to the year 9999",
                printable(value.to_string().as_bytes())
            ))
        }),
    }
}

/// A JSON object whose fields are taken by type.
#[derive(Debug, Clone)]
pub(super) struct Object {
    what: String,
    pub(super) fields: Map<String, Value>,
}

impl Object {
    /// `what` stands for the object in errors.
    pub(super) fn new(what: &str, fields: Map<String, Value>) -> Self {
        Self { what: what.to_string(), fields }
    }

    /// Refuses fields that nobody would read.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        match self.fields.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Error::invalid(format!("unknown key `{}` in {}", printable(key.as_bytes()), self.what))
                .hint(format!("the keys are {}", known.join(", ")))),
        }
    }

    fn field(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, wanted: &str) -> Error {
        Error::invalid(format!("`{}` in {} is not {wanted}", printable(key.as_bytes()), self.what))
    }

    /// Returns a string.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.field(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// Returns a string that must be there, and not be empty.
    pub(super) fn required_text(&self, key: &str) -> Result<&str> {
        match self.text(key)? {
            None => Err(Error::invalid(format!("`{key}` is missing in {}", self.what))),
            Some("") => Err(Error::invalid(format!("`{key}` in {} is empty", self.what))),
            Some(text) => Ok(text),
        }
    }

    /// Returns a list of strings.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        let wrong = || self.wrong(key, "a list of strings");
        match self.field(key) {
            None => Ok(None),
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().map(str::to_string).ok_or_else(wrong))
                .collect::<Result<_>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }

    /// Returns a boolean; what is not given is false.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.field(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// Returns an object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>> {
        match self.field(key) {
            None => Ok(None),
            Some(Value::Object(fields)) => {
                Ok(Some(Self::new(&format!("`{}`", printable(key.as_bytes())), fields.clone())))
            }
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// Returns an object that must be there.
    pub(super) fn required_object(&self, key: &str) -> Result<Self> {
        self.object(key)?.ok_or_else(|| Error::invalid(format!("`{key}` is missing in {}", self.what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_osbuild_writes_them() {
        let text = br#"{"tree":"/run/osbuild/tree","paths":{"devices":"/dev"},"devices":{},"inputs":{"images":{}},
            "mounts":{},"options":{"a":["b"]},"meta":{"id":"x","source-epoch":1700000000}}"#;
        let arguments = Arguments::parse(text).expect("they are as osbuild writes them");
        assert_eq!(arguments.tree, Path::new("/run/osbuild/tree"));
        assert_eq!(arguments.clock, 1_700_000_000);
        assert_eq!(arguments.options.texts("a").expect("a list of texts").expect("it is there"), ["b"]);
        assert!(arguments.inputs.object("images").expect("an object").is_some());
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (text, message) in [
            ("[]", "an array, not an object"),
            ("{}", "`tree` is missing in the arguments"),
            (r#"{"tree":"x"}"#, "not an absolute path"),
            (r#"{"tree":7}"#, "`tree` in the arguments is not a string"),
            (r#"{"tree":"/t","options":[]}"#, "`options` in the arguments is not an object"),
            (r#"{"tree":"/t","meta":{"source-epoch":-1}}"#, "`source-epoch` of `meta` is -1"),
            (r#"{"tree":"/t","meta":{"source-epoch":1.5}}"#, "`source-epoch` of `meta` is 1.5"),
        ] {
            let error = Arguments::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
