//! Stores that real programs fill, for tests.
#![allow(dead_code, reason = "each test binary needs some of it")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use holkas::image::{Image, ImageSource, LayerBlob, open_top};
use holkas::oci::{Document, Platform};
use holkas::reference::{ImageReference, StoredImage};
use holkas::storage::delete::{Deleted, delete};
use holkas::storage::location::Location;
use holkas::storage::records::{self, ImageRecord, LayerRecord};
use holkas::storage::source::StorageSource;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, sha256_digest};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub(crate) fn at(store: &Store) -> Location {
    let driver = store.driver.parse().expect("a driver");
    Location { driver, graph_root: store.root.clone(), additional: Vec::new() }
}

/// Returns what `containers-storage:IMAGE` means.
pub(crate) fn wanted(image: &str) -> StoredImage {
    match ImageReference::parse(format!("containers-storage:{image}")) {
        Ok(ImageReference::Storage(reference)) => reference.image.expect("an image"),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

pub(crate) fn open(location: &Location, image: &str) -> holkas::Result<StorageSource> {
    StorageSource::open(location, &wanted(image), &platform("linux/amd64"))
}

/// Puts an image into a store with skopeo.
pub(crate) fn put(store: &Store, image: &BuiltImage, name: &str) {
    let dir = temp();
    image.write_dir(dir.path());
    store.skopeo(["copy", &format!("dir:{}", dir.path().display()), &store.reference(name)]).ok();
}

/// Opens the image that a source leads to.
pub(crate) fn image_of(source: &StorageSource) -> Image {
    match open_top(source).expect("a top") {
        Document::Manifest(manifest) => Image::open(source, manifest, Vec::new()).expect("an image"),
        other => panic!("{other:?}"),
    }
}

/// Reads all layers to their end, through the door.
pub(crate) fn layers_of(source: &StorageSource) -> holkas::Result<Vec<Vec<u8>>> {
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

pub(crate) fn assert_layers(source: &StorageSource, image: &BuiltImage) {
    let read: Vec<_> = layers_of(source).expect("all layers").iter().map(sha256_digest).collect();
    let expected: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(read, expected);
}

/// Returns an image of a layer that is the same in all, and one of its own.
pub(crate) fn small(contents: &str) -> BuiltImage {
    let base = TarBuilder::new().dir("etc/", 0o755).file("etc/base", 0o644, "the same in all").finish();
    let top = TarBuilder::new().file("etc/own", 0o644, contents).finish();
    ImageBuilder::oci().compression(Compression::Gzip).layer(base).layer(top).build()
}

/// Returns the records of a store, checking that our encoding is theirs.
pub(crate) fn records_of(store: &Store) -> (Vec<ImageRecord>, Vec<LayerRecord>) {
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
pub(crate) fn paths(root: &Path) -> Vec<PathBuf> {
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

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().expect("it starts");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

pub(crate) fn remove(store: &Store, image: &str) -> holkas::Result<Deleted> {
    delete(&at(store), &wanted(image), &platform("linux/amd64"), Some(1_700_000_000))
}
