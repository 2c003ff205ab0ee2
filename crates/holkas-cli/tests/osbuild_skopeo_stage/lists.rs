//! Manifest lists: which image they name decides, not its platform, and every one of them is kept.

use std::fs;

use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder, hex_of, sha256_digest};
use holkas_testkit::oddities::runnable_image;
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use serde_json::json;

use super::STORE;
use super::scene::{Scene, plain, record, store_options};

const APP: &str = "registry.example.org/team/app";

fn of_platform(architecture: &str, text: &str) -> BuiltImage {
    let layer = TarBuilder::new().file("own", 0o644, text).finish();
    ImageBuilder::docker().architecture(architecture).layer_with(layer, Compression::Gzip).build()
}

#[test]
fn podman_runs_the_image_by_the_digest_of_its_list() {
    let (image, foreign) = (runnable_image(), plain("foreign"));
    let list = IndexBuilder::oci().image(&foreign).image(&image).build();
    let mut scene = Scene::new();
    scene.dir(&image, &format!("{APP}:1"));
    scene.list(&list);
    scene.run(&store_options()).ok();
    let store = scene.store(STORE, "overlay");
    for name in [format!("{APP}:1"), format!("{APP}@{}", image.digest()), format!("{APP}@{}", list.digest())] {
        assert_eq!(store.podman_run([name.as_str(), "/bin/busybox", "cat", "/etc/motd"]).ok(), "hello", "{name}");
    }
}

#[test]
fn the_record_is_what_skopeo_makes_of_the_merged_directory() {
    let image = runnable_image();
    let list = IndexBuilder::oci().image(&image).build();
    let mut scene = Scene::new();
    scene.dir(&image, &format!("{APP}:1"));
    scene.list(&list);
    scene.run(&store_options()).ok();
    let (merged, theirs) = (scene.sandbox.input("merged"), Store::overlay());
    list.write_dir(&merged);
    theirs.skopeo(["copy", &format!("dir:{}", merged.display()), &theirs.reference(format!("{APP}:1"))]).ok();
    assert_eq!(record(&scene.store(STORE, "overlay"), &image.id()), record(&theirs, &image.id()));
}

/// Two images of one list, two entries of one platform, and a platform that is not this machine's.
#[test]
fn images_of_one_list_are_told_apart_by_their_digests() {
    for architectures in [["amd64", "arm64"], ["amd64", "amd64"], ["s390x", "riscv64"]] {
        let images = [of_platform(architectures[0], "first"), of_platform(architectures[1], "second")];
        let list = images.iter().fold(IndexBuilder::docker(), IndexBuilder::image).build();
        for wanted in [&images[..], &images[..1], &images[1..]] {
            let mut scene = Scene::new();
            for (n, image) in wanted.iter().enumerate() {
                scene.dir(image, &format!("{APP}:{n}"));
            }
            scene.list(&list);
            scene.run(&store_options()).ok();
            let store = scene.store(STORE, "overlay");
            for (n, image) in wanted.iter().enumerate() {
                let record = record(&store, &image.id());
                assert_eq!(record["names"], json!([format!("{APP}:{n}")]));
                for digest in [list.digest(), image.digest()] {
                    assert_eq!(record["big-data-digests"][format!("manifest-{digest}")], json!(digest), "{record}");
                }
                assert_eq!(record["big-data-digests"]["manifest"], json!(image.digest()));
            }
        }
    }
}

#[test]
fn an_image_in_two_lists_and_a_list_in_a_list_keep_all() {
    let image = of_platform("amd64", "image");
    let (one, other) = (
        IndexBuilder::docker().image(&image).build(),
        IndexBuilder::docker().image(&of_platform("arm64", "more")).image(&image).build(),
    );
    let outer = IndexBuilder::oci().index(&one).build();
    for lists in [&[&one, &other][..], &[&one, &outer]] {
        let mut scene = Scene::new();
        scene.dir(&image, &format!("{APP}:1"));
        lists.iter().for_each(|list| scene.list(list));
        scene.run(&store_options()).ok();
        let record = record(&scene.store(STORE, "overlay"), &image.id());
        for list in lists {
            let digest = list.digest();
            assert_eq!(record["big-data-digests"][format!("manifest-{digest}")], json!(digest), "{record}");
        }
    }
}

#[test]
fn images_of_archives_and_of_the_hosts_store_keep_their_lists() {
    let (archived, stored) = (plain("archived"), runnable_image());
    let list = IndexBuilder::oci().image(&archived).image(&stored).build();
    let mut scene = Scene::new();
    let input = scene.sandbox.input("images");
    archived.write_oci_archive(input.join("image.tar"), None);
    scene.add("image.tar", "oci-archive", &format!("{APP}:archived"));
    let host = Store::at(input.join("storage"), "overlay");
    let own = IndexBuilder::oci().image(&stored).annotation("a", "b").build();
    let merged = scene.sandbox.input("merged");
    own.write_dir(&merged);
    host.skopeo(["copy", &format!("dir:{}", merged.display()), &host.reference("localhost/of-the-host:1")]).ok();
    host.unmount();
    scene.add_stored(&stored, &format!("{APP}:stored"));
    scene.list(&list);
    scene.run(&store_options()).ok();
    let store = scene.store(STORE, "overlay");
    // The list of the input, and the one that the host's store has with the image.
    for (name, image) in [(list.digest(), &archived), (list.digest(), &stored), (own.digest(), &stored)] {
        let record = record(&store, &image.id());
        assert_eq!(record["big-data-digests"][format!("manifest-{name}")], json!(name), "{record}");
    }
    let by_list = format!("{APP}@{}", own.digest());
    assert_eq!(store.podman_run([by_list.as_str(), "/bin/busybox", "cat", "/etc/motd"]).ok(), "hello");
}

#[test]
fn one_image_under_two_keys_has_the_list_once() {
    let image = plain("twice");
    let list = IndexBuilder::oci().image(&image).build();
    let mut scene = Scene::new();
    scene.dir(&image, &format!("{APP}:1"));
    image.write_dir(scene.sandbox.input("images").join("again"));
    scene.add("again", "dir", &format!("{APP}:2"));
    scene.list(&list);
    scene.run(&store_options()).ok();
    let record = record(&scene.store(STORE, "overlay"), &image.id());
    assert_eq!(record["names"].as_array().unwrap().len(), 2, "{record}");
    assert_eq!(record["big-data-names"].as_array().unwrap().len(), 4, "config, list, and the manifest twice: {record}");
}

#[test]
fn signatures_stay_with_the_instance() {
    let image = plain("signed");
    let list = IndexBuilder::oci().image(&image).build();
    let mut scene = Scene::new();
    let signature = "24 bytes of a signature.";
    image.write_dir_signed(scene.image(&image), &[signature]);
    scene.add(&image.config_digest(), "dir", &format!("{APP}:1"));
    scene.list(&list);
    scene.run(&store_options()).ok();
    let digests = &record(&scene.store(STORE, "overlay"), &image.id())["big-data-digests"];
    assert_eq!(digests[format!("signature-{}", hex_of(&image.digest()))], json!(sha256_digest(signature)));
    assert_eq!(digests.get(format!("signature-{}", hex_of(&list.digest()))), None);
}

#[test]
fn lists_that_name_no_image_or_lie_are_refused() {
    let (image, other) = (plain("image"), plain("other"));
    let unused = IndexBuilder::oci().image(&other).build();
    let run = |change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        scene.dir(&image, &format!("{APP}:1"));
        change(&mut scene);
        let said = scene.run(&store_options()).fails();
        assert_eq!(fs::read_dir(scene.sandbox.tree()).unwrap().count(), 0);
        said
    };
    let said = run(&|scene| scene.list(&unused));
    let sentence = "The following manifest lists specified in the input did not match any of the container images: ";
    assert!(said.contains(&format!("{sentence}{}", unused.digest())), "{said}");
    let said = run(&|scene| {
        scene.list(&unused);
        let path = scene.sandbox.input("manifest-lists").join(unused.digest());
        fs::write(path, IndexBuilder::oci().image(&image).build().manifest).unwrap();
    });
    assert!(said.contains("the file is not what its name says"), "{said}");
    let said = run(&|scene| {
        let mut entry = image.descriptor();
        entry["size"] = json!(7);
        scene.list(&IndexBuilder::oci().entry(entry).build());
    });
    assert!(said.contains("has 7 bytes, but it has"), "{said}");
}
