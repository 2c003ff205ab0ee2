//! What happens to a store when a run is killed, or the disk is full or fails.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use holkas_testkit::fault::{Moments, copy_tree, failing_filesystem, small_filesystem, small_tmpfs};
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder};
use holkas_testkit::oddities::pattern;
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use tempfile::TempDir;

/// Images as `dir:`, and an `images.toml` for some of them.
struct Images {
    dir: TempDir,
}

impl Images {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn add(&self, name: &str, image: &BuiltImage) {
        image.write_dir(self.dir.path().join(name));
    }

    fn list(&self, file: &str, names: &[&str]) -> PathBuf {
        let path = self.dir.path().join(file);
        let image = |name: &&str| format!("[[image]]\nsource = \"dir:{name}\"\nname = \"example.com/{name}:1\"\n");
        std::fs::write(&path, names.iter().map(image).collect::<String>()).unwrap();
        path
    }
}

fn layer(seed: usize, files: usize) -> Vec<u8> {
    let mut tar = TarBuilder::new();
    for n in 0..files {
        let contents = [format!("{seed} {n}").into_bytes(), pattern(3000 * (n % 7))].concat();
        tar = tar.file(format!("layer{seed}/file{n}"), 0o644, contents);
    }
    tar.whiteout(format!("layer{seed}/gone")).finish()
}

fn image(seeds: &[usize]) -> BuiltImage {
    let built = ImageBuilder::oci().created("2024-02-03T04:05:06Z").compression(Compression::Gzip);
    seeds.iter().fold(built, |built, seed| built.layer(layer(*seed, 150))).build()
}

fn embed(list: &Path, root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holkas"));
    command.args(["embed", "--insecure-policy", "--progress=none"]).arg(list).arg("--root").arg(root);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn succeed(list: &Path, root: &Path) {
    let output = embed(list, root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn store_of(root: &Path) -> PathBuf {
    root.join("var/lib/containers/storage")
}

#[test]
fn kill_at_two_hundred_points() {
    let images = Images::new();
    images.add("old", &image(&[1]));
    images.add("b", &image(&[1, 2, 3]));
    images.add("c", &image(&[1, 2, 4]));
    let (old, new) = (images.list("old.toml", &["old"]), images.list("new.toml", &["b", "c"]));
    let work = TempDir::new().unwrap();
    let baseline = work.path().join("baseline");
    std::fs::create_dir(&baseline).unwrap();
    succeed(&old, &baseline);

    let expected = work.path().join("expected");
    let timed = |n: usize| {
        let root = if n == 0 { expected.clone() } else { work.path().join(format!("timed{n}")) };
        copy_tree(&baseline, &root);
        let begun = Instant::now();
        succeed(&new, &root);
        begun.elapsed()
    };
    let mut moments = Moments::within((0..5).map(timed).min().unwrap());
    let expected = Tree::read(&expected);

    // A run may end before its kill; there are so many rounds that 200 do not.
    let (mut killed, mut round) = (0, 0);
    while killed < 200 {
        round += 1;
        assert!(round <= 600, "only {killed} of 600 runs were killed before they ended");
        let root = work.path().join(format!("round{round}"));
        copy_tree(&baseline, &root);
        killed += usize::from(moments.kill(&mut embed(&new, &root)));
        let records = std::fs::read_to_string(store_of(&root).join("overlay-images/images.json")).unwrap();
        let visible = |name: &str| records.contains(&format!("example.com/{name}:1"));
        assert!(visible("old"), "round {round}: the old image is lost: {records}");
        assert_eq!(visible("b"), visible("c"), "round {round}: a part is visible: {records}");
        // Every fourth time a peer opens the store in between; it must find all of the old.
        let opened = round % 4 == 0;
        if opened {
            let store = Store::at(store_of(&root), "overlay");
            store.skopeo(["inspect", "--raw", &store.reference("example.com/old:1")]).ok();
            if round % 16 == 0 {
                assert!(store.podman(["images"]).ok().contains("example.com/old"));
                store.podman(["save", "-q", "-o", "/dev/null", "example.com/old:1"]).ok();
            }
            store.unmount();
            std::mem::forget(store);
        }
        succeed(&new, &root);
        // A peer leaves files of its own; without one, every byte and every time is as if nothing had happened.
        if opened {
            let found = Tree::read(&root);
            for path in expected.nodes.keys().filter(|path| !path.ends_with(b".lock")) {
                assert!(found.get(path).is_some(), "round {round}: {} is missing", String::from_utf8_lossy(path));
            }
            let litter = |path: &&Vec<u8>| String::from_utf8_lossy(path).contains(".unverified-");
            assert_eq!(found.nodes.keys().find(litter), None, "round {round}");
        } else {
            // Killed between its last removal and setting these two times, a run leaves them to nobody.
            let last = [&b"var/lib/containers/storage/overlay"[..], b"var/lib/containers/storage/overlay-layers"];
            let options = Options::new().ignore_mtime_of(move |path| last.contains(&path));
            Tree::read(&root).assert_same(&expected, &options);
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn a_full_disk_leaves_all_of_the_old() {
    let images = Images::new();
    images.add("old", &image(&[1]));
    images.add(
        "big",
        &ImageBuilder::oci().layer(TarBuilder::new().file("big", 0o644, pattern(30 << 20)).finish()).build(),
    );
    let (old, new) = (images.list("old.toml", &["old"]), images.list("new.toml", &["big"]));
    for disk in [small_filesystem(24 << 20), small_tmpfs(16 << 20)] {
        let root = disk.path().join("root");
        std::fs::create_dir(&root).unwrap();
        succeed(&old, &root);
        let before = Tree::read(&root);
        let output = embed(&new, &root).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
        let after = Tree::read(&root);
        let store = b"var/lib/containers/storage".to_vec();
        after.assert_same(&before, &Options::new().ignore_mtime_of(move |path| path == store));
        succeed(&old, &root);
    }
}

#[test]
fn a_failing_disk_is_told_and_the_old_is_there_once_it_is_replaced() {
    let images = Images::new();
    images.add("old", &image(&[1]));
    images.add(
        "big",
        &ImageBuilder::oci().layer(TarBuilder::new().file("big", 0o644, pattern(40 << 20)).finish()).build(),
    );
    let (old, new) = (images.list("old.toml", &["old"]), images.list("new.toml", &["big"]));
    let disk = failing_filesystem(128 << 20, 24 << 20);
    let root = disk.path().join("root");
    std::fs::create_dir(&root).unwrap();
    succeed(&old, &root);
    let output = embed(&new, &root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    // Which it is depends on whom the kernel asks first: the disk itself is full below its file system.
    let told = ["Input/output error", "Read-only file system", "No space left on device"];
    assert!(told.iter().any(|told| said.contains(told)), "{said}");

    disk.repair();
    let records = store_of(&root).join("overlay-images/images.json");
    let records = || std::fs::read_to_string(&records).unwrap();
    assert!(records().contains("example.com/old:1"), "{}", records());
    assert!(!records().contains("example.com/big:1"), "{}", records());
    succeed(&new, &root);
    let store = Store::at(store_of(&root), "overlay");
    for name in ["old", "big"] {
        store.podman(["save", "-q", "-o", "/dev/null", &format!("example.com/{name}:1")]).ok();
    }
}
