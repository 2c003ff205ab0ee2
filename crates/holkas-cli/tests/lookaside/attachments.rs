//! Sigstore signatures beside an image, under the tag `sha256-HEX.sig`.

use std::fs;

use holkas_testkit::image::{BuiltImage, BuiltIndex, IndexBuilder, OCI_MANIFEST, hex_of, sha256_digest};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use serde_json::{Value, json};

use crate::scene::{Scene, files, image, signature};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A sigstore signature as `dir:` keeps it.
fn sigstore(payload: &str, own: &str) -> Vec<u8> {
    let payload = match payload {
        "{}" => "e30=",
        "{ }" => "eyB9",
        "list" => "bGlzdA==",
        "image" => "aW1hZ2U=",
        other => panic!("no base64 of {other}"),
    };
    let annotations = json!({"dev.cosignproject.cosign/signature": own});
    let envelope = json!({"mimeType": PAYLOAD, "payload": payload, "annotations": annotations}).to_string();
    let envelope = envelope.replace('<', "\\u003c").replace('>', "\\u003e");
    [b"\0sigstore-json\n", envelope.as_bytes()].concat()
}

fn tag(digest: &str) -> String {
    digest.replacen(':', "-", 1) + ".sig"
}

fn attached(registry: &Registry, digest: &str) -> Value {
    serde_json::from_slice(&registry.manifest("a/b", &tag(digest)).unwrap().bytes).unwrap()
}

/// A scene in which attachments are wanted.
fn scene() -> (Scene, Registry) {
    let scene = Scene::new();
    let kept = scene.at("kept");
    scene.registries_d(&format!("default-docker: {{use-sigstore-attachments: true, lookaside: 'file://{kept}'}}\n"));
    (scene, Registry::start())
}

#[test]
fn signatures_go_both_ways_and_are_added_each_once() {
    let (scene, registry) = scene();
    let (image, there) = (image("x"), registry.reference("a/b:1"));
    let all = [sigstore("{}", "<a>"), signature(b"simple"), sigstore("{}", "b"), sigstore("{ }", "c")];
    image.write_dir_signed(scene.at("first"), &all[..3]);
    scene.copied(&[&scene.dir("first"), &there]);
    let layer = |payload: &str, own: &str| {
        json!({
            "mediaType": PAYLOAD, "digest": sha256_digest(payload.as_bytes()), "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": own},
        })
    };
    let manifest = attached(&registry, &image.digest());
    assert_eq!(manifest["layers"], json!([layer("{}", "<a>"), layer("{}", "b")]));
    assert_eq!((&manifest["schemaVersion"], &manifest["mediaType"]), (&json!(2), &json!(OCI_MANIFEST)));
    let config = |manifest: &Value| {
        let digest = manifest["config"]["digest"].as_str().unwrap();
        serde_json::from_slice::<Value>(&registry.blob("a/b", digest).unwrap()).unwrap()
    };
    let twice = sha256_digest(b"{}");
    let expected = json!({
        "architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [twice, twice]},
    });
    assert_eq!(config(&manifest), expected);
    // What is there already is not written again.
    registry.reset_log();
    scene.copied(&[&scene.dir("first"), &there]);
    assert!(registry.requests("PUT", ".sig").is_empty());
    // One more, and keys that we do not know: they stay, and it comes behind.
    let mut known = manifest.clone();
    known["annotations"] = json!({"k": "v"});
    registry.put_manifest("a/b", &tag(&image.digest()), OCI_MANIFEST, known.to_string().as_bytes());
    image.write_dir_signed(scene.at("second"), &all[3..]);
    scene.copied(&[&scene.dir("second"), &there]);
    let manifest = attached(&registry, &image.digest());
    assert_eq!(manifest["layers"], json!([layer("{}", "<a>"), layer("{}", "b"), layer("{ }", "c")]));
    assert_eq!(manifest["annotations"], json!({"k": "v"}));
    assert_eq!(config(&manifest)["rootfs"]["diff_ids"][2], json!(sha256_digest(b"{ }")));
    // All come back: simple ones first, as containers/image has it. A payload is fetched once.
    registry.reset_log();
    scene.copied(&[&there, &scene.dir("back")]);
    let found = files(&scene.at("back"));
    let order = [&all[1], &all[0], &all[2], &all[3]];
    for (n, signature) in order.into_iter().enumerate() {
        assert_eq!(
            String::from_utf8_lossy(&found[&format!("signature-{}", n + 1)]),
            String::from_utf8_lossy(signature)
        );
    }
    assert_eq!(registry.requests("GET", &format!("/blobs/{twice}")).len(), 1);
    // Where they are not wanted, nobody asks.
    scene.registries_d("default-docker: {use-sigstore-attachments: false}\n");
    registry.reset_log();
    scene.copied(&[&there, &scene.dir("without")]);
    assert!(registry.requests("GET", ".sig").is_empty());
}

#[test]
fn lists_have_theirs_too() {
    let (scene, registry) = scene();
    let index: BuiltIndex = IndexBuilder::oci().image(&image("a")).image(&image("b")).build();
    index.write_dir(scene.at("list"));
    fs::write(scene.at("list/signature-1"), sigstore("list", "1")).unwrap();
    let one = format!("list/{}.signature-1", hex_of(&image("b").digest()));
    fs::write(scene.at(&one), sigstore("image", "2")).unwrap();
    let there = registry.reference("a/b:1");
    scene.copied(&["--all", &scene.dir("list"), &there]);
    let mut tags = vec!["1".to_owned(), tag(&index.digest()), tag(&image("b").digest())];
    tags.sort();
    assert_eq!(registry.tags("a/b"), tags);
    scene.copied(&["--all", &there, &scene.dir("back")]);
    assert_eq!(files(&scene.at("back")), files(&scene.at("list")));
    // With all that belongs to it, the same comes by its tag, and is there once.
    let other = Registry::start();
    scene.copied(&["--all", "--referrers", &there, &other.reference("a/b:1")]);
    assert_eq!(other.tags("a/b"), tags);
    assert_eq!(attached(&other, &index.digest()), attached(&registry, &index.digest()));
}

#[test]
fn what_lies_is_refused_before_it_is_fetched() {
    let (scene, registry) = scene();
    let image: BuiltImage = image("x");
    registry.put_image(&image, "a/b", "1");
    let payload = registry.put_blob("a/b", b"{}");
    let layer = |size: u64| json!({"mediaType": PAYLOAD, "digest": payload, "size": size});
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": payload, "size": 2});
    let manifest = |layers: Vec<Value>| {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}).to_string()
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    for (media_type, text, said) in [
        (OCI_MANIFEST, manifest(vec![layer(2); 10_000]), "more than 128 signatures"),
        (OCI_MANIFEST, manifest(vec![layer(2); 129]), "more than 128 signatures"),
        (OCI_MANIFEST, manifest(vec![layer(100 << 20)]), "is over the limit of 4194304 bytes"),
        ("application/vnd.oci.image.index.v1+json", index.to_string(), "is a manifest list, not an image"),
        (docker, manifest(vec![]).replace(OCI_MANIFEST, docker), "not an OCI manifest"),
    ] {
        registry.put_manifest("a/b", &tag(&image.digest()), media_type, text.as_bytes());
        registry.reset_log();
        scene.refused(&[&registry.reference("a/b:1"), &scene.dir("to")], said);
        assert!(registry.requests("GET", &payload).is_empty(), "{said}");
    }
    for (size, said) in [(3, "no such part"), (1, "blob is longer than its descriptor says")] {
        registry.put_manifest("a/b", &tag(&image.digest()), OCI_MANIFEST, manifest(vec![layer(size)]).as_bytes());
        scene.refused(&[&registry.reference("a/b:1"), &scene.dir("to")], said);
    }
    registry.put_manifest("a/b", &tag(&image.digest()), OCI_MANIFEST, manifest(vec![layer(2)]).as_bytes());
    for (fault, said) in [
        (Fault::FlipByte(0), "blob does not match its digest"),
        (Fault::status(404), "not found"),
        (Fault::Endless, payload.as_str()),
    ] {
        registry.clear_faults();
        registry.on(Matcher::get(&format!("/v2/a/b/blobs/{payload}")), fault);
        let output = scene.copy(&[&registry.reference("a/b:1"), &scene.dir("to")]);
        // It is not the image that is missing.
        assert!(output.code == 1 && output.err.contains(said), "{}", output.err);
    }
    registry.clear_faults();
    registry.on(Matcher::get("/v2/a/b/manifests/sha256-*"), Fault::status(403));
    scene.refused(&[&registry.reference("a/b:1"), &scene.dir("to")], "HTTP 403");
    assert!(!std::path::Path::new(&scene.at("to/manifest.json")).exists());
    // Where it is not as it should be, nothing is added.
    registry.clear_faults();
    image.write_dir_signed(scene.at("image"), &[sigstore("{}", "a")]);
    for (config, said) in [("[]", "not an object"), (r#"{"rootfs":1}"#, "`rootfs` is not an object")] {
        let digest = registry.put_blob("a/b", config.as_bytes());
        let odd = manifest(vec![]).replacen(&payload, &digest, 1).replacen(
            "\"size\":2",
            &format!("\"size\":{}", config.len()),
            1,
        );
        registry.put_manifest("a/b", &tag(&image.digest()), OCI_MANIFEST, odd.as_bytes());
        scene.refused(&[&scene.dir("image"), &registry.reference("a/b:1")], said);
        assert_eq!(registry.manifest("a/b", &tag(&image.digest())).unwrap().bytes.as_slice(), odd.as_bytes());
    }
}
