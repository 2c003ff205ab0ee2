//! The image proxy with registries: what may pass, what breaks off, what lies, and what is read ahead.

use std::time::{Duration, Instant};

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::gpg::{Gpg, payload};
use holkas_testkit::image::{BuiltImage, Compression, Format, ImageBuilder, IndexBuilder, sha256_digest};
use holkas_testkit::oddities::pattern;
use holkas_testkit::peers::Peer;
use holkas_testkit::registry::{Auth, Fault, Matcher, Registry};
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};

use crate::client::{Client, Failure, eventually, read};
use crate::common::holkas;
use crate::{docker, oci, taken};

const LARGE: usize = 3_000_000;

/// An image of layers that are too large for a pipe.
fn large(layers: usize) -> BuiltImage {
    let layer = |n: usize| {
        let mut bytes = pattern(LARGE);
        bytes[0] = n as u8;
        TarBuilder::new().file("large", 0o644, bytes).finish()
    };
    (0..layers).fold(ImageBuilder::oci(), |image, n| image.layer(layer(n))).build()
}

fn start(flags: &[&str]) -> Client {
    Client::start(&[&["--tls-verify=false"], flags].concat())
}

/// Without what makes every image welcome.
fn start_by_policy(flags: &[&str]) -> Client {
    let mut command = holkas();
    command.args(["proxy", "--tls-verify=false"]).args(flags);
    Client::initialized(command)
}

fn with_image(image: &BuiltImage) -> (Registry, String) {
    let registry = Registry::start();
    registry.put_image(image, "a/b", "1");
    let reference = registry.reference("a/b:1");
    (registry, reference)
}

#[test]
fn images_of_registries_come_whole() {
    let registry = Registry::start();
    for (name, image) in [("oci", oci()), ("docker", docker()), ("large", large(3))] {
        registry.put_image(&image, name, "1");
        let client = start(&[]);
        taken(&client, &registry.reference(&format!("{name}:1")), &image.digest());
        client.shutdown();
    }
    let list = IndexBuilder::oci().image(&oci()).build();
    registry.put_index(&list, "list", "1");
    let client = start(&["--override-arch=amd64"]);
    taken(&client, &registry.reference("list:1"), &oci().digest());
    client.shutdown();
    // Debian's own registry, too.
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    docker().write_dir(temp.path().join("docker"));
    let there = registry.reference("docker:1");
    let from = format!("dir:{}", temp.path().join("docker").display());
    Peer::skopeo().run(["copy", "--dest-tls-verify=false", "--preserve-digests", &from, &there]).ok();
    let client = start(&[]);
    taken(&client, &there, &docker().digest());
    client.shutdown();
}

#[test]
fn failures_say_whether_they_may_pass() {
    let image = oci();
    for (fault, code) in [
        (Fault::status(503), "retryable"),
        (Fault::status(502), "retryable"),
        (Fault::status(504), "retryable"),
        (Fault::too_many_requests("0"), "retryable"),
        (Fault::Close, "retryable"),
        (Fault::Truncate(10), "retryable"),
        (Fault::status(500), "other"),
        (Fault::error(500, "UNKNOWN", "no"), "retryable"),
        (Fault::status(403), "other"),
        (Fault::status(404), "other"),
        (Fault::error(404, "NAME_UNKNOWN", "no"), "other"),
        (Fault::FlipByte(20), "other"),
    ] {
        let (registry, reference) = with_image(&image);
        let by_digest = format!("{}@{}", reference.trim_end_matches(":1"), image.digest());
        registry.on(Matcher::get("/v2/a/b/manifests/*"), fault.clone());
        let client = start(&[]);
        let Failure(found, error) = client.plain("OpenImage", json!([by_digest])).unwrap_err();
        assert_eq!(found, code, "{fault:?}: {error}");
        client.shutdown();
    }
    let (registry, reference) = with_image(&image);
    registry.stop_listening();
    let client = start(&[]);
    let began = Instant::now();
    for method in ["OpenImage", "OpenImageOptional"] {
        let Failure(code, error) = client.plain(method, json!([reference])).unwrap_err();
        assert_eq!(code, "retryable", "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "the client is who tries again");
    registry.listen_again();
    // The connection is new, and the server still there.
    taken(&client, &reference, &image.digest());
    client.shutdown();
}

#[test]
fn what_a_registry_does_not_have_is_absent() {
    let (registry, reference) = with_image(&oci());
    let client = start(&[]);
    for absent in ["a/b:2", "nothing:1"] {
        assert_eq!(client.plain("OpenImageOptional", json!([registry.reference(absent)])).unwrap(), 0, "{absent}");
        assert_eq!(client.plain("OpenImage", json!([registry.reference(absent)])).unwrap_err().0, "other");
    }
    for fault in [Fault::status(404), Fault::error(404, "NAME_UNKNOWN", "no")] {
        registry.on(Matcher::get("/v2/a/b/manifests/*").first(1), fault);
        assert_eq!(client.plain("OpenImageOptional", json!([reference])).unwrap(), 0);
        registry.clear_faults();
    }
    client.shutdown();
    registry.set_auth(Auth::basic("user", "password"));
    let client = start(&["--no-creds"]);
    assert_eq!(client.plain("OpenImageOptional", json!([reference])).unwrap_err().0, "other");
    client.shutdown();
    let client = start(&["--creds", "user:password", "--user-agent-prefix", "bootc/1.2"]);
    taken(&client, &reference, &oci().digest());
    client.shutdown();
    assert!(
        registry
            .log()
            .iter()
            .any(|asked| asked.header("user-agent").is_some_and(|agent| agent.starts_with("bootc/1.2 ")))
    );
}

#[test]
fn blobs_that_break_off_go_on() {
    let image = large(1);
    let (digest, size) = (image.layers[0].digest.as_str(), image.layers[0].size);
    let blobs = || Matcher::get("/v2/a/b/blobs/*");
    for faults in [
        vec![(blobs().first(1), Fault::Truncate(1_000_000))],
        // A server that knows no ranges gives all of it again.
        vec![(blobs().first(1), Fault::Truncate(1_000_000)), (blobs().nth(2), Fault::IgnoreRange)],
        vec![(blobs().first(1), Fault::Stall(1_000_000))],
        vec![(blobs().first(3), Fault::Truncate(100_000))],
    ] {
        let (registry, reference) = with_image(&image);
        for (matcher, fault) in faults {
            registry.on(matcher, fault);
        }
        let client = start(&["--idle-timeout", "1s"]);
        let id = client.open(&reference);
        assert!(client.blob(id, digest, size).unwrap() == image.layers[0].blob);
        client.shutdown();
        let (registry, reference) = (registry, reference);
        registry.clear_faults();
        registry.on(blobs().first(1), Fault::Truncate(1_000_000));
        let client = start(&[]);
        let id = client.open(&reference);
        assert!(client.raw_blob(id, digest).unwrap() == (size, image.layers[0].blob.clone(), None));
        client.shutdown();
    }
    // What never comes is given up, and the client told that it may come later.
    for fault in [Fault::Stall(1_000), Fault::Truncate(1_000)] {
        let (registry, reference) = with_image(&image);
        registry.on(blobs(), fault);
        let client = start(&["--idle-timeout", "200ms"]);
        let id = client.open(&reference);
        let Failure(code, error) = client.blob(id, digest, size).map(|bytes| bytes.len()).unwrap_err();
        assert_eq!(code, "retryable", "{error}");
        let (_, bytes, failure) = client.raw_blob(id, digest).unwrap();
        assert!(image.layers[0].blob.starts_with(&bytes));
        assert_eq!(failure.unwrap().0, "retryable");
        client.shutdown();
    }
}

#[test]
fn blobs_that_lie_are_found_out() {
    let image = large(1);
    let (digest, size) = (image.layers[0].digest.as_str(), image.layers[0].size);
    for fault in [Fault::FlipByte(2_000_000), Fault::Body(b"short".to_vec()), Fault::Endless] {
        let (registry, reference) = with_image(&image);
        registry.on(Matcher::get("/v2/a/b/blobs/*"), fault.clone());
        let client = start(&["--idle-timeout", "1s"]);
        let id = client.open(&reference);
        let Failure(code, error) = client.blob(id, digest, size).map(|bytes| bytes.len()).unwrap_err();
        match fault {
            // A length that is wrong may be that of a connection that broke.
            Fault::Body(_) => assert!(["retryable", "other"].contains(&code.as_str()), "{error}"),
            _ => assert!(code == "other" && error.contains("corrupted blob, expecting"), "{code}: {error}"),
        }
        let (_, bytes, failure) = client.raw_blob(id, digest).unwrap();
        assert!(failure.is_some() && bytes.len() as u64 <= size);
        client.shutdown();
    }
    // A size that is not the blob's is the client's mistake, and is told once the blob has come.
    let (_registry, reference) = with_image(&image);
    let client = start(&[]);
    let id = client.open(&reference);
    let Failure(code, error) = client.blob(id, digest, size + 1).unwrap_err();
    assert!(code == "other" && error.contains(&format!("expected {} bytes in blob, got {size}", size + 1)), "{error}");
    let (value, bytes) = client.piped("GetBlob", json!([id, digest, -1])).unwrap();
    assert!(value == size && bytes == image.layers[0].blob);
    client.shutdown();
}

#[test]
fn layers_are_read_ahead_where_they_are_asked_for_in_turn() {
    let image = large(5);
    let (registry, reference) = with_image(&image);
    let asked = |n: usize| registry.requests("GET", &image.layers[n].digest).len();
    let client = start(&[]);
    let id = client.open(&reference);
    client.piped("GetManifest", json!([id])).unwrap();
    client.piped("GetFullConfig", json!([id])).unwrap();
    let layer = |n: usize| (image.layers[n].digest.as_str(), image.layers[n].size);
    let blob = |n: usize| {
        let (digest, size) = layer(n);
        assert!(client.blob(id, digest, size).unwrap() == image.layers[n].blob, "layer {n}");
    };
    blob(0);
    eventually("the next layer is read ahead", || asked(1) == 1);
    assert_eq!(asked(2), 0, "one is enough for a guess");
    blob(1);
    eventually("then more of them are", || asked(2) == 1 && asked(3) == 1);
    // While the client is slow with one, the next are there already: now nobody is asked any more.
    let whole = |n: usize| image.layers[n].size;
    let files = || client.unnamed_files();
    eventually("they lie in files without names", || files() == [whole(2), whole(3)]);
    registry.stop_listening();
    blob(2);
    blob(3);
    assert_eq!([0, 1, 2, 3].map(asked), [1; 4], "each is fetched once");
    // Of the last one, which cannot be read ahead any more, nothing has come.
    eventually("what was given away is gone", || files().iter().all(|size| *size == 0));
    registry.listen_again();
    blob(4);
    client.shutdown();
}

#[test]
fn what_is_not_asked_for_in_turn_is_not_read_ahead() {
    let image = large(5);
    let (registry, reference) = with_image(&image);
    let asked = || image.layers.iter().map(|layer| registry.requests("GET", &layer.digest).len()).collect::<Vec<_>>();
    let client = start(&[]);
    let id = client.open(&reference);
    for n in [3, 1, 4] {
        client.blob(id, &image.layers[n].digest, image.layers[n].size).unwrap();
    }
    assert_eq!(asked(), [0, 1, 0, 1, 1]);
    // Where a guess was wrong, what was read ahead is thrown away.
    client.blob(id, &image.layers[0].digest, image.layers[0].size).unwrap();
    client.blob(id, &image.layers[1].digest, image.layers[1].size).unwrap();
    client.blob(id, &image.layers[4].digest, image.layers[4].size).unwrap();
    eventually("nothing is left", || client.unnamed_files().is_empty());
    client.plain("CloseImage", json!([id])).unwrap();
    client.shutdown();
}

#[test]
fn what_was_read_ahead_and_is_wrong_is_fetched_again() {
    let image = large(3);
    let (registry, reference) = with_image(&image);
    registry.on(Matcher::get(&format!("/v2/a/b/blobs/{}", image.layers[1].digest)).first(1), Fault::FlipByte(5_000));
    let client = start(&[]);
    let id = client.open(&reference);
    let blob = |n: usize| client.blob(id, &image.layers[n].digest, image.layers[n].size);
    assert!(blob(0).unwrap() == image.layers[0].blob);
    // Asked for at once it may be on its way still, and then the client learns what it was; later it comes anew.
    let second = blob(1).or_else(|failure| {
        assert!(failure.1.contains("corrupted blob"), "{failure:?}");
        blob(1)
    });
    assert!(second.unwrap() == image.layers[1].blob);
    assert!(blob(2).unwrap() == image.layers[2].blob);
    client.shutdown();
    // Where no file can be made, nothing is read ahead, and all comes all the same.
    let client = start(&["--tmpdir", "/proc"]);
    taken(&client, &reference, &image.digest());
    client.shutdown();
}

#[test]
fn several_blobs_at_once_and_not_in_order() {
    let image = large(6);
    let (_registry, reference) = with_image(&image);
    let client = start(&[]);
    let id = client.open(&reference);
    let begun: Vec<_> = [2, 0, 1, 5, 4, 3]
        .into_iter()
        .map(|n| {
            let layer = &image.layers[n];
            let (_, pipe, fd) = client.pipe("GetBlob", json!([id, layer.digest, layer.size])).unwrap();
            (n, pipe, std::thread::spawn(move || read(fd)))
        })
        .collect();
    // Closing the image does not end what was begun of it.
    client.plain("CloseImage", json!([id])).unwrap();
    for (n, pipe, reader) in begun.into_iter().rev() {
        client.finish(pipe).unwrap();
        assert!(reader.join().unwrap() == image.layers[n].blob);
    }
    client.shutdown();
}

#[test]
fn a_blob_that_the_manifest_does_not_name_is_given_if_it_is_there() {
    let image = oci();
    let (registry, reference) = with_image(&image);
    let other = registry.put_blob("a/b", b"something else");
    let client = start(&[]);
    let id = client.open(&reference);
    assert_eq!(client.blob(id, &other, 14).unwrap(), b"something else");
    assert_eq!(client.raw_blob(id, &other).unwrap_err().0, "other");
    assert_eq!(client.pipe("GetBlob", json!([id, sha256_digest("nowhere"), 7])).unwrap_err().0, "other");
    client.shutdown();
}

#[test]
fn a_docker_image_with_zstd_layers_is_one_of_oci() {
    let layer = TarBuilder::new().file("x", 0o644, "x").finish();
    let image = ImageBuilder::new(Format::Docker).layer_with(layer, Compression::Zstd).build();
    let (_registry, reference) = with_image(&image);
    let client = start(&[]);
    let (manifest, _) = taken(&client, &reference, &image.digest());
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    client.shutdown();
}

#[test]
fn the_files_of_registries_d_are_read() {
    let (registry, reference) = with_image(&oci());
    let temp = tempfile::tempdir().unwrap();
    let (dir, file) = (temp.path().display().to_string(), temp.path().join("x.yaml"));
    std::fs::write(&file, "docker:\n  other.example:\n    lookaside: [x]\n").unwrap();
    let client = start(&["--registries.d", &dir]);
    let Failure(_, error) = client.plain("OpenImage", json!([reference])).unwrap_err();
    assert!(error.contains("x.yaml:3: reading `docker → other.example → lookaside`"), "{error}");
    client.shutdown();
    // Nobody asks for signatures that no policy demands.
    std::fs::write(&file, format!("default-docker:\n  lookaside: {}/s\n", registry.url())).unwrap();
    let client = start(&["--registries.d", &dir]);
    taken(&client, &reference, &oci().digest());
    client.shutdown();
    assert!(registry.requests("GET", "signature-").is_empty());
}

#[test]
fn a_policy_finds_the_signatures_of_a_registrys_image() {
    let (registry, reference) = with_image(&oci());
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let gpg = Gpg::new();
    let key = gpg.key("somebody", "never");
    let keys = gpg.file("keys.gpg", &gpg.public(&key)).display().to_string();
    std::fs::create_dir(at("registries.d")).unwrap();
    std::fs::write(at("registries.d/x.yaml"), format!("default-docker:\n  lookaside: file://{}\n", at("kept")))
        .unwrap();
    let signed = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": keys}]);
    std::fs::write(at("policy.json"), json!({"default": signed}).to_string()).unwrap();
    let arguments = ["--policy", &at("policy.json"), "--registries.d", &at("registries.d")];
    let client = start_by_policy(&arguments);
    let Failure(_, error) = client.plain("OpenImage", json!([reference])).unwrap_err();
    assert!(error.contains("a signature was required, but no signature exists"), "{error}");
    client.shutdown();
    let name = reference.strip_prefix("docker://").unwrap();
    let repository = name.strip_prefix(&format!("{}/", registry.host())).unwrap().split(':').next().unwrap();
    let kept = at(&format!("kept/{repository}@{}", oci().digest().replace(':', "=")));
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(kept + "/signature-1", gpg.sign(&key, payload(&oci().digest(), name).as_bytes(), &[])).unwrap();
    let client = start_by_policy(&arguments);
    taken(&client, &reference, &oci().digest());
    client.shutdown();
}
