//! What is typed, and how mistakes are told: in skopeo's words, with its exit codes.

use super::*;

/// Calls that fail before anything is asked, in which every byte is the same.
#[test]
fn mistakes_are_told_in_the_same_words() {
    let both = Both::new(images);
    let calls: &[&[&str]] = &[
        &[],
        &["bogus"],
        &["insect"],
        &["--nope", "copy"],
        &["copy", "--nope"],
        &["copy", "-Z", "a", "b"],
        &["copy", "--authfile"],
        &["copy", "--debug=maybe", "a", "b"],
        &["copy", "--retry-times", "x", "a", "b"],
        &["copy", "--command-timeout", "5", "a", "b"],
        &["copy", "a", "dir:b"],
        &["copy", "dir:a", "b"],
        &["copy", "nope:a", "dir:b"],
        &["inspect"],
        &["inspect", "a", "b"],
        &["inspect", "a"],
        &["inspect", "nope:a"],
        &["inspect", "--version"],
        &["inspect", "--raw", "--format", "x", "dir:docker"],
        &["inspect", "--creds=", "docker://x"],
        &["inspect", "--creds=:x", "docker://x"],
        &["inspect", "--creds=a", "--no-creds", "docker://x"],
        &["inspect", "--creds=a", "--username=b", "--password=c", "docker://x"],
        &["inspect", "--username", "a", "docker://x"],
        &["inspect", "--password", "a", "docker://x"],
        &["delete"],
        &["delete", "x"],
        &["manifest-digest"],
        &["manifest-digest", "a", "b"],
        &["list-tags", "docker://localhost:1/x:tag"],
        &["list-tags", "dir:x"],
        &["list-tags", "bogus"],
        &["sync", "a", "b"],
        &["sync", "-s", "docker", "a", "b"],
        &["sync", "-s", "bogus", "-d", "dir", "a", "b"],
        &["sync", "-s", "dir", "-d", "bogus", "a", "b"],
        &["sync", "--src=dir", "--dest=dir", "a", "b"],
        &["login"],
        &["logout"],
        &["copy", "--insecure-policy", "-f", "bogus", "dir:docker", "dir:b"],
        &["copy", "--insecure-policy", "--all", "--multi-arch=all", "dir:docker", "dir:b"],
        &["copy", "--insecure-policy", "--multi-arch=bogus", "dir:docker", "dir:b"],
        &["copy", "--insecure-policy", "--dest-compress-format=xz", "dir:docker", "oci:b"],
        &["copy", "--insecure-policy", "--additional-tag", "notag", "dir:docker", "docker-archive:b:c"],
    ];
    for arguments in calls {
        let (debians, ours) = both.both(arguments);
        assert_eq!(debians, ours, "{arguments:?}");
        assert_eq!(ours.code, 1, "{arguments:?}");
    }
}

/// Newer skopeos answer a wrong number of arguments on stderr, and fail.
#[test]
fn the_number_of_arguments() {
    let both = Both::new(|_| {});
    for (arguments, text) in [
        (&["copy", "a"][..], "Exactly two arguments expected"),
        (&["copy", "a", "b", "c"], "Exactly two arguments expected"),
        (&["sync"], "Exactly two arguments expected"),
        (&["list-tags"], "Exactly one non-option argument expected"),
    ] {
        let output = both.run(Whose::Ours, arguments);
        assert_eq!((output.code, output.out.as_str()), (1, ""), "{arguments:?}");
        assert!(output.err.contains(&format!("\nUsage:\nskopeo {} ", arguments[0])), "{}", output.err);
        assert!(output.err.ends_with(&format!("level=fatal msg=\"{text}\"\n")), "{}", output.err);
    }
}

#[test]
fn versions_and_help() {
    let both = Both::new(|_| {});
    for arguments in [["--version"], ["-v"]] {
        let output = both.run(Whose::Ours, &arguments).ok();
        assert_eq!((output.out.as_str(), output.err.as_str()), ("skopeo version 1.22.0\n", ""));
    }
    let help = both.run(Whose::Ours, &["--help"]).ok().out;
    for command in ["copy", "delete", "inspect", "list-tags", "login", "logout", "manifest-digest", "sync"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let of_command = both.run(Whose::Ours, &[command, "--help"]).ok();
        assert_eq!(of_command, both.run(Whose::Ours, &["help", command]).ok());
        assert_eq!(of_command, both.run(Whose::Ours, &["--debug", command, "x", "-h"]).ok());
        // Every flag of Debian's that is not refused is in ours, with its short name.
        let debians = both.run(Whose::Debians, &[command, "--help"]).ok().out;
        for line in debians.lines().filter(|line| line.starts_with("      --") || line.starts_with("  -")) {
            let flag = line.trim_start().split("  ").next().unwrap().split(' ').take(2).collect::<Vec<_>>();
            let flag = flag.iter().rfind(|word| word.starts_with("--")).unwrap();
            let refused = ["crypt", "daemon"].iter().any(|part| flag.contains(part));
            assert_eq!(of_command.out.contains(&format!("{flag} ")), !refused, "{command} {flag}");
        }
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    let both = Both::new(images);
    for flag in [
        "--sign-by-sq-fingerprint",
        "--encryption-key",
        "--encrypt-layer",
        "--decryption-key",
        "--src-daemon-host",
        "--dest-daemon-host",
        "--tls-details",
    ] {
        let output = both.run(Whose::Ours, &["--insecure-policy", "copy", flag, "x", "dir:docker", "dir:made"]);
        output.fails(1, &format!("level=fatal msg=\"{flag} is not supported by holkas: "));
        assert!(!both.ours("made").exists());
    }
    both.run(Whose::Ours, &["copy", "--insecure-policy", "--sign-by=", "dir:docker", "dir:unsigned"]).ok();
    for (arguments, name) in [
        (
            &["copy", "--insecure-policy", "--remove-list-signatures", "dir:docker", "dir:made"][..],
            "--remove-list-signatures",
        ),
        (&["copy", "--insecure-policy", "docker-daemon:x:y", "dir:made"], "the transport docker-daemon"),
        (&["inspect", "--daemon-host=x", "dir:docker"], "--daemon-host"),
        (&["inspect", "--manifest-digest=sha512", "dir:docker"], "--manifest-digest"),
        (&["login", "--secret", "x", "example.org"], "--secret"),
        (&["layers", "dir:docker"], "`skopeo layers`"),
        (&["completion", "bash"], "`skopeo completion`"),
    ] {
        let output = both.run(Whose::Ours, arguments).fails(1, name);
        assert!(output.err.contains("is not supported by holkas"), "{}", output.err);
        assert_eq!((output.out.as_str(), both.ours("made").exists()), ("", false));
    }
    both.run(Whose::Ours, &["copy", "--encryption-key=a", "--decryption-key=b", "x", "y"])
        .fails(1, "--encryption-key and --decryption-key cannot be specified together");
    // --registries.d is read where registries are spoken to, and only there.
    let dir = both.ours("registries.d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("default.yaml"), "default-docker:\n  lookaside: [x]\n").unwrap();
    both.run(Whose::Ours, &["--registries.d=registries.d", "inspect", "--raw", "dir:docker"]).ok();
    both.run(Whose::Ours, &["--registries.d=registries.d", "inspect", "docker://127.0.0.1:1/x"])
        .fails(1, "registries.d/default.yaml:2: reading `default-docker → lookaside`");
}

#[test]
fn flags_stand_before_and_after_the_command() {
    let both = Both::new(images);
    for arguments in [
        &["--insecure-policy", "copy", "-q", "dir:docker", "dir:a1"][..],
        &["copy", "--insecure-policy", "dir:docker", "-q", "dir:a2"],
        &["copy", "dir:docker", "dir:a3", "--quiet=true", "--insecure-policy=T", "--all=false"],
        &["--debug=false", "copy", "--insecure-policy", "--quiet=1", "--", "dir:docker", "dir:a4"],
        &["--override-arch", "arm64", "copy", "--override-arch=amd64", "--insecure-policy", "-q", "dir:list", "dir:a5"],
        &["copy", "--insecure-policy", "-qa", "dir:list", "dir:a6"],
    ] {
        let (debians, ours) = both.both(arguments);
        assert_eq!(debians, ours, "{arguments:?}");
        assert_eq!((ours.code, ours.out.as_str(), ours.err.as_str()), (0, "", ""), "{arguments:?}");
    }
    for name in ["a1", "a2", "a3", "a4", "a5", "a6"] {
        both.assert_same_files(name);
    }
    for arguments in [
        &["--tls-verify=false", "inspect", "--raw", "dir:docker"][..],
        &["copy", "--insecure-policy", "-q", "--tls-verify", "dir:docker", "dir:a1"],
    ] {
        let (debians, ours) = both.both(arguments);
        assert_eq!(debians, ours, "{arguments:?}");
        assert!(ours.err.starts_with("level=warning msg=\"'--tls-verify' is deprecated, "), "{}", ours.err);
    }
    both.run(Whose::Ours, &["--debug", "copy", "--insecure-policy", "-q", "dir:docker", "dir:a1"])
        .fails(0, "level=debug");
    // As `holkas skopeo …`, too.
    let output = finish(Command::new(env!("CARGO_BIN_EXE_holkas")).args(["skopeo", "--version"]));
    assert_eq!(output.ok().out, "skopeo version 1.22.0\n");
}

#[test]
fn a_line_of_stderr_is_logrus_text() {
    let output = ours().args(["copy", "a\"b\\\u{e9}\n", "dir:x"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let (time, rest) = text.strip_prefix("time=\"").unwrap().split_once("\" ").unwrap();
    assert_eq!((time.len(), &time[10..11], &time[19..]), (20, "T", "Z"), "{text}");
    let expected = "level=fatal msg=\"Invalid source name a\\\"b\\\\\u{e9}\\n: Invalid image name \
                    \\\"a\\\\\\\"b\\\\\\\\\u{e9}\\\\n\\\", expected colon-separated transport:reference\"\n";
    assert_eq!(rest, expected);
}

/// Which failures are 2, and the words that callers look for.
#[test]
fn images_that_are_not_there() {
    let both = Both::new(images);
    both.same(&["copy", "-q", "--insecure-policy", "dir:docker", "docker-archive:a.tar:name:tag"]);
    both.same(&["copy", "-q", "--insecure-policy", "oci:oci:t", "oci-archive:o.tar:t"]);
    let digest = format!("sha256:{}", "0".repeat(64));
    for (image, code, phrase) in [
        ("dir:nope", 1, "no such file or directory"),
        ("oci:nope:t", 1, "no such file or directory"),
        ("oci:oci:nope", 2, "no descriptor found for reference"),
        ("oci:oci:@99", 1, ""),
        ("oci-archive:nope.tar", 1, "no such file or directory"),
        ("oci-archive:o.tar:nope", 2, "no descriptor found for reference"),
        ("docker-archive:nope.tar", 1, "no such file or directory"),
        ("docker-archive:a.tar:nope:1", 1, "Tag \\\"docker.io/library/nope:1\\\" not found"),
        (
            &format!("docker://x:y@{digest}"),
            1,
            "Docker references with both a tag and digest are currently not supported",
        ),
    ] {
        both.run(Whose::Ours, &["inspect", image]).fails(code, phrase).fails(code, "Error parsing image name");
        both.run(Whose::Ours, &["copy", "--insecure-policy", image, "dir:made"]).fails(code, phrase);
        both.run(Whose::Debians, &["inspect", image]).fails(1, if image.contains('@') { "" } else { phrase });
    }
    both.run(Whose::Ours, &["--override-arch=s390x", "inspect", "oci:index:t"]).fails(
        1,
        "Error parsing manifest for image: choosing image instance: no image found in manifest list for architecture \
         \\\"s390x\\\", variant \\\"\\\", OS \\\"linux\\\"",
    );
    both.run(Whose::Ours, &["delete", "dir:docker"]).fails(1, "Deleting images not implemented for dir: images");
    both.run(Whose::Ours, &["delete", "oci:oci:nope"]).fails(2, "no descriptor found for reference");
    both.run(Whose::Ours, &["manifest-digest", "nope"]).fails(1, "Error reading manifest from nope: ");
    both.run(Whose::Ours, &["sync", "-s", "dir", "-d", "docker", "nope", "x"]).fails(1, "no such file or directory");
}

#[test]
fn policies() {
    let both = Both::new(|dir| {
        images(dir);
        fs::write(dir.join("reject.json"), r#"{"default":[{"type":"reject"}]}"#).unwrap();
        fs::write(dir.join("accept.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let signed = r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nonexistent"}]}"#;
        fs::write(dir.join("signed.json"), signed).unwrap();
    });
    let (debians, ours) = both.both(&["copy", "--policy=reject.json", "dir:docker", "dir:made"]);
    for output in [debians, ours] {
        output.fails(1, "Source image rejected: Running image dir:").fails(1, "is rejected by policy.");
    }
    let (debians, ours) = both.both(&["--policy", "nope.json", "copy", "dir:docker", "dir:made"]);
    for output in [debians, ours] {
        output.fails(1, "Error loading trust policy: open nope.json: no such file or directory");
    }
    let (debians, ours) = both.both(&["copy", "--policy=signed.json", "dir:docker", "dir:made"]);
    for output in [debians, ours] {
        output.fails(1, "Source image rejected: A signature was required, but no signature exists");
    }
    both.run(Whose::Ours, &["--require-signed", "copy", "--policy=accept.json", "dir:docker", "dir:made"])
        .fails(1, "No signature verification policy found for image ");
    both.run(Whose::Ours, &["--require-signed", "--insecure-policy", "copy", "dir:docker", "dir:made"])
        .fails(1, "--insecure-policy and --require-signed are mutually exclusive");
    assert!(!both.ours("made").exists());
    // inspect asks no policy.
    both.same(&["--policy=reject.json", "inspect", "--raw", "dir:docker"]);
}
