//! Layers unpacked: equal to what skopeo makes of them, exact when rebuilt, and never outside the directory.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]
#![expect(clippy::unwrap_used, reason = "a panic is a test's error message")]

use std::fs;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use holkas::fs::Dir;
use holkas::storage::tar_split::{self, Entry as Object};
use holkas::unpack::{FlatTree, OnDisk, Privilege, Put, TarPiece, Timestamp, UnpackOptions, Unpacked, unpack};
use holkas::{ErrorKind, Result};
use holkas_testkit::oddities::{odd_image, odd_layers};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::{
    BLOCK_DEVICE, CHARACTER_DEVICE, CONTIGUOUS, DIR, Entry, FIFO, FILE, GNU_SPARSE, HARD_LINK, LargeNumbers, LongNames,
    OLD_FILE, PAX, SYMLINK, TarBuilder, Time,
};
use holkas_testkit::tree::{Kind, Options, Tree};
use tempfile::TempDir;

/// A time that no entry has.
const CLOCK: Timestamp = Timestamp { seconds: 1_234_567_890, nanos: 5 };

fn options(on_disk: OnDisk) -> UnpackOptions {
    UnpackOptions { on_disk, clock: CLOCK, privilege: Privilege::Root }
}

fn unpack_into(tar: &[u8], into: &Path, on_disk: OnDisk) -> Result<(Unpacked, Vec<u8>)> {
    let mut split = tar_split::Writer::new(Vec::new());
    let mut sink = |piece: TarPiece<'_>| split.piece(piece);
    // Short reads, so that headers do not come whole.
    let mut source = BufReader::new(Trickle(tar));
    let unpacked = unpack(&mut source, &Dir::open(into)?, &options(on_disk), Some(&mut sink))?;
    Ok((unpacked, split.finish()?))
}

struct Trickle<'a>(&'a [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1000).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// Unpacks as overlay into a fresh directory that has something beside it.
fn overlay(tar: &[u8]) -> (TempDir, Result<Unpacked>) {
    unpacked(&[tar], OnDisk::Overlay)
}

fn unpacked(layers: &[&[u8]], on_disk: OnDisk) -> (TempDir, Result<Unpacked>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::set_permissions(dir.path().join("outside"), PermissionsExt::from_mode(0o711)).unwrap();
    fs::write(dir.path().join("outside/victim"), "safe").unwrap();
    let before = Tree::read(dir.path().join("outside"));
    let mut result = Ok(Unpacked::default());
    for layer in layers {
        result = unpack_into(layer, &dir.path().join("in"), on_disk).map(|(unpacked, _)| unpacked);
    }
    before.assert_same(&Tree::read(dir.path().join("outside")), &Options::new());
    (dir, result)
}

/// Unpacks one layer as the whole of an image.
fn flat(tar: &[u8]) -> (TempDir, Result<()>) {
    let (dir, _) = unpacked(&[], OnDisk::Overlay);
    let before = Tree::read(dir.path().join("outside"));
    let put = |into: &Dir| {
        let mut tree = FlatTree::begin(into, CLOCK, Vec::new())?;
        assert_eq!(tree.layer(&mut BufReader::new(Trickle(tar)))?, Put::Whole);
        tree.end()
    };
    let result = put(&Dir::open(&dir.path().join("in")).unwrap());
    before.assert_same(&Tree::read(dir.path().join("outside")), &Options::new());
    (dir, result)
}

/// Our clock's paths, the root, and the whiteouts: what skopeo gives the current time.
fn without_clock(ours: &Tree) -> Options {
    let clock: Vec<Vec<u8>> = ours
        .nodes
        .iter()
        .filter(|(_, node)| node.mtime == (CLOCK.seconds, i64::from(CLOCK.nanos)))
        .map(|(path, _)| path.clone())
        .collect();
    Options::new().ignore_mtime_of(move |path| clock.iter().any(|other| other == path))
}

fn objects(tar_split: &[u8]) -> Vec<Object> {
    let mut reader = tar_split::Reader::new(tar_split);
    let mut objects: Vec<Object> = Vec::new();
    while let Some(object) = reader.read().unwrap() {
        match (objects.last_mut(), object) {
            (_, Object::File { size: 0, .. }) => {}
            (Some(Object::Segment(before)), Object::Segment(more)) => before.extend(more),
            (_, object) => objects.push(object),
        }
    }
    objects
}

fn rebuild(tar_split: &[u8], from: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    for object in objects(tar_split) {
        match object {
            Object::Segment(bytes) => tar.extend(bytes),
            Object::File { name, size, checksum } => {
                let mut file = Dir::open(from).unwrap().open_file(clean(&name)).unwrap().unwrap();
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, size);
                let mut sum = tar_split::Checksum::default();
                sum.update(&bytes);
                assert_eq!(Some(sum.finish()), checksum);
                tar.extend(bytes);
            }
        }
    }
    tar
}

fn clean(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

#[test]
fn overlay_layers_equal_those_of_skopeo() {
    let image = odd_image();
    let layout = tempfile::tempdir().unwrap();
    image.write_oci(layout.path(), Some("1"));
    let store = Store::overlay();
    let source = format!("oci:{}:1", layout.path().display());
    store.skopeo(["copy", "-q", &source, &store.reference("localhost/odd:1")]).ok();
    for (layer, id) in image.layers.iter().zip(image.layer_ids()) {
        let dir = tempfile::tempdir().unwrap();
        let (_, split) = unpack_into(&layer.diff, dir.path(), OnDisk::Overlay).unwrap();
        let (ours, theirs) = (Tree::read(dir.path()), Tree::read(store.root.join(format!("overlay/{id}/diff"))));
        ours.assert_same(&theirs, &without_clock(&ours).ignore_paths(|path| path.is_empty()));
        let their_split = fs::read(store.root.join(format!("overlay-layers/{id}.tar-split.gz"))).unwrap();
        assert!(objects(&split) == objects(&their_split), "tar-split of layer {id} differs");
        assert!(rebuild(&split, dir.path()) == layer.diff, "layer {id} is not rebuilt");
    }
}

#[test]
fn trees_equal_those_of_skopeo() {
    let image = odd_image();
    let layout = tempfile::tempdir().unwrap();
    image.write_oci(layout.path(), Some("1"));
    let store = Store::vfs();
    let source = format!("oci:{}:1", layout.path().display());
    store.skopeo(["copy", "-q", &source, &store.reference("localhost/odd:1")]).ok();
    let dir = tempfile::tempdir().unwrap();
    for (layer, id) in image.layers.iter().zip(image.layer_ids()) {
        unpack_into(&layer.diff, dir.path(), OnDisk::Tree).unwrap();
        let (ours, theirs) = (Tree::read(dir.path()), Tree::read(store.root.join(format!("vfs/dir/{id}"))));
        // Copying the parent's tree, skopeo loses an attribute, and hard links of what is no regular file; and it makes a
        // scratch directory in the root, whose time is then the current one whatever the layer says.
        let known = without_clock(&ours).ignore_xattrs(|name| name == b"trusted.test");
        let mut lines = ours.differences(&theirs, &known.ignore_mtime_of(|path| path.is_empty()));
        lines.retain(|line| !(line.contains("hard link") && (line.contains("fifo") || line.contains("symlink"))));
        assert_eq!(lines, [""; 0]);
    }
}

#[test]
fn owners_are_counted_but_not_of_whiteouts() {
    let tar = TarBuilder::new().owner(5, 6).file("a", 0o644, "").owner(7, 8).whiteout("b").finish();
    let (_dir, unpacked) = overlay(&tar);
    let unpacked = unpacked.unwrap();
    assert_eq!((unpacked.uids.into_iter().collect::<Vec<_>>(), unpacked.entries), (vec![5], 2));
    assert_eq!(unpacked.gids.into_iter().collect::<Vec<_>>(), [6]);
}

#[test]
fn groups_are_the_entrys_own_in_setgid_directories() {
    let tar = TarBuilder::new()
        .entry(Entry { mode: 0o2775, gid: 50, ..Entry::new(DIR, "shared") })
        .file("shared/file", 0o644, "")
        .symlink("shared/link", "file")
        .file("shared/implied/file", 0o644, "")
        .finish();
    let (dir, result) = overlay(&tar);
    result.unwrap();
    let tree = Tree::read(dir.path().join("in"));
    for path in ["shared/file", "shared/link", "shared/implied", "shared/implied/file"] {
        assert_eq!(tree.at(path).gid, 0, "{path}");
    }
    assert_eq!(tree.at("shared/implied").mode, 0o755);
}

/// Returns the tar with one more entry before it.
fn one(entry: Entry) -> Vec<u8> {
    TarBuilder::new().entry(entry).finish()
}

#[test]
fn what_is_refused() {
    use ErrorKind::{Invalid, Refused, Unsupported};
    #[track_caller]
    fn check(tar: Vec<u8>, kind: ErrorKind, part: &str) {
        let each = [OnDisk::Overlay, OnDisk::Tree].map(|on_disk| unpacked(&[&tar], on_disk).1.map(|_| ()));
        for result in each.into_iter().chain([flat(&tar).1]) {
            let error = result.expect_err(part);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
        }
    }
    let file = |name: &str| Entry::new(FILE, name);
    let sized = |kind, name: &str| Entry { size: Some(512), contents: vec![0; 512], ..Entry::new(kind, name) };

    // Names.
    check(one(file("../x")), Refused, "`..`");
    check(one(file("a/../b")), Refused, "`..`");
    check(TarBuilder::new().file("a", 0o644, "").file("./a", 0o644, "").finish(), Invalid, "two entries");
    check(TarBuilder::new().dir("a/", 0o755).dir("a", 0o755).finish(), Invalid, "two entries");
    check(TarBuilder::new().global_pax(&[]).global_pax(&[]).finish(), Invalid, "two entries");
    check(one(file("a/")), Invalid, "ends in `/`");
    check(one(file(&"x/".repeat(2500))), Invalid, "longer");
    check(one(file(&"x".repeat(300))), Invalid, "too long");
    for name in ["./", "/", "."] {
        check(one(file(name)), Refused, "root of the layer");
        check(one(Entry::new(SYMLINK, name).linking("/etc")), Refused, "root of the layer");
    }

    // Contents where there can be none.
    for kind in [HARD_LINK, SYMLINK, DIR, FIFO, CHARACTER_DEVICE] {
        check(one(sized(kind, "a")), Invalid, "512 bytes of contents");
    }
    check(one(sized(OLD_FILE, "a/")), Invalid, "512 bytes of contents");
    check(one(sized(FILE, ".wh.a")), Invalid, "whiteout with contents");

    // Links.
    check(one(Entry::new(HARD_LINK, "a").linking("b")), Invalid, "not in the layer");
    check(one(Entry::new(HARD_LINK, "a").linking("a")), Invalid, "not in the layer");
    check(one(Entry::new(HARD_LINK, "a").linking("../../etc/shadow")), Refused, "`..`");
    check(TarBuilder::new().dir("d", 0o755).hard_link("a", "d").finish(), Invalid, "another name");
    check(one(Entry::new(SYMLINK, "a")), Invalid, "without a target");
    let tar = TarBuilder::new().whiteout("a").hard_link("b", "a").finish();
    for error in [overlay(&tar).1.unwrap_err(), flat(&tar).1.unwrap_err()] {
        assert!(error.to_string().contains("removed by the layer"), "{error}");
    }

    // Whiteouts.
    for name in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        check(one(file(name)), Invalid, "nothing that can be named");
    }

    // Kinds.
    check(one(file("a").pax_record("GNU.sparse.major", "1")), Unsupported, "sparse");
    check(one(Entry::new(GNU_SPARSE, "a")), Unsupported, "sparse");
    check(one(Entry::new(CONTIGUOUS, "a")), Unsupported, "type '7'");
    check(one(Entry::new(b'D', "a")), Unsupported, "type 'D'");
    check(TarBuilder::new().device("a", CHARACTER_DEVICE, 0, 0).finish(), Refused, "whiteout");
    check(TarBuilder::new().device("a", BLOCK_DEVICE, 4096, 0).finish(), Invalid, "no device");
    check(TarBuilder::new().device("a", BLOCK_DEVICE, 0, 1 << 20).finish(), Invalid, "no device");

    // Attributes.
    for key in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"] {
        check(one(file("a").xattr(key, "y")), Refused, key);
    }
    check(one(Entry::new(SYMLINK, "a").linking("b").xattr("user.a", "b")), Unsupported, "user.a");

    // Owners.
    let owner = |uid, large_numbers| Entry { uid, large_numbers, ..file("a") };
    for numbers in [LargeNumbers::Pax, LargeNumbers::Base256] {
        check(one(owner(u64::from(u32::MAX), numbers)), Invalid, "no owner");
        check(one(owner(1 << 32, numbers)), Invalid, "no owner");
    }
    check(one(file("a").pax_record("uid", "-1")), Invalid, "no owner");

    // PAX.
    check(one(file("a").pax_record("path", "b\0c")), Invalid, "malformed");
    check(one(file("a").pax_record("path", "b").pax_record("path", "c")), Invalid, "twice");
    check(one(file("a").pax_record("size", "-5")), Invalid, "malformed");
    check(one(file("a").pax_record("mtime", "soon")), Invalid, "malformed");
    check(one(file("a").pax_record("comment", "x".repeat(2 << 20))), Invalid, "over the limit");
    let extension = |kind, data: &[u8]| Entry { contents: data.to_vec(), ..Entry::new(kind, "x") };
    let two = |kind, data: &[u8]| {
        TarBuilder::new().entry(extension(kind, data)).entry(extension(kind, data)).file("a", 0o644, "").finish()
    };
    for data in ["11 path=a\n", "8 path=a\n", "path=a\n", "10 path=a ", "10 path:a\n", "99999999 path=a\n"] {
        check(
            TarBuilder::new().entry(extension(PAX, data.as_bytes())).file("a", 0o644, "").finish(),
            Invalid,
            "malformed",
        );
    }
    for kind in [PAX, b'L', b'K'] {
        let data: &[u8] = if kind == PAX { b"10 path=b\n" } else { b"name\0" };
        check(one(extension(kind, data)), Invalid, "belongs to no entry");
        check(TarBuilder::new().entry(extension(kind, data)).finish_without_end(), Invalid, "belongs to no entry");
        check(two(kind, data), Invalid, "two extended");
        check(
            TarBuilder::new().entry(extension(kind, data)).global_pax(&[]).file("a", 0o644, "").finish(),
            Invalid,
            "followed by a global one",
        );
    }
    check(TarBuilder::new().entry(extension(b'L', b"a\0b\0")).file("a", 0o644, "").finish(), Invalid, "long name");

    // The stream.
    let good = TarBuilder::new().file("a", 0o644, "contents").finish();
    check(good[..700].to_vec()[..515].to_vec(), Invalid, "before the end of a file");
    check(good[..300].to_vec(), Invalid, "within a header");
    check([&good[..1024], &[0; 512], &good[..512]].concat(), Invalid, "single block of zeros");
    check(b"\x1f\x8b not a tar".repeat(100), Invalid, "checksum");
    let mut wrong = good.clone();
    wrong[0] ^= 1;
    check(wrong, Invalid, "checksum");
}

#[test]
fn removal_of_what_the_layer_adds_is_refused_for_overlay() {
    let tar = TarBuilder::new().file("a", 0o644, "").whiteout("a").finish();
    for error in [overlay(&tar).1.unwrap_err(), flat(&tar).1.unwrap_err()] {
        assert!(error.to_string().contains("both adds"), "{error}");
    }
    let (dir, result) = unpacked(&[&tar], OnDisk::Tree);
    result.unwrap();
    assert_eq!(Tree::read(dir.path().join("in")).paths(), [""]);
    // The reverse order is usual.
    let tar = TarBuilder::new().whiteout("a").file("a", 0o644, "new").whiteout("b").file("b/.wh.c", 0o644, "").finish();
    let (dir, result) = overlay(&tar);
    result.unwrap();
    let tree = Tree::read(dir.path().join("in"));
    assert_eq!((tree.at("a").kind, tree.at("b").device), (Kind::File, (0, 0)));
}

#[test]
fn symlinks_never_lead_out() {
    /// Checks that the entries are taken, and give this tree; what is outside is checked by `unpacked`.
    #[track_caller]
    fn check(build: impl Fn(TarBuilder, &str) -> TarBuilder, paths: &[&str]) {
        for on_disk in [OnDisk::Overlay, OnDisk::Tree] {
            for outside in ["/outside", "../outside", "../../../../../../../../../outside"] {
                let tar = build(TarBuilder::new().dir("outside/", 0o755), outside).finish();
                let (dir, result) = unpacked(&[&tar], on_disk);
                result.unwrap();
                assert_eq!(Tree::read(dir.path().join("in")).paths(), paths, "{outside}");
                let (dir, result) = flat(&tar);
                result.unwrap();
                assert_eq!(Tree::read(dir.path().join("in")).paths(), paths, "{outside}");
            }
        }
    }
    check(|tar, outside| tar.symlink("a", outside).file("a/x", 0o644, "evil"), &["", "a", "outside", "outside/x"]);
    check(
        |tar, outside| tar.symlink("a", outside).dir("a/d", 0o777).file("a/d/e/x", 0o644, "evil"),
        &["", "a", "outside", "outside/d", "outside/d/e", "outside/d/e/x"],
    );
    check(
        |tar, outside| tar.symlink("a", outside).file("outside/y", 0o600, "").hard_link("a/x", "a/y"),
        &["", "a", "outside", "outside/x", "outside/y"],
    );
    check(
        |tar, outside| tar.symlink("a", outside).symlink("b", "a").fifo("b/x"),
        &["", "a", "b", "outside", "outside/x"],
    );
    // Another root whose path is the true one of what is outside.
    let (dir, result) = unpacked(&[], OnDisk::Overlay);
    result.unwrap();
    let outside = dir.path().join("outside");
    let tar = TarBuilder::new().symlink("a", outside.to_str().unwrap()).file("a/victim", 0o644, "evil").finish();
    assert!(unpack_into(&tar, &dir.path().join("in"), OnDisk::Overlay).is_err());
    let tar = TarBuilder::new().symlink("b", outside.to_str().unwrap()).whiteout("b/victim").finish();
    assert!(unpack_into(&tar, &dir.path().join("in"), OnDisk::Tree).is_err());
    let tar = TarBuilder::new()
        .symlink("c", outside.join("victim").to_str().unwrap())
        .hard_link("d", "c")
        .entry(Entry { mode: 0o777, uid: 5, ..Entry::new(HARD_LINK, "e") }.linking("c"))
        .finish();
    unpack_into(&tar, &dir.path().join("in"), OnDisk::Overlay).unwrap();
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"safe");
    assert_eq!(fs::metadata(outside.join("victim")).unwrap().mode() & 0o777, 0o644);
    assert!(fs::symlink_metadata(dir.path().join("in/e")).unwrap().is_symlink());
}

#[test]
fn symlinks_are_replaced_not_followed() {
    // The names of the first layer are symlinks to what is outside; the second puts other things there.
    for entry in [
        Entry { mode: 0o777, uid: 9, ..Entry::new(DIR, "a") },
        Entry { mode: 0o777, contents: b"new".into(), ..Entry::new(FILE, "a") },
        Entry { mode: 0o777, uid: 9, ..Entry::new(FIFO, "a") },
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let first = TarBuilder::new().symlink("a", dir.path().to_str().unwrap()).finish();
        let (root, result) = unpacked(&[&first, &one(entry.clone())], OnDisk::Tree);
        result.unwrap();
        let node = Tree::read(root.path().join("in")).at("a").clone();
        assert_eq!((node.mode, node.uid), (0o777, entry.uid as u32));
        assert!(node.kind != Kind::Symlink);
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
    }
}

#[test]
fn loops_of_symlinks_are_an_error() {
    let mut tar = TarBuilder::new().dir("end", 0o755).symlink("l0", "end");
    for n in 1..60 {
        tar = tar.symlink(format!("l{n}"), format!("l{}", n - 1));
    }
    let too_long = tar.clone().file("l50/x", 0o644, "").finish();
    for error in [overlay(&too_long).1.unwrap_err(), flat(&too_long).1.unwrap_err()] {
        assert!(error.to_string().contains("too many symlinks"), "{error}");
    }
    let as_long_as_allowed = tar.file("l30/x", 0o644, "").finish();
    overlay(&as_long_as_allowed).1.unwrap();
    flat(&as_long_as_allowed).1.unwrap();
    let error = overlay(&TarBuilder::new().symlink("a", "a").file("a/x", 0o644, "").finish()).1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // Parents are made where they are missing, but not through a dangling symlink.
    let dangling = TarBuilder::new().symlink("a", "b").file("a/x", 0o644, "").finish();
    assert!(overlay(&dangling).1.is_err());
    assert!(flat(&dangling).1.unwrap_err().to_string().contains("leads to where the layer has nothing"));
}

#[test]
fn legitimate_symlinks_survive_as_they_are() {
    let tar = TarBuilder::new()
        .symlink("lib64", "/usr/lib64")
        .symlink("usr/lib64/ld.so", "../lib/ld.so")
        .symlink("up", "../../../..")
        .finish();
    let (dir, result) = overlay(&tar);
    result.unwrap();
    let tree = Tree::read(dir.path().join("in"));
    assert_eq!(tree.at("lib64").link, b"/usr/lib64");
    assert_eq!(tree.at("usr/lib64/ld.so").link, b"../lib/ld.so");
    assert_eq!(tree.at("up").link, b"../../../..");
}

#[test]
fn pax_size_wins_so_that_inner_headers_stay_inside() {
    let inner = TarBuilder::new().file("inner", 0o644, "evil").finish();
    for (size, lie) in [(0, true), (512, true), (inner.len() as u64, false)] {
        let entry = Entry { size: Some(size), contents: inner.clone(), ..Entry::new(FILE, "nested.tar") };
        let entry = if lie { entry.pax_record("size", inner.len().to_string()) } else { entry };
        let tar = TarBuilder::new().entry(entry).file("after", 0o644, "").finish();
        let (dir, result) = overlay(&tar);
        result.unwrap();
        assert_eq!(Tree::read(dir.path().join("in")).paths(), ["", "after", "nested.tar"]);
        assert_eq!(fs::read(dir.path().join("in/nested.tar")).unwrap(), inner);
    }
}

#[test]
fn opaque_marks_spare_what_the_layer_itself_brings() {
    let below = TarBuilder::new()
        .dir("d", 0o755)
        .file("d/old", 0o644, "")
        .dir("d/sub", 0o755)
        .file("d/sub/old", 0o644, "")
        .file("d/gone/old", 0o644, "")
        .finish();
    let above = TarBuilder::new().file("d/sub/new", 0o644, "").file("d/new", 0o644, "").opaque("d").finish();
    let (dir, result) = unpacked(&[&below, &above], OnDisk::Tree);
    result.unwrap();
    assert_eq!(Tree::read(dir.path().join("in")).paths(), ["", "d", "d/new", "d/sub", "d/sub/new"]);
}

#[test]
fn whole_tars_without_an_end_and_with_more_after_it() {
    let check = |tar: Vec<u8>| {
        let dir = tempfile::tempdir().unwrap();
        let (_, split) = unpack_into(&tar, dir.path(), OnDisk::Overlay).unwrap();
        assert!(rebuild(&split, dir.path()) == tar);
    };
    let tar = || TarBuilder::new().file("a", 0o644, "abc").file("b", 0o644, vec![7; 300_000]);
    check(Vec::new());
    check(vec![0; 512]);
    check(vec![0; 1024]);
    check(tar().finish());
    check(tar().finish_without_end());
    check(tar().finish_padded(10240));
    check([tar().finish(), b"garbage".to_vec()].concat());
    check([tar().finish(), TarBuilder::new().file("c", 0o644, "").finish()].concat());
    check([tar().finish_without_end(), vec![0; 512]].concat());
    let unpadded = tar().finish_without_end();
    check(unpadded[..unpadded.len() - 5].to_vec());
}

#[test]
fn unprivileged_users_are_told() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    for entry in [
        Entry::new(FILE, "a"),
        Entry::new(DIR, "b"),
        Entry::new(FILE, ".wh.c"),
        Entry::new(FILE, "implied/d"),
        Entry { device_major: 1, device_minor: 3, ..Entry::new(CHARACTER_DEVICE, "e") },
    ] {
        let error = std::thread::scope(|scope| {
            let unprivileged = || {
                // These change one thread only.
                let (user, group) = (rustix::thread::Uid::from_raw(65534), rustix::thread::Gid::from_raw(65534));
                rustix::thread::set_thread_res_gid(group, group, group).unwrap();
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
                unpack_into(&one(entry), dir.path(), OnDisk::Overlay).unwrap_err()
            };
            scope.spawn(unprivileged).join().unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("root")), "{error}");
    }
}

#[test]
fn errors_of_the_source_and_of_the_sink_come_through() {
    struct Fails;
    impl std::io::Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(holkas::Error::mismatch("the blob lies").into())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let into = Dir::open(dir.path()).unwrap();
    let error = unpack(&mut BufReader::new(Fails), &into, &options(OnDisk::Tree), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let tar = one(Entry::new(FILE, "a"));
    let mut sink = |_: TarPiece<'_>| Err(holkas::Error::new(ErrorKind::NoSpace, "full"));
    let error = unpack(&mut &tar[..], &into, &options(OnDisk::Tree), Some(&mut sink)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

mod round_trip {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// In memory where there is such a place: hundreds of small trees are slow on a disk.
    fn scratch() -> TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let name = vec(prop_oneof![Just(b'/'), Just(b'.'), b'a'..=b'c', Just(0xff), Just(b'"')], 1..150);
        let kind =
            prop_oneof![5 => Just(FILE), 2 => Just(DIR), 1 => Just(SYMLINK), 1 => Just(HARD_LINK), 1 => Just(FIFO)];
        let size = prop_oneof![Just(0usize), 1..1030usize];
        let form = prop_oneof![Just(LongNames::Pax), Just(LongNames::Gnu)];
        let entry = (name, kind, size, form, -3i64..5, 0u32..2, 0u64..5_000_000_000).prop_map(
            |(path, kind, size, long_names, seconds, nanos, uid)| {
                let contents = if kind == FILE { vec![b'x'; size] } else { Vec::new() };
                let mtime = Time { seconds, nanos };
                Entry { contents, long_names, mtime, uid, ..Entry::new(kind, &path) }.linking("a")
            },
        );
        vec(entry, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// Pieces are the exact tar for whatever is accepted; and nothing panics.
        #[test]
        fn tar_split_has_every_byte(
            entries in entries(),
            cut in 0usize..2000,
            junk in vec(any::<u8>(), 0..600),
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let tar = entries.into_iter().fold(TarBuilder::new(), TarBuilder::entry);
            let mut tar = if cut == 0 { tar.finish_without_end() } else { tar.finish() };
            tar.extend(&junk[..junk.len() * usize::from(cut % 3 == 0)]);
            if cut > 1500 && !tar.is_empty() {
                tar.truncate(tar.len().saturating_sub(cut - 1500));
            }
            if let Some((index, byte)) = flip && cut % 2 == 0 && !tar.is_empty() {
                let at = index.index(tar.len());
                tar[at] ^= byte;
            }
            for on_disk in [OnDisk::Overlay, OnDisk::Tree] {
                let dir = scratch();
                let mut all = Vec::new();
                let mut sink = |piece: TarPiece<'_>| {
                    match piece {
                        TarPiece::Raw(bytes) | TarPiece::Content(bytes) => all.extend_from_slice(bytes),
                        TarPiece::Entry { .. } => {}
                    }
                    Ok(())
                };
                let into = Dir::open(dir.path()).unwrap();
                let accepted = unpack(&mut &tar[..], &into, &options(on_disk), Some(&mut sink)).is_ok();
                if accepted {
                    prop_assert!(all == tar);
                } else {
                    prop_assert!(tar.starts_with(&all));
                }
                let again = scratch();
                if let Ok((_, split)) = unpack_into(&tar, again.path(), on_disk) {
                    prop_assert!(accepted);
                    // Every raw byte is in the objects, and every length.
                    let length: u64 = objects(&split).iter().map(|object| match object {
                        Object::Segment(bytes) => bytes.len() as u64,
                        Object::File { size, .. } => *size,
                    }).sum();
                    prop_assert_eq!(length, tar.len() as u64);
                }
            }
        }
    }
}

#[test]
fn odd_layers_are_whole_in_any_order_of_reads() {
    for layer in odd_layers() {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, trickled) = unpack_into(&layer, dirs.0.path(), OnDisk::Overlay).unwrap();
        let mut split = tar_split::Writer::new(Vec::new());
        let mut sink = |piece: TarPiece<'_>| split.piece(piece);
        let into = Dir::open(dirs.1.path()).unwrap();
        unpack(&mut &layer[..], &into, &options(OnDisk::Overlay), Some(&mut sink)).unwrap();
        assert!(trickled == split.finish().unwrap());
        Tree::read(dirs.0.path()).assert_same(&Tree::read(dirs.1.path()), &Options::new());
    }
}
