//! Registries that lie: an error that says so, nothing visible, and no byte more than was promised.

use holkas::ErrorKind;
use holkas::copy::MultiArch;
use holkas_testkit::image::ImageBuilder;
use holkas_testkit::registry::{Fault, Matcher, Registry};
use serde_json::json;

use super::common::{copy_by, fails, fetch, image, settings, temp};

/// A registry with the image, and one lie about some of its requests.
fn lying(matcher: Matcher, fault: Fault) -> (Registry, String) {
    let registry = Registry::start();
    registry.put_image(&image(), "app", "1");
    registry.on(matcher, fault);
    let reference = registry.reference("app:1");
    (registry, reference)
}

#[test]
fn wrong_bytes_and_lengths_are_errors() {
    let blob = || Matcher::get("*/blobs/*");
    for (what, fault, kind) in [
        ("a bit", Fault::FlipByte(3), ErrorKind::Mismatch),
        ("another body", Fault::Body(b"something else".to_vec()), ErrorKind::Network),
        ("endless", Fault::Endless, ErrorKind::Mismatch),
        ("truncated, always", Fault::Truncate(10), ErrorKind::Network),
        ("a part unasked", Fault::UnaskedRange(0, 9), ErrorKind::Invalid),
    ] {
        let (registry, reference) = lying(blob(), fault);
        let error = fails(settings(), &reference);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(registry.sent() < 64 << 20, "{what}: {} bytes were read", registry.sent());
    }
    // A header that says how it is encoded changes no byte, and the digest decides.
    let (_registry, reference) = lying(blob(), Fault::header("Content-Encoding", "gzip"));
    fetch(settings(), &reference, &image()).unwrap();
}

#[test]
fn a_manifest_must_be_what_was_asked_for_and_announced() {
    let manifest = || Matcher::get("*/manifests/*");
    let other = ImageBuilder::oci().label("another", "image").build();
    let (registry, reference) = lying(manifest(), Fault::Body(other.manifest.clone()));
    // By tag: what is announced is not what comes.
    let error = fails(settings(), &reference);
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    // By digest: whatever is announced (CVE-2025-24882).
    let error = fails(settings(), &registry.reference(&format!("app@{}", image().digest())));
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");

    let (_registry, reference) = lying(manifest(), Fault::header("Docker-Content-Digest", "sha256:../../x"));
    assert_eq!(fails(settings(), &reference).kind(), ErrorKind::Invalid);
    let (_registry, reference) = lying(manifest(), Fault::without_header("Docker-Content-Digest"));
    fetch(settings(), &reference, &image()).unwrap();
    let index = "application/vnd.oci.image.index.v1+json";
    let (_registry, reference) = lying(manifest(), Fault::header("Content-Type", index));
    let error = fails(settings(), &reference);
    assert!(matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Invalid), "{error}");
    for media_type in ["text/plain", "application/octet-stream", "application/json"] {
        let (_registry, reference) = lying(manifest(), Fault::header("Content-Type", media_type));
        fetch(settings(), &reference, &image()).unwrap();
    }
}

#[test]
fn documents_without_end_are_not_read() {
    for (pattern, fault) in [
        ("*/manifests/*", Fault::Endless),
        ("*/manifests/*", Fault::answer(404, &[], vec![b'x'; 8 << 20])),
        ("*/manifests/*", Fault::Body(vec![b' '; 5 << 20])),
        ("/v2/", Fault::answer(500, &[], vec![b'x'; 8 << 20])),
    ] {
        let (registry, reference) = lying(Matcher::get(pattern), fault);
        fails(settings(), &reference);
        assert!(registry.sent() < 96 << 20, "{pattern}: {}", registry.sent());
    }
}

#[test]
fn redirects_lead_to_the_right_bytes_or_nowhere() {
    let content = Registry::start();
    content.put_image(&image(), "app", "1");
    let blob = || Matcher::get("*/blobs/*");
    for status in [301, 302, 303, 307, 308] {
        let (_registry, reference) = lying(blob(), Fault::redirect(status, &format!("{}/{{target}}", content.url())));
        fetch(settings(), &reference, &image()).unwrap();
    }
    for (location, said) in [
        ("/{target}", "more than 10 redirects"),
        ("file:///etc/passwd", "neither http nor https"),
        ("unix:///run/x", "neither http nor https"),
        ("http://user:password@127.0.0.1:1/", "user or a password"),
    ] {
        let (_registry, reference) = lying(blob(), Fault::redirect(307, location));
        let error = fails(settings(), &reference);
        assert_eq!(error.kind(), ErrorKind::Refused, "{location}: {error}");
        assert!(error.to_string().contains(said), "{location}: {error}");
    }
    let (_registry, reference) = lying(blob(), Fault::answer(307, &[], ""));
    assert!(fails(settings(), &reference).to_string().contains("says not where to"));
}

#[test]
fn foreign_layers_are_not_fetched_from_where_the_manifest_says() {
    let (registry, evil) = (Registry::start(), Registry::start());
    let image = ImageBuilder::docker().layer(b"".to_vec()).build();
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let layer = &mut manifest["layers"][0];
    layer["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    layer["urls"] = json!([format!("{}/v2/app/blobs/x", evil.url())]);
    registry.put_image(&image, "app", "1");
    let layer = image.layers[0].digest.clone();
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    registry.put_manifest("app", "1", media_type, &serde_json::to_vec(&manifest).unwrap());
    registry.remove_blob("app", &layer);
    assert_eq!(fails(settings(), &registry.reference("app:1")).kind(), ErrorKind::NotFound);
    assert_eq!(evil.log().len(), 0);
}

#[test]
fn lists_of_tags_end_and_stay_at_home() {
    use holkas::registry::{Client, tags::tags};
    let list = |registry: &Registry| {
        let name = format!("{}/app", registry.host()).parse().unwrap();
        tags(&Client::new(settings()), &name)
    };
    let registry = Registry::builder().page_size(2).start();
    for tag in ["1", "2", "3", "4", "5"] {
        registry.put_image(&image(), "app", tag);
    }
    assert_eq!(list(&registry).unwrap(), ["1", "2", "3", "4", "5"]);
    for (link, said) in [
        ("</v2/app/tags/list?n=2>; rel=\"next\"", "again and again"),
        ("<http://127.0.0.1:1/v2/app/tags/list>; rel=\"next\"", "at another server"),
        ("nonsense", "leads nowhere"),
    ] {
        registry.clear_faults();
        registry.on(Matcher::get("*/tags/list*"), Fault::header("Link", link));
        let error = list(&registry).expect_err(link);
        assert!(error.to_string().contains(said), "{link}: {error}");
    }
}

#[test]
fn what_a_registry_says_cannot_paint_the_terminal() {
    let message = "no\u{1b}[2Jsuch\r\nthing";
    let (_registry, reference) = lying(Matcher::get("*/manifests/*"), Fault::error(404, "MANIFEST_UNKNOWN", message));
    let error = fails(settings(), &reference);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no\\u{1b}[2Jsuch\\r\\nthing"), "{error}");
}

#[test]
fn a_registry_that_takes_the_image_for_another_is_not_believed() {
    let dir = temp();
    image().write_dir(dir.path());
    let source = format!("dir:{}", dir.path().display());
    let put = |matcher: Matcher, fault: Fault| {
        let registry = Registry::start();
        registry.on(matcher, fault);
        copy_by(settings(), &source, &registry.reference("app:1"), MultiArch::System)
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let manifest = || Matcher::put("*/manifests/*");
    let error = put(manifest(), Fault::header("Docker-Content-Digest", digest)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    put(manifest(), Fault::without_header("Docker-Content-Digest")).unwrap();
    // It says that it has taken the manifest, but has not.
    let error = put(manifest(), Fault::answer(201, &[], "")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = put(Matcher::put("*/blobs/uploads/*"), Fault::error(400, "DIGEST_INVALID", "wrong")).unwrap_err();
    assert!(error.to_string().contains("digest invalid"), "{error}");
}
