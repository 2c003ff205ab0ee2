//! Images of several layers, base first, each with something that layers do to each other.

use holkas_testkit::tar::{
    BLOCK_DEVICE, CHARACTER_DEVICE, DIR, Entry, FIFO, FILE, HARD_LINK, SYMLINK, TarBuilder, Time, file_capability,
};

type Case = (&'static str, Vec<Vec<u8>>);

fn tar() -> TarBuilder {
    TarBuilder::new().mtime(1_600_000_000, 7)
}

fn owned(kind: u8, path: &str, mode: u32, owner: (u64, u64)) -> Entry {
    let mtime = Time { seconds: 1_500_000_000 + i64::from(mode), nanos: 0 };
    Entry { mode, uid: owner.0, gid: owner.1, mtime, ..Entry::new(kind, path) }
}

fn layers(builders: impl IntoIterator<Item = TarBuilder>) -> Vec<Vec<u8>> {
    builders.into_iter().map(TarBuilder::finish).collect()
}

/// Returns all cases, each with what it is about.
pub(crate) fn all() -> Vec<Case> {
    [directories(), removals(), symlinks(), hard_links(), replacements(), attributes()].concat()
}

fn directories() -> Vec<Case> {
    let base = || tar().entry(owned(DIR, "d", 0o700, (5, 6))).file("d/old", 0o644, "old").dir("d/sub", 0o711);
    vec![
        (
            "the uppermost directory decides its attributes",
            layers([base(), tar().entry(owned(DIR, "d", 0o750, (7, 8))), tar().entry(owned(DIR, "d", 0o705, (9, 1)))]),
        ),
        ("an implied directory above one with attributes", layers([base(), tar().file("d/sub/new", 0o644, "new")])),
        ("an implied directory below one with attributes", layers([tar().file("d/low/x", 0o644, "x"), base()])),
        (
            "times of directories that lower layers write into",
            layers([
                tar().file("d/sub/deep/1", 0o644, "1").mtime(3, 0).dir("d/late", 0o755).file("d/late/2", 0o644, ""),
                base().file("d/sub/deep/3", 0o644, "3"),
                tar().mtime(9, 9).dir("d", 0o755).dir("d/sub", 0o755).dir("d/sub/deep", 0o755).dir("d/late", 0o700),
            ]),
        ),
        (
            "something else between two directories",
            layers([base().file("e/x", 0o644, ""), tar().file("d", 0o644, "").symlink("e", "d"), {
                tar().dir("d", 0o755).file("d/new", 0o644, "new").file("e/y", 0o644, "")
            }]),
        ),
        (
            "a directory above a file, and below one",
            layers([tar().file("f", 0o644, "").dir("g", 0o755).file("g/x", 0o644, ""), {
                tar().dir("f", 0o755).file("f/y", 0o644, "").file("g", 0o644, "file")
            }]),
        ),
        (
            "a root with attributes",
            layers([tar().entry(owned(DIR, "./", 0o1711, (3, 4))).file("x", 0o644, ""), base()]),
        ),
        ("layers without entries", layers([tar(), base(), tar()])),
    ]
}

fn removals() -> Vec<Case> {
    let base = || {
        tar()
            .entry(owned(DIR, "d", 0o700, (5, 6)))
            .file("d/old", 0o644, "old")
            .dir("d/sub", 0o711)
            .file("d/sub/x", 0o644, "x")
    };
    vec![
        ("a whiteout in a directory that nothing names", layers([base(), tar().whiteout("d/sub/x")])),
        ("whiteouts of nothing", layers([base(), tar().whiteout("d/none").whiteout("none/none").whiteout("d/old/x")])),
        ("a whiteout between two directories", layers([base(), tar().whiteout("d"), tar().file("d/new", 0o644, "")])),
        ("what is removed comes again", layers([base(), tar().whiteout("d/old"), tar().file("d/old", 0o600, "again")])),
        (
            "removed and made in one layer",
            layers([base().file("e/x", 0o644, "x"), {
                tar().whiteout("d").dir("d", 0o755).file("d/new", 0o644, "").whiteout("e").file("e", 0o644, "file")
            }]),
        ),
        ("an opaque mark alone", layers([base(), tar().opaque("d/sub"), tar().file("d/sub/new", 0o644, "")])),
        ("an opaque mark after its siblings", layers([base(), tar().file("d/new", 0o644, "").opaque("d")])),
        ("an opaque mark at the root", layers([base(), tar().file("new", 0o644, "").opaque("")])),
        (
            "an opaque directory below another layer",
            layers([base(), tar().opaque("d").file("d/mid", 0o644, ""), tar().file("d/top", 0o644, "")]),
        ),
        ("a whiteout below what is no directory", layers([base(), tar().file("d", 0o644, "").whiteout("d/old")])),
        ("a whiteout through a symlink", layers([base(), tar().dir("d", 0o755).symlink("s", "d").whiteout("s/old")])),
        ("a whiteout below a symlink of a lower layer", layers([base().symlink("s", "d"), tar().whiteout("s/old")])),
        (
            "everything is removed",
            layers([base(), tar().whiteout("d"), tar().file("d/sub/x", 0o644, ""), tar().whiteout("d")]),
        ),
    ]
}

fn symlinks() -> Vec<Case> {
    let base = || {
        tar()
            .dir("usr", 0o755)
            .dir("usr/lib", 0o755)
            .file("usr/lib/a", 0o644, "a")
            .symlink("lib", "usr/lib")
            .symlink("abs", "/usr/./lib")
            .symlink("up", "../../usr")
            .file("lib/own", 0o644, "own")
            .file("abs/own2", 0o644, "own2")
            .file("up/lib/own3", 0o644, "own3")
            .file("lib/new/deep", 0o644, "deep")
    };
    vec![
        ("a directory above a symlink to a directory", layers([base(), tar().file("lib/b", 0o644, "b")])),
        (
            "a symlink above a directory",
            layers([tar().file("lib/b", 0o644, "b").file("usr/lib/b", 0o600, "c"), base()]),
        ),
        (
            "paths through symlinks that are hidden",
            layers([base(), tar().file("lib", 0o644, "").whiteout("abs").dir("up", 0o700), tar().whiteout("lib")]),
        ),
        (
            "what a symlink leads to is hidden",
            layers([base(), tar().whiteout("usr/lib/own").file("usr/lib/own2", 0o600, "top").opaque("usr/lib/new")]),
        ),
        (
            "symlinks through symlinks, some of them hidden",
            layers([
                tar().dir("t", 0o755).symlink("1", "2").symlink("2", "./3/").symlink("3", "/t").file("1/x", 0o644, "x"),
                tar().whiteout("2").file("t/y", 0o644, ""),
            ]),
        ),
        (
            "links out of the tree stay links",
            layers([
                tar().symlink("etc", "/etc").dir("e", 0o755),
                tar().file("etc/passwd", 0o644, "").symlink("e", "/"),
            ]),
        ),
        (
            "one directory by two names, with upper files in it",
            layers([
                tar()
                    .dir("c", 0o755)
                    .symlink("d", "c")
                    .file("c/1", 0o644, "1")
                    .file("d/2", 0o644, "2")
                    .file("d/3", 0o644, ""),
                tar().file("c/1", 0o600, "top").file("d/3", 0o644, "top"),
            ]),
        ),
    ]
}

fn hard_links() -> Vec<Case> {
    let big = "0123456789abcdef".repeat(10_000);
    let base = move || {
        tar()
            .entry(owned(FILE, "h/1", 0o640, (1, 2)).xattr("user.first", "1"))
            .file("h/big", 0o644, &big)
            .entry(owned(HARD_LINK, "h/2", 0o604, (3, 4)).linking("h/1").xattr("user.second", "2"))
            .hard_link("h/big2", "/h/big")
            .entry(
                owned(HARD_LINK, "k/3", 0o755, (0, 9))
                    .linking("h/2")
                    .xattr("security.capability", file_capability(&[10])),
            )
            .hard_link("k/big3", "h/big2")
            .entry(owned(SYMLINK, "h/s", 0o777, (5, 5)).linking("nowhere"))
            .hard_link("k/s", "h/s")
            .entry(owned(FIFO, "h/fifo", 0o600, (5, 5)))
            .hard_link("k/fifo", "h/fifo")
            .device("h/null", CHARACTER_DEVICE, 1, 3)
            .hard_link("k/null", "h/null")
            .device("h/loop", BLOCK_DEVICE, 7, 0)
            .hard_link("k/loop", "h/loop")
            .hard_link("k/null2", "k/null")
    };
    vec![
        ("hard links", layers([base()])),
        ("links whose target is removed", layers([base(), tar().whiteout("h/1").whiteout("h/big").whiteout("h/s")])),
        ("links to links that are removed", layers([base(), tar().whiteout("h")])),
        (
            "targets whose links are removed",
            layers([base(), tar().whiteout("h/2").whiteout("k"), tar().file("h/new", 0o644, "")]),
        ),
        (
            "targets that are replaced",
            layers([base(), tar().file("h/1", 0o600, "top").dir("h/big", 0o755).symlink("h/null", "x"), {
                tar().file("k/fifo", 0o644, "").file("k/big3", 0o644, "top")
            }]),
        ),
        (
            "links through symlinks to hidden files",
            layers([
                tar()
                    .dir("d", 0o755)
                    .file("d/f", 0o644, "f")
                    .symlink("s", "d")
                    .hard_link("g", "s/f")
                    .hard_link("s/h", "g"),
                tar().whiteout("d/f").whiteout("s"),
            ]),
        ),
        (
            "a link in a directory that nothing names, below an upper one",
            layers([
                tar().file("a", 0o644, "a").hard_link("d/e/a", "a").hard_link("n/a", "d/e/a"),
                tar().whiteout("a").entry(owned(DIR, "d", 0o700, (1, 1))).entry(owned(DIR, "d/e", 0o701, (1, 1))),
            ]),
        ),
    ]
}

/// What one layer has put comes to be something else within the same layer.
fn replacements() -> Vec<Case> {
    let replacing = || {
        tar()
            .file("d/below", 0o644, "gone")
            .file("d/deep/er", 0o644, "gone")
            .file("d", 0o640, "a file")
            .dir("c", 0o755)
            .symlink("a", "c")
            .file("c/1", 0o644, "1")
            .symlink("c/2", "1")
            .file("a/1", 0o600, "by the other name")
            .dir("a/2", 0o750)
            .file("c/3/x", 0o644, "")
            .symlink("a/3", "1")
            .file("c/x", 0o644, "1")
    };
    vec![
        ("replaced within a layer", layers([replacing()])),
        (
            "replaced within a lower layer",
            layers([replacing(), tar().dir("d", 0o755).file("d/top", 0o644, "").dir("c/3", 0o711)]),
        ),
        (
            "replaced within an upper layer",
            layers([tar().file("d/low", 0o644, "").file("c/2/low", 0o644, ""), replacing()]),
        ),
        (
            "replaced below what is hidden",
            layers([
                replacing(),
                tar().whiteout("c/1").whiteout("d"),
                tar().file("c/2/z", 0o644, "").symlink("a", "c"),
            ]),
        ),
    ]
}

fn attributes() -> Vec<Case> {
    // One entry for the owner, one for a group with a number, the mask, and all others.
    let acl = [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 8, 0, 7, 0, 42, 0, 0, 0]
        .into_iter()
        .chain([16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255])
        .collect::<Vec<u8>>();
    let base = || {
        let mut base = tar().dir("shared", 0o755).dir("shared/sub", 0o700);
        for n in 0..200 {
            base = base.file(format!("shared/{n}"), 0o644 + (n % 2) * 0o20, n.to_string());
        }
        base.fifo("shared/fifo").symlink("shared/link", "fifo").file("shared/big", 0o666, "x".repeat(100_000))
    };
    vec![
        (
            "groups are not inherited from upper directories",
            layers([base(), tar().entry(owned(DIR, "shared", 0o2775, (0, 50)))]),
        ),
        (
            "access lists are not inherited from upper directories",
            layers([
                base(),
                tar().file("shared/implied/x", 0o644, "").file("shared/own", 0o644, ""),
                tar().entry(owned(DIR, "shared", 0o770, (0, 50)).xattr("system.posix_acl_default", acl)).file(
                    "shared/top",
                    0o666,
                    "",
                ),
            ]),
        ),
        (
            "attributes of all kinds",
            layers([
                tar()
                    .entry(owned(FILE, "cap", 0o755, (9, 9)).xattr("security.capability", file_capability(&[7, 10])))
                    .entry(owned(FILE, "small", 0o4755, (9, 9)).xattr("user.x", "1").xattr("trusted.x", "2"))
                    .entry(owned(DIR, "dir", 0o1777, (9, 9)).xattr("user.low", "1").xattr("trusted.low", "2"))
                    .entry(owned(SYMLINK, "link", 0o777, (9, 9)).linking("cap").xattr("trusted.link", "3")),
                tar().entry(owned(DIR, "dir", 0o1777, (9, 9)).xattr("user.top", "1")),
            ]),
        ),
    ]
}
