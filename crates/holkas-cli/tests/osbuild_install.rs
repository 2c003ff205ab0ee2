//! `holkas osbuild install`, and what osbuild is told of the modules.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Output, run};
use holkas_testkit::osbuild::schema::faults;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

/// The keys that osbuild takes in a meta.json; with any other it counts the module as missing.
const KEYS: [&str; 5] = ["summary", "description", "schema", "schema_2", "capabilities"];

fn install(libdir: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["osbuild", "install", "--libdir", libdir.to_str().unwrap()];
    arguments.extend(more);
    run(&arguments)
}

fn listed() -> Vec<String> {
    run(&["osbuild", "files"]).out.lines().map(str::to_owned).collect()
}

fn libdir() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let libdir = temp.path().join("usr/lib/osbuild");
    fs::create_dir_all(&libdir).unwrap();
    (temp, libdir)
}

#[test]
fn links_and_descriptions_are_put_in_place_and_stay() {
    let (_temp, libdir) = libdir();
    let first = install(&libdir, &[]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.out.contains("sources/org.osbuild.skopeo: installed"), "{}", first.out);
    let mut files = listed();
    files.sort();
    assert_eq!(files.len(), 16);
    let tree = Tree::read(&libdir);
    let mut there: Vec<String> = tree.paths().into_iter().filter(|path| path.contains('/')).collect();
    there.sort();
    assert_eq!(there, files, "nothing else, and nothing staged");
    for file in &files {
        let path = libdir.join(file);
        match file.ends_with(".meta.json") {
            true => assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644),
            false => assert_eq!(fs::read_link(&path).unwrap(), Path::new(env!("CARGO_BIN_EXE_holkas"))),
        }
    }
    let second = install(&libdir, &[]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(second.out.lines().all(|line| line.ends_with(": was there")), "{}", second.out);
    Tree::read(&libdir).assert_same(&tree, &Options::new());
    // What is installed is the module that its place says.
    let service = Command::new(libdir.join("inputs/org.osbuild.containers")).output().unwrap();
    assert!(String::from_utf8_lossy(&service.stderr).contains("a module of osbuild"));
}

#[test]
fn packagers_say_where_the_program_will_be() {
    for binary in ["/usr/bin/holkas", "../../../bin/holkas"] {
        let (temp, libdir) = libdir();
        let output = install(&libdir, &["--binary", binary]);
        assert_eq!(output.code, 0, "{}", output.err);
        let link = libdir.join("stages/org.osbuild.skopeo");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(binary));
        if !binary.starts_with('/') {
            fs::create_dir_all(temp.path().join("usr/bin")).unwrap();
            fs::copy(env!("CARGO_BIN_EXE_holkas"), temp.path().join("usr/bin/holkas")).unwrap();
            assert!(fs::canonicalize(&link).unwrap().ends_with("usr/bin/holkas"));
        }
        // A later version, or one in another place, replaces what is ours without being asked twice.
        fs::write(libdir.join("stages/org.osbuild.skopeo.meta.json"), "an older one").unwrap();
        let output = install(&libdir, &[]);
        assert_eq!(output.code, 0, "{}", output.err);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(env!("CARGO_BIN_EXE_holkas")));
        assert!(meta(&libdir, "stages/org.osbuild.skopeo").is_object());
    }
}

#[test]
fn what_is_somebody_elses_is_not_touched_unasked_and_kept_when_asked() {
    let (_temp, libdir) = libdir();
    fs::create_dir(libdir.join("sources")).unwrap();
    fs::create_dir(libdir.join("stages")).unwrap();
    let stock = libdir.join("sources/org.osbuild.skopeo");
    fs::write(&stock, "#!/usr/bin/python3\n").unwrap();
    fs::set_permissions(&stock, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(libdir.join("sources/org.osbuild.skopeo.meta.json"), "{\"stock\":true}").unwrap();
    symlink("/usr/bin/other", libdir.join("stages/org.osbuild.skopeo")).unwrap();
    fs::write(libdir.join("stages/org.osbuild.mkfs"), "x").unwrap();
    let before = Tree::read(&libdir);
    let refused = install(&libdir, &[]);
    assert_eq!(refused.code, 1);
    let foreign = ["sources/org.osbuild.skopeo", "sources/org.osbuild.skopeo.meta.json", "stages/org.osbuild.skopeo"];
    for file in foreign {
        assert!(refused.err.contains(file), "{}", refused.err);
    }
    assert!(refused.err.contains("--force"), "{}", refused.err);
    let made = |path: &[u8]| path.is_empty() || path == b"inputs";
    Tree::read(&libdir).assert_same(&before, &Options::new().ignore_paths(made).ignore_mtimes());
    for again in [false, true] {
        let forced = install(&libdir, &["--force"]);
        assert_eq!(forced.code, 0, "{}", forced.err);
        for file in foreign {
            let kept = libdir.join("holkas-replaced").join(file);
            let was = before.at(file);
            assert_eq!(Tree::read(kept.parent().unwrap()).at(kept.file_name().unwrap().as_encoded_bytes()), was);
            let said = format!("{file}: replaced; what was there is holkas-replaced/{file}");
            assert_eq!(forced.out.contains(&said), !again, "{}", forced.out);
        }
        assert!(fs::read_link(&stock).unwrap().ends_with("holkas"));
        assert!(meta(&libdir, "sources/org.osbuild.skopeo").get("stock").is_none());
    }
    // The package of osbuild was updated: the first original stays.
    fs::remove_file(&stock).unwrap();
    fs::write(&stock, "#!/usr/bin/python3\nupdated\n").unwrap();
    assert_eq!(install(&libdir, &["--force"]).code, 0);
    let kept = fs::read_to_string(libdir.join("holkas-replaced/sources/org.osbuild.skopeo")).unwrap();
    assert_eq!(kept, "#!/usr/bin/python3\n");
    assert_eq!(fs::read_to_string(libdir.join("stages/org.osbuild.mkfs")).unwrap(), "x");
}

#[test]
fn a_library_directory_must_be_there() {
    let temp = tempfile::tempdir().unwrap();
    let output = install(&temp.path().join("missing"), &[]);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("there is no such directory") && output.err.contains("hint: "), "{}", output.err);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

fn meta(libdir: &Path, module: &str) -> Value {
    serde_json::from_slice(&fs::read(libdir.join(format!("{module}.meta.json"))).unwrap()).unwrap()
}

fn metas() -> Vec<(String, Value)> {
    let (_temp, libdir) = libdir();
    assert_eq!(install(&libdir, &[]).code, 0);
    listed().into_iter().filter(|file| !file.ends_with(".json")).map(|m| (m.clone(), meta(&libdir, &m))).collect()
}

#[test]
fn descriptions_have_the_shape_that_osbuild_reads() {
    for (module, meta) in metas() {
        let object = meta.as_object().unwrap();
        assert!(object.keys().all(|key| KEYS.contains(&key.as_str())), "{module}");
        assert!(!meta["summary"].as_str().unwrap().is_empty());
        let lines = meta["description"].as_array().unwrap();
        assert!(lines.iter().all(Value::is_string) && !lines.is_empty(), "{module}");
        assert!(object.contains_key("schema") != object.contains_key("schema_2"), "{module}");
        if module.starts_with("stages/") {
            // To what is in it, osbuild adds the stage's type, devices and mounts.
            let schema = meta["schema_2"].as_object().unwrap();
            assert!(schema.keys().all(|key| ["options", "inputs"].contains(&key.as_str())), "{module}");
        }
    }
}

#[test]
fn schemas_take_working_manifests_and_refuse_others() {
    let digest = |n: usize| format!("sha256:{}", n.to_string().repeat(64));
    let image = json!({"image": {"name": "quay.io/a/b", "digest": digest(1)}});
    let full = json!({"image": {
        "name": "quay.io/a/b", "digest": digest(1), "tls-verify": false, "containers-transport": "containers-storage",
        "storage-location": "/srv/store",
    }});
    let list = json!({"image": {"name": "quay.io/a/b", "tls-verify": true, "containers-transport": "docker"}});
    let input = |kind: &str, origin: &str, references: Value| json!({"type": kind, "origin": format!("org.osbuild.{origin}"), "references": references});
    let containers = |origin: &str, references: Value| input("org.osbuild.containers", origin, references);
    let storage = |references: Value| input("org.osbuild.containers-storage", "source", references);
    let stage = |options: Value, inputs: Value| json!({"options": options, "inputs": inputs});
    let images = json!({"images": containers("source", json!({}))});
    let destination = |destination: Value| stage(json!({"destination": destination}), images.clone());
    let good = [
        ("sources/org.osbuild.skopeo", json!({"items": {digest(2): image, digest(3): full}})),
        ("sources/org.osbuild.skopeo", json!({"items": {}})),
        ("sources/org.osbuild.skopeo", json!({"digests": {digest(2): image}})),
        ("sources/org.osbuild.skopeo-index", json!({"items": {digest(2): list}})),
        ("sources/org.osbuild.containers-storage", json!({"items": {digest(2): {}}})),
        ("sources/org.osbuild.containers-storage", json!({})),
        ("inputs/org.osbuild.containers", containers("source", json!({digest(2): {"name": "localhost/x"}}))),
        ("inputs/org.osbuild.containers", containers("source", json!([{"id": digest(2), "options": {"name": "x"}}]))),
        ("inputs/org.osbuild.containers", containers("source", json!([{"id": digest(2)}]))),
        ("inputs/org.osbuild.containers", containers("pipeline", json!({"name:archive": {"name": "x"}}))),
        (
            "inputs/org.osbuild.containers",
            containers("pipeline", json!([{"id": "name:archive", "options": {"name": "x"}}])),
        ),
        ("inputs/org.osbuild.containers-storage", storage(json!({digest(2): {"name": "x"}}))),
        ("inputs/org.osbuild.containers-storage", storage(json!({digest(2): {}}))),
        ("inputs/org.osbuild.containers-storage", storage(json!([{"id": digest(2)}]))),
        ("stages/org.osbuild.skopeo", destination(json!({"type": "containers-storage"}))),
        (
            "stages/org.osbuild.skopeo",
            destination(json!({"type": "containers-storage", "storage-path": "/usr/share/c", "storage-driver": "vfs"})),
        ),
        ("stages/org.osbuild.skopeo", destination(json!({"type": "oci", "path": "/x"}))),
        ("stages/org.osbuild.skopeo", destination(json!({"type": "oci-archive", "path": "/x"}))),
        ("stages/org.osbuild.skopeo", destination(json!({"type": "dir", "path": "/x"}))),
        (
            "stages/org.osbuild.skopeo",
            stage(
                json!({"destination": {"type": "dir", "path": "/x"}, "remove-signatures": true}),
                json!({"images": {}, "manifest-lists": {"type": "org.osbuild.files"}}),
            ),
        ),
        ("stages/org.osbuild.container-deploy", stage(json!({}), images.clone())),
        (
            "stages/org.osbuild.container-deploy",
            stage(json!({"exclude": ["/sysroot"], "remove-signatures": true}), images.clone()),
        ),
        (
            "stages/org.osbuild.oci-archive",
            stage(json!({"architecture": "x86_64", "filename": "a.tar"}), json!({"base": {}})),
        ),
        (
            "stages/org.osbuild.oci-archive",
            stage(
                json!({
                    "architecture": "aarch64", "variant": "v8", "filename": "a.tar",
                    "config": {
                        "Cmd": ["a"], "Entrypoint": ["b"], "Env": ["A=b"], "ExposedPorts": ["80"], "User": "u",
                        "Labels": {"a": "b"}, "StopSiganl": "SIGTERM", "Volumes": ["/v"], "WorkingDir": "/",
                    },
                    "annotations": {"org.osbuild.ostree.ref": "r", "mine": "x"},
                }),
                json!({"base": {}, "layer.1": {}, "layer.10": {}}),
            ),
        ),
    ];
    let bad = [
        ("sources/org.osbuild.skopeo", json!({})),
        ("sources/org.osbuild.skopeo", json!({"items": {}, "digests": {}})),
        ("sources/org.osbuild.skopeo", json!({"items": {format!("../{}", digest(2)): image}})),
        ("sources/org.osbuild.skopeo", json!({"items": {digest(2): {"image": {"name": "x"}}}})),
        ("sources/org.osbuild.skopeo", json!({"items": {digest(2): {"image": {"name": "x", "digest": "sha256:1"}}}})),
        ("sources/org.osbuild.skopeo", json!({"items": {digest(2): {"image": {"name": 1, "digest": digest(1)}}}})),
        ("sources/org.osbuild.skopeo", json!({"items": {digest(2): image}, "more": 1})),
        ("sources/org.osbuild.skopeo-index", json!({"items": {digest(2): image}})),
        ("sources/org.osbuild.containers-storage", json!({"items": {digest(2): {"name": "x"}}})),
        ("inputs/org.osbuild.containers", containers("source", json!({}))),
        ("inputs/org.osbuild.containers", containers("source", json!([]))),
        ("inputs/org.osbuild.containers", containers("source", json!({digest(2): {}}))),
        ("inputs/org.osbuild.containers", containers("elsewhere", json!({digest(2): {"name": "x"}}))),
        (
            "inputs/org.osbuild.containers",
            json!({"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": {digest(2): {"name": "x"}}}),
        ),
        (
            "inputs/org.osbuild.containers-storage",
            input("org.osbuild.containers-storage", "pipeline", json!({"x": {}})),
        ),
        ("stages/org.osbuild.skopeo", stage(json!({}), images.clone())),
        ("stages/org.osbuild.skopeo", destination(json!({"type": "oci"}))),
        ("stages/org.osbuild.skopeo", destination(json!({"type": "docker-archive", "path": "/x"}))),
        ("stages/org.osbuild.skopeo", stage(json!({"destination": {"type": "dir", "path": "/x"}}), json!({}))),
        ("stages/org.osbuild.container-deploy", stage(json!({"exclude": []}), images.clone())),
        ("stages/org.osbuild.container-deploy", stage(json!({}), json!({}))),
        ("stages/org.osbuild.oci-archive", stage(json!({"filename": "a.tar"}), json!({"base": {}}))),
        (
            "stages/org.osbuild.oci-archive",
            stage(json!({"architecture": "x", "filename": "a"}), json!({"base": {}, "layer.0": {}})),
        ),
    ];
    let metas = metas();
    let judge = |module: &str, document: &Value| {
        let (_, meta) = metas.iter().find(|(name, _)| name == module).unwrap();
        match meta.get("schema_2") {
            // As osbuild does: what is in it are the properties of the stage.
            Some(schema) => faults(&json!({"type": "object", "properties": schema}), document),
            None => faults(&meta["schema"], document),
        }
    };
    for (module, document) in &good {
        assert_eq!(judge(module, document), [] as [String; 0], "{module}: {document}");
    }
    for (module, document) in &bad {
        assert!(!judge(module, document).is_empty(), "{module} takes {document}");
    }
}
