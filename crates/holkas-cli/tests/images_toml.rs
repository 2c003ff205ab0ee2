//! `images.toml`: what is read, and what every mistake is told as.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::{Path, PathBuf};

use holkas::embed::file::{ImagesFile, parse};
use holkas::reference::Driver;

fn read(text: &str) -> holkas::Result<ImagesFile> {
    parse(text.as_bytes(), Path::new("/lists/images.toml"))
}

#[test]
fn a_whole_file_is_read() {
    let file = read(
        "[store]\npath = \"/usr//share/./containers/storage/\"\ndriver = \"vfs\"\n\n[[image]]\nsource = \"oci:images/app:1.4\"\n\
         name = \"app\"\n[[image]]\nsource = \"dir:/abs/x:y\"\nname = [\"q.example/a:1\", \"q.example/a:2\"]\n\
         manifest-list = [\"lists/a.json\", \"/b.json\"]\nplatform = [\"linux/arm64\", \"linux/arm/v7\"]\n\
         [[image]]\nsource = \"containers-storage:[vfs@/store]app\"\nname = \"other\"\nplatform = \"linux/s390x\"\n\
         [[image]]\nsource = \"docker-archive:a.tar:app\"\nname = \"archived\"\nmanifest-list = \"l\"\n",
    )
    .expect("valid");
    assert_eq!(file.store, Path::new("/usr/share/containers/storage"));
    assert_eq!(file.driver, Driver::Vfs);
    let sources: Vec<_> = file.images.iter().map(|image| image.source.to_string()).collect();
    assert_eq!(
        sources,
        [
            "oci:/lists/images/app:1.4",
            "dir:/abs/x:y",
            "containers-storage:[vfs@/store]docker.io/library/app:latest",
            "docker-archive:/lists/a.tar:docker.io/library/app:latest",
        ]
    );
    let names: Vec<Vec<_>> =
        file.images.iter().map(|image| image.names.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(names[0], ["docker.io/library/app:latest"]);
    assert_eq!(names[1], ["q.example/a:1", "q.example/a:2"]);
    assert_eq!(file.images[1].manifest_lists, [PathBuf::from("/lists/lists/a.json"), PathBuf::from("/b.json")]);
    assert_eq!(file.images[3].manifest_lists, [PathBuf::from("/lists/l")]);
    let platforms: Vec<_> = file.images[1].platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/arm/v7"]);
    assert!(file.images[0].platforms.is_empty());
}

#[test]
fn the_store_has_defaults() {
    let file = read("image = []").expect("valid");
    assert_eq!((file.store.as_path(), file.driver), (Path::new("/var/lib/containers/storage"), Driver::Overlay));
    let file = read("image = []\n[store]\n").expect("valid");
    assert_eq!((file.store.as_path(), file.driver), (Path::new("/var/lib/containers/storage"), Driver::Overlay));
}

#[test]
fn the_excerpt_points_at_the_place() {
    let error = read("image = []\n[store]\n\tdriver = \"zfsx\" # no\n").expect_err("unknown driver");
    assert_eq!(
        error.chain().collect::<Vec<_>>(),
        [
            "/lists/images.toml:3:11: reading `driver` of [store]",
            "unknown storage driver `zfsx`\n  |\n3 |  driver = \"zfsx\" # no\n  |           ^^^^^^",
        ]
    );
    assert_eq!(error.hint_text(), Some("the drivers are overlay and vfs"));
}

#[test]
fn every_mistake_is_told_with_line_column_and_key() {
    const IMAGE: &str = "[[image]]\nsource = \"dir:a\"\nname = \"a\"\n";
    let check = |text: &str, place: &str, cause: &str| {
        let error = read(text).expect_err(text);
        let chain: Vec<_> = error.chain().collect();
        assert_eq!(chain[0], format!("/lists/images.toml:{place}"), "{text}");
        assert!(chain[1].lines().next().expect("a line").contains(cause), "{text}: {}", chain[1]);
        assert!(chain[1].contains('^'), "{text}: {}", chain[1]);
        assert_eq!(error.kind().name(), "invalid", "{text}");
    };
    check("", "1:1: reading the file", "the key `image` is missing");
    check("x = ", "1:5: reading the file", "");
    check("image = []\nimage = []", "2:1: reading the file", "duplicate key");
    check("image = 1", "1:9: reading `image`", "expected [[image]] tables, found an integer");
    check("image = [1]", "1:10: reading [[image]] 1", "expected a table, found an integer");
    check("images = []", "1:1: reading `images`", "unknown key; the keys here are `store`, `image`");
    check(&format!("{IMAGE}nmae = 1"), "4:1: reading `nmae` of [[image]] 1", "unknown key");
    check("[store]\npaht = 1", "2:1: reading `paht` of [store]", "unknown key; the keys here are `path`, `driver`");
    check("store = 1\nimage = []", "1:9: reading `store`", "expected a table, found an integer");
    check("[store]\npath = 1", "2:8: reading `path` of [store]", "expected a string, found an integer");
    check("[store]\npath = \"a\"", "2:8: reading `path` of [store]", "`a` is not an absolute path");
    check("[store]\npath = \"/a/../b\"", "2:8: reading `path` of [store]", "has a `..`");
    check("[store]\npath = \"//.\"", "2:8: reading `path` of [store]", "is the root itself");
    check("[store]\npath = \"\"", "2:8: reading `path` of [store]", "the string is empty");
    check("[store]\npath = \"/a\\u0000\"", "2:8: reading `path` of [store]", "NUL");
    check("[[image]]\nname = \"a\"", "1:1: reading [[image]] 1", "the key `source` is missing");
    check("[[image]]\nsource = \"dir:a\"", "1:1: reading [[image]] 1", "the key `name` is missing");
    check("[[image]]\nsource = 1", "2:10: reading `source` of [[image]] 1", "expected a string, found an integer");
    check("[[image]]\nsource = \"nope:x\"", "2:10: reading `source` of [[image]] 1", "unknown transport `nope`");
    let with = |rest: &str| format!("[[image]]\nsource = \"dir:a\"\n{rest}");
    check(
        &with("name = true"),
        "3:8: reading `name` of [[image]] 1",
        "expected a string or a list of strings, found a boolean",
    );
    check(&with("name = []"), "3:8: reading `name` of [[image]] 1", "the list is empty");
    check(&with("name = [\"a\", 1]"), "3:14: reading `name` of [[image]] 1", "expected a string, found an integer");
    check(&with("name = \"A\""), "3:8: reading `name` of [[image]] 1", "lower case");
    let digest = "0".repeat(64);
    check(
        &with(&format!("name = \"a@sha256:{digest}\"")),
        "3:8: reading `name` of [[image]] 1",
        "must not have a digest",
    );
    check(&format!("{IMAGE}platform = \"arm64\""), "4:12: reading `platform` of [[image]] 1", "is not a platform");
    check(
        &format!("{IMAGE}platform = [\"linux/arm64\", \"linux/arm64\"]"),
        "4:28: reading `platform` of [[image]] 1",
        "the platform linux/arm64 is given twice",
    );
    check(&format!("{IMAGE}manifest-list = {{}}"), "4:17: reading `manifest-list` of [[image]] 1", "found a table");
    check(
        &format!("{IMAGE}{}", IMAGE.replace("\"a\"", "[\"b\", \"docker.io/library/a:latest\"]")),
        "6:14: reading `name` of [[image]] 2",
        "the name docker.io/library/a:latest is given twice, on line 3 and on line 6",
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let error = parse(b"a = 1\nb = \"\xff\"", Path::new("x.toml")).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "x.toml:2: reading the file: it is not UTF-8");
}
