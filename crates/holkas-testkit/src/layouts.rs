//! Writes built images to disk as skopeo and docker lay them out, with nobody's code but the kit's.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::image::{BuiltImage, BuiltIndex, Format, OCI_MANIFEST, hex_of, sha256_digest, sha256_hex, to_bytes};
use crate::tar::{Entry, FILE, SYMLINK, TarBuilder, Time};

const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";

impl BuiltImage {
    /// Writes the image as a `dir:` (see `skopeo(1)`): `version`, `manifest.json`, config and blobs by hex digest.
    pub fn write_dir(&self, path: impl AsRef<Path>) {
        self.write_dir_signed(path, &[] as &[&[u8]]);
    }

    /// Writes the image as a `dir:` with `signature-1` and so on.
    pub fn write_dir_signed(&self, path: impl AsRef<Path>, signatures: &[impl AsRef<[u8]>]) {
        let path = path.as_ref();
        begin_dir(path, &self.manifest);
        put_dir_blobs(path, self);
        for (number, signature) in signatures.iter().enumerate() {
            put(&path.join(format!("signature-{}", number + 1)), signature.as_ref());
        }
    }

    /// Writes the image into the OCI layout at `path`, which is made if it is not there.
    ///
    /// As in skopeo, the tag is taken away from the entry that had it. skopeo 1.9 overlooks Docker images in a layout.
    pub fn write_oci(&self, path: impl AsRef<Path>, tag: Option<&str>) {
        put_oci(path.as_ref(), &self.blobs(), self.descriptor(), tag);
    }

    /// Writes the image as an OCI layout in a tar.
    pub fn write_oci_archive(&self, path: impl AsRef<Path>, tag: Option<&str>) {
        put(path.as_ref(), &oci_archive(&self.blobs(), self.descriptor(), tag));
    }

    /// Writes the image as a docker archive, byte for byte as skopeo 1.9 does.
    ///
    /// `tags` are full names such as `docker.io/library/app:1`. A Docker image keeps its config, so its ID.
    pub fn write_docker_archive(&self, path: impl AsRef<Path>, tags: &[&str]) {
        put(path.as_ref(), &docker_archive(&[(self, tags)]));
    }

    /// Writes the image as `docker save` of Docker 25 and later does: an OCI layout of plain layers with a `manifest.json`.
    pub fn write_docker_save(&self, path: impl AsRef<Path>, tags: &[&str]) {
        put(path.as_ref(), &docker_save(self, tags));
    }
}

impl BuiltIndex {
    /// Writes the index as a `dir:` with all instances, as `skopeo copy --all` does.
    pub fn write_dir(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        begin_dir(path, &self.manifest);
        for image in &self.images {
            put(&path.join(format!("{}.manifest.json", sha256_hex(&image.manifest))), &image.manifest);
            put_dir_blobs(path, image);
        }
        for index in &self.indexes {
            put(&path.join(format!("{}.manifest.json", sha256_hex(&index.manifest))), &index.manifest);
        }
    }

    /// Writes the index and all in it into the OCI layout at `path`, which is made if it is not there.
    pub fn write_oci(&self, path: impl AsRef<Path>, tag: Option<&str>) {
        put_oci(path.as_ref(), &self.blobs(), self.descriptor(), tag);
    }

    /// Writes the index and all in it as an OCI layout in a tar.
    pub fn write_oci_archive(&self, path: impl AsRef<Path>, tag: Option<&str>) {
        put(path.as_ref(), &oci_archive(&self.blobs(), self.descriptor(), tag));
    }
}

/// Writes several images into one docker archive.
pub fn write_docker_archive_of(path: impl AsRef<Path>, images: &[(&BuiltImage, &[&str])]) {
    put(path.as_ref(), &docker_archive(images));
}

fn begin_dir(path: &Path, manifest: &[u8]) {
    make_dirs(path);
    put(&path.join("version"), b"Directory Transport Version: 1.1\n");
    put(&path.join("manifest.json"), manifest);
}

fn put_dir_blobs(path: &Path, image: &BuiltImage) {
    put(&path.join(sha256_hex(&image.config)), &image.config);
    for layer in &image.layers {
        put(&path.join(hex_of(&layer.digest)), &layer.blob);
    }
}

fn put_oci(path: &Path, blobs: &[(String, &[u8])], descriptor: Value, tag: Option<&str>) {
    make_dirs(&path.join("blobs/sha256"));
    for (hex, bytes) in blobs {
        put(&path.join("blobs/sha256").join(hex), bytes);
    }
    let index_path = path.join("index.json");
    let mut entries = Vec::new();
    if index_path.exists() {
        let bytes = fs::read(&index_path).unwrap_or_else(|error| panic!("reading {}: {error}", index_path.display()));
        let mut index: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{} is not JSON: {error}", index_path.display()));
        entries = index["manifests"].as_array_mut().expect("index.json has `manifests`").split_off(0);
    }
    add_entry(&mut entries, descriptor, tag);
    put(&index_path, &to_bytes(&json!({"schemaVersion": 2, "manifests": entries})));
    put(&path.join("oci-layout"), OCI_LAYOUT);
}

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

fn add_entry(entries: &mut Vec<Value>, mut descriptor: Value, tag: Option<&str>) {
    if let Some(tag) = tag {
        for entry in entries.iter_mut().filter(|entry| entry["annotations"][TAG_ANNOTATION] == tag) {
            let annotations = entry["annotations"].as_object_mut().expect("it has the annotation");
            annotations.shift_remove(TAG_ANNOTATION);
            if annotations.is_empty() {
                entry.as_object_mut().expect("a descriptor").shift_remove("annotations");
            }
        }
        descriptor["annotations"] = json!({TAG_ANNOTATION: tag});
    }
    entries.retain(|entry| entry != &descriptor);
    entries.push(descriptor);
}

fn oci_archive(blobs: &[(String, &[u8])], descriptor: Value, tag: Option<&str>) -> Vec<u8> {
    let mut entries = Vec::new();
    add_entry(&mut entries, descriptor, tag);
    let tar = TarBuilder::new().mtime(0, 0).dir("blobs/", 0o755).dir("blobs/sha256/", 0o755);
    sorted(blobs)
        .into_iter()
        .fold(tar, |tar, (hex, bytes)| tar.file(format!("blobs/sha256/{hex}"), 0o644, bytes))
        .file("index.json", 0o644, to_bytes(&json!({"schemaVersion": 2, "manifests": entries})))
        .file("oci-layout", 0o644, OCI_LAYOUT)
        .finish()
}

fn docker_archive(images: &[(&BuiltImage, &[&str])]) -> Vec<u8> {
    let mut archive = DockerArchive { tar: TarBuilder::new(), seen: Vec::new() };
    let mut manifest = Vec::new();
    let mut repositories = std::collections::BTreeMap::<String, std::collections::BTreeMap<String, String>>::new();
    for (image, tags) in images {
        for layer in &image.layers {
            archive.file(format!("{}.tar", sha256_hex(&layer.diff)), &layer.diff);
        }
        archive.file(format!("{}.json", sha256_hex(&image.config)), &image.config);
        let top = archive.legacy_layers(image);
        for tag in *tags {
            let (repository, tag) = tag.rsplit_once(':').unwrap_or_else(|| panic!("the name {tag} has no tag"));
            if let Some(top) = &top {
                repositories.entry(repository.into()).or_default().insert(tag.into(), top.clone());
            }
        }
        let layers: Vec<_> = image.layers.iter().map(|layer| format!("{}.tar", sha256_hex(&layer.diff))).collect();
        manifest.push(json!({
            "Config": format!("{}.json", sha256_hex(&image.config)),
            "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
            "Layers": layers,
        }));
    }
    archive.file("manifest.json".into(), &to_bytes(&Value::Array(manifest)));
    archive.file("repositories".into(), &to_bytes(&json!(repositories)));
    archive.tar.finish()
}

struct DockerArchive {
    tar: TarBuilder,
    seen: Vec<String>,
}

impl DockerArchive {
    fn file(&mut self, name: String, contents: &[u8]) {
        self.put(Entry { contents: contents.to_vec(), ..Entry::new(FILE, &name) }, name);
    }

    fn put(&mut self, entry: Entry, name: String) {
        if !self.seen.contains(&name) {
            let mode = if entry.kind == SYMLINK { 0 } else { 0o444 };
            let entry = Entry { mode, mtime: Time { seconds: 0, nanos: 0 }, ..entry };
            self.tar = std::mem::take(&mut self.tar).entry(entry);
            self.seen.push(name);
        }
    }

    /// Adds the `<id>/{layer.tar,VERSION,json}` of Docker before 1.10 and returns the top one's ID.
    ///
    /// The IDs are made as in containers/image, `docker/internal/tarfile/writer.go`, writeLegacyMetadataLocked.
    fn legacy_layers(&mut self, image: &BuiltImage) -> Option<String> {
        let config: Value = serde_json::from_slice(&image.config).expect("a config that was built is JSON");
        let (mut chain, mut last) = (String::new(), None::<String>);
        for (number, layer) in image.layers.iter().enumerate() {
            let mut legacy = std::collections::BTreeMap::<&str, Value>::new();
            if let Some(last) = &last {
                legacy.insert("parent", json!(last));
            }
            if number + 1 == image.layers.len() {
                for key in
                    ["architecture", "config", "container", "container_config", "created", "docker_version", "os"]
                {
                    legacy.insert(key, config.get(key).cloned().unwrap_or(Value::Null));
                }
            }
            let diff_id = sha256_digest(&layer.diff);
            chain = if chain.is_empty() { diff_id } else { sha256_digest(format!("{chain} {diff_id}")) };
            legacy.insert("layer_id", json!(chain));
            let id = sha256_hex(go_bytes(&json!(legacy)));
            legacy.remove("layer_id");
            legacy.insert("id", json!(id));
            let target = format!("../{}.tar", sha256_hex(&layer.diff));
            let name = format!("{id}/layer.tar");
            self.put(Entry { link: target.into_bytes(), ..Entry::new(SYMLINK, &name) }, name);
            self.file(format!("{id}/VERSION"), b"1.0");
            self.file(format!("{id}/json"), &go_bytes(&json!(legacy)));
            last = Some(id);
        }
        last
    }
}

/// Returns JSON as Go's `json.Marshal` writes it: safe within HTML.
fn go_bytes(value: &Value) -> Vec<u8> {
    let text = String::from_utf8(to_bytes(value)).expect("JSON is UTF-8");
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e").into_bytes()
}

fn docker_save(image: &BuiltImage, tags: &[&str]) -> Vec<u8> {
    // Docker 25 writes OCI manifests whatever the image was pulled as; the config stays.
    let plain = BuiltImage { format: Format::Oci, ..image.clone() }.uncompressed();
    let mut manifest: Value = serde_json::from_slice(&plain.manifest).expect("a manifest that was built is JSON");
    manifest["mediaType"] = json!(OCI_MANIFEST);
    manifest["config"]["mediaType"] = json!(crate::image::OCI_CONFIG);
    let manifest = to_bytes(&manifest);
    let mut blobs: Vec<(String, &[u8])> = plain.blobs();
    blobs.pop();
    blobs.push((sha256_hex(&manifest), &manifest));

    let mut entries = Vec::new();
    for name in tags {
        let mut entry = crate::image::descriptor(OCI_MANIFEST, &manifest);
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({"io.containerd.image.name": name, TAG_ANNOTATION: tag});
        entries.push(entry);
    }
    if tags.is_empty() {
        entries.push(crate::image::descriptor(OCI_MANIFEST, &manifest));
    }
    let mut sources = Map::new();
    for layer in &plain.layers {
        sources.insert(layer.diff_id.clone(), layer.descriptor());
    }
    let layers: Vec<_> = plain.layers.iter().map(|layer| format!("blobs/sha256/{}", hex_of(&layer.digest))).collect();
    let docker_manifest = json!([{
        "Config": format!("blobs/sha256/{}", sha256_hex(&plain.config)),
        "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
        "Layers": layers,
        "LayerSources": sources,
    }]);
    let index = json!({"schemaVersion": 2, "mediaType": crate::image::OCI_INDEX, "manifests": entries});
    let tar = TarBuilder::new().mtime(0, 0).dir("blobs/", 0o755).dir("blobs/sha256/", 0o755);
    sorted(&blobs)
        .into_iter()
        .fold(tar, |tar, (hex, bytes)| tar.file(format!("blobs/sha256/{hex}"), 0o644, bytes))
        .file("index.json", 0o644, to_bytes(&index))
        .file("manifest.json", 0o644, to_bytes(&docker_manifest))
        .file("oci-layout", 0o644, OCI_LAYOUT)
        .finish()
}

fn sorted<'a>(blobs: &[(String, &'a [u8])]) -> Vec<(String, &'a [u8])> {
    let mut sorted = blobs.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

fn make_dirs(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("making {}: {error}", path.display()));
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
