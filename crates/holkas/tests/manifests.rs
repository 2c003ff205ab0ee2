//! Manifests, lists and configs: hostile documents (A1 to A12), digests, platforms, and what inspect shows.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holkas::ErrorKind;
use holkas::image::{Image, ImageSource};
use holkas::inspect;
use holkas::limits::MANIFEST;
use holkas::oci::{Algorithm, Document, Index, Manifest, MediaType, Platform, document};
use holkas::open::{Rooms, open_source};
use holkas::verify::UntrustedBlob;
use holkas_testkit::image::{ImageBuilder, IndexBuilder};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn parse_as(bytes: &[u8], said: Option<&str>) -> holkas::Result<Document> {
    let blob = UntrustedBlob::from_bytes(bytes.to_vec());
    Document::parse(blob.identify(Algorithm::Sha256, said.map(MediaType::new), MANIFEST)?)
}

fn parse(value: &Value) -> holkas::Result<Document> {
    parse_as(&serde_json::to_vec(value).expect("JSON"), None)
}

fn manifest() -> Value {
    let layer = TarBuilder::new().file("f", 0o644, "x").finish();
    serde_json::from_slice(&ImageBuilder::oci().layer(layer).build().manifest).expect("JSON")
}

fn with(mut value: Value, path: &str, new: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').expect("a pointer");
    match value.pointer_mut(parent).expect("a parent") {
        Value::Array(list) => list[key.parse::<usize>().expect("a number")] = new,
        parent => parent[key] = new,
    }
    value
}

fn without(mut value: Value, key: &str) -> Value {
    value.as_object_mut().expect("an object").remove(key);
    value
}

/// A1: documents that two readers could understand differently.
#[test]
fn ambiguous() {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
    let cases = [
        ("an image with manifests", with(manifest(), "/manifests", json!([]))),
        ("the same, without type", with(without(manifest(), "mediaType"), "/manifests", json!([]))),
        ("an index with config", with(index.clone(), "/config", json!({}))),
        ("an index with layers", with(index.clone(), "/layers", json!([]))),
        ("an image with fsLayers", with(manifest(), "/fsLayers", json!([]))),
        ("an image with history", with(manifest(), "/history", json!([]))),
        ("schema 1 with layers", json!({"schemaVersion": 1, "fsLayers": [], "history": [], "layers": []})),
        ("Layers", with(manifest(), "/Layers", json!([]))),
        ("MANIFESTS", with(index, "/MANIFESTS", json!([]))),
        ("schema version 3", with(manifest(), "/schemaVersion", json!(3))),
        ("no schema version", without(manifest(), "schemaVersion")),
        ("nothing", json!({})),
    ];
    for (what, value) in cases {
        assert_eq!(parse(&value).expect_err(what).kind(), ErrorKind::Invalid, "{what}");
    }
}

/// A2: what is not one JSON document in one reading.
#[test]
fn malformed() {
    let good = serde_json::to_vec(&manifest()).expect("JSON");
    let text = String::from_utf8(good.clone()).expect("UTF-8");
    let cases = [
        ("a key twice", text.replacen('{', r#"{"layers":[],"#, 1).into_bytes()),
        ("a key twice, deep", text.replacen(r#""digest""#, r#""size":1,"digest""#, 1).into_bytes()),
        ("bytes behind", [&good[..], b"{}"].concat()),
        ("a byte order mark", [b"\xef\xbb\xbf", &good[..]].concat()),
        ("not UTF-8", text.replacen("mediaType", "media\u{0}Type", 1).replace('\u{0}', "\\ud800").into_bytes()),
        ("NaN", text.replacen("\"schemaVersion\":2", "\"schemaVersion\":NaN", 1).into_bytes()),
        ("deep", [&text.as_bytes()[..text.len() - 1], b",\"x\":", &b"[".repeat(10_000)].concat()),
        ("empty", Vec::new()),
        ("cut off", good[..good.len() - 1].to_vec()),
    ];
    for (what, bytes) in cases {
        assert_eq!(parse_as(&bytes, None).expect_err(what).kind(), ErrorKind::Invalid, "{what}");
    }
    assert!(parse_as(&good, None).is_ok());
}

/// A3: what the source says and what the document says.
#[test]
fn announced_types() {
    let image = serde_json::to_vec(&manifest()).expect("JSON");
    let bare = serde_json::to_vec(&without(manifest(), "mediaType")).expect("JSON");
    let list = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": []})).expect("JSON");
    for (what, bytes, said) in [
        ("an image said to be a list", &image, OCI_INDEX),
        ("an image said to be Docker's", &image, DOCKER),
        ("without its own type", &bare, OCI_INDEX),
        ("a list said to be an image", &list, OCI),
    ] {
        assert_eq!(parse_as(bytes, Some(said)).expect_err(what).kind(), ErrorKind::Mismatch, "{what}");
    }
    assert!(matches!(parse_as(&bare, None), Ok(Document::Manifest(_))));
    assert!(matches!(parse_as(&list, None), Ok(Document::Index(_))));
    assert!(parse_as(&image, Some("text/plain")).is_ok());
}

/// A4, A6: digests and sizes.
#[test]
fn descriptors() {
    let hex = "a".repeat(64);
    let digests = [
        json!("sha256:../../../etc/passwd"),
        json!(format!("sha256:{}", &hex[1..])),
        json!(format!("sha256:{hex}a")),
        json!(format!("sha256:{}", hex.to_uppercase())),
        json!(format!("md5:{}", &hex[..32])),
        json!("sha256:aa?x="),
        json!(""),
        json!(format!("sha256:{hex}\n")),
        json!(hex),
        Value::Null,
        json!(1),
    ];
    for place in ["/config/digest", "/layers/0/digest"] {
        for digest in &digests {
            let error = parse(&with(manifest(), place, digest.clone())).expect_err(place);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{place} = {digest}");
        }
    }
    // What a manifest is about is as strict, and may be absent.
    for digest in &digests {
        let subject = json!({"mediaType": OCI, "digest": digest, "size": 1});
        for document in [manifest(), json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})] {
            let error = parse(&with(document, "/subject", subject.clone())).expect_err("a subject");
            assert!(error.to_string().contains("subject"), "{digest}: {error}");
        }
    }
    let subject = json!({"mediaType": OCI, "digest": format!("sha256:{hex}"), "size": 1});
    for (subject, found) in [(subject, true), (Value::Null, false)] {
        let document = parse(&with(manifest(), "/subject", subject)).expect("a manifest");
        assert_eq!(document.subject().is_some(), found);
    }
    assert!(parse(&with(manifest(), "/subject", json!("sha256"))).is_err());
    for size in [json!(-1), json!(9_223_372_036_854_775_808_u64), json!(1.5), json!("1"), Value::Null] {
        let error = parse(&with(manifest(), "/layers/0/size", size.clone())).expect_err("a size");
        assert!(error.to_string().contains("layers[0]"), "{size}: {error}");
    }
    // A8: too many entries.
    let entry = json!({"mediaType": OCI, "digest": format!("sha256:{hex}"), "size": 1});
    let list = |n| json!({"schemaVersion": 2, "manifests": vec![entry.clone(); n]});
    assert!(parse(&list(4096)).is_ok());
    assert!(parse(&list(4097)).is_err());
    // A7: documents beyond the limit are not read.
    let error = parse_as(&vec![b' '; 5 << 20], None).expect_err("5 MiB");
    assert!(error.to_string().contains("over the limit"), "{error}");
}

/// A10, A11.
#[test]
fn configs() {
    let temp = tempfile::tempdir().expect("a directory");
    let layer = TarBuilder::new().file("f", 0o644, "x").finish();
    let open = |image: holkas_testkit::image::BuiltImage| {
        let path = temp.path().join(image.id());
        image.write_dir(&path);
        let source = open_source(&format!("dir:{}", path.display()).parse().expect("a reference"), &Rooms::default())?;
        let manifest = Manifest::parse(source.top()?)?;
        Image::open(source.as_ref(), manifest, Vec::new())
    };
    let rootfs = |ids: Value| {
        ImageBuilder::oci()
            .layer(layer.clone())
            .config_field("rootfs", json!({"type": "layers", "diff_ids": ids}))
            .build()
    };
    assert!(open(ImageBuilder::oci().layer(layer.clone()).build()).is_ok());
    assert_eq!(open(rootfs(json!([]))).expect_err("too few").kind(), ErrorKind::Mismatch);
    assert_eq!(open(rootfs(json!(["sha256:xyz"]))).expect_err("no digest").kind(), ErrorKind::Invalid);
    assert_eq!(open(rootfs(json!("x"))).expect_err("no list").kind(), ErrorKind::Invalid);
    // What is not UTF-8 in a label is somebody's name, and no reason to refuse the image; the bytes stay as they are.
    let mut latin1 = ImageBuilder::oci().layer(layer.clone()).label("author", "Jos?").build();
    let at = latin1.config.windows(4).position(|four| four == b"Jos?").expect("the label") + 3;
    latin1.config[at] = 0xe9;
    let mut manifest_of_it: Value = serde_json::from_slice(&latin1.manifest).expect("JSON");
    manifest_of_it["config"]["digest"] = json!(latin1.config_digest());
    latin1.manifest = serde_json::to_vec(&manifest_of_it).expect("JSON");
    let config = latin1.config.clone();
    let opened = open(latin1).expect("others take it, too").config.expect("an image");
    assert_eq!(opened.raw().bytes(), config);
    assert_eq!(opened.labels()["author"], "Jos\u{fffd}");
    let data = with(manifest(), "/config/data", json!("ZXZpbA=="));
    let Document::Manifest(parsed) = parse(&data).expect("data is ignored") else { panic!("an image") };
    assert_eq!(parsed.config().digest.to_string(), data["config"]["digest"].as_str().expect("text"));
}

/// A signed schema 1 manifest as libtrust makes it: a signature block before the last brace.
fn signed_schema1(payload: &str) -> (String, Vec<u8>) {
    let end = payload.rfind("\n}").expect("an end");
    let protected = json!({
        "formatLength": end,
        "formatTail": URL_SAFE_NO_PAD.encode(&payload[end..]),
        "time": "2020-01-01T00:00:00Z"
    });
    let signatures = json!([{
        // skopeo parses the key, so it must be a point of the curve: its generator.
        "header": {"alg": "ES256", "jwk": {
            "crv": "P-256", "kty": "EC",
            "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY", "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
        }},
        "signature": "c2ln",
        "protected": URL_SAFE_NO_PAD.encode(protected.to_string()),
    }]);
    (payload.to_string(), format!("{},\n   \"signatures\": {signatures}\n}}", &payload[..end]).into_bytes())
}

fn schema1() -> (String, Vec<u8>) {
    let newest = json!({
        "id": "a".repeat(64), "parent": "b".repeat(64), "architecture": "amd64", "os": "linux",
        "created": "2020-01-02T03:04:05.120Z", "docker_version": "1.2", "author": "me",
        "config": {"Env": ["A=b"], "Labels": {"b": "<1>", "a": "2"}}
    });
    let oldest = json!({"id": "b".repeat(64)});
    let payload = json!({
        "schemaVersion": 1, "name": "library/x", "tag": "t", "architecture": "amd64",
        "fsLayers": [{"blobSum": format!("sha256:{}", "1".repeat(64))}, {"blobSum": format!("sha256:{}", "2".repeat(64))}],
        "history": [{"v1Compatibility": newest.to_string()}, {"v1Compatibility": oldest.to_string()}],
    });
    signed_schema1(&serde_json::to_string_pretty(&payload).expect("JSON"))
}

/// A12: known by its payload's digest, inspected, but not taken as an image.
#[test]
fn schema_1() {
    let temp = tempfile::tempdir().expect("a directory");
    let (payload, signed) = schema1();
    let file = temp.path().join("manifest.json");
    for bytes in [&signed[..], payload.as_bytes()] {
        std::fs::write(&file, bytes).expect("a file");
        let theirs = Peer::skopeo().run(["manifest-digest", file.to_str().expect("UTF-8")]).ok();
        let ours = document::manifest_digest(bytes, Algorithm::Sha256, MANIFEST).expect("a digest");
        assert_eq!(ours.to_string(), theirs);
        assert_eq!(ours, Algorithm::Sha256.digest(payload.as_bytes()));
    }
    let Document::Schema1(parsed) = parse_as(&signed, None).expect("schema 1") else { panic!("not schema 1") };
    assert_eq!(*parsed.digest(), Algorithm::Sha256.digest(payload.as_bytes()));
    let raw = parsed.raw().clone();
    assert_eq!(Manifest::parse(raw).expect_err("not an image").kind(), ErrorKind::Unsupported);
    for (from, to) in [("formatLength", "formatlength"), ("\"protected\":\"", "\"protected\":\"!")] {
        let broken = String::from_utf8(signed.clone()).expect("UTF-8").replace(from, to);
        let protected = broken != String::from_utf8_lossy(&signed);
        let result = document::manifest_digest(broken.as_bytes(), Algorithm::Sha256, MANIFEST);
        assert!(result.is_err() || !protected, "{from}");
    }
}

#[test]
fn guessed_types() {
    let cases = [
        (json!({"mediaType": DOCKER}), Some(DOCKER)),
        (json!({"schemaVersion": 1}), Some("application/vnd.docker.distribution.manifest.v1+json")),
        (
            json!({"schemaVersion": 1, "signatures": []}),
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ),
        (json!({"schemaVersion": 1, "signatures": null}), Some("application/vnd.docker.distribution.manifest.v1+json")),
        (json!({"schemaVersion": 2}), Some(OCI)),
        (json!({"schemaVersion": 2, "manifests": []}), Some(OCI)),
        (json!({"schemaVersion": 2, "manifests": [{}]}), Some(OCI_INDEX)),
        (json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}), Some(OCI)),
        (
            json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.docker.container.image.v1+json"}}),
            Some(DOCKER),
        ),
        (json!({"schemaVersion": 3}), None),
        (json!({}), None),
        (json!([]), None),
    ];
    for (value, expected) in cases {
        let found = document::guess_media_type(&serde_json::to_vec(&value).expect("JSON"));
        assert_eq!(found.as_ref().map(MediaType::as_str), expected, "{value}");
    }
    assert_eq!(document::guess_media_type(b"x"), None);
}

/// A9: which entry a platform gets.
#[test]
fn platforms() {
    let list = |platforms: &[&str]| {
        let entries: Vec<_> = platforms
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let (text, zstd) = text.strip_suffix("+zstd").map_or((*text, false), |text| (text, true));
                let digest = format!("sha256:{n:064x}");
                let mut entry = json!({"mediaType": OCI, "digest": digest, "size": 1});
                if let Ok(platform) = text.parse::<Platform>() {
                    entry["platform"] = serde_json::to_value(platform).expect("JSON");
                }
                if zstd {
                    entry["annotations"] = json!({"io.github.containers.compression.zstd": "true"});
                }
                entry
            })
            .collect();
        let bytes = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": entries})).expect("JSON");
        Index::parse(UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, None, MANIFEST).expect("bytes"))
            .expect("a list")
    };
    let cases: [(&[&str], &str, Option<usize>); 16] = [
        (&["linux/arm64", "linux/amd64"], "linux/amd64", Some(1)),
        (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
        (&["linux/amd64", "linux/amd64+zstd"], "linux/amd64", Some(1)),
        (&["windows/amd64"], "linux/amd64", None),
        (&["-", "linux/amd64"], "linux/amd64", Some(1)),
        (&["-"], "linux/amd64", Some(0)),
        (&["linux/arm64", "linux/arm64/v8"], "linux/arm64", Some(1)),
        (&["linux/arm64"], "linux/arm64/v8", Some(0)),
        (&["linux/arm64/v9"], "linux/arm64", None),
        (&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", Some(2)),
        (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some(1)),
        (&["linux/arm/v7"], "linux/arm/v6", None),
        (&["linux/arm/v8", "linux/arm"], "linux/arm/v6", Some(1)),
        (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some(1)),
        (&["linux/amd64"], "linux/amd64/v3", Some(0)),
        (&[], "linux/amd64", None),
    ];
    for (entries, wanted, expected) in cases {
        let index = list(entries);
        let found = wanted.parse::<Platform>().expect(wanted).choose(&index);
        match (found, expected) {
            (Ok(entry), Some(n)) => assert_eq!(entry.digest, index.entries()[n].digest, "{wanted} of {entries:?}"),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::NotFound, "{wanted} of {entries:?}"),
            (found, _) => panic!("{wanted} of {entries:?}: {found:?}"),
        }
    }
    let two = list(&["linux/arm64", "linux/amd64"]);
    let error = "linux/s390x".parse::<Platform>().expect("a platform").choose(&two);
    assert_eq!(error.expect_err("none").hint_text(), Some("the list has: linux/amd64, linux/arm64"));
    for text in ["linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
        assert!(text.parse::<Platform>().is_err(), "{text}");
    }
}

/// What inspect prints, beside skopeo on the same directories.
#[test]
fn inspect_as_skopeo() {
    let temp = tempfile::tempdir().expect("a directory");
    let layer = || TarBuilder::new().file("f", 0o644, "x").finish();
    let rich = ImageBuilder::oci()
        .layer(layer())
        .platform("arm64", "linux")
        .variant("v8")
        .created("2020-01-02T03:04:05.120Z")
        .env("A=b")
        .label("b", "<1> & 2")
        .label("a", "2")
        .user("u")
        .command(&["x"])
        .run_field("Hostname", json!("dropped"))
        .run_field("Volumes", json!({"/v": {}}))
        .config_field("docker_version", json!("20"))
        .config_field("container", json!("dropped"));
    let docker = ImageBuilder::docker().layer(layer()).without_created().without_history();
    for (name, image) in [("rich", rich.build()), ("docker", docker.build()), ("bare", ImageBuilder::oci().build())] {
        image.write_dir(temp.path().join(name));
    }
    let (_, signed) = schema1();
    std::fs::create_dir(temp.path().join("schema1")).expect("a directory");
    std::fs::write(temp.path().join("schema1/manifest.json"), signed).expect("a file");
    let platform = Platform::host();
    for name in ["rich", "docker", "bare", "schema1"] {
        let reference = format!("dir:{}", temp.path().join(name).display());
        let source = open_source(&reference.parse().expect("a reference"), &Rooms::default()).expect("a source");
        let inspection = inspect::inspect(source.as_ref(), &platform).expect(name);
        let theirs = Peer::skopeo().run(["inspect", &reference]).ok();
        // skopeo 1.9 has no `LayersData` and no `Author` yet; key order counts.
        let mut value = serde_json::to_value(&inspection).expect("JSON");
        for key in ["LayersData", "Author"] {
            value = without(value, key);
        }
        let sorted = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(sorted(&inspect::to_json(&value).expect("JSON")), sorted(&theirs), "{name}");
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let mut expected = keys(&sorted(&theirs));
        expected.insert(expected.iter().position(|key| key == "Env").expect("Env"), "LayersData".to_string());
        let mut ours = keys(&serde_json::to_value(&inspection).expect("JSON"));
        ours.retain(|key| key != "Author");
        assert_eq!(ours, expected, "{name}: the order of keys");
        assert_eq!(
            inspect::raw(source.as_ref()).expect(name).bytes(),
            Peer::skopeo().run(["inspect", "--raw", &reference]).stdout
        );
        if name == "schema1" {
            assert_eq!(
                inspect::config(source.as_ref(), &platform).map(|_| ()).expect_err(name).kind(),
                ErrorKind::Unsupported
            );
            continue;
        }
        let config = inspect::to_json(&inspect::config(source.as_ref(), &platform).expect(name)).expect("JSON");
        assert_eq!(config, Peer::skopeo().run(["inspect", "--config", &reference]).ok(), "{name}: --config");
        let raw = inspect::raw_config(source.as_ref(), &platform).expect(name);
        assert_eq!(raw.bytes(), Peer::skopeo().run(["inspect", "--raw", "--config", &reference]).stdout, "{name}");
    }
}

/// Of a list, the digest is the list's and all else the instance's.
#[test]
fn inspect_a_list() {
    let temp = tempfile::tempdir().expect("a directory");
    let image = |architecture: &str| ImageBuilder::oci().platform(architecture, "linux").build();
    let list = IndexBuilder::oci().image(&image("s390x")).image(&image("arm64")).build();
    list.write_dir(temp.path().join("d"));
    let reference = format!("dir:{}/d", temp.path().display()).parse().expect("a reference");
    let source: Box<dyn ImageSource> = open_source(&reference, &Rooms::default()).expect("a source");
    let inspection = inspect::inspect(source.as_ref(), &"linux/s390x".parse().expect("a platform")).expect("a list");
    assert_eq!((inspection.digest.to_string(), inspection.architecture.as_str()), (list.digest(), "s390x"));
    let error = inspect::inspect(source.as_ref(), &"linux/riscv64".parse().expect("a platform")).expect_err("none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
