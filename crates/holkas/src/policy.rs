//! `policy.json`: which images may be taken from where.
//!
//! Parsing is strict, as in containers/image: an unknown or repeated key, an unknown requirement or an empty list
//! makes the whole file invalid, because a policy that is half understood protects nobody.
//!
//! ```text
//! requirements       what a requirement may say
//!   signed_by        one signature of simple signing, by one of some OpenPGP keys
//!   sigstore_signed  one signature as cosign makes it
//!     identity       what the signature may say of whose image it is
//! scopes             under what names a policy speaks of images
//! ```

mod identity;
mod keys;
mod requirements;
pub mod scopes;
mod signed_by;
mod sigstore_signed;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use self::requirements::Requirement;
use crate::error::{Context, Error, Result, printable};
use crate::fs;
use crate::image::{ImageSource, PolicyIdentity};
use crate::limits::{CONFIGURATION, MANIFEST};
use crate::oci::document::manifest_digest;
use crate::oci::{Digest, json};
use crate::reference::Name;
use crate::signature::UntrustedSignature;
use crate::verify::VerifiedBytes;

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
    /// The time at which keys and signatures must be valid, in seconds since 1970.
    now: Option<i64>,
}

impl Policy {
    /// Returns the policy that accepts everything: for tests, and for users who say that they want it.
    pub fn accept_anything() -> Self {
        let (origin, default) = ("no policy file".to_string(), vec![Requirement::Accept]);
        Self { origin, default, transports: BTreeMap::new(), signed_only: false, now: None }
    }

    /// Refuses every image for which the policy demands no signature.
    #[must_use]
    pub fn signed_only(self) -> Self {
        Self { signed_only: true, ..self }
    }

    /// Sets the time at which keys and signatures must be valid, in seconds since 1970.
    ///
    /// Without it every image is refused that must be signed.
    #[must_use]
    pub fn at(self, now: i64) -> Self {
        Self { now: Some(now), ..self }
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

    /// Returns what the policy demands of an image, or an error of kind `Refused` if nothing can fulfil it.
    ///
    /// The most specific scope of the image that the policy speaks of decides, then the transport's scope `""`,
    /// then `default`. `image` is the image's name for errors.
    pub fn demands(&self, identity: &PolicyIdentity, image: &str) -> Result<Demands<'_>> {
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
        let demands = Demands {
            requirements,
            place: format!("{place} in {}", self.origin),
            image: image.to_string(),
            docker_reference: identity.docker_reference.clone(),
            now: self.now,
        };
        if self.signed_only && requirements.iter().all(|requirement| matches!(requirement, Requirement::Accept)) {
            // skopeo's words.
            let why = format!("No signature verification policy found for image {image}");
            return Err(demands.rejected(Error::refused(why)));
        }
        if requirements.iter().any(|requirement| matches!(requirement, Requirement::Reject)) {
            let why = format!("running image {image} is rejected by policy ({})", demands.place);
            return Err(demands.rejected(Error::refused(why)));
        }
        Ok(demands)
    }

    /// Returns whether the policy checks anything at all: whether any requirement is more than "accept".
    pub fn accepts_anything(&self) -> bool {
        let mut lists = self.transports.values().flat_map(BTreeMap::values).chain([&self.default]);
        lists.all(|list| list.iter().all(|requirement| matches!(requirement, Requirement::Accept)))
    }
}

/// What a policy demands of one image, and of each instance of a list.
#[derive(Debug)]
pub struct Demands<'p> {
    requirements: &'p [Requirement],
    /// Which part of which file speaks of the image.
    place: String,
    /// The image's name for errors.
    image: String,
    docker_reference: Option<Name>,
    now: Option<i64>,
}

impl Demands<'_> {
    /// Returns whether the image must be signed: only then need its signatures be known.
    pub fn need_signatures(&self) -> bool {
        self.requirements.iter().any(Requirement::needs_signatures)
    }

    /// Returns an error unless a manifest or a list with these signatures fulfils all that is demanded.
    ///
    /// # Errors
    ///
    /// `Refused` if it does not; what reading the keys that the policy names says.
    pub fn check(&self, manifest: &VerifiedBytes, signatures: &[UntrustedSignature]) -> Result<()> {
        if !self.need_signatures() {
            return Ok(());
        }
        let Some(now) = self.now else {
            return Err(self.rejected(Error::refused("it must be signed, but what time it is was not said")));
        };
        let image = Candidate {
            manifest,
            signatures,
            docker_reference: self.docker_reference.as_ref(),
            name: &self.image,
            now,
        };
        let mut all = self.requirements.iter();
        all.try_for_each(|requirement| requirement.check(&image)).map_err(|error| self.rejected(error))
    }

    /// Checks a manifest or a list of a source, whose signatures are asked for only if they are needed.
    pub fn check_in(&self, source: &dyn ImageSource, manifest: &VerifiedBytes) -> Result<()> {
        if !self.need_signatures() {
            return Ok(());
        }
        self.check(manifest, &source.signatures(manifest.digest())?)
    }

    fn rejected(&self, error: Error) -> Error {
        let error = error.context(format!("source image rejected: checking {}", self.image));
        match self.need_signatures() && error.hint_text().is_none() {
            true => error.hint(format!("the policy's {} demands it", self.place)),
            false => error,
        }
    }
}

/// What requirements look at.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    /// A manifest or a list.
    manifest: &'a VerifiedBytes,
    /// All signatures that it has, of any kind.
    signatures: &'a [UntrustedSignature],
    /// What the image is called in a registry, if it is called so where it comes from.
    docker_reference: Option<&'a Name>,
    /// The image as the user would write it.
    name: &'a str,
    /// The time at which keys and signatures must be valid, in seconds since 1970.
    now: i64,
}

impl Candidate<'_> {
    /// Returns an error unless a digest that was signed is the manifest's.
    fn check_digest(&self, signed: &Digest) -> Result<()> {
        match manifest_digest(self.manifest.bytes(), signed.algorithm(), MANIFEST)? == *signed {
            true => Ok(()),
            false => Err(Error::refused(format!("signature for digest {signed} does not match"))),
        }
    }

    /// Returns an error unless one of the signatures is accepted. All are asked until one is; those of another kind than
    /// the requirement's say nothing, which is `None`.
    fn one_signature(&self, mut accepts: impl FnMut(&UntrustedSignature) -> Option<Result<()>>) -> Result<()> {
        let mut reasons = Vec::new();
        for signature in self.signatures {
            match accepts(signature) {
                None => {}
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => reasons.push(error),
            }
        }
        match reasons.len() {
            0 => Err(Error::refused("a signature was required, but no signature exists")),
            1 => Err(reasons.remove(0)),
            _ => {
                let reasons: Vec<_> =
                    reasons.iter().map(|error| error.chain().collect::<Vec<_>>().join(": ")).collect();
                Err(Error::refused(format!("none of the signatures were accepted, reasons: {}", reasons.join("; "))))
            }
        }
    }
}

fn parse(fields: Map<String, Value>, origin: &str) -> Result<Policy> {
    let mut default = None;
    let mut transports = BTreeMap::new();
    for (key, value) in fields {
        match key.as_str() {
            "default" => default = Some(requirements::parse(&value).context(|| "`default`")?),
            "transports" => {
                for (transport, scopes) in object(&value).context(|| "`transports`")? {
                    let frame = || format!("`transports.{}`", printable(transport.as_bytes()));
                    let mut by_scope = BTreeMap::new();
                    for (scope, list) in object(scopes).context(frame)? {
                        let place = || format!("scope `{}`", printable(scope.as_bytes()));
                        scopes::validate(transport, scope).context(place).context(frame)?;
                        by_scope.insert(scope.clone(), requirements::parse(list).context(place).context(frame)?);
                    }
                    transports.insert(transport.clone(), by_scope);
                }
            }
            _ => return Err(Error::invalid(format!("unknown key `{}`", printable(key.as_bytes())))),
        }
    }
    let default = default.ok_or_else(|| Error::invalid("`default` is missing"))?;
    Ok(Policy { origin: format!("`{origin}`"), default, transports, signed_only: false, now: None })
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().ok_or_else(|| Error::invalid("not an object"))
}
