//! `org.osbuild.skopeo-index`: lists, exactly, and nothing else.

use std::fs;

use holkas_testkit::image::{IndexBuilder, OCI_INDEX, sha256_digest};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use serde_json::{Value, json};

use crate::scene::{all_cached, app, app_for, error_of, fetched, host};

const INDEX: &str = "org.osbuild.skopeo-index";

fn item(registry: &Registry) -> Value {
    json!({"image": {"name": format!("{}/lists", registry.host()), "tls-verify": false}})
}

#[test]
fn lists_are_kept_byte_for_byte_and_no_image_is_fetched() {
    let (host, registry) = (host(), Registry::start());
    let list = IndexBuilder::oci().image(&app_for("x", "amd64")).image(&app_for("x", "arm64"));
    let plain = list.clone().build();
    let text = String::from_utf8(plain.manifest.clone()).unwrap();
    let documents = [
        plain.manifest.clone(),
        IndexBuilder::oci().image(&crate::scene::docker_app("y")).build().manifest,
        // D10: skopeo writes it anew, under another digest.
        list.clone().field("mediaType", json!("")).build().manifest,
        list.without_media_type().build().manifest,
        // D9: osbuild dies of what is not UTF-8.
        text.replacen('{', "{\"annotations\":{\"author\":\"Jos\u{0}\"},", 1)
            .bytes()
            .map(|b| if b == 0 { 0xe9 } else { b })
            .collect(),
        [b" \r\n", &plain.manifest[..], b"\n"].concat(),
    ];
    let mut items = serde_json::Map::new();
    for document in &documents {
        registry.put_manifest("lists", &sha256_digest(document), OCI_INDEX, document);
        items.insert(sha256_digest(document), item(&registry));
    }
    fetched(&host.download(INDEX, items.clone().into()), documents.len());
    for document in &documents {
        let path = host.cache().join("org.osbuild.files").join(sha256_digest(document));
        assert_eq!(fs::read(path).unwrap(), *document);
    }
    assert_eq!(registry.requests("GET", "/manifests/").len(), documents.len(), "one request each");
    assert!(registry.requests("GET", "/blobs/").is_empty());
    registry.reset_log();
    all_cached(&host.download(INDEX, items.clone().into()));
    assert!(registry.log().is_empty());
    // Another document in a list's place is not the list.
    fs::write(host.cache().join("org.osbuild.files").join(sha256_digest(&documents[0])), "x").unwrap();
    let answer = host.download(INDEX, items.into());
    assert_eq!(answer["results"][0]["metadata"]["cached"], false);
    assert_eq!(registry.requests("GET", "/manifests/").len(), 1);
}

#[test]
fn what_is_no_list_is_said_to_be_none() {
    let (host, registry, image) = (host(), Registry::start(), app("single"));
    registry.put_image(&image, "lists", "1");
    let list = IndexBuilder::oci().image(&image).build();
    registry.put_index(&list, "lists", "2");
    registry.on(Matcher::get(&format!("/v2/lists/manifests/{}", list.digest())), Fault::Body(image.manifest.clone()));
    let absent = sha256_digest("absent");
    let mut items = serde_json::Map::new();
    for key in [image.digest(), list.digest(), absent.clone(), "sha256:..".to_owned()] {
        items.insert(key, item(&registry));
    }
    let answer = host.download(INDEX, items.into());
    let name = format!("{}/lists", registry.host());
    let said = |n: usize, text: &str| assert!(error_of(&answer, n).contains(text), "{text}: {answer:#}");
    said(0, &format!("{name}@{} is not a manifest-list", image.digest()));
    said(1, &format!("Downloaded manifest-list {name}@{} has a checksum", list.digest()));
    said(1, &format!("but expected {}", list.digest()));
    said(1, &image.digest());
    said(2, &absent);
    said(3, "is not `sha256:` and 64 hex digits");
    assert!(registry.requests("GET", "/blobs/").is_empty(), "no image was fetched");
    assert_eq!(fs::read_dir(host.cache().join("org.osbuild.files")).unwrap().count(), 0);
}
