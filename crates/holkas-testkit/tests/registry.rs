//! The registry in this process, in the eyes of clients that we did not write: skopeo and podman.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{
    BuiltImage, BuiltIndex, Compression, DOCKER_LIST, DOCKER_MANIFEST, ImageBuilder, IndexBuilder, OCI_INDEX,
    OCI_MANIFEST, sha256_digest,
};
use holkas_testkit::peers::{Output, Peer, Store};
use holkas_testkit::proxy::Proxy;
use holkas_testkit::registry::{Auth, Bearer, FileType, Registry, StaticRegistry, Tls};
use holkas_testkit::tar::TarBuilder;

fn layer(text: &str) -> Vec<u8> {
    TarBuilder::new().dir("etc/", 0o755).file("etc/motd", 0o644, text).finish()
}

fn image() -> BuiltImage {
    ImageBuilder::oci().layer(layer("base")).layer_with(layer("zstd"), Compression::Zstd).build()
}

fn schema2() -> BuiltImage {
    ImageBuilder::docker().layer(layer("base")).layer(layer("second")).build()
}

fn indexes() -> [BuiltIndex; 2] {
    let oci = ["amd64", "arm64"].map(|name| ImageBuilder::oci().architecture(name).layer(layer(name)).build());
    let docker = ["amd64", "arm64"].map(|name| ImageBuilder::docker().architecture(name).layer(layer(name)).build());
    [
        IndexBuilder::oci().image(&oci[0]).image(&oci[1]).attestation(&oci[0]).build(),
        IndexBuilder::docker().image(&docker[0]).image(&docker[1]).build(),
    ]
}

/// Copies with all instances and with digests as they are.
fn copy(options: &[&str], source: &str, destination: &str) -> Output {
    Peer::skopeo().arguments(["copy", "--all", "--preserve-digests"]).arguments(options).run([source, destination])
}

/// Copies from `registry` to a directory, and from there back under another name; all must be as it was.
#[track_caller]
fn there_and_back(registry: &Registry, options: &str, repository: &str) {
    let dir = tempfile::tempdir().unwrap();
    let local = format!("dir:{}", dir.path().join("image").display());
    let digest = registry.digest(repository, "1").unwrap();
    let with = |side: &str| options.replace("SIDE", side);
    let source = registry.reference(&format!("{repository}:1"));
    copy(&with("src").split_whitespace().collect::<Vec<_>>(), &source, &local).ok();
    assert_eq!(sha256_digest(fs::read(dir.path().join("image/manifest.json")).unwrap()), digest);
    let destination = registry.reference(&format!("copy/of/{repository}:2"));
    copy(&with("dest").split_whitespace().collect::<Vec<_>>(), &local, &destination).ok();
    assert_eq!(registry.digest(&format!("copy/of/{repository}"), "2"), Some(digest));
    assert_eq!(registry.blobs(&format!("copy/of/{repository}")), registry.blobs(repository));
    assert_eq!(registry.open_uploads(), 0);
}

#[test]
fn skopeo_copies_all_kinds_of_images() {
    let registry = Registry::start();
    let [oci, docker] = indexes();
    for (repository, digest, media_type) in [
        ("oci", registry.put_image(&image(), "oci", "1"), OCI_MANIFEST),
        ("schema2", registry.put_image(&schema2(), "schema2", "1"), DOCKER_MANIFEST),
        ("deep/er/index", registry.put_index(&oci, "deep/er/index", "1"), OCI_INDEX),
        ("list", registry.put_index(&docker, "list", "1"), DOCKER_LIST),
    ] {
        there_and_back(&registry, "--SIDE-tls-verify=false", repository);
        let copied = registry.manifest(&format!("copy/of/{repository}"), &digest).unwrap();
        assert_eq!(copied.media_type, media_type);
    }
    let tags = Peer::skopeo().run(["list-tags", "--tls-verify=false", &registry.reference("oci")]).json();
    assert_eq!(tags["Tags"], serde_json::json!(["1"]));
    Peer::skopeo().run(["delete", "--tls-verify=false", &registry.reference("oci:1")]).ok();
    assert_eq!(registry.tags("oci"), [""; 0]);
}

#[test]
fn podman_pulls_and_pushes() {
    let (registry, store) = (Registry::start(), Store::vfs());
    registry.put_image(&schema2(), "app", "1");
    let name = format!("{}/app:1", registry.host());
    store.podman(["pull", "--tls-verify=false", &name]).ok();
    let pushed = format!("{}/pushed:1", registry.host());
    store.podman(["push", "--tls-verify=false", &name, &pushed]).ok();
    let manifest = registry.manifest("pushed", "1").unwrap();
    let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    assert_eq!(document["config"]["digest"], schema2().config_digest().as_str());
}

#[test]
fn skopeo_shows_its_password() {
    let registry = Registry::builder().auth(Auth::basic("anna", "secret:word")).start();
    registry.put_image(&image(), "app", "1");
    there_and_back(&registry, "--SIDE-tls-verify=false --SIDE-creds anna:secret:word", "app");
    let denied = copy(&["--src-tls-verify=false", "--src-creds=anna:wrong"], &registry.reference("app:1"), "dir:/none");
    assert!(denied.fails().contains("unauthorized"), "{}", denied.errors());
    let unnamed = registry.requests("GET", "/manifests/").into_iter().filter(|one| one.authorization().is_none());
    assert_eq!(unnamed.count(), 0, "skopeo answers the challenge of /v2/");
}

#[test]
fn skopeo_fetches_tokens() {
    let service = Registry::builder().auth(Auth::Bearer(Bearer::user("anna", "secret").or_anonymous())).start();
    let realm = format!("{}/token", service.url());
    let bearer = Bearer::user("unknown", "here").realm(realm);
    let registry = Registry::builder().auth(Auth::Bearer(bearer)).start();
    registry.put_image(&image(), "app", "1");

    // Anonymous ones may pull, not push.
    let dir = tempfile::tempdir().unwrap();
    let local = format!("dir:{}", dir.path().display());
    copy(&["--src-tls-verify=false"], &registry.reference("app:1"), &local).ok();
    assert_eq!(service.token_requests(), 1);
    assert!(service.log()[0].target.contains("scope=repository%3Aapp%3Apull&"), "{}", service.log()[0].target);
    copy(&["--dest-tls-verify=false"], &local, &registry.reference("app:2")).fails();

    there_and_back(&registry, "--SIDE-tls-verify=false --SIDE-creds anna:secret", "app");
    let authorized = registry
        .requests("GET", "/blobs/")
        .into_iter()
        .filter(|one| one.authorization().unwrap().starts_with("Bearer "));
    assert!(authorized.count() >= 3);

    // A revoked token is asked for anew by a new process.
    registry.revoke_tokens();
    copy(&["--src-tls-verify=false"], &registry.reference("app:1"), &local).ok();
}

#[test]
fn skopeo_knows_the_authority() {
    let registry = Registry::start_tls(Tls::Private);
    registry.put_image(&image(), "app", "1");
    there_and_back(&registry, &format!("--SIDE-cert-dir={}", registry.certificates().dir().display()), "app");
    copy(&[], &registry.reference("app:1"), "dir:/none").fails();
    assert!(!registry.handshake_errors().is_empty());
}

#[test]
fn skopeo_refuses_bad_certificates() {
    for (tls, message) in [
        (Tls::Expired, "expired"),
        (Tls::OtherName, "doesn't contain any IP SANs|not 127.0.0.1"),
        (Tls::SelfSigned, "unknown authority"),
    ] {
        let registry = Registry::start_tls(tls);
        registry.put_image(&image(), "app", "1");
        let certs = format!("--src-cert-dir={}", registry.certificates().dir().display());
        let errors = copy(&[&certs], &registry.reference("app:1"), "dir:/none").fails();
        assert!(message.split('|').any(|part| errors.contains(part)), "{tls:?}: {errors}");
        assert!(registry.log().is_empty(), "{tls:?}: nothing was said to it");
    }
}

#[test]
fn skopeo_shows_its_certificate() {
    let registry = Registry::start_tls(Tls::ClientCertificate);
    registry.put_image(&image(), "app", "1");
    let certificates = registry.certificates();
    there_and_back(&registry, &format!("--SIDE-cert-dir={}", certificates.dir().display()), "app");
    registry.reset_log();
    let stranger = format!("--src-cert-dir={}", certificates.strangers_dir().display());
    copy(&[&stranger], &registry.reference("app:1"), "dir:/none").fails();
    assert!(registry.log().is_empty());
}

#[test]
fn docker_registry_takes_and_gives_what_the_registry_here_does() {
    let here = Registry::start();
    let there = DockerRegistry::start();
    let [oci, docker] = indexes();
    for (repository, digest) in [
        ("oci", here.put_image(&image(), "oci", "1")),
        ("schema2", here.put_image(&schema2(), "schema2", "1")),
        ("index", here.put_index(&oci, "index", "1")),
        ("list", here.put_index(&docker, "list", "1")),
    ] {
        let name = format!("{repository}:1");
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        copy(&plain, &here.reference(&name), &there.reference(&name)).ok();
        let bytes = fs::read(there.blob_path(&digest)).unwrap();
        assert_eq!(bytes, *here.manifest(repository, "1").unwrap().bytes);
        let back = format!("back/{repository}");
        copy(&plain, &there.reference(&name), &here.reference(&format!("{back}:1"))).ok();
        assert_eq!((here.digest(&back, "1"), here.blobs(&back)), (Some(digest), here.blobs(repository)));
    }
    Peer::skopeo().run(["delete", "--tls-verify=false", &there.reference("oci:1")]).ok();
    assert!(there.log().contains("DELETE /v2/oci/manifests/"), "{}", there.log());
}

#[test]
fn docker_registry_can_be_had_closed_and_as_a_mirror() {
    let registry = DockerRegistry::builder().tls(Tls::ClientCertificate).password("anna", "secret").start();
    let dir = tempfile::tempdir().unwrap();
    image().write_dir(dir.path());
    let local = format!("dir:{}", dir.path().display());
    let certificates = registry.certificates();
    let push = |peer: Peer| peer.run(["copy", &local, &registry.reference("app:1")]);
    let known = || Peer::skopeo().certs_d(registry.host(), certificates.dir());
    push(known().credentials(registry.host(), "anna", "secret")).ok();
    push(known()).fails();
    push(known().credentials(registry.host(), "anna", "wrong")).fails();
    let stranger = Peer::skopeo().certs_d(registry.host(), certificates.strangers_dir());
    push(stranger.credentials(registry.host(), "anna", "secret")).fails();

    let origin = Registry::start();
    let digest = origin.put_image(&image(), "app", "1");
    let mirror = DockerRegistry::builder().mirror_of(origin.url()).start();
    let peer = Peer::skopeo().insecure(&[mirror.host()]);
    assert_eq!(peer.run(["inspect", "--no-tags", &mirror.reference("app:1")]).json()["Digest"], digest);
    assert!(!origin.log().is_empty());
}

#[test]
fn skopeo_reads_through_the_proxy_until_it_is_cut() {
    let registry = Registry::start();
    let noise: Vec<u8> = (0u32..1 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let image = ImageBuilder::oci().layer_with(noise, Compression::None).build();
    registry.put_image(&image, "app", "1");
    let proxy = Proxy::start(registry.host());
    let dir = tempfile::tempdir().unwrap();
    let (source, local) = (format!("docker://{}/app:1", proxy.host()), format!("dir:{}", dir.path().display()));
    copy(&["--src-tls-verify=false"], &source, &local).ok();
    assert!(proxy.total().to_client > image.layers[0].size);
    assert!(registry.sent() < proxy.total().to_client);

    // skopeo 1.9 does not resume: that came with containers/image 5.24.
    proxy.cut_after(900_000);
    let errors = copy(&["--src-tls-verify=false"], &source, &local).fails();
    assert!(errors.contains("unexpected EOF") || errors.contains("reset by peer"), "{errors}");
}

#[test]
fn podman_knows_authority_and_password() {
    let registry = Registry::builder().tls(Tls::Private).auth(Auth::basic("anna", "secret")).start();
    registry.put_image(&schema2(), "app", "1");
    let store = Store::vfs();
    let peer = Peer::podman(&store).certs_d(registry.host(), registry.certificates().dir()).credentials(
        registry.host(),
        "anna",
        "secret",
    );
    peer.run(["pull", &format!("{}/app:1", registry.host())]).ok();
    peer.run(["push", &format!("{}/app:1", registry.host()), &format!("{}/app:2", registry.host())]).ok();
    assert_eq!(registry.tags("app"), ["1", "2"]);
}

#[test]
fn skopeo_exchanges_its_identity_token() {
    let bearer = Bearer::user("anna", "secret").refresh_token("identity", "anna");
    let registry = Registry::builder().auth(Auth::Bearer(bearer)).start();
    let digest = registry.put_image(&image(), "app", "1");
    let peer = Peer::skopeo().insecure(&[registry.host()]).identity_token(registry.host(), "anna", "identity");
    assert_eq!(peer.run(["inspect", &registry.reference("app:1")]).json()["Digest"], digest);
    assert_eq!(registry.requests("POST", "/token").len(), registry.token_requests());
}

#[test]
fn skopeo_reads_files_alone() {
    let (registry, dir) = (Registry::start(), tempfile::tempdir().unwrap());
    registry.put_image(&image(), "app", "1");
    registry.write_static(dir.path());
    let files = StaticRegistry::start_with(dir.path(), FileType::Guessed);
    let out = format!("dir:{}", dir.path().join("out").display());
    copy(&["--src-tls-verify=false"], &files.reference("app:1"), &out).ok();
    assert_eq!(fs::read(dir.path().join("out/manifest.json")).unwrap(), image().manifest);
}
