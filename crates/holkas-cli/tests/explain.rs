//! `holkas explain`: which files are found and read, and what is shown of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::path::Path;

use common::{Output, finish, holkas, run};

const CONF: &str = "nonsense = 1
[[registry]]
prefix = 'example.com/foo'
location = 'internal.example:5000/bar'
[[registry.mirror]]
location = 'mirror.example'
insecure = true
[[registry.mirror]]
location = 'digests.example'
pull-from-mirror = 'digest-only'
[[registry]]
location = 'bad.example'
blocked = true
";

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, text).expect("a file");
}

fn explain(home: &Path, arguments: &[&str]) -> Output {
    finish(holkas().env("HOME", home).arg("explain").args(arguments))
}

#[test]
fn the_way_of_a_name_is_shown() {
    let temp = tempfile::tempdir().expect("a directory");
    let conf = temp.path().join("registries.conf");
    write(&conf, CONF);
    // Nothing is said of signatures, whatever this machine's own files say.
    std::fs::create_dir_all(temp.path().join(".config/containers/registries.d")).expect("a directory");
    let certs = temp.path().join(".config/containers/certs.d/mirror.example");
    write(&certs.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    let (file, certs) = (conf.display().to_string(), certs.display().to_string());
    let shown = explain(temp.path(), &["example.com/foo/x", "--registries-conf", &file]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    let wide = certs.len();
    let kept = "/var/lib/containers/sigstore";
    let expected = format!(
        "name          example.com/foo/x:latest
files read    {file}
matched       prefix example.com/foo in {file}:2
unknown keys  {file}:1: `nonsense`
helpers       containers-auth.json
signatures    mirror.example/x:latest is read from file://{kept} (no file says otherwise)
              mirror.example/x:latest is written to file://{kept} (no file says otherwise)
              mirror.example/x:latest: sigstore's are not looked for beside it (no file says otherwise)
              internal.example:5000/bar/x:latest is read from file://{kept} (no file says otherwise)
              internal.example:5000/bar/x:latest is written to file://{kept} (no file says otherwise)
              internal.example:5000/bar/x:latest: sigstore's are not looked for beside it (no file says otherwise)

ORDER  KIND     URL                                      TLS       {:wide$}  CREDENTIALS  NOT ASKED BECAUSE
1      mirror   https://mirror.example/v2/x              insecure  {certs}  -
-      mirror   https://digests.example/v2/x             verified  {:wide$}  -            the mirror is for pulls by digest only
2      primary  https://internal.example:5000/v2/bar/x   verified  {:wide$}  -
",
        "CERTIFICATES", "-", "-"
    );
    let squeezed =
        |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&shown.out), squeezed(&expected));
    let columns: Vec<_> =
        shown.out.lines().skip(12).map(|line| line.find("  insecure").or(line.find("  verified"))).collect();
    assert!(columns.iter().flatten().all(|at| Some(at) == columns[1].as_ref()), "aligned: {}", shown.out);

    let json = explain(temp.path(), &["docker://example.com/foo/x", "--json", "--registries-conf", &file]);
    let value: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(value["matched"], serde_json::json!({"prefix": "example.com/foo", "file": file, "line": 2}));
    assert_eq!(value["files"], serde_json::json!([file]));
    assert_eq!(
        value["places"][0],
        serde_json::json!({
            "kind": "mirror", "name": "mirror.example/x:latest", "url": "https://mirror.example/v2/x", "insecure": true,
            "skipped": null, "credentials": null,
            "certificates": {"dir": certs, "authorities": 1, "client_certificates": []},
            "signatures": {
                "read": {"url": format!("file://{kept}"), "by": null},
                "written": {"url": format!("file://{kept}"), "by": null},
                "sigstore_attachments": {"wanted": false, "by": null},
            },
        })
    );
    assert_eq!(value["places"][1]["skipped"], "the mirror is for pulls by digest only");
    assert_eq!(value["places"][2]["name"], "internal.example:5000/bar/x:latest");

    let pushed = explain(temp.path(), &["example.com/foo/x", "--for", "push", "--json", "--registries-conf", &file]);
    let value: serde_json::Value = serde_json::from_str(&pushed.out).expect("JSON");
    assert_eq!(value["places"].as_array().expect("places").len(), 1);
    assert_eq!(value["places"][0]["url"], "https://example.com/v2/foo/x");

    let blocked = explain(temp.path(), &["bad.example/x", "--registries-conf", &file]);
    assert_eq!(blocked.code, 0, "that it is blocked is what was asked");
    assert!(blocked.out.contains(&format!("registry bad.example is blocked in {file}:11")), "{}", blocked.out);
}

#[test]
fn the_users_files_stand_before_the_systems() {
    let temp = tempfile::tempdir().expect("a directory");
    let own = temp.path().join(".config/containers");
    let files = |home: &Path| {
        let shown = explain(home, &["alpine", "--json"]);
        assert_eq!((shown.code, shown.err.as_str()), (0, ""));
        let value: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
        assert_eq!(
            value["places"].as_array().expect("places").last().expect("one")["url"],
            "https://registry-1.docker.io/v2/library/alpine"
        );
        value["files"]
            .as_array()
            .expect("files")
            .iter()
            .map(|file| file.as_str().expect("a path").to_string())
            .collect::<Vec<_>>()
    };
    let system = files(temp.path());
    assert!(system.iter().all(|file| file.starts_with("/etc/containers/registries.conf")), "{system:?}");
    for name in ["b.conf", "a.conf", "c.conf.ignored", "d.conf/below.conf"] {
        write(&own.join("registries.conf.d").join(name), "");
    }
    let drop_ins = ["a.conf", "b.conf"].map(|name| own.join("registries.conf.d").join(name).display().to_string());
    assert_eq!(files(temp.path()), [&system[..], &drop_ins].concat());
    write(&own.join("registries.conf"), "");
    let main = own.join("registries.conf").display().to_string();
    assert_eq!(files(temp.path()), [&[main][..], &drop_ins].concat());
    // podman's variable means nothing, as with skopeo.
    let shown =
        finish(holkas().env("HOME", temp.path()).env("CONTAINERS_REGISTRIES_CONF", "/nope").args(["explain", "x"]));
    assert_eq!(shown.code, 0, "{}", shown.err);

    std::os::unix::fs::symlink("/nonexistent/x", own.join("registries.conf.d/z.conf")).expect("a symlink");
    let shown = explain(temp.path(), &["alpine"]);
    assert!(shown.code == 1 && shown.err.contains("z.conf` does not exist"), "{}", shown.err);
}

#[test]
fn faults_are_told() {
    let temp = tempfile::tempdir().expect("a directory");
    let conf = temp.path().join("registries.conf");
    write(&conf, "[[registry]]\nlocation = 'https://x'\n");
    let file = conf.display().to_string();
    let shown = explain(temp.path(), &["alpine", "--registries-conf", &file]);
    assert_eq!(shown.code, 1);
    for part in [
        &format!("{file}:2:12: reading `location` of [[registry]] 1"),
        "URI schemes",
        "2 | location = 'https://x'",
        "hint:",
    ] {
        assert!(shown.err.contains(part), "{part}: {}", shown.err);
    }
    let shown = explain(temp.path(), &["alpine", "--json", "--registries-conf", "/nonexistent/registries.conf"]);
    assert!(shown.code == 1 && shown.err.starts_with("{\"error\":"), "{}", shown.err);
    for name in ["Alpine", "dir:/x", "docker:x", "docker://x:1@sha256:0"] {
        assert_eq!(explain(temp.path(), &[name]).code, 1, "{name}");
    }
    assert!(run(&["explain", "--help"]).out.contains("in which order"));
}
