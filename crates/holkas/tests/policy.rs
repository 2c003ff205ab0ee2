//! policy.json: strict parsing, the order of scopes, and that skopeo decides alike.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::Path;

use holkas::ErrorKind;
use holkas::image::PolicyIdentity;
use holkas::oci::Algorithm;
use holkas::policy::{Policy, scopes};
use holkas::reference::{Driver, Name, StoredImage};
use holkas::registry::scopes::docker_scopes;
use holkas::verify::{UntrustedBlob, VerifiedBytes};
use holkas_testkit::image::ImageBuilder;
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;

/// Returns a manifest that nobody has signed.
fn any() -> VerifiedBytes {
    let limit = holkas::limits::MANIFEST;
    UntrustedBlob::from_bytes(b"{}".to_vec()).identify(Algorithm::Sha256, None, limit).expect("bytes")
}

fn decide(policy: &str, transport: &'static str, scopes: &[&str]) -> Result<(), holkas::Error> {
    let scopes = scopes.iter().map(|s| s.to_string()).collect();
    let identity = PolicyIdentity { transport, scopes, docker_reference: None };
    let policy = Policy::parse(policy.as_bytes(), "/p.json").expect(policy).at(0);
    policy.demands(&identity, "dir:/x")?.check(&any(), &[])
}

/// F1: anything that is not wholly understood is invalid.
#[test]
fn strict() {
    let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
    let cases = [
        ("".to_string(), "JSON"),
        ("[]".into(), "array"),
        ("{}".into(), "`default` is missing"),
        (r#"{"default":[]}"#.into(), "empty"),
        (r#"{"default":null}"#.into(), "not a list"),
        (r#"{"default":[{}]}"#.into(), "`type` is missing"),
        (r#"{"default":[{"type":"nope"}]}"#.into(), "unknown requirement type `nope`"),
        (r#"{"default":[{"type":"reject","x":1}]}"#.into(), "no key `x`"),
        (r#"{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}"#.into(), "twice"),
        (format!(r#"{{"default":{accept},"Default":{accept}}}"#), "unknown key `Default`"),
        (format!(r#"{{"default":{accept},"default":{accept}}}"#), "twice"),
        (format!(r#"{{"default":{accept}}} x"#), "trailing"),
        (format!(r#"{{"default":{accept},"transports":[]}}"#), "not an object"),
        (format!(r#"{{"default":{accept},"transports":{{"dir":{{"/a":[]}}}}}}"#), "scope `/a`"),
        (format!(r#"{{"default":{accept},"transports":{{"dir":{{"/":{accept}}}}}}}"#), "scope"),
        (format!(r#"{{"default":{accept},"transports":{{"dir":{{"rel":{accept}}}}}}}"#), "absolute"),
        (format!(r#"{{"default":{accept},"transports":{{"oci":{{"/a/../b":{accept}}}}}}}"#), "scope"),
        (format!(r#"{{"default":{accept},"transports":{{"docker-archive":{{"/a":{accept}}}}}}}"#), "no scope"),
        (format!(r#"{{"default":{accept},"transports":{{"containers-storage":{{"x":{accept}}}}}}}"#), "scope"),
    ];
    for (text, why) in cases {
        let error = Policy::parse(text.as_bytes(), "/p.json").expect_err(&text);
        let hint = error.hint_text().unwrap_or_default().to_string();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}");
        assert!(error.to_string().contains("/p.json"), "{text}: {error}");
        assert!(error.to_string().contains(why) || hint.contains(why), "{text}: {error}");
    }
    assert!(Policy::read(Path::new("/nonexistent/policy.json")).is_err());
}

/// F2: the most specific scope decides alone.
#[test]
fn scopes_in_order() {
    let policy = r#"{
        "default": [{"type": "reject"}],
        "transports": {
            "dir": {"/a/b": [{"type": "insecureAcceptAnything"}], "/a": [{"type": "reject"}]},
            "oci": {"": [{"type": "insecureAcceptAnything"}]},
            "oci-archive": {"/a": [{"type": "insecureAcceptAnything"}, {"type": "reject"}]},
            "containers-storage": {"": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}
        }
    }"#;
    let kind = |transport, path: &str| {
        let scopes = scopes::of_path(Path::new(path));
        decide(policy, transport, &scopes.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(kind("dir", "/a/b").is_ok());
    assert!(kind("dir", "/a/b/c").is_ok());
    assert_eq!(kind("dir", "/a/bc").expect_err("the parent").kind(), ErrorKind::Refused);
    assert_eq!(kind("dir", "/z").expect_err("the default").kind(), ErrorKind::Refused);
    assert!(kind("oci", "/z").is_ok());
    let error = kind("oci-archive", "/a/x").expect_err("all must hold");
    assert!(error.to_string().contains("scope `/a` of transport `oci-archive` in `/p.json`"), "{error}");
    assert!(error.to_string().contains("running image dir:/x is rejected by policy"), "{error}");
    assert!(kind("docker-archive", "/").expect_err("the default").to_string().contains("`default`"));
    let error = kind("containers-storage", "/").expect_err("signatures");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("a signature was required, but no signature exists"), "{error}");
    assert!(Policy::accept_anything().accepts_anything());
}

#[test]
fn scopes_of_images() {
    assert_eq!(scopes::of_path(Path::new("/a/b/c")), ["/a/b/c", "/a/b", "/a"]);
    let hex = "a".repeat(64);
    let mut image = StoredImage::named("quay.io/x/y:1".parse().expect("a name"));
    image.id = Some(hex.clone());
    assert_eq!(
        scopes::of_stored_image(Driver::Overlay, Path::new("/g"), &image),
        [
            &format!("[overlay@/g]quay.io/x/y:1@{hex}"),
            "[overlay@/g]quay.io/x/y:1",
            "[overlay@/g]quay.io/x/y",
            "[overlay@/g]quay.io/x",
            "[overlay@/g]quay.io",
            "[overlay@/g]",
            "[/g]"
        ]
    );
    let only_id = StoredImage { id: Some(hex.clone()), ..StoredImage::default() };
    let expected = [format!("[vfs@/g]@{hex}"), "[vfs@/g]".into(), "[/g]".into()];
    assert_eq!(scopes::of_stored_image(Driver::Vfs, Path::new("/g"), &only_id), expected);
}

#[test]
fn scopes_of_images_in_registries() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let scopes = |text: &str| docker_scopes(&Name::parse_normalised(text).expect(text));
    assert_eq!(scopes("alpine:3").transport, "docker");
    assert_eq!(
        scopes("alpine:3").scopes,
        ["docker.io/library/alpine:3", "docker.io/library/alpine", "docker.io/library", "docker.io", "*.io"]
    );
    assert_eq!(
        scopes(&format!("a.b.example.com:5000/x/y@{digest}")).scopes,
        [
            &format!("a.b.example.com:5000/x/y@{digest}"),
            "a.b.example.com:5000/x/y",
            "a.b.example.com:5000/x",
            "a.b.example.com:5000",
            "*.b.example.com",
            "*.example.com",
            "*.com"
        ]
    );
    assert_eq!(scopes("localhost/x").scopes, ["localhost/x", "localhost"]);
    assert_eq!(scopes("[::1]:5000/x:1").scopes, ["[::1]:5000/x:1", "[::1]:5000/x", "[::1]:5000"]);
}

/// The same policies over the same images, by skopeo and by us.
#[test]
fn skopeo_decides_alike() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().canonicalize().expect("a path");
    let image = ImageBuilder::oci().layer(TarBuilder::new().file("f", 0o644, "x").finish()).build();
    image.write_oci(root.join("layout"), Some("t"));
    image.write_dir(root.join("image"));
    let (yes, no) = (r#"[{"type":"insecureAcceptAnything"}]"#, r#"[{"type":"reject"}]"#);
    let path = root.display();
    let cases = [
        format!(r#"{{"default":{yes}}}"#),
        format!(r#"{{"default":{no}}}"#),
        format!(r#"{{"default":{no},"transports":{{"oci":{{"":{yes}}},"dir":{{"{path}":{yes}}}}}}}"#),
        format!(r#"{{"default":{yes},"transports":{{"oci":{{"{path}/layout":{no}}},"dir":{{"{path}/image":{no}}}}}}}"#),
        // An image's name in a layout is no part of a scope.
        format!(
            r#"{{"default":{no},"transports":{{"oci":{{"{path}/layout:t":{yes}}},"dir":{{"{path}/imag":{yes}}}}}}}"#
        ),
        format!(r#"{{"default":{yes},"transports":{{"oci":{{"{path}":{no},"":{yes}}},"dir":{{"/tmp":{no}}}}}}}"#),
        format!(r#"{{"default":{yes},"transports":{{"unheard-of":{{"x":{no}}}}}}}"#),
        format!(r#"{{"default":{yes},"transports":{{"dir":{{"{path}/":{no}}}}}}}"#),
    ];
    for (n, policy) in cases.iter().enumerate() {
        let file = root.join("policy.json");
        std::fs::write(&file, policy).expect("a file");
        for (transport, name) in [("oci", "layout"), ("dir", "image")] {
            let tag = if transport == "oci" { ":t" } else { "" };
            let from = format!("{transport}:{path}/{name}{tag}");
            let to = format!("dir:{path}/out-{n}-{name}");
            let policy_file = file.display().to_string();
            let theirs = Peer::program("skopeo").run(["--policy", &policy_file, "copy", &from, &to]);
            let scopes = scopes::of_path(&root.join(name));
            let identity = PolicyIdentity { transport, scopes, docker_reference: None };
            let ours =
                Policy::read(&file).and_then(|policy| policy.at(0).demands(&identity, &from)?.check(&any(), &[]));
            assert_eq!(ours.is_ok(), theirs.status.success(), "{policy} for {from}: {ours:?}, {}", theirs.errors());
        }
    }
}
