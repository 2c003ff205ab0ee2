//! The stage `org.osbuild.oci-archive`, run in a sandbox: skopeo, umoci, podman and GNU tar take what it makes.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use holkas_testkit::fault::Moments;
use holkas_testkit::image::{hex_of, sha256_digest};
use holkas_testkit::oddities::{native_architecture, pattern};
use holkas_testkit::osbuild::sandbox::{Sandbox, StageOutput, images};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::file_capability;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

const EPOCH: i64 = 1_700_000_000;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_holkas")).source_epoch(EPOCH)
}

/// Returns the inputs of these names, each a tree.
fn inputs(names: &[&str]) -> Value {
    let input = |name: &&str| (name.to_string(), json!({"path": format!("/run/osbuild/inputs/{name}"), "data": {}}));
    Value::Object(names.iter().map(input).collect::<Map<_, _>>())
}

fn options() -> Value {
    json!({"architecture": native_architecture(), "filename": "image.tar"})
}

fn run(sandbox: &Sandbox, names: &[&str], options: &Value) -> StageOutput {
    sandbox.run("org.osbuild.oci-archive", &inputs(names), options)
}

/// An archive, taken apart by tar.
struct Archive(TempDir);

impl Archive {
    fn open(path: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        program("tar", &["-xf", path.to_str().unwrap(), "-C", dir.path().to_str().unwrap()]);
        Self(dir)
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// Returns a document by its digest, which its bytes must have.
    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = self.file(&format!("blobs/sha256/{}", hex_of(digest)));
        assert_eq!(sha256_digest(&bytes), digest);
        assert_eq!(json!(bytes.len()), descriptor["size"]);
        bytes
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&self.file("index.json")).unwrap()
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&self.blob(&self.index()["manifests"][0])).unwrap()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&self.blob(&self.manifest()["config"])).unwrap()
    }

    /// Returns the tars of the layers.
    fn layers(&self) -> Vec<Vec<u8>> {
        let layers = self.manifest()["layers"].as_array().unwrap().clone();
        layers
            .iter()
            .map(|layer| {
                let mut plain = Vec::new();
                let blob = self.blob(layer);
                // Bytes 4 to 8 are the time that gzip was run at.
                assert_eq!(blob[4..8], [0; 4]);
                let path = self.0.path().join("layer.gz");
                fs::write(&path, blob).unwrap();
                let out = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
                assert!(out.status.success());
                plain.extend(out.stdout);
                plain
            })
            .collect()
    }
}

fn program(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Fills a directory with all that a tree can have and a tar finds hard.
fn odd_tree(root: &Path) {
    let at = |name: &str| root.join(name);
    let put = |name: &str, contents: &[u8]| fs::write(at(name), contents).unwrap();
    fs::create_dir_all(at("etc/empty")).unwrap();
    put("etc/plain", b"plain\n");
    put("etc/empty-file", b"");
    put("etc/block", &pattern(512));
    put("etc/large", &pattern(700_001));
    put("-C", b"a name that looks like an option\n");
    put("--checkpoint-action=exec=sh", b"another\n");
    put("with\nnewline", b"x");
    put("caf\u{e9}", b"x");
    fs::write(root.join(OsStr::from_bytes(b"not-utf-8-\xff")), b"x").unwrap();
    let long = "d".repeat(90);
    fs::create_dir_all(at(&format!("{long}/{long}/{long}"))).unwrap();
    put(&format!("{long}/{}", "f".repeat(200)), b"deep\n");
    put(&"e".repeat(100), b"a hundred\n");
    put(&"e".repeat(101), b"one more\n");
    put(&format!("{long}/{}", "\u{f6}".repeat(100)), b"not ASCII, and long\n");
    symlink("plain", at("etc/link")).unwrap();
    symlink("/nowhere/".repeat(30), at("etc/long-link")).unwrap();
    fs::hard_link(at("etc/plain"), at("hard")).unwrap();
    fs::hard_link(at("etc/plain"), at(&format!("{long}/hard"))).unwrap();
    fs::hard_link(at("etc/link"), at("hard-symlink")).unwrap();
    put("owned", b"x");
    chown(at("owned"), Some(1000), Some(3_000_000_000)).unwrap();
    lchown(at("etc/long-link"), Some(7), Some(8)).unwrap();
    put("setuid", b"x");
    chown(at("setuid"), Some(5), Some(6)).unwrap();
    fs::set_permissions(at("setuid"), Permissions::from_mode(0o6751)).unwrap();
    fs::create_dir(at("sticky")).unwrap();
    fs::set_permissions(at("sticky"), Permissions::from_mode(0o1777)).unwrap();
    put("unreadable", b"x");
    fs::set_permissions(at("unreadable"), Permissions::from_mode(0o000)).unwrap();
    for (name, kind, numbers) in [("null", "c", "1 3"), ("loop", "b", "7 260"), ("fifo", "p", "")] {
        let device = at(name);
        program(
            "mknod",
            &[&[device.to_str().unwrap(), kind][..], &numbers.split_whitespace().collect::<Vec<_>>()].concat(),
        );
    }
    for (name, key, value) in [
        ("etc/plain", "user.one", &b"1"[..]),
        ("etc/plain", "user.binary", &[0, 10, 61, 255]),
        ("etc/large", "security.capability", &file_capability(&[10])),
        ("sticky", "user.of-a-directory", b"x"),
        ("etc/plain", "trusted.not-kept", b"x"),
    ] {
        program("setfattr", &["-n", key, "-v", &format!("0x{}", hex(value)), at(name).to_str().unwrap()]);
    }
    let file = |name: &str| File::options().write(true).open(at(name)).unwrap();
    file("etc/plain").set_modified(UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789)).unwrap();
    file("etc/block").set_modified(UNIX_EPOCH + Duration::new(1_600_000_000, 500_000_000)).unwrap();
    file("etc/large").set_modified(UNIX_EPOCH - Duration::new(1, 250_000_000)).unwrap();
    file("etc/empty-file").set_modified(UNIX_EPOCH + Duration::new(20_000_000_000, 0)).unwrap();
    File::open(at("etc")).unwrap().set_modified(UNIX_EPOCH + Duration::new(1_500_000_000, 0)).unwrap();
}

/// The ID of an access control entry that is about nobody by number.
const NOBODY: u32 = u32::MAX;

/// Returns an access control list as the kernel has it: tag, rights and ID of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    list
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a busybox with its links into a directory.
fn busybox_tree(root: &Path) {
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "stat", "id"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/motd"), "base\n").unwrap();
}

fn tree_of(sandbox: &Sandbox, name: &str) -> Tree {
    Tree::read(sandbox.input(name))
}

/// Extracts a tar by GNU tar, attributes and all.
fn extracted(tar: &[u8]) -> (TempDir, Tree) {
    let dir = TempDir::new().unwrap();
    let (file, root) = (dir.path().join("layer.tar"), dir.path().join("root"));
    fs::write(&file, tar).unwrap();
    fs::create_dir(&root).unwrap();
    let arguments = ["--acls", "--xattrs", "--xattrs-include=*", "--same-owner", "--numeric-owner", "-xpf"];
    let output = Command::new("tar").args(arguments).arg(&file).arg("-C").arg(&root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = Tree::read(&root);
    (dir, tree)
}

/// What a layer does not carry: the root's own attributes, and what belongs to the host.
fn carried() -> Options {
    Options::new().ignore_paths(|path| path.is_empty()).ignore_xattrs(|name| name.starts_with(b"trusted."))
}

#[test]
fn gnu_tar_gives_the_tree_back() {
    let sandbox = sandbox();
    odd_tree(&sandbox.input("base"));
    let base = sandbox.input("base");
    let list = acl(&[(1, 7, NOBODY), (2, 5, 1234), (4, 4, NOBODY), (8, 4, 55), (16, 5, NOBODY), (32, 0, NOBODY)]);
    for (name, key) in [("owned", "system.posix_acl_access"), ("sticky", "system.posix_acl_default")] {
        program("setfattr", &["-n", key, "-v", &format!("0x{}", hex(&list)), base.join(name).to_str().unwrap()]);
    }
    let before = tree_of(&sandbox, "base");
    let _listener = UnixListener::bind(base.join("socket")).unwrap();
    let said = run(&sandbox, &["base"], &options()).ok();
    assert!(said.contains("warning: `socket` is a socket, and left out"), "{said}");
    let archive = Archive::open(&sandbox.tree().join("image.tar"));
    let layers = archive.layers();
    let (_dir, tree) = extracted(&layers[0]);
    before.assert_same(&tree, &carried());
    assert_eq!(archive.config()["rootfs"]["diff_ids"], json!([sha256_digest(&layers[0])]));
}

#[test]
fn umoci_gives_the_tree_back() {
    let sandbox = sandbox();
    odd_tree(&sandbox.input("base"));
    run(&sandbox, &["base"], &options()).ok();
    let dir = TempDir::new().unwrap();
    let (layout, bundle) = (dir.path().join("layout"), dir.path().join("bundle"));
    let archive = sandbox.tree().join("image.tar");
    let (from, to) = (format!("oci-archive:{}", archive.display()), format!("oci:{}:1", layout.display()));
    Peer::skopeo().run(["copy", &from, &to]).ok();
    let image = format!("{}:1", layout.display());
    Peer::umoci().run(["unpack", "--image", &image, bundle.to_str().unwrap()]).ok();
    // The year 2603 is beyond umoci.
    let known = carried().ignore_mtime_of(|path| path == b"etc/empty-file");
    tree_of(&sandbox, "base").assert_same(&Tree::read(bundle.join("rootfs")), &known);
}

#[test]
fn the_same_trees_give_the_same_bytes() {
    let sandbox = sandbox();
    odd_tree(&sandbox.input("base"));
    run(&sandbox, &["base"], &options()).ok();
    let first = fs::read(sandbox.tree().join("image.tar")).unwrap();
    run(&sandbox, &["base"], &options()).ok();
    assert!(first == fs::read(sandbox.tree().join("image.tar")).unwrap(), "the second run in place");
    // Another copy of the tree has other inodes, and its directories another order.
    let other = self::sandbox();
    fs::remove_dir(other.input("base")).unwrap();
    holkas_testkit::fault::copy_tree(sandbox.input("base"), other.tree().parent().unwrap().join("inputs/base"));
    run(&other, &["base"], &options()).ok();
    assert!(first == fs::read(other.tree().join("image.tar")).unwrap(), "a copy of the tree");
    let listed = Peer::program("tar").run(["-tf", other.tree().join("image.tar").to_str().unwrap()]).ok();
    let (blobs, rest): (Vec<_>, Vec<_>) =
        listed.lines().partition(|name| name.starts_with("blobs/sha256/") && name.len() > 13);
    assert_eq!((blobs.len(), rest), (3, vec!["blobs/", "blobs/sha256/", "index.json", "oci-layout"]));
}

/// More than ten layers: one diff ID for each, in the order of their numbers.
#[test]
fn layers_are_in_the_order_of_their_numbers() {
    let sandbox = sandbox();
    let mut names = vec!["base".to_string()];
    names.extend((1..=11).map(|n| format!("layer.{n}")));
    for (n, name) in names.iter().enumerate() {
        fs::write(sandbox.input(name).join("top"), format!("{n}\n")).unwrap();
        fs::write(sandbox.input(name).join(format!("only-{n}")), "x").unwrap();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    run(&sandbox, &names, &options()).ok();
    let archive = Archive::open(&sandbox.tree().join("image.tar"));
    let layers = archive.layers();
    let diff_ids: Vec<String> = layers.iter().map(sha256_digest).collect();
    assert_eq!(archive.config()["rootfs"]["diff_ids"], json!(diff_ids));
    for (n, layer) in layers.iter().enumerate() {
        let (_dir, tree) = extracted(layer);
        assert_eq!(tree.paths(), ["".to_string(), format!("only-{n}"), "top".to_string()]);
    }
    // containers-storage checks each layer against its diff ID.
    let store = Store::vfs();
    let from = format!("oci-archive:{}", sandbox.tree().join("image.tar").display());
    store.skopeo(["copy", &from, &store.reference("localhost/app:1")]).ok();
}

#[test]
fn podman_runs_it_by_way_of_the_next_stage() {
    let build = sandbox();
    busybox_tree(&build.input("base"));
    let layer = build.input("layer.1");
    fs::create_dir(layer.join("etc")).unwrap();
    fs::write(layer.join("etc/motd"), "layered\n").unwrap();
    fs::write(layer.join("etc/.wh.gone"), "").unwrap();
    fs::write(build.input("base").join("etc/gone"), "x").unwrap();
    let mut options = options();
    options["config"] = json!({"Cmd": ["/bin/cat", "/etc/motd"], "Env": ["PATH=/bin"], "Labels": {"a": "b"}});
    run(&build, &["base", "layer.1"], &options).ok();
    let archive = build.tree().join("image.tar");

    let store = Store::overlay();
    let from = format!("oci-archive:{}", archive.display());
    store.skopeo(["copy", &from, &store.reference("localhost/by-skopeo:1")]).ok();
    assert_eq!(store.podman_run(["localhost/by-skopeo:1"]).ok(), "layered");

    let install = sandbox();
    fs::copy(&archive, install.input("images").join("image.tar")).unwrap();
    let inputs = images(&[("image.tar", "oci-archive", "localhost/by-us:1")]);
    install.run("org.osbuild.skopeo", &inputs, &json!({"destination": {"type": "containers-storage"}})).ok();
    let store = Store::at(install.tree().join("var/lib/containers/storage"), "overlay");
    assert_eq!(store.podman_run(["localhost/by-us:1"]).ok(), "layered");
    store.podman_run(["localhost/by-us:1", "/bin/busybox", "test", "!", "-e", "/etc/gone"]).ok();
    let inspected = store.podman(["image", "inspect", "localhost/by-us:1"]).json();
    assert_eq!(inspected[0]["Labels"]["a"], "b");
    assert_eq!(inspected[0]["Created"], "2023-11-14T22:13:20Z");
}

#[test]
fn documents_say_what_they_are() {
    let sandbox = sandbox();
    fs::write(sandbox.input("base").join("a"), "a").unwrap();
    let options = json!({
        "architecture": "arm64", "variant": "v8", "filename": "/out/image.tar",
        "config": {"Entrypoint": ["/e"], "User": "1000", "ExposedPorts": ["80/tcp"], "Volumes": ["/data"],
            "StopSiganl": "SIGINT", "WorkingDir": "/w"},
        "annotations": {"org.osbuild.ostree.ref": "fedora/x"},
    });
    run(&sandbox, &["base"], &options).ok();
    let archive = Archive::open(&sandbox.tree().join("out/image.tar"));
    let index = archive.index();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let manifest = archive.manifest();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["annotations"], json!({"org.osbuild.ostree.ref": "fedora/x"}));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let created = "2023-11-14T22:13:20Z";
    let layers = archive.layers();
    assert_eq!(
        archive.config(),
        json!({
            "created": created, "architecture": "arm64", "variant": "v8", "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"],
                "Entrypoint": ["/e"], "User": "1000", "WorkingDir": "/w", "StopSignal": "SIGINT",
                "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [sha256_digest(&layers[0])]},
            "history": [{"created": created, "created_by": "osbuild input base"}],
        })
    );
    Peer::skopeo().run(["inspect", "--raw", &format!("oci-archive:{}/out/image.tar", sandbox.tree().display())]).ok();
}

#[test]
fn what_two_layers_have_in_common_is_there_once() {
    let sandbox = sandbox();
    for name in ["base", "layer.1", "layer.2"] {
        let contents = if name == "layer.1" { pattern(100) } else { pattern(300_000) };
        fs::write(sandbox.input(name).join("file"), contents).unwrap();
        let file = File::options().write(true).open(sandbox.input(name).join("file")).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
    }
    run(&sandbox, &["base", "layer.1", "layer.2"], &options()).ok();
    let archive = sandbox.tree().join("image.tar");
    let layers = Archive::open(&archive).manifest()["layers"].clone();
    assert_eq!(layers[0], layers[2]);
    assert_ne!(layers[0], layers[1]);
    let listed = Peer::program("tar").run(["-tf", archive.to_str().unwrap()]).ok();
    assert_eq!(listed.lines().filter(|name| name.len() > 13).count(), 4, "two layers, config and manifest: {listed}");
    let copied = TempDir::new().unwrap();
    let to = format!("dir:{}", copied.path().join("copied").display());
    Peer::skopeo().run(["copy", &format!("oci-archive:{}", archive.display()), &to]).ok();
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let changed = |names: &[&str], change: &dyn Fn(&mut Value), prepare: &dyn Fn(&Sandbox)| {
        let sandbox = sandbox();
        fs::write(sandbox.input("base").join("a"), "a").unwrap();
        prepare(&sandbox);
        let before = Tree::read(sandbox.tree());
        let mut options = options();
        change(&mut options);
        let said = run(&sandbox, names, &options).fails();
        Tree::read(sandbox.tree()).assert_same(&before, &Options::new());
        said
    };
    let set = |key: &'static str, value: Value| move |options: &mut Value| options[key] = value.clone();
    let nothing = |_: &Sandbox| {};
    for (key, value, message) in [
        ("filename", json!("../x"), "has a `..` in it"),
        ("filename", json!("a/.."), "no last part"),
        ("filename", json!(""), "`filename` in `options` is empty"),
        ("filename", Value::Null, "`filename` is missing in `options`"),
        ("architecture", json!(7), "`architecture` in `options` is not a string"),
        ("config", json!({"Cmd": "sh"}), "`Cmd` in `config` is not a list of strings"),
        ("config", json!({"Labels": {"n": 7}}), "`n` in `Labels` is not a string"),
        ("format", json!("oci"), "unknown key `format`"),
    ] {
        let said = changed(&["base"], &set(key, value), &nothing);
        assert!(said.contains(message), "{said}");
    }
    let as_it_is = |_: &mut Value| {};
    let said = changed(&["layer.1"], &as_it_is, &|sandbox| drop(sandbox.input("layer.1")));
    assert!(said.contains("the input `base` is missing"), "{said}");
    let said = changed(&["base", "layer.1"], &as_it_is, &nothing);
    assert!(said.contains("layer 2 of 2") && said.contains("/run/osbuild/inputs/layer.1"), "{said}");
    let said = changed(&["base"], &as_it_is, &|sandbox| fs::create_dir(sandbox.tree().join("image.tar")).unwrap());
    assert!(said.contains("it is there, and is not a regular file"), "{said}");
    let said = changed(&["base"], &as_it_is, &|sandbox| {
        let path = sandbox.input("base").join("a");
        program("setfattr", &["-n", "user.a=b", "-v", "x", path.to_str().unwrap()]);
    });
    assert!(said.contains("`a`") && said.contains("has a `=` in its name"), "{said}");
}

#[test]
fn a_link_in_a_tree_leads_nowhere() {
    let sandbox = sandbox();
    let base = sandbox.input("base");
    symlink("/etc", base.join("out")).unwrap();
    symlink("..", base.join("up")).unwrap();
    run(&sandbox, &["base"], &options()).ok();
    let layers = Archive::open(&sandbox.tree().join("image.tar")).layers();
    let (_dir, tree) = extracted(&layers[0]);
    assert_eq!(tree.paths(), ["", "out", "up"]);
    assert_eq!(PathBuf::from(OsStr::from_bytes(&tree.at("out").link)), Path::new("/etc"));
}

#[test]
fn trees_of_two_thousand_levels_are_written() {
    let sandbox = sandbox();
    let levels = 1900;
    let base = sandbox.input("base");
    fs::create_dir_all(base.join("d/".repeat(levels))).unwrap();
    run(&sandbox, &["base"], &options()).ok();
    let layers = Archive::open(&sandbox.tree().join("image.tar")).layers();
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("layer.tar"), &layers[0]).unwrap();
    let listed = Peer::program("tar").run(["-tf", dir.path().join("layer.tar").to_str().unwrap()]).ok();
    assert_eq!(listed.lines().count(), levels);
    assert_eq!(listed.lines().last().unwrap(), "d/".repeat(levels));
}

#[test]
fn killed_at_any_moment_it_leaves_the_archive_that_was_there() {
    let sandbox = sandbox();
    fs::write(sandbox.input("base").join("file"), pattern(8 << 20)).unwrap();
    let whole = || {
        sandbox.clear();
        let begun = Instant::now();
        run(&sandbox, &["base"], &options()).ok();
        begun.elapsed()
    };
    let mut moments = Moments::within((0..3).map(|_| whole()).min().unwrap());
    let expected = Tree::read(sandbox.tree());
    let (mut killed, mut rounds) = (0, 0);
    while killed < 10 {
        rounds += 1;
        assert!(rounds <= 100, "only {killed} of {rounds} runs were killed before they ended");
        sandbox.clear();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command =
            sandbox.command("org.osbuild.oci-archive", &sandbox.arguments(&inputs(&["base"]), &options()));
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        // bwrap's child waits for ever if bwrap is killed before the two have spoken, so the stage must have begun.
        while fs::read_dir(sandbox.tree()).unwrap().next().is_none() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        killed += usize::from(moments.kill_child(child));
        // The sandbox dies with bwrap, but a moment later: then the pipe has no writer left.
        drop(command);
        reader.read_to_end(&mut Vec::new()).unwrap();
        if let Ok(archive) = fs::metadata(sandbox.tree().join("image.tar")) {
            assert_eq!(archive.len(), expected.at("image.tar").size);
        }
        run(&sandbox, &["base"], &options()).ok();
        Tree::read(sandbox.tree()).assert_same(&expected, &Options::new().ignore_mtimes());
    }
}
