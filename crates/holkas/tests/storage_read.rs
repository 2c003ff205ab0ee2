//! Stores that skopeo and podman made, read by us.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "common/stores.rs"]
mod stores;

use std::fs;
use std::path::{Path, PathBuf};

use holkas::ErrorKind;
use holkas::image::{ImageSource, LayerBlob};
use holkas::oci::Index;
use holkas::storage::delete::delete;
use holkas::storage::location::Location;
use holkas::storage::source::StorageSource;
use holkas_testkit::corrupt;
use holkas_testkit::image::{BuiltIndex, Compression, ImageBuilder, IndexBuilder, compress};
use holkas_testkit::oddities::{odd_image, odd_image_uncompressed, runnable_image};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;

use stores::{assert_layers, at, image_of, layers_of, open, platform, put, run, small, temp, text, wanted};

#[test]
fn every_layer_of_a_real_store_comes_back_exactly() {
    for store in [Store::overlay(), Store::vfs()] {
        let docker = ImageBuilder::docker().compression(Compression::Gzip).layer(small("d").layers[1].diff.clone());
        for (image, name) in [
            (odd_image(), "localhost/odd:1"),
            (runnable_image(), "localhost/run:1"),
            (docker.build(), "localhost/docker:1"),
        ] {
            put(&store, &image, name);
            let source = open(&at(&store), name).expect("the image");
            assert_eq!(source.top().expect("a manifest").bytes(), image.manifest);
            assert_layers(&source, &image);
            assert!(!source.keeps_blobs());
            assert_eq!(source.record().id, image.id());
        }
    }
}

#[test]
fn files_behind_symlinks_within_the_layer_come_back() {
    let layer = TarBuilder::new()
        .dir("b", 0o755)
        .symlink("absolute", "/b")
        .symlink("upwards", "../../b")
        .file("absolute/one", 0o644, "1")
        .file("upwards/two", 0o644, "2");
    let image = ImageBuilder::oci().compression(Compression::Gzip).layer(layer.finish()).build();
    for store in [Store::overlay(), Store::vfs()] {
        put(&store, &image, "localhost/links:1");
        assert_layers(&open(&at(&store), "localhost/links:1").expect("the image"), &image);
    }
}

#[test]
fn uncompressed_layers_are_the_blobs_themselves() {
    let store = Store::overlay();
    put(&store, &odd_image_uncompressed(), "localhost/odd:1");
    let source = open(&at(&store), "localhost/odd:1").expect("the image");
    for layer in &image_of(&source).layers {
        match source.open_layer(layer).expect("a layer") {
            LayerBlob::AsDescribed(blob) => {
                let mut reader = blob.verify(&layer.descriptor);
                std::io::copy(&mut reader, &mut std::io::sink()).expect("read");
                reader.finish().expect("proven");
            }
            LayerBlob::Uncompressed(..) => panic!("the store has the blob"),
        }
    }
}

#[test]
fn images_that_buildah_built_come_back() {
    let store = Store::overlay();
    put(&store, &runnable_image(), "localhost/base:1");
    let dir = temp();
    let lines = "FROM localhost/base:1\nCOPY Containerfile /etc/x\nENV A=b\n";
    fs::write(dir.path().join("Containerfile"), lines).expect("written");
    store.buildah(["build", "--pull-never", "--layers", "-t", "localhost/built:1", text(dir.path())]).ok();
    let source = open(&at(&store), "localhost/built:1").expect("the image");
    assert!(layers_of(&source).expect("all layers").len() >= 3);
}

#[test]
fn images_are_found_as_skopeo_finds_them() {
    let store = Store::overlay();
    let (image, other) = (small("x"), small("y"));
    put(&store, &image, "localhost/a:1");
    put(&store, &other, "docker.io/library/b:latest");
    let at = at(&store);
    let id = |name: &str| open(&at, name).map(|source| source.record().id.clone());
    for name in [
        "localhost/a:1",
        &image.id(),
        &image.id()[..12],
        &format!("@{}", image.id()),
        &format!("localhost/a@{}", image.digest()),
    ] {
        assert_eq!(id(name).expect(name), image.id(), "{name}");
    }
    assert_eq!(id("b").expect("normalised"), other.id());
    for name in ["localhost/a:2", &format!("localhost/z@{}", image.digest()), &"0".repeat(64), "fff"] {
        let error = id(name).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let text = error.to_string();
        assert!(text.contains("does not resolve to an image ID"), "{text}");
        assert!(text.contains("identifier is not an image"), "{text}");
    }
    let missing = Location { graph_root: "/nowhere/at/all".into(), ..at };
    assert_eq!(open(&missing, "localhost/a:1").expect_err("no store").kind(), ErrorKind::NotFound);
}

fn two_platforms() -> BuiltIndex {
    let image = |architecture: &str| {
        let layer = TarBuilder::new().file("arch", 0o644, architecture).finish();
        ImageBuilder::oci().architecture(architecture).compression(Compression::Gzip).layer(layer).build()
    };
    IndexBuilder::oci().image(&image("amd64")).image(&image("arm64")).build()
}

#[test]
fn lists_travel_with_their_image() {
    let store = Store::overlay();
    let list = two_platforms();
    let dir = temp();
    list.write_dir(dir.path());
    let from = format!("dir:{}", dir.path().display());
    for architecture in ["arm64", "amd64"] {
        let to = store.reference(format!("localhost/multi:{architecture}"));
        store.skopeo(["--override-arch", architecture, "--override-os", "linux", "copy", &from, &to]).ok();
    }
    for architecture in ["arm64", "amd64"] {
        let image = list.image(architecture);
        let open = |name: &str| {
            let platform = platform(&format!("linux/{architecture}"));
            StorageSource::open(&at(&store), &wanted(&format!("localhost/multi{name}")), &platform).expect("an image")
        };
        // By name: the instance, and the list beside it.
        let source = open(&format!(":{architecture}"));
        assert_eq!(source.top().expect("a manifest").bytes(), image.manifest);
        let digest = image.digest().parse().expect("a digest");
        let indexes = source.indexes(&digest).expect("indexes");
        assert_eq!(indexes.iter().map(|index| index.bytes()).collect::<Vec<_>>(), [list.manifest.as_slice()]);
        // By the list's digest: the list, of the image that suits.
        let source = open(&format!("@{}", list.digest()));
        assert_eq!(source.record().id, image.id());
        let top = source.top().expect("a list");
        assert_eq!(top.bytes(), list.manifest);
        assert!(source.indexes(&digest).expect("indexes").is_empty());
        for entry in Index::parse(top).expect("a list").entries() {
            let opened = source.open_manifest(entry);
            assert_eq!(opened.is_ok(), entry.digest == digest, "{opened:?}");
        }
        assert_layers(&open(&format!("@{digest}")), image);
    }
}

#[test]
fn signatures_come_back() {
    let store = Store::overlay();
    let image = small("signed").uncompressed();
    let dir = temp();
    let signatures: [&[u8]; 2] = [b"\x88first signature", b"\x88second"];
    image.write_dir_signed(dir.path(), &signatures);
    store.skopeo(["copy", &format!("dir:{}", dir.path().display()), &store.reference("localhost/s:1")]).ok();
    let source = open(&at(&store), "localhost/s:1").expect("the image");
    let read = source.signatures(&image.digest().parse().expect("a digest")).expect("signatures");
    assert_eq!(read.iter().map(|signature| signature.0.as_slice()).collect::<Vec<_>>(), signatures);
    let manifest = image.digest().parse().expect("a digest");
    for (from, to) in [("[16,7]", "[16,9]"), ("[16,9]", "[16]"), ("[16]", "[-1]"), ("[-1]", "[99999999]")] {
        corrupt::replace_text(store.root.join("overlay-images/images.json"), from, to);
        let source = open(&at(&store), "localhost/s:1").expect("the image");
        source.signatures(&manifest).expect_err(to);
    }
}

#[test]
fn additional_stores_are_read_only() {
    let lower = Store::overlay();
    let (base, image) = (small("base"), small("own"));
    put(&lower, &base, "localhost/base:1");
    let store = Store::overlay().additional_store(&lower.root);
    put(&store, &image, "localhost/own:1");
    let mounted = ReadOnly::of(&lower.root);
    let at = Location { additional: vec![mounted.path(), "/not/there".into()], ..at(&store) };
    for (image, name) in [(&base, "localhost/base:1"), (&image, "localhost/own:1")] {
        assert_layers(&open(&at, name).expect(name), image);
    }
    let error = delete(&at, &wanted("localhost/base:1"), &platform("linux/amd64"), None).expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Refused);
    // And alone, without its lock files.
    for name in ["overlay-layers/layers.lock", "overlay-images/images.lock"] {
        corrupt::remove(lower.root.join(name));
    }
    let alone = Location { graph_root: mounted.path(), additional: Vec::new(), ..at };
    assert_layers(&open(&alone, "localhost/base:1").expect("the image"), &base);
    assert!(!lower.root.join("overlay-layers/layers.lock").exists());
}

/// A read-only view of a directory.
struct ReadOnly(tempfile::TempDir);

impl ReadOnly {
    fn of(path: &Path) -> Self {
        let view = Self(temp());
        run("mount", &["--bind", text(path), text(view.0.path())]);
        run("mount", &["-o", "remount,bind,ro", text(view.0.path())]);
        view
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        run("umount", &[text(self.0.path())]);
    }
}

/// Returns a store with an image of one file, the path of its tar-split and of its directory.
fn one_file() -> (Store, PathBuf, PathBuf) {
    let store = Store::overlay();
    let image = ImageBuilder::oci().layer(TarBuilder::new().file("motd", 0o644, "hello\n").finish()).build();
    put(&store, &image, "localhost/h:1");
    let id = &image.layer_ids()[0];
    let split = store.root.join(format!("overlay-layers/{id}.tar-split.gz"));
    let diff = store.root.join(format!("overlay/{id}/diff"));
    (store, split, diff)
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    compress(bytes.as_ref(), Compression::Gzip)
}

#[test]
fn a_hostile_tar_split_reads_nothing_outside() {
    let (store, split, diff) = one_file();
    let secret = temp();
    fs::write(secret.path().join("motd"), "secret").expect("written");
    fs::write(diff.parent().expect("a layer").join("motd"), "secret").expect("written");
    std::os::unix::fs::symlink(secret.path(), diff.join("out")).expect("made");
    std::os::unix::fs::symlink(secret.path().join("motd"), diff.join("direct")).expect("made");
    std::os::unix::fs::symlink("motd", diff.join("inside")).expect("made");
    run("mkfifo", &[text(&diff.join("fifo"))]);
    let absolute = text(&secret.path().join("motd")).to_owned();
    for name in ["../motd", "x/../../motd", "out/motd", "direct", "inside", "fifo", absolute.as_str(), ""] {
        let entry = serde_json::json!({"type": 1, "name": name, "size": 6, "payload": "AAAAAAAAAAA=", "position": 0});
        corrupt::replace(&split, gzip(entry.to_string()));
        let error = layers_of(&open(&at(&store), "localhost/h:1").expect("the image")).expect_err(name);
        let refused = matches!(error.kind(), ErrorKind::Refused | ErrorKind::Invalid | ErrorKind::Mismatch);
        assert!(refused && !error.to_string().contains("checksum"), "{name}: {error}");
    }
}

#[test]
fn damage_to_a_layer_is_found() {
    let (store, split, diff) = one_file();
    let good = fs::read(&split).expect("a tar-split");
    let read = || layers_of(&open(&at(&store), "localhost/h:1").expect("the image"));
    read().expect("not yet damaged");
    for (contents, message) in [("hallo\n", "checksum"), ("hell", "too short")] {
        corrupt::replace(diff.join("motd"), contents);
        let error = read().expect_err(message);
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.to_string().contains(message) && error.to_string().contains("motd"), "{error}");
    }
    corrupt::remove(diff.join("motd"));
    assert!(read().expect_err("lost").to_string().contains("lost the file"));
    fs::write(diff.join("motd"), "hello\n").expect("written");
    let short = good[..good.len() - 9].to_vec();
    for bad in [gzip("{"), gzip("[]"), gzip(r#"{"type":3}"#), b"{}".to_vec(), short, gzip("")] {
        corrupt::replace(&split, bad);
        read().expect_err("damaged");
    }
    corrupt::remove(&split);
    assert!(read().expect_err("no tar-split").to_string().contains("tar-split"));
    fs::write(&split, good).expect("written");
    read().expect("repaired");
}
