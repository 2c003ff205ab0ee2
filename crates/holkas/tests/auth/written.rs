//! What login and logout write, and leave as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holkas::registry::auth::{AUTH_FILES, AuthKey, Credentials, Format, KeyStyle, Place, Secret, login};
use holkas::{Error, ErrorKind};

use super::kit::{Desk, key, shown};
use super::{SECRET, short};

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
