//! The calls that osbuild makes, in its own words, and what it makes of them.

use holkas_testkit::image::sha256_hex;
use holkas_testkit::peers::Store;
use holkas_testkit::registry::Registry;

use super::*;

/// sources/org.osbuild.skopeo and org.osbuild.skopeo-index.
#[test]
fn sources() {
    let registry = Registry::start();
    let list = docker_list();
    let digest = registry.put_index(&list, "app", "1");
    let image = list.image("amd64").digest();
    let both = Both::new(|_| {});
    let policy = both.ours("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let policy = format!("--policy={}", policy.display());
    let host = registry.host();
    both.run(
        Whose::Ours,
        &["copy", "--src-tls-verify=false", &format!("docker://{host}/app@{image}"), "dir:image", &policy],
    )
    .ok();
    let shown = both.run(Whose::Ours, &["inspect", "--raw", "--config", "dir:image"]).ok();
    assert_eq!(format!("sha256:{}", sha256_hex(&shown.out)), list.image("amd64").config_digest());
    let index = format!("docker://{host}/app@{digest}");
    both.run(Whose::Ours, &["copy", "--multi-arch=index-only", "--src-tls-verify=false", &index, "dir:index", &policy])
        .ok();
    assert_eq!(files(&both.ours("index")).into_keys().collect::<Vec<_>>(), ["manifest.json", "version"]);
    let shown = both.run(Whose::Ours, &["inspect", "--raw", "dir:index"]).ok();
    assert_eq!(shown.out.as_bytes(), fs::read(both.ours("index/manifest.json")).unwrap());
    let printed = both.run(Whose::Ours, &["manifest-digest", "index/manifest.json"]).ok();
    assert_eq!(printed.out, format!("{digest}\n"));
    let printed = both.run(Whose::Ours, &["manifest-digest", "image/manifest.json"]).ok();
    assert_eq!(printed.out, format!("{image}\n"));
    // osbuild's merge of the two, and its copy into a store.
    let merged = both.ours("image");
    let hex = image.strip_prefix("sha256:").unwrap();
    fs::rename(merged.join("manifest.json"), merged.join(format!("{hex}.manifest.json"))).unwrap();
    fs::copy(both.ours("index/manifest.json"), merged.join("manifest.json")).unwrap();
    let store = Store::overlay();
    let name = store.reference("example.org/app:1");
    both.run(Whose::Ours, &["copy", "--remove-signatures", "dir:image", &name, &policy]).ok();
    let by_list = store.reference(format!("example.org/app@{digest}"));
    let debians = both.run(Whose::Debians, &["inspect", "--raw", &by_list]).ok();
    assert_eq!(debians.out.as_bytes(), list.manifest);
}

/// sources/org.osbuild.containers-storage, and the stage that copies out of such a store.
#[test]
fn stores() {
    let both = Both::new(images);
    let store = Store::overlay();
    both.run(Whose::Debians, &["copy", "-q", "--insecure-policy", "dir:docker", &store.reference("example.org/app:1")])
        .ok();
    let id = docker_image().config_digest().strip_prefix("sha256:").unwrap().to_owned();
    let shown = both.run(Whose::Ours, &["inspect", "--raw", "--config", &store.reference(&id)]).ok();
    assert_eq!(sha256_hex(&shown.out), id);
    let missing = store.reference("0".repeat(64));
    for phrase in ["identifier is not an image", "does not resolve to an image ID"] {
        both.run(Whose::Ours, &["inspect", "--raw", "--config", &missing]).fails(2, phrase);
    }
    for destination in ["oci:made:app", "oci-archive:made.tar:app", "dir:made-dir"] {
        both.run(
            Whose::Ours,
            &["copy", "--insecure-policy", "--remove-signatures", &store.reference(&id), destination],
        )
        .ok();
    }
    for made in ["oci:made:app", "oci-archive:made.tar:app"] {
        let ours = both.run(Whose::Ours, &["inspect", "--config", made]).ok();
        assert!(ours.out.contains("\"diff_ids\""), "{}", ours.out);
    }
}
