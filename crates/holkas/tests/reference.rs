//! References and names: what is accepted, what is refused, and that skopeo agrees.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::PathBuf;

use holkas::ErrorKind;
use holkas::reference::{ArchiveSelect, DockerReference, Driver, ImageReference, LayoutSelect, Name};
use holkas_testkit::peers::Peer;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const HEX_IN_REGISTRY: &str = "docker://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BOTH: &str = "docker://x:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn docker(text: &str) -> DockerReference {
    match text.parse().expect(text) {
        ImageReference::Docker(docker) => docker,
        other => panic!("{text}: {other:?}"),
    }
}

fn storage(text: &str) -> holkas::reference::StorageReference {
    match text.parse().expect(text) {
        ImageReference::Storage(storage) => storage,
        other => panic!("{text}: {other:?}"),
    }
}

/// Names, and what they are normalised to with a default tag; `None` is a refusal.
fn names() -> Vec<(String, Option<String>)> {
    let long = "a".repeat(255 - "docker.io/library/".len());
    let mut names: Vec<(String, Option<String>)> = [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("a/b", "docker.io/a/b:latest"),
        ("a/b/c:T_1.-x", "docker.io/a/b/c:T_1.-x"),
        ("docker.io", "docker.io/library/docker.io:latest"),
        ("docker.io/x", "docker.io/library/x:latest"),
        ("index.docker.io/x", "docker.io/library/x:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("host:5000", "docker.io/library/host:5000"),
        ("host:5000/x:1", "host:5000/x:1"),
        ("quay.io/x", "quay.io/x:latest"),
        ("UPPER.example/x", "UPPER.example/x:latest"),
        ("my_host.lan/x", "my_host.lan/x:latest"),
        ("aa__b", "docker.io/library/aa__b:latest"),
        ("a---b", "docker.io/library/a---b:latest"),
    ]
    .into_iter()
    .map(|(a, b)| (a.to_string(), Some(b.to_string())))
    .collect();
    names.push((format!("x@sha256:{HEX}"), Some(format!("docker.io/library/x@sha256:{HEX}"))));
    names.push((format!("x:1@sha256:{HEX}"), Some(format!("docker.io/library/x:1@sha256:{HEX}"))));
    names.push((long.clone(), Some(format!("docker.io/library/{long}:latest"))));
    let refused = [
        "Foo/bar",
        "aB",
        "a.b/C",
        "a//b",
        "/a",
        "a/",
        "-a.b/c",
        "a-/b",
        "a___b",
        "a..b",
        ".a",
        "a.",
        "a:b/c",
        "example.com:/x",
        "x:",
        "x:-a",
        "x:.a",
        "x y",
        "x@sha256:abcd",
        "x@md5:0123456789abcdef0123456789abcdef",
        "x@",
        "é",
        "a:ü",
        "https://x/y",
    ];
    names.extend(refused.into_iter().map(|text| (text.to_string(), None)));
    names.push((format!("{long}a"), None));
    names.push((format!("x:{}", "t".repeat(129)), None));
    names
}

#[test]
fn names_are_normalised() {
    for (text, expected) in names() {
        match (Name::parse_normalised(&text), expected) {
            (Ok(name), Some(expected)) => {
                let name = name.with_default_tag();
                assert_eq!(name.to_string(), expected, "{text}");
                assert_eq!(Name::parse_normalised(&expected).expect(&text), name, "{text}");
            }
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?}, but expected {expected:?}"),
        }
    }
}

#[test]
fn names_without_default_tag() {
    let name: Name = "x".parse().expect("a name");
    assert_eq!((name.to_string().as_str(), name.host(), name.tag()), ("docker.io/library/x", "docker.io", None));
    assert!(Name::parse_normalised(HEX).is_err(), "64 hex digits are no name");
    assert!(Name::parse_normalised("").is_err());
    let digest = format!("sha256:{HEX}").parse().expect("a digest");
    let both = name.with_default_tag().with_digest(digest);
    assert_eq!(both.to_string(), format!("docker.io/library/x:latest@sha256:{HEX}"));
    assert_eq!(both.clone().without_tag().to_string(), format!("docker.io/library/x@sha256:{HEX}"));
    assert_eq!(both.without_digest().to_string(), "docker.io/library/x:latest");
}

/// skopeo says how it normalised a name when the store does not have it.
#[test]
fn skopeo_normalises_alike() {
    let temp = tempfile::tempdir().expect("a directory");
    let store = format!("[vfs@{0}/graph+{0}/run]", temp.path().display());
    for (text, expected) in names() {
        let output = Peer::skopeo().run(["inspect", &format!("containers-storage:{store}{text}")]);
        let errors = output.errors();
        match &expected {
            Some(expected) => {
                assert!(errors.contains(&format!("{store}{expected}\\\" does not resolve")), "{text}: {errors}")
            }
            None => assert!(!errors.contains("does not resolve"), "{text}: {errors}"),
        }
    }
}

#[test]
fn paths_and_selections() {
    let dir = |path: &str| ImageReference::Dir(PathBuf::from(path));
    assert_eq!("dir:/a:b c".parse::<ImageReference>().expect("any byte"), dir("/a:b c"));
    assert_eq!("dir:rel".parse::<ImageReference>().expect("relative"), dir("rel"));
    let cases = [
        ("oci:/l", "/l", LayoutSelect::Only),
        ("oci:/l:", "/l", LayoutSelect::Only),
        ("oci:with:colon/d", "with", LayoutSelect::Named("colon/d".into())),
        ("oci:/l:a/b:1.0--x+y@z", "/l", LayoutSelect::Named("a/b:1.0--x+y@z".into())),
        ("oci:/l:@3", "/l", LayoutSelect::Position(3)),
        ("oci-archive:/f.tar:t", "/f.tar", LayoutSelect::Named("t".into())),
    ];
    for (text, path, select) in cases {
        match text.parse().expect(text) {
            ImageReference::Oci(layout) | ImageReference::OciArchive(layout) => {
                assert_eq!((layout.path, layout.select), (PathBuf::from(path), select), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let cases = [
        ("docker-archive:/f", ArchiveSelect::Only),
        ("docker-archive:/f:x", ArchiveSelect::Tag("docker.io/library/x:latest".parse().expect("a name"))),
        ("docker-archive:/f:@0", ArchiveSelect::Position(0)),
    ];
    for (text, select) in cases {
        match text.parse().expect(text) {
            ImageReference::DockerArchive(archive) => assert_eq!(archive.select, select, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn stores() {
    let spec = storage("containers-storage:[overlay@/g+/r:overlay.x=1,additionalimagestore=/a]alpine");
    assert_eq!(spec.store.driver, Some(Driver::Overlay));
    assert_eq!(spec.store.graph_root, Some("/g".into()));
    assert_eq!(spec.store.run_root, Some("/r".into()));
    assert_eq!(spec.store.options, ["overlay.x=1", "additionalimagestore=/a"]);
    let image = spec.image.expect("an image");
    assert_eq!(image.name.expect("a name").to_string(), "docker.io/library/alpine:latest");

    assert_eq!(storage("containers-storage:[/g]x").store.driver, None);
    assert_eq!(storage("containers-storage:[overlay2@/g]x").store.driver, Some(Driver::Overlay));
    assert_eq!(storage("containers-storage:[vfs@+/r]x").store.graph_root, None);
    assert_eq!(storage("containers-storage:[vfs@/g]").image, None);

    let id = |text: &str| storage(&format!("containers-storage:{text}")).image.expect("an image");
    // P9: osbuild's own keys, `sha256:…`, are image IDs.
    for text in [HEX.to_string(), format!("@{HEX}"), format!("sha256:{HEX}")] {
        let image = id(&text);
        assert_eq!((image.name, image.id.as_deref(), image.perhaps_id), (None, Some(HEX), None), "{text}");
    }
    let image = id(&format!("x:1@{HEX}"));
    assert_eq!((image.name.expect("a name").tag(), image.id.as_deref()), (Some("1"), Some(HEX)));
    let image = id("@cafe");
    assert_eq!((image.name, image.id.as_deref()), (None, Some("cafe")));
    let image = id("cafe");
    assert_eq!(image.perhaps_id.as_deref(), Some("cafe"));
    assert_eq!(image.name.expect("a name").to_string(), "docker.io/library/cafe:latest");
    assert_eq!(id("ca").perhaps_id, None);
    assert_eq!(id("cafe:1").perhaps_id, None);
    assert!(id(&format!("x@sha256:{HEX}")).name.expect("a name").digest().is_some());
}

#[test]
fn registries() {
    let both = docker("docker://docker.io/library/x:latest");
    assert_eq!(docker("docker://x"), both);
    assert_eq!(docker("docker://index.docker.io/x"), both);
    assert!(!both.is_unknown_digest());
    let digest = docker(&format!("docker://quay.io/a/b@sha256:{HEX}"));
    assert_eq!((digest.name().host(), digest.name().tag()), ("quay.io", None));
    assert_eq!(digest.name().digest().expect("a digest").hex(), HEX);
    assert_eq!(docker("docker://localhost:5000/x:1").name().host(), "localhost:5000");
    let unknown = docker("docker://quay.io/x@@unknown-digest@@");
    assert!(unknown.is_unknown_digest());
    assert_eq!((unknown.name().repository(), unknown.name().tag()), ("quay.io/x", None));
    let name = || Name::parse_normalised("x").expect("a name");
    assert_eq!(DockerReference::named(name()).expect("a reference"), both);
    assert_eq!(
        DockerReference::unknown_digest(name()).expect("a reference").to_string(),
        "//docker.io/library/x@@unknown-digest@@"
    );
    assert!(DockerReference::unknown_digest(name().with_default_tag()).is_err());
}

/// skopeo refuses the same references, each by its grammar: nothing is asked of any registry.
#[test]
fn skopeo_refuses_the_same_registry_references() {
    let why = ["does not start with //", "invalid reference format", "must be lowercase", "both a tag and digest"];
    let refused = ["docker:x", "docker:/x", "docker://", "docker://Alpine", "docker:///x", HEX_IN_REGISTRY, BOTH];
    for text in refused.into_iter().chain(["docker://x:1@@unknown-digest@@", "docker://x@@known@@"]) {
        let theirs = Peer::skopeo().run(["inspect", text]).errors();
        let by_grammar = why.iter().any(|why| theirs.contains(why)) || theirs.contains("64-byte hexadecimal");
        assert!(by_grammar, "{text}: {theirs}");
        ImageReference::parse(text).expect_err(text);
    }
}

#[test]
fn refused() {
    let cases = [
        ("alpine", ErrorKind::Invalid, "has no transport"),
        ("foo:bar", ErrorKind::Invalid, "unknown transport `foo`"),
        ("docker:alpine", ErrorKind::Invalid, "docker: image reference alpine does not start with //"),
        ("docker:/alpine", ErrorKind::Invalid, "does not start with //"),
        ("docker://", ErrorKind::Invalid, "it is empty"),
        ("docker:///alpine", ErrorKind::Invalid, "not an image name"),
        ("docker://https://quay.io/x", ErrorKind::Invalid, "not an image name"),
        ("docker://quay.io/../x", ErrorKind::Invalid, "not an image name"),
        ("docker://quay.io/x?a=b", ErrorKind::Invalid, "not an image name"),
        ("docker://user@quay.io/x", ErrorKind::Invalid, "digest"),
        ("docker://Alpine", ErrorKind::Invalid, "lower case"),
        (HEX_IN_REGISTRY, ErrorKind::Invalid, "image ID"),
        (BOTH, ErrorKind::Unsupported, "Docker references with both a tag and digest are currently not supported"),
        ("docker://x:1@@unknown-digest@@", ErrorKind::Invalid, "has unknown digest set"),
        ("docker://@@unknown-digest@@", ErrorKind::Invalid, "it is empty"),
        ("docker://x@@unknown-digest@@@@unknown-digest@@", ErrorKind::Invalid, "digest"),
        ("docker://x@@known@@", ErrorKind::Invalid, "digest"),
        ("docker://x\u{1b}[31m", ErrorKind::Invalid, "not an image name"),
        ("docker-daemon:alpine:1", ErrorKind::Unsupported, "`docker-daemon`"),
        ("dir:", ErrorKind::Invalid, "the path is empty"),
        ("oci::x", ErrorKind::Invalid, "the path is empty"),
        ("oci:/l:-x", ErrorKind::Invalid, "`-x`"),
        ("oci:/l:a//b", ErrorKind::Invalid, "`a//b`"),
        ("oci:/l:a---b", ErrorKind::Invalid, "`a---b`"),
        ("oci:/l:@x", ErrorKind::Invalid, "`@x` is not a position"),
        ("oci:/l:@-1", ErrorKind::Invalid, "not a position"),
        ("oci:/l:@99999999999999999999", ErrorKind::Invalid, "not a position"),
        ("oci-archive:/f:@0", ErrorKind::Invalid, "positions"),
        ("docker-archive:/f:", ErrorKind::Invalid, "it is empty"),
        ("docker-archive:/f:X", ErrorKind::Invalid, "lower case"),
        ("containers-storage:", ErrorKind::Invalid, "neither a store nor an image"),
        ("containers-storage:[]x", ErrorKind::Invalid, "empty"),
        ("containers-storage:[vfs@]x", ErrorKind::Invalid, "empty"),
        ("containers-storage:[@/g]x", ErrorKind::Invalid, "empty"),
        ("containers-storage:[vfs@/g", ErrorKind::Invalid, "closing"),
        ("containers-storage:[vfs@g]x", ErrorKind::Invalid, "absolute"),
        ("containers-storage:[vfs@/g+r]x", ErrorKind::Invalid, "absolute"),
        ("containers-storage:[btrfs@/g]x", ErrorKind::Unsupported, "`btrfs`"),
        ("containers-storage:[nope@/g]x", ErrorKind::Invalid, "`nope`"),
        ("containers-storage:x@", ErrorKind::Invalid, "empty"),
        ("containers-storage:x@nope", ErrorKind::Invalid, "neither a digest nor an image ID"),
        ("containers-storage:x@ab", ErrorKind::Invalid, "neither"),
        ("dir:a\u{1b}[31m\0", ErrorKind::Invalid, "NUL"),
    ];
    for (text, kind, why) in cases {
        let error = ImageReference::parse(text).expect_err(text);
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.to_string().contains(why), "{text}: {error}");
        assert!(!error.to_string().contains('\u{1b}'), "{text}: escapes reach the terminal");
    }
}

#[test]
fn display_round_trips() {
    let cases = [
        "dir:/a:b",
        "oci:/l",
        "oci:/l:t",
        "oci:/l:@2",
        "oci-archive:f.tar:t",
        "docker-archive:/f",
        "docker-archive:/f:docker.io/library/x:latest",
        "docker-archive:/f:@1",
        "containers-storage:docker.io/library/x:latest",
        "containers-storage:[overlay@/g+/r:a=b,c=d]quay.io/x:1",
        "containers-storage:[/g]cafe",
        "containers-storage:[vfs@+]@cafe",
        "containers-storage:[vfs@+/r]@cafe",
        "containers-storage:[vfs@/g]",
        "docker://docker.io/library/x:latest",
        "docker://localhost:5000/a/b:1",
        "docker://docker.io/library/x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "docker://quay.io/x@@unknown-digest@@",
    ];
    for text in cases {
        let reference: ImageReference = text.parse().expect(text);
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.to_string().parse::<ImageReference>().expect(text), reference);
    }
    let reference: ImageReference = format!("containers-storage:x@{HEX}").parse().expect("a reference");
    assert_eq!(reference.to_string(), format!("containers-storage:docker.io/library/x:latest@{HEX}"));
}
