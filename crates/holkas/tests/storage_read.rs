//! Stores that skopeo and podman made, read by us, and deleted from.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use holkas::ErrorKind;
use holkas::fs::Dir;
use holkas::fs::lock::{Kind, Lock};
use holkas::image::{Image, ImageSource, LayerBlob, open_top};
use holkas::oci::{Document, Index, Platform};
use holkas::reference::{ImageReference, StoredImage};
use holkas::storage::delete::{Deleted, delete};
use holkas::storage::location::Location;
use holkas::storage::records::{self, ImageRecord, LayerRecord};
use holkas::storage::source::StorageSource;
use holkas::storage::state::Locked;
use holkas_testkit::corrupt;
use holkas_testkit::image::{BuiltImage, BuiltIndex, Compression, ImageBuilder, IndexBuilder, compress, sha256_digest};
use holkas_testkit::oddities::{odd_image, odd_image_uncompressed, runnable_image};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn at(store: &Store) -> Location {
    let driver = store.driver.parse().expect("a driver");
    Location { driver, graph_root: store.root.clone(), additional: Vec::new() }
}

/// Returns what `containers-storage:IMAGE` means.
fn wanted(image: &str) -> StoredImage {
    match ImageReference::parse(format!("containers-storage:{image}")) {
        Ok(ImageReference::Storage(reference)) => reference.image.expect("an image"),
        other => panic!("{other:?}"),
    }
}

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

fn open(location: &Location, image: &str) -> holkas::Result<StorageSource> {
    StorageSource::open(location, &wanted(image), &platform("linux/amd64"))
}

/// Puts an image into a store with skopeo.
fn put(store: &Store, image: &BuiltImage, name: &str) {
    let dir = temp();
    image.write_dir(dir.path());
    store.skopeo(["copy", &format!("dir:{}", dir.path().display()), &store.reference(name)]).ok();
}

/// Opens the image that a source leads to.
fn image_of(source: &StorageSource) -> Image {
    match open_top(source).expect("a top") {
        Document::Manifest(manifest) => Image::open(source, manifest, Vec::new()).expect("an image"),
        other => panic!("{other:?}"),
    }
}

/// Reads all layers to their end, through the door.
fn layers_of(source: &StorageSource) -> holkas::Result<Vec<Vec<u8>>> {
    let image = image_of(source);
    let mut layers = Vec::new();
    for layer in &image.layers {
        let diff_id = layer.diff_id.expect("a diff ID");
        let (blob, size) = match source.open_layer(layer)? {
            LayerBlob::AsDescribed(blob) => {
                assert_eq!(layer.descriptor.digest, diff_id.0);
                (blob, None)
            }
            LayerBlob::Uncompressed(blob, size) => (blob, size),
        };
        let mut reader = blob.verify_diff(diff_id, size);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(holkas::Error::from)?;
        reader.finish()?;
        layers.push(bytes);
    }
    Ok(layers)
}

fn assert_layers(source: &StorageSource, image: &BuiltImage) {
    let read: Vec<_> = layers_of(source).expect("all layers").iter().map(sha256_digest).collect();
    let expected: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(read, expected);
}

/// Returns an image of a layer that is the same in all, and one of its own.
fn small(contents: &str) -> BuiltImage {
    let base = TarBuilder::new().dir("etc/", 0o755).file("etc/base", 0o644, "the same in all").finish();
    let top = TarBuilder::new().file("etc/own", 0o644, contents).finish();
    ImageBuilder::oci().compression(Compression::Gzip).layer(base).layer(top).build()
}

/// Returns the records of a store, checking that our encoding is theirs.
fn records_of(store: &Store) -> (Vec<ImageRecord>, Vec<LayerRecord>) {
    let read = |path: String| fs::read(store.root.join(path)).expect("a record file");
    let image_bytes = read(format!("{0}-images/images.json", store.driver));
    let layer_bytes = read(format!("{0}-layers/layers.json", store.driver));
    let images: Vec<ImageRecord> = records::parse(&image_bytes).expect("images");
    let layers: Vec<LayerRecord> = records::parse(&layer_bytes).expect("layers");
    assert_eq!(String::from_utf8_lossy(&records::encode(&images)), String::from_utf8_lossy(&image_bytes));
    assert_eq!(String::from_utf8_lossy(&records::encode(&layers)), String::from_utf8_lossy(&layer_bytes));
    (images, layers)
}

/// Returns all paths below a directory.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn records_of_real_stores_keep_their_bytes() {
    for store in [Store::overlay(), Store::vfs()] {
        put(&store, &odd_image(), "localhost/odd:1");
        put(&store, &small("x"), "localhost/a:1");
        let (images, layers) = records_of(&store);
        assert_eq!((images.len(), layers.len()), (2, 5));
        assert!(layers.iter().all(|layer| !layer.incomplete() && layer.unknown.is_empty()));
        store.podman(["tag", "localhost/odd:1", "localhost/other:2"]).ok();
        store.podman(["create", "--pull=never", "localhost/odd:1", "x"]).ok();
        let dir = temp();
        let lines = "FROM localhost/a:1\nLABEL a=<b>&c\nCOPY Containerfile /x\n";
        fs::write(dir.path().join("Containerfile"), lines).expect("written");
        store.buildah(["build", "--pull-never", "-t", "localhost/built", text(dir.path())]).ok();
        let (images, layers) = records_of(&store);
        assert!(images.len() >= 3 && layers.len() >= 6);
        let odd = images.iter().find(|image| image.names.iter().any(|name| name == "localhost/other:2"));
        assert_eq!(odd.expect("the tagged image").digests().len(), 1);
    }
}

#[test]
fn unknown_keys_are_kept() {
    let text = r#"[{"id":"ab","created":"2023-04-05T06:07:08.1+02:00","flags":{"a":1,"incomplete":true},"new-key":{"z":[1.5,"\u003c"]}}]"#;
    let layers: Vec<LayerRecord> = records::parse(text.as_bytes()).expect("a record");
    assert!(layers[0].incomplete());
    assert_eq!(String::from_utf8(records::encode(&layers)).expect("UTF-8"), text);
    assert_eq!(records::parse::<LayerRecord>(b"").expect("no records"), []);
    assert_eq!(records::encode::<LayerRecord>(&[]), b"[]");
}

#[test]
fn damaged_records_are_refused_by_name() {
    let created = r#""created":"2023-04-05T06:07:08Z""#;
    let digest = format!("sha256:{}", "a".repeat(64));
    for (text, message) in [
        ("[".to_owned(), "not valid JSON"),
        ("{}".to_owned(), "not a list"),
        ("[1]".to_owned(), "not an object"),
        (format!(r#"[{{"id":"../x",{created}}}]"#), "is not an ID"),
        (format!(r#"[{{{created}}}]"#), "is not an ID"),
        (format!(r#"[{{"id":"a",{created}}},{{"id":"a",{created}}}]"#), "entry 1 `a`"),
        (format!(r#"[{{"id":"a","ID":"b",{created}}}]"#), "lower case"),
        (format!(r#"[{{"id":"a","id":"b",{created}}}]"#), "twice"),
        (r#"[{"id":"a","created":"yesterday"}]"#.to_owned(), "not a time"),
        (format!(r#"[{{"id":"a","names":"x",{created}}}]"#), "`names` is not a list of strings"),
        (format!(r#"[{{"id":"a","digest":"sha256:x",{created}}}]"#), "`digest`"),
        (format!(r#"[{{"id":"a","big-data-digests":{{"manifest":"{digest}0"}},{created}}}]"#), "big-data-digests"),
        (format!(r#"[{{"id":"a","layer":"a/b",{created}}}]"#), "`layer`"),
    ] {
        let error = records::parse::<ImageRecord>(text.as_bytes()).expect_err(&text).to_string();
        assert!(error.contains("images.json") && error.contains(message), "{error}");
    }
    let store = Store::overlay();
    put(&store, &small("x"), "localhost/a:1");
    corrupt::drop_last(store.root.join("overlay-layers/layers.json"), 1);
    let error = open(&at(&store), "localhost/a:1").expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("layers.json"), "{error}");
    assert_eq!(remove(&store, "localhost/a:1").expect_err("damaged").kind(), ErrorKind::Invalid);
}

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

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().expect("it starts");
    assert!(status.success(), "{program} {arguments:?}: {status}");
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

fn remove(store: &Store, image: &str) -> holkas::Result<Deleted> {
    delete(&at(store), &wanted(image), &platform("linux/amd64"), Some(1_700_000_000))
}

#[test]
fn a_deletion_leaves_nothing_behind_and_takes_nothing_else() {
    for store in [Store::overlay(), Store::vfs()] {
        let (image, other) = (small("x"), small("y"));
        put(&store, &image, "localhost/a:1");
        put(&store, &other, "localhost/b:1");
        store.podman(["tag", "localhost/a:1", "localhost/a:2"]).ok();
        let deleted = remove(&store, "localhost/a:1").expect("deleted");
        let mut ids = image.layer_ids();
        assert_eq!(deleted.image, image.id());
        assert_eq!(deleted.names, ["localhost/a:1", "localhost/a:2"]);
        assert_eq!(deleted.layers, [ids[1].clone()]);
        assert_eq!(open(&at(&store), "localhost/a:2").expect_err("gone").kind(), ErrorKind::NotFound);
        records_of(&store);
        assert_layers(&open(&at(&store), "localhost/b:1").expect("the other"), &other);
        assert_eq!(store.podman(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(), "localhost/b:1");
        let to = temp();
        store.skopeo(["copy", &store.reference("localhost/b:1"), &format!("dir:{}", to.path().display())]).ok();
        put(&store, &image, "localhost/a:1");
        assert_layers(&open(&at(&store), "localhost/a:1").expect("put again"), &image);
        for name in ["localhost/a:1", "localhost/b:1"] {
            remove(&store, name).expect("deleted");
        }
        ids.extend(other.layer_ids());
        ids.extend([image.id(), other.id(), "/overlay/l/".to_owned()]);
        let belongs = |path: &PathBuf| ids.iter().any(|id| path.to_string_lossy().contains(id.as_str()));
        let left: Vec<_> = paths(&store.root).into_iter().filter(belongs).collect();
        assert!(left.is_empty(), "{left:?}");
        for name in [format!("{0}-layers/layers", store.driver), format!("{0}-images/images", store.driver)] {
            assert_eq!(fs::read(store.root.join(format!("{name}.json"))).expect("records"), b"[]");
            assert_eq!(fs::read(store.root.join(format!("{name}.lock"))).expect("a token").len(), 64);
        }
        assert_eq!(store.podman(["images", "-q"]).ok(), "");
    }
}

#[test]
fn a_deletion_is_that_of_skopeo() {
    let records = |ours: bool| {
        let store = Store::overlay();
        put(&store, &small("x"), "localhost/a:1");
        put(&store, &runnable_image(), "localhost/b:1");
        store.podman(["tag", "localhost/a:1", "localhost/a:2"]).ok();
        match ours {
            true => drop(remove(&store, "localhost/a:1").expect("deleted")),
            false => drop(store.skopeo(["delete", &store.reference("localhost/a:1")]).ok()),
        }
        let (images, mut layers) = records_of(&store);
        layers.iter_mut().for_each(|layer| layer.created.clear());
        (images, layers)
    };
    assert_eq!(records(true), records(false));
}

/// A deletion that was killed leaves layers that are flagged: podman deletes them, and so do we.
#[test]
fn a_killed_deletion_is_ended_by_the_next() {
    for by_podman in [true, false] {
        let store = Store::overlay();
        let (image, other) = (small("x"), small("y"));
        put(&store, &image, "localhost/a:1");
        put(&store, &other, "localhost/b:1");
        let dead = &image.layer_ids()[1];
        let dir = Dir::open(&store.root).expect("a store");
        let mut images =
            Locked::<ImageRecord>::open(&dir.sub("overlay-images").expect("images"), Kind::Exclusive).expect("locked");
        let mut layers =
            Locked::<LayerRecord>::open(&dir.sub("overlay-layers").expect("layers"), Kind::Exclusive).expect("locked");
        let left = images.records.iter().filter(|record| record.id != image.id()).cloned().collect();
        images.replace(left, None).expect("replaced");
        let mut flagged = layers.records.clone();
        for layer in flagged.iter_mut().filter(|layer| layer.id == *dead) {
            layer.flags.insert("incomplete".into(), true.into());
        }
        layers.replace(flagged, None).expect("replaced");
        drop((images, layers));
        assert_layers(&open(&at(&store), "localhost/b:1").expect("the other"), &other);
        match by_podman {
            true => drop(store.podman(["images"]).ok()),
            false => drop(remove(&store, "localhost/b:1").expect("deleted")),
        }
        let left = paths(&store.root);
        assert!(!left.iter().any(|path| path.to_string_lossy().contains(dead.as_str())), "{left:?}");
        assert!(records_of(&store).1.iter().all(|layer| layer.id != *dead));
    }
}

#[test]
fn records_are_held_still_while_they_are_locked() {
    let store = Store::overlay();
    put(&store, &small("x"), "localhost/a:1");
    let dir = Dir::open(&store.root.join("overlay-images")).expect("images");
    let attempt = |kind| Lock::attempt(dir.open_for_update("images.lock", 0o644).expect("a lock file"), kind).map(drop);
    let shared = Locked::<ImageRecord>::open(&dir, Kind::Shared).expect("locked");
    attempt(Kind::Shared).expect("readers share");
    assert_eq!(attempt(Kind::Exclusive).expect_err("no writer").kind(), ErrorKind::Busy);
    drop(shared);
    let exclusive = Locked::<ImageRecord>::open(&dir, Kind::Exclusive).expect("locked");
    assert_eq!(attempt(Kind::Shared).expect_err("no reader").kind(), ErrorKind::Busy);
    drop(exclusive);
    attempt(Kind::Exclusive).expect("free again");
}

#[test]
fn a_replacement_is_a_token_and_a_file_of_a_time() {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let dir = temp();
    let mut locked =
        Locked::<LayerRecord>::open(&Dir::open(dir.path()).expect("a directory"), Kind::Exclusive).expect("locked");
    let mut tokens = Vec::new();
    for ids in [&["a"][..], &["a", "b"], &["a"]] {
        let layers = ids.iter().map(|id| LayerRecord::new(*id, "2023-04-05T06:07:08Z")).collect();
        locked.replace(layers, Some(-1)).expect("replaced");
        tokens.push(fs::read(dir.path().join("layers.lock")).expect("a token"));
    }
    assert!(tokens[0] == tokens[2] && tokens[0] != tokens[1] && tokens[0].len() == 64);
    for (name, mode) in [("layers.json", 0o600), ("layers.lock", 0o644)] {
        let metadata = fs::metadata(dir.path().join(name)).expect("a file");
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (mode, -1), "{name}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 2);
}

#[test]
fn what_a_container_uses_is_kept() {
    let store = Store::overlay();
    put(&store, &runnable_image(), "localhost/a:1");
    store.podman(["create", "--pull=never", "--name=user", "localhost/a:1"]).ok();
    let error = remove(&store, "localhost/a:1").expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("in use by container"), "{error}");
    store.podman(["rm", "user"]).ok();
    remove(&store, "localhost/a:1").expect("deleted");
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
