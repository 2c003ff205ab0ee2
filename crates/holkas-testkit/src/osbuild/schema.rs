//! As much of JSON schema, draft 4, as the modules of osbuild need: whether a document is valid.

use regex_lite::Regex;
use serde_json::Value;

/// Returns why a document is not valid; nothing if it is.
///
/// A keyword that it does not know is a fault, too.
pub fn faults(schema: &Value, document: &Value) -> Vec<String> {
    check(schema, schema, document, "$")
}

fn check(root: &Value, schema: &Value, document: &Value, at: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        let mut wrong = |what: String| faults.push(format!("{at}: {what}"));
        match keyword.as_str() {
            "description" | "default" | "definitions" | "patternProperties" => {}
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).expect("a local reference");
                let referred = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"));
                faults.extend(check(root, referred, document, at));
            }
            "type" if !is_of(document, wanted) => wrong(format!("is no {wanted}")),
            "enum" if !list(wanted).contains(document) => wrong(format!("is none of {wanted}")),
            "pattern" => match document.as_str() {
                Some(text) if !pattern(wanted).is_match(text) => wrong(format!("does not match {wanted}")),
                _ => {}
            },
            "required" => {
                if let Some(object) = document.as_object() {
                    for key in list(wanted).iter().filter_map(Value::as_str).filter(|key| !object.contains_key(*key)) {
                        wrong(format!("lacks {key}"));
                    }
                }
            }
            "minProperties" if document.as_object().is_some_and(|o| (o.len() as u64) < number(wanted)) => {
                wrong("has too few members".into());
            }
            "minItems" if document.as_array().is_some_and(|a| (a.len() as u64) < number(wanted)) => {
                wrong("has too few items".into());
            }
            "items" => {
                for (n, item) in document.as_array().into_iter().flatten().enumerate() {
                    faults.extend(check(root, wanted, item, &format!("{at}[{n}]")));
                }
            }
            "properties" | "additionalProperties" => {}
            "oneOf" => {
                let fitting = list(wanted).iter().filter(|one| check(root, one, document, at).is_empty()).count();
                if fitting != 1 {
                    wrong(format!("fits {fitting} of the alternatives"));
                }
            }
            "type" | "enum" | "minProperties" | "minItems" => {}
            other => wrong(format!("the schema has the keyword {other}")),
        }
    }
    for (key, value) in document.as_object().into_iter().flatten() {
        faults.extend(member(root, schema, key, value, &format!("{at}.{key}")));
    }
    faults
}

fn member(root: &Value, schema: &Value, key: &str, value: &Value, at: &str) -> Vec<String> {
    let mut known = false;
    let mut faults = Vec::new();
    if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(key)) {
        known = true;
        faults.extend(check(root, schema, value, at));
    }
    for (name, schema) in schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
        if Regex::new(name).expect("a pattern").is_match(key) {
            known = true;
            faults.extend(check(root, schema, value, at));
        }
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) if !known => faults.push(format!("{at}: is not expected")),
        Some(schema @ Value::Object(_)) if !known => faults.extend(check(root, schema, value, at)),
        _ => {}
    }
    faults
}

fn is_of(document: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("one type") {
        "object" => document.is_object(),
        "array" => document.is_array(),
        "string" => document.is_string(),
        "boolean" => document.is_boolean(),
        "number" => document.is_number(),
        other => panic!("the type {other}"),
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn pattern(value: &Value) -> Regex {
    Regex::new(value.as_str().expect("a string")).expect("a pattern")
}
