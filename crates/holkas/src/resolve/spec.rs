//! Resolved images in the form of image-builder's container resolver: a list of `Spec`, sorted by digest.

use serde_json::{Value, json};

use super::Resolved;
use crate::oci::Platform;

/// Returns the images as JSON that image-builder's `container.Spec` is read from, sorted by the manifests' digests.
///
/// `tls_verify` is what was said about all registries, if anything.
/// The architecture has osbuild's name, which is how image-builder reads it.
pub fn specs(resolved: &[Resolved], tls_verify: Option<bool>) -> Value {
    let mut sorted: Vec<&Resolved> = resolved.iter().collect();
    sorted.sort_by_key(|image| image.manifest_digest.to_string());
    sorted.into_iter().map(|image| spec(image, tls_verify)).collect()
}

fn spec(image: &Resolved, tls_verify: Option<bool>) -> Value {
    json!({
        "Source": image.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
        "Digest": image.manifest_digest,
        "TLSVerify": tls_verify.filter(|_| !image.local),
        "ImageID": image.image_id.to_string(),
        "LocalName": image.local_name,
        "ListDigest": image.lists.first().map(ToString::to_string).unwrap_or_default(),
        "LocalStorage": image.local,
        "Arch": architecture(&image.platform),
    })
}

/// Returns osbuild's name of an architecture.
fn architecture(platform: &Platform) -> &str {
    match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("amd64", _) => "x86_64",
        ("arm64", _) => "aarch64",
        ("arm", Some("v7") | None) => "armhfp",
        (other, _) => other,
    }
}
