//! The store writer, held against skopeo's store and against podman.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use holkas::copy::{CopyOptions, copy};
use holkas::dir::DirSource;
use holkas::fs::Dir;
use holkas::policy::Policy;
use holkas::progress::Silent;
use holkas::reference::{Driver, Name};
use holkas::storage::destination::StorageDestination;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder};
use holkas_testkit::oddities::{odd_image, runnable_image};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use tempfile::TempDir;

const NAME: &str = "example.com/team/app:1";

/// Stores the image at a `dir:` path in a testkit store.
fn put(path: &Path, store: &Store, driver: Driver) {
    try_put(path, store, driver).unwrap();
}

fn try_put(path: &Path, store: &Store, driver: Driver) -> holkas::Result<holkas::copy::Copied> {
    let names = vec![Name::parse_normalised(NAME).unwrap()];
    let root = Dir::create_all(&store.root).unwrap();
    let destination = Box::new(StorageDestination::create(root, driver, names, 0).unwrap());
    copy(&DirSource::open(path)?, destination, &Policy::accept_anything(), &CopyOptions::default(), &Silent)
}

/// An image as a `dir:` in a temporary directory.
struct Source(TempDir);

impl Source {
    fn new(write: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().unwrap();
        write(&dir.path().join("image"));
        Self(dir)
    }

    fn of(image: &BuiltImage) -> Self {
        Self::new(|path| image.write_dir(path))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("image")
    }
}

const DRIVERS: [(Driver, &str); 2] = [(Driver::Overlay, "overlay"), (Driver::Vfs, "vfs")];

#[test]
fn layers_equal_skopeos() {
    for (driver, name) in DRIVERS {
        let image = odd_image();
        let source = Source::of(&image);
        let (ours, skopeos) = (Store::new(name), Store::new(name));
        put(&source.path(), &ours, driver);
        let from = format!("dir:{}", source.path().display());
        Peer::skopeo().run(["--insecure-policy", "copy", &from, &skopeos.reference(NAME)]).ok();
        for id in image.layer_ids() {
            let below = if name == "vfs" { format!("vfs/dir/{id}") } else { format!("overlay/{id}/diff") };
            let (ours, skopeos) = (Tree::read(ours.root.join(&below)), Tree::read(skopeos.root.join(&below)));
            // Skopeo gives the time of the moment to what no entry of the layer names.
            let times: Vec<Vec<u8>> =
                skopeos.nodes.iter().filter(|(_, n)| n.mtime.0 > 1_780_000_000).map(|(p, _)| p.clone()).collect();
            ours.assert_same(&skopeos, &Options::new().ignore_mtime_of(move |path| times.iter().any(|p| p == path)));
        }
    }
}

#[test]
fn podman_runs_what_we_store_and_removes_all_of_it() {
    for (driver, name) in DRIVERS {
        let image = runnable_image();
        let source = Source::of(&image);
        let store = Store::new(name);
        put(&source.path(), &store, driver);
        let listed = store.podman(["images", "--digests", "--no-trunc"]).ok();
        assert!(listed.contains(&image.digest()), "{listed}");
        assert_eq!(store.podman_run([NAME, "/bin/busybox", "echo", "hello"]).ok().trim(), "hello");
        store.podman(["rmi", NAME]).ok();
        for records in [format!("{name}-images/images.json"), format!("{name}-layers/layers.json")] {
            assert_eq!(std::fs::read_to_string(store.root.join(records)).unwrap(), "[]");
        }
    }
}

#[test]
fn an_image_of_a_list_is_found_by_tag_instance_and_list() {
    let image = runnable_image();
    let foreign = ImageBuilder::oci()
        .platform("s390x", "linux")
        .layer_with(TarBuilder::new().file("a", 0o644, "a").finish(), Compression::Gzip)
        .build();
    let index = IndexBuilder::oci().image(&foreign).image(&image).build();
    let source = Source::new(|path| index.write_dir(path));
    let store = Store::overlay();
    put(&source.path(), &store, Driver::Overlay);
    let at = |digest: String| format!("example.com/team/app@{digest}");
    for reference in [NAME.to_string(), at(image.digest()), at(index.digest())] {
        let said = store.podman_run([&reference, "/bin/busybox", "echo", "hello"]).ok();
        assert_eq!(said.trim(), "hello", "{reference}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let source = Source::of(&odd_image());
    for (driver, name) in DRIVERS {
        let (first, second) = (Store::new(name), Store::new(name));
        put(&source.path(), &first, driver);
        put(&source.path(), &second, driver);
        Tree::read(&first.root).assert_same(&Tree::read(&second.root), &Options::new());
    }
}

#[test]
fn a_layer_that_lies_leaves_nothing() {
    let image = ImageBuilder::oci().layer(TarBuilder::new().file("a", 0o644, "honest").finish()).build();
    let source = Source::of(&image);
    holkas_testkit::corrupt::flip_middle(holkas_testkit::corrupt::dir_blob(source.path(), &image.layers[0].digest));
    let store = Store::overlay();
    std::fs::create_dir_all(&store.root).unwrap();
    let before = Tree::read(&store.root);
    let error = try_put(&source.path(), &store, Driver::Overlay).unwrap_err();
    assert!(error.to_string().contains(&image.layers[0].digest[..19]), "{error}");
    Tree::read(&store.root).assert_same(&before, &Options::new().ignore_mtimes());
}
