//! osbuild's inputs through the program: what a stage sees, and that nothing of it stays.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use holkas_testkit::image::{BuiltImage, ImageBuilder, sha256_digest};
use holkas_testkit::osbuild::{Host, memory_file};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

const CONTAINERS: &str = "org.osbuild.containers";
const STORAGE: &str = "org.osbuild.containers-storage";
const SOURCE: &str = "org.osbuild.source";
const PIPELINE: &str = "org.osbuild.pipeline";

fn host() -> Host {
    Host::new(env!("CARGO_BIN_EXE_holkas"))
}

fn app(text: &str) -> BuiltImage {
    ImageBuilder::oci().layer(TarBuilder::new().file("motd", 0o644, text).finish()).build()
}

/// Puts an image into the host's store, as a source would.
fn stored(host: &Host, image: &BuiltImage) -> String {
    let place = host.image(&image.config_digest());
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    image.write_dir(&place);
    image.config_digest()
}

/// Returns where something is mounted below a directory.
fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().map(|line| PathBuf::from(line.split(' ').nth(4).unwrap()));
    points.filter(|point| point.starts_with(path)).collect()
}

fn same(one: &Path, other: &Path) {
    Tree::read(one).assert_same(&Tree::read(other), &Options::new().ignore_mtimes());
}

#[test]
fn images_are_seen_whole_and_read_only_until_the_end() {
    let (host, images) = (host(), [app("one"), app("two")]);
    let ids = images.each_ref().map(|image| stored(&host, image));
    let (store, target, input) = (host.store(&[]), host.target(), host.input(CONTAINERS));
    let refs = json!({ &ids[0]: {"name": "localhost/one:1"}, &ids[1]: {"name": "localhost/two"} });
    let reply = input.call("map", host.map_args(SOURCE, refs, &target, &store)).reply();
    let archives = json!({
        &ids[0]: {"format": "dir", "name": "localhost/one:1"},
        &ids[1]: {"format": "dir", "name": "localhost/two"},
    });
    assert_eq!(reply, json!({ "path": target, "data": { "archives": archives } }));
    for id in &ids {
        same(&target.join(id), &host.image(id));
        let written = fs::write(target.join(id).join("new"), "x").unwrap_err();
        assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let copied = format!("dir:{}", target.join(id).display());
        Peer::skopeo().run(["inspect", "--raw", &copied]).ok();
    }
    assert_eq!(mounts_below(&target).len(), 2);
    // Another build has another manifest put into its place meanwhile.
    let place = host.image(&ids[0]);
    fs::rename(&place, place.with_file_name("image-aside")).unwrap();
    images[1].write_dir(&place);
    same(&target.join(&ids[0]), &place.with_file_name("image-aside"));
    let ended = input.close();
    assert!(ended.status.success() && ended.output.is_empty(), "{}", ended.output);
    assert_eq!(mounts_below(&target), [] as [PathBuf; 0]);
    assert!(place.join("manifest.json").exists());
}

#[test]
fn mounts_go_whenever_the_socket_is_closed_and_even_in_use() {
    let host = host();
    let ids: Vec<String> = (0..40).map(|n| stored(&host, &app(&n.to_string()))).collect();
    let store = host.store(&[]);
    let refs: Value = ids.iter().map(|id| (id.clone(), json!({"name": "x"}))).collect();
    // In the middle of a call: nobody waits for the answer.
    for _ in 0..5 {
        let (target, input) = (host.target(), host.input(CONTAINERS));
        input.send("map", host.map_args(SOURCE, refs.clone(), &target, &store), &[]);
        input.close();
        assert_eq!(mounts_below(&target), [] as [PathBuf; 0]);
    }
    let (target, input) = (host.target(), host.input(CONTAINERS));
    input.call("map", host.map_args(SOURCE, refs, &target, &store)).reply();
    let busy = fs::File::open(target.join(&ids[0]).join("manifest.json")).unwrap();
    assert!(input.close().status.success());
    assert_eq!(mounts_below(&target), [] as [PathBuf; 0]);
    drop(busy);
}

#[test]
fn what_cannot_be_mapped_is_named_and_nothing_stays_mounted() {
    let (host, image) = (host(), app("right"));
    let id = stored(&host, &image);
    let damaged = stored(&host, &app("damaged"));
    fs::write(host.image(&damaged).join("manifest.json"), "{}").unwrap();
    let short = app("short");
    let short_id = stored(&host, &short);
    fs::write(host.image(&short_id).join(short.layers[0].digest.trim_start_matches("sha256:")), "x").unwrap();
    let other = sha256_digest("another config");
    fs::create_dir_all(host.image(&other).parent().unwrap()).unwrap();
    image.write_dir(host.image(&other));
    let absent = sha256_digest("absent");
    let cases = [
        (json!({ &id: {"name": "x"}, &absent: {"name": "x"} }), vec!["has no image", absent.as_str()]),
        (json!({ &id: {"name": "x"}, &other: {"name": "x"} }), vec!["is not image", other.as_str(), id.as_str()]),
        (json!({ &id: {"name": "x"}, &damaged: {"name": "x"} }), vec!["manifest", damaged.as_str()]),
        (json!({ &id: {"name": "x"}, &short_id: {"name": "x"} }), vec!["has 1 bytes instead of", short_id.as_str()]),
        // D20: what osbuild makes of a reference in a list that has no options.
        (json!({ &id: {} }), vec![id.as_str(), "`name` is missing"]),
        (json!({ &id: {"name": ""} }), vec!["`name` is missing"]),
        (json!({ "../../../etc": {"name": "x"} }), vec!["../../../etc", "64 hex digits"]),
        (json!({}), vec!["`refs` refers to nothing"]),
    ];
    let store = host.store(&[]);
    for (refs, said) in cases {
        let (target, input) = (host.target(), host.input(CONTAINERS));
        let error = input.call("map", host.map_args(SOURCE, refs, &target, &store)).exception();
        for text in &said {
            assert!(error.contains(text), "{text}: {error}");
        }
        assert_eq!(mounts_below(&target), [] as [PathBuf; 0], "at once, not only at the end");
        let output = input.close().output;
        assert!(output.contains(said[0]), "{output}");
    }
    let (target, input) = (host.target(), host.input(CONTAINERS));
    let args = host.map_args("org.osbuild.tree", json!({ &id: {"name": "x"} }), &target, &store);
    assert!(input.call("map", args).exception().contains("the origin `org.osbuild.tree`"));
    let args = json!({
        "origin": SOURCE, "refs": {&id: {"name": "x"}}, "target": target, "api": {"store": "/nonexistent/socket"},
    });
    assert!(input.call("map", args).exception().contains("connecting to `/nonexistent/socket`"));
    assert!(input.call("unmap", json!({})).exception().contains("Unknown method"));
}

/// Makes the tree of a pipeline, with an archive of an image.
fn tree(file: &str, image: &BuiltImage) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    image.write_oci_archive(tree.path().join(file), None);
    fs::create_dir(tree.path().join("0-directory")).unwrap();
    fs::write(tree.path().join("z-later"), "x").unwrap();
    tree
}

/// Returns the ID of the image in an archive, as skopeo reads it.
fn id_of(archive: &Path) -> String {
    let link = tempfile::tempdir().unwrap();
    // skopeo would take a colon in the path for the end of it.
    std::os::unix::fs::symlink(archive, link.path().join("image")).unwrap();
    let reference = format!("oci-archive:{}", link.path().join("image").display());
    sha256_digest(Peer::skopeo().run(["inspect", "--raw", "--config", &reference]).stdout)
}

#[test]
fn archives_of_pipelines_all_survive() {
    let (host, images) = (host(), [app("a"), app("b"), app("c")]);
    // D22: the same file name; D23: different ones.
    let trees = [tree("image.tar", &images[0]), tree("image.tar", &images[1]), tree("other.tar", &images[2])];
    let objects = ["a1".repeat(32), "b2".repeat(32), "c3".repeat(32)];
    let known: Vec<_> = objects.iter().map(String::as_str).zip(trees.iter().map(tempfile::TempDir::path)).collect();
    let store = host.store(&known);
    let (target, input) = (host.target(), host.input(CONTAINERS));
    let refs = json!({ &objects[0]: {"name": "localhost/a"} });
    let reply = input.call("map", host.map_args(PIPELINE, refs, &target, &store)).reply();
    // One is as osbuild has it: the tree at the target itself, the archive under its own name.
    let archives = json!({ "image.tar": {"format": "oci-archive", "name": "localhost/a"} });
    assert_eq!(reply, json!({ "path": target, "data": { "archives": archives } }));
    assert_eq!(id_of(&target.join("image.tar")), images[0].config_digest());
    assert!(input.close().status.success());

    let (target, input) = (host.target(), host.input(CONTAINERS));
    let refs: Value = objects.iter().map(|object| (object.clone(), json!({"name": object[..2]}))).collect();
    let reply = input.call("map", host.map_args(PIPELINE, refs, &target, &store)).reply();
    let archives = reply["data"]["archives"].as_object().unwrap();
    assert_eq!(archives.len(), 3);
    for (n, (key, archive)) in archives.iter().enumerate() {
        assert_eq!(archive["format"], "oci-archive");
        assert_eq!(archive["name"], objects[n][..2]);
        assert!(!key.contains('/'), "stages take a key for the name of a file");
        assert_eq!(id_of(&target.join(key)), images[n].config_digest());
    }
    assert!(input.close().status.success());
    // The trees are osbuild's own mounts, which it undoes by itself.
    assert!(mounts_below(&target).iter().all(|mount| mount.to_string_lossy().contains("/.tree-")));
    drop(store);
    assert_eq!(mounts_below(&target), [] as [PathBuf; 0]);
}

#[test]
fn trees_without_archives_are_named() {
    let (host, empty, linked) = (host(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(empty.path().join("usr")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", linked.path().join("a.tar")).unwrap();
    let store = host.store(&[("empty", empty.path()), ("linked", linked.path())]);
    for (refs, said) in [
        (json!({ "empty": {"name": "x"} }), "pipeline object empty: No archive files in source"),
        (json!({ "linked": {"name": "x"} }), "pipeline object linked: No archive files in source"),
        (json!({ "unknown": {"name": "x"} }), "`unknown`: the store has no such object"),
        (json!({ "unknown": {"name": "x"}, "empty": {"name": "x"} }), "`unknown`: the store has no such object"),
        (json!({ "../x": {"name": "x"}, "empty": {"name": "x"} }), "pipeline object ../x: it is no object ID"),
    ] {
        let (target, input) = (host.target(), host.input(CONTAINERS));
        let error = input.call("map", host.map_args(PIPELINE, refs, &target, &store)).exception();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn the_store_of_the_host_is_seen_with_what_is_mounted_in_it() {
    let (host, image, store) = (host(), app("host"), Store::overlay());
    let temp = tempfile::tempdir().unwrap();
    image.write_dir(temp.path().join("image"));
    let from = format!("dir:{}", temp.path().join("image").display());
    store.skopeo(["copy", &from, &store.reference("localhost/app:1")]).ok();
    let mounted = store.root.join("overlay/mounted");
    fs::create_dir(&mounted).unwrap();
    let tmpfs = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&mounted).status().unwrap();
    assert!(tmpfs.success());
    fs::write(mounted.join("inside"), "x").unwrap();
    // Mounts of a real host are shared: what goes at one place goes at the other.
    let shared = Command::new("mount").arg("--make-rshared").arg(&mounted).status().unwrap();
    assert!(shared.success());
    let text = format!("[storage]\ngraphroot = {:?}\n[storage.options.overlay]\nmountopt = \"nodev\"\n", store.root);
    host.storage_conf(&text);
    let (server, target, input) = (host.store(&[]), host.target(), host.input(STORAGE));
    let id = image.config_digest();
    let refs = |id: &str| json!({ id: {"name": "localhost/app:1"} });
    let reply = input.call("map", host.map_args(SOURCE, refs(&id), &target, &server)).reply();
    let table = json!({
        "graphroot": store.root, "driver": "overlay", "runroot": "/run/containers/storage",
        "options": {"overlay": {"mountopt": "nodev"}},
    });
    let archive = &reply["data"]["archives"][&id];
    assert_eq!(archive["format"], "containers-storage");
    assert_eq!(archive["name"], "localhost/app:1");
    assert_eq!(archive["storage"], table);
    assert_eq!(fs::read_to_string(target.join("storage/overlay/mounted/inside")).unwrap(), "x");
    assert!(fs::write(target.join("storage/new"), "x").is_err());
    assert!(target.join(format!("storage/overlay-images/{}", image.id())).is_dir());
    assert!(input.close().status.success());
    assert_eq!(mounts_below(&target), [] as [PathBuf; 0]);
    assert_eq!(fs::read_to_string(mounted.join("inside")).unwrap(), "x", "the host keeps its own mounts");
    for (refs, said) in [
        (refs(&sha256_digest("absent")), "image ID does not exist in local container storage"),
        (json!({ &id: {} }), "`name` is missing"),
    ] {
        let (target, input) = (host.target(), host.input(STORAGE));
        let error = input.call("map", host.map_args(SOURCE, refs, &target, &server)).exception();
        assert!(error.contains(said), "{error}");
        assert_eq!(mounts_below(&target), [] as [PathBuf; 0]);
    }
    host.storage_conf("[storage]\ngraphroot = \"/nonexistent/store\"\n");
    let error = host.input(STORAGE).call("map", host.map_args(SOURCE, refs(&id), &target, &server)).exception();
    assert!(error.contains("/nonexistent/store"), "{error}");
    let unmounted = Command::new("umount").arg(&mounted).status().unwrap();
    assert!(unmounted.success());
}

#[test]
fn older_osbuilds_send_and_take_files() {
    let (host, image) = (host(), app("old"));
    let id = stored(&host, &image);
    let (store, target) = (host.store(&[]), host.target());
    let args = host.map_args(SOURCE, json!({ &id: {"name": "x"} }), &target, &store).to_string();
    let question = memory_file(args.as_bytes());
    let input = host.input(CONTAINERS);
    let reply = input.call_with("map", json!({}), &[question.as_fd()]).reply();
    assert_eq!(reply["path"], json!(target));
    assert!(input.close().status.success());
    let (question, answer) = (memory_file(args.as_bytes()), memory_file(b"longer than the answer? no, but not empty"));
    let input = host.input(CONTAINERS);
    input.call_with("map", json!({}), &[question.as_fd(), answer.as_fd()]).reply();
    let written: Value = serde_json::from_reader(std::io::BufReader::new(answer)).unwrap();
    assert_eq!(written, reply);
    assert_eq!(mounts_below(&target).len(), 1);
    assert!(input.close().status.success());
}
