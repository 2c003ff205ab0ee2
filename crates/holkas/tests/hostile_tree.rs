//! What a layer may say of names, of its own root, and of labels, and what is made of it.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use holkas::error::{ErrorKind, Result};
use holkas::fs::Dir;
use holkas::unpack::{OnDisk, Privilege, Timestamp, UnpackOptions, Unpacked, unpack};
use holkas_testkit::tar::{DIR, Entry, FILE, TarBuilder};
use holkas_testkit::tree::Tree;

fn unpack_into(tar: &[u8], into: &Path, on_disk: OnDisk) -> Result<Unpacked> {
    let options = UnpackOptions { on_disk, clock: Timestamp { seconds: 1, nanos: 0 }, privilege: Privilege::Root };
    unpack(&mut &tar[..], &Dir::open(into)?, &options, None)
}

const BOTH: [OnDisk; 2] = [OnDisk::Overlay, OnDisk::Tree];

#[test]
fn the_root_of_a_layer_stays_a_directory_that_can_be_entered() {
    for name in [".", "./", "/"] {
        let root = Entry { mode: 0, uid: 7, gid: 8, ..Entry::new(DIR, name) };
        let tar = TarBuilder::new().entry(root).file("etc/x", 0o644, "x").finish();
        // The overlay driver has the root in its own hands; a whole tree gets what its image says, as from skopeo.
        for (on_disk, mode, owner) in [(OnDisk::Overlay, 0o755, (0, 0)), (OnDisk::Tree, 0, (7, 8))] {
            let dir = tempfile::tempdir().unwrap();
            let into = dir.path().join("in");
            fs::create_dir(&into).unwrap();
            fs::set_permissions(&into, PermissionsExt::from_mode(0o755)).unwrap();
            unpack_into(&tar, &into, on_disk).unwrap();
            let root = fs::symlink_metadata(&into).unwrap();
            assert!(root.is_dir());
            assert_eq!((root.mode() & 0o7777, (root.uid(), root.gid())), (mode, owner), "{name} {on_disk:?}");
            assert_eq!(fs::read(into.join("etc/x")).unwrap(), b"x");
        }
    }
}

#[test]
fn names_of_every_length_are_kept_or_refused() {
    let longest = "n".repeat(255);
    // 1900 directories, each in the one before; PATH_MAX is 4096, and the test needs some of it.
    let deep = format!("{}leaf", "d/".repeat(1900));
    let bytes = b"caf\xe9/\xff\xfe".to_vec();
    for on_disk in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let tar = TarBuilder::new().file(&longest, 0o644, "1").file(&deep, 0o644, "2").file(&bytes, 0o644, "3");
        let tar = tar.file("Case", 0o644, "4").file("case", 0o644, "5").finish();
        assert_eq!(unpack_into(&tar, dir.path(), on_disk).unwrap().entries, 5);
        let tree = Tree::read(dir.path());
        assert_eq!(tree.nodes.len(), 1 + 1 + 1901 + 2 + 2);
        assert!(tree.get(&deep).is_some() && tree.get(&bytes).is_some());
        for long in ["n".repeat(256), "n".repeat(4095), "d/".repeat(2500), format!("{}x", "d".repeat(5000))] {
            let dir = tempfile::tempdir().unwrap();
            let tar = TarBuilder::new().entry(Entry::new(FILE, long)).finish();
            let error = unpack_into(&tar, dir.path(), on_disk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert_eq!(Tree::read(dir.path()).paths(), [""]);
        }
    }
}

/// A label is for the machine that runs the image to say; modes and capabilities are the image's.
#[test]
fn labels_of_the_build_machine_are_left_out() {
    for on_disk in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let entry = Entry { mode: 0o6755, ..Entry::new(FILE, "a") };
        let entry = entry.xattr("security.selinux", "system_u:object_r:evil_t:s0\0").xattr("user.kept", "yes");
        unpack_into(&TarBuilder::new().entry(entry).finish(), dir.path(), on_disk).unwrap();
        let tree = Tree::read(dir.path());
        let names: Vec<_> = tree.at("a").xattrs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!((names, tree.at("a").mode), (vec!["user.kept".to_string()], 0o6755));
    }
}
