//! `holkas signature sign|verify|show|generate-key`, and what skopeo's standalone commands do.

use std::path::Path;

use holkas::error::{Context, Error, Result, printable};
use holkas::fs::display;
use holkas::limits::{KEYS, MANIFEST, SIGNATURE};
use holkas::oci::document::manifest_digest;
use holkas::oci::{Algorithm, Digest};
use holkas::reference::Name;
use holkas::signature::openpgp::{self, KeyRing};
use holkas::signature::payload::Payload;
use holkas::signature::{Kind, Signer, UntrustedSignature};
use serde_json::{Value, json};

use super::{Setting, read_document};
use crate::cli::signature::{Command, GenerateKey, Show, Sign, Verify};
use crate::gpg::{Gpg, GpgSigner};
use crate::{environment, output, signing, sigstore};

/// Does what was typed.
pub(crate) fn run(command: &Command, setting: &Setting<'_>) -> Result<()> {
    match command {
        Command::Sign(arguments) => sign(arguments),
        Command::Verify(arguments) => verify(arguments),
        Command::Show(arguments) => show(arguments),
        Command::GenerateKey(arguments) => generate_key(arguments, setting),
    }
}

fn sign(arguments: &Sign) -> Result<()> {
    let manifest = read_document(&arguments.manifest, MANIFEST)?;
    let identity = Name::parse_normalised(&arguments.identity).context(|| "reading --identity")?;
    let signer = GpgSigner::new(&arguments.by, signing::passphrase(arguments.passphrase_file.as_deref())?)?;
    write(&arguments.output, &make(&manifest, &identity, &signer)?)
}

fn generate_key(arguments: &GenerateKey, setting: &Setting<'_>) -> Result<()> {
    let made = sigstore::generate(&arguments.output_prefix, |key| {
        sigstore::new_passphrase(key, arguments.passphrase_file.as_deref(), setting.cancel)
    })?;
    output::line(format!("private key {}", display(&made.private)))?;
    output::line(format!("public key  {}", display(&made.public)))
}

fn verify(arguments: &Verify) -> Result<()> {
    let manifest = read_document(&arguments.manifest, MANIFEST)?;
    let signature = read_document(&arguments.signature, SIGNATURE)?;
    let identity = Name::parse_normalised(&arguments.identity).context(|| "reading --identity")?;
    let files = arguments.public_keys.iter().map(|path| read_document(path, KEYS)).collect::<Result<Vec<_>>>()?;
    let ring = KeyRing::parse(files.iter().map(Vec::as_slice)).context(|| "reading --public-keys")?;
    let found = check(&manifest, &identity, &ring, &Accepted::Any, &signature)
        .context(|| format!("verifying signature `{}`", display(&arguments.signature)))?;
    if arguments.json {
        return output::json(&json!({
            "manifest_digest": found.digest,
            "identity": identity.to_string(),
            "fingerprint": found.fingerprint,
            "primary_fingerprint": found.primary,
        }));
    }
    output::line(format!("{} is {identity}, says key {}", found.digest, found.fingerprint))
}

fn show(arguments: &Show) -> Result<()> {
    let signature = UntrustedSignature(read_document(&arguments.signature, SIGNATURE)?);
    let shown = describe(&signature).context(|| format!("reading signature `{}`", display(&arguments.signature)))?;
    if arguments.json {
        return output::json(&shown);
    }
    output::line("Nothing of this is verified.")?;
    let fields = shown.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.into_iter().try_for_each(|(key, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), |text| printable(text.as_bytes()));
        output::line(format!("{:17} {value}", key.replace("untrusted_", "").replace('_', " ")))
    })
}

/// Tells what a signature says of itself.
fn describe(signature: &UntrustedSignature) -> Result<Value> {
    let message = match signature.kind()? {
        Kind::Simple(message) => message,
        Kind::Sigstore(signature) => {
            return Ok(json!({
                "kind": "sigstore",
                "untrusted_payload": String::from_utf8_lossy(&signature.payload),
                "untrusted_annotations": signature.annotations.keys().collect::<Vec<_>>(),
            }));
        }
        Kind::Unknown(name) => return Ok(json!({ "kind": printable(name) })),
    };
    let (payload, key_id) = openpgp::read_untrusted(message)?;
    let payload = Payload::parse(&payload)?;
    Ok(json!({
        "kind": "simple",
        "untrusted_manifest_digest": payload.manifest,
        "untrusted_identity": payload.identity,
        "untrusted_key_id": key_id,
        "untrusted_creator": payload.creator,
        "untrusted_timestamp": payload.timestamp,
    }))
}

/// Returns a signature of a manifest.
pub(crate) fn make(manifest: &[u8], identity: &Name, signer: &dyn Signer) -> Result<Vec<u8>> {
    let digest = manifest_digest(manifest, Algorithm::Sha256, MANIFEST)?;
    signer.sign(&digest, identity).map(|UntrustedSignature(bytes)| bytes)
}

/// Writes a signature where the user wants it.
pub(crate) fn write(path: &Path, signature: &[u8]) -> Result<()> {
    // Not atomic: the user may have named a pipe or `/dev/stdout`.
    std::fs::write(path, signature).context(|| format!("writing signature to `{}`", display(path)))
}

/// Which keys of a ring are accepted.
pub(crate) enum Accepted {
    /// All of them.
    Any,
    /// Those with these fingerprints.
    These(Vec<String>),
}

/// A signature that is good.
pub(crate) struct Good {
    /// The digest that it is for.
    pub(crate) digest: Digest,
    /// The key that made it.
    pub(crate) fingerprint: String,
    /// The primary key of that.
    pub(crate) primary: String,
}

/// Checks that a signature says that the manifest is what `identity` names, and is by one of the keys.
pub(crate) fn check(
    manifest: &[u8],
    identity: &Name,
    ring: &KeyRing,
    accepted: &Accepted,
    signature: &[u8],
) -> Result<Good> {
    let signed = openpgp::verify(signature, ring, environment::now())?;
    if let Accepted::These(fingerprints) = accepted {
        let given = |own: &String| fingerprints.iter().any(|given| given.eq_ignore_ascii_case(own));
        if !given(&signed.fingerprint) && !given(&signed.primary) {
            let given = printable(fingerprints.join(" ").as_bytes());
            let own = signed.fingerprint;
            return Err(Error::refused(format!("Signature by {own} does not match expected fingerprints [{given}]")));
        }
    }
    let payload = Payload::parse(&signed.payload)?;
    if manifest_digest(manifest, payload.manifest.algorithm(), MANIFEST)? != payload.manifest {
        return Err(Error::refused(format!("Signature for docker digest \"{}\" does not match", payload.manifest)));
    }
    match Name::parse_normalised(&payload.identity) {
        Ok(name) if name == *identity => {}
        _ => {
            let signed = printable(payload.identity.as_bytes());
            return Err(Error::refused(format!("Docker reference \"{signed}\" does not match \"{identity}\"")));
        }
    }
    Ok(Good { digest: payload.manifest, fingerprint: signed.fingerprint, primary: signed.primary })
}

/// Returns the keys that the user's GnuPG knows by these fingerprints.
pub(crate) fn own_keys(fingerprints: &[String]) -> Result<KeyRing> {
    let keys = Gpg::find()?.public_keys(fingerprints)?;
    match keys.is_empty() {
        true => Ok(KeyRing::default()),
        false => KeyRing::parse([keys.as_slice()]),
    }
}
