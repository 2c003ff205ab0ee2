//! `oci`, `oci-archive` and `dir` as destinations, read again by skopeo and podman.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder, hex_of};
use holkas_testkit::oddities::runnable_image;
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::STORE;
use super::scene::{Scene, plain};

fn to(kind: &str, path: &str) -> Value {
    json!({"destination": {"type": kind, "path": path}})
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns the reference by which skopeo reads what was packed, and which may hold a `:` only after it.
fn read_back(scene: &Scene, kind: &str, path: &str) -> String {
    format!("{kind}:{}/{path}", scene.sandbox.tree().display())
}

/// Returns whether skopeo reads the image there, all of it, unchanged.
fn holds(reference: &str, image: &BuiltImage) {
    let dir = TempDir::new().unwrap();
    let copied = dir.path().join("copied");
    Peer::skopeo().run(["copy", reference, &format!("dir:{}", copied.display())]).ok();
    assert_eq!(fs::read(copied.join("manifest.json")).unwrap(), image.manifest, "{reference}");
    for (hex, bytes) in image.blobs().iter().rev().skip(1) {
        assert_eq!(fs::read(copied.join(hex)).unwrap(), *bytes, "{reference}");
    }
}

#[test]
fn one_image_is_packed_as_skopeo_packs_it() {
    let image = plain("packed");
    let theirs = TempDir::new().unwrap();
    for kind in ["oci", "oci-archive", "dir"] {
        let mut scene = Scene::new();
        scene.dir(&image, "localhost/app:1");
        let path = format!("srv/{kind}");
        scene.run(&to(kind, &format!("/{path}"))).ok();
        holds(&read_back(&scene, kind, &path), &image);
        let own = theirs.path().join(kind);
        let from = format!("dir:{}", scene.image(&image).display());
        Peer::skopeo().run(["copy", &from, &format!("{kind}:{}", own.display())]).ok();
        let packed = scene.sandbox.tree().join(&path);
        match kind {
            "oci-archive" => assert!(packed.is_file()),
            "oci" => {
                assert_eq!(
                    json_of(packed.join("index.json"))["manifests"],
                    json_of(own.join("index.json"))["manifests"]
                );
                let same = Options::new().ignore_mtimes().ignore_path("index.json");
                Tree::read(&packed).assert_same(&Tree::read(&own), &same);
            }
            _ => Tree::read(&packed).assert_same(&Tree::read(&own), &Options::new().ignore_mtimes()),
        }
        let first = Tree::read(scene.sandbox.tree());
        scene.sandbox.clear();
        scene.run(&to(kind, &format!("/{path}"))).ok();
        Tree::read(scene.sandbox.tree()).assert_same(&first, &Options::new().ignore_mtimes());
    }
}

#[test]
fn several_images_have_their_names_in_a_layout_and_in_an_archive() {
    let images = [plain("one"), plain("two"), runnable_image()];
    let names = ["localhost/app:1", "registry.example.org:5000/team/app:2", "docker.io/library/short:latest"];
    for kind in ["oci", "oci-archive"] {
        let mut scene = Scene::new();
        for (image, name) in images.iter().zip(["localhost/app:1", names[1], "short"]) {
            scene.dir(image, name);
        }
        scene.run(&to(kind, "/images")).ok();
        for (image, name) in images.iter().zip(names) {
            holds(&format!("{}:{name}", read_back(&scene, kind, "images")), image);
        }
        let store = Store::overlay();
        let from = format!("{}:{}", read_back(&scene, kind, "images"), names[2]);
        store.skopeo(["copy", &from, &store.reference(names[2])]).ok();
        assert_eq!(store.podman_run([names[2]]).ok(), "hello");
    }
    let mut scene = Scene::new();
    scene.dir(&images[0], names[0]);
    scene.dir(&images[1], names[1]);
    let said = scene.run(&to("dir", "/images")).fails();
    assert!(said.contains("a dir: holds one image, not 2"), "{said}");
    assert_eq!(fs::read_dir(scene.sandbox.tree()).unwrap().count(), 0);
}

#[test]
fn all_images_are_packed_or_none() {
    for kind in ["oci", "oci-archive"] {
        let (good, bad) = (plain("good"), plain("bad"));
        let mut scene = Scene::new();
        scene.dir(&good, "localhost/good:1");
        scene.dir(&bad, "localhost/bad:1");
        holkas_testkit::corrupt::flip_middle(holkas_testkit::corrupt::dir_blob(
            scene.image(&bad),
            &bad.layers[0].digest,
        ));
        let said = scene.run(&to(kind, "/deep/down/images")).fails();
        assert!(said.contains(&bad.layers[0].digest[..19]), "{said}");
        assert_eq!(fs::read_dir(scene.sandbox.tree()).unwrap().count(), 0, "{kind}");
        scene.dir(&bad, "localhost/good:1");
        bad.write_dir(scene.image(&bad));
        let said = scene.run(&to(kind, "/images")).fails();
        assert!(said.contains("the name localhost/good:1 is given to two images"), "{said}");
        assert_eq!(fs::read_dir(scene.sandbox.tree()).unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn images_are_added_to_a_layout_that_is_there() {
    let (first, second) = (plain("first"), plain("second"));
    let mut scene = Scene::new();
    first.write_oci(scene.sandbox.tree().join("layout"), Some("first"));
    scene.dir(&second, "localhost/second:1");
    scene.run(&to("oci", "layout")).ok();
    holds(&read_back(&scene, "oci", "layout:first"), &first);
    let entries = json_of(scene.sandbox.tree().join("layout/index.json"))["manifests"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 2, "{entries}");
    assert_eq!(entries[1]["digest"], json!(second.digest()));
}

#[test]
fn the_list_is_kept_beside_the_image() {
    let image = plain("listed");
    let list = IndexBuilder::oci().image(&plain("foreign")).image(&image).build();
    let hex = list.digest().replace("sha256:", "");
    for (kind, file) in [("oci", format!("blobs/sha256/{hex}")), ("dir", format!("{hex}.manifest.json"))] {
        let mut scene = Scene::new();
        scene.dir(&image, "localhost/app:1");
        scene.list(&list);
        scene.run(&to(kind, "/image")).ok();
        holds(&read_back(&scene, kind, "image"), &image);
        assert_eq!(fs::read(scene.sandbox.tree().join("image").join(file)).unwrap(), list.manifest);
    }
    let mut scene = Scene::new();
    scene.dir(&image, "localhost/app:1");
    scene.list(&list);
    scene.run(&to("oci-archive", "/image")).ok();
    holds(&read_back(&scene, "oci-archive", "image"), &image);
    let listed = Peer::program("tar").run(["-tf", scene.sandbox.tree().join("image").to_str().unwrap()]).ok();
    assert!(listed.contains(&format!("blobs/sha256/{hex}")), "{listed}");
}

#[test]
fn a_docker_image_becomes_an_oci_image_in_a_layout_and_says_that_it_lost_its_list() {
    let layer = TarBuilder::new().file("own", 0o644, "docker").finish();
    let image = ImageBuilder::docker().layer_with(layer, Compression::Gzip).build();
    let list = IndexBuilder::docker().image(&image).build();
    let mut scene = Scene::new();
    scene.dir(&image, "localhost/app:1");
    scene.list(&list);
    let said = scene.run(&to("oci", "/image")).ok();
    assert!(said.contains(&format!("list {} does not name the new one, and is left out", list.digest())), "{said}");
    let raw = Peer::skopeo().run(["inspect", "--raw", &read_back(&scene, "oci", "image")]).json();
    assert_eq!(raw["config"]["digest"], json!(image.config_digest()));
    assert_eq!(raw["layers"][0]["digest"], json!(image.layers[0].digest));
    let mut scene = Scene::new();
    image.write_dir_signed(scene.image(&image), &["a signature"]);
    scene.add(&image.config_digest(), "dir", "localhost/app:1");
    let said = scene.run(&to("oci", "/image")).fails();
    assert!(said.contains("cannot hold the image's signatures"), "{said}");
    let mut options = to("oci", "/image");
    options["remove-signatures"] = json!(true);
    scene.run(&options).ok();
    scene.sandbox.clear();
    scene.run(&to("dir", "/image")).ok();
    assert_eq!(fs::read_to_string(scene.sandbox.tree().join("image/signature-1")).unwrap(), "a signature");
}

#[test]
fn an_image_of_the_hosts_store_is_packed_with_the_same_id() {
    let image = runnable_image();
    for kind in ["oci", "oci-archive", "dir"] {
        let mut scene = Scene::new();
        let input = scene.sandbox.input("images");
        let host = Store::at(input.join("storage"), "overlay");
        let elsewhere = TempDir::new().unwrap();
        image.write_dir(elsewhere.path().join("image"));
        let from = format!("dir:{}", elsewhere.path().join("image").display());
        host.skopeo(["copy", &from, &host.reference("localhost/of-the-host:1")]).ok();
        host.unmount();
        scene.add_stored(&image, "localhost/app:1");
        scene.run(&to(kind, "/image")).ok();
        let raw = Peer::skopeo().run(["inspect", "--raw", &read_back(&scene, kind, "image")]).json();
        assert_eq!(raw["config"]["digest"], json!(image.config_digest()), "{kind}");
        let copied = elsewhere.path().join("copied");
        Peer::skopeo().run(["copy", &read_back(&scene, kind, "image"), &format!("dir:{}", copied.display())]).ok();
    }
}

#[test]
fn paths_are_values_and_stay_within_the_tree() {
    let image = plain("paths");
    for kind in ["oci", "oci-archive", "dir"] {
        for (path, lies_at) in [
            ("/srv/with:colon", "srv/with:colon"),
            ("relative/to+root", "relative/to+root"),
            ("/link/image", "real/image"),
            ("/out/image", "image"),
        ] {
            let mut scene = Scene::new();
            scene.dir(&image, "localhost/app:1");
            let tree = scene.sandbox.tree();
            fs::create_dir(tree.join("real")).unwrap();
            symlink("/real", tree.join("link")).unwrap();
            symlink("../../..", tree.join("out")).unwrap();
            scene.run(&to(kind, path)).ok();
            // A `:` means something to skopeo: it reads by another name.
            symlink(lies_at, tree.join("plain-name")).unwrap();
            holds(&read_back(&scene, kind, "plain-name"), &image);
        }
        for (path, message) in [
            ("/a/../b", "has a `..` in it"),
            ("", "`path` in `destination` is empty"),
            ("/", "no last part"),
            ("/dangling", if kind == "oci-archive" { "it is there, and is not" } else { "a symlink leads out" }),
            ("/special", "it is there, and is not"),
        ] {
            let mut scene = Scene::new();
            scene.dir(&image, "localhost/app:1");
            let tree = scene.sandbox.tree();
            symlink("/nowhere", tree.join("dangling")).unwrap();
            Peer::program("mkfifo").run([tree.join("special")]).ok();
            let before = Tree::read(&tree);
            let said = scene.run(&to(kind, path)).fails();
            assert!(said.contains(message), "{kind} {path}: {said}");
            Tree::read(&tree).assert_same(&before, &Options::new());
        }
    }
}

#[test]
fn what_is_somebody_elses_is_not_replaced() {
    let image = plain("foreign");
    let mut scene = Scene::new();
    scene.dir(&image, "localhost/app:1");
    let tree = scene.sandbox.tree();
    fs::create_dir_all(tree.join(STORE)).unwrap();
    fs::write(tree.join(STORE).join("precious"), "kept").unwrap();
    let said = scene.run(&to("dir", STORE)).fails();
    assert!(said.contains("not a containers image directory"), "{said}");
    let said = scene.run(&to("oci-archive", STORE)).fails();
    assert!(said.contains("not a regular file"), "{said}");
    assert_eq!(fs::read_to_string(tree.join(STORE).join("precious")).unwrap(), "kept");
    assert_eq!(hex_of(&image.digest()).len(), 64);
}
