//! The stage `org.osbuild.skopeo`, run in a sandbox as osbuild runs it, and held against skopeo and podman.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "osbuild_skopeo_stage/killed.rs"]
mod killed;
#[path = "osbuild_skopeo_stage/lists.rs"]
mod lists;
#[path = "osbuild_skopeo_stage/packed.rs"]
mod packed;
#[path = "osbuild_skopeo_stage/scene.rs"]
mod scene;

use std::fs;
use std::os::unix::fs::symlink;

use holkas_testkit::image::{Compression, ImageBuilder};
use holkas_testkit::oddities::{odd_image, runnable_image};
use holkas_testkit::peers::Store;
use holkas_testkit::tree::{Options, Tree};
use scene::{ACCEPT, Scene, plain, record, store_options};
use serde_json::json;

const STORE: &str = "var/lib/containers/storage";

#[test]
fn the_store_is_what_skopeo_makes_of_the_same_image() {
    for driver in ["overlay", "vfs"] {
        let image = odd_image();
        let mut scene = Scene::new();
        scene.dir(&image, "registry.example.org/team/odd:1");
        let output = scene.run(&json!({"destination": {"type": "containers-storage", "storage-driver": driver}})).ok();
        assert!(output.contains(&image.digest()) && output.contains(&image.id()), "{output}");
        let (ours, theirs) = (scene.store(STORE, driver), Store::new(driver));
        let from = format!("dir:{}", scene.image(&image).display());
        theirs.skopeo(["copy", &from, &theirs.reference("registry.example.org/team/odd:1")]).ok();
        for id in image.layer_ids() {
            let below = if driver == "vfs" { format!("vfs/dir/{id}") } else { format!("overlay/{id}/diff") };
            let (ours, theirs) = (Tree::read(ours.root.join(&below)), Tree::read(theirs.root.join(&below)));
            // skopeo gives the time of the moment to what no entry of the layer names.
            let named: Vec<_> = theirs
                .nodes
                .iter()
                .filter(|(_, node)| node.mtime.0 > 1_780_000_000)
                .map(|(path, _)| path.clone())
                .collect();
            ours.assert_same(&theirs, &Options::new().ignore_mtime_of(move |path| named.iter().any(|p| p == path)));
        }
        assert_eq!(record(&ours, &image.id()), record(&theirs, &image.id()));
        assert!(!ours.root.join("overlay/backingFsBlockDev").exists());
    }
}

#[test]
fn podman_runs_the_image_and_a_second_build_gives_the_same_tree() {
    let image = runnable_image();
    let mut scene = Scene::of(|sandbox| sandbox.source_epoch(1_700_000_000));
    scene.dir(&image, "registry.example.org/team/app:1");
    scene.run(&store_options()).ok();
    let first = Tree::read(scene.sandbox.tree());
    assert_eq!(first.at(STORE).mtime, (1_700_000_000, 0));
    scene.sandbox.clear();
    scene.run(&store_options()).ok();
    Tree::read(scene.sandbox.tree()).assert_same(&first, &Options::new().ignore_mtime_of(|path| path.is_empty()));
    let store = scene.store(STORE, "overlay");
    for name in
        ["registry.example.org/team/app:1".to_string(), format!("registry.example.org/team/app@{}", image.digest())]
    {
        assert_eq!(store.podman_run([name.as_str(), "/bin/busybox", "cat", "/etc/motd"]).ok(), "hello", "{name}");
    }
    // A third run finds all there and touches nothing.
    let store_before = fs::read(store.root.join("overlay-images/images.json")).unwrap();
    scene.run(&store_options()).ok();
    assert_eq!(fs::read(store.root.join("overlay-images/images.json")).unwrap(), store_before);
}

#[test]
fn all_images_come_or_none() {
    let (good, bad) = (plain("good"), plain("bad"));
    let mut scene = Scene::new();
    scene.dir(&good, "localhost/good:1");
    scene.dir(&bad, "localhost/bad:1");
    holkas_testkit::corrupt::flip_middle(holkas_testkit::corrupt::dir_blob(scene.image(&bad), &bad.layers[0].digest));
    let before = Tree::read(scene.sandbox.tree());
    let said = scene.run(&store_options()).fails();
    assert!(said.contains(&bad.layers[0].digest[..19]), "{said}");
    Tree::read(scene.sandbox.tree()).assert_same(&before, &Options::new());
}

#[test]
fn every_format_of_the_input_is_stored() {
    let (dir, archive, stored) = (plain("dir"), plain("archive"), runnable_image());
    let mut scene = Scene::new();
    scene.dir(&dir, "localhost/dir:1");
    let input = scene.sandbox.input("images");
    archive.write_oci_archive(input.join("image.tar"), None);
    scene.add("image.tar", "oci-archive", "localhost/archive:1");
    let host = Store::at(input.join("storage"), "overlay");
    let elsewhere = input.parent().unwrap().parent().unwrap().join("elsewhere");
    stored.write_dir(&elsewhere);
    host.skopeo(["copy", &format!("dir:{}", elsewhere.display()), &host.reference("localhost/of-the-host:1")]).ok();
    host.unmount();
    let before = Tree::read(&host.root);
    scene.add_stored(&stored, "localhost/stored:1");
    scene.run(&store_options()).ok();
    Tree::read(&host.root).assert_same(&before, &Options::new());
    let store = scene.store(STORE, "overlay");
    let names = store.podman(["images", "--format={{.Repository}}:{{.Tag}}", "--sort=repository"]).ok();
    assert_eq!(names, "localhost/archive:1\nlocalhost/dir:1\nlocalhost/stored:1");
    assert_eq!(store.podman_run(["localhost/stored:1"]).ok(), "hello");
}

#[test]
fn one_image_under_two_names_is_one_record_and_one_name_for_two_images_is_refused() {
    let image = plain("one");
    let mut scene = Scene::new();
    scene.dir(&image, "localhost/first:1");
    image.write_dir(scene.sandbox.input("images").join("again"));
    scene.add("again", "dir", "localhost/second:1");
    scene.run(&store_options()).ok();
    let names = &record(&scene.store(STORE, "overlay"), &image.id())["names"];
    assert_eq!(*names, json!(["localhost/first:1", "localhost/second:1"]));

    let mut scene = Scene::new();
    let (one, other) = (plain("one"), plain("other"));
    scene.dir(&one, "localhost/same:1");
    scene.dir(&other, "localhost/same:1");
    let said = scene.run(&store_options()).fails();
    assert!(said.contains("localhost/same:1 is given to two images") && said.contains(&one.id()), "{said}");
    assert_eq!(fs::read_dir(scene.sandbox.tree()).unwrap().count(), 0);
}

#[test]
fn a_name_without_a_registry_is_that_of_docker() {
    let image = plain("short");
    let mut scene = Scene::new();
    scene.dir(&image, "app");
    scene.run(&store_options()).ok();
    assert_eq!(record(&scene.store(STORE, "overlay"), &image.id())["names"], json!(["docker.io/library/app:latest"]));
}

#[test]
fn the_store_stays_within_the_tree() {
    let image = plain("within");
    for (path, lies_at) in [
        ("/usr/lib/containers/storage", "usr/lib/containers/storage"),
        ("srv/a:b+c/store", "srv/a:b+c/store"),
        ("/link/store", "real/store"),
        ("/out/etc/store", "etc/store"),
    ] {
        let mut scene = Scene::new();
        scene.dir(&image, "localhost/app:1");
        let tree = scene.sandbox.tree();
        fs::create_dir(tree.join("real")).unwrap();
        symlink("/real", tree.join("link")).unwrap();
        symlink("../../../../..", tree.join("out")).unwrap();
        scene.run(&json!({"destination": {"type": "containers-storage", "storage-path": path}})).ok();
        assert!(tree.join(lies_at).join("overlay-images/images.json").exists(), "{path}");
    }
    for (path, message) in [("/a/../b", "has a `..` in it"), ("", "`storage-path` in `destination` is empty")] {
        let mut scene = Scene::new();
        scene.dir(&image, "localhost/app:1");
        let said = scene.run(&json!({"destination": {"type": "containers-storage", "storage-path": path}})).fails();
        assert!(said.contains(message), "{said}");
        assert_eq!(fs::read_dir(scene.sandbox.tree()).unwrap().count(), 0);
    }
}

#[test]
fn a_foreign_image_is_stored_as_it_was_fetched() {
    let image = ImageBuilder::docker()
        .platform("s390x", "linux")
        .layer_with(holkas_testkit::tar::TarBuilder::new().file("a", 0o644, "a").finish(), Compression::Gzip)
        .build();
    let mut scene = Scene::new();
    scene.dir(&image, "localhost/foreign:1");
    scene.run(&store_options()).ok();
    let store = scene.store(STORE, "overlay");
    assert_eq!(store.podman(["image", "inspect", "localhost/foreign:1"]).json()[0]["Architecture"], "s390x");
}

#[test]
fn the_policy_of_the_build_root_is_obeyed() {
    let image = plain("policy");
    let with = |policy: &'static str| {
        let mut scene = Scene::of(|sandbox| sandbox.policy(policy));
        scene.dir(&image, "localhost/app:1");
        scene.run(&store_options())
    };
    assert!(!with(ACCEPT).ok().contains("policy"));
    let said = with(r#"{"default": [{"type": "reject"}]}"#).fails();
    assert!(said.contains("is rejected by policy") && said.contains("/etc/containers/policy.json"), "{said}");
    let said = with(r#"{"default": []}"#).fails();
    assert!(said.contains("the list of requirements is empty"), "{said}");
    let mut scene = Scene::new();
    scene.dir(&image, "localhost/app:1");
    let said = scene.run(&store_options()).ok();
    assert!(said.contains("no /etc/containers/policy.json: every image of the input is accepted"), "{said}");
}

#[test]
fn what_cannot_be_understood_is_named() {
    let image = plain("wrong");
    let run = |format: &str, name: &str, options: serde_json::Value| {
        let mut scene = Scene::new();
        image.write_dir(scene.sandbox.input("images").join("key"));
        scene.add("key", format, name);
        scene.run(&options).fails()
    };
    for (format, name, options, message) in [
        ("docker-archive", "a", store_options(), "Unknown container format docker-archive"),
        ("dir", "UPPER", store_options(), "reading the name of container `key`"),
        ("dir", "a", json!({}), "`destination` is missing in `options`"),
        ("dir", "a", json!({"destination": {}}), "`type` is missing in `destination`"),
        ("dir", "a", json!({"destination": {"type": "docker"}}), "Unknown destination type 'docker'"),
        ("dir", "a", json!({"destination": {"type": "oci"}}), "`path` is missing in `destination`"),
        ("dir", "a", json!({"destination": {"type": "oci", "path": 7}}), "`path` in `destination` is not a string"),
        ("dir", "a", json!({"destination": {"type": "oci", "path": "/x", "paths": 1}}), "unknown key `paths`"),
        (
            "dir",
            "a",
            json!({"destination": {"type": "containers-storage", "storage-driver": "btrfs"}}),
            "the storage driver `btrfs` is not supported",
        ),
        (
            "dir",
            "a",
            json!({"destination": {"type": "containers-storage"}, "remove-signatures": "yes"}),
            "`remove-signatures` in `options` is not true or false",
        ),
        // Half a character at the border of a chunk would kill the build: nothing but ASCII is written.
        ("dir", "caf\u{e9}", store_options(), "`caf\\u{e9}`"),
    ] {
        let said = run(format, name, options);
        assert!(said.starts_with("error: stage org.osbuild.skopeo\n") && said.contains(message), "{said}");
    }
    let scene = Scene::new();
    let said = scene.run(&store_options()).fails();
    assert!(said.contains("the input `images` has no image"), "{said}");
    let said = scene.sandbox.run_with("org.osbuild.skopeo", b"{").fails();
    assert!(said.contains("/run/osbuild/api/arguments") && said.contains("not valid JSON"), "{said}");
    let said = scene.sandbox.run("org.osbuild.skopeo", &json!({}), &store_options()).fails();
    assert!(said.contains("`images` is missing"), "{said}");
    let said = scene.sandbox.run("org.osbuild.unheard-of", &json!({}), &json!({})).fails();
    assert!(said.contains("holkas is no stage of this name"), "{said}");
}

#[test]
fn signatures_are_kept_or_removed() {
    for remove in [false, true] {
        let image = plain("signed");
        let mut scene = Scene::new();
        image.write_dir_signed(scene.image(&image), &["one signature"]);
        scene.add(&image.config_digest(), "dir", "localhost/signed:1");
        scene.run(&json!({"destination": {"type": "containers-storage"}, "remove-signatures": remove})).ok();
        let record = record(&scene.store(STORE, "overlay"), &image.id());
        let has = record["big-data-names"].as_array().unwrap().iter().any(|name| *name == "signatures");
        assert_eq!(has, !remove, "{record}");
    }
}
