//! Requests, typed: a packet of JSON becomes one of the methods, with arguments that are what they must be.

use holkas::error::printable;
use holkas::oci::{Digest, json};
use serde_json::Value;

use super::failure::Failure;

/// The greatest whole number that JavaScript can tell from its neighbours; a greater one was perhaps not meant.
const LARGEST_NUMBER: u64 = (1 << 53) - 1;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Initialize,
    OpenImage(String, Absent),
    CloseImage(u64),
    GetManifest(u64),
    GetConfig(u64),
    GetFullConfig(u64),
    /// Image, digest, and the size that the client expects; `None` for -1.
    GetBlob(u64, Digest, Option<u64>),
    GetRawBlob(u64, Digest),
    GetLayerInfo(u64),
    GetLayerInfoPiped(u64),
    FinishPipe(u64),
    Shutdown,
}

/// What an image that does not exist is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Error,
    Zero,
}

impl Request {
    /// Parses a packet.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Failure> {
        let fields = json::parse_object(packet).map_err(|error| Failure::other(format!("invalid request: {error}")))?;
        let method = match fields.get("method") {
            Some(Value::String(method)) => method,
            _ => return Err(Failure::other("invalid request: `method` is not a string")),
        };
        let none = Vec::new();
        let arguments = match fields.get("args") {
            None | Some(Value::Null) => &none,
            Some(Value::Array(arguments)) => arguments,
            Some(_) => return Err(Failure::other("invalid request: `args` is not a list")),
        };
        let arguments = Arguments { method, values: arguments };
        Ok(match method.as_str() {
            "Initialize" => {
                let [] = arguments.exactly()?;
                Self::Initialize
            }
            "OpenImage" => Self::OpenImage(arguments.reference()?, Absent::Error),
            "OpenImageOptional" => Self::OpenImage(arguments.reference()?, Absent::Zero),
            "CloseImage" => Self::CloseImage(arguments.image()?),
            "GetManifest" => Self::GetManifest(arguments.image()?),
            "GetConfig" => Self::GetConfig(arguments.image()?),
            "GetFullConfig" => Self::GetFullConfig(arguments.image()?),
            "GetBlob" => {
                let [image, blob, size] = arguments.exactly()?;
                Self::GetBlob(image_id(image)?, digest(blob)?, blob_size(size)?)
            }
            "GetRawBlob" => {
                let [image, blob] = arguments.exactly()?;
                Self::GetRawBlob(image_id(image)?, digest(blob)?)
            }
            "GetLayerInfo" => Self::GetLayerInfo(arguments.image()?),
            "GetLayerInfoPiped" => Self::GetLayerInfoPiped(arguments.image()?),
            "FinishPipe" => {
                let [pipe] = arguments.exactly()?;
                Self::FinishPipe(number(pipe)?)
            }
            // Whoever wants us to end is not argued with.
            "Shutdown" => Self::Shutdown,
            unknown => return Err(Failure::other(format!("unknown method: {}", printable(unknown.as_bytes())))),
        })
    }
}

struct Arguments<'a> {
    method: &'a str,
    values: &'a [Value],
}

impl<'a> Arguments<'a> {
    fn exactly<const N: usize>(&self) -> Result<&'a [Value; N], Failure> {
        self.values.try_into().map_err(|_| {
            let s = if N == 1 { "" } else { "s" };
            let (method, found) = (self.method, self.values.len());
            Failure::other(format!("invalid request: {method} has {N} argument{s}, found {found}"))
        })
    }

    fn reference(&self) -> Result<String, Failure> {
        let [reference] = self.exactly()?;
        let text = reference.as_str().map(str::to_string);
        text.ok_or_else(|| Failure::other("invalid request: the image's reference is not a string"))
    }

    fn image(&self) -> Result<u64, Failure> {
        let [image] = self.exactly()?;
        image_id(image)
    }
}

fn number(value: &Value) -> Result<u64, Failure> {
    let Value::Number(number) = value else {
        return Err(Failure::other("invalid request: a number is expected"));
    };
    // Some clients write all numbers with a point.
    let float = || number.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9.1e15).contains(f)).map(|f| f as u64);
    match number.as_u64().or_else(float) {
        Some(number) if number <= LARGEST_NUMBER => Ok(number),
        _ => Err(Failure::other(format!("invalid request: the number {number} is out of range"))),
    }
}

fn image_id(value: &Value) -> Result<u64, Failure> {
    match number(value)? {
        0 => Err(Failure::other("invalid request: there is no image 0")),
        id => Ok(id),
    }
}

fn digest(value: &Value) -> Result<Digest, Failure> {
    let text = value.as_str().ok_or_else(|| Failure::other("invalid request: the blob's digest is not a string"))?;
    text.parse::<Digest>().map_err(|error| Failure::other(format!("invalid request: {error}")))
}

fn blob_size(value: &Value) -> Result<Option<u64>, Failure> {
    if value.as_i64() == Some(-1) || value.as_f64() == Some(-1.0) {
        return Ok(None);
    }
    number(value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Request, String> {
        Request::parse(text.replace("DIGEST", DIGEST).as_bytes()).map_err(|failure| failure.message)
    }

    #[test]
    fn requests_as_clients_write_them() {
        let digest: Digest = DIGEST.parse().expect("a digest");
        for (text, request) in [
            (r#"{"method":"Initialize","args":[]}"#, Request::Initialize),
            (r#"{"method":"Initialize"}"#, Request::Initialize),
            (r#"{"method":"Initialize","args":null,"more":1}"#, Request::Initialize),
            (r#"{"method":"OpenImage","args":["dir:/x"]}"#, Request::OpenImage("dir:/x".into(), Absent::Error)),
            (r#"{"method":"OpenImageOptional","args":["dir:/x"]}"#, Request::OpenImage("dir:/x".into(), Absent::Zero)),
            (r#"{"method":"CloseImage","args":[9007199254740991]}"#, Request::CloseImage((1 << 53) - 1)),
            (r#"{"method":"GetManifest","args":[1.0]}"#, Request::GetManifest(1)),
            (r#"{"method":"GetBlob","args":[1,"DIGEST",0]}"#, Request::GetBlob(1, digest, Some(0))),
            (r#"{"method":"GetBlob","args":[1,"DIGEST",-1]}"#, Request::GetBlob(1, digest, None)),
            (r#"{"method":"GetRawBlob","args":[1,"DIGEST"]}"#, Request::GetRawBlob(1, digest)),
            (r#"{"method":"FinishPipe","args":[4294967296]}"#, Request::FinishPipe(1 << 32)),
            (r#"{"method":"Shutdown","args":["whatever"]}"#, Request::Shutdown),
        ] {
            assert_eq!(parse(text), Ok(request), "{text}");
        }
    }

    #[test]
    fn what_is_no_request() {
        for (text, message) in [
            ("", "not valid JSON"),
            ("[]", "not an object"),
            ("{}", "`method` is not a string"),
            (r#"{"method":1}"#, "`method` is not a string"),
            (r#"{"method":"GetManifest","args":{}}"#, "`args` is not a list"),
            (r#"{"method":"GetManifest","method":"Shutdown"}"#, "occurs twice"),
            (r#"{"method":"FinishPipe"}"#, "FinishPipe has 1 argument, found 0"),
            (r#"{"method":"Initialize","args":[1]}"#, "Initialize has 0 arguments, found 1"),
            (r#"{"method":"GetBlob","args":[1,2]}"#, "GetBlob has 3 arguments, found 2"),
            (r#"{"method":"OpenImage","args":[1]}"#, "not a string"),
            (r#"{"method":"GetManifest","args":["1"]}"#, "a number is expected"),
            (r#"{"method":"GetManifest","args":[0]}"#, "no image 0"),
            (r#"{"method":"GetManifest","args":[-1]}"#, "out of range"),
            (r#"{"method":"GetManifest","args":[1.5]}"#, "out of range"),
            (r#"{"method":"GetManifest","args":[9007199254740992]}"#, "out of range"),
            (r#"{"method":"GetManifest","args":[1e300]}"#, "out of range"),
            (r#"{"method":"GetBlob","args":[1,"../../etc/shadow",1]}"#, "etc/shadow"),
            (r#"{"method":"GetBlob","args":[1,"md5:d41d8cd98f00b204e9800998ecf8427e",1]}"#, "md5"),
            (r#"{"method":"GetBlob","args":[1,"DIGEST",-2]}"#, "out of range"),
            (r#"{"method":"OpenVarlinkSocket","args":[1]}"#, "unknown method: OpenVarlinkSocket"),
            (r#"{"method":"\u001b[31m"}"#, "unknown method: \\u{1b}[31m"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
        let deep = "[".repeat(20_000);
        assert!(parse(&format!(r#"{{"method":"Initialize","args":{deep}"#)).is_err());
    }
}
