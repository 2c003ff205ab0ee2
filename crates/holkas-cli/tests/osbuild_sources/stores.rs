//! Images that come from stores, stay in stores, and go from one of osbuild's stores to another.

use std::fs;

use holkas_testkit::image::{BuiltImage, IndexBuilder, sha256_digest};
use holkas_testkit::peers::Store;
use holkas_testkit::registry::Registry;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

use crate::scene::{SKOPEO, all_cached, app, docker_app, error_of, fetched, host, item};

const STORAGE: &str = "org.osbuild.containers-storage";

/// Puts an image into a store by skopeo, under `localhost/app:1`.
fn store(driver: &str, image: &BuiltImage) -> Store {
    let store = Store::new(driver);
    let temp = tempfile::tempdir().unwrap();
    image.write_dir(temp.path().join("image"));
    let from = format!("dir:{}", temp.path().join("image").display());
    store.skopeo(["copy", &from, &store.reference("localhost/app:1")]).ok();
    store
}

fn conf(store: &Store) -> String {
    format!("[storage]\ndriver = {:?}\ngraphroot = {:?}\nrunroot = {:?}\n", store.driver, store.root, store.runroot)
}

#[test]
fn images_of_the_host_are_looked_for_in_its_store() {
    let (host, image) = (host(), app("host"));
    let store = store("overlay", &image);
    let missing = sha256_digest("missing");
    let items = json!({ image.config_digest(): {}, &missing: {}, "sha256:x": {} });
    for text in [conf(&store), format!("[storage]\ndriver = \"\"\ngraphroot = {:?}\n", store.root)] {
        host.storage_conf(&text);
        let answer = host.download(STORAGE, items.clone());
        assert_eq!(answer["results"][0]["success"], true, "{answer}");
        let error = error_of(&answer, 1);
        assert!(error.contains("image ID does not exist in local container storage"), "{error}");
        assert!(error.contains(&missing) && error.contains(&store.root.display().to_string()), "{error}");
        assert!(error_of(&answer, 2).contains("64 hex digits"));
    }
    // Without [storage], and without the file, it is the store that containers-storage takes then.
    host.storage_conf("# nothing\n");
    let error = error_of(&host.download(STORAGE, json!({ &missing: {} })), 0);
    assert!(error.contains("/var/lib/containers/storage"), "{error}");
    host.storage_conf("[storage");
    let error = error_of(&host.download(STORAGE, items.clone()), 0);
    assert!(error.contains("storage.conf") && error.contains("TOML"), "{error}");
    fs::remove_file(host.home().join("storage.conf")).unwrap();
    let error = error_of(&host.download(STORAGE, items.clone()), 0);
    assert!(error.contains("storage.conf") && error.contains("does not exist"), "{error}");
    // Another config under the ID.
    host.storage_conf(&conf(&store));
    let config = store.root.join(format!("overlay-images/{}", image.id()));
    let file = fs::read_dir(&config)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read(path).unwrap() == image.config);
    let mut bytes = image.config.clone();
    bytes[10] ^= 1;
    fs::write(file.unwrap(), bytes).unwrap();
    let answer = host.download(STORAGE, json!({ image.config_digest(): {} }));
    assert!(error_of(&answer, 0).contains(&image.config_digest()), "{answer}");
}

#[test]
fn images_are_copied_out_of_stores_of_either_driver() {
    for (driver, image) in [("overlay", docker_app("overlay")), ("vfs", app("vfs"))] {
        let (host, store) = (host(), store(driver, &image));
        let manifest = store.skopeo(["inspect", "--raw", &store.reference("localhost/app:1")]);
        let digest = sha256_digest(&manifest.stdout);
        // What storage.conf says is of another store, and of another driver.
        host.storage_conf("[storage]\ndriver = \"overlay\"\ngraphroot = \"/nonexistent\"\n");
        let at = |location: Value| {
            json!({ image.config_digest(): {"image": {
                "name": "localhost/app", "digest": digest, "containers-transport": "containers-storage",
                "storage-location": location,
            }}})
        };
        fetched(&host.download(SKOPEO, at(json!(store.root))), 1);
        all_cached(&host.download(SKOPEO, at(json!(store.root))));
        let place = host.image(&image.config_digest());
        let source = format!("dir:{}", place.display());
        let config = holkas_testkit::peers::Peer::skopeo().run(["inspect", "--raw", "--config", &source]);
        assert_eq!(config.stdout, image.config, "{driver}");
        let layers = holkas_testkit::peers::Peer::skopeo().run(["inspect", &source]).json();
        assert_eq!(layers["Layers"].as_array().unwrap().len(), image.layers.len());
        fs::remove_dir_all(place.parent().unwrap()).unwrap();
        let answer = host.download(SKOPEO, at(json!("/nonexistent/store")));
        assert!(error_of(&answer, 0).contains("`storage-location` is `/nonexistent/store`"), "{answer}");
        // Without a location, it is the host's own.
        host.storage_conf(&conf(&store));
        fetched(&host.download(SKOPEO, at(Value::Null)), 1);
    }
}

#[test]
fn lists_that_a_store_keeps_are_taken_from_it() {
    let (host, registry, image) = (host(), Registry::start(), app("listed"));
    let list = IndexBuilder::oci().image(&image).build();
    registry.put_index(&list, "app", "1");
    let store = Store::overlay();
    let from = registry.reference(&format!("app@{}", list.digest()));
    store.skopeo(["copy", "--src-tls-verify=false", &from, &store.reference("localhost/app:1")]).ok();
    registry.reset_log();
    let at = |digest: String| {
        json!({ digest: {"image": {
            "name": "localhost/app", "containers-transport": "containers-storage", "storage-location": store.root,
        }}})
    };
    fetched(&host.download("org.osbuild.skopeo-index", at(list.digest())), 1);
    let kept = fs::read(host.cache().join("org.osbuild.files").join(list.digest())).unwrap();
    assert_eq!(kept, list.manifest);
    let answer = host.download("org.osbuild.skopeo-index", at(image.digest()));
    assert!(error_of(&answer, 0).contains("is not a manifest-list"), "{answer}");
    assert!(registry.log().is_empty());
}

#[test]
fn exports_are_whole_and_can_be_repeated() {
    let (host, registry, image) = (host(), Registry::start(), app("export"));
    registry.put_image(&image, "app", "1");
    let list = IndexBuilder::oci().image(&image).build();
    registry.put_index(&list, "app", "2");
    let (id, entry) = item(&registry, "app", &image);
    let mut items = serde_json::Map::from_iter([(id.clone(), entry.clone())]);
    let lists = json!({ list.digest(): {"image": {"name": format!("{}/app", registry.host()), "tls-verify": false}} });
    fetched(&host.download(SKOPEO, items.clone().into()), 1);
    fetched(&host.download("org.osbuild.skopeo-index", lists.clone()), 1);
    let to = tempfile::tempdir().unwrap();
    let args = |items: Value| json!({ "items": items, "options": {}, "cache": host.cache(), "dst_cache": to.path() });
    registry.reset_log();
    for cached in [false, true] {
        let source = host.source(SKOPEO);
        let answer = source.call("copy", args(items.clone().into())).reply();
        assert_eq!(answer["success"], true, "{answer}");
        assert_eq!(answer["source_type"], SKOPEO);
        assert_eq!(answer["results"][0]["metadata"]["cached"], cached);
        let index = host.source("org.osbuild.skopeo-index").call("copy", args(lists.clone())).reply();
        assert_eq!((&index["success"], &index["source_type"]), (&json!(true), &json!("org.osbuild.skopeo-index")));
        let storage = host.source(STORAGE).call("copy", args(json!({ &id: {} }))).reply();
        assert_eq!(storage["success"], true);
    }
    assert!(registry.log().is_empty());
    for content in ["org.osbuild.containers", "org.osbuild.files"] {
        let (from, to) = (host.cache().join(content), to.path().join(content));
        Tree::read(from).assert_same(&Tree::read(to), &Options::new().ignore_mtimes());
    }
    // What is not there cannot be copied, and what is, is.
    items.insert(sha256_digest("absent"), entry);
    let answer = host.source(SKOPEO).call("copy", args(items.into())).reply();
    assert!(error_of(&answer, 1).contains("the image is not in the store"), "{answer}");
    assert_eq!(answer["results"][0]["success"], true);
}
