//! The container functions: osbuild's defects L, M, P and G, each as a case.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::{Path, PathBuf};

use holkas::ErrorKind;
use holkas::containers::{
    ContainerFormat, ContainersInput, ResolvedImage, WithLists, instances, is_manifest_list, is_manifest_list_file,
    manifest_digest, merge_manifest,
};
use holkas::image::ImageSource;
use holkas::oci::Algorithm;
use holkas::open::{Rooms, open_source};
use holkas_testkit::image::{BuiltImage, ImageBuilder};
use holkas_testkit::image::{BuiltIndex, IndexBuilder};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

fn image(architecture: &str) -> BuiltImage {
    let layer = TarBuilder::new().file("f", 0o644, architecture).finish();
    ImageBuilder::oci().layer(layer).platform(architecture, "linux").build()
}

/// Writes lists under their digests, as osbuild's source does, and returns their files.
fn write_lists(dir: &Path, lists: &[&BuiltIndex]) -> Vec<PathBuf> {
    std::fs::create_dir_all(dir).expect("a directory");
    lists
        .iter()
        .map(|list| {
            let path = dir.join(list.digest());
            std::fs::write(&path, &list.manifest).expect("a list");
            path
        })
        .collect()
}

fn input(root: &Path, archives: Value, lists: &[&BuiltIndex]) -> ContainersInput {
    write_lists(&root.join("lists"), lists);
    let files: serde_json::Map<_, _> = lists.iter().map(|list| (list.digest(), json!({}))).collect();
    ContainersInput::from_json(&json!({
        "images": {"path": root.join("images"), "data": {"archives": archives}},
        "manifest-lists": {"path": root.join("lists"), "data": {"files": files}},
    }))
    .expect("an input")
}

fn resolve(input: &ContainersInput) -> holkas::Result<Vec<ResolvedImage>> {
    input.resolve(|reference| open_source(reference, &Rooms::default()))
}

fn dir_source(path: &Path) -> Box<dyn ImageSource> {
    open_source(&holkas::reference::ImageReference::Dir(path.to_path_buf()), &Rooms::default()).expect("a source")
}

/// L1 to L8.
#[test]
fn what_is_a_manifest_list() {
    let one = image("amd64");
    let list = IndexBuilder::oci().image(&one).build();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&list.manifest).expect("JSON");
        change(&mut value);
        serde_json::to_vec(&value).expect("JSON")
    };
    let set = |key: &'static str, new: Value| with(&move |value| value[key] = new.clone());
    let answers: [(&str, Vec<u8>, bool); 7] = [
        ("an index", list.manifest.clone(), true),
        ("a Docker list", IndexBuilder::docker().image(&one).build().manifest, true),
        ("an image", one.manifest.clone(), false),
        ("no media type", IndexBuilder::oci().image(&one).without_media_type().build().manifest, true),
        ("L1: an empty media type", set("mediaType", json!("")), true),
        ("L7: parameters", set("mediaType", json!("application/vnd.oci.image.index.v1+json; charset=utf-8")), true),
        ("an image without media type", ImageBuilder::oci().without_media_type().build().manifest, false),
    ];
    for (what, bytes, expected) in answers {
        assert_eq!(is_manifest_list(&bytes).expect(what), expected, "{what}");
    }
    let refused: [(&str, Vec<u8>); 11] = [
        (
            "L2: both",
            with(&|value| {
                value["config"] = json!({});
                value["layers"] = json!([]);
                value.as_object_mut().expect("an object").remove("mediaType");
            }),
        ),
        ("L3: an array", b"[]".to_vec()),
        ("L4: null", b"null".to_vec()),
        ("L5: manifests is a string", set("manifests", json!("x"))),
        ("L6: Manifests", with(&|value| value["Manifests"] = json!([]))),
        ("L8: schema version 1", set("schemaVersion", json!(1))),
        ("M1: not UTF-8", b"{\"schemaVersion\":2,\"a\":\"\xff\"}".to_vec()),
        ("M2: a byte order mark", [b"\xef\xbb\xbf", &list.manifest[..]].concat()),
        ("M4: manifests is null", set("manifests", Value::Null)),
        ("twice", br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#.to_vec()),
        ("empty", Vec::new()),
    ];
    let temp = tempfile::tempdir().expect("a directory");
    let file = temp.path().join("doc.json");
    for (what, bytes) in refused {
        std::fs::write(&file, &bytes).expect("a file");
        let error = is_manifest_list_file(&file).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert!(error.to_string().contains("doc.json"), "{what}: {error}");
    }
}

/// M1 to M13.
#[test]
fn which_lists_name_which_image() {
    let temp = tempfile::tempdir().expect("a directory");
    let (amd, arm) = (image("amd64"), image("arm64"));
    let inner = IndexBuilder::oci().image(&amd).image(&arm).build();
    let outer = IndexBuilder::oci().index(&inner).build();
    let other = IndexBuilder::docker().image(&amd).build();
    let files = write_lists(temp.path(), &[&inner, &outer, &other]);
    let found = instances(&files).expect("a map");
    assert_eq!(found.len(), 2, "{found:?}");
    let mut ways: Vec<_> =
        found[&amd.digest().parse().expect("a digest")].iter().map(|way| way.lists.clone()).collect();
    ways.sort();
    // M8, M9: nested lists are followed. M10: no list hides another.
    let mut expected = [vec![files[0].clone()], vec![files[1].clone(), files[0].clone()], vec![files[2].clone()]];
    expected.sort();
    assert_eq!(ways, expected);

    // M12: SHA-512 names.
    let wide = temp.path().join(Algorithm::Sha512.digest(&inner.manifest).to_string());
    std::fs::write(&wide, &inner.manifest).expect("a file");
    assert_eq!(instances(&[wide]).expect("a map").len(), 2);

    let entry = |entry: Value| IndexBuilder::oci().entry(entry).build().manifest;
    let good = amd.descriptor();
    let without = |key: &str| {
        let mut entry = good.clone();
        entry.as_object_mut().expect("an object").remove(key);
        entry
    };
    let with = |key: &str, value: Value| {
        let mut entry = good.clone();
        entry[key] = value;
        entry
    };
    let name = |bytes: &[u8]| Algorithm::Sha256.digest(bytes).to_string();
    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("M3: an image", amd.manifest.clone(), "not a manifest list"),
        ("M5: no digest", entry(without("digest")), "manifests[0]"),
        ("M6: a digest that is a number", entry(with("digest", json!(7))), "manifests[0]"),
        ("M7: an array", b"[]".to_vec(), "array"),
        ("M13: an upper-case digest", entry(with("digest", json!(amd.digest().to_uppercase()))), "manifests[0]"),
        ("A4: a path", entry(with("digest", json!("sha256:../../../etc/passwd"))), "manifests[0]"),
        ("a negative size", entry(with("size", json!(-1))), "manifests[0]"),
        ("an entry that is a string", IndexBuilder::oci().entry(json!("x")).build().manifest, "manifests[0]"),
    ];
    for (what, bytes, why) in bad {
        let path = temp.path().join(name(&bytes));
        std::fs::write(&path, &bytes).expect("a file");
        let error = instances(std::slice::from_ref(&path)).expect_err(what);
        assert!(error.to_string().contains(&name(&bytes)), "{what}: {error}");
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
    // M11: the name is checked against the content.
    let lie = temp.path().join(amd.digest());
    std::fs::write(&lie, &inner.manifest).expect("a file");
    assert_eq!(instances(&[lie]).expect_err("M11").kind(), ErrorKind::Mismatch);
    let upper = temp.path().join(format!("sha256:{}", "A".repeat(64)));
    std::fs::write(&upper, &inner.manifest).expect("a file");
    assert!(instances(&[upper]).is_err());
    assert_eq!(instances(&[temp.path().join("absent")]).expect_err("absent").kind(), ErrorKind::NotFound);
}

/// A8: lists within lists are followed only so far.
#[test]
fn depth_is_bounded() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut lists = vec![IndexBuilder::oci().image(&image("amd64")).build()];
    for _ in 0..4 {
        let next = IndexBuilder::oci().index(lists.last().expect("one")).build();
        lists.push(next);
    }
    let files = write_lists(temp.path(), &lists.iter().collect::<Vec<_>>());
    assert!(instances(&files[..4]).is_ok());
    assert!(instances(&files).expect_err("five deep").to_string().contains("deeper than"));
}

/// P7, P10: no process, and the cause is in the error.
#[test]
fn digests_of_manifests() {
    let temp = tempfile::tempdir().expect("a directory");
    let file = temp.path().join("manifest.json");
    for bytes in [image("amd64").manifest, b"not json".to_vec(), Vec::new()] {
        std::fs::write(&file, bytes).expect("a file");
        let theirs = Peer::skopeo().run(["manifest-digest", file.to_str().expect("UTF-8")]).ok();
        assert_eq!(manifest_digest(&file, Algorithm::Sha256).expect("a digest").to_string(), theirs);
    }
    let error = manifest_digest(&temp.path().join("absent"), Algorithm::Sha256).expect_err("absent");
    assert!(error.to_string().contains("absent"), "{error}");
}

/// P1 to P6, P9, P10.
#[test]
fn pairing() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path();
    let (amd, arm, lone) = (image("amd64"), image("arm64"), image("s390x"));
    let list = IndexBuilder::oci().image(&amd).image(&arm).build();
    let second = IndexBuilder::docker().image(&amd).build();
    let images = root.join("images");
    std::fs::create_dir_all(&images).expect("a directory");
    for (key, image) in [("a", &amd), ("b", &arm), ("c", &amd), ("d", &lone)] {
        image.write_dir(images.join(key));
    }
    amd.write_oci_archive(images.join("e"), Some("t"));
    let dir = |name: &str| json!({"format": "dir", "name": name, "extra": 1});
    // P1: two images of one list. P2: the same image under two keys. M10, D4: two lists of one image.
    let archives = json!({"a": dir("x:1"), "b": dir("x:2"), "c": dir("x:3"), "d": dir("x:4")});
    let pairing = input(root, archives.clone(), &[&list, &second]);
    // P3: twice the same.
    for _ in 0..2 {
        let resolved = resolve(&pairing).expect("pairs");
        let lists: Vec<_> = resolved.iter().map(|image| (image.key.as_str(), image.lists.len())).collect();
        assert_eq!(lists, [("a", 2), ("b", 1), ("c", 2), ("d", 0)]);
        assert_eq!(resolved[0].path, images.join("a"));
        assert_eq!((resolved[0].name.as_str(), &resolved[0].data["extra"]), ("x:1", &json!(1)));
        assert_eq!(resolved[0].format, ContainerFormat::Dir);
    }
    // The sentence, with all that are left over.
    let strangers =
        [IndexBuilder::oci().image(&image("riscv64")).build(), IndexBuilder::oci().image(&image("ppc64le")).build()];
    let left = input(root, archives.clone(), &[&list, &strangers[0], &strangers[1]]);
    let mut names: Vec<_> = strangers.iter().map(BuiltIndex::digest).collect();
    names.sort();
    assert_eq!(
        resolve(&left).expect_err("left over").to_string(),
        format!(
            "The following manifest lists specified in the input did not match any of the container images: {}",
            names.join(", ")
        )
    );
    // No list: no image is opened.
    let none = input(root, json!({"absent": dir("x")}), &[]);
    assert_eq!(none.resolve(|_| panic!("nothing to open")).expect("pairs").len(), 1);
    // P10: no manifest.json.
    let absent = input(root, json!({"absent": dir("x")}), &[&list]);
    assert!(resolve(&absent).expect_err("absent").to_string().contains("absent"));
    // A list that lies about the size.
    let mut entry = amd.descriptor();
    entry["size"] = json!(7);
    let lie = IndexBuilder::oci().entry(entry).build();
    let lying = input(root, json!({"a": dir("x")}), &[&lie]);
    assert_eq!(resolve(&lying).expect_err("a lie").kind(), ErrorKind::Mismatch);

    // P6, P9: what is missing is named.
    let refused = [
        (json!({}), "`images`"),
        (json!({"images": {"path": "/x"}}), "`data`"),
        (json!({"images": {"path": "/x", "data": {}}}), "`archives`"),
        (json!({"images": {"path": "/x", "data": {"archives": {"k": {"name": "n"}}}}}), "`format`"),
        (json!({"images": {"path": "/x", "data": {"archives": {"k": {"format": "dir"}}}}}), "`name`"),
        (
            json!({"images": {"path": "/x", "data": {"archives": {"k": {"format": "F", "name": "n"}}}}}),
            "Unknown container format F",
        ),
        (json!({"images": {"path": "/x", "data": {"archives": {"../k": {"format": "dir", "name": "n"}}}}}), "../k"),
        (json!({"images": {"data": {"archives": {}}}}), "`path`"),
    ];
    for (value, why) in refused {
        let error = ContainersInput::from_json(&value).expect_err(why);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

/// P4, P5: lists are matched with images of every format.
#[test]
fn pairing_other_formats() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path();
    let one = image("amd64");
    let list = IndexBuilder::oci().image(&one).build();
    let images = root.join("images");
    std::fs::create_dir_all(&images).expect("a directory");
    one.write_dir(root.join("d"));
    let store = Store::at(images.join("storage"), "overlay");
    store.skopeo(["copy", &format!("dir:{}", root.join("d").display()), &store.reference("quay.io/x:1")]).ok();
    let entry = json!({"format": "containers-storage", "name": "x", "storage": {"driver": "overlay"}});
    // G11: with and without `sha256:`.
    for key in [one.config_digest(), one.id()] {
        let stored = input(root, json!({key: entry.clone()}), &[&list]);
        let resolved = resolve(&stored).expect("pairs");
        assert_eq!((resolved[0].path.clone(), resolved[0].lists.len()), (images.join("storage"), 1));
    }
    one.write_oci_archive(images.join("k"), Some("t"));
    let archive = input(root, json!({"k": {"format": "oci-archive", "name": "x"}}), &[&list]);
    assert_eq!(resolve(&archive).expect("pairs")[0].lists.len(), 1);
}

/// G1 to G4, G7: the instance is known by its digest, and a list that does not name it is refused.
#[test]
fn image_and_list_as_one_source() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path();
    // G1: the image of another machine. G2: two entries of one platform.
    let foreign = image("s390x");
    let list = IndexBuilder::oci().image(&image("amd64")).image(&image("s390x")).image(&foreign).build();
    let outer = IndexBuilder::oci().index(&list).build();
    foreign.write_dir_signed(root.join("a:b"), &["a signature"]);
    let files = write_lists(&root.join("lists"), &[&list, &outer]);
    let before = Tree::read(root);
    let source = WithLists::new(dir_source(&root.join("a:b")), &files).expect("a source");
    let top = source.top().expect("a manifest");
    assert_eq!(top.digest().to_string(), foreign.digest());
    let indexes = source.indexes(top.digest()).expect("lists");
    let digests: Vec<_> = indexes.iter().map(|index| index.digest().to_string()).collect();
    assert_eq!(digests, [list.digest(), outer.digest()]);
    // G5: signatures stay with the instance.
    assert_eq!(source.signatures(top.digest()).expect("signatures").len(), 1);
    assert!(source.signatures(indexes[0].digest()).expect("none").is_empty());
    // G12, G14: nothing was written.
    Tree::read(root).assert_same(&before, &Options::new());

    let refuse = |list: &BuiltIndex, kind: ErrorKind| {
        let files = write_lists(&root.join("lists"), &[list]);
        let error = WithLists::new(dir_source(&root.join("a:b")), &files).map(|_| ()).expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&list.digest()), "{error}");
        let error = merge_manifest(&files[0], &root.join("a:b"), &root.join("out")).expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!root.join("out").exists());
    };
    // G7.
    refuse(&IndexBuilder::oci().image(&image("arm64")).build(), ErrorKind::Refused);
    // G4.
    let mut entry = foreign.descriptor();
    entry["size"] = json!(foreign.manifest.len() + 1);
    refuse(&IndexBuilder::oci().entry(entry).build(), ErrorKind::Mismatch);
}

/// The form on disk: what skopeo reads, with the source as it was.
#[test]
fn merged_directory() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path();
    let one = image(holkas_testkit::oddities::native_architecture());
    let list = IndexBuilder::oci().image(&image("s390x")).image(&one).build();
    one.write_dir_signed(root.join("image"), &["first", "second"]);
    std::os::unix::fs::symlink("image", root.join("link")).expect("a symlink");
    let file = &write_lists(&root.join("lists"), &[&list])[0];
    let before = Tree::read(root.join("image"));
    merge_manifest(file, &root.join("link"), &root.join("out")).expect("merged");
    Tree::read(root.join("image")).assert_same(&before, &Options::new());

    let read = |name: &str| std::fs::read(root.join("out").join(name)).unwrap_or_else(|_| panic!("{name}"));
    let hex = one.digest().replace("sha256:", "");
    assert_eq!(read("manifest.json"), list.manifest);
    assert_eq!(read(&format!("{hex}.manifest.json")), one.manifest);
    assert_eq!(read(&format!("{hex}.signature-1")), b"first");
    assert_eq!(read(&format!("{hex}.signature-2")), b"second");
    assert!(!root.join("out/signature-1").exists());
    let left: Vec<_> =
        std::fs::read_dir(root).expect("a directory").filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    assert!(!left.iter().any(|name| name.starts_with(".unverified")), "{left:?}");
    // It is there already: neither replaced nor added to.
    assert_eq!(
        merge_manifest(file, &root.join("image"), &root.join("out")).expect_err("exists").kind(),
        ErrorKind::Refused
    );
    // skopeo takes it as a list with one instance.
    let store = Store::overlay();
    let from = format!("dir:{}", root.join("out").display());
    store.skopeo(["copy", "--remove-signatures", &from, &store.reference("quay.io/x:1")]).ok();
    let name = format!("quay.io/x@{}", list.digest());
    store.skopeo(["inspect", "--raw", &store.reference(name)]).ok();
}
