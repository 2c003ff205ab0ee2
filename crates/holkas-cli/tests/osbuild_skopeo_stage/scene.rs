//! What the tests of the stage have in common: images put where osbuild's inputs put them, and the stage run on them.

use std::path::PathBuf;

use holkas_testkit::image::{BuiltImage, BuiltIndex, Compression, ImageBuilder, sha256_digest};
use holkas_testkit::osbuild::sandbox::{Sandbox, StageOutput, with_lists};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use serde_json::{Map, Value, json};

/// A policy that accepts every image.
pub(crate) const ACCEPT: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// A sandbox with its inputs.
pub(crate) struct Scene {
    pub(crate) sandbox: Sandbox,
    archives: Map<String, Value>,
    lists: Vec<String>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::of(|sandbox| sandbox)
    }

    pub(crate) fn of(set: impl FnOnce(Sandbox) -> Sandbox) -> Self {
        let sandbox = set(Sandbox::new(env!("CARGO_BIN_EXE_holkas")));
        Self { sandbox, archives: Map::new(), lists: Vec::new() }
    }

    /// Returns where an image lies, by its ID.
    pub(crate) fn image(&self, image: &BuiltImage) -> PathBuf {
        self.sandbox.input("images").join(image.config_digest())
    }

    /// Adds an image as osbuild's source keeps it.
    pub(crate) fn dir(&mut self, image: &BuiltImage, name: &str) {
        image.write_dir(self.image(image));
        self.add(&image.config_digest(), "dir", name);
    }

    /// Adds what lies under a key already.
    pub(crate) fn add(&mut self, key: &str, format: &str, name: &str) {
        self.archives.insert(key.to_string(), json!({"format": format, "name": name}));
    }

    /// Adds an image of the store that lies in the input.
    pub(crate) fn add_stored(&mut self, image: &BuiltImage, name: &str) {
        let storage = json!({"driver": "overlay", "graphroot": "/var/lib/containers/storage"});
        let data = json!({"format": "containers-storage", "name": name, "storage": storage});
        self.archives.insert(image.config_digest(), data);
    }

    /// Adds a manifest list.
    pub(crate) fn list(&mut self, list: &BuiltIndex) {
        std::fs::write(self.sandbox.input("manifest-lists").join(list.digest()), &list.manifest).unwrap();
        self.lists.push(list.digest());
    }

    /// Returns the inputs as osbuild hands them to the stage.
    pub(crate) fn inputs(&self) -> Value {
        self.sandbox.input("images");
        let inputs =
            json!({"images": {"path": "/run/osbuild/inputs/images", "data": {"archives": self.archives.clone()}}});
        match self.lists.as_slice() {
            [] => inputs,
            lists => with_lists(inputs, &lists.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }

    /// Runs the stage.
    pub(crate) fn run(&self, options: &Value) -> StageOutput {
        self.sandbox.run("org.osbuild.skopeo", &self.inputs(), options)
    }

    /// Returns the store at a path of the tree.
    pub(crate) fn store(&self, path: &str, driver: &str) -> Store {
        Store::at(self.sandbox.tree().join(path), driver)
    }
}

/// Returns the options for the default store.
pub(crate) fn store_options() -> Value {
    json!({"destination": {"type": "containers-storage"}})
}

/// Returns an image that is told from others by a text.
pub(crate) fn plain(text: &str) -> BuiltImage {
    let layer = TarBuilder::new().file("own", 0o644, text).finish();
    ImageBuilder::oci().compression(Compression::Gzip).layer(layer).build()
}

/// Returns a store's record of an image, with all of it that does not depend on the moment, sorted.
pub(crate) fn record(store: &Store, id: &str) -> Value {
    let path = store.root.join(format!("{}-images/images.json", store.driver));
    let records: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let found = records.iter().find(|record| record["id"] == id).unwrap_or_else(|| panic!("no {id} in {records:?}"));
    let mut digests: Map<String, Value> = serde_json::from_value(found["big-data-digests"].clone()).unwrap();
    // skopeo 1.9 stores no signatures as an empty item.
    digests.retain(|_, digest| *digest != sha256_digest(""));
    let mut items: Vec<String> = serde_json::from_value(found["big-data-names"].clone()).unwrap();
    items.retain(|item| digests.contains_key(item));
    items.sort();
    json!({
        "names": found["names"],
        "digest": found["digest"],
        "layer": found["layer"],
        "big-data-names": items,
        "big-data-digests": digests,
    })
}
