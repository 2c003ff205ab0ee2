//! Tars with two faces, held against skopeo: what both take is the same tree, and what only skopeo takes is listed.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use holkas::fs::Dir;
use holkas::unpack::{OnDisk, Privilege, Timestamp, UnpackOptions, unpack};
use holkas_testkit::image::ImageBuilder;
use holkas_testkit::peers::Store;
use holkas_testkit::tar::{
    BLOCK_DEVICE, CONTIGUOUS, DIR, Entry, FILE, GNU_SPARSE, HARD_LINK, LargeNumbers, PAX, SYMLINK, TarBuilder,
};
use holkas_testkit::tree::{Options, Tree};

/// Who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Both,
    Neither,
    /// We refuse it, so that nobody can be shown another tree than we see.
    OnlySkopeo,
}
use Takes::{Both, Neither, OnlySkopeo};

fn file(name: &str) -> Entry {
    Entry { contents: b"contents".into(), ..Entry::new(FILE, name) }
}

fn one(entry: Entry) -> Vec<u8> {
    TarBuilder::new().entry(entry).file("after", 0o644, "after").finish()
}

fn raw(kind: u8, data: &[u8]) -> Entry {
    Entry { contents: data.to_vec(), ..Entry::new(kind, "x") }
}

/// Writes the number into a field of the first header as it is, and mends the check sum.
fn patched(mut tar: Vec<u8>, at: usize, bytes: &[u8], signed: bool) -> Vec<u8> {
    tar[at..at + bytes.len()].copy_from_slice(bytes);
    tar[148..156].fill(b' ');
    let sum: i64 = tar[..512].iter().map(|&byte| if signed { i64::from(byte as i8) } else { i64::from(byte) }).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

fn cases() -> Vec<(&'static str, Vec<u8>, Takes)> {
    let inner = TarBuilder::new().file("inner", 0o644, "evil").finish();
    let nested = |size, pax: Option<usize>| {
        let entry = Entry { size: Some(size), contents: inner.clone(), ..Entry::new(FILE, "nested.tar") };
        one(pax.iter().fold(entry, |entry, pax| entry.pax_record("size", pax.to_string())))
    };
    let plain = || TarBuilder::new().file("a", 0o644, "abc").file("b", 0o644, "def");
    let with = |entries: &[Entry]| {
        entries.iter().fold(TarBuilder::new(), |tar, entry| tar.entry(entry.clone())).entry(file("a")).finish()
    };
    let long = |name: &[u8]| raw(b'L', name);
    let owner = |uid, large_numbers| one(Entry { uid, large_numbers, ..file("a") });
    let base256 = |first: u8, rest: &[u8]| {
        let mut field = vec![first];
        field.resize(12 - rest.len(), if first == 0xff { 0xff } else { 0 });
        field.extend(rest);
        patched(plain().finish(), 124, &field, false)
    };
    vec![
        // C1, C2: the length of the contents in two places.
        ("PAX size, ustar size 0", nested(0, Some(inner.len())), Both),
        ("PAX size, another ustar size", nested(512, Some(inner.len())), Both),
        ("ustar size only", nested(inner.len() as u64, None), Both),
        // C3, C4: extended headers.
        ("PAX without `=`", with(&[raw(PAX, b"9 path a\n")]), Neither),
        ("PAX with a length that is too short", with(&[raw(PAX, b"8 path=a\n")]), Neither),
        ("PAX with a length that is too long", with(&[raw(PAX, b"99 path=a\n")]), Neither),
        ("PAX with a NUL in the path", one(file("a").pax_record("path", "b\0c")), Neither),
        ("PAX with a key twice", one(file("a").pax_record("path", "b").pax_record("path", "c")), OnlySkopeo),
        ("PAX twice", with(&[raw(PAX, b"10 path=b\n"), raw(PAX, b"10 path=c\n")]), OnlySkopeo),
        ("PAX at the end", TarBuilder::new().entry(raw(PAX, b"10 path=b\n")).finish(), OnlySkopeo),
        ("global PAX", plain().global_pax(&[("comment", "x")]).file("c", 0o644, "").finish(), Both),
        ("global PAX twice", plain().global_pax(&[]).global_pax(&[]).finish(), Neither),
        ("a long name", with(&[long(b"name\0")]), Both),
        ("three long names", with(&[long(b"1\0"), long(b"2\0"), long(b"3\0")]), OnlySkopeo),
        ("a long name at the end", TarBuilder::new().entry(long(b"name\0")).finish(), OnlySkopeo),
        // C5: numbers.
        ("size in base 256", base256(0x80, &[3]), Both),
        ("negative size", base256(0xff, &[0xfd]), Neither),
        ("size of more than 63 bits", base256(0x80, &[0x80, 0, 0, 0, 0, 0, 0, 0]), Neither),
        ("owner 2^32 - 2", owner((1 << 32) - 2, LargeNumbers::Base256), Both),
        ("owner 2^32 - 1", owner((1 << 32) - 1, LargeNumbers::Base256), OnlySkopeo),
        ("owner 2^32", owner(1 << 32, LargeNumbers::Pax), OnlySkopeo),
        ("owner -1", one(file("a").pax_record("uid", "-1")), OnlySkopeo),
        // C6: sparse files.
        ("GNU sparse", one(Entry::new(GNU_SPARSE, "a")), Neither),
        ("sparse 0.1", one(file("a").pax_record("GNU.sparse.size", "8").pax_record("GNU.sparse.map", "0,8")), Neither),
        // C7: how it ends.
        ("no end blocks", plain().finish_without_end(), Both),
        ("one end block", [plain().finish_without_end(), vec![0; 512]].concat(), Both),
        ("padded to a record", plain().finish_padded(10_240), Both),
        ("garbage after the end", [plain().finish(), b"garbage".to_vec()].concat(), Both),
        (
            "another tar after the end",
            [plain().finish(), TarBuilder::new().file("c", 0o644, "").finish()].concat(),
            Both,
        ),
        ("cut within a file", plain().finish()[..514].to_vec(), Neither),
        ("cut within a header", plain().finish()[..1300].to_vec(), Neither),
        (
            "a block of zeros within",
            [&plain().finish()[..1024], &[0; 512], &plain().finish()[..1024]].concat(),
            Neither,
        ),
        ("a signed check sum", patched(one(file("\u{e9}")), 257, b"ustar", true), Both),
        (
            "a wrong check sum",
            patched(one(file("a")), 0, b"b", false)
                .iter()
                .enumerate()
                .map(|(n, b)| if n == 0 { b'c' } else { *b })
                .collect(),
            Neither,
        ),
        // C8: kinds.
        ("type 7", one(Entry { contents: b"contents".into(), ..Entry::new(CONTIGUOUS, "a") }), Neither),
        ("type D", one(Entry::new(b'D', "a")), Neither),
        (
            "a hard link with contents",
            TarBuilder::new()
                .file("t", 0o644, "t")
                .entry(Entry { size: Some(3), contents: b"abc".into(), ..Entry::new(HARD_LINK, "a").linking("t") })
                .finish(),
            Neither,
        ),
        (
            "a directory with contents",
            one(Entry { size: Some(3), contents: b"abc".into(), ..Entry::new(DIR, "a") }),
            Neither,
        ),
        ("a device beyond Linux", one(Entry { device_major: 4096, ..Entry::new(BLOCK_DEVICE, "a") }), OnlySkopeo),
        ("a name twice", plain().file("a", 0o644, "").finish(), Neither),
        ("a name twice, another spelling", plain().file("./a", 0o644, "").finish(), Neither),
        ("a way out", one(file("../x")), OnlySkopeo),
        ("a link out", one(Entry::new(SYMLINK, "a").linking("../../../etc")), Both),
        ("a hard link out", one(Entry::new(HARD_LINK, "a").linking("../../etc/shadow")), Neither),
    ]
}

const CLOCK: Timestamp = Timestamp { seconds: 1_234_567_890, nanos: 5 };

#[test]
fn each_tar_has_one_face() {
    let mut wrong = Vec::new();
    for (name, tar, takes) in cases() {
        let dir = tempfile::tempdir().unwrap();
        let options = UnpackOptions { on_disk: OnDisk::Overlay, clock: CLOCK, privilege: Privilege::Root };
        let ours = unpack(&mut &tar[..], &Dir::open(dir.path()).unwrap(), &options, None);
        let image = ImageBuilder::oci().layer(tar).build();
        let source = tempfile::tempdir().unwrap();
        image.write_dir(source.path().join("image"));
        let store = Store::overlay();
        let from = format!("dir:{}", source.path().join("image").display());
        let theirs = store.skopeo(["copy", "-q", &from, &store.reference("localhost/tar:1")]);
        let found = match (&ours, theirs.status.success()) {
            (Ok(_), true) => Both,
            (Err(_), false) => Neither,
            (Err(_), true) => OnlySkopeo,
            (Ok(_), false) => {
                wrong.push(format!("{name}: only we take it: {}", String::from_utf8_lossy(&theirs.stderr)));
                continue;
            }
        };
        if found != takes {
            wrong.push(format!(
                "{name}: {found:?}, not {takes:?}: {ours:?} {}",
                String::from_utf8_lossy(&theirs.stderr)
            ));
        }
        if found == Both {
            let diff = store.root.join(format!("overlay/{}/diff", image.layer_ids()[0]));
            let known = Options::new().ignore_path("");
            wrong.extend(
                Tree::read(dir.path()).differences(&Tree::read(diff), &known).iter().map(|l| format!("{name}: {l}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
