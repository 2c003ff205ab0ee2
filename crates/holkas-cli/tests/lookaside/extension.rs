//! Registries that keep signatures themselves: `X-Registry-Supports-Signatures`.

use holkas_testkit::image::sha256_digest;
use holkas_testkit::registry::{Auth, Bearer, Fault, Matcher, Registry};
use serde_json::json;

use crate::scene::{Scene, files, image, signature};

#[test]
fn signatures_go_both_ways_as_with_skopeo() {
    let scene = Scene::new();
    // The registry comes first, whatever is said of a lookaside server.
    scene.registries_d("default-docker: {lookaside: 'http://127.0.0.1:1/s'}\n");
    let registry = Registry::builder().signatures().auth(Auth::Bearer(Bearer::user("anna", "secret"))).start();
    let (image, there) = (image("x"), registry.reference("a/b:1"));
    image.write_dir_signed(scene.at("image"), &[signature(b"1"), signature(b"2"), signature(b"1")]);
    let creds = ["--dest-creds=anna:secret", &scene.dir("image"), &there];
    scene.copied(&creds);
    let kept = registry.signatures("a/b", &image.digest());
    let contents: Vec<_> = kept.iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["kA0x", "kA0y"], "each once");
    // Once more changes nothing, neither by us nor by skopeo.
    scene.copied(&creds);
    let theirs = ["copy", "-q", "--dest-tls-verify=false"];
    scene.skopeo().run([&theirs[..], &creds].concat()).ok();
    assert_eq!(registry.signatures("a/b", &image.digest()), kept);
    for whose in ["ours", "theirs"] {
        let arguments = ["--src-creds=anna:secret", &there, &scene.dir(whose)];
        match whose {
            "ours" => scene.copied(&arguments),
            _ => drop(scene.skopeo().run([&["copy", "-q", "--src-tls-verify=false"], &arguments[..]].concat()).ok()),
        }
        let found = files(&scene.at(whose));
        assert_eq!((&found["signature-1"], &found["signature-2"]), (&signature(b"1"), &signature(b"2")));
        assert!(!found.contains_key("signature-3"));
    }
    // What skopeo has put we find.
    let other = registry.reference("theirs/b:1");
    scene.skopeo().run([&theirs[..], &["--dest-creds=anna:secret", &scene.dir("image"), &other]].concat()).ok();
    scene.copied(&["--src-creds=anna:secret", &other, &scene.dir("back")]);
    assert_eq!(files(&scene.at("back"))["signature-2"], signature(b"2"));
}

#[test]
fn lists_that_lie_are_refused() {
    let (scene, image) = (Scene::new(), image("x"));
    let registry = Registry::builder().signatures().start();
    registry.put_image(&image, "a/b", "1");
    let list = |signatures: serde_json::Value| json!({ "signatures": signatures }).to_string();
    let html = json!({"schemaVersion": 2, "type": "atomic", "content": "PGh0bWw+"});
    for (fault, said) in [
        (Fault::answer(200, &[], "<html>"), "list of signatures"),
        (Fault::answer(200, &[], list(json!([html]))), "it is no signature"),
        (Fault::answer(200, &[], list(json!(vec![json!({}); 129]))), "more than 128 signatures"),
        (Fault::answer(200, &[], vec![b' '; (4 << 20) + 1]), "over the limit"),
        (Fault::Endless, "over the limit"),
        (Fault::status(404), "not found (HTTP 404)"),
        (Fault::status(403), "HTTP 403"),
        (Fault::redirect(302, "/{target}"), "more than 10 redirects"),
    ] {
        registry.clear_faults();
        registry.on(Matcher::get("/extensions/*"), fault);
        scene.refused(&[&registry.reference("a/b:1"), &scene.dir("to")], said);
        assert!(!std::path::Path::new(&scene.at("to/manifest.json")).exists());
    }
    // A registry that does not announce it is not asked, and one that announces something else neither.
    let registry = Registry::start();
    registry.put_image(&image, "a/b", "1");
    registry.on(Matcher::get("/v2/"), Fault::header("X-Registry-Supports-Signatures", "0"));
    scene.copied(&[&registry.reference("a/b:1"), &scene.dir("plain")]);
    assert!(registry.requests("GET", "/extensions/").is_empty());
    assert_eq!(sha256_digest(&files(&scene.at("plain"))["manifest.json"]), image.digest());
}
