//! `policy.json`: which images may be taken from where.
//!
//! Parsing is strict, as in containers/image: an unknown or repeated key, an unknown requirement or an empty list
//! makes the whole file invalid, because a policy that is half understood protects nobody.
//! Requirements that need signatures are understood but not implemented yet: they refuse the image.

pub mod scopes;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Context, Error, Result, printable};
use crate::fs;
use crate::image::PolicyIdentity;
use crate::limits::CONFIGURATION;
use crate::oci::json;

/// A policy: what every image must fulfil before it is copied.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What the policy is called in errors: its file.
    origin: String,
    default: Vec<Requirement>,
    /// By transport, then by scope.
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
    /// Whether accepting everything is not enough for any image.
    signed_only: bool,
}

/// One requirement; all of a list must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requirement {
    Accept,
    Reject,
    /// Needs signatures. Holds its type's name.
    Signed(&'static str),
}

/// The keys that requirements may have beside `type`.
const REQUIREMENTS: [(&str, Requirement, &[&str]); 5] = [
    ("insecureAcceptAnything", Requirement::Accept, &[]),
    ("reject", Requirement::Reject, &[]),
    ("signedBy", Requirement::Signed("signedBy"), &["keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"]),
    (
        "sigstoreSigned",
        Requirement::Signed("sigstoreSigned"),
        &[
            "keyPath",
            "keyPaths",
            "keyData",
            "keyDatas",
            "fulcio",
            "pki",
            "rekorPublicKeyPath",
            "rekorPublicKeyPaths",
            "rekorPublicKeyData",
            "rekorPublicKeyDatas",
            "signedIdentity",
        ],
    ),
    ("signedBaseLayer", Requirement::Signed("signedBaseLayer"), &["baseLayerIdentity"]),
];

impl Policy {
    /// Returns the policy that accepts everything: for tests, and for users who say that they want it.
    pub fn accept_anything() -> Self {
        let (origin, default) = ("no policy file".to_string(), vec![Requirement::Accept]);
        Self { origin, default, transports: BTreeMap::new(), signed_only: false }
    }

    /// Refuses every image for which the policy demands no signature.
    #[must_use]
    pub fn signed_only(self) -> Self {
        Self { signed_only: true, ..self }
    }

    /// Reads a policy file. That it is absent is an error: without a policy nothing is accepted.
    pub fn read(path: &Path) -> Result<Self> {
        let origin = fs::display(path);
        match fs::read_file(path, CONFIGURATION)? {
            Some(bytes) => Self::parse(&bytes, &origin),
            None => Err(Error::invalid("it does not exist")).context(|| format!("reading policy `{origin}`")),
        }
    }

    /// Parses a policy; `origin` is what it is called in errors: its file.
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self> {
        let frame = || format!("reading policy `{origin}`");
        let fields = json::parse_object(bytes).context(frame)?;
        parse(fields, origin).context(frame)
    }

    /// Returns an error of kind `Refused` unless the policy accepts the image.
    ///
    /// The most specific scope of the image that the policy speaks of decides, then the transport's scope `""`,
    /// then `default`. `image` is the image's name for the error.
    pub fn check(&self, identity: &PolicyIdentity, image: &str) -> Result<()> {
        let scopes = self.transports.get(identity.transport);
        let found = scopes.and_then(|scopes| {
            let keys = identity.scopes.iter().map(String::as_str).chain([""]);
            keys.into_iter().find_map(|key| scopes.get_key_value(key))
        });
        let (place, requirements) = match found {
            Some((scope, list)) => {
                (format!("scope `{}` of transport `{}`", printable(scope.as_bytes()), identity.transport), list)
            }
            None => ("`default`".to_string(), &self.default),
        };
        let refused =
            |why: String| Err(Error::refused(why).context(format!("source image rejected: checking {image}")));
        if self.signed_only && requirements.iter().all(|requirement| *requirement == Requirement::Accept) {
            // skopeo's words.
            return refused(format!("No signature verification policy found for image {image}"));
        }
        for requirement in requirements {
            match requirement {
                Requirement::Accept => {}
                Requirement::Reject => {
                    return refused(format!(
                        "running image {image} is rejected by policy ({place} in {})",
                        self.origin
                    ));
                }
                Requirement::Signed(kind) => {
                    return refused(format!(
                        "the policy ({place} in {}) requires `{kind}`, which is not implemented yet in this version",
                        self.origin
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns whether the policy checks anything at all: whether any requirement is more than "accept".
    pub fn accepts_anything(&self) -> bool {
        let mut lists = self.transports.values().flat_map(BTreeMap::values).chain([&self.default]);
        lists.all(|list| list.iter().all(|requirement| *requirement == Requirement::Accept))
    }
}

fn parse(fields: Map<String, Value>, origin: &str) -> Result<Policy> {
    let mut default = None;
    let mut transports = BTreeMap::new();
    for (key, value) in fields {
        match key.as_str() {
            "default" => default = Some(requirements(&value).context(|| "`default`")?),
            "transports" => {
                for (transport, scopes) in object(&value).context(|| "`transports`")? {
                    let frame = || format!("`transports.{}`", printable(transport.as_bytes()));
                    let mut by_scope = BTreeMap::new();
                    for (scope, list) in object(scopes).context(frame)? {
                        let place = || format!("scope `{}`", printable(scope.as_bytes()));
                        scopes::validate(transport, scope).context(place).context(frame)?;
                        by_scope.insert(scope.clone(), requirements(list).context(place).context(frame)?);
                    }
                    transports.insert(transport.clone(), by_scope);
                }
            }
            _ => return Err(Error::invalid(format!("unknown key `{}`", printable(key.as_bytes())))),
        }
    }
    let default = default.ok_or_else(|| Error::invalid("`default` is missing"))?;
    Ok(Policy { origin: format!("`{origin}`"), default, transports, signed_only: false })
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().ok_or_else(|| Error::invalid("not an object"))
}

fn requirements(value: &Value) -> Result<Vec<Requirement>> {
    let list = value.as_array().ok_or_else(|| Error::invalid("not a list of requirements"))?;
    if list.is_empty() {
        return Err(Error::invalid("the list of requirements is empty"));
    }
    list.iter().enumerate().map(|(n, value)| requirement(value).context(|| format!("requirement {}", n + 1))).collect()
}

fn requirement(value: &Value) -> Result<Requirement> {
    let fields = object(value)?;
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind,
        Some(_) => return Err(Error::invalid("`type` is not a string")),
        None => return Err(Error::invalid("`type` is missing")),
    };
    let known = REQUIREMENTS.iter().find(|(name, ..)| name == kind);
    let (name, requirement, keys) =
        known.ok_or_else(|| Error::invalid(format!("unknown requirement type `{}`", printable(kind.as_bytes()))))?;
    match fields.keys().find(|key| *key != "type" && !keys.contains(&key.as_str())) {
        Some(key) => Err(Error::invalid(format!("`{name}` has no key `{}`", printable(key.as_bytes())))),
        None => Ok(*requirement),
    }
}
