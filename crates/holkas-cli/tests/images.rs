//! Images through the program: embedded, copied, inspected and deleted.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Output, finish, holkas, run};
use holkas_testkit::image::{BuiltImage, ImageBuilder};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;

fn image(text: &str) -> BuiltImage {
    ImageBuilder::oci()
        .layer(TarBuilder::new().dir("etc", 0o755).file("etc/motd", 0o644, text).finish())
        .layer(TarBuilder::new().file("etc/issue", 0o644, "<issue> & more").finish())
        .env("PATH=/usr/bin")
        .label("org.example.b", "<two> & three")
        .label("org.example.a", "one")
        .command(&["/bin/true"])
        .build()
}

/// Runs the program with every image accepted.
fn accepting(arguments: &[&str]) -> Output {
    finish(holkas().arg("--insecure-policy").args(arguments))
}

fn ok(arguments: &[&str]) -> String {
    let output = accepting(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {}", output.err);
    output.out
}

fn at(transport: &str, path: &Path, rest: &str) -> String {
    format!("{transport}:{}{rest}", path.display())
}

#[test]
fn inspect_says_what_skopeo_says() {
    let dir = tempfile::tempdir().expect("temp dir");
    let docker = ImageBuilder::docker().layer(TarBuilder::new().file("a", 0o644, "a").finish()).build();
    for (n, image) in [image("hello"), docker, ImageBuilder::oci().without_created().build()].iter().enumerate() {
        let path = dir.path().join(n.to_string());
        image.write_dir(&path);
        let reference = at("dir", &path, "");
        let ours: serde_json::Value = serde_json::from_str(&run(&["inspect", &reference]).out).expect("JSON");
        let theirs = Peer::skopeo().run(["inspect", &reference]).json();
        for (key, value) in theirs.as_object().expect("an object") {
            assert_eq!(ours.get(key), Some(value), "image {n}: {key}");
        }
        for flags in [&["--raw"][..], &["--raw", "--config"], &["--config"], &["--format", "{{.Digest}} {{.Labels}}"]] {
            let arguments: Vec<&str> = ["inspect"].iter().chain(flags).copied().chain([reference.as_str()]).collect();
            let ours = run(&arguments);
            let theirs = Peer::skopeo().run(&arguments);
            assert_eq!(
                (ours.code, ours.out.as_bytes()),
                (0, theirs.stdout.as_slice()),
                "image {n}: {flags:?}: {}",
                ours.err
            );
        }
    }
}

#[test]
fn inspect_refuses_what_skopeo_refuses() {
    let output = run(&["inspect", "--raw", "--format", "{{.Digest}}", "dir:/x"]);
    assert_eq!((output.code, output.err.as_str()), (1, "error: raw output does not support format option\n"));
}

#[test]
fn images_go_from_room_to_room_unchanged() {
    let dir = tempfile::tempdir().expect("temp dir");
    let image = image("hello");
    let rooms = [
        at("dir", &dir.path().join("first"), ""),
        at("oci", &dir.path().join("layout"), ":app"),
        at("oci-archive", &dir.path().join("a.tar"), ":app"),
        format!("containers-storage:[vfs@{}]example.org/app:1", dir.path().join("store").display()),
    ];
    image.write_dir(dir.path().join("first"));
    for pair in rooms.windows(2) {
        let digests = dir.path().join("digest");
        ok(&["copy", "-q", "--digestfile", digests.to_str().expect("path"), &pair[0], &pair[1]]);
        assert_eq!(fs::read_to_string(&digests).expect("digest file"), image.digest(), "{pair:?}: no newline");
        assert_eq!(run(&["inspect", "--raw", &pair[1]]).out.as_bytes(), image.manifest, "{pair:?}");
    }
    for room in &rooms[1..3] {
        let output = accepting(&["delete", room]);
        let deleted = room.starts_with("oci:");
        assert_eq!(output.code, i32::from(!deleted), "{room}: {}", output.err);
    }
    ok(&["delete", &rooms[3]]);
    let output = accepting(&["inspect", &rooms[3]]);
    assert_eq!(output.code, 2, "{}", output.err);
    assert!(output.err.contains("does not resolve to an image ID"), "{}", output.err);
}

#[test]
fn what_is_not_there_has_its_own_exit_code() {
    let dir = tempfile::tempdir().expect("temp dir");
    image("hello").write_oci(dir.path(), Some("1.0"));
    let target = at("dir", &dir.path().join("target"), "");
    for source in [at("oci", dir.path(), ":2.0"), format!("containers-storage:[vfs@{}/s]x", dir.path().display())] {
        let output = accepting(&["copy", &source, &target]);
        assert_eq!(output.code, 2, "{source}: {}", output.err);
        let output = accepting(&["copy", "--json", &source, &target]);
        let error: serde_json::Value = serde_json::from_str(&output.err).expect("one line of JSON");
        assert_eq!((output.code, &error["error"]["kind"]), (2, &"not-found".into()), "{source}");
    }
    assert!(!dir.path().join("target").exists());
}

#[test]
fn without_a_policy_nothing_comes_in() {
    let dir = tempfile::tempdir().expect("temp dir");
    image("hello").write_dir(dir.path().join("image"));
    let (source, target) = (at("dir", &dir.path().join("image"), ""), at("dir", &dir.path().join("target"), ""));
    let policy = dir.path().join("policy.json");
    let with = |policy: &Path| finish(holkas().args(["copy", "--policy"]).arg(policy).args([&source, &target]));

    let output = with(&policy);
    assert_eq!(output.code, 1);
    assert!(output.err.starts_with("error: loading trust policy\n"), "{}", output.err);

    fs::write(&policy, r#"{"default": [{"type": "reject"}]}"#).expect("policy");
    let output = with(&policy);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("reject"), "{}", output.err);
    assert!(!dir.path().join("target").exists());

    // The user's own file comes before the system's.
    for path in [".config", ".config/containers"] {
        fs::create_dir(dir.path().join(path)).expect("config directory");
    }
    fs::copy(&policy, dir.path().join(".config/containers/policy.json")).expect("policy");
    let output = finish(holkas().env("HOME", dir.path()).args(["copy", &source, &target]));
    assert_eq!(output.code, 1, "{}", output.err);

    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).expect("policy");
    let output = with(&policy);
    assert_eq!(output.code, 0, "{}", output.err);
}

#[test]
fn a_set_of_images_is_embedded_below_the_root() {
    let dir = tempfile::tempdir().expect("temp dir");
    image("one").write_oci(dir.path().join("one"), Some("1.0"));
    image("two").write_dir(dir.path().join("two:2"));
    let file = dir.path().join("images.toml");
    let text = "[store]\npath = \"/usr/share/containers/storage\"\ndriver = \"vfs\"\n\
                [[image]]\nsource = \"oci:one:1.0\"\nname = [\"example.org/one:1\", \"example.org/one\"]\n\
                [[image]]\nsource = \"dir:two:2\"\nname = \"two\"\n";
    fs::write(&file, text).expect("images.toml");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("root");
    let (file, root_text) = (file.to_str().expect("path"), root.to_str().expect("path"));
    let table = ok(&["embed", file, "--root", root_text]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let headings = ["NAME", "PLATFORM", "IMAGE-ID", "MANIFEST-DIGEST", "LIST-DIGEST", "LAYERS", "BYTES", "STATE"];
    assert_eq!(lines[0], headings);
    assert_eq!((lines[1][0], lines[1][3], lines[1][7]), ("example.org/one:1", image("one").digest().as_str(), "new"));
    assert_eq!(lines[2], ["example.org/one:latest"]);
    assert_eq!((lines[3][0], lines[3][4], lines.len()), ("docker.io/library/two:latest", "-", 4));

    // The second run finds all of it.
    let json = ok(&["embed", file, "--root", root_text, "--json", "--progress=none"]);
    let result: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let images = result["images"].as_array().expect("a list");
    assert_eq!(images[0]["names"], serde_json::json!(["example.org/one:1", "example.org/one:latest"]));
    assert_eq!(images[1]["names"], serde_json::json!(["docker.io/library/two:latest"]));
    assert_eq!(images[0]["image_id"], image("one").config_digest());
    assert_eq!(images[0]["manifest_digest"], image("one").digest());
    assert_eq!((&images[0]["state"], &images[0]["layers"]), (&"present".into(), &2.into()));
    assert!(root.join("usr/share/containers/storage/vfs-images/images.json").exists());
}

#[test]
fn a_mistake_in_the_list_leaves_the_tree_alone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("images.toml");
    fs::write(&file, "[[image]]\nsource = \"dir:absent\"\nname = \"a\"\nnmae = 1\n").expect("images.toml");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("root");
    let run = || finish(holkas().arg("--insecure-policy").arg("embed").arg(&file).arg("--root").arg(&root));
    let output = run();
    let place = format!("error: {}:4:1: reading `nmae` of [[image]] 1\n  caused by: unknown key;", file.display());
    assert_eq!(output.code, 1);
    assert!(output.err.starts_with(&place), "{}", output.err);
    assert!(output.err.contains("\n    4 | nmae = 1\n      | ^^^^\n"), "{}", output.err);

    fs::write(&file, "[[image]]\nsource = \"dir:absent\"\nname = \"a\"\n").expect("images.toml");
    let output = run();
    assert_ne!(output.code, 0);
    assert_eq!(fs::read_dir(&root).expect("root").count(), 0, "{}", output.err);
}

#[test]
fn deleting_from_a_layout_leaves_what_others_need() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (one, two) = (image("one"), image("two"));
    let layout = dir.path().join("layout");
    one.write_oci(&layout, Some("one"));
    two.write_dir(dir.path().join("two"));
    ok(&["copy", "-q", &at("dir", &dir.path().join("two"), ""), &at("oci", &layout, ":two")]);
    let blobs = || fs::read_dir(layout.join("blobs/sha256")).expect("blobs").count();
    // Manifest, config and lower layer are each one's own; the upper layer is the same.
    assert_eq!(blobs(), 7);
    ok(&["delete", &at("oci", &layout, ":one")]);
    assert_eq!(blobs(), 4);
    assert_eq!(run(&["inspect", "--raw", &at("oci", &layout, ":two")]).out.as_bytes(), two.manifest);
    ok(&["copy", "-q", &at("oci", &layout, ":two"), &at("dir", &dir.path().join("again"), "")]);
    assert_eq!(accepting(&["delete", &at("oci", &layout, ":one")]).code, 2);
    ok(&["delete", &at("oci", &layout, ":two")]);
    assert_eq!(blobs(), 0);
}

#[test]
fn bad_environment_is_named() {
    let output = finish(holkas().env("SOURCE_DATE_EPOCH", "soon").args([
        "--insecure-policy",
        "inspect",
        "containers-storage:x",
    ]));
    assert_eq!(output.code, 1);
    assert!(output.err.contains("SOURCE_DATE_EPOCH is `soon`"), "{}", output.err);
    let output =
        finish(holkas().env("CONTAINERS_STORAGE_CONF", "/nonexistent").args(["inspect", "containers-storage:x"]));
    assert_eq!(output.code, 1);
    assert!(output.err.contains("`/nonexistent` does not exist"), "{}", output.err);
    let output = finish(holkas().env("STORAGE_DRIVER", "zfs").args(["inspect", "containers-storage:x"]));
    assert_eq!(output.code, 1);
    assert!(output.err.contains("the storage driver `zfs` is not supported"), "{}", output.err);
}

#[test]
fn lists_are_told_and_merged() {
    let dir = tempfile::tempdir().expect("temp dir");
    let image = ImageBuilder::docker().layer(TarBuilder::new().file("a", 0o644, "a").finish()).build();
    let list = holkas_testkit::image::IndexBuilder::docker().image(&image).build();
    image.write_dir(dir.path().join("image"));
    let file = dir.path().join("list.json");
    fs::write(&file, &list.manifest).expect("list");
    let file = file.to_str().expect("path");
    assert_eq!(ok(&["is-manifest-list", file]), "true\n");
    let lists: serde_json::Value = serde_json::from_str(&ok(&["lists", file])).expect("JSON");
    assert_eq!(lists[image.digest()][0]["lists"], serde_json::json!([file]));
    let (from, to) = (dir.path().join("image"), dir.path().join("merged"));
    ok(&["merge-manifest", file, from.to_str().expect("path"), to.to_str().expect("path")]);
    assert_eq!(run(&["inspect", "--raw", &at("dir", &to, "")]).out.as_bytes(), list.manifest);
}

#[test]
fn compressed_archives_are_unpacked_where_the_user_says() {
    use holkas_testkit::image::{Compression, compress};
    let temp = tempfile::tempdir().unwrap();
    let (plain, packed) = (temp.path().join("plain.tar"), temp.path().join("packed.tar.gz"));
    image("hello").write_docker_archive(&plain, &["example.org/app:1"]);
    fs::write(&packed, compress(&fs::read(&plain).unwrap(), Compression::Gzip)).unwrap();
    for command in ["inspect", "list-tags"] {
        let expected = ok(&[command, &at("docker-archive", &plain, "")]);
        let scratch = format!("--tmpdir={}", temp.path().display());
        assert_eq!(ok(&[&scratch, command, &at("docker-archive", &packed, "")]), expected);
        assert_eq!(ok(&["--tmpdir=/nonexistent", command, &at("docker-archive", &plain, "")]), expected);
        let output = accepting(&["--tmpdir=/nonexistent", command, &at("docker-archive", &packed, "")]);
        assert_eq!(output.code, 1, "{}", output.err);
        assert!(output.err.contains("`/nonexistent`"), "{}", output.err);
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "nothing is left there");
}
