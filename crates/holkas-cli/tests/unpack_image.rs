//! `holkas unpack`: the tree is the one that podman mounts, and after an error there is none.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "unpack_image/cases.rs"]
mod cases;
mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use holkas_testkit::corrupt;
use holkas_testkit::fault::Moments;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder};
use holkas_testkit::oddities::{odd_image, odd_image_uncompressed, odd_layers, pattern};
use holkas_testkit::peers::Store;
use holkas_testkit::registry::Registry;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use tempfile::TempDir;

/// A time that no entry has.
const CLOCK: i64 = 1_234_567_890;

fn unpack(arguments: &[&str]) -> common::Output {
    let mut command = common::holkas();
    command.env("SOURCE_DATE_EPOCH", CLOCK.to_string()).args(["--insecure-policy", "unpack"]).args(arguments);
    common::finish(&mut command)
}

#[track_caller]
fn unpacked(reference: &str, dir: &Path, more: &[&str]) -> Tree {
    let mut arguments = vec![reference, dir.to_str().unwrap()];
    arguments.extend(more);
    let run = unpack(&arguments);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{reference}: {}", run.err);
    Tree::read(dir)
}

/// Copies an image into a store, mounts it, copies the tree out and removes from it what is excluded: what osbuild does.
fn stock(store: &Store, reference: &str, dir: &Path, exclude: &[&str]) -> Tree {
    let name = "localhost/stock:1";
    store.skopeo(["copy", "-q", reference, &store.reference(name)]).ok();
    let mounted = store.podman(["image", "mount", name]).ok();
    std::fs::create_dir(dir).unwrap();
    let copied = Command::new("cp").arg("-a").arg(format!("{mounted}/.")).arg(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&copied.stderr);
    // An overlay lists a whiteout in a directory that only one layer has, and then says that it is not there.
    assert!(errors.lines().all(|line| line.contains("cannot stat")), "{errors}");
    for path in exclude {
        let removed = Command::new("rm").arg("-rf").arg(format!("{}{path}", dir.display())).status().unwrap();
        assert!(removed.success(), "{path}");
    }
    store.podman(["image", "umount", name]).ok();
    store.podman(["rmi", name]).ok();
    Tree::read(dir)
}

/// Holds our tree against podman's: the same, but where podman has the time of its run, and only there, is our clock.
fn differences(ours: &Tree, theirs: &Tree, begun: i64) -> Vec<String> {
    let mut lines = ours.differences(theirs, &Options::new().ignore_mtimes());
    for (path, node) in &ours.nodes {
        let Some(other) = theirs.get(path) else { continue };
        let same = match node.mtime {
            (CLOCK, 0) => other.mtime.0 >= begun,
            time => other.mtime == time,
        };
        if !same {
            let path = path.escape_ascii();
            lines.push(format!("~ {path}: mtime: {:?} -> {:?}, begun {begun}", node.mtime, other.mtime));
        }
    }
    lines
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 - 1
}

fn write(image: &BuiltImage, dir: &Path) -> String {
    let path = dir.join("image");
    image.write_dir(&path);
    format!("dir:{}", path.display())
}

fn image(layers: Vec<Vec<u8>>) -> BuiltImage {
    let compressions = [Compression::Gzip, Compression::Zstd, Compression::None].into_iter().cycle();
    let with = |builder: ImageBuilder, (layer, compression)| builder.layer_with(layer, compression);
    layers.into_iter().zip(compressions).fold(ImageBuilder::oci(), with).build()
}

#[test]
fn the_tree_is_that_of_podman() {
    let store = Store::overlay();
    let (mut all, mut all_lines) = (cases::all(), Vec::new());
    all.push(("the odd image", odd_layers()));
    for (what, layers) in all {
        let (dir, begun) = (TempDir::new().unwrap(), now());
        let reference = write(&image(layers), dir.path());
        let theirs = stock(&store, &reference, &dir.path().join("stock"), &[]);
        let ours = unpacked(&reference, &dir.path().join("ours"), &[]);
        let lines = differences(&ours, &theirs, begun);
        if !lines.is_empty() {
            all_lines.push(format!("{what}:\n{}", lines.join("\n")));
        }
    }
    assert!(all_lines.is_empty(), "ours -> theirs: {}", all_lines.join("\n"));
}

/// What `rm -rf` does to a path whose way leads through an absolute symlink would be done to the host.
#[test]
fn what_is_excluded_is_as_if_it_had_been_removed() {
    let tar = || TarBuilder::new().mtime(1_600_000_000, 0);
    let base = tar()
        .file("usr/share/doc/a/readme", 0o644, "readme")
        .file("usr/share/doc-base", 0o644, "stays")
        .dir("usr/share/man", 0o755)
        .symlink("usr/share/man/de", "../doc")
        .symlink("share", "usr/share")
        .symlink("usr/lib", "./lib64")
        .file("usr/lib64/x/1", 0o644, "1")
        .file("usr/lib64/y/2", 0o644, "2")
        .file("h/1", 0o640, "linked")
        .hard_link("k/2", "h/1")
        .hard_link("h/3", "k/2")
        .file("one", 0o644, "one");
    let top = tar()
        .dir("usr/share/doc", 0o700)
        .file("usr/share/doc/top", 0o644, "top")
        .hard_link("usr/share/kept", "usr/share/doc/top")
        .file("usr/lib64/x/3", 0o644, "3")
        .symlink("one", "usr");
    let (store, dir) = (Store::overlay(), TempDir::new().unwrap());
    let reference = write(&image(vec![base.finish(), top.finish()]), dir.path());
    let excluded =
        ["/usr/share/doc", "/usr//lib/x/.", "/share/man", "/h", "/one", "/none/at/all", "/usr/share/doc-base/x"];
    let begun = now();
    let theirs = stock(
        &store,
        &reference,
        &dir.path().join("stock"),
        &["/usr/share/doc", "/usr/lib/x", "/share/man", "/h", "/one"],
    );
    let more: Vec<String> = excluded.iter().map(|path| format!("--exclude={path}")).collect();
    let ours = unpacked(&reference, &dir.path().join("ours"), &more.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lines = differences(&ours, &theirs, begun);
    // What `rm` removes something from gets the time of that; here it keeps the image's.
    lines.retain(|line| {
        !["usr/share", "usr/lib64", ""].iter().any(|path| line.starts_with(&format!("~ {path}: mtime")))
    });
    assert_eq!(lines, [""; 0]);
    assert!(ours.get("k/2").is_some() && ours.get("usr/share/kept").is_some() && ours.get("one").is_none());
}

#[test]
fn paths_that_cannot_be_excluded_are_told_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    let reference = write(&odd_image(), dir.path());
    let to = dir.path().join("tree");
    for (path, why) in
        [("/usr/../etc", "`..`"), ("usr", "not absolute"), ("/", "the whole image"), ("", "not absolute")]
    {
        let run = unpack(&[&reference, to.to_str().unwrap(), "--exclude", path]);
        assert_eq!(run.code, 1);
        assert!(run.err.contains("reading --exclude") && run.err.contains(why), "{}", run.err);
        assert!(!to.exists());
    }
}

#[test]
fn every_room_gives_the_same_tree() {
    let (store, dir, registry) = (Store::overlay(), TempDir::new().unwrap(), Registry::start());
    let (image, at) = (odd_image(), |name: &str| dir.path().join(name).display().to_string());
    let plain = odd_image_uncompressed();
    image.write_dir(at("dir"));
    image.write_oci(at("oci"), Some("1"));
    image.write_oci_archive(at("oci.tar"), Some("1"));
    plain.write_docker_archive(at("docker.tar"), &["localhost/odd:1"]);
    registry.put_image(&image, "odd", "1");
    store.skopeo(["copy", "-q", &format!("dir:{}", at("dir")), &store.reference("localhost/odd:1")]).ok();
    let expected = unpacked(&format!("dir:{}", at("dir")), &dir.path().join("tree"), &[]);
    for (n, (reference, more)) in [
        (format!("oci:{}:1", at("oci")), &[][..]),
        (format!("oci-archive:{}", at("oci.tar")), &[]),
        (format!("docker-archive:{}", at("docker.tar")), &[]),
        (store.reference("localhost/odd:1"), &[]),
        (registry.reference("odd:1"), &["--tls-verify=false", "--no-cache"]),
    ]
    .iter()
    .enumerate()
    {
        let tree = unpacked(reference, &dir.path().join(n.to_string()), more);
        // All that is known, times included: the clock is the same, too.
        assert_eq!(tree.digest(), expected.digest(), "{reference}: {:?}", tree.differences(&expected, &Options::new()));
    }
}

#[test]
fn the_platform_that_is_wanted_is_unpacked() {
    let dir = TempDir::new().unwrap();
    let of = |architecture: &str| {
        let tar = TarBuilder::new().file("for", 0o644, architecture).finish();
        ImageBuilder::docker().compression(Compression::Gzip).platform(architecture, "linux").layer(tar).build()
    };
    let index = ["amd64", "s390x"].into_iter().fold(IndexBuilder::docker(), |index, name| index.image(&of(name)));
    index.build().write_oci(dir.path().join("oci"), Some("1"));
    let reference = format!("oci:{}:1", dir.path().join("oci").display());
    let to = dir.path().join("tree");
    let run = unpack(&[&reference, to.to_str().unwrap(), "--platform=linux/s390x", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let told: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(std::fs::read_to_string(to.join("for")).unwrap(), "s390x");
    assert_eq!((told["platform"].as_str(), told["layers"].as_u64()), (Some("linux/s390x"), Some(1)));
    let run = unpack(&[&reference, dir.path().join("no").to_str().unwrap(), "--platform=linux/mips"]);
    assert_eq!(run.code, 2, "{}", run.err);
}

/// Names below a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_damaged_layer_leaves_nothing() {
    let layers = || odd_image().layers;
    let mut damaged: Vec<(String, BuiltImage)> = (0..3)
        .map(|n| {
            let mut image = odd_image();
            let middle = image.layers[n].blob.len() / 2;
            image.layers[n].blob[middle] ^= 1;
            (format!("unpacking layer {} of 3", n + 1), image)
        })
        .collect();
    // The blob is right, and is another layer than the config says.
    let other = ImageBuilder::oci().layer_blob(layers()[0].blob.clone(), b"x".to_vec(), &layers()[0].media_type);
    damaged.push(("layer does not match its diff ID".into(), other.build()));
    for (what, image) in damaged {
        let dir = TempDir::new().unwrap();
        let reference = write(&image, dir.path());
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        for to in [&dir.path().join("new"), &empty] {
            let run = unpack(&[&reference, to.to_str().unwrap()]);
            assert_eq!(run.code, 1);
            assert!(run.err.contains(&what), "{what}: {}", run.err);
        }
        assert_eq!(names(dir.path()), ["empty", "image"]);
        assert_eq!(names(&empty), [""; 0]);
    }
}

#[test]
fn a_damaged_blob_of_the_cache_is_fetched_again() {
    let (dir, registry, image) = (TempDir::new().unwrap(), Registry::start(), odd_image());
    registry.put_image(&image, "odd", "1");
    let cache = format!("--cache={}", dir.path().join("cache").display());
    let more = ["--tls-verify=false", &cache];
    let expected = unpacked(&registry.reference("odd:1"), &dir.path().join("1"), &more);
    let hex = &image.layers[1].digest["sha256:".len()..];
    let blob = dir.path().join("cache/blobs/sha256").join(&hex[..2]).join(hex);
    let blob = if blob.exists() { blob } else { find(&dir.path().join("cache"), hex) };
    corrupt::flip_middle(blob);
    let to = dir.path().join("2");
    let run = unpack(&[&registry.reference("odd:1"), to.to_str().unwrap(), more[0], more[1]]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("is fetched again, from another place"), "{}", run.err);
    assert_eq!(Tree::read(&to).digest(), expected.digest());
}

/// Finds the file of a name.
fn find(dir: &Path, name: &str) -> std::path::PathBuf {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == name {
                return path;
            }
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    panic!("no {name}");
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let reference = write(&odd_image(), dir.path());
    let to = dir.path().join("full");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), "mine").unwrap();
    let before = Tree::read(&to);
    let run = unpack(&[&reference, to.to_str().unwrap(), "--json"]);
    assert_eq!(run.code, 1);
    let told: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(told["error"]["kind"], "refused");
    assert!(run.err.contains("`mine` is in it"), "{}", run.err);
    before.assert_same(&Tree::read(&to), &Options::new());
    let run = unpack(&[&reference, to.join("mine").to_str().unwrap()]);
    assert_eq!(run.code, 1, "{}", run.err);
}

#[test]
fn the_policy_is_asked_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    let reference = write(&odd_image(), dir.path());
    let policy = dir.path().join("policy.json");
    std::fs::write(&policy, r#"{"default": [{"type": "reject"}]}"#).unwrap();
    let to = dir.path().join("tree");
    let run = common::run(&["--policy", policy.to_str().unwrap(), "unpack", &reference, to.to_str().unwrap()]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("reject"), "{}", run.err);
    assert!(!to.exists());
    assert_eq!(names(dir.path()), ["image", "policy.json"]);
}

#[test]
fn killed_at_any_moment_it_leaves_no_tree_that_looks_whole() {
    let dir = TempDir::new().unwrap();
    let layer = |n: usize| {
        let tar = TarBuilder::new().file(format!("d{n}/big"), 0o644, pattern((3 << 20) + n));
        (0..200).fold(tar, |tar, m| tar.file(format!("d{}/{m}", m % 7), 0o644, format!("{n}"))).finish()
    };
    let reference = write(&image(vec![layer(0), layer(1), layer(2)]), dir.path());
    let begun = std::time::Instant::now();
    let expected = unpacked(&reference, &dir.path().join("whole"), &[]);
    let mut moments = Moments::within(begun.elapsed());
    let to = dir.path().join("tree");
    let (mut killed, mut partial) = (0, 0);
    for round in 0.. {
        assert!(round < 500, "only {killed} runs were killed before they ended");
        if killed >= 40 {
            break;
        }
        let within = round % 2 == 0;
        if within {
            std::fs::create_dir(&to).unwrap();
        }
        let mut command = common::holkas();
        command.env("SOURCE_DATE_EPOCH", CLOCK.to_string()).args(["--insecure-policy", "unpack", &reference]);
        killed += usize::from(moments.kill(command.arg(&to).stdout(Stdio::null()).stderr(Stdio::null())));
        if to.exists() {
            let found = names(&to);
            let marked = found.iter().any(|name| name.starts_with(".unverified-"));
            partial += usize::from(marked);
            assert!(within || !marked, "{found:?}");
            if marked {
                let run = unpack(&[&reference, to.to_str().unwrap()]);
                assert!(run.code == 1 && run.err.contains("a run that was killed"), "{}", run.err);
            } else if !found.is_empty() {
                // Killed between the removal of the mark in it and setting the root's time, a run leaves that to nobody.
                let options = Options::new().ignore_mtime_of(move |path| within && path.is_empty());
                Tree::read(&to).assert_same(&expected, &options);
            }
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(partial > 0, "no run was killed while it wrote");
    // The next run sweeps what lies beside the place.
    assert_eq!(unpacked(&reference, &to, &[]).digest(), expected.digest());
    assert_eq!(names(dir.path()), ["image", "tree", "whole"]);
}

#[test]
fn no_layer_reaches_out_of_the_tree() {
    let dir = TempDir::new().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "safe").unwrap();
    let before = Tree::read(&outside);
    let tar = TarBuilder::new;
    let out = outside.to_str().unwrap();
    let links = || tar().symlink("s", out).symlink("up", "../../outside").symlink("root", "/");
    let through = |tar: TarBuilder| {
        let tar = tar.file("s/new", 0o644, "new").file("s/victim", 0o600, "lost").dir("up/dir", 0o700);
        tar.whiteout("up/victim2").opaque("root/x").file(format!("root{out}/victim"), 0o600, "lost")
    };
    for layers in [
        // Upper files below a lower symlink, lower files below an upper symlink, and both in one layer.
        vec![links(), through(tar())],
        vec![through(tar()), links()],
        vec![links().dir(&out[1..], 0o755).dir("outside", 0o755), tar().file("other", 0o644, "")],
        vec![tar().file("x", 0o644, ""), links(), tar().whiteout("s/victim").opaque("s").hard_link("up/l", "up/l2")],
    ] {
        let temp = TempDir::new_in(dir.path()).unwrap();
        let reference = write(&image(layers.into_iter().map(TarBuilder::finish).collect()), temp.path());
        let to = temp.path().join("tree");
        let run =
            unpack(&[&reference, to.to_str().unwrap(), "--exclude=/s/victim", "--exclude=/up", "--exclude=/root/s"]);
        assert!(run.code == 0 || run.err.contains("the target is not in the layer"), "{}", run.err);
        before.assert_same(&Tree::read(&outside), &Options::new());
        assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "safe");
    }
}
