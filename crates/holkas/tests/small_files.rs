//! Small files are made by several threads; the tree is the one that the order of the tar asks for.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::Path;

use holkas::error::Result;
use holkas::fs::Dir;
use holkas::unpack::{OnDisk, Privilege, Timestamp, UnpackOptions, Unpacked, unpack};
use holkas_testkit::image::ImageBuilder;
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Kind, Options, Tree};

const CLOCK: Timestamp = Timestamp { seconds: 1_234_567_890, nanos: 5 };

fn unpack_into(tar: &[u8], into: &Path) -> Result<Unpacked> {
    unpack(
        &mut &tar[..],
        &Dir::open(into)?,
        &UnpackOptions { on_disk: OnDisk::Overlay, clock: CLOCK, privilege: Privilege::Root },
        None,
    )
}

/// Enough files that several threads are busy with some of them.
fn crowd(mut tar: TarBuilder, dir: &str) -> TarBuilder {
    for n in 0..700_usize {
        let mode = [0o644, 0o755, 0o4755, 0o600, 0o1][n % 5];
        tar = tar.owner([0, 1000][n % 2], [0, 0, 50][n % 3]).mtime(1_600_000_000 + n as i64, 0);
        tar = tar.file(format!("{dir}/{}/{n}", n % 40), mode, format!("{dir} {n}").repeat(n % 50));
    }
    tar.owner(0, 0)
}

/// All that depends on what came before it, each amid many small files.
fn layer() -> Vec<u8> {
    let mut tar = TarBuilder::new().mtime(1_500_000_000, 0).dir("a", 0o755);
    tar = crowd(tar, "a");
    // Links to what has just been added.
    for n in [699, 698, 3] {
        tar = tar.hard_link(format!("link{n}"), format!("a/{}/{n}", n % 40));
    }
    // A directory whose entry comes after its files: its group is not theirs.
    tar = crowd(tar, "late").owner(7, 8).dir("late", 0o2775).dir("late/3", 0o2700).owner(0, 0);
    tar = tar.file("late/3/after", 0o644, "x").file("late/after", 0o644, "y");
    // What stands for something removed, and then comes again; a directory that nobody named becomes a file.
    tar = crowd(tar, "b").whiteout("b/9/again").file("b/9/again", 0o644, "again").whiteout("root");
    tar = tar.file("root", 0o600, "file").file("implied/below", 0o644, "gone").file("implied", 0o640, "a file");
    // One directory by two names.
    tar = crowd(tar, "c").symlink("d", "c").file("d/5/5", 0o444, "by the other name").file("d/5/new", 0o644, "1");
    crowd(tar.file("c/5/newer", 0o400, "direct"), "e").finish_padded(10_240)
}

#[test]
fn the_tree_is_that_of_skopeo() {
    let tar = layer();
    let image = ImageBuilder::oci().layer(tar.clone()).build();
    let layout = tempfile::tempdir().unwrap();
    image.write_oci(layout.path(), Some("1"));
    let store = Store::overlay();
    let source = format!("oci:{}:1", layout.path().display());
    store.skopeo(["copy", "-q", &source, &store.reference("localhost/small:1")]).ok();
    let theirs = Tree::read(store.root.join(format!("overlay/{}/diff", image.layer_ids()[0])));
    for _ in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = unpack_into(&tar, dir.path()).unwrap();
        assert!(unpacked.entries > 3500, "{}", unpacked.entries);
        let ours = Tree::read(dir.path());
        // Not the time of the directory that had its place.
        assert_eq!(ours.at("implied").mtime, theirs.at("implied").mtime);
        let clock: Vec<Vec<u8>> = ours
            .nodes
            .iter()
            .filter(|(_, node)| node.mtime == (CLOCK.seconds, i64::from(CLOCK.nanos)))
            .map(|(path, _)| path.clone())
            .collect();
        let known = Options::new().ignore_mtime_of(move |path| clock.iter().any(|p| p == path));
        // Who made the layer's directory made its root.
        ours.assert_same(&theirs, &known.ignore_path(""));
    }
    assert_eq!(theirs.at("implied").kind, Kind::File);
}

/// Whatever the threads meet first, the message is of the first entry that is wrong.
#[test]
fn the_first_failure_is_told() {
    for _ in 0..20 {
        let long = "n".repeat(256);
        let mut tar = crowd(TarBuilder::new(), "a").file(format!("a/{long}"), 0o644, "1");
        tar = crowd(tar.file(format!("b/{long}2"), 0o644, "2"), "c").symlink("l", "l").file("l/x", 0o644, "");
        let dir = tempfile::tempdir().unwrap();
        let error = unpack_into(&tar.finish(), dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("unpacking `a/nnn") && error.contains("the name is too long"), "{error}");
    }
}

/// A file where a directory is needed is the same error whether the file is made yet or not.
#[test]
fn a_file_is_no_directory() {
    for _ in 0..50 {
        let tar = TarBuilder::new().file("f", 0o644, "1").file("f/x", 0o644, "2").finish();
        let dir = tempfile::tempdir().unwrap();
        let error = unpack_into(&tar, dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("unpacking `f/x`") && error.contains("is not a directory"), "{error}");
    }
}

/// A source that ends too early comes out as what it is.
#[test]
fn a_tar_that_ends_within_a_small_file() {
    let mut tar = crowd(TarBuilder::new(), "a").file("last", 0o644, "x".repeat(2000)).finish_without_end();
    tar.truncate(tar.len() - 1000);
    let dir = tempfile::tempdir().unwrap();
    let error = unpack_into(&tar, dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("unpacking `last`: the tar ends"), "{error}");
}
