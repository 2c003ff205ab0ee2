//! `copy --all`: lists with all their images, lists within lists, and lists that become new ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Output, finish, holkas, run};
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder, sha256_digest};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::Value;

fn image(builder: ImageBuilder, architecture: &str) -> BuiltImage {
    let layer = TarBuilder::new().file("architecture", 0o644, architecture.repeat(1000)).finish();
    builder.architecture(architecture).layer(layer).command(&["/bin/true"]).build()
}

fn copy(arguments: &[&str]) -> Output {
    finish(holkas().args(["--insecure-policy", "copy", "-q", "--all"]).args(arguments))
}

#[track_caller]
fn copied(arguments: &[&str]) {
    let output = copy(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {}", output.err);
}

#[track_caller]
fn refused(arguments: &[&str], said: &str) {
    let output = copy(arguments);
    assert_eq!(output.code, 1, "{arguments:?}");
    assert!(output.err.contains(said), "{said:?} is not in: {}", output.err);
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// The list that a `dir:` holds.
fn list(dir: &Path) -> Value {
    json(&fs::read(dir.join("manifest.json")).unwrap())
}

/// The manifest that an entry of the list names, and that must have its digest and size.
fn instance(dir: &Path, entry: &Value) -> Value {
    let digest = entry["digest"].as_str().unwrap();
    let bytes = fs::read(dir.join(format!("{}.manifest.json", digest.strip_prefix("sha256:").unwrap()))).unwrap();
    assert_eq!((sha256_digest(&bytes).as_str(), bytes.len() as u64), (digest, entry["size"].as_u64().unwrap()));
    let manifest = json(&bytes);
    assert_eq!(manifest["mediaType"], entry["mediaType"]);
    manifest
}

#[test]
fn lists_within_lists_go_along_unchanged() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (amd64, arm64) = (image(ImageBuilder::oci(), "amd64"), image(ImageBuilder::oci(), "arm64"));
    let inner = IndexBuilder::oci().image(&arm64).attestation(&arm64).build();
    let middle = IndexBuilder::oci().index(&inner).index(&inner).annotation("a", "b").build();
    let outer = IndexBuilder::oci().image(&amd64).index(&middle).image(&amd64).build();
    outer.write_oci(temp.path().join("from"), Some("1"));

    let rooms = [format!("dir:{}", at("d")), format!("oci:{}:1", at("o")), format!("oci-archive:{}:1", at("a"))];
    let mut from = format!("oci:{}:1", at("from"));
    for to in &rooms {
        copied(&[&from, to]);
        let digest = run(&["inspect", "--raw", to]).out;
        assert_eq!(sha256_digest(digest.as_bytes()), outer.digest(), "{to}");
        from.clone_from(to);
    }
    // Through all rooms and back, nothing is lost: what the last one gives is what the first was given.
    copied(&[&rooms[2], &format!("oci:{}:1", at("back"))]);
    let blobs = |name: &str| Tree::read(temp.path().join(name).join("blobs"));
    let modes = Options::new().ignore_mtimes();
    blobs("from").assert_same(&blobs("back"), &modes);
    blobs("from").assert_same(&blobs("o"), &modes);
    // The image within is found by its platform.
    let said = run(&["--override-arch", "arm64", "inspect", "--format", "{{.Architecture}}", &rooms[2]]);
    assert_eq!(said.out, "arm64\n", "{}", said.err);

    // A list within that is not what the outer one says.
    let path = temp.path().join("from/blobs/sha256").join(inner.digest().strip_prefix("sha256:").unwrap());
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("arm64", "amd64", 1)).unwrap();
    refused(&[&format!("oci:{}:1", at("from")), &format!("dir:{}", at("no"))], "sha256");
    assert!(!temp.path().join("no").exists());
}

#[test]
fn lists_are_nested_four_deep_and_no_deeper() {
    let temp = tempfile::tempdir().unwrap();
    let mut list = IndexBuilder::oci().image(&image(ImageBuilder::oci(), "amd64")).build();
    for depth in 2..=5 {
        list = IndexBuilder::oci().index(&list).build();
        let (from, to) = (temp.path().join(format!("{depth}")), temp.path().join(format!("to{depth}")));
        list.write_oci(&from, Some("1"));
        let (from, to) = (format!("oci:{}:1", from.display()), format!("dir:{}", to.display()));
        if depth <= 4 { copied(&[&from, &to]) } else { refused(&[&from, &to], "nested more than 4 deep") }
    }
}

#[test]
fn a_list_becomes_one_of_the_other_format_if_asked() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let docker = ["amd64", "arm64"].map(|a| image(ImageBuilder::docker().compression(Compression::Gzip), a));
    IndexBuilder::docker().image(&docker[0]).image(&docker[1]).build().write_dir(temp.path().join("docker"));
    let from = format!("dir:{}", at("docker"));

    let to = format!("oci:{}:1", at("oci"));
    refused(&[&from, &to], "the list would have to change");
    assert!(!temp.path().join("oci").exists());
    for (name, flag) in [("oci", "--format=oci"), ("allowed", "--allow-changes")] {
        copied(&[flag, &from, &format!("oci:{}:1", at(name))]);
    }
    assert_eq!(
        run(&["inspect", "--raw", &to]).out,
        run(&["inspect", "--raw", &format!("oci:{}:1", at("allowed"))]).out
    );

    // Skopeo makes of it, and reads, the same images.
    let skopeo = Peer::skopeo();
    let theirs = format!("oci:{}:1", at("skopeo"));
    skopeo.run(["--insecure-policy", "copy", "-q", "--all", "--format=oci", &from, &theirs]).ok();
    skopeo.run(["--insecure-policy", "copy", "-q", "--all", &to, &format!("dir:{}", at("read"))]).ok();
    skopeo.run(["--insecure-policy", "copy", "-q", "--all", &theirs, &format!("dir:{}", at("theirs"))]).ok();
    let (ours, theirs) = (list(&temp.path().join("read")), list(&temp.path().join("theirs")));
    assert_eq!(ours["mediaType"], "application/vnd.oci.image.index.v1+json");
    let (ours, theirs) = (ours["manifests"].as_array().unwrap(), theirs["manifests"].as_array().unwrap());
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    for (n, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours["platform"], theirs["platform"]);
        let ours = instance(&temp.path().join("read"), ours);
        let theirs = instance(&temp.path().join("theirs"), theirs);
        assert_eq!((&ours["config"], &ours["layers"]), (&theirs["config"], &theirs["layers"]));
        assert_eq!(ours["config"]["digest"], docker[n].config_digest(), "the image ID stays");
    }

    // And back: the images are Docker's again, byte for byte but for the manifests' spelling.
    copied(&["--format=v2s2", &to, &format!("dir:{}", at("back"))]);
    let back = list(&temp.path().join("back"));
    assert_eq!(back["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    for (entry, docker) in back["manifests"].as_array().unwrap().iter().zip(&docker) {
        assert_eq!(instance(&temp.path().join("back"), entry), json(&docker.manifest));
    }
    skopeo.run(["inspect", "--raw", &format!("dir:{}", at("back"))]).ok();
}

#[test]
fn recompressed_images_keep_their_attestations() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let gzip = image(ImageBuilder::oci().compression(Compression::Gzip), "amd64");
    let zstd = image(ImageBuilder::oci().compression(Compression::Zstd), "arm64");
    let from = IndexBuilder::oci().image(&gzip).attestation(&gzip).image(&zstd).attestation(&zstd);
    let from = from.annotation("org.example.kept", "yes").build();
    from.write_dir(temp.path().join("from"));
    copied(&["--dest-compress-format=zstd", &format!("dir:{}", at("from")), &format!("dir:{}", at("to"))]);
    let (old, new) = (json(&from.manifest), list(&temp.path().join("to")));
    assert_eq!(new["annotations"], old["annotations"]);
    let (old, new) = (old["manifests"].as_array().unwrap(), new["manifests"].as_array().unwrap());
    assert!(new[0]["digest"] != old[0]["digest"]);
    assert_eq!(
        instance(&temp.path().join("to"), &new[0])["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+zstd"
    );
    assert_eq!(new[1]["digest"], old[1]["digest"], "an attestation stays as it is");
    assert_eq!(new[1]["annotations"]["vnd.docker.reference.digest"], new[0]["digest"], "and names its image");
    assert_eq!((&new[2], &new[3]), (&old[2], &old[3]), "what is so already stays as it is");

    // Where nothing changes, not a byte does.
    copied(&["--dest-compress-format=zstd", &format!("dir:{}", at("to")), &format!("dir:{}", at("again"))]);
    Tree::read(temp.path().join("to"))
        .assert_same(&Tree::read(temp.path().join("again")), &Options::new().ignore_mtimes());
}

#[test]
fn a_signed_list_is_not_changed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    IndexBuilder::oci().image(&image(ImageBuilder::oci(), "amd64")).build().write_dir(temp.path().join("from"));
    fs::write(temp.path().join("from/signature-1"), "a signature").unwrap();
    let (from, to) = (format!("dir:{}", at("from")), format!("dir:{}", at("to")));
    for flag in ["--format=v2s2", "--dest-compress-format=zstd"] {
        refused(&[flag, &from, &to], "would invalidate the list's signatures");
        assert!(!temp.path().join("to").exists());
    }
    copied(&["--format=v2s2", "--remove-signatures", &from, &to]);
    assert!(!temp.path().join("to/signature-1").exists());
}
