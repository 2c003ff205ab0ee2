//! `copy --referrers`: what belongs to an image goes along, between registries and layouts, and no lie goes with it.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "referrers/lies.rs"]
mod lies;
#[path = "referrers/scene.rs"]
mod scene;

mod common;

use std::fs;
use std::path::Path;

use common::run;
use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{ImageBuilder, OCI_INDEX};
use holkas_testkit::peers::Peer;
use holkas_testkit::registry::Registry;
use scene::{
    Scene, artifact, copied, cosign, image, json, list_tag, old_registry, plain, put, refused, run_copy, subject_of,
};
use serde_json::json;

/// A place that a copy can go to, and come from.
enum Room {
    Registry(Registry),
    Local(String),
}

impl Room {
    fn reference(&self) -> String {
        match self {
            Self::Registry(registry) => registry.reference("to/app:1"),
            Self::Local(reference) => reference.clone(),
        }
    }

    /// One of each kind, all empty.
    fn all(dir: &Path) -> Vec<Self> {
        let local = |transport: &str| Self::Local(format!("{transport}:{}:1", dir.join(transport).display()));
        fs::create_dir_all(dir).unwrap();
        let old = old_registry();
        vec![Self::Registry(Registry::start()), Self::Registry(old), local("oci"), local("oci-archive")]
    }
}

#[test]
fn all_goes_along_through_every_pair_of_rooms() {
    let temp = tempfile::tempdir().unwrap();
    let scene = Scene::new();
    let origin = Registry::start();
    scene.put(&origin, "app");
    let old_origin = old_registry();
    scene.put(&old_origin, "app");
    scene.put_lists(&old_origin, "app");
    for (n, from) in [&origin, &old_origin].into_iter().enumerate() {
        for (first, room) in Room::all(&temp.path().join(format!("{n}"))).iter().enumerate() {
            let said = copied(&["--all", &from.reference("app:1"), &room.reference()]);
            assert_eq!(json(&said)["referrers"], scene.count(), "{said}");
            for (second, next) in Room::all(&temp.path().join(format!("{n}/{first}"))).iter().enumerate() {
                let said = copied(&["--all", &room.reference(), &next.reference()]);
                assert_eq!(json(&said)["referrers"], scene.count(), "{n} {first} {second}");
                let end = Registry::start();
                copied(&["--all", &next.reference(), &end.reference("end:1")]);
                let what = format!("{n} {first} {second}");
                assert_eq!(end.manifests("end"), origin.manifests("app"), "{what}");
                assert_eq!(end.tags("end"), origin.tags("app"), "{what}");
                assert_eq!(end.blobs("end"), origin.blobs("app"), "{what}");
                for tag in origin.tags("app") {
                    assert_eq!(end.digest("end", &tag), origin.digest("app", &tag), "{what} {tag}");
                }
            }
        }
    }
}

#[test]
fn a_registry_without_lists_gets_them_under_tags() {
    let scene = Scene::new();
    let (origin, to) = (Registry::start(), old_registry());
    scene.put(&origin, "app");
    // Somebody else's entry, and a key that we do not know, are there before us.
    let other = artifact(Some(&scene.amd64.descriptor()), "application/x-other", b"other");
    put(&to, "app", &other);
    let mut entry = other.descriptor();
    entry["future"] = json!(1);
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry], "annotations": {"a": "b"}});
    let tag = list_tag(&scene.amd64.digest());
    to.put_manifest("app", &tag, OCI_INDEX, list.to_string().as_bytes());

    copied(&["--all", &origin.reference("app:1"), &to.reference("app:1")]);
    let index = json(&String::from_utf8_lossy(&to.manifest("app", &tag).unwrap().bytes));
    assert_eq!((&index["manifests"][0], &index["annotations"]["a"]), (&entry, &json!("b")));
    let mut sbom = scene.sbom.descriptor();
    sbom["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    sbom["artifactType"] = json!("application/spdx+json");
    assert_eq!(index["manifests"].as_array().unwrap()[1..], [sbom]);
    let index = json(&String::from_utf8_lossy(&to.manifest("app", &list_tag(&scene.sbom.digest())).unwrap().bytes));
    // Without a type of its own, an artifact has that of its config.
    assert_eq!(index["manifests"][0]["artifactType"], "application/vnd.oci.empty.v1+json");

    // A second time, nothing changes.
    let before: Vec<_> = to.tags("app").iter().map(|tag| to.digest("app", tag)).collect();
    to.reset_log();
    copied(&["--all", &origin.reference("app:1"), &to.reference("app:1")]);
    let after: Vec<_> = to.tags("app").iter().map(|tag| to.digest("app", tag)).collect();
    assert_eq!(before, after);
    assert!(to.requests("PUT", &tag).iter().all(|put| !put.path().ends_with(&tag)), "the list is as it was");
    assert!(to.requests("PUT", "/blobs/").is_empty(), "blobs are where they were");
}

#[test]
fn the_image_gets_its_tag_last() {
    let scene = Scene::new();
    let (origin, to) = (Registry::start(), old_registry());
    scene.put(&origin, "app");
    copied(&["--all", &origin.reference("app:1"), &to.reference("app:1")]);
    let puts: Vec<String> =
        to.requests("PUT", "/manifests/").iter().map(|put| put.path().rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(puts.last().unwrap(), "1");
    // What vouches for a referrer is there before it.
    let place = |digest: &str| puts.iter().position(|put| put == digest).unwrap();
    assert!(place(&scene.signature.digest()) < place(&scene.sbom.digest()), "{puts:?}");
    let listed = to.requests("GET", "/manifests/").into_iter().filter(|get| get.path().contains("/sha256-")).count();
    assert_eq!(listed, 3, "each list is read once: of the index, an image and a bill of materials");
}

#[test]
fn layouts_hold_referrers_as_oras_writes_them_and_give_those_of_regclient() {
    let temp = tempfile::tempdir().unwrap();
    let scene = Scene::new();
    let origin = Registry::start();
    scene.put(&origin, "app");
    let dir = temp.path().join("layout");
    let to = format!("oci:{}:1", dir.display());
    copied(&["--all", &origin.reference("app:1"), &to]);
    let bytes = fs::read(dir.join("index.json")).unwrap();
    let index = json(&String::from_utf8_lossy(&bytes));
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1 + scene.count());
    let entry = |digest: &str| entries.iter().find(|entry| entry["digest"] == digest).unwrap();
    assert_eq!(entry(&scene.index.digest())["annotations"]["org.opencontainers.image.ref.name"], "1");
    // Its manifest has an annotation that would have taken the name.
    let mut sbom = scene.sbom.descriptor();
    sbom["artifactType"] = json!("application/spdx+json");
    assert_eq!(*entry(&scene.sbom.digest()), sbom);
    let tag = format!("{}.sig", list_tag(&scene.amd64.digest()));
    assert_eq!(entry(&scene.cosigned.digest())["annotations"]["org.opencontainers.image.ref.name"], tag);

    copied(&["--all", &origin.reference("app:1"), &to]);
    assert_eq!(bytes, fs::read(dir.join("index.json")).unwrap(), "a second time, nothing changes");
    assert_eq!(run(&["inspect", "--raw", &to]).out.as_bytes(), scene.index.manifest);
    Peer::skopeo().run(["copy", "--all", &to, &format!("dir:{}", temp.path().join("dir").display())]).ok();

    // regclient writes the list of a registry without lists as an entry that is named by its tag.
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [scene.sbom.descriptor()]}).to_string();
    let digest = holkas_testkit::image::sha256_digest(list.as_bytes());
    fs::write(dir.join("blobs/sha256").join(&digest[7..]), &list).unwrap();
    let annotation = json!({"org.opencontainers.image.ref.name": list_tag(&scene.amd64.digest())});
    let named = json!({"mediaType": OCI_INDEX, "digest": digest, "size": list.len(), "annotations": annotation});
    let index = json!({"schemaVersion": 2, "manifests": [entry(&scene.index.digest()), named]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    let end = Registry::start();
    let said = copied(&["--platform=linux/amd64", &to, &end.reference("app:1")]);
    assert_eq!(json(&said)["referrers"], 1, "{said}");
    assert!(end.manifests("app").contains(&scene.sbom.digest()));
}

#[test]
fn of_a_list_only_what_was_copied_takes_its_referrers_along() {
    let scene = Scene::new();
    let origin = Registry::start();
    scene.put(&origin, "app");
    for (arguments, count) in [
        // The bill of materials with its two signatures, and cosign's signature.
        (&["--platform=linux/amd64"][..], 4),
        (&["--platform=linux/arm64"], 0),
        // What belongs to the list itself.
        (&["--multi-arch=index-only"], 2),
        (&["--multi-arch=linux/arm64"], 2),
        (&["--all"], scene.count()),
    ] {
        let to = Registry::start();
        if arguments[0].contains("only") || arguments[0].contains("multi") {
            scene.put_images(&to, "to");
        }
        let said = copied(&[arguments, &[&origin.reference("app:1"), &to.reference("to:1")]].concat());
        assert_eq!(json(&said)["referrers"], count, "{arguments:?}: {said}");
    }
    // Without being asked for, nothing goes along.
    let to = Registry::start();
    let said = plain(&["--all", "--json", &origin.reference("app:1"), &to.reference("to:1")]);
    assert_eq!((json(&said.out)["referrers"].clone(), to.tags("to")), (json!(0), vec!["1".to_owned()]));
}

#[test]
fn an_artifact_that_is_copied_alone_is_listed_too() {
    let scene = Scene::new();
    let (origin, to) = (Registry::start(), old_registry());
    scene.put(&origin, "app");
    origin.put_tag("app", "sbom", &scene.sbom.digest());
    let output = plain(&[&origin.reference("app:sbom"), &to.reference("app:sbom")]);
    assert_eq!(output.code, 0, "{}", output.err);
    assert_eq!(to.tags("app"), ["sbom".to_owned(), list_tag(&scene.amd64.digest())]);
}

#[test]
fn an_index_can_belong_to_an_image() {
    let (origin, to) = (Registry::start(), old_registry());
    let image = image("amd64");
    origin.put_image(&image, "app", "1");
    let inside = [artifact(None, "application/x", b"one"), artifact(None, "application/x", b"two")];
    let list = holkas_testkit::image::IndexBuilder::oci()
        .image_with(&inside[0], serde_json::Value::Null, &[])
        .image_with(&inside[1], serde_json::Value::Null, &[])
        .field("subject", image.descriptor())
        .field("artifactType", json!("application/x-set"))
        .build();
    origin.put_index(&list, "app", &list.digest());
    let said = copied(&[&origin.reference("app:1"), &to.reference("app:1")]);
    assert_eq!(json(&said)["referrers"], 1, "{said}");
    for manifest in [list.digest(), inside[0].digest(), inside[1].digest()] {
        assert!(to.manifests("app").contains(&manifest));
    }
    let index = to.manifest("app", &list_tag(&image.digest())).unwrap();
    let index = json(&String::from_utf8_lossy(&index.bytes));
    assert_eq!(index["manifests"][0]["artifactType"], "application/x-set");
}

#[test]
fn rooms_without_a_place_for_them_refuse() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let origin = Registry::start();
    let image = image("amd64");
    origin.put_image(&image, "app", "1");
    image.write_dir(temp.path().join("from"));
    let from = origin.reference("app:1");
    for to in [format!("dir:{}", at("d")), format!("docker-archive:{}:x:1", at("a"))] {
        let said = refused(&[&from, &to], "has no place for what belongs to an image");
        assert!(said.contains("docker://, oci: or oci-archive:"), "{said}");
    }
    refused(&[&format!("dir:{}", at("from")), &format!("oci:{}:1", at("o"))], "has nothing that belongs to an image");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn what_would_change_a_digest_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let to = format!("oci:{}:1", temp.path().join("o").display());
    let origin = Registry::start();
    let image = ImageBuilder::docker().layer(vec![0; 1024]).build();
    origin.put_image(&image, "app", "1");
    put(&origin, "app", &artifact(Some(&image.descriptor()), "application/x", b"x"));
    let from = origin.reference("app:1");
    for flags in [&[][..], &["--format=oci"], &["--allow-changes"]] {
        let arguments = [flags, &[&from, &to]].concat();
        refused(&arguments, "what refers to it would then refer to nothing");
    }
    let said = copied(&["--preserve-digests", &from, &to]);
    assert_eq!((&json(&said)["referrers"], &json(&said)["manifest_digest"]), (&json!(1), &json!(image.digest())));
}

#[test]
fn progress_names_each() {
    let scene = Scene::new();
    let (origin, to) = (Registry::start(), Registry::start());
    scene.put(&origin, "app");
    let arguments = ["--platform=linux/amd64", &origin.reference("app:1"), &to.reference("app:1")];
    let lines = run_copy(&[&["--referrers", "--progress=plain"], &arguments[..]].concat()).err;
    let line = format!("  referrer {} (application/spdx+json)", &scene.sbom.digest()[..19]);
    assert!(lines.lines().any(|said| said == line), "{lines}");
    assert_eq!(lines.matches(": done").count(), 1, "{lines}");
    let lines = run_copy(&[&["--referrers", "--progress=json"], &arguments[..]].concat()).err;
    let events: Vec<_> = lines.lines().map(json).filter(|event| event["event"] == "referrer-finished").collect();
    assert_eq!(events.len(), 4, "{lines}");
    assert!(events.iter().any(|event| event["subject"] == scene.sbom.digest()), "{lines}");
}

#[test]
fn debians_registry_keeps_them_by_tags() {
    let scene = Scene::new();
    let (origin, end) = (Registry::start(), Registry::start());
    scene.put(&origin, "app");
    let debian = DockerRegistry::start();
    let raw = |tag: &str| {
        let reference = debian.reference(&format!("app:{tag}"));
        Peer::skopeo().run(["inspect", "--raw", "--tls-verify=false", &reference]).ok()
    };
    let tag = list_tag(&scene.amd64.digest());
    let mut lists = Vec::new();
    for _ in 0..2 {
        let said = copied(&["--all", &origin.reference("app:1"), &debian.reference("app:1")]);
        assert_eq!(json(&said)["referrers"], scene.count(), "{said}");
        lists.push(raw(&tag));
    }
    assert_eq!(lists[0], lists[1]);
    assert_eq!(raw(&format!("{tag}.sig")).as_bytes(), scene.cosigned.manifest);
    copied(&["--all", &debian.reference("app:1"), &end.reference("app:1")]);
    assert_eq!((end.manifests("app"), end.tags("app")), (origin.manifests("app"), origin.tags("app")));
    assert_eq!(subject_of(&end, "app", &scene.sbom.digest()), scene.amd64.digest());
}

#[test]
fn circles_of_tags_come_to_an_end() {
    let (origin, to) = (Registry::start(), Registry::start());
    let (image, other) = (image("amd64"), cosign(b"payload"));
    origin.put_image(&image, "app", "1");
    put(&origin, "app", &other);
    origin.put_tag("app", &format!("{}.sig", list_tag(&image.digest())), &other.digest());
    origin.put_tag("app", &format!("{}.sig", list_tag(&other.digest())), &image.digest());
    origin.put_tag("app", &format!("{}.att", list_tag(&image.digest())), &image.digest());
    let said = copied(&[&origin.reference("app:1"), &to.reference("app:1")]);
    assert_eq!(json(&said)["referrers"], 3, "{said}");
    assert_eq!(to.tags("app"), origin.tags("app"));
}
