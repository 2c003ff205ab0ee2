//! osbuild's merge: an image that was fetched by its own digest, and the list that it belongs to, in one store.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;

use holkas_testkit::image::{BuiltImage, Format, ImageBuilder, IndexBuilder};
use holkas_testkit::oddities::{native_architecture, runnable_image_of};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use tempfile::TempDir;

const APP: &str = "registry.example.org/team/app";

/// Writes the image in one of the formats that osbuild's inputs have, and returns its reference.
fn write(image: &BuiltImage, format: &str, dir: &Path, store: &Store) -> String {
    match format {
        "dir" => {
            image.write_dir(dir.join("image"));
            format!("dir:{}", dir.join("image").display())
        }
        "oci-archive" => {
            image.write_oci_archive(dir.join("image.tar"), Some("1"));
            format!("oci-archive:{}:1", dir.join("image.tar").display())
        }
        "containers-storage" => {
            image.write_dir(dir.join("image"));
            let reference = store.reference("localhost/fetched:1");
            store.skopeo(["copy", &format!("dir:{}", dir.join("image").display()), &reference]).ok();
            reference
        }
        other => panic!("no such format: {other}"),
    }
}

fn check(format: Format, architecture: &str, kind: &str) {
    let case = format!("{format:?}, {architecture}, {kind}");
    let images = ["amd64", "arm64", "s390x"].map(|architecture| {
        let builder = ImageBuilder::new(format).architecture(architecture);
        if architecture == native_architecture() {
            return runnable_image_of(builder);
        }
        builder.layer(TarBuilder::new().file("architecture", 0o644, architecture).finish()).build()
    });
    let list = images.iter().fold(IndexBuilder::new(format), IndexBuilder::image).build();
    let fetched = list.image(architecture);
    let dir = TempDir::new().unwrap();
    let source_store = Store::overlay();
    let source = write(fetched, kind, dir.path(), &source_store);
    // As osbuild has it: a file named by nothing that it is.
    fs::write(dir.path().join("list.json"), &list.manifest).unwrap();
    fs::write(
        dir.path().join("images.toml"),
        format!("[[image]]\nsource = \"{source}\"\nname = \"{APP}:1\"\nmanifest-list = \"list.json\"\n"),
    )
    .unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let list_file = dir.path().join("images.toml");
    let arguments: [&std::ffi::OsStr; 5] =
        ["--insecure-policy".as_ref(), "embed".as_ref(), list_file.as_ref(), "--root".as_ref(), root.as_ref()];
    let run = common::run(&arguments);
    assert_eq!(run.code, 0, "{case}: {}", run.err);
    assert!(run.out.contains(&format!("{APP}:1")), "{case}: {}", run.out);

    let store = Store::at(root.join("var/lib/containers/storage"), "overlay");
    for name in [format!("{APP}:1"), format!("{APP}@{}", fetched.digest()), format!("{APP}@{}", list.digest())] {
        let inspected = store.podman(["image", "inspect", &name]).json();
        assert_eq!(inspected[0]["Architecture"], architecture, "{case}: {name}");
        assert_eq!(inspected[0]["Id"], fetched.id(), "{case}: {name}");
        if architecture == native_architecture() {
            assert_eq!(
                store.podman_run([name.as_str(), "/bin/busybox", "cat", "/etc/motd"]).ok(),
                "hello",
                "{case}: {name}"
            );
        }
    }
}

macro_rules! cases {
    ($($name:ident: $format:expr, $kind:literal;)*) => {$(
        #[test]
        fn $name() {
            let foreign = if native_architecture() == "arm64" { "amd64" } else { "arm64" };
            for architecture in [native_architecture(), foreign] {
                check($format, architecture, $kind);
            }
        }
    )*};
}

cases! {
    docker_from_dir: Format::Docker, "dir";
    docker_from_oci_archive: Format::Docker, "oci-archive";
    docker_from_containers_storage: Format::Docker, "containers-storage";
    oci_from_dir: Format::Oci, "dir";
    oci_from_oci_archive: Format::Oci, "oci-archive";
    oci_from_containers_storage: Format::Oci, "containers-storage";
}
