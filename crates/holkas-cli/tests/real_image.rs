//! A real image: this machine's own Debian as the base, two layers on it, held against skopeo's tree and podman.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder};
use holkas_testkit::oddities::LATIN1_NAME;
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::{Entry, FILE, TarBuilder, file_capability};
use holkas_testkit::tree::{Options, Tree};
use tempfile::TempDir;

static BASE: LazyLock<Vec<u8>> = LazyLock::new(base_layer);
const NAME: &str = "localhost/debian:1";
/// The capability to bind low ports.
const NET_BIND_SERVICE: u32 = 10;

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the essential packages of this machine with all that they need.
fn packages() -> Vec<String> {
    let all = output("dpkg-query", &["--show", "--showformat=${Essential} ${Package}\\n"]);
    let essential: Vec<_> = all.lines().filter_map(|line| line.strip_prefix("yes ")).collect();
    let mut arguments = vec!["depends", "--recurse", "--installed", "--important"];
    arguments.extend(&essential);
    let found = output("apt-cache", &arguments);
    let installed: BTreeSet<_> =
        output("dpkg-query", &["--show", "--showformat=${Package}\\n"]).lines().map(str::to_owned).collect();
    let named = found.lines().filter(|line| !line.starts_with([' ', '<', '|'])).map(str::to_owned);
    let closed: BTreeSet<_> = named.filter(|name| installed.contains(name)).collect();
    assert!(closed.contains("bash") && closed.contains("coreutils"), "{closed:?}");
    closed.into_iter().collect()
}

/// Returns the tar of the packages' files, each by the one name that has no symlink on its way.
fn base_layer() -> Vec<u8> {
    let packages = packages();
    let mut arguments = vec!["--listfiles"];
    arguments.extend(packages.iter().map(String::as_str));
    let mut paths: BTreeSet<PathBuf> = ["bin", "sbin", "lib", "lib64"].map(|name| Path::new("/").join(name)).into();
    for line in output("dpkg", &arguments).lines().filter(|line| line.starts_with('/')) {
        let path = Path::new(line);
        // Some images of Debian leave documentation out.
        let (Some(Ok(parent)), Some(name)) = (path.parent().map(fs::canonicalize), path.file_name()) else { continue };
        let whole = parent.join(name);
        if fs::symlink_metadata(&whole).is_ok() {
            paths.extend(whole.ancestors().filter(|above| above.parent().is_some()).map(Path::to_path_buf));
        }
    }
    let mut tar = Command::new("tar");
    tar.args(["--create", "--directory=/", "--no-recursion", "--null", "--files-from=-", "--numeric-owner"]);
    let mut tar = tar
        .args(["--format=posix", "--xattrs", "--pax-option=delete=atime,delete=ctime"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut names = tar.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        for path in paths {
            names.write_all(&path.as_os_str().as_bytes()[1..]).unwrap();
            names.write_all(b"\0").unwrap();
        }
    });
    let output = tar.wait_with_output().unwrap();
    feeder.join().unwrap();
    // 1: a file of the running system changed while it was read; the tar is whole all the same.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}", output.status);
    output.stdout
}

fn second_layer() -> Vec<u8> {
    let capability = file_capability(&[NET_BIND_SERVICE]);
    TarBuilder::new()
        .dir("usr/bin", 0o755)
        .whiteout("usr/bin/tac")
        .whiteout("usr/share/base-files")
        .dir("etc/skel", 0o755)
        .opaque("etc/skel")
        .file("etc/skel/.profile", 0o644, "# ours\n")
        .dir("srv/app", 0o750)
        .entry(
            Entry { mode: 0o755, contents: b"#!/bin/sh\n".to_vec(), ..Entry::new(FILE, "srv/app/server") }
                .xattr("security.capability", capability),
        )
        .hard_link("srv/app/alias", "srv/app/server")
        .file([b"srv/app/".as_slice(), LATIN1_NAME].concat(), 0o644, "not UTF-8")
        .file(format!("srv/app/{}/{}/{}", "long".repeat(50), "name".repeat(50), "deep".repeat(50)), 0o600, "long")
        .finish()
}

fn third_layer() -> Vec<u8> {
    TarBuilder::new()
        .owner(1000, 1000)
        .dir("srv/app", 0o700)
        .whiteout("srv/app/alias")
        .file("usr/bin/tac", 0o755, "#!/bin/sh\necho ours\n")
        .dir("etc/skel", 0o700)
        .opaque("etc/skel")
        .symlink("srv/current", "/srv/app")
        .finish()
}

fn build(builder: ImageBuilder, compression: Compression) -> BuiltImage {
    builder
        .compression(compression)
        .layer(BASE.clone())
        .layer(second_layer())
        .layer(third_layer())
        .env("PATH=/usr/sbin:/usr/bin")
        .build()
}

fn copy(source: &str, store: &Store) {
    let run = common::run(&["--insecure-policy", "copy", "-q", source, &store.reference(NAME)]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{}", run.err);
}

fn equals_skopeos(image: &BuiltImage, source: &str, ours: &Store) {
    let theirs = Store::overlay();
    copy(source, ours);
    theirs.skopeo(["copy", "-q", source, &theirs.reference(NAME)]).ok();
    for layer in image.layer_ids() {
        let below = format!("overlay/{layer}/diff");
        let (ours, theirs) = (Tree::read(ours.root.join(&below)), Tree::read(theirs.root.join(&below)));
        // What no entry names bears the moment in skopeo's store, and the epoch in ours.
        let unnamed: BTreeSet<_> =
            ours.nodes.iter().filter(|(_, node)| node.mtime == (0, 0)).map(|(path, _)| path.clone()).collect();
        assert!(unnamed.len() < 20, "most have a time of their own: {unnamed:?}");
        ours.assert_same(&theirs, &Options::new().ignore_mtime_of(move |path| unnamed.contains(path)));
    }
}

#[test]
fn a_debian_with_two_layers_on_it_is_what_skopeo_makes_of_it_and_runs() {
    let dir = TempDir::new().unwrap();
    let image = build(ImageBuilder::docker(), Compression::Gzip);
    assert!(image.layers[0].diff.len() > 50 << 20, "a real system: {} bytes", image.layers[0].diff.len());
    image.write_dir(dir.path().join("image"));
    let store = Store::overlay();
    equals_skopeos(&image, &format!("dir:{}", dir.path().join("image").display()), &store);

    let script =
        "/usr/bin/tac; ls -A /etc/skel | wc -l; test -e /srv/app/alias || echo gone; stat -c %u:%a /srv/current/";
    assert_eq!(store.podman_run([NAME, "/bin/bash", "-c", script]).ok().trim_end(), "ours\n0\ngone\n1000:700");

    let saved = dir.path().join("saved.tar");
    store.podman(["save", "--format=oci-archive", "-o", saved.to_str().unwrap(), NAME]).ok();
    let config = Peer::skopeo().run(["inspect", "--config", &format!("oci-archive:{}", saved.display())]).json();
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(diff_ids), "the tar-split gives the layers back");
    store.podman(["rmi", NAME]).ok();
    assert_eq!(fs::read_to_string(store.root.join("overlay-layers/layers.json")).unwrap(), "[]");
}

#[test]
fn the_same_from_an_oci_layout_with_zstd() {
    let dir = TempDir::new().unwrap();
    let image = build(ImageBuilder::oci(), Compression::Zstd);
    image.write_oci(dir.path().join("image"), Some("1"));
    equals_skopeos(&image, &format!("oci:{}:1", dir.path().join("image").display()), &Store::overlay());
}
