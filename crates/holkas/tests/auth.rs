//! Credentials: which are found for what, what hostile files and helpers can do, and what login and logout write.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "auth/kit.rs"]
mod kit;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holkas::registry::auth::{
    AUTH_FILES, AuthFile, AuthFiles, AuthKey, Credentials, Format, Found, KeyStyle, Place, Secret, login,
};
use holkas::{Error, ErrorKind};
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

#[test]
fn login_writes_only_what_the_registry_has_accepted() {
    let desk = Desk::new();
    let store = desk.store("new/dir/auth.json", KeyStyle::Containers);
    let refused = |_: &Credentials| Err(Error::new(ErrorKind::Unauthorized, "no"));
    let error = login(&store, &key("a.example"), "u", &Secret::new(SECRET), &refused).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unauthorized, "logging in to a.example: no"));
    assert!(!desk.path("new").exists());
    for user in ["", "a:b"] {
        let never = |_: &Credentials| panic!("asked for a user that cannot be");
        assert!(login(&store, &key("a.example"), user, &Secret::new(SECRET), &never).is_err());
    }
    let accepted = |credentials: &Credentials| {
        assert!(matches!(credentials, Credentials::Basic { user, .. } if user == "u"));
        Ok(())
    };
    let place = login(&store, &key("a.example/ns"), "u", &Secret::new(SECRET), &accepted).unwrap();
    assert_eq!(place, Place::File { path: store.file.clone(), key: "a.example/ns".into() });
    let expected = "{\n\t\"auths\": {\n\t\t\"a.example/ns\": {\n\t\t\t\"auth\": \"dTpzM2NyZXQ=\"\n\t\t}\n\t}\n}\n";
    assert_eq!(desk.text("new/dir/auth.json"), expected);
    for (path, mode) in
        [("new", 0o700), ("new/dir", 0o700), ("new/dir/auth.json", 0o600), ("new/dir/.auth.json.lock", 0o600)]
    {
        assert_eq!(fs::metadata(desk.path(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

/// What is in a file that others wrote: unknown keys, numbers that no float holds, odd spaces and order.
const OTHERS: &str = r#"{
	"zzz": {"b": 12345678901234567890123, "a":  [1.0, 1e2]},
	"auths": {
		"z.example": {"auth": "eg==", "email": "z@z"},
		"a.example": {"auth": "dTpw", "email": "gone with the entry"},
		"m.example": {}
	},
	"HttpHeaders": {"User-Agent": "x"}
}
"#;

#[test]
fn what_others_wrote_stays() {
    let desk = Desk::new();
    desk.file("auth.json", OTHERS);
    fs::set_permissions(desk.path("auth.json"), fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink("auth.json", desk.path("link")).unwrap();
    let store = desk.store("link", KeyStyle::Containers);
    store.store(&key("a.example"), "new", &Secret::new("p")).unwrap();
    store.store(&key("n.example"), "new", &Secret::new("p")).unwrap();
    assert!(desk.path("link").is_symlink());
    let text = desk.text("auth.json");
    for kept in [
        r#""zzz": {"b": 12345678901234567890123, "a":  [1.0, 1e2]}"#,
        r#""z.example": {"auth": "eg==", "email": "z@z"}"#,
        r#""HttpHeaders": {"User-Agent": "x"}"#,
    ] {
        assert!(text.contains(kept), "{text}");
    }
    let order = ["zzz", "auths", "z.example", "a.example", "m.example", "n.example", "HttpHeaders"];
    let places: Vec<_> = order.iter().map(|key| text.find(&format!("\"{key}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains(&STANDARD.encode("new:p")) && !text.contains("dTpw\""), "{text}");
    assert_eq!(fs::metadata(desk.path("auth.json")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(store.erase(&key("n.example")).unwrap());
    assert!(!store.erase(&key("n.example")).unwrap());
    store.erase_all().unwrap();
    assert_eq!(
        desk.text("auth.json").split_whitespace().collect::<String>(),
        r#"{"zzz":{"b":12345678901234567890123,"a":[1.0,1e2]},"auths":{},"HttpHeaders":{"User-Agent":"x"}}"#
    );
}

#[test]
fn a_damaged_file_is_not_changed() {
    let desk = Desk::new();
    for text in ["", "{", "[]", r#"{"auths":[]}"#, r#"{"auths":{"a":1}}"#, r#"{"credHelpers":{"a.example":"../x"}}"#] {
        desk.file("auth.json", text);
        let store = desk.store("auth.json", KeyStyle::Containers);
        for result in [
            store.store(&key("a.example"), "u", &Secret::new(SECRET)).map(drop),
            store.erase(&key("a.example")).map(drop),
            store.erase_all(),
        ] {
            let error = result.expect_err(text);
            assert!(shown(&error).contains("auth.json") && !shown(&error).contains(SECRET), "{error}");
        }
        assert_eq!(desk.text("auth.json"), text);
    }
    fs::remove_file(desk.path("auth.json")).unwrap();
    std::os::unix::fs::symlink("nowhere", desk.path("auth.json")).unwrap();
    assert!(desk.store("auth.json", KeyStyle::Containers).store(&key("a.example"), "u", &Secret::new("p")).is_err());
    // A logout from a file that is not there makes none.
    let store = desk.store("none/auth.json", KeyStyle::Containers);
    assert!(!store.erase(&key("a.example")).unwrap());
    store.erase_all().unwrap();
    assert!(!desk.path("none").exists());
}

#[test]
fn docker_s_file_has_docker_s_keys() {
    let desk = Desk::new();
    let store = desk.store("config.json", KeyStyle::Docker);
    store.store(&key("docker.io"), "u", &Secret::new("p")).unwrap();
    store.store(&key("a.example"), "u", &Secret::new("p")).unwrap();
    let text = desk.text("config.json");
    assert!(text.contains("\"https://index.docker.io/v1/\"") && text.contains("\"a.example\""), "{text}");
    let error = store.store(&key("a.example/ns"), "u", &Secret::new("p")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(
        short(&desk.files(&[("config.json", Format::Current)], &[AUTH_FILES]).find(&key("docker.io/x")).unwrap()),
        "u:p"
    );
    // The old form would be found again, so it goes too.
    let store = desk.store("config.json", KeyStyle::Containers);
    assert!(store.erase(&key("docker.io")).unwrap());
    assert!(!desk.text("config.json").contains("docker.io"));
}

#[test]
fn helpers_keep_what_the_file_says_they_keep() {
    for (text, server) in [
        (r#"{"credHelpers":{"a.example":"keep"}}"#, "a.example"),
        (r#"{"credsStore":"keep"}"#, "a.example"),
        (r#"{"credsStore":"keep","auths":{"a.example":{"auth":"dTpw"}}}"#, "a.example"),
        (r#"{"credsStore":"keep"}"#, "https://index.docker.io/v1/"),
    ] {
        let desk = Desk::new();
        desk.file("auth.json", text);
        let key = key(if server.starts_with("https") { "docker.io" } else { server });
        let store = desk.store("auth.json", KeyStyle::Containers);
        let files = desk.files(&[("auth.json", Format::Current)], &[AUTH_FILES]);
        let place = store.store(&key, "u", &Secret::new(SECRET)).unwrap();
        assert_eq!(place, Place::Helper { name: "keep".into(), file: Some(store.file.clone()) }, "{text}");
        assert_eq!(short(&files.find(&key).unwrap()), format!("u:{SECRET}"), "{text}");
        let file = desk.text("auth.json");
        assert!(!file.contains("\"auth\"") && !file.contains(SECRET), "{file}");
        assert!(desk.told().contains(&format!("store {{\"ServerURL\":\"{server}\",")), "{}", desk.told());
        let part = AuthKey::parse(&format!("{key}/ns")).unwrap();
        assert_eq!(store.store(&part, "u", &Secret::new("p")).unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
        assert!(store.erase(&key).unwrap(), "{text}");
        assert!(desk.told().ends_with(&format!("erase {server}\n")), "{}", desk.told());
        assert_eq!(short(&files.find(&key).unwrap()), "-", "{text}");
        assert!(!store.erase(&key).unwrap(), "{text}");
        store.store(&key, "u", &Secret::new(SECRET)).unwrap();
        store.erase_all().unwrap();
        assert!(!desk.path("kept").exists(), "{text}");
        // Which helper has what is no secret.
        assert!(desk.text("auth.json").contains("keep"), "{text}");
    }
}

#[test]
fn helpers_of_registries_conf_keep_what_they_take() {
    let desk = Desk::new();
    let mut store = desk.store("auth.json", KeyStyle::Containers);
    store.helpers = vec!["keep".into(), AUTH_FILES.into()];
    let place = store.store(&key("a.example"), "u", &Secret::new("p")).unwrap();
    assert_eq!(place, Place::Helper { name: "keep".into(), file: None });
    assert!(!desk.path("auth.json").exists());
    // A namespace is for files only; a helper that fails leaves it to the next.
    assert!(matches!(store.store(&key("a.example/ns"), "u", &Secret::new("p")).unwrap(), Place::File { .. }));
    assert!(store.erase(&key("a.example")).unwrap());
    store.store(&key("a.example"), "u", &Secret::new("p")).unwrap();
    store.erase_all().unwrap();
    assert!(desk.told().ends_with("list unused\nerase keyring.example\n"), "{}", desk.told());
    store.helpers = vec!["echo".into()];
    let error = store.store(&key("a.example"), "u", &Secret::new(SECRET)).unwrap_err();
    assert!(error.to_string().contains("credential helper `echo`") && !shown(&error).contains(SECRET), "{error}");
}

#[test]
fn concurrent_writers_lose_nothing() {
    let desk = Desk::new();
    desk.file("auth.json", OTHERS);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = desk.store("auth.json", KeyStyle::Containers);
            scope.spawn(move || {
                for n in 0..10 {
                    store.store(&key(&format!("w{writer}n{n}.example")), "u", &Secret::new("p")).unwrap();
                    if n % 2 == 1 {
                        assert!(store.erase(&key(&format!("w{writer}n{n}.example"))).unwrap());
                    }
                }
            });
        }
    });
    let text = desk.text("auth.json");
    let files = desk.files(&[("auth.json", Format::Current)], &[AUTH_FILES]);
    for writer in 0..8 {
        for n in 0..10 {
            let found = files.find(&key(&format!("w{writer}n{n}.example"))).unwrap();
            assert_eq!(short(&found), if n % 2 == 0 { "u:p" } else { "-" }, "{writer} {n}: {text}");
        }
    }
    assert!(text.contains("\"z.example\"") && text.contains("\"zzz\""), "{text}");
    let left: Vec<_> = fs::read_dir(desk.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}
