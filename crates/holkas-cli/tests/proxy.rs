//! The image proxy: every method, with images of every room, beside Debian's skopeo where that knows the method.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

#[path = "proxy/client.rs"]
mod client;
#[path = "proxy/far.rs"]
mod far;
#[path = "proxy/hostile.rs"]
mod hostile;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use client::{Client, Failure, pair, proxy};
use common::{finish, holkas, run};
use holkas_testkit::gpg::{Gpg, payload};
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder, sha256_digest};
use holkas_testkit::oddities::{odd_image, pattern};
use holkas_testkit::tar::TarBuilder;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn layer(text: &str) -> Vec<u8> {
    TarBuilder::new().dir("etc/", 0o755).file("etc/motd", 0o644, text).finish()
}

fn oci() -> BuiltImage {
    let large = TarBuilder::new().file("large", 0o644, pattern(300_000)).finish();
    let builder = ImageBuilder::oci().compression(Compression::Gzip).layer(layer("<first> & last")).layer(large);
    builder.layer_with(layer("zstd"), Compression::Zstd).label("org.example.of", "<oci> & more").build()
}

/// An image with what only Docker's config has.
fn docker() -> BuiltImage {
    ImageBuilder::docker()
        .compression(Compression::Gzip)
        .layer(layer("first"))
        .layer(layer("second"))
        .env("PATH=/usr/bin:/bin")
        .command(&["/bin/sh", "-c", "echo <hello> && true"])
        .healthcheck(&["CMD", "true"])
        .label("org.example.of", "docker")
        .run_field("Hostname", json!("a1b2c3"))
        .config_field("docker_version", json!("24.0.7"))
        .config_field("container_config", json!({"Hostname": "x"}))
        .build()
}

/// Takes all of an image as `GetManifest` describes it, and returns its manifest and config.
#[track_caller]
fn taken(client: &Client, reference: &str, digest: &str) -> (Vec<u8>, Vec<u8>) {
    let image = client.open(reference);
    let (value, manifest) = client.piped("GetManifest", json!([image])).unwrap();
    assert_eq!(value, digest, "{reference}");
    let parsed: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(parsed["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let (null, config) = client.piped("GetFullConfig", json!([image])).unwrap();
    assert!(null.is_null());
    assert_eq!(parsed["config"]["digest"], sha256_digest(&config), "{reference}");
    assert_eq!(parsed["config"]["size"], config.len() as u64);
    let listed = client.plain("GetLayerInfo", json!([image])).unwrap();
    let (_, piped) = client.piped("GetLayerInfoPiped", json!([image])).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&piped).unwrap(), listed);
    let named = parsed["layers"].as_array().unwrap();
    for (named, listed) in named.iter().zip(listed.as_array().unwrap()) {
        let described = ["mediaType", "digest", "size"].map(|key| &named[key]);
        assert_eq!(described, ["media_type", "digest", "size"].map(|key| &listed[key]), "{reference}");
    }
    assert_eq!(named.len(), listed.as_array().unwrap().len());
    for blob in named.iter().chain([&parsed["config"]]) {
        let (digest, size) = (blob["digest"].as_str().unwrap(), blob["size"].as_u64().unwrap());
        let bytes = client.blob(image, digest, size).unwrap();
        assert_eq!(sha256_digest(&bytes), digest, "{reference}");
        assert_eq!(client.raw_blob(image, digest).unwrap(), (size, bytes, None), "{reference}");
    }
    client.plain("CloseImage", json!([image])).unwrap();
    assert_eq!(client.plain("CloseImage", json!([image])).unwrap_err().0, "other");
    (manifest, config)
}

#[test]
fn images_of_every_room_come_whole() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (oci, docker) = (oci(), docker());
    oci.write_dir(at("oci.dir"));
    oci.write_oci(at("oci"), Some("1"));
    oci.write_oci_archive(at("oci.tar"), Some("1"));
    docker.write_dir(at("docker.dir"));
    let archived = docker.uncompressed();
    docker.write_docker_archive(at("docker.tar"), &["localhost/x:1"]);
    let client = Client::start(&[]);
    for reference in ["dir:{}/oci.dir", "oci:{}/oci:1", "oci-archive:{}/oci.tar:1"] {
        let reference = reference.replace("{}", &temp.path().display().to_string());
        let (manifest, config) = taken(&client, &reference, &oci.digest());
        assert_eq!((manifest, config), (oci.manifest.clone(), oci.config.clone()), "{reference}");
    }
    let (manifest, config) = taken(&client, &format!("dir:{}", at("docker.dir")), &docker.digest());
    let (parsed, config): (Value, Value) =
        (serde_json::from_slice(&manifest).unwrap(), serde_json::from_slice(&config).unwrap());
    assert!(parsed["layers"].as_array().unwrap().iter().all(|layer| layer["mediaType"] == OCI_GZIP));
    assert!(config.get("docker_version").is_none() && config["config"].get("Hostname").is_none());
    assert_eq!(config["config"]["Labels"], json!({"org.example.of": "docker"}));
    // What is a plain tar is called one.
    let image = client.open(&format!("docker-archive:{}", at("docker.tar")));
    let (digest, _) = client.piped("GetManifest", json!([image])).unwrap();
    let (manifest, _) =
        taken(&client, &format!("docker-archive:{}:localhost/x:1", at("docker.tar")), digest.as_str().unwrap());
    let parsed: Value = serde_json::from_slice(&manifest).unwrap();
    for (layer, built) in parsed["layers"].as_array().unwrap().iter().zip(&archived.layers) {
        assert_eq!((&layer["mediaType"], &layer["digest"]), (&json!(OCI_TAR), &json!(built.diff_id)));
    }
    client.shutdown();
}

#[test]
fn the_image_for_the_platform_is_chosen_from_a_list() {
    let temp = tempfile::tempdir().unwrap();
    let image = |architecture: &str| {
        ImageBuilder::docker().compression(Compression::Gzip).architecture(architecture).layer(layer(architecture))
    };
    let (amd64, arm64) = (image("amd64").build(), image("arm64").build());
    let list = IndexBuilder::docker().image(&amd64).image(&arm64).build();
    list.write_dir(temp.path().join("list"));
    let reference = format!("dir:{}", temp.path().join("list").display());
    let client = Client::start(&["--override-arch", "arm64"]);
    taken(&client, &reference, &arm64.digest());
    client.shutdown();
    // Before the command as well as after it.
    let mut command = holkas();
    command.args(["--override-arch=amd64", "--insecure-policy", "experimental-image-proxy"]);
    let client = Client::initialized(command);
    taken(&client, &reference, &amd64.digest());
    client.shutdown();
    let client = Client::start(&["--override-arch", "s390x"]);
    let image = client.open(&reference);
    let Failure(code, error) = client.pipe("GetManifest", json!([image])).unwrap_err();
    assert!(code == "other" && error.contains("linux/s390x"), "{code}: {error}");
    client.shutdown();
}

/// What a server says to the requests that both know: values, bytes and failures, without what is numbered.
fn conversation(client: &Client, reference: &str) -> Vec<(String, Value, Vec<u8>)> {
    let mut said = Vec::new();
    let Ok(image) = client.plain("OpenImage", json!([reference])) else {
        return vec![("OpenImage".into(), json!("failed"), Vec::new())];
    };
    let mut ask = |method: &str, arguments: Value| {
        let (value, bytes) = client.piped(method, arguments).unwrap_or((json!("failed"), Vec::new()));
        said.push((method.to_string(), value, bytes.clone()));
        bytes
    };
    let manifest = ask("GetManifest", json!([image]));
    ask("GetFullConfig", json!([image]));
    ask("GetConfig", json!([image]));
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    for blob in manifest["layers"].as_array().into_iter().flatten() {
        ask("GetBlob", json!([image, blob["digest"], blob["size"]]));
        ask("GetBlob", json!([image, blob["digest"], blob["size"].as_u64().unwrap() + 1]));
    }
    ask("GetBlob", json!([image, manifest["config"]["digest"], manifest["config"]["size"]]));
    ask("GetBlob", json!([image, sha256_digest("nobody has this"), 15]));
    ask("GetBlob", json!([image, "sha256:../../etc/passwd", 15]));
    ask("GetManifest", json!([image, 1]));
    ask("GetManifest", json!([1_000_000]));
    ask("NoSuchMethod", json!([]));
    client.plain("CloseImage", json!([image])).unwrap();
    said
}

#[test]
fn skopeo_says_the_same_but_for_what_is_written_down() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (oci, docker) = (oci(), docker());
    oci.write_dir(at("oci"));
    oci.write_oci(at("layout"), Some("1"));
    docker.write_dir(at("docker"));
    docker.write_docker_archive(at("docker.tar"), &["localhost/x:1"]);
    let list = IndexBuilder::oci().image(&oci).build();
    list.write_dir(at("list"));
    let (ours, mut skopeo) = (Client::start(&[]), Command::new("skopeo"));
    skopeo.args(["--override-arch=amd64", "experimental-image-proxy", "--insecure-policy"]);
    let skopeo = Client::of(skopeo);
    skopeo.plain("Initialize", json!([])).unwrap();
    for (reference, differences) in [
        // Ours gives the config's very bytes, which skopeo writes anew.
        (format!("dir:{}", at("oci")), &["GetFullConfig"][..]),
        (format!("oci:{}:1", at("layout")), &["GetFullConfig"]),
        (format!("dir:{}", at("list")), &["GetFullConfig"]),
        // The config that the converted manifest names can be had of ours alone.
        (format!("dir:{}", at("docker")), &["GetBlob"]),
        // Ours says that plain layers are plain, in the manifest, too, that either makes for an archive without one.
        (format!("docker-archive:{}:localhost/x:1", at("docker.tar")), &["GetManifest", "GetBlob"]),
    ] {
        let (a, b) = (conversation(&ours, &reference), conversation(&skopeo, &reference));
        assert_eq!(a.len(), b.len(), "{reference}");
        let mut different: Vec<_> = a.iter().zip(&b).filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
        different.dedup();
        assert_eq!(different, differences, "{reference}");
        let digest = |said: &[(String, Value, Vec<u8>)]| said[0].1.clone();
        assert_eq!(digest(&a) == digest(&b), !reference.starts_with("docker-archive:"), "{reference}");
    }
    ours.shutdown();
}

#[test]
fn images_of_a_store_come_uncompressed_and_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().display().to_string();
    for (driver, image) in [("overlay", odd_image()), ("vfs", oci())] {
        image.write_dir(temp.path().join(driver));
        let store = format!("[{driver}@{dir}/{driver}.root+{dir}/run]");
        let named = format!("containers-storage:{store}localhost/odd:1");
        let from = format!("dir:{dir}/{driver}");
        assert_eq!(run(&["--insecure-policy", "copy", "-q", &from, &named]).code, 0);
        let id = sha256_digest(&image.config);
        for reference in [named.clone(), format!("containers-storage:{store}{id}")] {
            let client = Client::start(&[]);
            let image_id = client.open(&reference);
            let (digest, manifest) = client.piped("GetManifest", json!([image_id])).unwrap();
            assert_eq!((digest.as_str().unwrap(), &manifest), (image.digest().as_str(), &image.manifest));
            let (_, layers) = client.piped("GetLayerInfoPiped", json!([image_id])).unwrap();
            let layers: Value = serde_json::from_slice(&layers).unwrap();
            assert_eq!(layers.as_array().unwrap().len(), image.layers.len());
            for (layer, built) in layers.as_array().unwrap().iter().zip(&image.layers) {
                let (digest, size) = (layer["digest"].as_str().unwrap(), layer["size"].as_u64().unwrap());
                assert_eq!((digest, size), (built.diff_id.as_str(), built.diff.len() as u64));
                assert_eq!(layer["media_type"], OCI_TAR);
                assert!(client.blob(image_id, digest, size).unwrap() == built.diff, "{driver}: {digest}");
                assert!(client.raw_blob(image_id, digest).unwrap() == (size, built.diff.clone(), None));
                if built.digest != built.diff_id {
                    let Failure(code, _) =
                        client.pipe("GetBlob", json!([image_id, built.digest, built.size])).unwrap_err();
                    assert_eq!(code, "other");
                }
            }
            let config = client.blob(image_id, &id, image.config.len() as u64).unwrap();
            assert_eq!(config, image.config);
            client.shutdown();
        }
    }
}

#[test]
fn a_store_that_was_changed_is_found_out() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().display().to_string();
    let image = ImageBuilder::oci().layer(layer("as it was")).build();
    image.write_dir(temp.path().join("dir"));
    let reference = format!("containers-storage:[overlay@{dir}/root+{dir}/run]localhost/x:1");
    assert_eq!(run(&["--insecure-policy", "copy", "-q", &format!("dir:{dir}/dir"), &reference]).code, 0);
    let changed = fs::read_dir(format!("{dir}/root/overlay"))
        .unwrap()
        .find_map(|entry| Some(entry.unwrap().path().join("diff/etc/motd")).filter(|path| path.exists()));
    fs::write(changed.unwrap(), "as it is!").unwrap();
    let client = Client::start(&[]);
    let id = client.open(&reference);
    let built = &image.layers[0];
    let Failure(code, error) = client.blob(id, &built.diff_id, built.diff.len() as u64).unwrap_err();
    assert!(code == "other" && error.contains("corrupted blob, expecting"), "{code}: {error}");
    let (_, _, failure) = client.raw_blob(id, &built.diff_id).unwrap();
    assert_eq!(failure.unwrap().0, "other");
    client.shutdown();
}

#[test]
fn further_stores_are_named_by_the_environment() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().display().to_string();
    oci().write_dir(temp.path().join("dir"));
    let there = format!("containers-storage:[overlay@{dir}/host+{dir}/run]localhost/x:1");
    assert_eq!(run(&["--insecure-policy", "copy", "-q", &format!("dir:{dir}/dir"), &there]).code, 0);
    fs::write(temp.path().join("storage.conf"), format!("[storage]\ndriver='overlay'\ngraphroot='{dir}/own'")).unwrap();
    let mut command = proxy();
    command.env("CONTAINERS_STORAGE_CONF", format!("{dir}/storage.conf"));
    command.env("STORAGE_OPTS", format!("additionalimagestore={dir}/host"));
    let client = Client::initialized(command);
    let id = client.open("containers-storage:localhost/x:1");
    assert_eq!(client.piped("GetManifest", json!([id])).unwrap().0, oci().digest());
    client.shutdown();
}

#[test]
fn what_does_not_exist_is_told_apart_from_what_is_damaged() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().display().to_string();
    oci().write_oci(temp.path().join("layout"), Some("1"));
    oci().write_oci_archive(temp.path().join("layout.tar"), Some("1"));
    oci().write_dir(temp.path().join("dir"));
    oci().write_oci(temp.path().join("damaged"), Some("1"));
    let manifest = oci().digest();
    fs::remove_file(temp.path().join("damaged/blobs/sha256").join(manifest.trim_start_matches("sha256:"))).unwrap();
    File::create(temp.path().join("damaged.tar")).unwrap().write_all(&[7; 2048]).unwrap();
    docker().write_docker_archive(temp.path().join("lacking.tar"), &["localhost/x:1"]);
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).current_dir(temp.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let config = tar(&["-tf", "lacking.tar"])
        .lines()
        .find(|name| name.len() == 69 && name.ends_with(".json"))
        .map(str::to_string);
    tar(&["--delete", "-f", "lacking.tar", &config.unwrap()]);
    let client = Client::start(&[]);
    for absent in [
        "dir:{}/none",
        "oci:{}/none:1",
        "oci:{}/layout:2",
        "oci-archive:{}/none.tar",
        "oci-archive:{}/layout.tar:2",
        "docker-archive:{}/none.tar",
        "containers-storage:[overlay@{}/none+{}/run]localhost/x:1",
    ] {
        let absent = absent.replace("{}", &dir);
        assert_eq!(client.plain("OpenImageOptional", json!([absent])).unwrap(), 0, "{absent}");
        let Failure(code, error) = client.plain("OpenImage", json!([absent])).unwrap_err();
        assert_eq!(code, "other", "{absent}: {error}");
    }
    for damaged in
        ["oci:{}/damaged:1", "oci-archive:{}/damaged.tar", "docker-archive:{}/lacking.tar", "nothing:{}", "dir"]
    {
        let damaged = damaged.replace("{}", &dir);
        assert_eq!(client.plain("OpenImageOptional", json!([damaged])).unwrap_err().0, "other", "{damaged}");
    }
    let there = client.plain("OpenImageOptional", json!([format!("dir:{dir}/dir")])).unwrap();
    assert_eq!(there, 1);
    client.shutdown();
}

#[test]
fn the_policy_is_obeyed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let image = oci();
    image.write_dir(at("yes"));
    image.write_dir(at("no"));
    IndexBuilder::oci().image(&image).build().write_dir(at("list"));
    let scopes =
        json!({ at("yes"): [{"type": "insecureAcceptAnything"}], at("list"): [{"type": "insecureAcceptAnything"}] });
    let policy = json!({"default": [{"type": "reject"}], "transports": {"dir": scopes}});
    fs::write(at("policy.json"), policy.to_string()).unwrap();
    let check = |command: Command| {
        let client = Client::initialized(command);
        for accepted in ["yes", "list"] {
            let id = client.open(&format!("dir:{}", at(accepted)));
            assert_eq!(client.piped("GetManifest", json!([id])).unwrap().0, image.digest());
        }
        for method in ["OpenImage", "OpenImageOptional"] {
            let Failure(code, error) = client.plain(method, json!([format!("dir:{}", at("no"))])).unwrap_err();
            assert!(code == "other" && error.contains("rejected by policy"), "{code}: {error}");
        }
        // What is not there is not rejected.
        assert_eq!(client.plain("OpenImageOptional", json!([format!("dir:{}", at("none"))])).unwrap(), 0);
        client.shutdown();
    };
    let mut command = holkas();
    command.args(["proxy", "--policy", &at("policy.json")]);
    check(command);
    let mut command = holkas();
    command.arg("proxy").env("CONTAINERS_POLICY_JSON", at("policy.json"));
    check(command);
    let mut command = holkas();
    command.args(["proxy", "--policy", &at("policy.json"), "--require-signed"]);
    let client = Client::initialized(command);
    let Failure(_, error) = client.plain("OpenImage", json!([format!("dir:{}", at("yes"))])).unwrap_err();
    assert!(error.contains("No signature verification policy found"), "{error}");
    client.shutdown();
    // Without a policy nothing begins.
    let client = Client::of({
        let mut command = holkas();
        command.args(["proxy", "--policy", &at("none.json")]);
        command
    });
    let Failure(_, error) = client.plain("Initialize", json!([])).unwrap_err();
    assert!(error.contains("none.json"), "{error}");
    client.shutdown();
}

/// The signature of a list does not vouch for an image of it, nor the other way round.
#[test]
fn a_list_and_the_image_of_it_must_be_signed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (gpg, name) = (Gpg::new(), "registry.example.com/a/b:1");
    let key = gpg.key("somebody", "never");
    let keys = gpg.file("keys.gpg", &gpg.public(&key)).display().to_string();
    let image = oci();
    let index = IndexBuilder::oci().image(&image).build();
    let signature = |digest: String| gpg.sign(&key, payload(&digest, name).as_bytes(), &[]);
    for (dir, list, instance) in [("both", true, true), ("list", true, false), ("image", false, true)] {
        index.write_dir(at(dir));
        if list {
            fs::write(format!("{}/signature-1", at(dir)), signature(index.digest())).unwrap();
        }
        if instance {
            let hex = &image.digest()[7..];
            fs::write(format!("{}/{hex}.signature-1", at(dir)), signature(image.digest())).unwrap();
        }
    }
    let identity = json!({"type": "exactReference", "dockerReference": name});
    let signed = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": keys, "signedIdentity": identity});
    fs::write(at("policy.json"), json!({"default": [signed]}).to_string()).unwrap();
    let mut command = holkas();
    command.args(["proxy", "--policy", &at("policy.json")]);
    let client = Client::initialized(command);
    let both = client.open(&format!("dir:{}", at("both")));
    assert_eq!(client.piped("GetManifest", json!([both])).unwrap().0, image.digest());
    let Failure(_, error) = client.plain("OpenImage", json!([format!("dir:{}", at("image"))])).unwrap_err();
    assert!(error.contains("a signature was required, but no signature exists"), "{error}");
    let list = client.open(&format!("dir:{}", at("list")));
    for method in ["GetManifest", "GetFullConfig", "GetLayerInfoPiped"] {
        let Failure(_, error) = client.pipe(method, json!([list])).unwrap_err();
        assert!(error.contains("a signature was required, but no signature exists"), "{method}: {error}");
    }
    client.shutdown();
}

#[test]
fn artifacts_pass_and_legacy_images_do_not() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut artifact: Value = serde_json::from_slice(&oci().manifest).unwrap();
    artifact["config"]["mediaType"] = json!("application/vnd.example.config.v1+json");
    let artifact = BuiltImage { manifest: artifact.to_string().into_bytes(), ..oci() };
    artifact.write_dir(dir.join("artifact"));
    let client = Client::start(&[]);
    let id = client.open(&format!("dir:{}", dir.join("artifact").display()));
    let (digest, manifest) = client.piped("GetManifest", json!([id])).unwrap();
    assert_eq!((digest.as_str().unwrap(), &manifest), (artifact.digest().as_str(), &artifact.manifest));
    assert_eq!(client.pipe("GetFullConfig", json!([id])).unwrap_err().0, "other");
    assert_eq!(
        client.blob(id, &sha256_digest(&artifact.config), artifact.config.len() as u64).unwrap(),
        artifact.config
    );
    assert_eq!(client.blob(id, &artifact.layers[0].digest, artifact.layers[0].size).unwrap(), artifact.layers[0].blob);
    let legacy = json!({"schemaVersion": 1, "name": "x", "tag": "1", "architecture": "amd64",
        "fsLayers": [{"blobSum": sha256_digest("x")}], "history": [{"v1Compatibility": "{\"id\":\"a\"}"}]});
    fs::create_dir(dir.join("legacy")).unwrap();
    fs::write(dir.join("legacy/manifest.json"), legacy.to_string()).unwrap();
    let id = client.open(&format!("dir:{}", dir.join("legacy").display()));
    let Failure(_, error) = client.pipe("GetManifest", json!([id])).unwrap_err();
    assert!(error.contains("legacy"), "{error}");
    client.shutdown();
}

#[test]
fn flags_of_clients_are_taken_after_the_subcommand() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    fs::create_dir(at("certs")).unwrap();
    let image = oci();
    image.write_oci(at("layout"), Some("1"));
    fs::rename(format!("{}/blobs", at("layout")), at("shared")).unwrap();
    let authfile = File::create(at("auth.json")).unwrap();
    fcntl_setfd(&authfile, FdFlags::empty()).unwrap();
    let (ours, theirs) = pair();
    fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
    let mut command = holkas();
    command.args(["skopeo", "--registries.d", "/none", "--command-timeout", "1ms", "experimental-image-proxy"]);
    // As Go's flags, one that is on or off may be given a value.
    command.args(["--debug=true", "--insecure-policy=1", "--require-signed=F", "--tls-verify=false"]);
    command.args(["--user-agent-prefix", "bootc/1", "--tls-details", "/none"]);
    command.args([
        "--decryption-key",
        "/none",
        "--decryption-key",
        "/none2",
        "--daemon-host",
        "x",
        "--cert-dir",
        &at("certs"),
    ]);
    command.args(["--shared-blob-dir", &at("shared"), "--sockfd", &theirs.as_raw_fd().to_string()]);
    command.args(["--authfile", &format!("/proc/self/fd/{}", authfile.as_raw_fd()), "--tmpdir", &at("")]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(theirs);
    let client = Client { socket: ours, child, idle: Vec::new() };
    assert_eq!(client.plain("Initialize", json!([])).unwrap(), "0.2.8");
    taken(&client, &format!("oci:{}:1", at("layout")), &image.digest());
    client.shutdown();
    let contradiction = ["--insecure-policy", "--require-signed"];
    for wrong in [&["--no-such-flag"][..], &["--sockfd", "-1"], &["--debug=perhaps"], &contradiction, &["IMAGE"]] {
        let output = finish(holkas().args(["skopeo", "experimental-image-proxy"]).args(wrong));
        assert_eq!(output.code, 1, "{wrong:?}: {}", output.err);
    }
    assert!(run(&["--help"]).out.contains("--user-agent-prefix"));
}

#[test]
fn order_of_calls() {
    let temp = tempfile::tempdir().unwrap();
    docker().write_dir(temp.path().join("docker"));
    let reference = format!("dir:{}", temp.path().join("docker").display());
    let client = Client::of(proxy());
    for method in ["OpenImage", "OpenImageOptional"] {
        let Failure(_, error) = client.plain(method, json!([reference])).unwrap_err();
        assert!(error.contains("must invoke Initialize"), "{error}");
    }
    let Failure(_, error) = client.plain("GetManifest", json!([1])).unwrap_err();
    assert!(error.contains("must invoke Initialize"), "{error}");
    assert_eq!(client.plain("Initialize", json!(null)).unwrap(), "0.2.8");
    let Failure(_, error) = client.plain("Initialize", json!([])).unwrap_err();
    assert!(error.contains("already initialized"), "{error}");
    // The converted config is there before the manifest that names it was asked for.
    let id = client.open(&reference);
    let (_, config) = client.piped("GetFullConfig", json!([id])).unwrap();
    let digest = sha256_digest(&config);
    assert_ne!(digest, sha256_digest(&docker().config));
    let again = client.open(&reference);
    assert_eq!((id, again), (1, 2));
    assert_eq!(client.blob(again, &digest, config.len() as u64).unwrap(), config);
    assert_eq!(
        client.blob(again, &sha256_digest(&docker().config), docker().config.len() as u64).unwrap(),
        docker().config
    );
    let (_, run) = client.piped("GetConfig", json!([id])).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&run).unwrap(), config["config"]);
    client.shutdown();
    // The end of the socket is the end of the server, too.
    let client = Client::start(&[]);
    client.open(&reference);
    rustix::net::shutdown(&client, rustix::net::Shutdown::Both).unwrap();
    let (status, said) = client.wait();
    assert!(status.success() && said.is_empty(), "{status}: {said}");
    assert!(Path::new(&reference[4..]).exists());
}
