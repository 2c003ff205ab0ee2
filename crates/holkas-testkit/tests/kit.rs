//! The kit itself: its bytes are right in the eyes of real programs, and the same each time.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use holkas_testkit::image::{Compression, Format, ImageBuilder, IndexBuilder, OCI_INDEX, sha256_hex};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::{CHARACTER_DEVICE, DIR, Entry, FILE, LargeNumbers, LongNames, SYMLINK, TarBuilder, Time};
use holkas_testkit::tree::{Kind, Options, Tree};
use holkas_testkit::{corrupt, fault, oddities, samples};

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Unpacks with GNU tar, which shares nothing with the kit or with Go.
fn untar(bytes: &[u8]) -> (tempfile::TempDir, Tree) {
    let dir = temp();
    let (archive, out) = (dir.path().join("a.tar"), dir.path().join("out"));
    fs::write(&archive, bytes).expect("written");
    fs::create_dir(&out).expect("made");
    let output = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&archive)
        .arg("-C")
        .arg(&out)
        .output()
        .expect("tar is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = Tree::read(&out);
    (dir, tree)
}

#[test]
fn gnu_tar_reads_all_fields() {
    let long = format!("{}/{}", "a".repeat(120), "b".repeat(150));
    let gnu = format!("{}/{}", "c".repeat(120), "d".repeat(150));
    let ustar = format!("{}/{}", "e".repeat(90), "f".repeat(90));
    let bytes = TarBuilder::new()
        .global_pax(&[("comment", "x")])
        .entry(Entry {
            mode: 0o4711,
            uid: 3_000_000,
            gid: 4_000_000_000,
            mtime: Time { seconds: -2, nanos: 750_000_000 },
            contents: vec![1; 513],
            ..Entry::new(FILE, "pax").xattr("user.key", b"a\0b\n=").xattr("security.capability", oddities_capability())
        })
        .entry(Entry {
            uid: 3_000_000,
            gid: 4_000_000_000,
            mtime: Time { seconds: -5, nanos: 0 },
            large_numbers: LargeNumbers::Base256,
            long_names: LongNames::Gnu,
            ..Entry::new(FILE, "base256")
        })
        .file(&long, 0o600, "long")
        .entry(Entry { long_names: LongNames::Gnu, ..Entry::new(FILE, &gnu) })
        .entry(Entry { long_names: LongNames::Gnu, ..Entry::new(SYMLINK, "gnu-link").linking(&gnu) })
        .entry(Entry { long_names: LongNames::Ustar, ..Entry::new(FILE, &ustar) })
        .symlink("link", &long)
        .file(b"caf\xe9", 0o644, "")
        .file("new\nline", 0o644, "")
        .dir("dir/", 0o1777)
        .device("null", CHARACTER_DEVICE, 1, 3)
        .fifo("fifo")
        .hard_link("zhard", "pax")
        .finish_padded(10240);
    assert_eq!(bytes.len() % 10240, 0);
    let (_dir, tree) = untar(&bytes);
    let node = tree.at("pax");
    assert_eq!((node.uid, node.gid, node.size), (3_000_000, 4_000_000_000, 513));
    assert_eq!(node.contents, sha256_hex([1; 513]));
    assert_eq!(node.mtime, (-2, 750_000_000));
    assert_eq!(node.xattrs[&b"user.key"[..]], b"a\0b\n=");
    assert_eq!(node.hard_link.as_deref(), Some(&b"pax"[..]));
    assert_eq!(tree.at("zhard").hard_link.as_deref(), Some(&b"pax"[..]));
    let node = tree.at("base256");
    assert_eq!((node.uid, node.gid, node.mtime), (3_000_000, 4_000_000_000, (-5, 0)));
    assert_eq!(tree.at(&long).mode, 0o600);
    assert_eq!(tree.at("link").link, long.as_bytes());
    assert_eq!(tree.at("gnu-link").link, gnu.as_bytes());
    assert_eq!(tree.at(&gnu).kind, Kind::File);
    assert_eq!(tree.at(&ustar).kind, Kind::File);
    assert_eq!(tree.at(b"caf\xe9").kind, Kind::File);
    assert_eq!(tree.at("new\nline").kind, Kind::File);
    assert_eq!(tree.at("dir").mode, 0o1777);
    assert_eq!((tree.at("null").kind, tree.at("null").device), (Kind::CharacterDevice, (1, 3)));
    assert_eq!(tree.at("fifo").kind, Kind::Fifo);
}

fn oddities_capability() -> Vec<u8> {
    holkas_testkit::tar::file_capability(&[13])
}

#[test]
fn trees_differ_by_line() {
    let make = |mode, contents: &str, seconds| {
        let entry =
            Entry { mode, contents: contents.into(), mtime: Time { seconds, nanos: 0 }, ..Entry::new(FILE, "f") };
        untar(&TarBuilder::new().dir("./", 0o755).entry(entry).dir("d/", 0o755).finish()).1
    };
    let (left, right) = (make(0o644, "a", 1), make(0o600, "a", 2));
    assert_eq!(left.digest(), make(0o644, "a", 1).digest());
    assert_ne!(left.digest(), right.digest());
    assert_eq!(
        left.differences(&right, &Options::new()),
        ["~ f: mode: 0644 -> 0600", "~ f: mtime: 1.000000000 -> 2.000000000"]
    );
    assert_eq!(left.differences(&right, &Options::new().ignore_mtimes()), ["~ f: mode: 0644 -> 0600"]);
    left.assert_same(&right, &Options::new().ignore_path("f"));
    assert_eq!(left.subtree("d").paths(), [""]);
}

/// Every way that an image is written can be read by skopeo, to the same manifest or config.
#[test]
fn skopeo_reads_what_the_kit_writes() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    let raw = |reference: String| {
        let output = Peer::skopeo().run(["inspect", "--raw", &reference]);
        output.ok();
        output.stdout
    };
    for builder in [ImageBuilder::oci(), ImageBuilder::docker().healthcheck(&["CMD", "true"])] {
        let image = builder
            .compression(Compression::Gzip)
            .env("A=b & <c>")
            .layer(TarBuilder::new().file("a", 0o644, "a").finish())
            .empty_history("ENV A")
            .layer(TarBuilder::new().whiteout("a").finish())
            .layer(TarBuilder::new().file("b", 0o644, "b").finish())
            .build();
        for name in ["d", "o", "oa.tar", "da.tar", "ds.tar", "da-skopeo.tar", "signed"] {
            let _ = fs::remove_dir_all(at(name)).or_else(|_| fs::remove_file(at(name)));
        }
        image.write_dir(at("d"));
        assert_eq!(raw(format!("dir:{}", at("d").display())), image.manifest);
        image.write_dir_signed(at("signed"), &[b"\x88fake", &b"\x88second"[..4]]);
        assert_eq!(fs::read(at("signed/signature-2")).expect("written"), b"\x88sec");
        image.write_oci(at("o"), Some("1"));
        image.write_oci(at("o"), Some("2"));
        image.write_oci_archive(at("oa.tar"), Some("1"));
        // skopeo 1.9 overlooks Docker's media types in an OCI layout.
        if image.format == Format::Oci {
            assert_eq!(raw(format!("oci:{}:1", at("o").display())), image.manifest);
            assert_eq!(raw(format!("oci:{}:2", at("o").display())), image.manifest);
            assert_eq!(raw(format!("oci-archive:{}:1", at("oa.tar").display())), image.manifest);
        }

        let tags = ["docker.io/library/app:1", "example.org:5000/app:2"];
        image.write_docker_archive(at("da.tar"), &tags);
        let skopeo = Peer::skopeo();
        let target = format!("docker-archive:{}:{}", at("da-skopeo.tar").display(), tags[0]);
        skopeo.run(["copy", "--additional-tag", tags[1], &format!("dir:{}", at("d").display()), &target]).ok();
        let (ours, theirs) = (at("da.tar"), at("da-skopeo.tar"));
        if image.config_media_type.contains("docker") {
            assert!(fs::read(&ours).expect("ours") == fs::read(&theirs).expect("theirs"), "docker archives differ");
        }
        image.write_docker_save(at("ds.tar"), &tags);
        for archive in ["da.tar", "ds.tar"] {
            let out = at("copied");
            let _ = fs::remove_dir_all(&out);
            let source = format!("docker-archive:{}:{}", at(archive).display(), tags[1]);
            skopeo.run(["copy", &source, &format!("dir:{}", out.display())]).ok();
            assert_eq!(fs::read(out.join(image.id())).expect(archive), image.config, "{archive}");
        }
        let source = format!("oci-archive:{}:1", at("ds.tar").display());
        let read = raw(source);
        assert!(String::from_utf8_lossy(&read).contains(&image.layers[0].diff_id));
    }
}

#[test]
fn skopeo_reads_the_kits_lists() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    for list in [samples::hello(), samples::greeter()] {
        for name in ["d", "o", "all", "oa.tar"] {
            let _ = fs::remove_dir_all(at(name)).or_else(|_| fs::remove_file(at(name)));
        }
        list.write_dir(at("d"));
        list.write_oci(at("o"), Some("1"));
        list.write_oci_archive(at("oa.tar"), Some("1"));
        let sources = [
            format!("dir:{}", at("d").display()),
            format!("oci:{}:1", at("o").display()),
            format!("oci-archive:{}:1", at("oa.tar").display()),
        ];
        // skopeo 1.9 overlooks Docker's media types in an OCI layout.
        let readable = if list.manifest_media_type == OCI_INDEX { 3 } else { 1 };
        for source in &sources[..readable] {
            let _ = fs::remove_dir_all(at("all"));
            Peer::skopeo().run(["copy", "--all", source, &format!("dir:{}", at("all").display())]).ok();
            let options = Options::new().ignore_mtimes();
            Tree::read(at("all")).assert_same(&Tree::read(at("d")), &options);
        }
    }
}

#[test]
fn every_compression_is_read_from_an_archive() {
    let dir = temp();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2] {
        let layer = TarBuilder::new().file("a", 0o644, oddities::pattern(70_000)).finish();
        let bytes = holkas_testkit::image::compress(&layer, compression);
        let path = dir.path().join("layer.tar.any");
        fs::write(&path, bytes).expect("written");
        let listed = Command::new("tar").arg("tf").arg(&path).output().expect("tar is there");
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "a\n", "{compression:?}");
    }
}

/// skopeo takes the odd image into both kinds of store, and gives back the same layers.
#[test]
fn the_odd_image_is_accepted_and_comes_back() {
    let dir = temp();
    let image = oddities::odd_image();
    image.write_oci(dir.path().join("odd"), Some("1"));
    for driver in ["overlay", "vfs"] {
        let store = Store::new(driver);
        let out = dir.path().join(driver);
        let name = store.reference("localhost/odd:1");
        store.skopeo(["copy", &format!("oci:{}:1", dir.path().join("odd").display()), &name]).ok();
        store.skopeo(["copy", &name, &format!("dir:{}", out.display())]).ok();
        for layer in &image.layers {
            let read = fs::read(corrupt::dir_blob(&out, &layer.diff_id)).expect("the layer comes back plain");
            assert!(read == layer.diff, "{driver}: a layer came back otherwise");
        }
        assert_eq!(store.podman(["images", "--quiet", "--no-trunc"]).ok(), image.config_digest());
    }
}

/// The oddities are there as described, in the eyes of a mounted overlay.
#[test]
fn the_odd_image_merges_as_described() {
    let dir = temp();
    oddities::odd_image().write_oci(dir.path().join("odd"), Some("1"));
    let store = Store::overlay();
    let source = format!("oci:{}:1", dir.path().join("odd").display());
    store.skopeo(["copy", &source, &store.reference("localhost/odd:1")]).ok();
    let mounted = store.podman(["image", "mount", "localhost/odd:1"]).ok();
    let tree = Tree::read(&mounted);
    assert_eq!(tree.at("odd/owner-pax").gid, 3_000_000_000);
    assert_eq!(tree.at("odd/owner-base256").gid, 3_000_000_000);
    assert_eq!(tree.at("odd/time-nanos").mtime, (1_600_000_000, 123_456_789));
    let last = tree.at("odd/hard-first");
    assert_eq!((last.mode, last.uid, last.mtime), (0o640, 99, (1_500_000_000, 7)));
    assert_eq!(last.hard_link, tree.at("odd/hard-third").hard_link);
    assert!(tree.at("odd/capable").xattrs.contains_key(&b"security.capability"[..]));
    assert_eq!(tree.at(oddities::LATIN1_NAME).kind, Kind::File);
    assert_eq!(tree.at("odd/device-large-numbers").device, (4000, 300_000));
    for gone in [
        "change/removed",
        "change/opaque-before/old",
        "change/opaque-after/old",
        "change/removed-dir/child",
        "odd/owned",
    ] {
        assert!(tree.get(gone).is_none(), "{gone} is there");
    }
    for there in
        ["change/opaque-before/new", "change/opaque-after/new", "change/removed-dir/reborn", "change/attributes/child"]
    {
        assert_eq!(tree.at(there).kind, Kind::File);
    }
    assert_eq!(tree.at("change/implied").mode, 0o755);
    assert_eq!(tree.at("change/dir-to-file").kind, Kind::File);
    assert_eq!(tree.at("change/file-to-dir").kind, Kind::Dir);
    assert_eq!((tree.at("late").mode, tree.at("late").mtime), (0o770, (1_400_000_000, 0)));
    store.podman(["image", "unmount", "localhost/odd:1"]).ok();
}

#[test]
fn podman_runs_the_runnable_image() {
    let dir = temp();
    oddities::runnable_image().write_oci(dir.path().join("run"), Some("1"));
    let root;
    {
        let store = Store::overlay();
        root = store.root.clone();
        let source = format!("oci:{}:1", dir.path().join("run").display());
        store.skopeo(["copy", &source, &store.reference("localhost/run:1")]).ok();
        assert_eq!(store.podman_run(["localhost/run:1"]).ok(), "hello");
        assert_eq!(store.podman_run(["localhost/run:1", "ls", "/etc/removed"]).status.code(), Some(1));
        assert!(store.containers_storage(["images"]).ok().contains("localhost/run:1"));
        assert!(store.buildah(["images"]).ok().contains("localhost/run"));
        store.remove_podman_state();
        assert!(!root.join("libpod").exists());
    }
    assert!(!root.exists(), "the store is left behind");
}

/// An additional store is seen by podman and skopeo; a policy and images by other ways are too.
#[test]
fn stores_can_be_stacked_and_pulled_into() {
    let dir = temp();
    let layout = dir.path().join("run");
    oddities::runnable_image().write_oci(&layout, Some("1"));
    let source = format!("oci:{}:1", layout.display());
    // Not `podman pull oci:…`: that names the image by its path, which must be lower-case then.
    let archive = dir.path().join("run.tar");
    oddities::runnable_image().write_docker_archive(&archive, &["localhost/run:2"]);
    for driver in ["overlay", "vfs"] {
        let lower = Store::new(driver);
        lower.skopeo(["copy", &source, &lower.reference("localhost/run:1")]).ok();
        lower.unmount();
        let upper = Store::new(driver).additional_store(&lower.root);
        let run = upper.podman_run(["localhost/run:1"]);
        assert_eq!(run.ok(), "hello");
        assert_eq!(run.errors(), "", "podman looks at the host");
        upper.skopeo(["inspect", &upper.reference("localhost/run:1")]).ok();
        upper.containers_storage(["image", "localhost/run:1"]).ok();
        upper.podman(["load", "--quiet", "--input", &archive.to_string_lossy()]).ok();
    }

    let at = Store::at(dir.path().join("elsewhere"), "vfs");
    at.buildah(["pull", &format!("docker-archive:{}", archive.display())]).ok();
    assert!(dir.path().join("elsewhere/vfs-images/images.json").exists());
}

#[test]
fn umoci_unpacks_the_sample() {
    let dir = temp();
    let layout = dir.path().join("layout");
    // Its version of Debian 12 has no zstd.
    samples::hello().image("amd64").uncompressed().write_oci(&layout, Some("1"));
    let bundle = dir.path().join("bundle");
    Peer::umoci().run(["unpack", "--image", &format!("{}:1", layout.display()), &bundle.to_string_lossy()]).ok();
    assert!(Tree::read(bundle.join("rootfs")).get("etc/obsolete").is_none());
}

#[test]
fn deep_and_many() {
    assert_eq!(oddities::deep_layers(40).layers.len(), 40);
    let (_dir, tree) = untar(&oddities::many_small_files(250).layers[0].diff);
    assert_eq!(tree.nodes.values().filter(|node| node.kind == Kind::File).count(), 250);
}

#[test]
fn lies_are_told() {
    let dir = temp();
    let layout = dir.path().join("o");
    let image = samples::notes();
    image.write_oci(&layout, Some("1"));
    corrupt::flip_middle(corrupt::oci_blob(&layout, &image.layers[0].digest));
    let target = format!("dir:{}", dir.path().join("out").display());
    Peer::skopeo().run(["copy", &format!("oci:{}:1", layout.display()), &target]).fails();
}

#[test]
fn faults_are_faults() {
    for disk in [fault::small_filesystem(2 << 20), fault::small_tmpfs(1 << 20)] {
        let error = fs::write(disk.path().join("f"), vec![1; 4 << 20]).expect_err("it is full");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let path = disk.path().to_owned();
        drop(disk);
        assert!(!path.exists(), "{} is left behind", path.display());
    }
    let output = fault::unprivileged("id").output().expect("setpriv is there");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n");
}

#[test]
fn nested_and_artifact_indexes_are_built() {
    let image = samples::notes();
    let inner = IndexBuilder::oci().image(&image).build();
    let index = IndexBuilder::oci()
        .index(&inner)
        .artifact("sbom", "text/plain", "application/vnd.example.sbom")
        .missing_image(&samples::notes())
        .without_media_type()
        .build();
    let value: serde_json::Value = serde_json::from_slice(&index.manifest).expect("JSON");
    assert_eq!(value["manifests"].as_array().map(Vec::len), Some(3));
    assert!(value.get("mediaType").is_none());
    assert!(index.blobs().iter().any(|(hex, _)| *hex == sha256_hex(&image.manifest)));
    assert_eq!(Entry::new(DIR, "x").mode, 0o755);
}

/// What is in the repository is what the code makes.
#[test]
fn samples_are_what_the_code_makes() {
    let dir = temp();
    samples::write_samples(dir.path());
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples"));
    // A checkout keeps neither times nor owners, and modes by its umask.
    let plain = |path: &Path| -> Vec<(String, String)> {
        let tree = Tree::read(path);
        tree.nodes.iter().map(|(path, node)| (String::from_utf8_lossy(path).into(), node.contents.clone())).collect()
    };
    assert_eq!(plain(dir.path()), plain(repository), "run the command of samples/README.md");
    let total: u64 = Tree::read(repository).nodes.values().map(|node| node.size).sum();
    assert!(total < 60_000, "{total} bytes of samples");
}
