//! `holkas cache`: lists, verifies and prunes what is there, wherever the environment says that is.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use common::{finish, holkas, run};
use holkas_testkit::image::sha256_hex;
use tempfile::TempDir;

/// Puts a blob into a cache as it is documented, last used so many seconds after 1970.
fn put(cache: &Path, bytes: &[u8], used: u64) -> (String, PathBuf) {
    let digest = sha256_hex(bytes);
    let path = cache.join("blobs/sha256").join(&digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::open(&path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(used)).unwrap();
    (format!("sha256:{digest}"), path)
}

#[test]
fn it_is_listed_verified_and_pruned() {
    let dir = TempDir::new().unwrap();
    let cache = dir.path().to_str().unwrap();
    let (new, new_path) = put(dir.path(), b"new", 86_400);
    let (old, old_path) = put(dir.path(), b"old one", 0);
    std::fs::create_dir(dir.path().join("partial")).unwrap();
    let partial = dir.path().join("partial").join(new.replace(':', "-"));
    std::fs::write(&partial, "n").unwrap();
    std::fs::File::open(&partial).unwrap().set_modified(UNIX_EPOCH).unwrap();

    let listed = run(&["cache", "list", "--cache", cache]);
    assert_eq!((listed.code, listed.err.as_str()), (0, ""));
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(lines[1], format!("{old}  7      1970-01-01T00:00:00Z  whole"));
    assert_eq!(lines[2], format!("{new}  3      1970-01-02T00:00:00Z  whole"));
    assert_eq!(lines[3], format!("{}  1      1970-01-01T00:00:00Z  partial", new.replace(':', "-")));

    let json = run(&["cache", "list", "--json", "--cache", cache]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["bytes"].as_u64(), json["blobs"][0]["digest"].as_str()), (Some(11), Some(&*old)));
    assert_eq!(json["partials"][0]["being_written"], false);

    let good = run(&["cache", "verify", "--cache", cache]);
    assert_eq!((good.code, good.out.as_str(), good.err.as_str()), (0, "", ""));
    std::fs::write(&new_path, "now").unwrap();
    let bad = run(&["cache", "verify", "--cache", cache, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&bad.out).unwrap();
    assert_eq!((bad.code, &json["damaged"][0]["digest"], &json["verified"]), (1, &new.into(), &2.into()));
    assert!(bad.err.contains(r#""kind":"mismatch""#), "{}", bad.err);
    assert!(!new_path.exists() && old_path.exists());

    assert_eq!(run(&["cache", "prune", "--cache", cache]).code, 1, "what to prune must be said");
    assert_eq!(run(&["cache", "prune", "--cache", cache, "--older-than", "soon"]).code, 1);
    let none = run(&["cache", "prune", "--cache", cache, "--max-size", "1K"]);
    assert_eq!((none.code, none.out.lines().count()), (0, 1), "{}", none.out);
    let (_, fresh) = put(dir.path(), b"fresh", 32_503_680_000);
    let pruned = run(&["cache", "prune", "--cache", cache, "--older-than", "30d", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&pruned.out).unwrap();
    assert_eq!((&json["removed"][0]["digest"], &json["bytes"]), (&old.into(), &7.into()));
    assert!(fresh.exists() && partial.exists() && !old_path.exists());
    assert_eq!(run(&["cache", "prune", "--cache", cache, "--partials"]).code, 0);
    assert!(fresh.exists() && !partial.exists());
    assert_eq!(run(&["cache", "prune", "--cache", cache, "--all"]).code, 0);
    assert!(!fresh.exists());
}

#[test]
fn the_environment_says_where_it_is_and_looking_makes_nothing() {
    let dir = TempDir::new().unwrap();
    let (xdg, home) = (dir.path().join("xdg"), dir.path().join("home"));
    let place = |set: &dyn Fn(&mut std::process::Command) -> &mut std::process::Command| {
        let mut command = holkas();
        let output = finish(set(command.env_remove("XDG_CACHE_HOME").args(["cache", "list", "--json"])));
        assert_eq!((output.code, output.err.as_str()), (0, ""));
        let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
        PathBuf::from(json["cache"].as_str().unwrap())
    };
    assert_eq!(place(&|c| c.env("XDG_CACHE_HOME", &xdg).env("HOME", &home)), xdg.join("holkas"));
    assert_eq!(place(&|c| c.env("XDG_CACHE_HOME", "relative").env("HOME", &home)), home.join(".cache/holkas"));
    assert_eq!(place(&|c| c.env("XDG_CACHE_HOME", "").env("HOME", &home)), home.join(".cache/holkas"));
    assert_eq!(place(&|c| c.env_remove("HOME")), Path::new("/var/cache/holkas"));
    assert_eq!(place(&|c| c.env("HOME", &home).args(["--cache", "x"])), Path::new("x"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
