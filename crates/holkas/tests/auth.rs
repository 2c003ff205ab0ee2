//! Credentials: which are found for what, what hostile files and helpers can do, and what login and logout write.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "auth/kit.rs"]
mod kit;
#[path = "auth/written.rs"]
mod written;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holkas::ErrorKind;
use holkas::registry::auth::{
    AUTH_FILES, AuthFile, AuthFiles, AuthKey, Credentials, Format, Found, KeyStyle, Place, Secret,
};
use kit::{Desk, key, shown};

fn entry(auth: &str) -> String {
    format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(auth))
}

/// Returns credentials in short: `user:password`, `token:…` or `-`.
fn short(found: &Found) -> String {
    match &found.credentials {
        Credentials::Anonymous => "-".to_owned(),
        Credentials::Basic { user, password } => format!("{user}:{}", password.expose()),
        Credentials::IdentityToken(token) => format!("token:{}", token.expose()),
        Credentials::Bearer(token) => format!("bearer:{}", token.expose()),
    }
}

#[test]
fn the_most_specific_entry_counts() {
    let desk = Desk::new();
    let text = format!(
        r#"{{"auths":{{
            "https://old.example/v1/":{}, "http://plain.example":{}, "reg.example":{}, "reg.example/ns":{},
            "reg.example/ns/app":{}, "https://reg.example/v2/":{}, "reg.example:5000":{}, "only.example/ns":{},
            "https://index.docker.io/v1/":{}, "nul.example":{}, "colon.example":{}, "none.example":{{}},
            "null.example":null, "blank.example":{{"auth":""}}, "nouser.example":{}, "nopassword.example":{},
            "both.example":{{"auth":"{}","identitytoken":"T"}}, "token.example":{{"identitytoken":"T"}},
            "skip.example/ns":{{}}, "skip.example":{}, "lines.example":{{"auth":"dTpw\nYXNz\r\n"}}
        }},"credHelpers":{{"h.example":"ok","t.example":"token","n.example":"none","docker.example":"empty"}}}}"#,
        entry("old:p"),
        entry("plain:p"),
        entry("host:p"),
        entry("ns:p"),
        entry("app:p"),
        entry("url:p"),
        entry("port:p"),
        entry("only:p"),
        entry("hub:p"),
        entry("nul:p\0\0"),
        entry("u:p:q"),
        entry(":p"),
        entry("u:"),
        STANDARD.encode("it:x"),
        entry("skipped:p"),
    );
    for (wanted, expected) in [
        ("reg.example", "host:p"),
        ("reg.example/other", "host:p"),
        ("reg.example/nsx", "host:p"),
        ("reg.example/ns", "ns:p"),
        ("reg.example/ns/other/deep", "ns:p"),
        ("reg.example/ns/app", "app:p"),
        ("reg.example/ns/app/sub", "app:p"),
        ("reg.example:5000/ns/app", "port:p"),
        ("reg.example:5001", "-"),
        ("sub.reg.example", "-"),
        ("old.example", "old:p"),
        ("old.example/ns", "old:p"),
        ("plain.example", "plain:p"),
        // A namespace is not its registry.
        ("only.example", "-"),
        ("only.example/other", "-"),
        ("docker.io", "hub:p"),
        ("docker.io/library/alpine", "hub:p"),
        ("index.docker.io", "hub:p"),
        ("registry-1.docker.io", "hub:p"),
        ("nul.example", "nul:p"),
        ("colon.example", "u:p:q"),
        ("none.example", "-"),
        ("null.example", "-"),
        ("blank.example", "-"),
        ("nouser.example", ":p"),
        ("nopassword.example", "u:"),
        ("both.example", "token:T"),
        ("token.example", "token:T"),
        ("skip.example/ns/app", "skipped:p"),
        ("lines.example", "u:pass"),
        ("h.example", "helped:for h.example"),
        ("h.example/ns/app", "helped:for h.example"),
        ("t.example", "token:s3cret-token"),
        ("n.example", "-"),
        ("docker.example", "-"),
    ] {
        assert_eq!(short(&desk.find(&text, wanted).unwrap()), expected, "{wanted}");
    }
    assert_eq!(desk.find(&text, "both.example").unwrap().user.as_deref(), Some("it"));
    let place = desk.find(&text, "old.example/ns").unwrap().place;
    assert_eq!(place, Place::File { path: desk.path("auth.json"), key: "https://old.example/v1/".to_owned() });
    let place = desk.find(&text, "h.example").unwrap().place.to_string();
    assert!(place.starts_with("credential helper `ok`, named by `/"), "{place}");
}

#[test]
fn helpers_of_a_file_come_before_its_entries_and_docker_s_store_after_them() {
    let desk = Desk::new();
    let with = |more: &str| format!(r#"{{"auths":{{"a.example":{},"b.example":{{}}}},{more}}}"#, entry("file:p"));
    for (more, wanted, expected) in [
        (r#""credHelpers":{"a.example":"ok"}"#, "a.example", "helped:for a.example"),
        (r#""credHelpers":{"a.example":"none"}"#, "a.example", "-"),
        (r#""credHelpers":{"https://a.example/v1/":"ok"}"#, "a.example", "helped:for a.example"),
        (r#""credHelpers":{"docker.io":"ok"}"#, "docker.io", "helped:for docker.io"),
        (r#""credHelpers":{"index.docker.io":"ok"}"#, "docker.io/x/y", "helped:for https://index.docker.io/v1/"),
        (r#""credsStore":"ok""#, "a.example/ns", "file:p"),
        (r#""credsStore":"ok""#, "b.example", "helped:for b.example"),
        (r#""credsStore":"ok""#, "c.example/ns", "helped:for c.example"),
        (r#""credsStore":"ok""#, "docker.io", "helped:for https://index.docker.io/v1/"),
        (r#""credsStore":"ok","credHelpers":{"b.example":"none"}"#, "b.example", "-"),
        (r#""credsStore":"missing""#, "a.example", "file:p"),
        (r#""credsStore":"missing""#, "c.example", "-"),
        (r#""credsStore":"""#, "b.example", "-"),
    ] {
        assert_eq!(short(&desk.find(&with(more), wanted).unwrap()), expected, "{more} {wanted}");
    }
    let error = desk.find(&with(r#""credsStore":"missing""#), "b.example").unwrap_err();
    assert!(error.to_string().contains("`docker-credential-missing` is not in PATH"), "{error}");
    let error = desk.find(&with(r#""credHelpers":{"a.example":"plain"}"#), "a.example").unwrap_err();
    assert!(error.to_string().contains("`docker-credential-plain` is not in PATH"), "{error}");
}

#[test]
fn files_and_helpers_are_asked_in_their_order() {
    let desk = Desk::new();
    desk.file("first", &format!(r#"{{"auths":{{"a.example":{},"e.example":{{}}}}}}"#, entry("first:p")));
    desk.file("second", &format!(r#"{{"auths":{{"a.example":{0},"e.example":{0}}}}}"#, entry("second:p")));
    desk.file("legacy", &format!(r#"{{"https://l.example/v1/":{0},"m.example/v1":{0}}}"#, entry("legacy:p")));
    let files = [
        ("absent", Format::Current),
        ("first", Format::Current),
        ("second", Format::Current),
        ("legacy", Format::Legacy),
    ];
    for (helpers, wanted, expected) in [
        (&[AUTH_FILES][..], "a.example", "first:p"),
        (&[AUTH_FILES], "e.example", "second:p"),
        (&[AUTH_FILES], "l.example/ns/app", "legacy:p"),
        (&[AUTH_FILES], "m.example", "legacy:p"),
        (&[AUTH_FILES], "x.example", "-"),
        (&[], "a.example", "-"),
        (&["ok", AUTH_FILES], "a.example/ns", "helped:for a.example"),
        (&["none", AUTH_FILES], "a.example", "first:p"),
        // One that fails does not keep the next from being asked.
        (&["boom", "missing", AUTH_FILES], "a.example", "first:p"),
        (&[AUTH_FILES, "ok"], "x.example", "helped:for x.example"),
    ] {
        let found = desk.files(&files, helpers).find(&key(wanted)).unwrap();
        assert_eq!(short(&found), expected, "{helpers:?} {wanted}");
    }
    let error = desk.files(&files, &["boom", AUTH_FILES]).find(&key("x.example")).unwrap_err();
    assert!(error.to_string().contains("credential helper `boom`"), "{error}");
}

#[test]
fn a_pipe_is_read_once_and_remembered() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd()).into();
    let files = AuthFiles::new(vec![AuthFile { path, format: Format::Current }], vec![AUTH_FILES.into()], Vec::new());
    let late = std::thread::spawn(move || {
        writer.write_all(format!(r#"{{"auths":{{"a.example":{}}}}}"#, entry("piped:p")).as_bytes()).unwrap();
    });
    for _ in 0..2 {
        assert_eq!(short(&files.find(&key("a.example/x")).unwrap()), "piped:p");
    }
    late.join().unwrap();
    assert!(!format!("{files:?}").contains("auths"), "{files:?}");
}

/// What is in no error: the password of each file here, in clear and in base64.
const SECRET: &str = "s3cret";

#[test]
fn hostile_files_are_refused_without_their_secrets() {
    let desk = Desk::new();
    let base64 = STANDARD.encode(format!("u:{SECRET}"));
    let mut cases = vec![
        ("".to_owned(), "not valid JSON"),
        ("null".to_owned(), "null, not an object"),
        (format!("\"{SECRET}\""), "not an object"),
        (format!("{{\"auths\":{{\"a.example\":{{\"auth\":\"{base64}\"}}"), "not valid JSON"),
        (format!(r#"{{"auths":"{SECRET}"}}"#), "`auths` is not an object"),
        (format!(r#"{{"auths":["{SECRET}"]}}"#), "`auths` is not an object"),
        (format!(r#"{{"auths":{{"a.example":"{SECRET}"}}}}"#), "it is not an object"),
        (format!(r#"{{"auths":{{"a.example":{{"auth":["{SECRET}"]}}}}}}"#), "`auth` is not a string"),
        (format!(r#"{{"auths":{{"a.example":{{"auth":"{SECRET}!"}}}}}}"#), "`auth` is not base64"),
        (format!(r#"{{"auths":{{"a.example":{{"auth":"{}"}}}}}}"#, STANDARD.encode(SECRET)), "no `:`"),
        (
            format!(
                r#"{{"auths":{{"a.example":{{"auth":"{}"}}}}}}"#,
                STANDARD.encode([b"u:\xff", SECRET.as_bytes()].concat())
            ),
            "not UTF-8",
        ),
        (
            format!(r#"{{"auths":{{"a.example":{{"identitytoken":{{"{SECRET}":1}}}}}}}}"#),
            "`identitytoken` is not a string",
        ),
        (format!(r#"{{"auths":{{"a.example":{{"auth":"{base64}","auth":"x"}}}}}}"#), "twice"),
        (format!(r#"{{"auths":{{}},"Auths":{{"a.example":{{"auth":"{base64}"}}}}}}"#), "ambiguous"),
        (format!(r#"{{"auths":{{"a.example":{{"AUTH":"{base64}"}}}}}}"#), "ambiguous"),
        (
            format!(r#"{{"auths":{{"https://u:{SECRET}@a.example/":{{"auth":7}},"a.example":{{"auth":7}}}}}}"#),
            "`auth` is not a string",
        ),
        (format!(r#"{{"auths":{{"https://u:{SECRET}@a.example/":7}}}}"#), "entry `***@a.example/`"),
        (r#"{"credHelpers":{"a.example":7}}"#.to_owned(), "not a string"),
        (r#"{"credsStore":{}}"#.to_owned(), "not a string"),
        (format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20)), "over the limit"),
    ];
    for name in ["../x", "/", "", ".", "..", "a/b", "-x", "x y", "x\\n", "x\\u001b[31m"] {
        cases.push((format!(r#"{{"credHelpers":{{"b.example":"{name}"}}}}"#), "is no name of a credential helper"));
    }
    cases.push((r#"{"credsStore":"../ok"}"#.to_owned(), "is no name of a credential helper"));
    for (text, expected) in cases {
        let error = desk.find(&text, "a.example").expect_err(&text);
        let shown = shown(&error);
        assert!(shown.contains(expected), "{text:.200}: {shown}");
        assert!(shown.contains("auth.json"), "{shown}");
        assert!(!shown.contains(SECRET) && !shown.contains(&base64) && !shown.contains('\x1b'), "{shown}");
    }
    fs::create_dir(desk.path("directory")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(desk.path("socket")).unwrap();
    for (name, expected) in [("directory", "directory"), ("socket", "")] {
        let error = desk.files(&[(name, Format::Current)], &[AUTH_FILES]).find(&key("a.example")).unwrap_err();
        assert!(error.to_string().contains(expected) && error.to_string().contains(name), "{error}");
    }
    drop(socket);
    let files = AuthFiles::new(
        vec![AuthFile { path: "/dev/zero".into(), format: Format::Current }],
        vec![AUTH_FILES.into()],
        Vec::new(),
    );
    assert!(files.find(&key("a.example")).unwrap_err().to_string().contains("neither a regular file nor a pipe"));
}

#[test]
fn hostile_helpers_neither_hang_nor_leak() {
    let desk = Desk::new();
    for (name, expected) in [
        ("boom", r"it failed (exit status: 3) and said: no \u{1b}[31mkeyring"),
        ("answers-and-fails", "it failed (exit status: 1)"),
        ("junk", "reading its answer: not valid JSON"),
        ("endless", "over the limit"),
        ("slow", "it did not end within 10 seconds"),
        ("missing", "is not in PATH"),
        ("plain", "is not in PATH"),
        ("../ok", "is no name of a credential helper"),
        ("", "is no name of a credential helper"),
    ] {
        let error = desk.files(&[], &[name]).find(&key("a.example")).expect_err(name);
        let shown = shown(&error);
        assert!(shown.contains(expected), "{name}: {shown}");
        assert!(!shown.contains(SECRET) && !shown.contains('\x1b'), "{name}: {shown}");
    }
    // It reads nothing, and leaves a child with its pipes behind: nobody waits for that one.
    let begun = std::time::Instant::now();
    assert_eq!(short(&desk.files(&[], &["deaf"]).find(&key("a.example")).unwrap()), "u:p");
    assert!(begun.elapsed().as_secs() < 9, "{:?}", begun.elapsed());
    // What a helper says back of a password that it was given is not told.
    desk.file("auth.json", r#"{"credHelpers":{"a.example":"echo"}}"#);
    let store = desk.store("auth.json", KeyStyle::Containers);
    let error = store.store(&key("a.example"), "u", &Secret::new(SECRET)).unwrap_err();
    assert!(shown(&error).contains("cannot:") && !shown(&error).contains(SECRET), "{}", shown(&error));
}

#[test]
fn secrets_are_not_shown() {
    let secret = || Secret::new(SECRET);
    let all = [
        Credentials::Basic { user: "u".into(), password: secret() },
        Credentials::IdentityToken(secret()),
        Credentials::Bearer(secret()),
    ];
    for credentials in all {
        let found = Found { credentials, user: None, place: Place::Nowhere };
        let text = format!("{found:?} {found:#?} {}", found.place);
        assert!(text.contains("***") && !text.contains(SECRET), "{text}");
    }
}

#[test]
fn keys_are_registries_or_parts_of_them() {
    for (typed, expected, registry) in [
        ("quay.io", "quay.io", "quay.io"),
        ("localhost:5000/ns/app", "localhost:5000/ns/app", "localhost:5000"),
        ("https://quay.io/v2/x", "quay.io", "quay.io"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000"),
        ("docker.io/vendor", "docker.io/vendor", "docker.io"),
    ] {
        let key = AuthKey::parse(typed).unwrap();
        assert_eq!((key.as_str(), key.registry()), (expected, registry), "{typed}");
    }
    for typed in [
        "",
        "/",
        "a b",
        "quay.io/",
        "quay.io/ns:tag",
        "quay.io/ns@sha256:00",
        "quay.io//x",
        "quay.io/../x",
        "https://",
        "u:s3cret@quay.io",
        "https://u:s3cret@quay.io/",
        "quay.io\n",
        "\x1b[31m",
    ] {
        let error = AuthKey::parse(typed).expect_err(typed);
        assert!(error.kind() == ErrorKind::Invalid && !shown(&error).contains(SECRET), "{error}");
        assert!(!error.to_string().contains(['\n', '\x1b']), "{error}");
    }
    let name: holkas::reference::Name = "alpine".parse().unwrap();
    assert_eq!(AuthKey::from(&name).as_str(), "docker.io/library/alpine");
}
