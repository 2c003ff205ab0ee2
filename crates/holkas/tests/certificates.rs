//! certs.d: which directory is a host's, what is read of it, and that skopeo refuses the same directories.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::{Path, PathBuf};

use holkas::ErrorKind;
use holkas::registry::certificates::CertificatePlaces;
use holkas_testkit::peers::Peer;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
const OTHER: &str = "-----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nBwgJ\n-----END PRIVATE KEY-----\n";

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

fn write(dir: &Path, files: Files<'_>) {
    std::fs::create_dir_all(dir).expect("a directory");
    for (name, text) in files {
        std::fs::write(dir.join(name), text).expect(name);
    }
}

#[test]
fn the_first_directory_of_a_host_counts_alone() {
    let temp = tempfile::tempdir().expect("a directory");
    let dirs = ["user", "system", "docker"].map(|name| temp.path().join(name));
    let places = CertificatePlaces::PerHost(dirs.to_vec());
    let none = places.read("example.com").expect("nothing");
    assert_eq!((none.dir, none.authorities.len(), none.identities.len()), (None, 0, 0));

    write(&dirs[2].join("example.com"), &[("ca.crt", CERTIFICATE)]);
    assert_eq!(places.read("example.com").expect("docker's").authorities.len(), 1);
    write(&dirs[1].join("example.com"), &[("README", "no certificate")]);
    let found = places.read("example.com").expect("the system's");
    assert_eq!((found.dir, found.authorities.len()), (Some(dirs[1].join("example.com")), 0));
    write(&dirs[0].join("example.com:5000"), &[("ca.crt", CERTIFICATE)]);
    assert_eq!(places.directory("example.com").expect("a host"), Some(dirs[1].join("example.com")));
    assert_eq!(places.directory("example.com:5000").expect("a host"), Some(dirs[0].join("example.com:5000")));
    assert_eq!(places.directory("[::1]:5000").expect("a host"), None);

    let one = CertificatePlaces::One(dirs[2].join("example.com"));
    assert_eq!(one.read("other.example").expect("the one").authorities.len(), 1);
    assert_eq!(CertificatePlaces::One("/nonexistent".into()).read("x").expect("nothing").dir, None);
}

#[test]
fn hosts_that_are_paths_are_refused() {
    let places = CertificatePlaces::PerHost(vec!["/etc".into()]);
    for host in ["", ".", "..", "../etc", "a/b", "/", "a\0b", ".hidden", "a b", "ä"] {
        assert_eq!(places.read(host).expect_err(host).kind(), ErrorKind::Invalid, "{host}");
    }
}

#[test]
fn all_kinds_of_files_are_read() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("example.com");
    let elsewhere = temp.path().join("elsewhere.pem");
    std::fs::write(&elsewhere, OTHER).expect("a file");
    write(
        &dir,
        &[
            ("a.crt", &format!("a comment\n{CERTIFICATE}{OTHER}")),
            ("client.cert", &format!("{CERTIFICATE}{OTHER}")),
            ("client.key", KEY),
            ("b.cert", CERTIFICATE),
            ("b.key", &KEY.replace("PRIVATE", "EC PRIVATE")),
            ("notes.txt", "anything"),
        ],
    );
    std::os::unix::fs::symlink(&elsewhere, dir.join("link.crt")).expect("a symlink");
    std::os::unix::fs::symlink("/nonexistent/x", dir.join("dangling.crt")).expect("a symlink");
    let found = CertificatePlaces::One(dir.clone()).read("example.com").expect("certificates");
    let authorities: Vec<&[u8]> = found.authorities.iter().map(|der| der.as_ref()).collect();
    assert_eq!(authorities, [&[1, 2, 3][..], &[4, 5, 6], &[4, 5, 6]]);
    let files: Vec<PathBuf> = found.identities.iter().map(|own| own.file.clone()).collect();
    assert_eq!(files, [dir.join("b.cert"), dir.join("client.cert")]);
    assert_eq!(found.identities[1].chain.len(), 2);
    assert_eq!(found.identities[1].key.secret_der(), [7, 8, 9]);
    assert!(!format!("{found:?}").contains("[7, 8, 9]"), "a key is not for logs");
}

#[test]
fn faults_name_the_file_and_skopeo_refuses_them_too() {
    let broken = "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n";
    let encrypted = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
    // Files, what is named, the reason, and whether skopeo refuses them: it takes any .crt, and so trusts nobody.
    let cases: &[(Files<'_>, &str, &str, bool)] = &[
        (&[("x.cert", CERTIFICATE)], "x.cert", "missing key x.key for client certificate x.cert", true),
        (&[("x.key", KEY)], "x.key", "missing client certificate x.cert for key x.key", true),
        (&[("x.cert", "nothing"), ("x.key", KEY)], "x.cert", "no certificate in PEM form", true),
        (&[("x.cert", CERTIFICATE), ("x.key", "nothing")], "x.key", "no private key in PEM form", true),
        (&[("x.cert", CERTIFICATE), ("x.key", &encrypted)], "x.key", "not encrypted", true),
        (&[("x.cert", broken), ("x.key", KEY)], "x.cert", "PEM form is broken", true),
        (&[("x.crt", "nothing")], "x.crt", "no certificate in PEM form", false),
        (&[("x.crt", broken)], "x.crt", "PEM form is broken", false),
    ];
    for (files, named, why, refused_by_skopeo) in cases {
        let temp = tempfile::tempdir().expect("a directory");
        write(temp.path(), files);
        let error = CertificatePlaces::One(temp.path().into()).read("example.com").expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(named) && error.to_string().contains(why), "{error}");
        let dir = temp.path().display().to_string();
        let theirs = Peer::skopeo().run(["inspect", "--cert-dir", &dir, "docker://127.0.0.1:1/x"]).errors();
        assert_eq!(!theirs.contains("pinging"), *refused_by_skopeo, "{theirs}");
    }
}

#[test]
fn what_is_no_file_or_too_large_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let large = temp.path().join("large");
    write(&large, &[("x.crt", "")]);
    let file = std::fs::OpenOptions::new().write(true).open(large.join("x.crt")).expect("a file");
    file.set_len(1 << 40).expect("a sparse file");
    let error = CertificatePlaces::One(large).read("x").expect_err("a terabyte").to_string();
    assert!(error.contains("over the limit") && error.contains("x.crt"), "{error}");

    let odd = temp.path().join("odd");
    std::fs::create_dir_all(odd.join("x.crt")).expect("a directory");
    let error = CertificatePlaces::One(odd).read("x").expect_err("a directory").to_string();
    assert!(error.contains("not a regular file"), "{error}");

    let many = temp.path().join("many");
    std::fs::create_dir_all(&many).expect("a directory");
    (0..1025).for_each(|n| std::fs::write(many.join(n.to_string()), "").expect("a file"));
    assert!(CertificatePlaces::One(many).read("x").expect_err("1025 files").to_string().contains("1025 files"));
    let error = CertificatePlaces::One("/dev/null".into()).read("x").expect_err("no directory").to_string();
    assert!(error.contains("/dev/null"), "{error}");
}
