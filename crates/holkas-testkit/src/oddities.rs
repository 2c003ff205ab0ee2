//! Ready-made images: every oddity that real tools accept, programs that run, and great numbers.

use std::fs;

use crate::image::{BuiltImage, Compression, ImageBuilder};
use crate::tar::{
    BLOCK_DEVICE, CHARACTER_DEVICE, DIR, Entry, FIFO, FILE, HARD_LINK, LargeNumbers, LongNames, OLD_FILE, SYMLINK,
    TarBuilder, Time, file_capability,
};

/// A name that is not UTF-8: `caf\xe9`, as Latin-1 has it.
pub const LATIN1_NAME: &[u8] = b"odd/caf\xe9";

/// Returns an OCI image of three layers (none, gzip, zstd) with every oddity that skopeo 1.9 and podman 4.3 take.
///
/// See [`odd_layers`] for what is in them.
pub fn odd_image() -> BuiltImage {
    odd_image_with(&[Compression::None, Compression::Gzip, Compression::Zstd])
}

/// Returns the odd image with plain layers, whose manifest survives the way through a store.
pub fn odd_image_uncompressed() -> BuiltImage {
    odd_image_with(&[Compression::None; 3])
}

fn odd_image_with(compressions: &[Compression; 3]) -> BuiltImage {
    let mut builder = ImageBuilder::oci()
        .env("PATH=/usr/bin:/bin")
        .env("ODD=with \"quotes\", <angles> & a = sign")
        .label("org.example.odd", "\u{e9}\u{1f6a2}\n")
        .working_dir("/")
        .created("2023-04-05T06:07:08.123456789Z")
        .annotation("org.example.annotation", "kept")
        .empty_history("ENV ODD=…");
    for (layer, compression) in odd_layers().into_iter().zip(compressions) {
        builder = builder.layer_with(layer, *compression);
    }
    builder.empty_history("LABEL org.example.odd").build()
}

/// Returns the tars of the odd image, base first.
///
/// 1. all kinds of entries: sizes about a block, owners above 2^21 in both writings, times with nanoseconds and
///    before 1970, xattrs and a capability, devices, a fifo, links of all kinds, names that are long, not UTF-8,
///    with a newline, with a leading `/`, without a parent, and a root entry of an odd mode;
/// 2. what a second layer does to the first: whiteouts (also of what is not there), opaque directories whose mark
///    comes before and after its siblings, a file that becomes a directory and the reverse, other attributes only;
/// 3. a third layer over both: what was removed comes back, and there is padding to a record of 10240 bytes.
pub fn odd_layers() -> Vec<Vec<u8>> {
    vec![base_layer(), second_layer(), third_layer()]
}

fn base_layer() -> Vec<u8> {
    let long_component = "c".repeat(120);
    let deep = format!("odd/deep/{}/{}/{}", "d".repeat(100), "e".repeat(100), "f".repeat(100));
    let gnu_deep = format!("odd/gnu/{}/{}/{}", "g".repeat(100), "h".repeat(100), "i".repeat(100));
    let ustar = format!("odd/{}/{}", "u".repeat(90), "v".repeat(90));
    let entry = |kind, path: &str| Entry::new(kind, path);
    TarBuilder::new()
        .global_pax(&[("comment", "made by holkas-testkit")])
        // The root has a mode of its own; overlay ignores it, vfs does not (T27).
        .entry(Entry { uid: 7, gid: 8, mode: 0o751, ..entry(DIR, "./") })
        .dir("odd/", 0o755)
        .dir("./odd/dot-slash/", 0o700)
        .file("/odd/leading-slash", 0o644, "leading\n")
        .file("odd/no/parent/here", 0o644, "implied parents\n")
        // Sizes.
        .file("odd/empty", 0o644, "")
        .file("odd/one", 0o600, "1")
        .file("odd/511", 0o644, [b'a'; 511])
        .file("odd/512", 0o644, [b'b'; 512])
        .file("odd/513", 0o644, [b'c'; 513])
        .file("odd/mebibyte-and-one", 0o644, pattern((1 << 20) + 1))
        .entry(Entry { contents: b"old\n".to_vec(), ..entry(OLD_FILE, "odd/old-type-flag") })
        // Modes.
        .file("odd/setuid", 0o4755, "#!/bin/sh\n")
        .file("odd/setgid", 0o2755, "#!/bin/sh\n")
        .file("odd/no-rights", 0o000, "nobody\n")
        .entry(Entry { mode: 0o100_644, ..entry(FILE, "odd/mode-with-type") })
        .dir("odd/sticky/", 0o1777)
        .dir("odd/setgid-dir/", 0o2755)
        .dir("odd/read-only-dir/", 0o555)
        .file("odd/read-only-dir/child", 0o444, "child\n")
        // Owners.
        .entry(Entry {
            uid: 1000,
            gid: 1001,
            user_name: b"someone".into(),
            group_name: b"some".into(),
            ..entry(FILE, "odd/owned")
        })
        .entry(Entry { uid: 2_097_151, gid: 2_097_151, ..entry(FILE, "odd/owner-largest-octal") })
        .entry(Entry { uid: 2_097_152, gid: 3_000_000_000, ..entry(FILE, "odd/owner-pax") })
        .entry(Entry {
            uid: 2_097_152,
            gid: 3_000_000_000,
            large_numbers: LargeNumbers::Base256,
            long_names: LongNames::Gnu,
            ..entry(FILE, "odd/owner-base256")
        })
        .entry(Entry { uid: 1000, gid: 1001, ..entry(SYMLINK, "odd/owned-symlink") }.linking("owned"))
        .entry(Entry { uid: 5, gid: 6, mode: 0o750, ..entry(DIR, "odd/owned-dir/") })
        // Times.
        .entry(Entry { mtime: Time { seconds: 1_600_000_000, nanos: 123_456_789 }, ..entry(FILE, "odd/time-nanos") })
        .entry(Entry {
            mtime: Time { seconds: 1_600_000_001, nanos: 500_000_000 },
            ..entry(DIR, "odd/time-nanos-dir/")
        })
        .entry(
            Entry { mtime: Time { seconds: 1_600_000_002, nanos: 1 }, ..entry(SYMLINK, "odd/time-nanos-link") }
                .linking("x"),
        )
        .entry(Entry { mtime: Time { seconds: 0, nanos: 0 }, ..entry(FILE, "odd/time-zero") })
        .entry(Entry { mtime: Time { seconds: -86_400, nanos: 0 }, ..entry(FILE, "odd/time-before-1970") })
        .entry(Entry { mtime: Time { seconds: -2, nanos: 750_000_000 }, ..entry(FILE, "odd/time-before-1970-nanos") })
        .entry(
            Entry { mtime: Time { seconds: -86_400, nanos: 0 }, ..entry(SYMLINK, "odd/time-before-1970-link") }
                .linking("x"),
        )
        .entry(Entry { mtime: Time { seconds: 1 << 33, nanos: 0 }, ..entry(FILE, "odd/time-year-2242") })
        .entry(
            Entry { mtime: Time { seconds: 1_600_000_000, nanos: 0 }, ..entry(FILE, "odd/time-with-atime") }
                .pax_record("atime", "1650000000.25")
                .pax_record("ctime", "1660000000.5"),
        )
        // Extended attributes.
        .entry(
            Entry { contents: b"x".into(), ..entry(FILE, "odd/xattrs") }
                .xattr("user.first", "value")
                .xattr("user.binary", b"\x00\xff=\n\x01")
                .xattr("user.empty", ""),
        )
        .entry(entry(DIR, "odd/xattr-dir/").xattr("user.dir", "yes"))
        .entry(
            Entry { mode: 0o755, uid: 12, contents: b"ping".into(), ..entry(FILE, "odd/capable") }
                .xattr("security.capability", file_capability(&[10, 13])),
        )
        .entry(entry(FILE, "odd/xattr-trusted").xattr("trusted.test", "root only"))
        // Devices.
        .fifo("odd/fifo")
        .device("odd/null", CHARACTER_DEVICE, 1, 3)
        .device("odd/loop", BLOCK_DEVICE, 7, 0)
        .device("odd/device-large-numbers", CHARACTER_DEVICE, 4000, 300_000)
        .entry(Entry { mode: 0o666, uid: 3, device_major: 1, device_minor: 5, ..entry(CHARACTER_DEVICE, "odd/zero") })
        .entry(Entry { mode: 0o620, uid: 3, ..entry(FIFO, "odd/fifo-owned") })
        // Links.
        .symlink("odd/link-absolute", "/odd/one")
        .symlink("odd/link-dangling", "nowhere/at/all")
        .symlink("odd/link-up", "../../../../odd/one")
        .symlink("odd/link-self", "link-self")
        .symlink("odd/link-dir", "sticky")
        .symlink("odd/link-long", format!("{}/{}", "t".repeat(100), "t".repeat(100)))
        .file("odd/hard-first", 0o600, "shared\n")
        .hard_link("odd/hard-second", "odd/hard-first")
        // The last header of an inode wins: owner, mode, time and xattrs.
        .entry(
            Entry {
                mode: 0o640,
                uid: 99,
                gid: 98,
                mtime: Time { seconds: 1_500_000_000, nanos: 7 },
                ..entry(HARD_LINK, "odd/hard-third")
            }
            .linking("./odd/hard-first")
            .xattr("user.last", "wins"),
        )
        .hard_link("odd/hard-symlink", "odd/link-dangling")
        .hard_link("odd/hard-fifo", "odd/fifo")
        // Names.
        .file(LATIN1_NAME, 0o644, "latin-1\n")
        .file("odd/caf\u{e9}", 0o644, "utf-8\n")
        .symlink(b"odd/latin1-target", b"caf\xe9")
        .file("odd/new\nline", 0o644, "newline\n")
        .file("odd/ space ", 0o644, "space\n")
        .file("odd/back\\slash", 0o644, "backslash\n")
        .file("odd/\u{1b}[31m", 0o644, "escape\n")
        .file("odd/-rf", 0o644, "dash\n")
        .file("odd/...", 0o644, "three dots\n")
        .file("odd/.whatever", 0o644, "no whiteout\n")
        .file("odd/wh.", 0o644, "no whiteout\n")
        .file(format!("odd/{long_component}"), 0o644, "long component\n")
        .file(deep, 0o644, "over 255 in all\n")
        .entry(Entry { long_names: LongNames::Gnu, contents: b"gnu\n".into(), ..entry(FILE, &gnu_deep) })
        .entry(Entry { long_names: LongNames::Gnu, ..entry(SYMLINK, &format!("{gnu_deep}-link")) }.linking(&gnu_deep))
        .entry(Entry { long_names: LongNames::Ustar, contents: b"ustar\n".into(), ..entry(FILE, &ustar) })
        .entry({
            let mut name = b"odd/".to_vec();
            name.extend_from_slice(&[0xff; 110]);
            Entry { contents: b"long and no utf-8\n".into(), ..Entry::new(FILE, name) }
        })
        // What the next layer will change.
        .dir("change/", 0o755)
        .file("change/removed", 0o644, "gone\n")
        .file("change/replaced", 0o644, "old\n")
        .file("change/file-to-dir", 0o644, "a file\n")
        .dir("change/dir-to-file/", 0o755)
        .file("change/dir-to-file/child", 0o644, "child\n")
        .file("change/file-to-symlink", 0o644, "a file\n")
        .symlink("change/symlink-to-dir", "removed-dir")
        .dir("change/removed-dir/", 0o755)
        .file("change/removed-dir/child", 0o644, "child\n")
        .dir("change/opaque-before/", 0o755)
        .file("change/opaque-before/old", 0o644, "old\n")
        .dir("change/opaque-after/", 0o755)
        .file("change/opaque-after/old", 0o644, "old\n")
        .dir("change/opaque-alone/", 0o755)
        .file("change/opaque-alone/old", 0o644, "old\n")
        .dir("change/attributes/", 0o755)
        .file("change/attributes/child", 0o644, "stays\n")
        .dir("change/implied/", 0o700)
        .file("change/implied/old", 0o644, "stays\n")
        .file("change/hard-a", 0o644, "broken apart later\n")
        .hard_link("change/hard-b", "change/hard-a")
        .file("change/back-again", 0o644, "first\n")
        .finish()
}

fn second_layer() -> Vec<u8> {
    TarBuilder::new()
        .dir("change/", 0o755)
        .whiteout("change/removed")
        .whiteout("change/removed-dir")
        .whiteout("change/never-was-there")
        .whiteout("nowhere/never-was-there")
        .whiteout("change/back-again")
        .file("change/replaced", 0o600, "new\n")
        .dir("change/file-to-dir/", 0o755)
        .file("change/file-to-dir/child", 0o644, "child\n")
        .file("change/dir-to-file", 0o644, "a file now\n")
        .symlink("change/file-to-symlink", "replaced")
        .dir("change/symlink-to-dir/", 0o711)
        .file("change/symlink-to-dir/child", 0o644, "child\n")
        .dir("change/opaque-before/", 0o750)
        .opaque("change/opaque-before")
        .file("change/opaque-before/new", 0o644, "new\n")
        .dir("change/opaque-after/", 0o755)
        .file("change/opaque-after/new", 0o644, "new\n")
        .opaque("change/opaque-after/")
        .dir("change/opaque-alone/", 0o755)
        .opaque("change/opaque-alone")
        .entry(Entry { mode: 0o711, uid: 33, gid: 34, ..Entry::new(DIR, "change/attributes/") })
        // No entry for `implied`: the parent is made anew, 0755 and root's, over the 0700 of the layer below (T17).
        .file("change/implied/new", 0o644, "new\n")
        .entry(Entry { mode: 0o600, uid: 1, contents: b"apart\n".into(), ..Entry::new(FILE, "change/hard-b") })
        // The directory's own entry comes after its child.
        .file("late/child", 0o644, "child\n")
        .entry(Entry {
            mode: 0o770,
            uid: 2,
            mtime: Time { seconds: 1_400_000_000, nanos: 0 },
            ..Entry::new(DIR, "late/")
        })
        .finish_without_end()
}

fn third_layer() -> Vec<u8> {
    TarBuilder::new()
        .mtime(1_710_000_000, 0)
        .dir("change/", 0o755)
        .file("change/back-again", 0o644, "third\n")
        .dir("change/removed-dir/", 0o755)
        .file("change/removed-dir/reborn", 0o644, "reborn\n")
        .whiteout("change/file-to-dir/child")
        .file("change/opaque-alone/last", 0o644, "last\n")
        .whiteout("odd/owned")
        .finish_padded(10240)
}

/// Returns an image of this machine's architecture with busybox and its links, which podman can run.
///
/// Panics without Debian's package `busybox-static`.
pub fn runnable_image() -> BuiltImage {
    runnable_image_of(ImageBuilder::oci().compression(Compression::Gzip))
}

/// Returns a runnable image that starts from the format, compression and config of `builder`.
pub fn runnable_image_of(builder: ImageBuilder) -> BuiltImage {
    let busybox = fs::read("/bin/busybox")
        .unwrap_or_else(|error| panic!("/bin/busybox: {error}: install Debian's package busybox-static"));
    assert!(
        !has_interpreter(&busybox),
        "/bin/busybox is linked dynamically: install Debian's package busybox-static, not busybox"
    );
    let mut base = TarBuilder::new().dir("bin/", 0o755).file("bin/busybox", 0o755, busybox);
    for applet in ["sh", "cat", "ls", "stat", "id", "env", "sha256sum", "find", "true", "false", "touch", "rm"] {
        base = base.symlink(format!("bin/{applet}"), "busybox");
    }
    let base = base
        .dir("etc/", 0o755)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        .file("etc/group", 0o644, "root:x:0:\nnobody:x:65534:\n")
        .file("etc/removed", 0o644, "the second layer removes this\n")
        .dir("tmp/", 0o1777)
        .dir("proc/", 0o555)
        .dir("sys/", 0o555)
        .dir("dev/", 0o755)
        .finish();
    let second =
        TarBuilder::new().dir("etc/", 0o755).whiteout("etc/removed").file("etc/motd", 0o644, "hello\n").finish();
    builder
        .architecture(native_architecture())
        .env("PATH=/bin")
        .command(&["/bin/cat", "/etc/motd"])
        .layer(base)
        .layer(second)
        .build()
}

/// Returns whether a 64-bit little-endian ELF file has a program header PT_INTERP, so needs a dynamic linker.
pub(crate) fn has_interpreter(program: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, width: usize| {
        program[at..at + width].iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte))
    };
    let (table, entry_size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|index| number((table + index * entry_size) as usize, 4) == PT_INTERP)
}

/// Returns an image with a layer of `count` files of some bytes each, 100 in a directory.
pub fn many_small_files(count: usize) -> BuiltImage {
    let mut tar = TarBuilder::new().dir("many/", 0o755);
    for number in 0..count {
        let dir = format!("many/{:05}", number / 100);
        if number % 100 == 0 {
            tar = tar.dir(format!("{dir}/"), 0o755);
        }
        tar = tar.file(format!("{dir}/{number:07}"), 0o644, format!("file {number}\n"));
    }
    ImageBuilder::oci().compression(Compression::Gzip).layer(tar.finish()).build()
}

/// Returns an image of `count` layers, each of which adds `layer-<number>`, replaces `top` and removes its predecessor's
/// `only-<number>`. Debian 12's podman mounts no more than 128.
pub fn deep_layers(count: usize) -> BuiltImage {
    let layer = |number: usize| {
        let mut tar = TarBuilder::new()
            .file(format!("layer-{number:04}"), 0o644, format!("{number}\n"))
            .file(format!("only-{number:04}"), 0o644, "")
            .file("top", 0o644, format!("{number}\n"));
        if number > 0 {
            tar = tar.whiteout(format!("only-{:04}", number - 1));
        }
        tar.finish()
    };
    (0..count).fold(ImageBuilder::oci(), |builder, number| builder.layer(layer(number))).build()
}

/// Returns this machine's architecture as images call it.
pub fn native_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Returns `length` bytes that do not repeat soon and compress badly, the same each time.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
