//! `holkas resolve`: names of images into image-builder's list, and into the parts of an osbuild manifest.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::{Output, finish, holkas, run};
use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{BuiltImage, ImageBuilder, IndexBuilder, sha256_digest};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};

fn image(architecture: &str) -> BuiltImage {
    let layer = TarBuilder::new().file("etc/motd", 0o644, architecture).finish();
    ImageBuilder::docker().architecture(architecture).layer(layer).build()
}

fn resolve(arguments: &[&str]) -> Output {
    finish(holkas().args(["resolve", "--no-cache"]).args(arguments))
}

#[track_caller]
fn resolved(arguments: &[&str]) -> Value {
    let output = resolve(arguments);
    assert_eq!((output.code, output.err.as_str()), (0, ""), "{arguments:?}");
    serde_json::from_str(&output.out).unwrap()
}

const PLAIN: &str = "--tls-verify=false";

#[test]
fn a_list_becomes_what_pins_its_images() {
    let registry = Registry::start();
    let (amd64, arm64) = (image("amd64"), image("arm64"));
    let list = registry.put_index(&IndexBuilder::docker().image(&amd64).image(&arm64).build(), "team/app", "1");
    let repository = format!("{}/team/app", registry.host());
    let name = format!("{repository}:1");
    let parts = |image: &BuiltImage, name: &str| {
        json!({
            "sources": {
                "org.osbuild.skopeo": { "items": { (image.config_digest()): {
                    "image": { "name": repository, "digest": image.digest(), "tls-verify": false },
                } } },
                "org.osbuild.skopeo-index": { "items": { (list.clone()): {
                    "image": { "name": repository, "tls-verify": false },
                } } },
            },
            "inputs": {
                "images": {
                    "type": "org.osbuild.containers", "origin": "org.osbuild.source",
                    "references": { (image.config_digest()): { "name": name } },
                },
                "manifest-lists": {
                    "type": "org.osbuild.files", "origin": "org.osbuild.source", "references": [list],
                },
            },
        })
    };
    let one = resolved(&["--osbuild", PLAIN, "--arch", "aarch64", &name]);
    assert_eq!(one, parts(&arm64, &name));
    assert_eq!(resolved(&["--osbuild", PLAIN, "--override-arch", "arm64", &format!("docker://{name}")]), one);
    let renamed = resolved(&["--osbuild", PLAIN, "--platform", "linux/amd64", "--name", "localhost/x:2", &name]);
    assert_eq!(renamed, parts(&amd64, "localhost/x:2"));
    let both = resolved(&["--osbuild", PLAIN, "--arch", "x86_64,aarch64", &name]);
    assert_eq!(both, json!({ "linux/amd64": parts(&amd64, &name), "linux/arm64": parts(&arm64, &name) }));

    let spec = |image: &BuiltImage, architecture: &str| {
        json!({
            "Source": repository, "Digest": image.digest(), "TLSVerify": false, "ImageID": image.config_digest(),
            "LocalName": name, "ListDigest": list, "LocalStorage": false, "Arch": architecture,
        })
    };
    let mut both = vec![spec(&amd64, "x86_64"), spec(&arm64, "aarch64")];
    both.sort_by_key(|spec| spec["Digest"].as_str().unwrap().to_string());
    assert_eq!(resolved(&[PLAIN, "--arch", "arm64,amd64", &name]), Value::from(both));
    // Neither a config nor a layer of another platform was asked for, and no layer at all.
    assert!(registry.requests("GET", &sha256_digest(&amd64.layers[0].blob)).is_empty());
    assert!(registry.requests("GET", &sha256_digest(&arm64.layers[0].blob)).is_empty());
}

#[test]
fn what_is_pinned_already_keeps_its_pin() {
    let registry = Registry::start();
    let amd64 = image("amd64");
    let digest = registry.put_image(&amd64, "app", "1");
    let name = format!("{}/app@{digest}", registry.host());
    let specs = resolved(&[PLAIN, &name]);
    let expected = (json!(digest), json!(""), json!(name), json!(format!("{}/app", registry.host())));
    let spec = &specs[0];
    assert_eq!(
        (spec["Digest"].clone(), spec["ListDigest"].clone(), spec["LocalName"].clone(), spec["Source"].clone()),
        expected
    );
    let parts = resolved(&["--osbuild", PLAIN, &name]);
    assert!(parts["inputs"].get("manifest-lists").is_none(), "{parts}");
    assert!(parts["sources"].get("org.osbuild.skopeo-index").is_none(), "{parts}");
}

#[test]
fn osbuild_has_no_words_for_some_sets() {
    let registry = Registry::start();
    let amd64 = image("amd64");
    registry.put_image(&amd64, "app", "1");
    registry.put_image(&amd64, "other", "1");
    let (one, two) = (format!("{}/app:1", registry.host()), format!("{}/other:1", registry.host()));
    let refused = resolve(&["--osbuild", PLAIN, &one, &two]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains(&format!("two names ({one}, {two}) for the image ID {}", amd64.config_digest())),
        "{}",
        refused.err
    );
    // The same twice is once, and image-builder's list has both.
    assert_eq!(resolved(&["--osbuild", PLAIN, &one, &one]), resolved(&["--osbuild", PLAIN, &one]));
    assert_eq!(resolved(&[PLAIN, &one, &two]).as_array().unwrap().len(), 2);
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let registry = Registry::start();
    let index = IndexBuilder::oci().image(&image("arm64")).image(&image("s390x")).build();
    registry.put_index(&index, "app", "1");
    registry.put_image(&image("amd64"), "single", "1");
    let at = |name: &str| format!("{}/{name}", registry.host());
    let output = resolve(&[PLAIN, "--arch", "riscv64", &at("app:1"), &at("none:1"), &at("single:1")]);
    assert_eq!(output.code, 2, "{}", output.err);
    for part in [
        "resolving images, 3 of which could not be",
        "no image for platform linux/riscv64 in the manifest list (the list has: linux/arm64, linux/s390x)",
        "manifest unknown",
        "the image is for linux/amd64, not for linux/riscv64",
    ] {
        assert!(output.err.contains(part), "{part}: {}", output.err);
    }
    for (arguments, said) in [
        (vec!["dir:/x"], "osbuild takes images from registries and from stores only"),
        (vec!["--name", "x", "a:1", "b:1"], "--name is for one image"),
        (vec!["Bad/Name"], "the repository must be in lower case"),
        (vec!["a:1", "--platform", "nonsense"], "`nonsense` is not a platform"),
    ] {
        let output = run(&[vec!["resolve"], arguments.clone()].concat());
        assert_eq!(output.code, 1, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(said), "{arguments:?}: {}", output.err);
    }
}

#[test]
fn bytes_that_lie_are_refused() {
    let registry = Registry::start();
    let amd64 = image("amd64");
    let index = IndexBuilder::docker().image(&amd64).build();
    registry.put_index(&index, "app", "1");
    registry.on(Matcher::get("/v2/app/manifests/sha256:*"), Fault::FlipByte(40));
    let output = resolve(&[PLAIN, "--platform", "linux/amd64", &format!("{}/app:1", registry.host())]);
    assert_eq!(output.code, 1, "{}", output.err);
    assert!(output.err.contains(&amd64.digest()), "{}", output.err);
}

#[test]
fn skopeo_finds_the_same_and_stores_answer_too() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let dir = format!("dir:{}", temp.path().join("list").display());
    let index = IndexBuilder::docker().image(&image("amd64")).image(&image("arm64")).build();
    index.write_dir(temp.path().join("list"));
    let there = registry.reference("app:1");
    Peer::skopeo().run(["copy", "--all", "--dest-tls-verify=false", &dir, &there]).ok();
    let raw = Peer::skopeo().run(["inspect", "--raw", PLAIN, &there]);
    let theirs = sha256_digest(&raw.stdout);
    let spec = &resolved(&[PLAIN, "--arch", "amd64", &there])[0];
    assert_eq!(spec["ListDigest"], theirs);
    let pinned = registry.reference(&format!("app@{}", spec["Digest"].as_str().unwrap()));
    let config = Peer::skopeo().run(["inspect", "--raw", "--config", PLAIN, &pinned]);
    assert_eq!(spec["ImageID"], sha256_digest(&config.stdout));

    let store = Store::overlay();
    store.skopeo(["copy", "--src-tls-verify=false", &there, &store.reference("localhost/app:1")]).ok();
    let local = store.reference("localhost/app:1");
    let parts = resolved(&["--osbuild", &local]);
    let id = index.image("amd64").config_digest();
    assert_eq!(
        parts,
        json!({
            "sources": { "org.osbuild.containers-storage": { "items": { (id.clone()): {} } } },
            "inputs": { "images": {
                "type": "org.osbuild.containers-storage", "origin": "org.osbuild.source",
                "references": { (id): { "name": "localhost/app:1" } },
            } },
        })
    );
    let spec = &resolved(&[&local])[0];
    assert_eq!(
        (&spec["LocalStorage"], &spec["TLSVerify"], &spec["ListDigest"]),
        (&json!(true), &Value::Null, &json!(theirs))
    );
    let mixed = resolve(&["--osbuild", PLAIN, &local, &there]);
    assert!(mixed.err.contains("two names") || mixed.err.contains("inputs of different types"), "{}", mixed.err);
}
