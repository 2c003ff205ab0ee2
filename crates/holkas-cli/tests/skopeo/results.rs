//! What the copies are: file by file the same as those of Debian's skopeo.

use std::fs;

use holkas_testkit::peers::Store;

use super::*;

const P: &str = "--insecure-policy";

#[test]
fn copies_that_change_nothing() {
    let both = Both::new(images);
    for (from, to) in [
        ("dir:docker", "dir:d1"),
        ("oci:oci:t", "dir:d2"),
        ("dir:d2", "oci:o1:x"),
        ("oci:oci:t", "oci-archive:a1.tar:x"),
        ("oci-archive:a1.tar:x", "dir:d3"),
        ("dir:docker", "docker-archive:a2.tar:name:tag"),
    ] {
        both.same(&[P, "copy", from, to]);
    }
    for name in ["d1", "d2", "o1", "d3", "a2.tar"] {
        both.assert_same_files(name);
    }
    // Over what is there: an image directory is replaced, another directory is left alone.
    both.same(&["copy", "-q", P, "dir:docker", "dir:d3"]);
    both.assert_same_files("d3");
    let (debians, ours) = both.both(&["copy", P, "dir:docker", "dir:index"]);
    for output in [debians, ours] {
        output.fails(1, "dir:index: not a containers image directory, don't want to overwrite important data");
    }
    let (debians, ours) = both.both(&["copy", P, "dir:docker", "docker-archive:a2.tar:name:tag"]);
    for output in [debians, ours] {
        output.fails(1, "docker-archive doesn't support modifying existing images");
    }
}

#[test]
fn copies_to_another_format() {
    let both = Both::new(images);
    for (arguments, made) in [
        (&["dir:docker", "oci:o1:t"][..], "o1"),
        (&["-f", "oci", "dir:docker", "dir:d1"], "d1"),
        (&["--format=v2s2", "oci:o1:t", "dir:d2"], "d2"),
        (&["oci:o1:t", "docker-archive:a1.tar:name:tag"], "a1.tar"),
        (&["--preserve-digests", "dir:docker", "oci:o2:t"], "o2"),
        (&["--preserve-digests", "-foci", "dir:docker", "oci:o3:t"], "o3"),
        (&["--all", "dir:list", "oci:o4:t"], "o4"),
        (&["--all", "-f", "oci", "dir:list", "dir:d3"], "d3"),
        (&["--all", "-f", "v2s2", "oci:index:t", "dir:d4"], "d4"),
        (&["--dest-decompress", "dir:docker", "dir:d5"], "d5"),
        (&["--dest-oci-accept-uncompressed-layers", "dir:d5", "oci:o5:t"], "o5"),
    ] {
        both.same(&[&[P, "copy"], arguments].concat());
        both.assert_same_files(made);
    }
}

#[test]
fn layers_that_are_not_compressed_are_where_skopeo_compresses_them() {
    let both =
        Both::new(|dir| ImageBuilder::docker().layer(layer("x")).build().uncompressed().write_dir(dir.join("plain")));
    let kinds = |dir: &Path| -> Vec<String> {
        let manifest = fs::read(dir.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        manifest["layers"].as_array().unwrap().iter().map(|l| l["mediaType"].as_str().unwrap().to_string()).collect()
    };
    for (arguments, expected) in [
        (&[][..], "application/vnd.oci.image.layer.v1.tar+gzip"),
        (&["--dest-compress-format=zstd", "--dest-compress-level=3"], "application/vnd.oci.image.layer.v1.tar+zstd"),
        (&["--dest-oci-accept-uncompressed-layers"], "application/vnd.oci.image.layer.v1.tar"),
    ] {
        both.same(&[&["copy", P, "-q"], arguments, &["dir:plain", "oci:o:t"]].concat());
        both.same(&["copy", P, "-q", "oci:o:t", "dir:back"]);
        assert_eq!(kinds(&both.ours("back")), [expected], "{arguments:?}");
        assert_eq!(kinds(&both.debians.path().join("back")), [expected], "{arguments:?}");
    }
    both.same(&["copy", P, "dir:plain", "dir:same"]);
    both.assert_same_files("same");
    both.same(&["copy", P, "--dest-compress", "dir:plain", "dir:packed"]);
    assert_eq!(kinds(&both.ours("packed")), ["application/vnd.docker.image.rootfs.diff.tar.gzip"]);
}

#[test]
fn what_of_a_list_is_copied() {
    let both = Both::new(images);
    for (arguments, made) in [
        (&["dir:list", "dir:d1"][..], "d1"),
        (&["--override-arch", "arm64", "dir:list", "dir:d2"], "d2"),
        (&["-a", "dir:list", "dir:d3"], "d3"),
        (&["--multi-arch=all", "oci:index:t", "oci:o1:x"], "o1"),
        (&["--multi-arch=index-only", "dir:list", "dir:d4"], "d4"),
        (&["--multi-arch", "system", "oci:index:t", "dir:d5"], "d5"),
        (&["--multi-arch=index-only", "dir:list", "oci:o2:x"], "o2"),
        (&["--multi-arch=index-only", "--format=v2s2", "oci:index:t", "dir:d8"], "d8"),
    ] {
        both.same(&[&["copy", P, "--digestfile=digest"], arguments].concat());
        both.assert_same_files(made);
        both.assert_same_files("digest");
        assert_eq!(fs::read(both.ours("digest")).unwrap().len(), "sha256:".len() + 64);
    }
    both.run(Whose::Ours, &["copy", P, "--preserve-digests", "--all", "-f", "oci", "dir:list", "dir:d6"])
        .fails(1, "Instructed to preserve digests");
    both.run(Whose::Ours, &["copy", P, "--preserve-digests", "--all", "dir:list", "oci:o6"])
        .fails(1, "we cannot modify it: \\\"Instructed to preserve digests\\\"");
    both.run(Whose::Ours, &["copy", P, "--all", "dir:list", "docker-archive:x.tar:a:b"])
        .fails(1, "copying multiple images: destination transport \\\"docker-archive\\\" does not support copying multiple images as a group");
    both.run(Whose::Ours, &["copy", P, "--multi-arch=linux/amd64", "--strip-removed-platforms", "dir:list", "dir:d7"])
        .ok();
    assert_eq!(files(&both.ours("d7")).keys().filter(|name| name.ends_with("manifest.json")).count(), 2);
}

#[test]
fn other_places_of_blobs_and_streams() {
    let both = Both::new(images);
    both.same(&["copy", P, "--dest-shared-blob-dir", "shared", "oci:oci:t", "oci:o1:t"]);
    both.assert_same_files("shared");
    assert!(both.ours("o1/blobs").read_dir().unwrap().next().is_none());
    both.same(&["copy", P, "--src-shared-blob-dir=shared", "oci:o1:t", "oci:o2:t"]);
    both.assert_same_files("o2");
    let script = "\"$0\" copy -q --insecure-policy dir:docker docker-archive:/dev/stdout:a:b | \
                  \"$0\" copy -q --insecure-policy docker-archive:/dev/stdin dir:piped";
    let mut shell = Command::new("sh");
    let link = both.ours("skopeo");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_holkas"), &link).unwrap();
    finish(shell.args(["-c", script]).arg(&link).current_dir(both.ours.path()).env("HOME", "/nonexistent")).ok();
    both.run(Whose::Ours, &["copy", "-q", P, "dir:docker", "docker-archive:direct.tar:a:b"]).ok();
    both.run(Whose::Ours, &["copy", "-q", P, "docker-archive:direct.tar", "dir:direct"]).ok();
    assert_eq!(files(&both.ours("piped")), files(&both.ours("direct")));
    both.same(&[
        "copy",
        P,
        "--additional-tag=b:2,c:3",
        "--additional-tag",
        "d:4",
        "dir:docker",
        "docker-archive:t.tar:a:1",
    ]);
    both.assert_same_files("t.tar");
    assert_eq!(both.same(&["list-tags", "docker-archive:t.tar"]).out.matches("docker.io/library/").count(), 4);
}

/// Signatures go along or are left behind by a flag; where they go along nothing changes, whatever was asked for.
#[test]
fn signatures() {
    let both = Both::new(|dir| docker_image().write_dir_signed(dir.join("signed"), &[b"\xa3one", b"\xa3two"]));
    let told = both.same(&["copy", P, "dir:signed", "dir:d1"]).out;
    assert!(told.ends_with("Writing manifest to image destination\nStoring signatures\n"), "{told}");
    assert!(told.contains("Checking if image destination supports signatures\n"), "{told}");
    both.assert_same_files("d1");
    let told = both.same(&["copy", P, "--remove-signatures", "dir:signed", "dir:d2"]).out;
    assert!(!told.contains("signatures"), "{told}");
    both.assert_same_files("d2");
    for (arguments, phrase) in [
        (&["copy", P, "dir:signed", "oci:o1:t"][..], "Can not copy signatures to oci:o1:t: "),
        (&["copy", P, "dir:signed", "docker-archive:a.tar:b:c"], "Can not copy signatures to "),
    ] {
        let (debians, ours) = both.both(arguments);
        debians.fails(1, phrase);
        ours.fails(1, phrase);
        assert!(!both.ours("o1").exists());
    }
    // Another format would change what is signed.
    both.same(&["copy", P, "-f", "oci", "dir:signed", "dir:d3"]);
    both.assert_same_files("d3");
    both.same(&["copy", P, "--remove-signatures", "dir:signed", "oci:o2:t"]);
    both.assert_same_files("o2");
}

#[test]
fn what_inspect_shows() {
    let both = Both::new(images);
    for image in ["dir:docker", "oci:oci:t", "dir:list", "oci:index:t"] {
        for flags in [
            &["--raw"][..],
            &["--config"],
            &["--raw", "--config"],
            &["-f", "{{.Digest}}|{{.Architecture}}|{{.Labels}}|{{range .Layers}}{{.}},{{end}}"],
        ] {
            let (debians, ours) = both.both(&[&["inspect"], flags, &[image]].concat());
            assert_eq!(debians, ours, "{flags:?} {image}");
        }
        // 1.9.3 knows no LayersData; without it, every byte is the same.
        let (debians, ours) = both.both(&["inspect", image]);
        let (before, rest) = ours.out.split_once("    \"LayersData\": [").unwrap();
        let (_, after) = rest.split_once("\n    ],\n").unwrap();
        assert_eq!(debians.out, format!("{before}{after}"));
    }
}

#[test]
fn images_in_a_store() {
    let both = Both::new(images);
    let stores = [Store::overlay(), Store::overlay()];
    let name = "registry.example.org/app:1";
    for (whose, store) in [(Whose::Debians, &stores[0]), (Whose::Ours, &stores[1])] {
        let reference = store.reference(name);
        both.run(whose, &["copy", P, "-q", "dir:list", &reference]).ok();
        // What either wrote, both read alike.
        let shown: Vec<Output> = [&["--raw"][..], &["--config"], &["--raw", "--config"]]
            .into_iter()
            .flat_map(|flags| [Whose::Debians, Whose::Ours].map(|reader| (flags, reader)))
            .map(|(flags, reader)| both.run(reader, &[&["inspect"], flags, &[&*reference]].concat()).ok())
            .collect();
        for pair in shown.chunks(2) {
            assert_eq!(pair[0], pair[1]);
        }
        both.run(Whose::Ours, &["copy", P, "-q", &reference, "dir:from-store"]).ok();
        both.run(Whose::Ours, &["copy", P, "-q", &reference, "oci:from-store-oci:t"]).ok();
        both.run(Whose::Ours, &["copy", P, "--all", "dir:list", &reference]).fails(
            1,
            "destination transport \\\"containers-storage\\\" does not support copying multiple images as a group",
        );
        both.run(Whose::Ours, &["copy", P, "--preserve-digests", &reference, "dir:not"])
            .fails(1, "Copying this image would require changing layer representation");
        let deleted = both.run(Whose::Ours, &["delete", &reference]).ok();
        assert_eq!((deleted.out.as_str(), deleted.err.as_str()), ("", ""));
        both.run(Whose::Ours, &["inspect", &reference]).fails(2, "does not resolve to an image ID");
        both.run(Whose::Ours, &["delete", &reference]).fails(2, "identifier is not an image");
    }
}

/// Newer skopeos have it; Debian's has not.
#[test]
fn a_dry_run_copies_nothing() {
    let both = Both::new(images);
    let copy = [P, "copy", "--dry-run", "--dest-shared-blob-dir", "shared", "--digestfile", "digest"];
    let told = both.run(Whose::Ours, &[&copy[..], &["dir:docker", "oci:new:t"]].concat());
    assert_eq!(told.out, "");
    assert!(told.err.contains("level=warning msg=\"Running in dry-run mode\""), "{}", told.err);
    assert!(told.err.contains("level=info msg=\"Would have copied from=dir:docker to=oci:new:t\""), "{}", told.err);
    told.ok();
    for name in ["new", "shared", "digest"] {
        assert!(!both.ours(name).exists(), "{name}");
    }
}
