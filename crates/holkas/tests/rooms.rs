//! Every room keeps one contract: what goes in comes out, byte for byte; what is not as it must be goes nowhere.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the message of a test, and its files are its own"
)]

#[path = "rooms/archives.rs"]
mod archives;

use std::fs;
use std::path::{Path, PathBuf};

use holkas::archive::{OciArchiveDestination, OciArchiveSource};
use holkas::dir::{DirDestination, DirSource};
use holkas::image::{Image, ImageDestination, ImageSource, LayerBlob, LayerReader, open_top};
use holkas::layout::{LayoutDestination, LayoutSource};
use holkas::oci::{Document, Index, Manifest};
use holkas::reference::{LayoutReference, LayoutSelect};
use holkas::{Error, ErrorKind, Result};
use holkas_testkit::image::{BuiltImage, BuiltIndex, Compression, ImageBuilder};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::{corrupt, samples};

/// The rooms that keep what they are given, and how to name an image in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Dir,
    Oci,
    OciArchive,
}

const ROOMS: [Room; 3] = [Room::Dir, Room::Oci, Room::OciArchive];

fn layout(path: &Path) -> LayoutReference {
    named(path, "1")
}

fn named(path: &Path, name: &str) -> LayoutReference {
    LayoutReference { path: path.to_path_buf(), select: LayoutSelect::Named(name.into()) }
}

impl Room {
    fn source(self, path: &Path) -> Result<Box<dyn ImageSource>> {
        Ok(match self {
            Self::Dir => Box::new(DirSource::open(path)?),
            Self::Oci => Box::new(LayoutSource::open(&layout(path), None)?),
            Self::OciArchive => Box::new(OciArchiveSource::open(&layout(path))?),
        })
    }

    fn destination(self, path: &Path) -> Result<Box<dyn ImageDestination>> {
        Ok(match self {
            Self::Dir => Box::new(DirDestination::create(path)?),
            Self::Oci => Box::new(LayoutDestination::create(&layout(path), None)?),
            Self::OciArchive => Box::new(OciArchiveDestination::create(&layout(path))?),
        })
    }

    fn skopeo(self, path: &Path) -> String {
        match self {
            Self::Dir => format!("dir:{}", path.display()),
            Self::Oci => format!("oci:{}:1", path.display()),
            Self::OciArchive => format!("oci-archive:{}:1", path.display()),
        }
    }

    fn write(self, image: &BuiltImage, path: &Path) {
        match self {
            Self::Dir => image.write_dir(path),
            Self::Oci => image.write_oci(path, Some("1")),
            Self::OciArchive => image.write_oci_archive(path, Some("1")),
        }
    }

    fn write_index(self, index: &BuiltIndex, path: &Path) {
        match self {
            Self::Dir => index.write_dir(path),
            Self::Oci => index.write_oci(path, Some("1")),
            Self::OciArchive => index.write_oci_archive(path, Some("1")),
        }
    }
}

/// Writes one image, layer by layer.
fn put(source: &dyn ImageSource, manifest: Manifest, indexes: Vec<Index>, to: &dyn ImageDestination) -> Result<()> {
    let mut image = Image::open(source, manifest, indexes)?;
    image.signatures = source.signatures(image.manifest.digest())?;
    let writer = to.begin(&image)?;
    let mut stored = Vec::new();
    for layer in &image.layers {
        if let Some(here) = writer.reuse_layer(layer)? {
            stored.push(here);
            continue;
        }
        let body = match source.open_layer(layer)? {
            LayerBlob::AsDescribed(blob) => LayerReader::Blob(blob.verify(&layer.descriptor)),
            LayerBlob::Uncompressed(blob, size) => {
                LayerReader::Diff(blob.verify_diff(layer.diff_id.expect("an image"), size))
            }
        };
        stored.push(writer.put_layer(layer, body)?);
    }
    writer.commit(stored)
}

/// Copies all that the source names, changing nothing, up to what makes it visible.
fn stage(source: &dyn ImageSource, to: &dyn ImageDestination) -> Result<()> {
    match open_top(source)? {
        Document::Manifest(manifest) => put(source, manifest, Vec::new(), to),
        Document::Index(index) => {
            for entry in index.entries() {
                let raw = source.open_manifest(entry)?.read_verified(entry, holkas::limits::MANIFEST)?;
                put(source, Manifest::parse(raw)?, vec![index.clone()], to)?;
            }
            to.put_index(&index, &source.signatures(index.digest())?)
        }
        Document::Schema1(_) => Err(Error::unsupported("schema 1")),
    }
}

fn copy(source: &dyn ImageSource, to: Box<dyn ImageDestination>) -> Result<()> {
    stage(source, &*to)?;
    to.publish()
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn one_layer(text: &str) -> BuiltImage {
    ImageBuilder::oci().layer(TarBuilder::new().file("f", 0o644, text).finish()).build()
}

fn three_layers() -> BuiltImage {
    let layer = |text: &str| TarBuilder::new().file("etc/motd", 0o644, text.repeat(500)).finish();
    ImageBuilder::oci()
        .layer_with(layer("base\n"), Compression::Gzip)
        .layer_with(layer("middle\n"), Compression::None)
        .layer_with(layer("top\n"), Compression::Zstd)
        // The same layer twice is one blob.
        .layer_with(layer("base\n"), Compression::Gzip)
        .build()
}

fn two_platforms() -> BuiltIndex {
    samples::hello()
}

/// Returns all files below as `path mode digest`, sorted; of an archive, what is in it.
fn tree(path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    if path.is_file() {
        let unpacked = temp();
        let tar = std::process::Command::new("tar").arg("-xpf").arg(path).arg("-C").arg(unpacked.path()).status();
        assert!(tar.expect("tar runs").success(), "tar reads {}", path.display());
        return tree(unpacked.path());
    }
    let mut lines = Vec::new();
    let mut left = vec![path.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let entry = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&entry).expect("metadata");
            let name = entry.strip_prefix(path).expect("below").display().to_string();
            if metadata.is_dir() {
                lines.push(format!("{name}/ {:o}", metadata.mode() & 0o7777));
                left.push(entry);
            } else {
                let mut bytes = fs::read(&entry).expect("a file");
                if name == "oci-layout" {
                    // The kit's has no space in it, skopeo's has one; another test compares ours with skopeo's.
                    bytes.retain(|byte| *byte != b' ');
                }
                let digest = holkas_testkit::image::sha256_hex(bytes);
                lines.push(format!("{name} {:o} {digest}", metadata.mode() & 0o7777));
            }
        }
    }
    lines.sort();
    lines
}

fn names(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(path).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    names.sort();
    names
}

#[test]
fn what_goes_in_comes_out() {
    for from in ROOMS {
        for to in ROOMS {
            let temp = temp();
            let at = |name: &str| temp.path().join(name);
            from.write(&three_layers(), &at("from"));
            to.write(&three_layers(), &at("expected"));
            copy(&*from.source(&at("from")).unwrap(), to.destination(&at("to")).unwrap()).unwrap();
            assert_eq!(tree(&at("to")), tree(&at("expected")), "{from:?} to {to:?}");

            from.write_index(&two_platforms(), &at("from-list"));
            to.write_index(&two_platforms(), &at("expected-list"));
            copy(&*from.source(&at("from-list")).unwrap(), to.destination(&at("to-list")).unwrap()).unwrap();
            assert_eq!(tree(&at("to-list")), tree(&at("expected-list")), "{from:?} to {to:?}, list");
            assert_eq!(names(temp.path()).len(), 6, "nothing else is left: {:?}", names(temp.path()));
        }
    }
}

#[test]
fn skopeo_reads_what_we_write_and_writes_the_same() {
    for to in ROOMS {
        for all in [false, true] {
            let temp = temp();
            let at = |name: &str| temp.path().join(name);
            match all {
                true => Room::Oci.write_index(&two_platforms(), &at("from")),
                false => Room::Oci.write(&three_layers(), &at("from")),
            }
            let skopeo = Peer::skopeo();
            copy(&*Room::Oci.source(&at("from")).unwrap(), to.destination(&at("ours")).unwrap()).unwrap();
            let raw = skopeo.run(["inspect", "--raw", &to.skopeo(&at("ours"))]).stdout;
            let expected = if all { two_platforms().manifest } else { three_layers().manifest };
            assert_eq!(raw, expected);

            let mut arguments = vec!["copy", "-q", "--preserve-digests"];
            arguments.extend(all.then_some("--all"));
            let (from, ours, theirs, back) = (
                Room::Oci.skopeo(&at("from")),
                to.skopeo(&at("ours")),
                to.skopeo(&at("theirs")),
                Room::Dir.skopeo(&at("back")),
            );
            skopeo.run(arguments.iter().copied().chain([from.as_str(), theirs.as_str()])).ok();
            assert_eq!(tree(&at("ours")), tree(&at("theirs")), "{to:?}, all: {all}");
            if to == Room::Oci {
                let read = |layout: &str| fs::read_to_string(at(layout).join("oci-layout")).unwrap();
                assert_eq!(read("ours"), read("theirs"));
            }

            skopeo.run(arguments.iter().copied().chain([ours.as_str(), back.as_str()])).ok();
            copy(&*to.source(&at("theirs")).unwrap(), Room::Dir.destination(&at("our-back")).unwrap()).unwrap();
            assert_eq!(tree(&at("back")), tree(&at("our-back")), "{to:?}, all: {all}");
        }
    }
}

/// One lie about the image in a directory, and what must come of it.
type Lie = (&'static str, fn(&Path), ErrorKind);

/// Returns the file of layer `n`, or of the config for 9.
fn blob(path: &Path, n: usize) -> PathBuf {
    let image = three_layers();
    let digest = if n == 9 { image.config_digest() } else { image.layers[n].digest.clone() };
    let hex = digest.strip_prefix("sha256:").expect("sha256").to_string();
    let oci = path.join("blobs/sha256").join(&hex);
    if oci.exists() { oci } else { path.join(hex) }
}

const LIES: [Lie; 9] = [
    ("wrong", |p| corrupt::flip_middle(blob(p, 1)), ErrorKind::Mismatch),
    ("short", |p| corrupt::drop_last(blob(p, 0), 1), ErrorKind::Mismatch),
    ("long", |p| corrupt::append(blob(p, 2), "x"), ErrorKind::Mismatch),
    ("missing", |p| corrupt::remove(blob(p, 2)), ErrorKind::NotFound),
    ("wrong config", |p| corrupt::flip_middle(blob(p, 9)), ErrorKind::Mismatch),
    ("missing config", |p| corrupt::remove(blob(p, 9)), ErrorKind::NotFound),
    ("symlink out", |p| replace_by(p, &["ln", "-s", "/etc/passwd"]), ErrorKind::Refused),
    ("directory", |p| replace_by(p, &["mkdir"]), ErrorKind::Invalid),
    ("fifo", |p| replace_by(p, &["mkfifo"]), ErrorKind::Invalid),
];

/// Puts what a command makes in the place of layer 1.
fn replace_by(path: &Path, command: &[&str]) {
    let blob = blob(path, 1);
    corrupt::remove(&blob);
    let status = std::process::Command::new(command[0]).args(&command[1..]).arg(&blob).status();
    assert!(status.expect("it runs").success());
}

fn make_archive(directory: &Path, archive: &Path) {
    let tar = std::process::Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(archive).arg(".").status();
    assert!(tar.expect("tar runs").success());
}

#[test]
fn a_lie_goes_nowhere() {
    for from in ROOMS {
        for (what, lie, kind) in LIES {
            for to in ROOMS {
                let temp = temp();
                let at = |name: &str| temp.path().join(name);
                match from {
                    Room::OciArchive => {
                        Room::Oci.write(&three_layers(), &at("directory"));
                        lie(&at("directory"));
                        make_archive(&at("directory"), &at("from"));
                        fs::remove_dir_all(at("directory")).unwrap();
                    }
                    Room::Dir | Room::Oci => {
                        from.write(&three_layers(), &at("from"));
                        lie(&at("from"));
                    }
                }
                let error = from
                    .source(&at("from"))
                    .and_then(|source| copy(&*source, to.destination(&at("to"))?))
                    .expect_err("a lie must be found");
                assert_eq!(error.kind(), kind, "{from:?} to {to:?}, {what}: {error}");
                assert_eq!(names(temp.path()), [at("from")], "{from:?} to {to:?}, {what}");

                // An image that was there stays as it was.
                to.write(&one_layer("old"), &at("old"));
                let before = tree(&at("old"));
                from.source(&at("from")).and_then(|s| copy(&*s, to.destination(&at("old"))?)).expect_err("still a lie");
                assert_eq!(tree(&at("old")), before, "{from:?} to {to:?}, {what}");
            }
        }
    }
}

#[test]
fn a_drop_before_publish_leaves_nothing() {
    for to in ROOMS {
        let temp = temp();
        let at = |name: &str| temp.path().join(name);
        Room::Dir.write(&three_layers(), &at("from"));
        let source = Room::Dir.source(&at("from")).unwrap();
        let destination = to.destination(&at("to")).unwrap();
        stage(&*source, &*destination).unwrap();
        assert!(!at("to").exists(), "{to:?}: nothing is visible yet");
        drop(destination);
        assert_eq!(names(temp.path()), [at("from")], "{to:?}");
    }
}

#[test]
fn an_image_is_replaced_but_nothing_else() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    Room::Dir.write(&three_layers(), &at("from"));
    let source = Room::Dir.source(&at("from")).unwrap();
    Room::Dir.write(&one_layer("old"), &at("old"));
    fs::create_dir(at("empty")).unwrap();
    for place in ["old", "empty"] {
        copy(&*source, Room::Dir.destination(&at(place)).unwrap()).unwrap();
        assert_eq!(tree(&at(place)), tree(&at("from")), "{place}");
    }

    fs::create_dir(at("mine")).unwrap();
    fs::write(at("mine/thesis"), "years of work").unwrap();
    let error = DirDestination::create(&at("mine")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("not a containers image directory"), "{error}");
    for room in ROOMS {
        let error = room.destination(&at("no/parent")).map(|_| ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound), "{error}");
    }
}

#[test]
fn a_mount_point_is_filled_in_place() {
    let mount = holkas_testkit::fault::small_tmpfs(8 << 20);
    let temp = temp();
    Room::Dir.write(&three_layers(), &temp.path().join("from"));
    let source = Room::Dir.source(&temp.path().join("from")).unwrap();
    for _ in 0..2 {
        copy(&*source, Room::Dir.destination(mount.path()).unwrap()).unwrap();
        assert_eq!(tree(mount.path()), tree(&temp.path().join("from")));
    }
}

#[test]
fn a_full_destination_is_left_as_it_was() {
    for to in ROOMS {
        let mount = holkas_testkit::fault::small_tmpfs(256 << 10);
        let temp = temp();
        let noise = holkas_testkit::oddities::pattern(1 << 20);
        let image = ImageBuilder::oci().layer(TarBuilder::new().file("noise", 0o644, noise).finish()).build();
        Room::Dir.write(&image, &temp.path().join("from"));
        let source = Room::Dir.source(&temp.path().join("from")).unwrap();
        let error = copy(&*source, to.destination(&mount.path().join("to")).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{to:?}: {error}");
        assert!(names(mount.path()).is_empty(), "{to:?}");
    }
}

#[test]
fn an_image_without_a_list_is_one() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    for to in ROOMS {
        let destination = to.destination(&at("to")).unwrap();
        for (n, image) in two_platforms().images.iter().take(2).enumerate() {
            let from = at(&format!("{to:?}-{n}"));
            image.write_dir(&from);
            stage(&DirSource::open(&from).unwrap(), &*destination).unwrap();
        }
        assert_eq!(destination.publish().unwrap_err().kind(), ErrorKind::Refused, "{to:?}");
        assert!(!at("to").exists());
    }
}

#[test]
fn signatures_go_along_in_a_dir() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    three_layers().write_dir_signed(at("from"), &["first", "second"]);
    copy(&DirSource::open(&at("from")).unwrap(), Room::Dir.destination(&at("to")).unwrap()).unwrap();
    assert_eq!(tree(&at("to")), tree(&at("from")));
    for room in [Room::Oci, Room::OciArchive] {
        let destination = room.destination(&at("layout")).unwrap();
        let error = copy(&DirSource::open(&at("from")).unwrap(), destination).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    // An instance's signatures are beside its manifest.
    let index = two_platforms();
    index.write_dir(at("list"));
    let hex = holkas_testkit::image::sha256_hex(&index.images[0].manifest);
    fs::write(at(&format!("list/{hex}.signature-1")), "one").unwrap();
    fs::write(at("list/signature-1"), "two").unwrap();
    copy(&DirSource::open(&at("list")).unwrap(), Room::Dir.destination(&at("list-to")).unwrap()).unwrap();
    assert_eq!(tree(&at("list-to")), tree(&at("list")));
}

#[test]
fn a_layout_keeps_what_others_wrote() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    for name in ["a", "b"] {
        one_layer(name).write_oci(at(name), Some("1"));
    }
    let skopeo = Peer::skopeo();
    let put = |from: &str, name: &str| {
        let to = LayoutDestination::create(&named(&at("ours"), name), None).unwrap();
        copy(&*Room::Oci.source(&at(from)).unwrap(), Box::new(to)).unwrap();
    };
    // The same steps by both: a new name, the name taken over by another image, a second name of the first.
    for (from, name) in [("a", "1"), ("b", "1"), ("a", "2")] {
        let from_text = format!("oci:{}:1", at(from).display());
        let to_text = format!("oci:{}:{name}", at("theirs").display());
        skopeo.run(["copy", "-q", "--preserve-digests", &from_text, &to_text]).ok();
        put(from, name);
        let read = |layout: &str| fs::read_to_string(at(layout).join("index.json")).unwrap();
        assert_eq!(read("ours"), read("theirs"), "{from} as {name}");
    }
    assert_eq!(tree(&at("ours")), tree(&at("theirs")));
    // Keys of others survive, and a second name for an image does not take the first, as it would in skopeo 1.9.
    let index = at("ours/index.json");
    corrupt::replace_text(&index, "{\"schemaVersion\":2,", "{\"schemaVersion\":2,\"annotations\":{\"x\":\"y\"},");
    put("b", "3");
    assert!(fs::read_to_string(&index).unwrap().starts_with("{\"schemaVersion\":2,\"annotations\":{\"x\":\"y\"},"));
    for name in ["1", "2", "3"] {
        LayoutSource::open(&named(&at("ours"), name), None).unwrap();
    }
}

#[test]
fn a_layout_heals_a_damaged_blob_and_shares_a_whole_one() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    Room::Oci.write(&three_layers(), &at("from"));
    Room::Oci.write(&three_layers(), &at("to"));
    corrupt::flip_middle(blob(&at("to"), 1));
    copy(&*Room::Oci.source(&at("from")).unwrap(), Room::Oci.destination(&at("to")).unwrap()).unwrap();
    assert_eq!(tree(&at("to")), tree(&at("from")));

    fs::create_dir(at("shared")).unwrap();
    let shared = at("shared");
    let to = Box::new(LayoutDestination::create(&layout(&at("sparse")), Some(&shared)).unwrap());
    copy(&*Room::Oci.source(&at("from")).unwrap(), to).unwrap();
    assert_eq!(tree(&shared), tree(&at("from/blobs")));
    assert!(names(&at("sparse/blobs")).is_empty());
    let source = LayoutSource::open(&layout(&at("sparse")), Some(&shared)).unwrap();
    copy(&source, Room::Dir.destination(&at("back")).unwrap()).unwrap();
    let theirs = format!("dir:{}", at("theirs").display());
    let skopeo = Peer::skopeo();
    let shared = shared.display().to_string();
    let from = Room::Oci.skopeo(&at("sparse"));
    skopeo.run(["copy", "-q", "--preserve-digests", "--src-shared-blob-dir", &shared, &from, &theirs]).ok();
    assert_eq!(tree(&at("back")), tree(&at("theirs")));
}

#[test]
fn an_image_is_found_by_name_position_or_because_it_is_alone() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    one_layer("a").write_oci(at("o"), Some("a"));
    let open = |select| LayoutSource::open(&LayoutReference { path: at("o"), select }, None);
    assert_eq!(open(LayoutSelect::Only).unwrap().top().unwrap().bytes(), one_layer("a").manifest);
    one_layer("b").write_oci(at("o"), Some("../../b"));
    assert_eq!(open(LayoutSelect::Named("../../b".into())).unwrap().top().unwrap().bytes(), one_layer("b").manifest);
    assert_eq!(open(LayoutSelect::Position(1)).unwrap().top().unwrap().bytes(), one_layer("b").manifest);
    for select in [LayoutSelect::Only, LayoutSelect::Named("c".into()), LayoutSelect::Position(2)] {
        let error = open(select.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{select:?}: {error}");
    }
}

#[test]
fn hostile_files_are_refused_before_they_are_read() {
    let big = |path: &Path, bytes: u64| fs::File::create(path).unwrap().set_len(bytes).unwrap();
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    Room::Dir.write(&three_layers(), &at("d"));
    Room::Oci.write(&three_layers(), &at("o"));
    for (room, place, file) in [
        (Room::Dir, "d", "version"),
        (Room::Dir, "d", "manifest.json"),
        (Room::Oci, "o", "index.json"),
        (Room::Oci, "o", "oci-layout"),
    ] {
        let path = at(place).join(file);
        let before = fs::read(&path).unwrap();
        big(&path, 1 << 40);
        let error = room.source(&at(place)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{file}: {error}");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert_eq!(room.source(&at(place)).map(|_| ()).unwrap_err().kind(), ErrorKind::Refused, "{file}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, before).unwrap();
    }
    // More signatures than any policy could want.
    for n in 1..=holkas::limits::SIGNATURES + 1 {
        fs::write(at("d").join(format!("signature-{n}")), "x").unwrap();
    }
    let source = DirSource::open(&at("d")).unwrap();
    assert_eq!(source.signatures(source.top().unwrap().digest()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn two_writers_of_one_layout_lose_nothing() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    for name in ["a", "b", "c", "d"] {
        one_layer(name).write_dir(at(name));
    }
    // The layout is made by two at once, then two at once add to it.
    for pair in [["a", "b"], ["c", "d"]] {
        let staged = pair.map(|name| {
            let to = Box::new(LayoutDestination::create(&named(&at("layout"), name), None).unwrap());
            stage(&DirSource::open(&at(name)).unwrap(), &*to).unwrap();
            to
        });
        std::thread::scope(|scope| {
            // The first in its place, the others at once: making it anew is one step only.
            let [first, second] = staged;
            first.publish().unwrap();
            scope.spawn(move || second.publish().unwrap());
        });
    }
    for name in ["a", "b", "c", "d"] {
        let source = LayoutSource::open(&named(&at("layout"), name), None).unwrap();
        assert_eq!(source.top().unwrap().bytes(), one_layer(name).manifest);
    }
    assert_eq!(names(&at("layout")), ["blobs", "index.json", "oci-layout"].map(|name| at("layout").join(name)));
}
