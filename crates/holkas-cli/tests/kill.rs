//! Copies into the rooms beside the store, and deletions, killed at any moment: the old is whole, and the next run ends it.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use holkas_testkit::fault::{Moments, copy_tree};
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder};
use holkas_testkit::oddities::pattern;
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use tempfile::TempDir;

/// So many runs of each kind are killed before their end.
const KILLS: usize = 50;

fn image(seed: &str) -> BuiltImage {
    let layer = |n: usize| {
        let name = format!("{seed}{n}");
        TarBuilder::new().file(&name, 0o644, [name.as_bytes(), &pattern(2 << 20)].concat()).finish()
    };
    ImageBuilder::docker().compression(Compression::Gzip).layer(layer(0)).layer(layer(1)).build()
}

/// What is killed, and what must hold.
struct Case<'c> {
    /// What is there before; every run has a copy of its own.
    before: &'c Path,
    /// The arguments of the run, on such a copy.
    arguments: &'c dyn Fn(&Path) -> Vec<String>,
    /// Looks at a copy after the kill.
    holds: &'c dyn Fn(&Path),
    /// Exit codes that the run after the kill may have: it may find that all is done.
    codes: &'c [i32],
    /// Looks at a copy after that run, beside the tree of an undisturbed one.
    ends: &'c dyn Fn(&Path, &Tree),
}

fn as_if_nothing_had_happened(root: &Path, expected: &Tree) {
    Tree::read(root).assert_same(expected, &Options::new().ignore_mtimes());
}

/// Kills the run at random moments, and has it end by a run that is not killed.
fn kill(case: &Case<'_>) {
    let work = TempDir::new().unwrap();
    let whole = |n: usize| {
        let root = work.path().join(format!("whole{n}"));
        copy_tree(case.before, &root);
        let begun = Instant::now();
        let run = common::run(&(case.arguments)(&root));
        assert_eq!(run.code, 0, "{}", run.err);
        begun.elapsed()
    };
    let mut moments = Moments::within((0..5).map(whole).min().unwrap());
    let expected = Tree::read(work.path().join("whole0"));
    let (mut killed, mut round) = (0, 0);
    while killed < KILLS {
        round += 1;
        assert!(round <= 10 * KILLS, "only {killed} of {round} runs were killed before they ended");
        let root = work.path().join(format!("round{round}"));
        copy_tree(case.before, &root);
        let mut command = common::holkas();
        command.args((case.arguments)(&root)).stdout(Stdio::null()).stderr(Stdio::null());
        killed += usize::from(moments.kill(&mut command));
        (case.holds)(&root);
        let run = common::run(&(case.arguments)(&root));
        assert!(case.codes.contains(&run.code), "round {round}: {}", run.err);
        (case.ends)(&root, &expected);
        std::fs::remove_dir_all(&root).unwrap();
    }
}

/// Writes two images as `dir:` and returns their references.
fn sources(dir: &Path) -> [String; 2] {
    ["old", "new"].map(|name| {
        image(name).write_dir(dir.join(name));
        format!("dir:{}", dir.join(name).display())
    })
}

fn copy(arguments: [&str; 2]) -> Vec<String> {
    let mut all: Vec<String> = ["--insecure-policy", "copy", "-q", "--preserve-digests"].map(str::to_owned).to_vec();
    all.extend(arguments.map(str::to_owned));
    all
}

type Reference<'r> = &'r dyn Fn(&Path) -> String;

/// Copies images to where they are before a run, and returns that directory.
fn before(dir: &Path, images: &[(&str, Reference<'_>)]) -> PathBuf {
    let before = dir.join("before");
    std::fs::create_dir(&before).unwrap();
    for (source, reference) in images {
        let run = common::run(&copy([source, &reference(&before)]));
        assert_eq!(run.code, 0, "{}", run.err);
    }
    before
}

/// Has every byte of an image read and verified.
fn read_whole(reference: &str) {
    let dir = TempDir::new().unwrap();
    let to = format!("dir:{}", dir.path().join("copy").display());
    let run = common::run(&["--insecure-policy", "copy", "-q", "--allow-changes", reference, &to]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{reference}: {}", run.err);
}

#[test]
fn a_layout_keeps_its_images() {
    let dir = TempDir::new().unwrap();
    let [old, new] = sources(dir.path());
    let reference = |root: &Path, tag: &str| format!("oci:{}/layout:{tag}", root.display());
    let before = before(dir.path(), &[(&old, &|root| reference(root, "1"))]);
    kill(&Case {
        before: &before,
        arguments: &|root| copy([&new, &reference(root, "2")]),
        holds: &|root| read_whole(&reference(root, "1")),
        codes: &[0],
        ends: &as_if_nothing_had_happened,
    });
}

#[test]
fn a_new_directory_is_whole_or_not_there() {
    let dir = TempDir::new().unwrap();
    let [old, new] = sources(dir.path());
    let reference = |root: &Path, name: &str| format!("dir:{}/{name}", root.display());
    let before = before(dir.path(), &[(&old, &|root| reference(root, "old"))]);
    kill(&Case {
        before: &before,
        arguments: &|root| copy([&new, &reference(root, "new")]),
        holds: &|root| {
            read_whole(&reference(root, "old"));
            if root.join("new").exists() {
                read_whole(&reference(root, "new"));
            }
        },
        codes: &[0],
        ends: &as_if_nothing_had_happened,
    });
}

#[test]
fn a_new_archive_is_whole_or_not_there() {
    for transport in ["oci-archive", "docker-archive"] {
        let dir = TempDir::new().unwrap();
        let [old, new] = sources(dir.path());
        let reference = |root: &Path, name: &str| format!("{transport}:{}/{name}.tar", root.display());
        // The one image of an archive is read without its name.
        let named = |root: &Path, name: &str| format!("{}:localhost/app:1", reference(root, name));
        let before = before(dir.path(), &[(&old, &|root| named(root, "old"))]);
        kill(&Case {
            before: &before,
            arguments: &|root| copy([&new, &named(root, "new")]),
            holds: &|root| {
                read_whole(&reference(root, "old"));
                if root.join("new.tar").exists() {
                    read_whole(&reference(root, "new"));
                }
            },
            // docker-archive refuses one that is there already: then the killed run had done all but cleaning up.
            codes: &[0, 1],
            ends: &|root, expected| {
                // The next writer beside it does that.
                let run = common::run(&copy([&old, &named(root, "another")]));
                assert_eq!(run.code, 0, "{}", run.err);
                std::fs::remove_file(root.join("another.tar")).unwrap();
                as_if_nothing_had_happened(root, expected);
            },
        });
    }
}

#[test]
fn a_deletion_from_a_store_takes_one_image_and_no_other() {
    let dir = TempDir::new().unwrap();
    let sources = sources(dir.path());
    let reference = |root: &Path, name: &str| {
        format!("containers-storage:[overlay@{0}/store+{0}/run]localhost/{name}:1", root.display())
    };
    let [old, new] = &sources;
    let before = before(dir.path(), &[(old, &|root| reference(root, "old")), (new, &|root| reference(root, "new"))]);
    kill(&Case {
        before: &before,
        arguments: &|root| vec!["delete".to_owned(), reference(root, "new")],
        holds: &|root| read_whole(&reference(root, "old")),
        codes: &[0, 2],
        ends: &|root, expected| {
            let records = std::fs::read_to_string(root.join("store/overlay-layers/layers.json")).unwrap();
            assert!(!records.contains("incomplete"), "{records}");
            if records.matches("\"id\":").count() == 2 {
                return as_if_nothing_had_happened(root, expected);
            }
            // Killed between forgetting the image and flagging its layers, a deletion leaves them, whole, for the next
            // image that has them: nothing tells them from layers that somebody else put there.
            let run = common::run(&copy([new, &reference(root, "new")]));
            assert_eq!(run.code, 0, "{}", run.err);
            read_whole(&reference(root, "new"));
            assert_eq!(common::run(&["delete", &reference(root, "new")]).code, 0);
            as_if_nothing_had_happened(root, expected);
        },
    });
    let store = Store::at(before.join("store"), "overlay");
    for name in ["old", "new"] {
        store.skopeo(["delete", &store.reference(format!("localhost/{name}:1"))]).ok();
    }
}
