//! `docker://` through the program, against Debian's `docker-registry`, with skopeo and podman as the other clients.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Output, finish, holkas, run};
use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder, sha256_digest};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::proxy::Proxy;
use holkas_testkit::registry::Tls;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::Value;

fn layer(text: &str) -> Vec<u8> {
    TarBuilder::new().dir("etc/", 0o755).file("etc/motd", 0o644, text).finish()
}

fn oci(architecture: &str) -> BuiltImage {
    let builder = ImageBuilder::oci().architecture(architecture).layer(layer(architecture));
    builder.layer_with(layer("zstd"), Compression::Zstd).build()
}

fn docker(architecture: &str) -> BuiltImage {
    ImageBuilder::docker().architecture(architecture).layer(layer(architecture)).layer(layer("second")).build()
}

fn copy(arguments: &[&str]) -> Output {
    finish(holkas().args(["--insecure-policy", "copy", "-q", "--no-cache"]).args(arguments))
}

#[track_caller]
fn copied(arguments: &[&str]) {
    let output = copy(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {}", output.err);
}

fn digest_of(dir: &Path) -> String {
    sha256_digest(fs::read(dir.join("manifest.json")).unwrap())
}

/// All files of two directories are the same.
#[track_caller]
fn same(one: &Path, other: &Path) {
    Tree::read(one).assert_same(&Tree::read(other), &Options::new().ignore_mtimes());
}

#[test]
fn every_kind_of_image_goes_round_and_skopeo_reads_each_stop() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    IndexBuilder::oci()
        .image(&oci("amd64"))
        .image(&oci("arm64"))
        .attestation(&oci("amd64"))
        .build()
        .write_oci(at("index"), Some("1"));
    IndexBuilder::docker().image(&docker("amd64")).image(&docker("arm64")).build().write_dir(at("list"));
    docker("amd64").write_dir(at("schema2"));
    oci("amd64").write_oci(at("zstd"), Some("1"));
    for (name, source) in [
        ("index", format!("oci:{}:1", at("index"))),
        ("list", format!("dir:{}", at("list"))),
        ("schema2", format!("dir:{}", at("schema2"))),
        ("zstd", format!("oci:{}:1", at("zstd"))),
    ] {
        let there = registry.reference(&format!("{name}:1"));
        let again = registry.reference(&format!("again/{name}:1"));
        let (ours, theirs) = (at(&format!("{name}.ours")), at(&format!("{name}.theirs")));
        copied(&["--all", "--dest-tls-verify=false", &source, &there]);
        copied(&["--all", "--src-tls-verify=false", "--dest-tls-verify=false", &there, &again]);
        copied(&["--all", "--src-tls-verify=false", &again, &format!("dir:{ours}")]);
        Peer::skopeo()
            .run(["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &there, &format!("dir:{theirs}")])
            .ok();
        same(Path::new(&ours), Path::new(&theirs));
        if name == "index" || name == "zstd" {
            let archive = format!("oci-archive:{}:1", at(&format!("{name}.tar")));
            copied(&["--all", "--src-tls-verify=false", &again, &archive]);
            let back = registry.reference(&format!("back/{name}:1"));
            copied(&["--all", "--dest-tls-verify=false", &archive, &back]);
            let raw = Peer::skopeo().run(["inspect", "--raw", "--tls-verify=false", &back]);
            assert_eq!(sha256_digest(&raw.stdout), digest_of(Path::new(&ours)), "{name}");
        }
    }
    let tags = run(&["list-tags", "--tls-verify=false", &registry.reference("zstd")]);
    assert_eq!(serde_json::from_str::<Value>(&tags.out).unwrap()["Tags"], serde_json::json!(["1"]), "{}", tags.err);
    let theirs = Peer::skopeo().run(["list-tags", "--tls-verify=false", &registry.reference("zstd")]);
    assert_eq!(tags.out, format!("{}\n", theirs.text()));
}

#[test]
fn inspect_shows_what_skopeo_shows_and_delete_deletes() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    docker("amd64").write_dir(temp.path());
    let there = registry.reference("app:1");
    copied(&["--dest-tls-verify=false", &format!("dir:{}", temp.path().display()), &there]);
    for options in
        [&[][..], &["--raw"], &["--config"], &["--no-tags"], &["--format", "{{.Name}} {{.Digest}} {{.RepoTags}}"]]
    {
        let mut arguments = vec!["inspect", "--tls-verify=false"];
        arguments.extend(options);
        arguments.push(&there);
        let theirs = Peer::skopeo().run(&arguments);
        let ours = run(&arguments).out;
        match (serde_json::from_str::<Value>(&ours), serde_json::from_str::<Value>(&theirs.ok())) {
            (Ok(mut ours), Ok(theirs)) if options.is_empty() || *options == ["--no-tags"] => {
                // Debian's skopeo does not tell it yet.
                ours.as_object_mut().unwrap().remove("LayersData").unwrap();
                assert_eq!(ours, theirs, "{options:?}");
            }
            _ => assert_eq!(ours.trim_end(), theirs.ok(), "{options:?}"),
        }
    }
    assert_eq!(run(&["delete", "--tls-verify=false", &there]).code, 0);
    let gone = run(&["inspect", "--tls-verify=false", &there]);
    assert_eq!(gone.code, 2, "{}", gone.err);
    assert!(gone.err.contains("manifest unknown"), "{}", gone.err);
    let again = run(&["delete", "--tls-verify=false", &there]);
    assert_eq!(again.code, 1, "skopeo's code for a tag that is not there: {}", again.err);
}

#[test]
fn certificates_and_passwords_open_the_door_as_they_do_for_skopeo() {
    let registry = DockerRegistry::builder().tls(Tls::ClientCertificate).password("anna", "s3cret").start();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    oci("amd64").write_dir(at("image"));
    let (image, there) = (format!("dir:{}", at("image")), registry.reference("app:1"));
    let certs = format!("--dest-cert-dir={}", registry.certificates().dir().display());
    copied(&[&certs, "--dest-creds=anna:s3cret", &image, &there]);
    for (options, said) in [
        (vec!["--dest-creds=anna:s3cret"], "not trusted"),
        (vec![&certs, "--dest-creds=anna:wrong"], "HTTP 401"),
        (vec![&certs, "--dest-no-creds"], "HTTP 401"),
        (vec!["--dest-tls-verify=false", "--dest-creds=anna:s3cret"], "client certificate"),
    ] {
        let mut arguments: Vec<&str> = options.iter().map(|option| option.as_ref()).collect();
        arguments.extend([image.as_str(), there.as_str()]);
        let output = copy(&arguments);
        assert_eq!(output.code, 1, "{options:?}: {}", output.err);
        assert!(output.err.contains(said), "{options:?}: {said:?} is not in {}", output.err);
        assert!(!output.err.contains("s3cret") && !output.err.contains("wrong"), "{}", output.err);
    }
}

#[test]
fn podman_and_holkas_use_each_others_logins() {
    let registry = DockerRegistry::builder().password("anna", "s3cret").start();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    docker("amd64").write_dir(at("image"));
    let (ours, theirs, store) = (at("ours.json"), at("theirs.json"), Store::vfs());
    let host = registry.host();

    let login = run(&["login", "--tls-verify=false", "-u=anna", "-p=s3cret", &format!("--authfile={ours}"), host]);
    assert_eq!((login.code, login.out.as_str()), (0, "Login Succeeded!\n"), "{}", login.err);
    let refused =
        run(&["login", "--tls-verify=false", "-u=anna", "-p=wrong", &format!("--authfile={}", at("no")), host]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(!Path::new(&at("no")).exists(), "nothing is kept of what is not accepted");
    store.podman(["login", "--tls-verify=false", "-u=anna", "-p=s3cret", &format!("--authfile={theirs}"), host]).ok();

    let there = registry.reference("app:1");
    let image = format!("dir:{}", at("image"));
    copied(&["--dest-tls-verify=false", &format!("--authfile={theirs}"), &image, &there]);
    store.podman(["pull", "--tls-verify=false", &format!("--authfile={ours}"), &format!("{host}/app:1")]).ok();

    // Logged out, the door is closed again.
    assert_eq!(run(&["logout", &format!("--authfile={ours}"), host]).code, 0);
    assert_eq!(
        copy(&["--src-tls-verify=false", &format!("--authfile={ours}"), &there, &format!("dir:{}", at("x"))]).code,
        1
    );
}

#[test]
fn images_are_embedded_straight_from_a_registry() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let list = IndexBuilder::docker().image(&docker("amd64")).image(&docker("arm64")).build();
    list.write_dir(at("list"));
    copied(&["--all", "--dest-tls-verify=false", &format!("dir:{}", at("list")), &registry.reference("app:1")]);
    let toml = format!(
        "[store]\npath = \"/store\"\n[[image]]\nsource = \"{}\"\nname = \"example.org/app:1\"\nplatform = [\"linux/arm64\", \"linux/amd64\"]\n",
        registry.reference(&format!("app@{}", list.digest()))
    );
    fs::write(at("images.toml"), toml).unwrap();
    for root in ["one", "two"] {
        fs::create_dir(at(root)).unwrap();
        let output = run(&[
            "--insecure-policy",
            "embed",
            "--tls-verify=false",
            "--no-cache",
            "--root",
            &at(root),
            &at("images.toml"),
            "--json",
        ]);
        assert_eq!(output.code, 0, "{}", output.err);
        let report: Value = serde_json::from_str(&output.out).unwrap();
        assert_eq!(report["images"][0]["list_digest"], list.digest().as_str());
    }
    same(Path::new(&at("one")), Path::new(&at("two")));
    let store = Store::at(temp.path().join("one/store"), "overlay");
    let shown = store.podman(["image", "inspect", "--format", "{{.Architecture}}", "example.org/app:1"]);
    assert_eq!(shown.ok(), "arm64");
    store.podman(["image", "inspect", &format!("example.org/app@{}", list.digest())]).ok();
}

#[test]
fn platforms_of_a_list_go_along_and_the_others_stay() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let images = ["amd64", "arm64", "s390x"].map(oci);
    let index =
        IndexBuilder::oci().image(&images[0]).image(&images[1]).image(&images[2]).attestation(&images[1]).build();
    index.write_oci(at("index"), Some("1"));
    copied(&["--all", "--dest-tls-verify=false", &format!("oci:{}:1", at("index")), &registry.reference("app:1")]);
    let from = registry.reference("app:1");
    let platforms = "--platform=linux/arm64,linux/s390x";
    copied(&["--src-tls-verify=false", platforms, &from, &format!("dir:{}", at("sparse"))]);
    assert_eq!(digest_of(Path::new(&at("sparse"))), index.digest(), "the list stays as it is");
    let there = |dir: &str, image: &BuiltImage| {
        Path::new(&at(dir)).join(format!("{}.manifest.json", &image.digest()[7..])).exists()
    };
    assert_eq!(images.each_ref().map(|image| there("sparse", image)), [false, true, true]);
    copied(&["--src-tls-verify=false", platforms, "--strip-removed-platforms", &from, &format!("dir:{}", at("new"))]);
    let list: Value = serde_json::from_slice(&fs::read(Path::new(&at("new")).join("manifest.json")).unwrap()).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 3, "two images and an attestation: {list}");
    let missing =
        copy(&["--src-tls-verify=false", "--platform=linux/amd64,linux/riscv64", &from, &format!("dir:{}", at("no"))]);
    assert_eq!(missing.code, 2, "{}", missing.err);
    assert!(missing.err.contains("linux/riscv64") && missing.err.contains("linux/s390x"), "{}", missing.err);
}

/// An image whose layers have 200 MB as gzip.
fn large() -> BuiltImage {
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = |bytes: usize| -> Vec<u8> {
        let words = (0..bytes / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.collect()
    };
    let layers = [50, 50, 100].map(|mib| TarBuilder::new().file("noise", 0o644, noise(mib << 20)).finish());
    let [one, two, three] = layers;
    ImageBuilder::oci()
        .layer_with(one, Compression::None)
        .layer_with(two, Compression::None)
        .layer_with(three, Compression::None)
        .build()
}

#[test]
fn a_killed_pull_goes_on_in_the_next_run() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let image = large();
    image.write_dir(at("image"));
    copied(&["--dest-tls-verify=false", &format!("dir:{}", at("image")), &registry.reference("app:1")]);
    let whole: u64 = image.layers.iter().map(|layer| layer.blob.len() as u64).sum();
    let proxy = Proxy::start(registry.host());
    let from = format!("docker://{}/app:1", proxy.host());
    for round in 0..10_u64 {
        // With the cache, without it into a directory, and without it into a layout.
        let name = format!("{round}");
        let cache = format!("--cache={}", at(&format!("cache-{name}")));
        let (keeping, to) = match round % 3 {
            0 => (cache.as_str(), format!("dir:{}", at(&name))),
            1 => ("--no-cache", format!("dir:{}", at(&name))),
            _ => ("--no-cache", format!("oci:{}:1", at(&name))),
        };
        let arguments = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", keeping, &from, &to];
        let before = proxy.total().to_client;
        // So slow that the run is in the middle of it when enough has come.
        proxy.throttle(150 << 20);
        let enough = before + whole * (1 + round) / 12;
        let mut child = holkas().args(arguments).spawn().unwrap();
        let began = Instant::now();
        while proxy.total().to_client < enough {
            assert!(began.elapsed() < Duration::from_secs(120), "too slow");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        proxy.honest();
        let transferred = proxy.total().to_client - before;
        let output = finish(holkas().args(arguments));
        assert_eq!(output.code, 0, "round {round}: {}", output.err);
        let again = proxy.total().to_client - before - transferred;
        // What was under way in buffers of the kernel was lost with the process.
        let lost = (transferred + again).saturating_sub(whole);
        assert!(lost < 24 << 20, "round {round}: {transferred} bytes, then {again} of {whole}");
        if round % 3 != 2 {
            same(Path::new(&at(&name)), Path::new(&at("image")));
        }
        let left: Vec<_> = fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(".unverified-"))
            .collect();
        assert!(left.is_empty(), "round {round}: litter: {left:?}");
        fs::remove_dir_all(at(&name)).unwrap();
    }
}

#[test]
fn a_command_ends_when_its_time_is_over() {
    let registry = holkas_testkit::registry::Registry::start();
    registry.put_image(&docker("amd64"), "app", "1");
    registry.on(holkas_testkit::registry::Matcher::get("*/manifests/*"), holkas_testkit::registry::Fault::Stall(3));
    let began = Instant::now();
    let reference = registry.reference("app:1");
    let output = run(&["--command-timeout=500ms", "inspect", "--no-cache", "--tls-verify=false", &reference]);
    assert_eq!(output.code, 1, "{}", output.err);
    assert!(output.err.contains("longer than --command-timeout"), "{}", output.err);
    assert!(began.elapsed() < Duration::from_secs(20));
}
