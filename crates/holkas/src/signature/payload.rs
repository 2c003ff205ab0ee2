//! What simple signing signs: a JSON text that says which manifest is the image of which name.
//!
//! ```text
//! {"critical": {"identity": {"docker-reference": NAME},
//!               "image": {"docker-manifest-digest": DIGEST},
//!               "type": "atomic container signature"},
//!  "optional": {"creator": PROGRAM, "timestamp": SECONDS}}
//! ```
//! The format is that of containers-signature(5). Nothing but `optional` may have a key that is not there.

use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Result, printable};
use crate::oci::{Digest, json as strict};

/// What `critical.type` says.
const TYPE: &str = "atomic container signature";

/// What was signed, or will be. Read from bytes that nobody has verified, it proves nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    /// The digest of the manifest or the list.
    pub manifest: Digest,
    /// The image's name, as it was written: it decides only once it is compared with another.
    pub identity: String,
    /// The program that made the signature.
    pub creator: Option<String>,
    /// When it was made, in seconds since 1970.
    pub timestamp: Option<i64>,
}

impl Payload {
    /// Reads what was signed.
    ///
    /// # Errors
    ///
    /// `Invalid` if anything in it is repeated, missing, of another type, or unknown where that might matter.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        read(bytes).context(|| "reading what the signature signs")
    }

    /// Returns the text to sign, byte for byte as containers/image would write it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut optional = Map::new();
        if let Some(creator) = &self.creator {
            optional.insert("creator".to_string(), creator.as_str().into());
        }
        if let Some(timestamp) = self.timestamp {
            optional.insert("timestamp".to_string(), timestamp.into());
        }
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": self.identity },
                "image": { "docker-manifest-digest": self.manifest.to_string() },
                "type": TYPE,
            },
            "optional": optional,
        });
        strict::go_escaped(&payload.to_string()).into_bytes()
    }
}

fn read(bytes: &[u8]) -> Result<Payload> {
    let fields = strict::parse_object(bytes)?;
    exactly(&fields, &["critical", "optional"])?;
    let (critical, optional) = (object(&fields, "critical")?, object(&fields, "optional")?);
    exactly(critical, &["identity", "image", "type"]).context(|| "`critical`")?;
    match text(critical, "type")? {
        TYPE => {}
        other => return Err(Error::invalid(format!("unknown signature type `{}`", printable(other.as_bytes())))),
    }
    let (image, identity) = (object(critical, "image")?, object(critical, "identity")?);
    exactly(image, &["docker-manifest-digest"]).context(|| "`critical.image`")?;
    exactly(identity, &["docker-reference"]).context(|| "`critical.identity`")?;
    Ok(Payload {
        manifest: text(image, "docker-manifest-digest")?.parse()?,
        identity: text(identity, "docker-reference")?.to_string(),
        creator: optional.contains_key("creator").then(|| text(optional, "creator")).transpose()?.map(str::to_string),
        timestamp: optional.get("timestamp").map(whole_seconds).transpose()?,
    })
}

fn whole_seconds(value: &Value) -> Result<i64> {
    /// Up to here every whole number is one that a float can hold.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let seconds = value.as_f64().filter(|seconds| seconds.fract() == 0.0 && seconds.abs() <= EXACT);
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within what is exact")]
    seconds.map(|seconds| seconds as i64).ok_or_else(|| Error::invalid("`optional.timestamp` is not an integer"))
}

fn exactly(fields: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    if let Some(key) = fields.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(Error::invalid(format!("unknown key `{}`", printable(key.as_bytes()))));
    }
    match keys.iter().find(|key| !fields.contains_key(**key)) {
        Some(missing) => Err(Error::invalid(format!("`{missing}` is missing"))),
        None => Ok(()),
    }
}

fn object<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a Map<String, Value>> {
    fields.get(key).and_then(Value::as_object).ok_or_else(|| Error::invalid(format!("`{key}` is not an object")))
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    fields.get(key).and_then(Value::as_str).ok_or_else(|| Error::invalid(format!("`{key}` is not a string")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn good() -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"docker.io/library/x:1"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"atomic container signature"}},"optional":{{"creator":"atomic <0>","timestamp":1458239713}}}}"#
        )
    }

    #[test]
    fn it_is_read_and_written() {
        let payload = Payload::parse(good().as_bytes()).expect("a payload");
        assert_eq!(payload.manifest.to_string(), DIGEST);
        assert_eq!(payload.identity, "docker.io/library/x:1");
        assert_eq!(payload.creator.as_deref(), Some("atomic <0>"));
        assert_eq!(payload.timestamp, Some(1_458_239_713));
        let written = String::from_utf8(payload.to_json()).expect("text");
        assert_eq!(written, good().replace('<', "\\u003c").replace('>', "\\u003e"));
        assert_eq!(Payload::parse(written.as_bytes()).expect("a payload"), payload);
        let more = good().replace(r#""creator""#, r#""more":{"a":[1]},"creator""#);
        assert_eq!(Payload::parse(more.as_bytes()).expect("optional may have more"), payload);
        let none = good().replace(r#""creator":"atomic <0>","timestamp":1458239713"#, "");
        let none = Payload::parse(none.as_bytes()).expect("optional may be empty");
        assert_eq!((none.creator, none.timestamp), (None, None));
    }

    #[test]
    fn what_is_not_wholly_understood_is_invalid() {
        let changes = [
            (r#""optional":{"#, r#""optional":{"creator":"x","#, "twice"),
            (r#"{"critical""#, r#"{"critical":{},"critical""#, "twice"),
            (r#"{"critical""#, r#"{"Critical":{},"critical""#, "unknown key `Critical`"),
            (r#"{"identity""#, r#"{"more":1,"identity""#, "unknown key `more`"),
            (r#"{"docker-reference""#, r#"{"docker-reference":"y","docker-reference""#, "twice"),
            (r#"{"docker-reference""#, r#"{"Docker-reference":"y","docker-reference""#, "unknown key"),
            (r#"{"docker-manifest-digest""#, r#"{"x":"y","docker-manifest-digest""#, "unknown key"),
            (r#""atomic container signature""#, r#""atomic container"#, "not valid JSON"),
            (r#""atomic container signature""#, r#""cosign container image signature""#, "unknown signature type"),
            (r#""atomic container signature""#, "1", "`type` is not a string"),
            (r#""docker.io/library/x:1""#, r#"["docker.io/library/x:1"]"#, "`docker-reference` is not a string"),
            (DIGEST, "sha256:aa", "digest"),
            (DIGEST, "md5:aa", "digest"),
            ("1458239713", "1458239713.5", "not an integer"),
            ("1458239713", "\"1458239713\"", "not an integer"),
            ("1458239713", "1e300", "not an integer"),
            (r#""atomic <0>""#, "1", "`creator` is not a string"),
            (r#""timestamp":1458239713}}"#, r#""timestamp":1458239713}} x"#, "trailing"),
            (r#","optional":{"creator":"atomic <0>","timestamp":1458239713}"#, "", "`optional` is missing"),
            (r#"{"creator":"atomic <0>","timestamp":1458239713}"#, "null", "`optional` is not an object"),
        ];
        for (from, to, why) in changes {
            assert!(good().contains(from), "{from}");
            let error = Payload::parse(good().replace(from, to).as_bytes()).expect_err(to);
            assert!(error.to_string().contains(why), "{to}: {error}");
        }
        for bytes in ["", "[]", "null", "{}", "\u{feff}{}"] {
            Payload::parse(bytes.as_bytes()).expect_err(bytes);
        }
    }
}
