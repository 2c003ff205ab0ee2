//! What several images, and several builds, have in common is fetched once.

use std::collections::BTreeMap;
use std::fs;

use holkas_testkit::image::{BuiltImage, ImageBuilder};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use serde_json::Value;

use crate::scene::{SKOPEO, all_cached, architecture, fetched, host, item, large_app, same_as_skopeo, tar};

/// Returns how often each blob was asked for.
fn blobs(registry: &Registry) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in registry.requests("GET", "/blobs/") {
        let digest = request.path().rsplit('/').next().unwrap().to_owned();
        *counts.entry(digest).or_default() += 1;
    }
    counts
}

fn one_of_many(n: usize) -> BuiltImage {
    let mut builder = ImageBuilder::oci().architecture(architecture());
    for base in 0..4 {
        builder = builder.layer(tar(&format!("base {base}")));
    }
    builder.layer(tar(&format!("application {n}"))).build()
}

#[test]
fn twenty_images_take_each_blob_once_and_the_next_run_none() {
    let (host, registry) = (host(), Registry::start());
    let images: Vec<BuiltImage> = (0..20).map(one_of_many).collect();
    for (n, image) in images.iter().enumerate() {
        registry.put_image(image, &format!("app{n}"), "1");
    }
    let items: Value = images.iter().enumerate().map(|(n, image)| item(&registry, &format!("app{n}"), image)).collect();
    fetched(&host.download(SKOPEO, items.clone()), images.len());
    let counts = blobs(&registry);
    assert_eq!(counts.len(), 4 + 20 + 20, "the shared layers, and a layer and a config of each");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(registry.requests("GET", "/manifests/").len(), 20);
    for (n, image) in images.iter().enumerate().step_by(7) {
        let reference = registry.reference(&format!("app{n}@{}", image.digest()));
        same_as_skopeo(&host, &reference, &image.config_digest());
    }
    registry.reset_log();
    all_cached(&host.download(SKOPEO, items));
    assert!(registry.log().is_empty());
    // Another image on the same base, in a later run.
    let late = one_of_many(20);
    registry.put_image(&late, "late", "1");
    fetched(&host.download(SKOPEO, [item(&registry, "late", &late)].into_iter().collect()), 1);
    let counts = blobs(&registry);
    assert_eq!(counts.len(), 2, "its own layer and config: {counts:?}");
    registry.reset_log();
    same_as_skopeo(&host, &registry.reference(&format!("late@{}", late.digest())), &late.config_digest());
}

#[test]
fn two_builds_at_once_fetch_an_image_once() {
    let (host, registry) = (host(), Registry::start());
    let images = ["first", "second", "third"].map(|text| large_app(text, 1 << 20));
    for (n, image) in images.iter().enumerate() {
        registry.put_image(image, &format!("app{n}"), "1");
    }
    let items: Value = images.iter().enumerate().map(|(n, image)| item(&registry, &format!("app{n}"), image)).collect();
    let builds: Vec<_> = (0..3).map(|_| host.source(SKOPEO)).collect();
    for build in &builds {
        build.send("download", host.download_args(items.clone()), &[]);
    }
    let mut new = 0;
    for build in builds {
        let answer = build.answer().unwrap().0.reply();
        assert_eq!(answer["success"], true, "{answer}");
        new += answer["results"].as_array().unwrap().iter().filter(|one| one["metadata"]["cached"] == false).count();
        assert!(build.close().status.success());
    }
    assert_eq!(new, images.len());
    let counts = blobs(&registry);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(fs::read_dir(host.cache().join("org.osbuild.containers")).unwrap().count(), images.len());
}

#[test]
fn a_killed_build_leaves_a_beginning_to_the_one_that_waits() {
    let (host, registry, image) = (host(), Registry::start(), large_app("killed", 2 << 20));
    registry.put_image(&image, "app", "1");
    let blob = format!("/v2/app/blobs/{}", image.layers[0].digest);
    registry.on(Matcher::get(&blob).nth(1), Fault::Stall(1 << 20));
    let items: Value = [item(&registry, "app", &image)].into_iter().collect();
    let [first, second] = [host.source(SKOPEO), host.source(SKOPEO)];
    first.send("download", host.download_args(items.clone()), &[]);
    wait_until(|| registry.requests("GET", &blob).first().is_some_and(|request| request.sent >= 1 << 20));
    // Its bytes are on their way to the file.
    let work = host.cache().join(format!("org.osbuild.containers/.unverified-{}/new", image.id()));
    wait_until(|| partial(&work) >= 1 << 19);
    second.send("download", host.download_args(items), &[]);
    wait_until(|| second.output().contains("waiting for another process"));
    first.kill();
    fetched(&second.answer().unwrap().0.reply(), 1);
    assert!(second.close().status.success());
    let requests = registry.requests("GET", &blob);
    assert!(requests[1].header("Range").is_some(), "{:?}", requests[1]);
    same_as_skopeo(&host, &registry.reference(&format!("app@{}", image.digest())), &image.config_digest());
}

/// Returns how many bytes of blobs lie below a place of work.
fn partial(work: &std::path::Path) -> u64 {
    let below = |path: &std::path::Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let partials = below(work).flat_map(|staging| below(&staging.join("partials")).collect::<Vec<_>>());
    partials.filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum()
}

#[track_caller]
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it does not come");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
