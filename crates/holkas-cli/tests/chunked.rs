//! zstd:chunked layers on their way: what copies make of them, and how podman and skopeo take them.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Output, finish, holkas, run};
use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{BuiltImage, BuiltLayer, Compression, ImageBuilder, IndexBuilder, hex_of};
use holkas_testkit::oddities::{odd_layers, pattern};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::{Entry, FILE, HARD_LINK, TarBuilder, Time};
use holkas_testkit::tree::{Options, Tree};
use serde_json::Value;

const TOC: &str = "io.github.containers.zstd-chunked.manifest-checksum";
const CHUNKED: &str = "--dest-compress-format=zstd:chunked";

fn copy(arguments: &[&str]) -> Output {
    finish(holkas().args(["--insecure-policy", "copy", "-q", "--no-cache"]).args(arguments))
}

#[track_caller]
fn copied(arguments: &[&str]) -> Output {
    let output = copy(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {} {}", output.out, output.err);
    output
}

/// A layer of which a table of contents can tell all.
fn base() -> Vec<u8> {
    let holes = [pattern(200_000), vec![0; 1 << 20], pattern(70_000)].concat();
    TarBuilder::new()
        .dir("odd/", 0o755)
        .file("odd/empty", 0o644, "")
        .file("odd/large", 0o4755, pattern((3 << 20) + 1))
        .file("odd/holes", 0o600, holes)
        .file(format!("odd/{}/{}", "d".repeat(100), "e".repeat(150)), 0o644, "long\n")
        .entry(Entry { uid: 1000, gid: 3_000_000_000, ..Entry::new(FILE, "odd/owned") })
        .entry(Entry { mtime: Time { seconds: 1_600_000_000, nanos: 123_456_789 }, ..Entry::new(FILE, "odd/nanos") })
        .entry(Entry { contents: b"x".into(), ..Entry::new(FILE, "odd/xattrs") }.xattr("user.binary", b"\x00\xff=\n"))
        .symlink("odd/link", "../outside")
        .entry(Entry::new(HARD_LINK, "odd/hard").linking("odd/large"))
        .fifo("odd/fifo")
        .dir("change/", 0o755)
        .file("change/removed", 0o644, "gone\n")
        .dir("change/opaque-after/", 0o755)
        .file("change/opaque-after/old", 0o644, "old\n")
        .finish()
}

fn image() -> BuiltImage {
    let [_, second, third] = <[Vec<u8>; 3]>::try_from(odd_layers()).unwrap();
    ImageBuilder::oci().compression(Compression::Gzip).layer(base()).layer(second).layer(third).build()
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

/// Makes the image zstd:chunked in a directory, and returns the manifest.
fn chunked(from: &BuiltImage, at: &Path) -> Value {
    let (plain, chunked) = (at.join("plain"), at.join("chunked"));
    from.write_dir(&plain);
    copied(&["--allow-changes", CHUNKED, &dir(&plain), &dir(&chunked)]);
    manifest(&chunked)
}

fn dir(path: &Path) -> String {
    format!("dir:{}", path.display())
}

fn is_chunked(layer: &Value) -> bool {
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    layer["annotations"].get(TOC).is_some()
}

/// Returns the tree that podman mounts.
fn mounted(store: &Store, name: &str) -> Tree {
    let point = store.podman(["image", "mount", name]).ok();
    let tree = Tree::read(point.trim());
    store.podman(["image", "umount", name]).ok();
    tree
}

#[test]
fn podman_fetches_parts_of_a_layer_and_makes_the_tree_of_it() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let image = image();
    assert!(chunked(&image, temp.path())["layers"].as_array().unwrap().iter().all(is_chunked));
    let (plain, there) = (registry.reference("plain:1"), registry.reference("chunked:1"));
    copied(&["--dest-tls-verify=false", &dir(&temp.path().join("plain")), &plain]);
    copied(&["--dest-tls-verify=false", &dir(&temp.path().join("chunked")), &there]);

    let pull = |store: &Store, reference: &str| {
        let name = reference.trim_start_matches("docker://").to_string();
        let told = store.podman(["--log-level=debug", "pull", "--tls-verify=false", &name]);
        told.ok();
        (mounted(store, &name), told.errors().matches("Retrieved partial blob").count())
    };
    let (expected, _) = pull(&Store::overlay(), &plain);
    let (whole, parts) = pull(&Store::overlay(), &there);
    assert_eq!(parts, 0, "whole layers");
    let (by_parts, parts) = pull(&Store::overlay().partial_pulls(), &there);
    assert_eq!(parts, 3, "layers in parts");
    // What no entry of its layer gives a time has that of the pull; no entry has one so late.
    let of_the_pull: Vec<Vec<u8>> =
        expected.nodes.iter().filter(|(_, node)| node.mtime.0 > 1_720_000_000).map(|(path, _)| path.clone()).collect();
    assert!(of_the_pull.len() < 12, "{of_the_pull:?}");
    let implied = || {
        let paths = of_the_pull.clone();
        Options::new().ignore_mtime_of(move |path| paths.iter().any(|other| other == path))
    };
    expected.assert_same(&whole, &implied());
    // podman 4.3 loses owners, times, FIFOs and the root's mode when it fetches parts; nothing else is lost.
    for top in ["odd", "change"] {
        let lost = Options::new().ignore_mtimes().ignore_owners().ignore_path("fifo");
        expected.subtree(top).assert_same(&by_parts.subtree(top), &lost);
    }

    // skopeo takes it whole, as it is.
    let back = temp.path().join("back");
    Peer::skopeo().run(["copy", "-q", "--src-tls-verify=false", &there, &dir(&back)]).ok();
    assert_eq!(manifest(&back), manifest(&temp.path().join("chunked")));
}

#[test]
fn the_same_bytes_in_both_faces_and_at_any_time() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let ours = chunked(&image(), temp.path());
    let as_skopeo = ["skopeo", "--insecure-policy", "copy", "-q", CHUNKED, "--dest-compress"];
    let run = run(&[&as_skopeo[..], &[&dir(&at("plain")), &dir(&at("other"))]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(manifest(&at("other"))["layers"], ours["layers"]);
    for layer in ours["layers"].as_array().unwrap() {
        let name = hex_of(layer["digest"].as_str().unwrap());
        assert!(fs::read(at("chunked").join(name)).unwrap() == fs::read(at("other").join(name)).unwrap());
    }
}

#[test]
fn annotations_go_with_the_layer_and_with_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let first = chunked(&image(), temp.path());
    // As it is, also where zstd or zstd:chunked is asked for: it is both.
    for (name, more) in [("as-it-is", &[][..]), ("again", &[CHUNKED]), ("zstd", &["--dest-compress-format=zstd"])] {
        copied(&[more, &[&dir(&at("chunked")), &dir(&at(name))]].concat());
        assert_eq!(manifest(&at(name)), first, "{name}");
    }
    copied(&["--allow-changes", "--dest-compress-format=gzip", &dir(&at("chunked")), &dir(&at("gzip"))]);
    for layer in manifest(&at("gzip"))["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        assert!(layer.get("annotations").is_none(), "{layer}");
    }
    // zstd is not zstd:chunked yet.
    image().write_dir(at("gz"));
    copied(&["--allow-changes", "--dest-compress-format=zstd", &dir(&at("gz")), &dir(&at("zs"))]);
    assert!(!manifest(&at("zs"))["layers"].as_array().unwrap().iter().any(is_chunked));
    copied(&["--allow-changes", CHUNKED, &dir(&at("zs")), &dir(&at("zc"))]);
    assert_eq!(manifest(&at("zc"))["layers"], first["layers"]);
    // Docker's format has no zstd.
    let output = copy(&["--allow-changes", "-f", "v2s2", CHUNKED, &dir(&at("gz")), &dir(&at("docker"))]);
    assert!(output.code == 1 && output.err.contains("Docker's format has no zstd layers"), "{}", output.err);
}

#[test]
fn a_layer_without_a_table_is_told_of() {
    let temp = tempfile::tempdir().unwrap();
    let image = ImageBuilder::oci().layer(base()).layer(odd_layers().remove(0)).build();
    image.write_dir(temp.path().join("plain"));
    let (from, to) = (dir(&temp.path().join("plain")), temp.path().join("to"));
    let arguments = ["--insecure-policy", "copy", "--no-cache", "--allow-changes", CHUNKED, &from, &dir(&to)];
    let output = run(&arguments);
    assert_eq!(output.code, 0, "{}", output.err);
    let expected = "layer 2 becomes zstd without a table of contents";
    assert_eq!(output.err.matches(expected).count(), 1, "{}", output.err);
    let layers = manifest(&to)["layers"].as_array().unwrap().clone();
    assert_eq!((is_chunked(&layers[0]), is_chunked(&layers[1])), (true, false));
}

#[test]
fn a_list_says_which_images_are_zstd() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let list = IndexBuilder::oci().image(&image()).annotation("org.example.kept", "yes").build();
    list.write_dir(at("list"));
    copied(&["--all", "--allow-changes", CHUNKED, &dir(&at("list")), &dir(&at("to"))]);
    let new = manifest(&at("to"));
    assert_eq!(new["manifests"][0]["annotations"]["io.github.containers.compression.zstd"], "true");
    assert_eq!(new["annotations"]["org.example.kept"], "yes");
    copied(&["--all", "--allow-changes", "--dest-compress-format=gzip", &dir(&at("list")), &dir(&at("gzip"))]);
    assert!(manifest(&at("gzip"))["manifests"][0].get("annotations").is_none());
}

#[test]
fn a_table_that_lies_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let first = chunked(&image(), temp.path());
    // Another table behind a true tar: the blob's own digest is right, and the annotations are of that table.
    let mut image = image();
    for (layer, descriptor) in image.layers.iter_mut().zip(first["layers"].as_array().unwrap()) {
        let name = hex_of(descriptor["digest"].as_str().unwrap());
        let mut blob = fs::read(temp.path().join("chunked").join(name)).unwrap();
        let toc = descriptor["annotations"]["io.github.containers.zstd-chunked.manifest-position"].as_str().unwrap();
        let offset: usize = toc.split(':').next().unwrap().parse().unwrap();
        blob.truncate(offset - 8);
        let lie = br#"{"version":1,"entries":[{"type":"reg","name":"etc/shadow","mode":511,"digest":"x"}]}"#;
        let lie = zstd_frame(lie);
        blob.extend([0x50, 0x2a, 0x4d, 0x18]);
        blob.extend((lie.len() as u32).to_le_bytes());
        blob.extend(&lie);
        *layer = BuiltLayer::new(blob, layer.diff.clone(), descriptor["mediaType"].as_str().unwrap().into());
    }
    let mut lying: Value = serde_json::from_slice(&image.manifest).unwrap();
    for (n, layer) in image.layers.iter().enumerate() {
        lying["layers"][n] = layer.descriptor();
        lying["layers"][n]["annotations"] = first["layers"][n]["annotations"].clone();
    }
    image.manifest = serde_json::to_vec(&lying).unwrap();
    image.write_dir(temp.path().join("lying"));
    let tree = |name: &str| {
        let to = temp.path().join(format!("{name}.tree"));
        let mut command = holkas();
        command.env("SOURCE_DATE_EPOCH", "1234567890").args(["--insecure-policy", "unpack"]);
        let run = finish(command.arg(dir(&temp.path().join(name))).arg(&to));
        assert_eq!(run.code, 0, "{name}: {}", run.err);
        Tree::read(to)
    };
    let expected = tree("plain");
    expected.assert_same(&tree("lying"), &Options::new());
    copied(&[
        "--allow-changes",
        "--dest-compress-format=gzip",
        &dir(&temp.path().join("lying")),
        &dir(&temp.path().join("gz")),
    ]);
    expected.assert_same(&tree("gz"), &Options::new());
}

fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    holkas_testkit::image::compress(bytes, Compression::Zstd)
}
