//! A build as osbuild runs it, from names to stores that podman runs: resolve, sources, inputs, stages.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

use common::{finish, holkas, run};
use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder};
use holkas_testkit::oddities::{native_architecture, odd_image, runnable_image_of};
use holkas_testkit::osbuild::Host;
use holkas_testkit::osbuild::sandbox::Sandbox;
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};
use tempfile::TempDir;

const CLOCK: i64 = 1_700_000_000;
const ACCEPT: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

fn foreign() -> &'static str {
    if native_architecture() == "arm64" { "amd64" } else { "arm64" }
}

fn runnable(builder: ImageBuilder, architecture: &str, which: &str) -> BuiltImage {
    runnable_image_of(builder.architecture(architecture).env(&format!("WHICH={which}")))
}

/// What is built: images in a registry, their names, and the manifest's parts that `resolve` gives for them.
struct Manifest {
    parts: Value,
    names: BTreeMap<&'static str, String>,
    lists: BTreeMap<&'static str, String>,
    odd: BuiltImage,
}

/// Pushes the four images, two of them lists with an image of another architecture, and resolves their names.
fn manifest(registry: &DockerRegistry) -> Manifest {
    let dir = TempDir::new().unwrap();
    let odd = odd_image();
    let native = native_architecture();
    let multi = IndexBuilder::oci()
        .image(&runnable(ImageBuilder::oci(), foreign(), "multi"))
        .image(&runnable(ImageBuilder::oci(), native, "multi"))
        .build();
    let docker = IndexBuilder::docker()
        .image(&runnable(ImageBuilder::docker(), native, "docker"))
        .image(&runnable(ImageBuilder::docker(), foreign(), "docker"))
        .build();
    let zstd = runnable(ImageBuilder::oci().compression(Compression::Zstd), native, "zstd");
    multi.write_dir(dir.path().join("multi"));
    docker.write_dir(dir.path().join("docker"));
    odd.write_dir(dir.path().join("odd"));
    zstd.write_dir(dir.path().join("zstd"));
    let mut names = BTreeMap::new();
    for name in ["multi", "docker", "odd", "zstd"] {
        let there = registry.reference(&format!("team/{name}:1"));
        let from = format!("dir:{}", dir.path().join(name).display());
        let pushed =
            run(&["--insecure-policy", "copy", "-q", "--all", "--no-cache", "--dest-tls-verify=false", &from, &there]);
        assert_eq!(pushed.code, 0, "{}", pushed.err);
        names.insert(name, there.trim_start_matches("docker://").to_string());
    }
    let mut resolve = holkas();
    resolve.args(["resolve", "--osbuild", "--no-cache", "--tls-verify=false"]).args(names.values());
    let parts = finish(&mut resolve);
    assert_eq!(parts.code, 0, "{}", parts.err);
    let lists = [("multi", multi.digest()), ("docker", docker.digest())].into();
    Manifest { parts: serde_json::from_str(&parts.out).unwrap(), names, lists, odd }
}

impl Manifest {
    /// Has the sources fetch all that the manifest lists, and returns whether each item was in the store already.
    fn fetch(&self, host: &Host) -> Vec<bool> {
        let mut cached = Vec::new();
        for (source, items) in self.parts["sources"].as_object().unwrap() {
            let reply = host.download(source, items["items"].clone());
            assert_eq!(reply["success"], true, "{reply}");
            let results = reply["results"].as_array().unwrap();
            cached.extend(results.iter().map(|result| result["metadata"]["cached"].as_bool().unwrap()));
        }
        cached
    }

    /// Runs a stage on images of the manifest (all, if none are named), with the inputs that osbuild would start.
    fn stage(&self, host: &Host, module: &str, only: &[&str], options: &Value) -> Sandbox {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_holkas")).policy(ACCEPT).source_epoch(CLOCK);
        let mut refs = self.parts["inputs"]["images"]["references"].clone();
        let chosen = |name: &str| only.is_empty() || only.iter().any(|only| self.names[only] == name);
        refs.as_object_mut().unwrap().retain(|_, reference| chosen(reference["name"].as_str().unwrap()));
        let (store, input) = (host.store(&[]), host.input("org.osbuild.containers"));
        let target = sandbox.input("images");
        let reply = input.call("map", host.map_args("org.osbuild.source", refs, &target, &store)).reply();
        let mut inputs = json!({ "images": { "path": "/run/osbuild/inputs/images", "data": reply["data"] } });
        let mut files = serde_json::Map::new();
        for (name, list) in &self.lists {
            if only.is_empty() || only.contains(name) {
                // What osbuild's own input for files does.
                let file = sandbox.input("manifest-lists").join(list);
                fs::hard_link(host.cache().join("org.osbuild.files").join(list), &file)
                    .or_else(|_| fs::copy(host.cache().join("org.osbuild.files").join(list), &file).map(drop))
                    .unwrap();
                files.insert(list.clone(), json!({}));
            }
        }
        if !files.is_empty() {
            inputs["manifest-lists"] =
                json!({ "path": "/run/osbuild/inputs/manifest-lists", "data": { "files": files } });
        }
        sandbox.run(module, &inputs, options).ok();
        assert!(input.close().status.success());
        sandbox
    }

    fn store(&self, host: &Host, driver: &str) -> Sandbox {
        let destination =
            json!({ "type": "containers-storage", "storage-driver": driver, "storage-path": "/usr/share/store" });
        self.stage(host, "org.osbuild.skopeo", &[], &json!({ "destination": destination }))
    }
}

fn same(one: &Sandbox, other: &Sandbox) {
    // The root of the tree is osbuild's.
    let options = Options::new().ignore_mtime_of(<[u8]>::is_empty);
    Tree::read(one.tree()).assert_same(&Tree::read(other.tree()), &options);
}

#[test]
fn what_is_named_becomes_stores_that_podman_runs_and_a_second_build_needs_no_registry() {
    let registry = DockerRegistry::start();
    let manifest = manifest(&registry);
    let host = Host::new(env!("CARGO_BIN_EXE_holkas"));
    assert_eq!(manifest.fetch(&host), [false; 6]);
    let first: Vec<_> = ["overlay", "vfs"].map(|driver| manifest.store(&host, driver)).into();
    for (driver, sandbox) in ["overlay", "vfs"].into_iter().zip(&first) {
        let store = Store::at(sandbox.tree().join("usr/share/store"), driver);
        for name in ["multi", "docker", "zstd"] {
            let which = |reference: &str| store.podman_run([reference, "/bin/busybox", "env"]).ok();
            let wanted = format!("WHICH={name}");
            let said = which(&manifest.names[name]);
            assert!(said.lines().any(|line| line == wanted), "{driver}: {said}");
            if let Some(list) = manifest.lists.get(name) {
                let by_list = format!("{}@{list}", manifest.names[name].trim_end_matches(":1"));
                let said = which(&by_list);
                assert!(said.lines().any(|line| line == wanted), "{driver}: {by_list}: {said}");
            }
        }
        store.unmount();
    }
    drop(registry);
    assert_eq!(manifest.fetch(&host), [true; 6]);
    for (driver, before) in ["overlay", "vfs"].into_iter().zip(&first) {
        let again = manifest.store(&host, driver);
        // podman has written into the first ones, what it does not touch are the layers.
        let below = if driver == "vfs" { "usr/share/store/vfs/dir" } else { "usr/share/store/overlay-layers" };
        for entry in fs::read_dir(again.tree().join(below)).unwrap() {
            let (name, ours) = {
                let entry = entry.unwrap();
                (entry.file_name(), entry.path())
            };
            if ours.is_dir() {
                Tree::read(&ours).assert_same(&Tree::read(before.tree().join(below).join(name)), &Options::new());
            }
        }
        same(&again, &manifest.store(&host, driver));
    }
}

#[test]
fn every_other_destination_is_read_by_skopeo_and_the_same_each_time() {
    let registry = DockerRegistry::start();
    let manifest = manifest(&registry);
    let host = Host::new(env!("CARGO_BIN_EXE_holkas"));
    manifest.fetch(&host);
    let digest = |reference: &str| Peer::skopeo().run(["inspect", "--raw", reference]).stdout;
    let wanted = |name: &str| {
        let native = format!("--override-arch={}", native_architecture());
        let there = format!("docker://{}", manifest.names[name]);
        let config = Peer::skopeo().run([&native, "inspect", "--config", "--tls-verify=false", &there]);
        config.ok()
    };
    for (kind, only, path) in [
        ("oci", &["multi", "zstd", "odd"][..], "images"),
        ("oci-archive", &["multi", "zstd", "odd"][..], "images.tar"),
        ("dir", &["docker"][..], "image"),
    ] {
        let options = json!({ "destination": { "type": kind, "path": format!("/{path}") } });
        let (one, two) = thread::scope(|scope| {
            let build = || manifest.stage(&host, "org.osbuild.skopeo", only, &options);
            let (one, two) = (scope.spawn(build), scope.spawn(build));
            (one.join().unwrap(), two.join().unwrap())
        });
        // The times of files are osbuild's to clamp, which it does after each pipeline with a `source-epoch`.
        Tree::read(one.tree()).assert_same(&Tree::read(two.tree()), &Options::new().ignore_mtimes());
        for name in only {
            let place = one.tree().join(path);
            let reference = match kind {
                "dir" => format!("dir:{}", place.display()),
                _ => format!("{kind}:{}:{}", place.display(), manifest.names[name]),
            };
            assert!(!digest(&reference).is_empty(), "{reference}");
            assert_eq!(Peer::skopeo().run(["inspect", "--config", &reference]).ok(), wanted(name), "{reference}");
        }
    }
}

#[test]
fn the_odd_image_is_deployed_as_podman_shows_it() {
    let registry = DockerRegistry::start();
    let manifest = manifest(&registry);
    let host = Host::new(env!("CARGO_BIN_EXE_holkas"));
    manifest.fetch(&host);
    let sandbox = manifest.stage(&host, "org.osbuild.container-deploy", &["odd"], &json!({}));
    let store = Store::overlay();
    let dir = TempDir::new().unwrap();
    manifest.odd.write_dir(dir.path().join("odd"));
    let from = format!("dir:{}", dir.path().join("odd").display());
    store.skopeo(["copy", "-q", &from, &store.reference("localhost/odd:1")]).ok();
    let mounted = store.podman(["image", "mount", "localhost/odd:1"]).ok();
    let (ours, theirs) = (Tree::read(sandbox.tree()), Tree::read(Path::new(&mounted)));
    // The time of the moment is where no layer gives one; there ours is the pipeline's.
    let timeless: Vec<_> =
        ours.nodes.iter().filter(|(_, node)| node.mtime == (CLOCK, 0)).map(|(path, _)| path.clone()).collect();
    ours.assert_same(&theirs, &Options::new().ignore_mtime_of(move |path| timeless.iter().any(|own| own == path)));
}
