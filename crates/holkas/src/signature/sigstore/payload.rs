//! What a sigstore signature signs: which manifest, and what it is called.
//!
//! ```json
//! {"critical":{"identity":{"docker-reference":"example.com/app:1"},
//!              "image":{"docker-manifest-digest":"sha256:…"},
//!              "type":"cosign container image signature"},
//!  "optional":{"creator":"…","timestamp":1700000000}}
//! ```

use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Result, printable};
use crate::oci::{Digest, json as strict};

/// What all of these payloads say that they are.
const TYPE: &str = "cosign container image signature";

/// What a signature says. Whether anybody is to believe it, only its verification tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The manifest's digest.
    pub manifest: Digest,
    /// What the image is called; cosign leaves out the tag.
    pub identity: String,
}

impl Payload {
    /// Parses a payload.
    ///
    /// # Errors
    ///
    /// `Invalid` unless all fields are there, once, of their types, and no others: what is signed must be understood.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes).context(|| "reading what is signed")
    }

    /// Returns the payload as containers/image writes it; `time` is in seconds since 1970.
    pub fn to_json(&self, creator: &str, time: i64) -> Vec<u8> {
        let document = json!({
            "critical": {
                "identity": { "docker-reference": self.identity },
                "image": { "docker-manifest-digest": self.manifest.to_string() },
                "type": TYPE,
            },
            "optional": { "creator": creator, "timestamp": time },
        });
        strict::go_escaped(&document.to_string()).into_bytes()
    }
}

fn parse(bytes: &[u8]) -> Result<Payload> {
    let [critical, optional] = exactly(Value::Object(strict::parse_object(bytes)?), ["critical", "optional"])?;
    match optional {
        // cosign's own, when the user had nothing to say.
        Value::Null => {}
        Value::Object(optional) => check_optional(&optional)?,
        _ => return Err(Error::invalid("`optional` is not an object")),
    }
    let [kind, image, identity] = exactly(critical, ["type", "image", "identity"])?;
    match text(kind, "type")? {
        kind if kind == TYPE => {}
        other => {
            return Err(Error::invalid(format!("it is a `{}`, not a `{TYPE}`", printable(other.as_bytes()))));
        }
    }
    let [digest] = exactly(image, ["docker-manifest-digest"])?;
    let [reference] = exactly(identity, ["docker-reference"])?;
    Ok(Payload {
        manifest: text(digest, "docker-manifest-digest")?.parse()?,
        identity: text(reference, "docker-reference")?,
    })
}

/// Nothing is decided by these, but a payload that has them in another form was made by nobody we know.
fn check_optional(optional: &Map<String, Value>) -> Result<()> {
    if optional.get("creator").is_some_and(|creator| !creator.is_string()) {
        return Err(Error::invalid("`optional.creator` is not a string"));
    }
    let whole = |time: &Value| time.is_i64() || time.as_f64().is_some_and(|time| time.fract() == 0.0);
    if optional.get("timestamp").is_some_and(|time| !whole(time)) {
        return Err(Error::invalid("`optional.timestamp` is not a whole number"));
    }
    Ok(())
}

/// Returns the values of an object that must have exactly these keys.
pub(super) fn exactly<const N: usize>(value: Value, keys: [&str; N]) -> Result<[Value; N]> {
    let Value::Object(mut fields) = value else {
        return Err(Error::invalid(format!("what should have `{}` is not an object", keys.join("`, `"))));
    };
    let mut values = [const { Value::Null }; N];
    for (place, key) in values.iter_mut().zip(keys) {
        *place = fields.remove(key).ok_or_else(|| Error::invalid(format!("`{key}` is missing")))?;
    }
    match fields.keys().next() {
        None => Ok(values),
        Some(key) => Err(Error::invalid(format!("unknown key `{}`", printable(key.as_bytes())))),
    }
}

/// Returns a value that must be a string.
pub(super) fn text(value: Value, key: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Error::invalid(format!("`{key}` is not a string"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:fa93b01658e3a5a1686dc3ae55f170d8de487006fb53a28efcd12ab0710a2e5f";

    fn document() -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"a.example/b:1"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":{{"creator":"holkas 1","timestamp":1700000000}}}}"#
        )
    }

    #[test]
    fn a_payload_is_read_as_it_is_written() {
        let payload = Payload { manifest: DIGEST.parse().expect("a digest"), identity: "a.example/b:1".to_string() };
        assert_eq!(String::from_utf8(payload.to_json("holkas 1", 1_700_000_000)).expect("text"), document());
        assert_eq!(Payload::parse(document().as_bytes()).expect("it is whole"), payload);
        let of_cosign = document().replace(r#"{"creator":"holkas 1","timestamp":1700000000}"#, "null");
        assert_eq!(Payload::parse(of_cosign.as_bytes()).expect("it is whole"), payload);
        let more = document().replace(r#""creator":"#, r#""a":[{}],"creator":"#);
        assert_eq!(Payload::parse(more.as_bytes()).expect("users may say more"), payload);
    }

    #[test]
    fn anything_else_is_refused() {
        for (from, to) in [
            ("cosign container image signature", "atomic container signature"),
            (r#""type":"cosign container image signature""#, r#""type":1"#),
            (r#""type":"cosign"#, r#""typo":"cosign"#),
            (r#"{"critical":"#, r#"{"critical":{},"critical":"#),
            (r#"{"critical":"#, r#"{"more":1,"critical":"#),
            (r#"{"critical":{"#, r#"{"critical":{"more":1,"#),
            (r#"{"docker-reference":"#, r#"{"docker-reference":"other","docker-reference":"#),
            (r#"{"docker-reference":"#, r#"{"more":"x","docker-reference":"#),
            (r#"{"docker-reference":"a.example/b:1"}"#, "{}"),
            (r#"{"docker-reference":"a.example/b:1"}"#, r#"{"docker-reference":null}"#),
            (r#""docker-manifest-digest":"sha256:"#, r#""docker-manifest-digest":"md5:"#),
            (r#""docker-manifest-digest":"sha256:fa"#, r#""docker-manifest-digest":"sha256:f"#),
            (r#","optional":{"creator":"holkas 1","timestamp":1700000000}"#, ""),
            (r#""timestamp":1700000000"#, r#""timestamp":1.5"#),
            (r#""timestamp":1700000000"#, r#""timestamp":"1""#),
            (r#""creator":"holkas 1""#, r#""creator":1"#),
            (r#"1700000000}}"#, r#"1700000000}} {}"#),
        ] {
            let document = document();
            let changed = document.replace(from, to);
            assert_ne!(changed, document, "{from}");
            Payload::parse(changed.as_bytes()).expect_err(&changed);
        }
    }
}
