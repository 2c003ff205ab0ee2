//! `skopeo standalone-sign`, `standalone-verify`, `untrusted-signature-dump-without-verification` and
//! `generate-sigstore-key`, and the flags of `copy` and `sync` that sign.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use holkas::copy::Signing;
use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::read_file;
use holkas::limits::{KEYS, Limit, MANIFEST, SIGNATURE};
use holkas::reference::Name;
use holkas::signature::openpgp::{self, KeyRing};
use holkas::signature::payload::Payload;

use super::log::rfc3339;
use super::{Call, Failure, usage};
use crate::commands::signature::{Accepted, check, make, own_keys, write};
use crate::gpg::GpgSigner;
use crate::signing::{Typed, passphrase};
use crate::{output, sigstore};

/// Returns who signs what is copied.
pub(super) fn signing(call: &Call<'_>) -> Result<Signing, Failure> {
    let text = |name: &str| call.given.filled(name).map(|value| value.to_string_lossy().into_owned());
    let (by, identity) = (text("sign-by"), text("sign-identity"));
    let path = |name: &str| call.given.filled(name).map(PathBuf::from);
    let (key, parameters) = (path("sign-by-sigstore-private-key"), path("sign-by-sigstore"));
    let passphrase_file = path("sign-passphrase-file");
    let signing = Typed {
        by: by.as_deref(),
        sigstore_key: key.as_deref(),
        sigstore_parameters: parameters.as_deref(),
        passphrase_file: passphrase_file.as_deref(),
        identity: identity.as_deref(),
    }
    .signing(call.setting.cancel)?;
    match (&signing.identity, &identity) {
        // Here, and here alone, `x` is not short for `docker.io/library/x`.
        (Some(name), Some(typed)) if name.to_string() != *typed => {
            Err(usage("Could not parse --sign-identity: repository name must be canonical"))
        }
        _ => Ok(signing),
    }
}

/// Makes a key of sigstore.
pub(super) fn generate_sigstore_key(call: &Call<'_>) -> Result<(), Failure> {
    if !call.arguments.is_empty() {
        return Err(usage("no arguments expected"));
    }
    let prefix = call.given.filled("output-prefix").ok_or_else(|| usage("--output-prefix must be specified"))?;
    let file = call.given.filled("passphrase-file").map(PathBuf::from);
    let made =
        sigstore::generate(Path::new(&prefix), |key| sigstore::passphrase(key, file.as_deref(), call.setting.cancel))?;
    let quoted = |path: &Path| super::log::quoted(&holkas::fs::display(path));
    Ok(output::line(format!("Key written to {} and {}", quoted(&made.private), quoted(&made.public)))?)
}

/// Signs a manifest in a file.
pub(super) fn sign(call: &Call<'_>) -> Result<(), Failure> {
    let usual = "Usage: skopeo standalone-sign manifest docker-reference key-fingerprint -o signature";
    let ([manifest, identity, key], Some(output)) = (call.arguments, call.given.filled("output")) else {
        return Err(usage(usual));
    };
    let manifest = read(manifest, MANIFEST).context(|| format!("Error reading {}", manifest.to_string_lossy()))?;
    let passphrase = passphrase(call.given.filled("passphrase-file").as_deref().map(Path::new))?;
    let creating = || "Error creating signature";
    let identity = Name::parse_normalised(&identity.to_string_lossy()).context(creating)?;
    let signer = GpgSigner::new(&key.to_string_lossy(), passphrase).context(|| "Error initializing GPG")?;
    let signature = make(&manifest, &identity, &signer).context(creating)?;
    Ok(write(Path::new(&output), &signature)?)
}

/// Verifies a signature in a file.
pub(super) fn verify(call: &Call<'_>) -> Result<(), Failure> {
    let [manifest, identity, fingerprints, signature] = call.arguments else {
        return Err(usage("Usage: skopeo standalone-verify manifest docker-reference key-fingerprint signature"));
    };
    let given = fingerprints.to_string_lossy().into_owned();
    let keys = call.given.filled("public-key-file");
    if keys.is_none() && given == "any" {
        return Err(usage("Cannot use any fingerprint without a public key file"));
    }
    let path = |of: &OsStr| of.to_string_lossy().into_owned();
    let manifest = read(manifest, MANIFEST).context(|| format!("Error reading manifest from {}", path(manifest)))?;
    let signature =
        read(signature, SIGNATURE).context(|| format!("Error reading signature from {}", path(signature)))?;
    let fingerprints: Vec<String> = given.split(',').map(str::to_string).collect();
    let ring = match keys {
        Some(file) => {
            let keys = read(&file, KEYS).context(|| format!("Error reading public keys from {}", path(&file)))?;
            KeyRing::parse([keys.as_slice()])
        }
        None => own_keys(&fingerprints),
    };
    let ring = ring.context(|| "Error initializing GPG")?;
    let accepted = if given == "any" { Accepted::Any } else { Accepted::These(fingerprints) };
    let good = Name::parse_normalised(&identity.to_string_lossy())
        .and_then(|identity| check(&manifest, &identity, &ring, &accepted, &signature))
        .context(|| "Error verifying signature")?;
    Ok(output::line(format!("Signature verified using fingerprint {}, digest {}", good.fingerprint, good.digest))?)
}

/// Shows what a signature says, whether it is true or not.
pub(super) fn dump(call: &Call<'_>) -> Result<(), Failure> {
    let file = call.only("Usage: skopeo untrusted-signature-dump-without-verification signature")?;
    let signature = read(file, SIGNATURE)
        .context(|| format!("Error reading untrusted signature from {}", file.to_string_lossy()))?;
    let read = || {
        let (payload, key_id) = openpgp::read_untrusted(&signature)?;
        Ok::<_, Error>((Payload::parse(&payload)?, key_id))
    };
    let (payload, key_id) = read().context(|| "Error decoding untrusted signature")?;
    let or_null = |text: Option<String>| text.map_or("null".to_string(), |text| json(&text));
    let time = payload.timestamp.and_then(|seconds| u64::try_from(seconds).ok()).map(rfc3339);
    output::line("{")?;
    output::line(format!("    \"UntrustedDockerManifestDigest\": {},", json(&payload.manifest.to_string())))?;
    output::line(format!("    \"UntrustedDockerReference\": {},", json(&payload.identity)))?;
    output::line(format!("    \"UntrustedCreatorID\": {},", or_null(payload.creator)))?;
    output::line(format!("    \"UntrustedTimestamp\": {},", or_null(time)))?;
    output::line(format!("    \"UntrustedShortKeyIdentifier\": {}", json(&key_id)))?;
    Ok(output::line("}")?)
}

/// Returns a text as Go writes it in JSON.
fn json(text: &str) -> String {
    holkas::oci::json::go_escaped(&serde_json::Value::from(text).to_string())
}

fn read(path: &OsStr, limit: Limit) -> Result<Vec<u8>> {
    let open = || format!("open {}", path.to_string_lossy());
    read_file(Path::new(path), limit)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
        .context(open)
}
