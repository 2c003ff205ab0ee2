//! Lists that lie: the manifest itself decides, and nothing is visible after an error.

use holkas_testkit::image::{BuiltImage, IndexBuilder, OCI_INDEX, OCI_MANIFEST, sha256_digest};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use serde_json::{Value, json};

use crate::scene::{
    artifact, artifact_with, copied, cosign, image, json, list_tag, old_registry, put, put_list, refused,
};

/// An image in a registry, with a bill of materials that honestly refers to it.
struct Honest {
    registry: Registry,
    image: BuiltImage,
    sbom: BuiltImage,
}

fn honest() -> Honest {
    let (registry, image) = (Registry::start(), image("amd64"));
    registry.put_image(&image, "app", "1");
    let sbom = artifact(Some(&image.descriptor()), "application/spdx+json", b"all that is in it");
    put(&registry, "app", &sbom);
    Honest { registry, image, sbom }
}

fn list(entries: &[Value]) -> String {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
}

impl Honest {
    /// Answers questions for referrers of the image with this from now on.
    fn answer(&self, content_type: &str, body: impl Into<Vec<u8>>) {
        self.registry.clear_faults();
        let asked = Matcher::get(&format!("/v2/app/referrers/{}", self.image.digest()));
        self.registry.on(asked, Fault::answer(200, &[("Content-Type", content_type)], body));
    }

    /// Fails to copy, by the API and by the list under a tag, and leaves nothing at the destinations.
    #[track_caller]
    fn refuses(&self, entries: &[Value], said: &str) {
        self.answer(OCI_INDEX, list(entries));
        self.fails(said);
        self.registry.clear_faults();
        self.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::status(404));
        put_list(&self.registry, "app", &self.image.digest(), entries);
        self.fails(said);
    }

    #[track_caller]
    fn fails(&self, said: &str) {
        let (to, temp) = (Registry::start(), tempfile::tempdir().unwrap());
        let from = self.registry.reference("app:1");
        refused(&[&from, &to.reference("app:1")], said);
        assert!(to.tags("app").is_empty() && to.manifests("app").is_empty(), "{said}");
        refused(&[&from, &format!("oci:{}:1", temp.path().join("o").display())], said);
        // What came so far may wait for the next run, under a name that says what it is.
        let names = std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let visible = names.filter(|name| !name.to_string_lossy().starts_with(".unverified-"));
        assert_eq!(visible.collect::<Vec<_>>(), [""; 0], "{said}");
    }
}

#[test]
fn lists_are_hints_and_manifests_decide() {
    let scene = honest();
    let other = artifact(Some(&image("arm64").descriptor()), "application/x", b"of another");
    let orphan = artifact(None, "application/x", b"of none");
    put(&scene.registry, "app", &other);
    put(&scene.registry, "app", &orphan);
    scene.refuses(&[other.descriptor()], &format!("which refers to {}", image("arm64").digest()));
    scene.refuses(&[orphan.descriptor()], "which refers to nothing");
    scene.refuses(&[scene.image.descriptor()], "which refers to nothing");

    // What is not there, and what is not what it should be, is named.
    let missing = artifact(Some(&scene.image.descriptor()), "application/x", b"never put");
    scene.refuses(&[scene.sbom.descriptor(), missing.descriptor()], &missing.digest());
    scene.registry.put_manifest("app", &missing.digest(), OCI_MANIFEST, &scene.sbom.manifest);
    scene.refuses(&[missing.descriptor()], &missing.digest());
    for (key, value) in [("size", json!(10)), ("size", json!(1u64 << 40)), ("mediaType", json!(OCI_INDEX))] {
        let mut entry = scene.sbom.descriptor();
        entry[key] = value;
        scene.refuses(&[entry], &scene.sbom.digest());
    }
    let mut entry = scene.sbom.descriptor();
    entry["digest"] = json!("sha256:../../../etc/passwd");
    scene.refuses(&[entry], "is not a digest");
}

#[test]
fn the_type_that_a_list_gives_is_not_believed() {
    let scene = honest();
    let mut entry = scene.sbom.descriptor();
    entry["artifactType"] = json!("application/vnd.dev.sigstore.bundle.v0.3+json");
    entry["annotations"] = json!({"signed": "yes"});
    scene.answer(OCI_INDEX, list(&[entry]));
    let to = old_registry();
    copied(&[&scene.registry.reference("app:1"), &to.reference("app:1")]);
    let listed = to.manifest("app", &list_tag(&scene.image.digest())).unwrap();
    let listed = json(&String::from_utf8_lossy(&listed.bytes));
    let mut own = scene.sbom.descriptor();
    own["artifactType"] = json!("application/spdx+json");
    assert_eq!(listed["manifests"], json!([own]));
}

#[test]
fn lists_without_end_come_to_one() {
    let scene = honest();
    let many: Vec<Value> = (0..1025).map(|n: u32| artifact(None, "", &n.to_le_bytes()).descriptor()).collect();
    scene.refuses(&many, "more than 1024 manifests");

    // Pages without entries that always lead to another one.
    scene.registry.clear_faults();
    let headers = [("Content-Type", OCI_INDEX), ("Link", "</{target}0>; rel=\"next\"")];
    scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::answer(200, &headers, list(&[])));
    scene.fails("more than 256 pages");
    // The same page again and again.
    scene.registry.clear_faults();
    let headers = [("Content-Type", OCI_INDEX), ("Link", "</v2/app/referrers/x>; rel=\"next\"")];
    scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::answer(200, &headers, list(&[])));
    scene.fails("again and again");
    // A body without an end.
    scene.registry.clear_faults();
    scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::Endless);
    scene.fails("over the limit");
}

#[test]
fn pages_are_followed() {
    let scene = honest();
    let more = artifact(Some(&scene.image.descriptor()), "application/x", b"more");
    put(&scene.registry, "app", &more);
    let page = |entry, link| {
        let headers = [("Content-Type", OCI_INDEX), ("Link", link)];
        Fault::answer(200, &headers[..if link.is_empty() { 1 } else { 2 }], list(&[entry]))
    };
    let path = format!("/v2/app/referrers/{}", scene.image.digest());
    let link = format!("<{path}?page=2>; rel=\"next\"");
    scene.registry.on(Matcher::get(&format!("{path}?page=2")), page(more.descriptor(), ""));
    scene.registry.on(Matcher::get(&path).nth(1), page(scene.sbom.descriptor(), &link));
    let to = Registry::start();
    let said = copied(&[&scene.registry.reference("app:1"), &to.reference("app:1")]);
    assert_eq!(json(&said)["referrers"], 2, "{said}");
}

#[test]
fn answers_that_are_no_lists_lead_to_the_tag() {
    let scene = honest();
    put_list(&scene.registry, "app", &scene.image.digest(), &[scene.sbom.descriptor()]);
    for (content_type, body) in [("text/html", "<html>welcome</html>"), ("application/json", "{}")] {
        scene.answer(content_type, body);
        let said = copied(&[&scene.registry.reference("app:1"), &Registry::start().reference("app:1")]);
        assert_eq!(json(&said)["referrers"], 1, "{content_type}: {said}");
    }
    for status in [404, 405] {
        scene.registry.clear_faults();
        scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::status(status));
        let said = copied(&[&scene.registry.reference("app:1"), &Registry::start().reference("app:1")]);
        assert_eq!(json(&said)["referrers"], 1, "{status}: {said}");
    }
    // A registry that fails has not said that there are none.
    scene.registry.clear_faults();
    scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::status(403));
    scene.fails("listing what refers to");
    // One that says that it is a list must be one.
    for body in ["", "[]", "{}", "<html>", r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#] {
        scene.answer(OCI_INDEX, body);
        scene.fails("listing what refers to");
    }
    // Under the tag is an image.
    scene.registry.clear_faults();
    scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::status(404));
    scene.registry.put_image(&scene.sbom, "app", &list_tag(&scene.image.digest()));
    scene.fails("not a manifest list");
}

#[test]
fn referrers_of_referrers_are_bounded() {
    let scene = honest();
    let mut last = scene.sbom.clone();
    for depth in 2..=5u8 {
        last = artifact(Some(&last.descriptor()), "application/x", &[depth]);
        put(&scene.registry, "app", &last);
        if depth == 4 {
            let said = copied(&[&scene.registry.reference("app:1"), &Registry::start().reference("app:1")]);
            assert_eq!(json(&said)["referrers"], 4, "{said}");
        }
    }
    scene.fails("more than 4");
}

#[test]
fn blobs_of_a_referrer_are_verified_and_bounded() {
    let scene = honest();
    let registry = &scene.registry;
    let tag = format!("{}.sig", list_tag(&scene.image.digest()));
    let signature = cosign(b"payload");
    registry.put_image(&signature, "app", &tag);
    registry.put_blob_as("app", &signature.layers[0].digest, b"another");
    scene_fails_for_blob(&scene, &signature);

    let mut many = json(&String::from_utf8_lossy(&signature.manifest));
    many["layers"] = vec![many["layers"][0].clone(); 1001].into();
    registry.put_manifest("app", &tag, OCI_MANIFEST, many.to_string().as_bytes());
    scene.fails("the limit is 1000");
    // The bytes under the tag are not those that are announced.
    registry.on(Matcher::get(&format!("/v2/app/manifests/{tag}")), Fault::Body(b"{}".to_vec()));
    scene.fails("another manifest than it sent");
    assert_ne!(sha256_digest(b"{}"), signature.digest());
}

#[test]
fn all_that_belongs_to_an_image_is_bounded_together() {
    let scene = honest();
    scene.registry.on(Matcher::get("/v2/app/referrers/*"), Fault::status(404));
    // Each is within the limit of one manifest; a registry would be given 65 MiB of them at the end.
    let long = "x".repeat(3900 << 10);
    let mut entries = Vec::new();
    for n in 0..17u8 {
        let large = artifact_with(Some(&scene.image.descriptor()), "", &[n], &json!({"a": long}));
        put(&scene.registry, "app", &large);
        entries.push(large.descriptor());
    }
    put_list(&scene.registry, "app", &scene.image.digest(), &entries);
    scene.fails("over the limit of 67108864 bytes");

    // An index counts with all that is in it.
    let mut index = IndexBuilder::oci().field("subject", scene.image.descriptor());
    for n in 0..1024u32 {
        index = index.image_with(&artifact(None, "", &n.to_le_bytes()), Value::Null, &[]);
    }
    let index = index.build();
    scene.registry.put_index(&index, "app", &index.digest());
    put_list(&scene.registry, "app", &scene.image.digest(), &[index.descriptor()]);
    scene.fails("more than 1024 manifests that belong to the image");
}

/// Blobs are put before any manifest, so that what can be seen is nothing.
#[track_caller]
fn scene_fails_for_blob(scene: &Honest, signature: &BuiltImage) {
    scene.fails(&signature.layers[0].digest[..19]);
}

#[test]
fn layouts_lie_no_better() {
    let (scene, temp) = (honest(), tempfile::tempdir().unwrap());
    let dir = temp.path().join("o");
    let (from, to) = (format!("oci:{}:1", dir.display()), Registry::start());
    copied(&[&scene.registry.reference("app:1"), &from]);
    let blob = |digest: &str| dir.join("blobs/sha256").join(&digest[7..]);
    let index = std::fs::read(dir.join("index.json")).unwrap();

    // A list under a tag that names what refers to another image.
    let other = artifact(Some(&image("arm64").descriptor()), "application/x", b"of another");
    std::fs::write(blob(&other.digest()), &other.manifest).unwrap();
    let list = list(&[other.descriptor()]);
    std::fs::write(blob(&sha256_digest(list.as_bytes())), &list).unwrap();
    let mut lying = json(&String::from_utf8_lossy(&index));
    lying["manifests"].as_array_mut().unwrap().push(json!({
        "mediaType": OCI_INDEX, "digest": sha256_digest(list.as_bytes()), "size": list.len(),
        "annotations": {"org.opencontainers.image.ref.name": list_tag(&scene.image.digest())},
    }));
    std::fs::write(dir.join("index.json"), lying.to_string()).unwrap();
    refused(&[&from, &to.reference("app:1")], &format!("which refers to {}", image("arm64").digest()));

    // A referrer that was tampered with, and one that is not there.
    std::fs::write(dir.join("index.json"), &index).unwrap();
    std::fs::write(blob(&scene.sbom.digest()), b"{}").unwrap();
    refused(&[&from, &to.reference("app:1")], &scene.sbom.digest());
    std::fs::remove_file(blob(&scene.sbom.digest())).unwrap();
    let said = copied(&[&from, &to.reference("app:1")]);
    assert_eq!(json(&said)["referrers"], 0, "nobody can say what it belonged to: {said}");
}
