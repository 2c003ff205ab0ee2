//! The records of stores, and images deleted from them: as containers-storage has them, and never half.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "common/stores.rs"]
mod stores;

use std::fs;
use std::path::PathBuf;

use holkas::ErrorKind;
use holkas::fs::Dir;
use holkas::fs::lock::{Kind, Lock};
use holkas::storage::records::{self, ImageRecord, LayerRecord};
use holkas::storage::state::Locked;
use holkas_testkit::corrupt;
use holkas_testkit::oddities::{odd_image, runnable_image};
use holkas_testkit::peers::Store;

use stores::{assert_layers, at, open, paths, put, records_of, remove, small, temp, text};

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
