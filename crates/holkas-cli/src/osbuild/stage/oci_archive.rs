//! The stage `org.osbuild.oci-archive`: trees become the layers of an image, in an OCI archive in the tree.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holkas::build::{Recipe, TreeLayer, build_archive};
use holkas::error::{Context, Error, Result, printable};
use holkas::progress::Cancel;
use serde_json::{Map, Value, json};

use super::arguments::{Arguments, Object};
use super::{monitor, say};

/// The command that an image runs unless the options name one.
const COMMAND: &str = "sh";
/// The environment that it runs in.
const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the image.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let options = &arguments.options;
    options.only(&["architecture", "variant", "filename", "config", "annotations"])?;
    let layers = layers(&arguments.inputs).context(|| "reading the inputs")?;
    let names: Vec<String> = layers.iter().map(|(name, _)| name.clone()).collect();
    let recipe = Recipe {
        architecture: options.required_text("architecture")?.to_string(),
        variant: options.text("variant")?.filter(|variant| !variant.is_empty()).map(str::to_string),
        run: run_config(options.object("config")?.as_ref())?,
        annotations: texts(options.object("annotations")?.as_ref()).context(|| "reading `annotations`")?,
        created: arguments.clock,
        layers: layers
            .into_iter()
            .map(|(name, tree)| TreeLayer { tree, created_by: format!("osbuild input {name}") })
            .collect(),
    };
    let place = PathBuf::from(options.required_text("filename")?);
    let built = build_archive(&recipe, &arguments.tree, &place, &Cancel::default(), &*monitor())?;
    for (name, (blob, diff_id)) in names.iter().zip(&built.layers) {
        say(&format!("{name}: layer {}, {} bytes, diff {diff_id}", blob.digest, blob.size));
    }
    say(&format!("image {}, manifest {}", built.image_id, built.manifest_digest));
    Ok(())
}

/// Returns the layers' trees with the names of their inputs: `base`, then `layer.1` and so on, by their numbers.
fn layers(inputs: &Object) -> Result<Vec<(String, PathBuf)>> {
    let mut found = BTreeMap::new();
    for name in inputs.fields.keys() {
        let number = match name.strip_prefix("layer.") {
            // The schema has the names begin with another digit, so that no two of them are one number.
            Some(digits) if !digits.starts_with(['0', '+']) => digits.parse::<u64>().ok(),
            None if name == "base" => Some(0),
            Some(_) | None => None,
        };
        let number = number.ok_or_else(|| {
            Error::invalid(format!("no layer can be named `{}`", printable(name.as_bytes())))
                .hint("the inputs are `base`, `layer.1`, `layer.2` and so on")
        })?;
        let input = inputs.required_object(name)?;
        found.insert(number, (name.clone(), PathBuf::from(input.required_text("path")?)));
    }
    match found.contains_key(&0) {
        true => Ok(found.into_values().collect()),
        false => Err(Error::invalid("the input `base` is missing")),
    }
}

/// Returns the `config` of an image's config. What is empty is left out, but for the command and the environment,
/// which have defaults.
fn run_config(options: Option<&Object>) -> Result<Map<String, Value>> {
    let none = Object::new("`config`", Map::new());
    let options = options.unwrap_or(&none);
    options.only(&[
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "User",
        "Labels",
        "StopSiganl",
        "StopSignal",
        "Volumes",
        "WorkingDir",
    ])?;
    let mut config = Map::new();
    config.insert("Env".into(), json!(options.texts("Env")?.unwrap_or_else(|| vec![ENVIRONMENT.to_string()])));
    config.insert("Cmd".into(), json!(options.texts("Cmd")?.unwrap_or_else(|| vec![COMMAND.to_string()])));
    let mut put = |key: &str, value: Value, empty: bool| {
        if !empty {
            config.insert(key.to_string(), value);
        }
    };
    let entrypoint = options.texts("Entrypoint")?.unwrap_or_default();
    put("Entrypoint", json!(entrypoint), entrypoint.is_empty());
    for key in ["User", "WorkingDir"] {
        let text = options.text(key)?.unwrap_or_default();
        put(key, json!(text), text.is_empty());
    }
    let signal = stop_signal(options)?.unwrap_or_default();
    put("StopSignal", json!(signal), signal.is_empty());
    let labels = texts(options.object("Labels")?.as_ref()).context(|| "reading `Labels`")?;
    put("Labels", json!(labels), labels.is_empty());
    for key in ["ExposedPorts", "Volumes"] {
        let set: BTreeMap<String, Value> =
            options.texts(key)?.unwrap_or_default().into_iter().map(|item| (item, json!({}))).collect();
        put(key, json!(set), set.is_empty());
    }
    Ok(config)
}

/// Returns the signal that stops the image. The schema of osbuild knows it as `StopSiganl`.
fn stop_signal(options: &Object) -> Result<Option<&str>> {
    match (options.text("StopSignal")?, options.text("StopSiganl")?) {
        (Some(one), Some(other)) if one != other => {
            Err(Error::invalid("`StopSignal` and `StopSiganl` of `config` are not the same"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// Returns an object all of whose values are strings.
fn texts(object: Option<&Object>) -> Result<BTreeMap<String, String>> {
    let Some(object) = object else { return Ok(BTreeMap::new()) };
    object.fields.keys().map(|key| Ok((key.clone(), object.text(key)?.unwrap_or_default().to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::new("the test", value.as_object().expect("an object").clone())
    }

    #[test]
    fn layers_are_in_the_order_of_their_numbers() {
        let input = |path: &str| json!({"path": path, "data": {}});
        let inputs = object(json!({
            "layer.10": input("/ten"), "layer.2": input("/two"), "base": input("/base"), "layer.1": input("/one"),
        }));
        let names: Vec<String> =
            layers(&inputs).expect("they are in order").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["base", "layer.1", "layer.2", "layer.10"]);
        for wrong in
            ["layer.0", "layer.01", "layer.", "layer.+1", "layer.1x", "xlayer.1", "other", "layer.99999999999999999999"]
        {
            let error = layers(&object(json!({"base": input("/b"), wrong: input("/w")}))).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(
            layers(&object(json!({"layer.1": input("/x")}))).unwrap_err().to_string().contains("`base` is missing")
        );
        assert!(layers(&object(json!({"base": {}}))).unwrap_err().to_string().contains("`path` is missing in `base`"));
    }

    #[test]
    fn a_config_has_its_defaults_and_nothing_empty() {
        assert_eq!(
            Value::Object(run_config(None).expect("the defaults")),
            json!({"Env": [ENVIRONMENT], "Cmd": ["sh"]})
        );
        let all = object(json!({
            "Cmd": [], "Env": ["A=b"], "Entrypoint": ["/e"], "User": "", "WorkingDir": "/w", "StopSiganl": "SIGINT",
            "Labels": {"a": "b"}, "ExposedPorts": ["80/tcp", "443/tcp"], "Volumes": [],
        }));
        assert_eq!(
            Value::Object(run_config(Some(&all)).expect("a config")),
            json!({
                "Cmd": [], "Env": ["A=b"], "Entrypoint": ["/e"], "WorkingDir": "/w", "StopSignal": "SIGINT",
                "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
            })
        );
        for (wrong, message) in [
            (json!({"Cmd": "sh"}), "`Cmd` in the test is not a list of strings"),
            (json!({"Labels": {"a": 7}}), "`a` in `Labels` is not a string"),
            (json!({"Cmds": []}), "unknown key `Cmds`"),
            (json!({"StopSignal": "SIGINT", "StopSiganl": "SIGTERM"}), "not the same"),
        ] {
            let error = run_config(Some(&object(wrong))).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
