//! The command line as such: usage, exit codes, the form of errors, completions and man pages.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::{holkas, run};
use holkas_testkit::image::ImageBuilder;

#[test]
fn help_and_version_succeed() {
    let version = run(&["--version"]);
    assert_eq!((version.code, version.out.as_str(), version.err.as_str()), (0, "holkas 0.1.0\n", ""));
    assert_eq!(run(&["-v"]).out, "holkas 0.1.0\n");
    let help = run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for command in
        ["embed", "copy", "inspect", "explain", "delete", "manifest-digest", "merge-manifest", "completion", "man"]
    {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command}: {}", help.out);
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{command}");
        assert!(help.out.contains("--insecure-policy"), "global flags stand after {command} too");
    }
}

#[test]
fn wrong_usage_is_a_failure_and_not_a_missing_image() {
    let cases: &[&[&str]] = &[
        &[],
        &["nope"],
        &["copy"],
        &["copy", "dir:a"],
        &["copy", "dir:a", "dir:b", "dir:c"],
        &["copy", "--nope", "dir:a", "dir:b"],
        &["copy", "--multi-arch=none", "dir:a", "dir:b"],
        &["copy", "--all", "--multi-arch=all", "dir:a", "dir:b"],
        &["copy", "-f", "v1", "dir:a", "dir:b"],
        &["copy", "--dest-compress-format", "xz", "dir:a", "dir:b"],
        &["copy", "--platform", "arm64", "dir:a", "dir:b"],
        &["copy", "--policy", "x", "--insecure-policy", "dir:a", "dir:b"],
        &["copy", "--preserve-digests", "--allow-changes", "dir:a", "dir:b"],
        &["embed", "images.toml"],
        &["sync", "a", "b"],
        &["sync", "--src=oci", "--dest=dir", "a", "b"],
        &["sync", "--src=dir", "--dest=yaml", "a", "b"],
        &["manifest-digest", "--algorithm", "md5", "x"],
        &["completion", "csh"],
    ];
    for arguments in cases {
        let output = run(arguments);
        assert_eq!((output.code, output.out.as_str()), (1, ""), "{arguments:?}: {}", output.err);
        assert!(!output.err.is_empty(), "{arguments:?}");
    }
    let output = run(&["copy", "-f", "v1", "dir:a", "dir:b"]);
    assert!(output.err.contains("choose oci, v2s2 or v2s1"), "{}", output.err);
}

#[test]
fn errors_have_one_form() {
    let output = run(&["manifest-digest", "/nonexistent/manifest.json"]);
    assert_eq!(output.code, 1);
    assert_eq!(output.err, "error: reading `/nonexistent/manifest.json`\n  caused by: no such file or directory\n");

    let output = run(&["inspect", "images/app"]);
    assert_eq!(output.code, 1);
    assert_eq!(
        output.err,
        "error: reading image reference `images/app`\n  caused by: it has no transport\n\n\
         hint: an image reference is TRANSPORT:…, such as oci:/srv/image; \
         the transports are docker, dir, oci, oci-archive, docker-archive and containers-storage\n"
    );
}

#[test]
fn the_digest_of_a_manifest_is_its_own() {
    let dir = tempfile::tempdir().expect("temp dir");
    let image = ImageBuilder::docker().build();
    image.write_dir(dir.path());
    let file = dir.path().join("manifest.json");
    let output = run(&["manifest-digest".as_ref(), file.as_os_str()]);
    assert_eq!((output.code, output.out), (0, format!("{}\n", image.digest())));
    let output = holkas().arg("manifest-digest").arg("-").stdin(std::fs::File::open(&file).expect("manifest")).output();
    assert_eq!(output.expect("run").stdout, format!("{}\n", image.digest()).as_bytes());
    let output = run(&["manifest-digest".as_ref(), "--algorithm=sha512".as_ref(), file.as_os_str()]);
    assert!(output.out.starts_with("sha512:") && output.out.len() == 7 + 128 + 1, "{}", output.out);
    let output = run(&["is-manifest-list".as_ref(), file.as_os_str()]);
    assert_eq!((output.code, output.out.as_str()), (0, "false\n"));
}

#[test]
fn completions_are_written_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completion", shell]);
        assert_eq!(output.code, 0, "{shell}: {}", output.err);
        assert!(output.out.contains("manifest-digest") && output.out.contains("multi-arch"), "{shell}");
    }
}

#[test]
fn man_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().expect("temp dir");
    let output = run(&["man".as_ref(), dir.path().as_os_str()]);
    assert_eq!((output.code, output.out.as_str()), (0, ""), "{}", output.err);
    for command in ["embed", "copy", "inspect", "delete", "manifest-digest", "is-manifest-list", "lists"] {
        let page = std::fs::read_to_string(dir.path().join(format!("holkas-{command}.1"))).expect(command);
        assert!(page.contains(&format!(".TH holkas-{command} 1")), "{page}");
    }
    let page = run(&["man"]).out;
    assert!(page.contains(".TH holkas 1"), "{page}");
    assert_eq!(std::fs::read_to_string(dir.path().join("holkas.1")).expect("main page"), page);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let output = holkas().arg("man").stdout(writer).output().expect("run");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
