//! Hostile documents and files through the program: refused in every room, at once, and nothing is left.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{finish, holkas, run};
use holkas_testkit::image::{BuiltImage, ImageBuilder, sha256_digest};
use holkas_testkit::tar::{Entry, FILE, TarBuilder};
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

fn image() -> BuiltImage {
    ImageBuilder::oci().layer(TarBuilder::new().file("f", 0o644, "x").finish()).build()
}

fn manifest() -> Value {
    serde_json::from_slice(&image().manifest).unwrap()
}

/// Writes the image with another manifest into a room, and returns its reference.
fn with_manifest(room: &str, bytes: &[u8], dir: &Path) -> String {
    let image = BuiltImage { manifest: bytes.to_vec(), ..image() };
    let path = dir.join(room);
    match room {
        "dir" => {
            image.write_dir(&path);
            format!("dir:{}", path.display())
        }
        "oci" => {
            image.write_oci(&path, Some("1"));
            format!("oci:{}:1", path.display())
        }
        _ => {
            image.write_oci(dir.join("layout"), Some("1"));
            let tar = Command::new("tar").arg("-C").arg(dir.join("layout")).arg("-cf").arg(&path).arg(".").status();
            assert!(tar.unwrap().success());
            fs::remove_dir_all(dir.join("layout")).unwrap();
            format!("oci-archive:{}:1", path.display())
        }
    }
}

/// Copies into a store, a layout and a directory, and says what was said; nothing may be left of any.
#[track_caller]
fn refused(from: &str, dir: &Path, code: i32) -> String {
    let before = Tree::read(dir);
    let mut said = String::new();
    for to in ["containers-storage:[overlay@{}/root+{}/run]localhost/x:1", "oci:{}/to:1", "dir:{}/to"] {
        let to = to.replace("{}", &dir.display().to_string());
        let output = finish(holkas().args(["--insecure-policy", "copy", "-q", from, &to]));
        assert_eq!(output.code, code, "{from} to {to}: {}", output.err);
        // A store that was begun holds no image; all else is as it was.
        let _made = fs::remove_dir_all(dir.join("run"));
        if let Ok(records) = fs::read_to_string(dir.join("root/overlay-images/images.json")) {
            assert_eq!(records, "[]", "{from}");
        }
        let _made = fs::remove_dir_all(dir.join("root"));
        before.assert_same(&Tree::read(dir), &Options::new().ignore_mtime_of(<[u8]>::is_empty));
        said = output.err;
    }
    said
}

#[test]
fn documents_with_two_readings_are_refused_in_every_room() {
    let with = |key: &str, value: Value| {
        let mut manifest = manifest();
        manifest[key] = value;
        serde_json::to_vec(&manifest).unwrap()
    };
    let good = serde_json::to_vec(&manifest()).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let cases = [
        ("manifests in an image", with("manifests", json!([]))),
        ("Layers beside layers", with("Layers", json!([]))),
        ("a key twice", text.replacen('{', r#"{"layers":[],"#, 1).into_bytes()),
        ("bytes behind", [&good[..], b"{}"].concat()),
        ("a byte order mark", [b"\xef\xbb\xbf", &good[..]].concat()),
        ("not UTF-8", [&good[..good.len() - 1], b",\"x\":\"\xff\"}"].concat()),
        ("deep", [&good[..good.len() - 1], b",\"x\":", &b"[".repeat(10_000)].concat()),
        ("a list of a list's digest that is none", {
            let entry =
                json!({"mediaType": manifest()["mediaType"], "digest": "sha256:../../../etc/passwd", "size": 1});
            let list = "application/vnd.oci.image.index.v1+json";
            serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": list, "manifests": [entry]})).unwrap()
        }),
    ];
    for (what, bytes) in cases {
        for room in ["dir", "oci", "oci-archive"] {
            let dir = tempfile::tempdir().unwrap();
            let from = with_manifest(room, &bytes, dir.path());
            let said = refused(&from, dir.path(), 1);
            assert!(said.starts_with("error: "), "{what} in {room}: {said}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        let output = finish(holkas().args(["is-manifest-list", "-"]).stdin(fs::File::open(file.path()).unwrap()));
        assert_eq!(output.code, 1, "{what} from standard input: {}", output.out);
    }
}

/// Sparse files of 5 GB where a few KiB are expected: the answer is there at once, and no memory was taken.
#[test]
fn documents_of_gigabytes_are_not_read() {
    const GIGABYTES: u64 = 5 << 30;
    let grow_to = |path: PathBuf, bytes| {
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap().set_len(bytes).unwrap();
    };
    let grow = |path| grow_to(path, GIGABYTES);
    let limited = |arguments: &[&str], said: &str| {
        // Address space for the program and its threads, and not for one such document.
        let mut command = Command::new("prlimit");
        command.args(["--as=1073741824", "--", env!("CARGO_BIN_EXE_holkas"), "--insecure-policy"]).args(arguments);
        let output = finish(command.env("HOME", "/nonexistent").stdin(Stdio::null()));
        assert_eq!(output.code, 1, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(said), "{arguments:?}: {}", output.err);
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let to = format!("oci:{}:1", at("to").display());
    let config = image().config_digest();
    let hex = config.strip_prefix("sha256:").unwrap();

    image().write_dir(at("d"));
    let reference = format!("dir:{}", at("d").display());
    for (file, said) in [("signature-1", "signature"), ("manifest.json", "manifest")] {
        let before = fs::read(at("d").join(file)).ok();
        grow(at("d").join(file));
        limited(&["copy", "-q", &reference, &to], said);
        fs::remove_file(at("d").join(file)).unwrap();
        before.into_iter().for_each(|bytes| fs::write(at("d").join(file), bytes).unwrap());
    }
    // A config that is as large as its manifest says, and one that is larger.
    grow(at("d").join(hex));
    limited(&["copy", "-q", &reference, &to], "config");
    let mut large = manifest();
    large["config"]["size"] = json!(GIGABYTES);
    fs::write(at("d/manifest.json"), serde_json::to_vec(&large).unwrap()).unwrap();
    limited(&["copy", "-q", &reference, &to], "over the limit");
    limited(&["manifest-digest", at("d").join(hex).to_str().unwrap()], "over the limit");
    limited(&["lists", at("d").join(hex).to_str().unwrap()], "over the limit");

    // The archive's own manifest.
    let entry = Entry { size: Some(GIGABYTES), ..Entry::new(FILE, "manifest.json") };
    fs::write(at("a"), TarBuilder::new().entry(entry).finish_without_end()).unwrap();
    grow_to(at("a"), GIGABYTES + 2048);
    limited(&["copy", "-q", &format!("docker-archive:{}", at("a").display()), &to], "manifest.json");
    assert!(!at("to").exists());
}

#[test]
fn standard_input_that_never_ends_is_an_error() {
    for command in ["manifest-digest", "is-manifest-list"] {
        let output = finish(holkas().args([command, "-"]).stdin(fs::File::open("/dev/zero").unwrap()));
        assert_eq!(output.code, 1, "{command}");
        assert!(output.err.contains("over the limit"), "{command}: {}", output.err);
    }
}

#[test]
fn archives_of_endless_entries_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let one = TarBuilder::new().file("f", 0o644, "").finish_without_end();
    fs::write(&path, one.repeat(100_001)).unwrap();
    for transport in ["docker-archive", "oci-archive"] {
        let said = refused(&format!("{transport}:{}", path.display()), dir.path(), 1);
        assert!(said.contains("entries") || said.contains("twice"), "{transport}: {said}");
    }
}

/// Names are text, and never a path.
#[test]
fn a_name_that_looks_like_a_path_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("in/layout");
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("victim"), "safe").unwrap();
    image().write_oci(&layout, Some("../../victim"));
    let before = Tree::read(dir.path());
    let said = refused(&format!("oci:{}:../../victim", layout.display()), dir.path(), 1);
    assert!(said.contains("not a name that an OCI layout can hold"), "{said}");
    // By its place the image is as good as any.
    let reference = format!("oci:{}:@0", layout.display());
    let output = run(&["inspect", "--format", "{{.Digest}}", &reference]);
    assert_eq!(output.out.trim_end(), sha256_digest(&image().manifest), "{}", output.err);
    let output = run(&["delete", &reference]);
    assert_eq!(output.code, 0, "{}", output.err);
    let after = Tree::read(dir.path());
    assert_eq!(after.at("victim"), before.at("victim"));
    assert!(after.get("in/layout/index.json").is_some());
}
