//! `holkas sync` between registries and directories, beside skopeo's, and what it asks registries for.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{Output, holkas, run};
use holkas_testkit::image::{BuiltImage, BuiltIndex, Compression, ImageBuilder, IndexBuilder, hex_of, sha256_digest};
use holkas_testkit::peers::Peer;
use holkas_testkit::registry::{Auth, Fault, Matcher, Registry};
use holkas_testkit::tar::TarBuilder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn sync(from: &str, to: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
    let mut command = holkas();
    command.args(["sync", "--insecure-policy", "--no-cache", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    common::finish(command.args(["--src", from, "--dest", to]).args(arguments))
}

#[track_caller]
fn ok(output: Output) -> Output {
    assert_eq!(output.code, 0, "{}", output.err);
    output
}

fn layer(text: &str) -> Vec<u8> {
    TarBuilder::new().file("file", 0o644, text.repeat(100)).finish()
}

/// Compressed, because skopeo pushes no layers that are not.
fn gzipped() -> ImageBuilder {
    ImageBuilder::oci().compression(Compression::Gzip)
}

fn image(text: &str) -> BuiltImage {
    gzipped().layer(layer("shared")).layer(layer(text)).label("x", text).build()
}

fn list(text: &str) -> BuiltIndex {
    let one = |architecture| gzipped().architecture(architecture).layer(layer(text)).label("x", text).build();
    IndexBuilder::oci().image(&one("amd64")).image(&one("arm64")).build()
}

/// Returns all files below a directory with their bytes.
fn files(base: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![base.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(base).unwrap().display().to_string();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// Returns the names of the images below a directory, sorted.
fn images(base: &Path) -> Vec<String> {
    files(base).keys().filter_map(|name| Some(name.strip_suffix("/manifest.json")?.to_string())).collect()
}

/// A registry with two repositories: single images of two tags, and a list.
fn filled() -> Registry {
    let registry = Registry::start();
    registry.put_image(&image("one"), "team/app", "1");
    registry.put_image(&image("two"), "team/app", "2");
    registry.put_index(&list("list"), "team/deep/tool", "v1");
    registry
}

/// Returns the requests but the first, which asks whether there is a registry.
fn asked(registry: &Registry) -> Vec<String> {
    registry
        .log()
        .iter()
        .map(|one| format!("{} {}", one.method, one.target))
        .filter(|line| line != "GET /v2/")
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn directories_are_the_same_as_skopeos() {
    let registry = filled();
    let digest = registry.digest("team/app", "1").unwrap();
    let host = registry.host();
    let yaml = format!(
        "{host}:\n  tls-verify: false\n  images:\n    team/app: ['2', '{digest}']\n  images-by-tag-regex:\n    team/deep/tool: ^v\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sync.yaml");
    fs::write(&file, yaml).unwrap();
    let app = format!("{host}/team/app");
    let tool = format!("{host}/team/deep/tool:v1");
    let by_digest = format!("{host}/team/app@{digest}");
    let cases: &[(&str, &str, &[&str])] = &[
        ("docker", &app, &[]),
        ("docker", &app, &["--scoped"]),
        ("docker", &app, &["--all", "--append-suffix=-new"]),
        ("docker", &tool, &["--all", "--scoped"]),
        ("docker", &tool, &[]),
        ("docker", &by_digest, &[]),
        ("docker", &by_digest, &["--scoped"]),
        ("yaml", text(&file), &["--all"]),
        ("yaml", text(&file), &["--scoped", "--all"]),
    ];
    for (n, (kind, source, flags)) in cases.iter().enumerate() {
        let (ours, theirs) = (dir.path().join(format!("ours{n}")), dir.path().join(format!("theirs{n}")));
        // Debian's skopeo has no --append-suffix yet.
        let skopeo = !flags.iter().any(|flag| flag.starts_with("--append"));
        ok(sync(kind, "dir", &[flags, &[*source, text(&ours)][..]].concat()));
        let names = images(&ours);
        assert!(!names.is_empty());
        if skopeo {
            let fixed = ["sync", "--src-tls-verify=false", "--src", kind, "--dest", "dir"];
            Peer::skopeo().run([&fixed[..], flags, &[*source, text(&theirs)]].concat()).ok();
            assert_eq!(names, images(&theirs), "{kind} {source} {flags:?}");
            assert!(files(&ours) == files(&theirs), "{kind} {source} {flags:?}");
        } else {
            assert_eq!(names, ["app:1-new", "app:2-new"]);
        }
    }
}

#[test]
fn registries_get_the_same_names_as_from_skopeo() {
    let from = filled();
    let dir = tempfile::tempdir().unwrap();
    ok(sync("docker", "dir", &["--scoped", &format!("{}/team/app", from.host()), text(dir.path())]));
    ok(sync("docker", "dir", &["--scoped", "--all", &format!("{}/team/deep/tool", from.host()), text(dir.path())]));
    let source = format!("{}/team/app", from.host());
    // A host with a port is no part of a name below another host, for skopeo as for us.
    fs::rename(dir.path().join(from.host()), dir.path().join("registry.example")).unwrap();
    let one = dir.path().join("registry.example/team/app:1");
    let cases: &[(&str, &str, &[&str])] = &[
        ("docker", &source, &[]),
        ("docker", &source, &["--scoped"]),
        ("dir", text(dir.path()), &["--all"]),
        ("dir", text(dir.path()), &["--all", "--scoped"]),
        ("dir", text(&one), &["--scoped"]),
    ];
    let contents = |registry: &Registry| -> Vec<(String, String, Option<String>)> {
        let repositories = registry.repositories();
        let all = repositories.iter().flat_map(|repository| {
            let tags = registry.tags(repository).into_iter();
            tags.map(|tag| (repository.clone(), tag.clone(), registry.digest(repository, &tag)))
        });
        all.collect()
    };
    for (kind, source, flags) in cases {
        let (ours, theirs) = (Registry::start(), Registry::start());
        let ours_at = format!("{}/mirror", ours.host());
        let theirs_at = format!("{}/mirror", theirs.host());
        let output = sync(kind, "docker", &[flags, &[*source, &ours_at][..]].concat());
        let fixed = ["sync", "--src-tls-verify=false", "--dest-tls-verify=false", "--src", kind, "--dest", "docker"];
        let skopeo = Peer::skopeo().run([&fixed[..], flags, &[source, &theirs_at]].concat());
        if *kind == "docker" && flags.contains(&"--scoped") {
            assert_eq!(output.code, 1, "{}", output.err);
            skopeo.fails();
            continue;
        }
        ok(output);
        skopeo.ok();
        assert_eq!(contents(&ours), contents(&theirs), "{kind} {source} {flags:?}");
        assert!(!contents(&ours).is_empty());
    }
}

#[test]
fn unchanged_images_cost_one_request_each() {
    let from = filled();
    let source = format!("{}/team/app", from.host());
    let list = format!("{}/team/deep/tool", from.host());
    let dir = tempfile::tempdir().unwrap();
    let cases: [&[&str]; 4] =
        [&[], &["--all"], &["--multi-arch=linux/amd64"], &["--multi-arch=linux/arm64,linux/amd64"]];
    for (n, flags) in cases.into_iter().enumerate() {
        let to = Registry::start();
        let out = dir.path().join(n.to_string());
        for (source, images) in [(&source, 2), (&list, 1)] {
            for (kind, target) in [("dir", text(&out)), ("docker", to.host())] {
                // A registry that insists on whole lists takes no other.
                if kind == "docker" && images == 1 && flags == ["--multi-arch=linux/amd64"] {
                    continue;
                }
                let again = || sync("docker", kind, &[flags, &["--json", source.as_str(), target][..]].concat());
                let first: Value = serde_json::from_str(&ok(again()).out).unwrap();
                from.reset_log();
                to.reset_log();
                let before = files(dir.path());
                let output = ok(again());
                assert!(output.err.contains("Skipping: image already present at destination"), "{}", output.err);
                assert!(output.err.ends_with(&format!("Synced {images} images from 1 sources\n")), "{}", output.err);
                let asked = asked(&from);
                assert_eq!(asked.len(), 1 + images, "{flags:?}: {asked:?}");
                let method = if flags == ["--all"] { "HEAD" } else { "GET" };
                let manifests = asked.iter().filter(|line| line.starts_with(&format!("{method} /v2/team/")));
                assert_eq!(manifests.filter(|line| line.contains("/manifests/")).count(), images, "{asked:?}");
                let heads = to
                    .log()
                    .iter()
                    .filter(|one| one.path() != "/v2/")
                    .map(|one| one.method.clone())
                    .collect::<Vec<_>>();
                // Where platforms are named, their images are asked for, too.
                let instances = if images == 1 && flags.iter().any(|flag| flag.contains(',')) { 2 } else { 0 };
                assert_eq!(heads, vec!["HEAD"; if kind == "docker" { images + instances } else { 0 }]);
                assert!(before == files(dir.path()), "nothing changes");
                let second: Value = serde_json::from_str(&output.out).unwrap();
                for (first, second) in first.as_array().unwrap().iter().zip(second.as_array().unwrap()) {
                    assert_eq!((&first["state"], &second["state"]), (&"copied".into(), &"present".into()));
                    assert_eq!(first["digest"], second["digest"]);
                }
            }
        }
    }
}

#[test]
fn a_list_that_lacks_images_is_completed() {
    let registry = filled();
    let source = format!("{}/team/deep/tool:v1", registry.host());
    let dir = tempfile::tempdir().unwrap();
    let run = |flag: &str| ok(sync("docker", "dir", &[flag, &source, text(dir.path())])).err.contains("Skipping");
    assert!(!run("--multi-arch=linux/amd64"));
    assert!(run("--multi-arch=linux/amd64"));
    assert!(!run("--multi-arch=linux/arm64"));
    assert!(!run("--all"));
    assert!(run("--all"));
    // A list with all images has those that are wanted.
    assert!(run("--multi-arch=linux/amd64"));
}

#[test]
fn an_image_that_has_changed_replaces_the_old_one() {
    let registry = filled();
    let source = format!("{}/team/app", registry.host());
    let dir = tempfile::tempdir().unwrap();
    ok(sync("docker", "dir", &[&source, text(dir.path())]));
    let new = image("new");
    registry.put_image(&new, "team/app", "1");
    registry.reset_log();
    let output = ok(sync("docker", "dir", &["--json", &source, text(dir.path())]));
    let states: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&"copied".into(), &"present".into()));
    assert_eq!(fs::read(dir.path().join("app:1/manifest.json")).unwrap(), new.manifest);
    assert!(!dir.path().join("app:1").join(hex_of(&sha256_digest(&image("one").layers[1].blob))).exists());
    // What is no image is not replaced.
    let foreign = dir.path().join("x/app:1");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("letter"), "x").unwrap();
    let output = sync("docker", "dir", &[&source, text(&dir.path().join("x"))]);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("don't want to overwrite important data"), "{}", output.err);
    assert!(foreign.join("letter").exists());
}

#[test]
fn each_blob_travels_once() {
    let (from, to) = (Registry::start(), Registry::start());
    let shared: Vec<Vec<u8>> = (0..3).map(|n| layer(&format!("shared {n}"))).collect();
    let mut yaml = format!("{}:\n  images:\n", from.host());
    for repository in 0..3 {
        yaml += &format!("    team/app{repository}: []\n");
        for tag in 0..10 {
            let text = format!("{repository} {tag}");
            let base = shared.iter().fold(ImageBuilder::oci(), |image, layer| image.layer(layer.clone()));
            let built = base.layer(layer(&text)).label("x", &text).build();
            from.put_image(&built, &format!("team/app{repository}"), &tag.to_string());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.yaml");
    fs::write(&file, yaml).unwrap();
    let output = ok(sync("yaml", "docker", &["--jobs=8", text(&file), &format!("{}/x", to.host())]));
    assert!(output.err.ends_with("Synced 30 images from 3 sources\n"), "{}", output.err);
    for repository in 0..3 {
        for tag in 0..10 {
            let tag = tag.to_string();
            let copied = to.digest(&format!("x/app{repository}"), &tag);
            assert_eq!(copied, from.digest(&format!("team/app{repository}"), &tag));
            assert!(copied.is_some());
        }
    }
    let mut requests = BTreeMap::new();
    for one in from.requests("GET", "/blobs/") {
        let digest = one.path().rsplit('/').next().unwrap().to_string();
        *requests.entry(digest).or_insert(0) += 1;
    }
    // Three layers that all have, and a layer and a config of each.
    assert_eq!(requests.len(), 3 + 30 + 30);
    assert!(requests.values().all(|times| *times == 1), "{requests:?}");
    let sent: u64 =
        to.requests("PUT", "/blobs/").iter().chain(&to.requests("PATCH", "/blobs/")).map(|one| one.received).sum();
    let blobs: u64 = from.requests("GET", "/blobs/").iter().map(|one| one.sent).sum();
    assert_eq!(sent, blobs);
}

#[test]
fn a_dry_run_changes_nothing() {
    let (from, to) = (filled(), Registry::start());
    let source = format!("{}/team/app", from.host());
    let dir = tempfile::tempdir().unwrap();
    let digests = dir.path().join("digests");
    for (kind, target) in [("dir", text(&dir.path().join("out"))), ("docker", to.host())] {
        let digestfile = format!("--digestfile={}", text(&digests));
        let output = ok(sync("docker", kind, &["--dry-run", "--json", "--jobs=1", &digestfile, &source, target]));
        let shown = if kind == "dir" { format!("dir:{target}") } else { format!("docker://{target}") };
        let expected = format!(
            "Would have copied image ref 1/2: docker://{source}:1 to {shown}/app:1\n\
             Would have copied image ref 2/2: docker://{source}:2 to {shown}/app:2\n\
             Would have synced 2 images from 1 sources\n"
        );
        assert_eq!(output.err, expected);
        let result: Value = serde_json::from_str(&output.out).unwrap();
        let first = serde_json::json!({
            "source": format!("docker://{source}:1"), "destination": format!("{shown}/app:1"),
            "digest": null, "state": "would-copy", "error": null,
        });
        assert_eq!((result.as_array().unwrap().len(), &result[0]), (2, &first));
    }
    assert!(to.log().is_empty() && asked(&from).iter().all(|line| line.contains("/tags/list")));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_first_error_stops_or_all_are_told() {
    let registry = filled();
    let broken = registry.digest("team/app", "1").unwrap();
    registry.on(Matcher::get("/v2/team/app/manifests/1"), Fault::status(404));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.yaml");
    let host = registry.host();
    let yaml = format!(
        "{host}:\n  images:\n    team/gone: []\n    team/app: [1, 2, none, '{broken}']\n    team/deep/tool: [v1]\n"
    );
    fs::write(&file, yaml).unwrap();
    let (out, digests) = (dir.path().join("out"), dir.path().join("digests"));
    let digestfile = format!("--digestfile={}", text(&digests));
    let output = sync("yaml", "dir", &["--json", "--keep-going", &digestfile, text(&file), text(&out)]);
    assert_eq!(output.code, 1, "{}", output.err);
    for part in ["gone", "app:1", "app:none"] {
        assert!(
            output.err.contains(&format!("Error copying ref \"docker://{host}/team/{part}\": ")),
            "{part}: {}",
            output.err
        );
    }
    assert!(
        output.err.contains("Sync failed due to previous reported error(s) for one or more images"),
        "{}",
        output.err
    );
    assert!(output.err.contains("Synced 3 images from 2 sources"), "{}", output.err);
    assert_eq!(images(&out), ["app:2".to_string(), format!("app@{broken}"), "tool:v1".to_string()]);
    let result: Value = serde_json::from_str(&output.out).unwrap();
    let states: Vec<_> = result.as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "failed", "copied", "failed", "copied", "copied"]);
    assert!(result[0]["destination"].is_null() && result[1]["error"].as_str().unwrap().contains("404"), "{result}");
    let lines = fs::read_to_string(&digests).unwrap();
    let expected = format!("{} dir:{}/app:2", registry.digest("team/app", "2").unwrap(), text(&out));
    assert_eq!((lines.lines().count(), lines.lines().next()), (3, Some(expected.as_str())));

    // Without it, nothing is begun after the error.
    fs::write(&file, format!("{host}:\n  images:\n    team/app: [none, 2]\n")).unwrap();
    let out = dir.path().join("stopped");
    let output = sync("yaml", "dir", &["--jobs=1", text(&file), text(&out)]);
    assert_eq!(output.code, 2, "{}", output.err);
    assert!(output.err.contains(&format!("error: syncing docker://{host}/team/app:none\n")), "{}", output.err);
    assert!(!out.join("app:2").exists());
}

#[test]
fn an_interrupted_run_ends_at_once() {
    let registry = filled();
    registry.on(Matcher::get("/v2/team/app/blobs/*"), Fault::Stall(10));
    let dir = tempfile::tempdir().unwrap();
    for flags in [&[][..], &["--keep-going"]] {
        registry.reset_log();
        let mut command = holkas();
        command.args(["sync", "--insecure-policy", "--no-cache", "--src-tls-verify=false", "--idle-timeout=1h"]);
        command.args(["--src=docker", "--dest=dir"]).args(flags);
        command.args([&format!("{}/team/app", registry.host()), text(dir.path())]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        while registry.requests("GET", "/blobs/").len() < 2 {
            std::thread::yield_now();
        }
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{told}");
        assert!(!told.contains("Error copying ref"), "{told}");
        assert!(images(dir.path()).is_empty());
    }
}

#[test]
fn each_registry_of_a_file_has_its_own_credentials() {
    let (one, other, to) = (filled(), filled(), Registry::start());
    one.set_auth(Auth::basic("reader", "first"));
    other.set_auth(Auth::basic("writer", "second"));
    let of = |registry: &Registry, user: &str, password: &str, tag: u8| {
        let host = registry.host();
        format!(
            "{host}:\n  images: {{team/app: [{tag}]}}\n  tls-verify: false\n  \
             credentials: {{username: {user}, password: {password}}}\n"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.yaml");
    fs::write(&file, of(&one, "reader", "first", 1) + &of(&other, "writer", "second", 2)).unwrap();
    let mut command = holkas();
    command.args(["sync", "--insecure-policy", "--no-cache", "--src=yaml", "--dest=docker", "--dest-tls-verify=false"]);
    ok(common::finish(command.args([text(&file), to.host()])));
    assert_eq!(to.tags("app"), ["1", "2"]);
    let output = sync("yaml", "docker", &["-f", "v2s2", text(&file), &format!("{}/converted", to.host())]);
    assert_eq!(output.code, 0, "{}", output.err);
    assert!(to.manifest("converted/app", "1").unwrap().media_type.contains("docker"));
}

#[test]
fn what_cannot_be_synced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = sync("dir", "dir", &[text(dir.path()), "/nonexistent/out"]);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("consider using rsync instead"), "{}", output.err);
    let output =
        run(&["sync", "--insecure-policy", "-s", "yaml", "-d", "dir", "/nonexistent/f.yaml", "/nonexistent/out"]);
    assert_eq!((output.code, output.err.contains("`/nonexistent/f.yaml`")), (1, true), "{}", output.err);
}

#[test]
fn directories_share_the_blobs_that_their_images_share() {
    use std::os::unix::fs::MetadataExt;
    let registry = Registry::start();
    let base = TarBuilder::new().file("base", 0o644, "base".repeat(100_000)).finish();
    for tag in ["1", "2", "3"] {
        let own = TarBuilder::new().file("own", 0o644, tag).finish();
        registry.put_image(&ImageBuilder::oci().layer(base.clone()).layer(own).build(), "app", tag);
    }
    let dir = tempfile::tempdir().unwrap();
    ok(sync("docker", "dir", &[&format!("{}/app", registry.host()), text(dir.path())]));
    let shared = ImageBuilder::oci().layer(base).build().layers[0].digest[7..].to_string();
    let inodes: std::collections::BTreeSet<_> = ["1", "2", "3"]
        .map(|tag| fs::metadata(dir.path().join(format!("app:{tag}")).join(&shared)).unwrap().ino())
        .into();
    assert_eq!(inodes.len(), 1);
    // Another image in the place of one leaves the others as they are.
    registry.put_image(&ImageBuilder::oci().layer(b"".to_vec()).build(), "app", "2");
    ok(sync("docker", "dir", &[&format!("{}/app", registry.host()), text(dir.path())]));
    assert!(!dir.path().join("app:2").join(&shared).exists());
    let bytes = fs::read(dir.path().join("app:1").join(&shared)).unwrap();
    assert_eq!(holkas_testkit::image::sha256_hex(bytes), shared);
}
