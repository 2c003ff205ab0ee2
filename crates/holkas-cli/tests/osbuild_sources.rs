//! osbuild's sources through the program: what is in the store afterwards, and what was asked for on the way.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "osbuild_sources/lists.rs"]
mod lists;
#[path = "osbuild_sources/protocol.rs"]
mod protocol;
#[path = "osbuild_sources/scene.rs"]
mod scene;
#[path = "osbuild_sources/sharing.rs"]
mod sharing;
#[path = "osbuild_sources/stores.rs"]
mod stores;

use std::fs;

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{BuiltImage, Compression, IndexBuilder, sha256_digest};
use holkas_testkit::peers::Peer;
use holkas_testkit::registry::{Fault, Matcher, Registry};
use scene::{
    SKOPEO, all_cached, app, docker_app, error_of, fetched, host, item, manifest_of, same_as_skopeo, with_config,
    zstd_app,
};
use serde_json::{Value, json};

#[test]
fn images_are_what_skopeo_copies_whatever_their_configs_hold() {
    let (host, registry) = (host(), Registry::start());
    let text = String::from_utf8(app("crlf").config).unwrap();
    let images = [
        ("oci", app("oci")),
        ("docker", docker_app("docker")),
        ("zstd", zstd_app("zstd")),
        // D7: osbuild reads the config as text, and hashes what the newlines became.
        ("crlf", with_config(app("crlf"), text.replacen('{', "{\r\n", 1).into_bytes())),
        // D8: it dies of what is not UTF-8.
        ("latin1", with_config(app("latin1"), text.replacen('{', "{\"author\":\"Jos\u{0}\",", 1).into_bytes())),
    ];
    let images = images.map(|(name, mut image)| {
        if name == "latin1" {
            let config = image.config.iter().map(|byte| if *byte == 0 { 0xe9 } else { *byte }).collect();
            image = with_config(image, config);
        }
        registry.put_image(&image, name, "1");
        (name, image)
    });
    let items: Value = images.iter().map(|(name, image)| item(&registry, name, image)).collect();
    let answer = host.download(SKOPEO, items.clone());
    fetched(&answer, images.len());
    assert_eq!(answer["name"], "source org.osbuild.skopeo");
    assert_eq!(answer["source_type"], SKOPEO);
    assert_eq!(answer["output"], "source org.osbuild.skopeo finished successfully");
    for (name, image) in &images {
        same_as_skopeo(&host, &registry.reference(&format!("{name}@{}", image.digest())), &image.config_digest());
    }
    registry.reset_log();
    all_cached(&host.download(SKOPEO, items));
    assert!(registry.log().is_empty(), "{:?}", registry.log());
    let content = fs::read_dir(host.cache().join("org.osbuild.containers")).unwrap();
    assert_eq!(content.count(), images.len(), "nothing but the images stays");
}

#[test]
fn what_osbuilds_own_source_has_left_is_there() {
    let (host, registry, image) = (host(), Registry::start(), app("stock"));
    registry.put_image(&image, "stock", "1");
    fs::create_dir_all(host.image(&image.config_digest()).parent().unwrap()).unwrap();
    let reference = registry.reference(&format!("stock@{}", image.digest()));
    let place = format!("dir:{}", host.image(&image.config_digest()).display());
    Peer::skopeo().run(["copy", "--src-tls-verify=false", &reference, &place]).ok();
    registry.reset_log();
    all_cached(&host.download(SKOPEO, [item(&registry, "stock", &image)].into_iter().collect()));
    assert!(registry.log().is_empty());
}

#[test]
fn another_image_than_the_id_says_costs_no_layer() {
    let (host, registry, image, other) = (host(), Registry::start(), app("one"), app("other"));
    registry.put_image(&image, "app", "1");
    let (digest, wrong) = (image.digest(), other.config_digest());
    let name = format!("{}/app", registry.host());
    let answer =
        host.download(SKOPEO, json!({ &wrong: {"image": {"name": name, "digest": digest, "tls-verify": false}} }));
    let error = error_of(&answer, 0);
    let said = format!("Downloaded image {name}@{digest} has an id of {}, but expected {wrong}", image.config_digest());
    assert!(error.contains(&said), "{error}");
    let asked: Vec<_> = registry.log().into_iter().filter(|one| one.path() != "/v2/").collect();
    assert_eq!(asked.len(), 1, "the manifest alone: {asked:?}");
    assert!(!host.image(&wrong).parent().unwrap().exists());
}

#[test]
fn the_digest_of_a_list_means_the_image_for_the_host() {
    let (host, registry) = (host(), Registry::start());
    let images = ["amd64", "arm64"].map(|architecture| scene::app_for("multi", architecture));
    let list = IndexBuilder::oci().image(&images[0]).image(&images[1]).build();
    registry.put_index(&list, "multi", "1");
    let own = images.iter().find(|image| image.platform.architecture == scene::architecture()).unwrap();
    let other = images.iter().find(|image| image.platform.architecture != scene::architecture()).unwrap();
    let name = format!("{}/multi", registry.host());
    let items = |id: String| json!({ id: {"image": {"name": name, "digest": list.digest(), "tls-verify": false}} });
    fetched(&host.download(SKOPEO, items(own.config_digest())), 1);
    same_as_skopeo(&host, &registry.reference(&format!("multi@{}", own.digest())), &own.config_digest());
    registry.reset_log();
    all_cached(&host.download(SKOPEO, items(own.config_digest())));
    assert!(registry.log().is_empty(), "the list that was asked for is known to name the image");
    // The manifest by its own digest is the same image.
    all_cached(&host.download(SKOPEO, [item(&registry, "multi", own)].into_iter().collect()));
    let answer = host.download(SKOPEO, items(other.config_digest()));
    assert!(error_of(&answer, 0).contains(&format!("has an id of {}", own.config_digest())), "{answer}");
    assert!(registry.requests("GET", "/blobs/").is_empty());
}

#[test]
fn keys_digests_and_names_are_exact_and_the_other_items_are_fetched() {
    let (host, registry, image) = (host(), Registry::start(), app("good"));
    registry.put_image(&image, "good", "1");
    let (id, digest) = (image.config_digest(), image.digest());
    let name = format!("{}/good", registry.host());
    let at = |name: &str, digest: &str| json!({"image": {"name": name, "digest": digest, "tls-verify": false}});
    let cases = [
        (format!("../{id}"), at(&name, &digest), "is not `sha256:` and 64 hex digits"),
        (format!("{id}/../x"), at(&name, &digest), "is not `sha256:` and 64 hex digits"),
        (format!("{id}0"), at(&name, &digest), "is not `sha256:` and 64 hex digits"),
        (id.to_uppercase(), at(&name, &digest), "is not `sha256:` and 64 hex digits"),
        (sha256_digest("a"), at(&name, &format!("x{digest}")), "reading `digest`"),
        (sha256_digest("b"), at(&name, &format!("{digest} ")), "reading `digest`"),
        // D11: skopeo refuses the reference, and says nothing of the item.
        (sha256_digest("c"), at(&format!("{name}:1"), &digest), "has a tag"),
        (sha256_digest("d"), at(&format!("{name}@{digest}"), &digest), "has a digest"),
        (sha256_digest("e"), at("UPPER/case", &digest), "lower case"),
        (sha256_digest("f"), json!({"image": {"name": name}}), "`digest` is missing"),
        (sha256_digest("g"), json!({}), "`image` is missing"),
        (
            sha256_digest("h"),
            json!({"image": {"name": name, "digest": digest, "containers-transport": "oci"}}),
            "`containers-transport` is `oci`",
        ),
    ];
    let mut items: serde_json::Map<String, Value> =
        cases.iter().map(|(key, item, _)| (key.clone(), item.clone())).collect();
    items.insert(id.clone(), at(&name, &digest));
    let service = host.source(SKOPEO);
    let answer = service.call("download", host.download_args(items.into())).reply();
    assert_eq!(answer["success"], false);
    let output = service.close().output;
    for (n, (key, _, said)) in cases.iter().enumerate() {
        assert_eq!(answer["results"][n]["metadata"]["checksum"], *key);
        let error = error_of(&answer, n);
        assert!(error.contains(said), "{key}: {error}");
        assert!(answer["output"].as_str().unwrap().contains(said), "every reason is in the output: {answer}");
        // D12: osbuild's log shows what is on stderr, and of the answer nothing.
        assert!(output.contains(said), "{output}");
    }
    assert_eq!(answer["results"][cases.len()]["success"], true);
    assert!(host.image(&id).join("manifest.json").exists());
    assert!(!host.cache().join(&id).exists(), "nothing was written outside");
}

#[test]
fn two_manifests_of_one_config_take_turns() {
    let (host, registry) = (host(), Registry::start());
    let gzip = scene::app_with("twin", Compression::Gzip);
    let zstd = scene::app_with("twin", Compression::Zstd);
    assert_eq!(gzip.config_digest(), zstd.config_digest());
    let id = gzip.config_digest();
    for (name, image) in [("gzip", &gzip), ("zstd", &zstd)] {
        registry.put_image(image, name, "1");
    }
    let download = |name: &str, image: &BuiltImage| {
        registry.reset_log();
        let answer = host.download(SKOPEO, [item(&registry, name, image)].into_iter().collect());
        assert_eq!(answer["success"], true, "{answer}");
        assert_eq!(manifest_of(&host.image(&id)), image.digest());
        same_as_skopeo(&host, &registry.reference(&format!("{name}@{}", image.digest())), &id);
        (answer["results"][0]["metadata"]["cached"].as_bool().unwrap(), registry.log().len())
    };
    assert!(!download("gzip", &gzip).0);
    // A build that runs has the directory open, as a mount has it.
    let held = hold(&host.image(&id));
    assert!(!download("zstd", &zstd).0);
    assert_eq!(sha256_digest(held.read()), gzip.digest(), "what was mounted stays");
    for (name, image) in [("gzip", &gzip), ("zstd", &zstd), ("gzip", &gzip)] {
        // skopeo itself, which we compare with, asks; we do not.
        registry.reset_log();
        all_cached(&host.download(SKOPEO, [item(&registry, name, image)].into_iter().collect()));
        assert!(registry.log().is_empty(), "{name}: {:?}", registry.log());
        assert_eq!(manifest_of(&host.image(&id)), image.digest());
    }
    let mut names: Vec<_> = fs::read_dir(host.image(&id).parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["image".to_owned(), format!("image-{}", zstd.digest().replace(':', "-"))]);
}

/// A directory that stays what it is, whatever its path comes to name.
struct Held(std::fs::File);

fn hold(path: &std::path::Path) -> Held {
    Held(std::fs::File::open(path).unwrap())
}

impl Held {
    fn read(&self) -> Vec<u8> {
        use std::os::fd::AsRawFd;
        fs::read(format!("/proc/self/fd/{}/manifest.json", self.0.as_raw_fd())).unwrap()
    }
}

#[test]
fn damaged_images_are_fetched_again_without_what_is_whole() {
    let (host, registry, image) = (host(), Registry::start(), app("whole"));
    registry.put_image(&image, "whole", "1");
    let items: Value = [item(&registry, "whole", &image)].into_iter().collect();
    fetched(&host.download(SKOPEO, items.clone()), 1);
    let place = host.image(&image.config_digest());
    let layer = place.join(image.layers[0].digest.strip_prefix("sha256:").unwrap());
    let other = place.join(image.layers[1].digest.strip_prefix("sha256:").unwrap());
    let truncate = || fs::write(&layer, b"x").unwrap();
    let remove = || fs::remove_file(&layer).unwrap();
    let swap = || fs::write(place.join("manifest.json"), b"{}").unwrap();
    let both = || {
        fs::write(&layer, b"x").unwrap();
        // Of the right size, with other bytes: it is not looked into until it could be shared.
        let mut bytes = fs::read(&other).unwrap();
        bytes[0] ^= 1;
        fs::write(&other, bytes).unwrap();
    };
    let damages: [(&dyn Fn(), usize); 4] = [(&truncate, 1), (&remove, 1), (&swap, 0), (&both, 2)];
    for (n, (damage, layers)) in damages.iter().enumerate() {
        damage();
        registry.reset_log();
        let answer = host.download(SKOPEO, items.clone());
        fetched(&answer, 1);
        let asked: Vec<_> = registry
            .requests("GET", "/blobs/")
            .into_iter()
            .filter(|request| image.layers.iter().any(|layer| request.path().contains(&layer.digest)))
            .collect();
        assert_eq!(asked.len(), *layers, "damage {n}: {asked:?}");
        same_as_skopeo(&host, &registry.reference(&format!("whole@{}", image.digest())), &image.config_digest());
        let entries = fs::read_dir(place.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1, "what was damaged is gone");
    }
}

#[test]
fn a_registry_that_dies_leaves_nothing_visible_and_the_next_run_goes_on() {
    const HALF: u64 = 1 << 20;
    let (host, registry, image) = (host(), Registry::start(), scene::large_app("large", 2 << 20));
    registry.put_image(&image, "large", "1");
    let blob = format!("/v2/large/blobs/{}", image.layers[0].digest);
    registry.on(Matcher::get(&blob).nth(1), Fault::Truncate(HALF));
    registry.on(Matcher::get(&blob).nth(2), Fault::StopListening);
    let items: Value = [item(&registry, "large", &image)].into_iter().collect();
    let service = host.source(SKOPEO);
    let answer = service.call("download", host.download_args(items.clone())).reply();
    let (error, output) = (error_of(&answer, 0), service.close().output);
    assert!(error.contains("downloading 127.0.0.1:") && error.contains("refused"), "{error}");
    assert!(output.contains("refused"), "{output}");
    assert!(!host.image(&image.config_digest()).parent().unwrap().exists());
    registry.clear_faults();
    registry.listen_again();
    registry.reset_log();
    fetched(&host.download(SKOPEO, items), 1);
    let ranges: Vec<_> =
        registry.requests("GET", &blob).iter().filter_map(|one| one.header("Range").map(str::to_owned)).collect();
    assert_eq!(ranges, [format!("bytes={HALF}-")], "it goes on where it stopped");
    same_as_skopeo(&host, &registry.reference(&format!("large@{}", image.digest())), &image.config_digest());
    assert_eq!(fs::read_dir(host.cache().join("org.osbuild.containers")).unwrap().count(), 1);
}

#[test]
fn credentials_and_the_policy_are_those_of_the_host() {
    let registry = DockerRegistry::builder().password("anna", "secret").start();
    let temp = tempfile::tempdir().unwrap();
    let image = app("private");
    image.write_dir(temp.path().join("image"));
    let from = format!("dir:{}", temp.path().join("image").display());
    let peer = Peer::skopeo().credentials(registry.host(), "anna", "secret");
    peer.run(["copy", "--dest-tls-verify=false", &from, &registry.reference("private:1")]).ok();
    let name = format!("{}/private", registry.host());
    let items = json!({
        image.config_digest(): {"image": {"name": name, "digest": image.digest(), "tls-verify": false}}
    });
    let auth = temp.path().join("auth.json");
    let host = host().environment("REGISTRY_AUTH_FILE", &auth);
    let refused = host.download(SKOPEO, items.clone());
    assert!(error_of(&refused, 0).contains("401"), "{refused}");
    let entry = json!({"auths": {registry.host(): {"auth": "YW5uYTpzZWNyZXQ="}}});
    fs::write(&auth, entry.to_string()).unwrap();
    host.policy(r#"{"default":[{"type":"reject"}]}"#);
    let rejected = host.download(SKOPEO, items.clone());
    assert!(error_of(&rejected, 0).contains("rejected by policy"), "{rejected}");
    host.policy(r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    fetched(&host.download(SKOPEO, items.clone()), 1);
    // What is there was let in before, and is asked nothing.
    host.policy("no JSON");
    all_cached(&host.download(SKOPEO, items));
}
