//! Images, items and answers that the tests of sources have in common.

use std::fs;
use std::path::Path;

use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, sha256_digest};
use holkas_testkit::osbuild::Host;
use holkas_testkit::peers::Peer;
use holkas_testkit::registry::Registry;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

pub(crate) const SKOPEO: &str = "org.osbuild.skopeo";

pub(crate) fn host() -> Host {
    Host::new(env!("CARGO_BIN_EXE_holkas"))
}

/// Returns the architecture of this machine, as Go spells it.
pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

pub(crate) fn tar(text: &str) -> Vec<u8> {
    TarBuilder::new().dir("etc/", 0o755).file("etc/motd", 0o644, text).finish()
}

fn build(builder: ImageBuilder, text: &str, architecture: &str, compression: Compression) -> BuiltImage {
    let builder = builder.architecture(architecture).compression(compression);
    builder.layer(tar(text)).layer(tar(&format!("{text}, second layer"))).label("name", text).build()
}

/// Returns an OCI image of two gzip layers.
pub(crate) fn app(text: &str) -> BuiltImage {
    app_for(text, architecture())
}

pub(crate) fn app_for(text: &str, architecture: &str) -> BuiltImage {
    build(ImageBuilder::oci(), text, architecture, Compression::Gzip)
}

/// Returns an OCI image whose config is the same with every compression.
pub(crate) fn app_with(text: &str, compression: Compression) -> BuiltImage {
    build(ImageBuilder::oci(), text, architecture(), compression)
}

pub(crate) fn zstd_app(text: &str) -> BuiltImage {
    app_with(text, Compression::Zstd)
}

pub(crate) fn docker_app(text: &str) -> BuiltImage {
    build(ImageBuilder::docker(), text, architecture(), Compression::Gzip)
}

/// Returns an image of one layer that does not become smaller.
pub(crate) fn large_app(text: &str, bytes: usize) -> BuiltImage {
    let mut noise = sha256_digest(text).into_bytes();
    while noise.len() < bytes {
        let next = sha256_digest(&noise[noise.len() - 71..]);
        noise.extend(next.into_bytes());
    }
    let layer = TarBuilder::new().file("noise", 0o644, noise).finish();
    ImageBuilder::oci().architecture(architecture()).layer(layer).build()
}

/// Gives an image a config of any bytes.
pub(crate) fn with_config(mut image: BuiltImage, config: Vec<u8>) -> BuiltImage {
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["config"]["digest"] = sha256_digest(&config).into();
    manifest["config"]["size"] = config.len().into();
    image.manifest = serde_json::to_vec(&manifest).unwrap();
    image.config = config;
    image
}

/// Returns an image's entry of `items`.
pub(crate) fn item(registry: &Registry, name: &str, image: &BuiltImage) -> (String, Value) {
    let name = format!("{}/{name}", registry.host());
    (image.config_digest(), json!({"image": {"name": name, "digest": image.digest(), "tls-verify": false}}))
}

#[track_caller]
fn all(answer: &Value, count: usize, cached: bool) {
    assert_eq!(answer["success"], true, "{answer:#}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), count);
    for result in results {
        assert_eq!(result["success"], true);
        assert_eq!(result["error"], "");
        assert_eq!(result["metadata"]["cached"], cached, "{answer:#}");
    }
}

/// So many items were fetched.
#[track_caller]
pub(crate) fn fetched(answer: &Value, count: usize) {
    all(answer, count, false);
}

/// All items were there.
#[track_caller]
pub(crate) fn all_cached(answer: &Value) {
    all(answer, answer["results"].as_array().unwrap().len(), true);
}

/// Returns the error of an item that has failed.
#[track_caller]
pub(crate) fn error_of(answer: &Value, n: usize) -> String {
    assert_eq!(answer["success"], false, "{answer}");
    let result = &answer["results"][n];
    assert_eq!(result["success"], false, "{answer}");
    result["error"].as_str().unwrap().to_owned()
}

/// Returns the digest of a `dir:` image's manifest.
pub(crate) fn manifest_of(image: &Path) -> String {
    sha256_digest(fs::read(image.join("manifest.json")).unwrap())
}

/// The image in the store is what skopeo makes of the same reference, file by file.
#[track_caller]
pub(crate) fn same_as_skopeo(host: &Host, reference: &str, id: &str) {
    let temp = tempfile::tempdir().unwrap();
    let stock = temp.path().join("entry");
    fs::create_dir(&stock).unwrap();
    let place = format!("dir:{}", stock.join("image").display());
    Peer::skopeo().run(["copy", "--src-tls-verify=false", reference, &place]).ok();
    let own = host.image(id);
    let aside = |path: &[u8]| !(path.is_empty() || path == b"image" || path.starts_with(b"image/"));
    Tree::read(own.parent().unwrap())
        .assert_same(&Tree::read(&stock), &Options::new().ignore_mtimes().ignore_paths(aside));
}
