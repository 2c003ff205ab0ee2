//! Images as one tree: what is refused, and what memory may be asked for. The trees themselves are held against podman's.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::io::{self, BufRead, BufReader, Read};

use holkas::error::{ErrorKind, Result};
use holkas::fs::Dir;
use holkas::limits::{ACCESS_LISTS, IMAGE_WHITEOUTS};
use holkas::unpack::{ExcludedPath, FlatTree, Put, Timestamp};
use holkas_testkit::tar::{DIR, Entry, TarBuilder};
use holkas_testkit::tree::{Kind, Tree};
use tempfile::TempDir;

const CLOCK: Timestamp = Timestamp { seconds: 1_234_567_890, nanos: 0 };

/// Puts layers below each other, the uppermost first.
fn flatten(layers: &[Vec<u8>], exclude: &[&str]) -> (TempDir, Result<Vec<Put>>) {
    let dir = tempfile::tempdir().unwrap();
    let exclude = exclude.iter().map(|path| ExcludedPath::parse(path.as_bytes()).unwrap()).collect();
    let put = |into: &Dir| {
        let mut tree = FlatTree::begin(into, CLOCK, exclude)?;
        let mut all = Vec::new();
        for layer in layers {
            all.push(tree.layer(&mut &layer[..])?);
            if all.last() == Some(&Put::LinksWanting) {
                tree.layer_again(&mut &layer[..])?;
            }
        }
        tree.end().map(|()| all)
    };
    let result = put(&Dir::open(dir.path()).unwrap());
    (dir, result)
}

fn tar() -> TarBuilder {
    TarBuilder::new()
}

#[test]
fn a_layer_is_read_again_only_for_links_that_want_hidden_contents() {
    let base =
        || tar().file("a", 0o640, "a").hard_link("b", "a").hard_link("c", "b").symlink("s", "a").hard_link("t", "s");
    for (top, exclude, put, paths) in [
        (tar(), &[][..], Put::Whole, &["", "a", "b", "c", "s", "t"][..]),
        (tar().whiteout("b").whiteout("s"), &[], Put::Whole, &["", "a", "c", "t"]),
        (tar().whiteout("a").whiteout("b").whiteout("c"), &[], Put::Whole, &["", "s", "t"]),
        (tar().whiteout("a"), &[], Put::LinksWanting, &["", "b", "c", "s", "t"]),
        (tar().whiteout("b"), &["/a", "/s"], Put::LinksWanting, &["", "c", "t"]),
        (tar(), &["/a", "/b", "/c"], Put::Whole, &["", "s", "t"]),
    ] {
        let (dir, result) = flatten(&[top.finish(), base().finish()], exclude);
        assert_eq!(result.unwrap(), [Put::Whole, put]);
        let tree = Tree::read(dir.path());
        assert_eq!(tree.paths(), paths);
        for path in ["a", "b", "c"] {
            if let Some(node) = tree.get(path) {
                // The last header of an inode wins, whether its name is hidden or not.
                assert_eq!((node.kind, node.mode, node.size), (Kind::File, 0o644, 1));
            }
        }
        assert_eq!((tree.at("").mode, tree.at("").mtime), (0o555, (CLOCK.seconds, 0)));
    }
}

/// What only an archive that was made to confuse has, and what would cost memory to do right.
#[test]
fn what_one_layer_replaces_twice_is_refused() {
    let replaced = || tar().dir("d", 0o755).symlink("s", ".").file("d/x", 0o644, "").file("s/d", 0o644, "");
    let error = flatten(&[replaced().symlink("r", ".").file("r/r2", 0o644, "").finish()], &[]).1;
    error.unwrap();
    let again = replaced().symlink("r", ".").dir("r/d", 0o755).finish();
    let error = flatten(&[again], &[]).1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("where it has replaced one"), "{error}");

    let linked = tar().file("a", 0o644, "a").hard_link("d/b", "a").symlink("s", ".").file("s/d", 0o644, "").finish();
    flatten(std::slice::from_ref(&linked), &[]).1.unwrap();
    let error = flatten(&[tar().whiteout("a").finish(), linked], &[]).1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("after hard links to hidden files"), "{error}");
}

/// A name that upper layers hide is still refused where no store could give the layer back.
#[test]
fn hidden_entries_are_checked_too() {
    let top = || tar().file("d", 0o644, "").whiteout("e").finish();
    for (base, part) in [
        (tar().file("d/a", 0o644, "").file("./d/a", 0o644, ""), "two entries"),
        (tar().file("e/f", 0o644, "").file("e/f/g", 0o644, ""), "not a directory"),
        (tar().hard_link("e/f", "e/g"), "not in the layer"),
        (tar().entry(Entry::new(DIR, "e").xattr("trusted.overlay.opaque", "y")), "overlay's own"),
        (tar().file("e/x", 0o644, "").whiteout("e/x"), "both adds"),
    ] {
        let error = flatten(&[top(), base.finish()], &[]).1.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "").unwrap();
    let held = Dir::open(dir.path()).unwrap();
    let error = FlatTree::begin(&held, CLOCK, Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(Tree::read(dir.path()).paths(), ["", "mine"]);
}

/// A header of an empty file with its check sum, made without the builder: hundreds of thousands are needed.
fn header(name: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    for (at, field) in [(108, &b"0000000"[..]), (116, b"0000000"), (124, b"00000000000"), (136, b"00000000000")] {
        block[at..at + field.len()].copy_from_slice(field);
    }
    block[148..156].fill(b' ');
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A tar of headers, made one by one.
struct Headers<F>(F, io::Cursor<Vec<u8>>);

impl<F: FnMut() -> Option<String>> Read for Headers<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.fill_buf()?.is_empty()
            && let Some(name) = (self.0)()
        {
            self.1 = io::Cursor::new(header(&name));
        }
        self.1.read(buffer)
    }
}

fn whiteouts(names: impl Iterator<Item = usize>) -> impl BufRead {
    let mut names = names.map(|n| format!(".wh.{n}"));
    BufReader::new(Headers(move || names.next(), io::Cursor::default()))
}

#[test]
fn whiteouts_are_bounded_for_all_layers_together() {
    let dir = tempfile::tempdir().unwrap();
    let into = Dir::open(dir.path()).unwrap();
    let mut tree = FlatTree::begin(&into, CLOCK, Vec::new()).unwrap();
    let half = IMAGE_WHITEOUTS / 2;
    assert_eq!(tree.layer(&mut whiteouts(0..half)).unwrap(), Put::Whole);
    // What is removed already takes no more room.
    assert_eq!(tree.layer(&mut whiteouts(0..half)).unwrap(), Put::Whole);
    let error = tree.layer(&mut whiteouts(half..usize::MAX)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(&format!("more than {IMAGE_WHITEOUTS} paths")), "{error}");
}

/// An access list of so many users, as the kernel has it.
fn access_list(users: u32) -> Vec<u8> {
    let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &7_u16.to_le_bytes(), &id.to_le_bytes()].concat();
    let mut list = 2_u32.to_le_bytes().to_vec();
    list.extend(entry(1, u32::MAX));
    (1..=users).for_each(|user| list.extend(entry(2, user)));
    [4, 16, 32].into_iter().for_each(|tag| list.extend(entry(tag, u32::MAX)));
    list
}

#[test]
fn access_lists_are_bounded() {
    let list = access_list(450);
    let count = ACCESS_LISTS.bytes as usize / list.len() + 2;
    let top = |n: usize| {
        let entry = |n| Entry::new(DIR, format!("{n}")).xattr("system.posix_acl_default", &list);
        (0..n).fold(tar(), |tar, n| tar.entry(entry(n))).finish()
    };
    let below = |n: usize| (0..n).fold(tar(), |tar, n| tar.file(format!("{n}/x"), 0o644, "")).finish();
    let error = flatten(&[top(count), below(count)], &[]).1.unwrap_err();
    assert!(error.to_string().contains("access lists"), "{error}");
    let (dir, result) = flatten(&[top(20), below(20)], &[]);
    result.unwrap();
    let tree = Tree::read(dir.path());
    assert_eq!(tree.at("19").xattrs[&b"system.posix_acl_default"[..]], list);
    assert!(tree.at("19/x").xattrs.is_empty());
}
