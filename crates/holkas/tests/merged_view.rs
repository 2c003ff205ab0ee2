//! Images made by chance, flattened, and held against the kernel's own overlay of their layers.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use holkas::error::Result;
use holkas::fs::Dir;
use holkas::unpack::{ExcludedPath, FlatTree, OnDisk, Privilege, Put, Timestamp, UnpackOptions, unpack};
use holkas_testkit::tar::{DIR, Entry, FIFO, FILE, HARD_LINK, SYMLINK, TarBuilder, Time};
use holkas_testkit::tree::{Kind, Options, Tree};

const CLOCK: Timestamp = Timestamp { seconds: 1_234_567_890, nanos: 5 };
const IMAGES: u64 = 600;

/// The same numbers in every run: SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Few names, so that they meet.
    fn path(&mut self) -> String {
        let depth = [1, 1, 2, 2, 2, 3][self.below(6)];
        let names: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][self.below(3)]).collect();
        names.join("/")
    }

    fn entry(&mut self, earlier: &[String]) -> Entry {
        let path = self.path();
        let mut entry = match self.below(20) {
            0..6 => Entry { contents: path.clone().into_bytes(), ..Entry::new(FILE, &path) },
            6..10 => Entry::new(DIR, &path),
            10..13 => {
                let target = match self.below(4) {
                    0 => format!("/{}", self.path()),
                    1 => format!("../{}", self.path()),
                    2 => ".".into(),
                    _ => self.path(),
                };
                Entry::new(SYMLINK, &path).linking(target)
            }
            13..16 => {
                let target = if earlier.is_empty() { self.path() } else { earlier[self.below(earlier.len())].clone() };
                Entry::new(HARD_LINK, &path).linking(target)
            }
            16 => Entry::new(FIFO, &path),
            17 | 18 => {
                let (above, base) = path.rsplit_once('/').map_or(("", &path[..]), |(above, base)| (above, base));
                return Entry::new(FILE, format!("{above}/.wh.{base}"));
            }
            _ => return Entry::new(FILE, format!("{path}/.wh..wh..opq")),
        };
        entry.mode = [0o755, 0o700, 0o4711, 0o2775][self.below(4)];
        (entry.uid, entry.gid) = (self.below(3) as u64, [0, 0, 50][self.below(3)]);
        entry.mtime = Time { seconds: 1_000_000 + self.below(1000) as i64, nanos: 0 };
        if self.one_in(8) && matches!(entry.kind, FILE | DIR | HARD_LINK) {
            entry = entry.xattr("user.x", self.below(9).to_string());
        }
        entry
    }

    /// A layer that a store can be made of, and what is in it.
    fn layer(&mut self, into: &Path) -> (Vec<u8>, Vec<Entry>) {
        loop {
            let (mut entries, mut names) = (Vec::new(), Vec::new());
            for _ in 0..self.below(9) + self.below(9) {
                let entry = self.entry(&names);
                names.push(String::from_utf8(entry.path.clone()).unwrap());
                entries.push(entry);
                // One that is wrong is left out, or there would be no long layers.
                if diff(&tar(&entries), into).is_err() {
                    entries.pop();
                    names.pop();
                }
            }
            if diff(&tar(&entries), into).is_ok() {
                return (tar(&entries), entries);
            }
        }
    }
}

fn shown(entry: &Entry) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("\n    {} {} -> {}", char::from(entry.kind), text(&entry.path), text(&entry.link))
}

/// Returns whether something else comes where a directory or a symlink to one was. Directories that were named through
/// it then get no time from the store at its end, or that of another.
fn leads_elsewhere(entries: &[Entry]) -> bool {
    let below = |entry: &Entry, other: &Entry| entry.path.starts_with(&[&other.path[..], b"/"].concat());
    entries
        .iter()
        .enumerate()
        .any(|(n, other)| other.kind != DIR && entries[..n].iter().any(|entry| below(entry, other)))
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    entries.iter().cloned().fold(TarBuilder::new(), TarBuilder::entry).finish()
}

/// Makes the diff directory of a layer anew, as in a store.
fn diff(tar: &[u8], into: &Path) -> Result<()> {
    if into.exists() {
        fs::remove_dir_all(into).unwrap();
    }
    fs::create_dir(into).unwrap();
    let options = UnpackOptions { on_disk: OnDisk::Overlay, clock: CLOCK, privilege: Privilege::Root };
    unpack(&mut &tar[..], &Dir::open(into)?, &options, None).map(|_| ())
}

fn flatten(layers: &[Vec<u8>], exclude: &[String], into: &Path) -> Result<bool> {
    fs::create_dir(into).unwrap();
    let into = Dir::open(into)?;
    let exclude = exclude.iter().map(|path| ExcludedPath::parse(path.as_bytes()).unwrap()).collect();
    let mut tree = FlatTree::begin(&into, CLOCK, exclude)?;
    let mut twice = false;
    for layer in layers {
        if tree.layer(&mut &layer[..])? == Put::LinksWanting {
            twice = true;
            tree.layer_again(&mut &layer[..])?;
        }
    }
    tree.end().map(|()| twice)
}

struct Mounted<'m>(&'m Path);

impl<'m> Mounted<'m> {
    fn overlay(lower: &[String], at: &'m Path) -> Self {
        fs::create_dir(at).unwrap();
        let options = format!("lowerdir={}", lower.join(":"));
        let mount = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at).output().unwrap();
        assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the overlay stays mounted");
    }
}

/// Removes as `rm -rf` of the paths would, but after chroot.
fn remove(tree: &mut Tree, exclude: &[String]) {
    // What another path covers does not count, even if that is a symlink to elsewhere.
    let covered = |path: &String| exclude.iter().any(|other| path.starts_with(&format!("{other}/")));
    for path in exclude.iter().filter(|path| !covered(path)) {
        let (above, base) = path.rsplit_once('/').unwrap();
        let Some(above) = resolve(tree, above) else { continue };
        let path = if above.is_empty() { base.to_owned() } else { format!("{above}/{base}") };
        let below = format!("{path}/");
        tree.nodes.retain(|other, _| other != path.as_bytes() && !other.starts_with(below.as_bytes()));
    }
    // Of several names of one file, others may now be the first, or the only one.
    let mut left = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
    for (path, node) in &tree.nodes {
        node.hard_link.iter().for_each(|first| left.entry(first.clone()).or_default().push(path.clone()));
    }
    for names in left.into_values() {
        let first = (names.len() > 1).then(|| names[0].clone());
        names.iter().for_each(|name| tree.nodes.get_mut(name).unwrap().hard_link.clone_from(&first));
    }
}

/// Returns where a directory of the tree is, as after chroot.
fn resolve(tree: &Tree, path: &str) -> Option<String> {
    let mut real: Vec<String> = Vec::new();
    let mut parts: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut links = 0;
    while let Some(part) = parts.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                real.pop();
                continue;
            }
            _ => real.push(part),
        }
        let node = tree.get(real.join("/"))?;
        match node.kind {
            Kind::Dir => {}
            Kind::Symlink => {
                links += 1;
                if links > 40 {
                    return None;
                }
                let target = String::from_utf8(node.link.clone()).unwrap();
                real.pop();
                if target.starts_with('/') {
                    real.clear();
                }
                parts.extend(target.split('/').rev().map(str::to_owned));
            }
            _ => return None,
        }
    }
    Some(real.join("/"))
}

#[test]
fn flat_trees_are_what_the_kernel_merges() {
    let (mut twice, mut refused, mut excluding) = (0, 0, 0);
    for seed in 0..IMAGES {
        let mut chance = Chance(seed);
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("empty")).unwrap();
        let (mut layers, mut lower, mut text, mut elsewhere) = (Vec::new(), Vec::new(), String::new(), false);
        for n in 0..1 + chance.below(4) {
            let diff = at(&n.to_string());
            let (layer, entries) = chance.layer(&diff);
            layers.push(layer);
            lower.push(diff.display().to_string());
            elsewhere |= leads_elsewhere(&entries);
            text += &format!("layer {n}:{}\n", entries.iter().map(shown).collect::<String>());
        }
        // The first is the uppermost.
        lower.push(at("empty").display().to_string());
        let mut exclude = Vec::new();
        if chance.one_in(3) {
            exclude = (0..1 + chance.below(2)).map(|_| format!("/{}", chance.path())).collect();
            excluding += 1;
        }
        let what = || format!("seed {seed}, the uppermost first, without {exclude:?}:\n{text}");
        match flatten(&layers, &exclude, &at("flat")) {
            Ok(again) => twice += usize::from(again),
            Err(error) => {
                // The last is a link whose own name takes the symlink away that its target's name leads through.
                let known = [
                    "where it has replaced one",
                    "after hard links to hidden files",
                    "leads through what it would replace",
                    "the target is not in the layer before it",
                ];
                assert!(known.iter().any(|part| error.to_string().contains(part)), "{error}\n{}", what());
                refused += 1;
                continue;
            }
        }
        let ours = Tree::read(at("flat"));
        let mounted = at("mounted");
        let overlay = Mounted::overlay(&lower, &mounted);
        let mut theirs = Tree::read(&mounted);
        remove(&mut theirs, &exclude);
        let known = Options::new().ignore_path("").ignore_mtime_of(move |_| elsewhere);
        let lines = ours.differences(&theirs, &known);
        drop(overlay);
        assert!(lines.is_empty(), "{}\nours -> overlay's:\n{}", what(), lines.join("\n"));
    }
    // Or the images would show nothing.
    let enough = [(twice, 100), (excluding, 5)].iter().all(|(count, part)| *count > IMAGES as usize / part);
    assert!(enough && refused < IMAGES as usize / 10, "{twice} read again, {refused} refused, {excluding} excluding");
}
