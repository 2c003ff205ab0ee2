//! What `sync` makes of names, of its YAML file and of constraints on versions.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use holkas::error::{Error, ErrorKind, Result};
use holkas::limits::YAML_DEPTH;
use holkas::reference::Name;
use holkas::sync::constraint::{Constraint, Version};
use holkas::sync::plan::{Destination, Naming, OnError, Plan, Source, plan};
use holkas::sync::yaml::{self, Wanted};

fn name(text: &str) -> Name {
    Name::parse_normalised(text).unwrap()
}

fn hex(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Lists the same tags of every repository.
fn listing(tags: &[&str]) -> impl Fn(usize, &Name) -> Result<Vec<String>> {
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    move |_, _| Ok(tags.clone())
}

fn naming(scoped: bool, suffix: &str) -> Naming {
    Naming { scoped, suffix: suffix.to_string() }
}

fn docker(text: &str) -> Destination {
    Destination::Docker(text.to_string())
}

fn pairs(plan: &Plan) -> Vec<(String, String)> {
    plan.images.iter().map(|image| (image.source.to_string(), image.destination.to_string())).collect()
}

fn destinations(plan: &Plan) -> Vec<String> {
    plan.images.iter().map(|image| image.destination.to_string()).collect()
}

#[test]
fn constraints_are_those_of_masterminds() {
    // The first versions suit, the others do not.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("1.2.3", &["1.2.3", "v1.2.3", "1.2.3+build"], &["1.2.4", "1.2.3-rc1"]),
        ("=1.2", &["1.2.0", "1.2.9"], &["1.3.0", "2.2.0"]),
        ("=2", &["2", "2.9.9"], &["1.9.9", "3.0.0"]),
        ("!=1.2.3", &["1.2.4", "1.2.3-rc1"], &["1.2.3"]),
        ("!=1.2", &["1.3.0", "2.2.0"], &["1.2.0", "1.2.9", "1.3.0-rc1"]),
        ("!=1", &["2.0.0"], &["1.2.0"]),
        (">1.2.3", &["1.2.4", "2.0.0"], &["1.2.3", "1.2.4-rc1"]),
        (">11", &["12.0.0"], &["11.1.0", "10.0.0"]),
        (">11.1", &["11.2.0", "12.0.0"], &["11.1.9"]),
        (">=1.2", &["1.2.0", "1.10.0"], &["1.1.9", "1.2.0-rc1"]),
        ("=> 1.2", &["1.2.0"], &["1.1.9"]),
        ("<2", &["1.99.0"], &["2.0.0", "2.0.0-rc1", "1.5.0-rc1"]),
        ("<=2", &["2.0.0", "2.9.0", "1.0.0"], &["3.0.0"]),
        ("<=2.3", &["2.3.9", "2.2.0", "1.9.0"], &["2.4.0", "3.0.0"]),
        ("=<2.3.1", &["2.3.1"], &["2.3.2"]),
        ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]),
        ("~1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.1.9"]),
        ("~>1", &["1.0.0", "1.9.0"], &["2.0.0", "0.9.0"]),
        ("~0.0.0", &["0.0.0", "5.0.0"], &["0.0.0-rc1"]),
        ("^1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]),
        ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2", "1.2.3"]),
        ("^0.0.3", &["0.0.3"], &["0.0.4", "0.1.3", "1.0.3"]),
        ("^0.0", &["0.0.0", "0.0.9"], &["0.1.0", "1.0.0"]),
        ("^0", &["0.0.1", "0.9.0"], &["1.0.0"]),
        ("^2.x", &["2.0.0", "2.9.0"], &["1.0.0", "3.0.0"]),
        ("^*", &["0.0.0", "3.1.4"], &["1.0.0-rc1"]),
        ("*", &["0.0.0", "3.1.4"], &["1.0.0-rc1"]),
        ("1.X", &["1.0.0", "1.9.0"], &["2.0.0"]),
        ("1.2.*", &["1.2.0", "1.2.9"], &["1.3.0"]),
        (">=1.2, <2", &["1.2.0", "1.9.9"], &["1.1.0", "2.0.0"]),
        (">=1.2 <2", &["1.2.0", "1.9.9"], &["1.1.0", "2.0.0"]),
        (">= 1.2 ,<2 , != 1.5.0", &["1.4.0"], &["1.5.0"]),
        ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.1.9", "1.4.6"]),
        ("1.2 - 1.4, !=1.3.0", &["1.2.0", "1.4.9"], &["1.3.0", "1.5.0"]),
        ("<1 || >=2, <3 || 5.x", &["0.9.0", "2.5.0", "5.1.0"], &["1.0.0", "3.0.0", "4.0.0"]),
        // Who names a pre-release wants them; for all terms of the group.
        (">=1.2.3-0", &["1.2.3-alpha", "1.2.3", "2.0.0-rc.1"], &["1.2.2"]),
        (">=1.2-0 <2", &["1.5.0-rc1", "1.2.0"], &["2.0.0"]),
        (">=1.2-0 || <1", &["1.5.0-rc1", "0.5.0"], &["0.5.0-rc1"]),
        (">1.0.0-beta.2", &["1.0.0-beta.11", "1.0.0-rc", "1.0.0"], &["1.0.0-beta.2", "1.0.0-alpha.9", "1.0.0-beta.1"]),
    ];
    for (text, suit, others) in cases {
        let constraint: Constraint = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        for (versions, expected) in [(suit, true), (others, false)] {
            for tag in *versions {
                let version = Version::of_tag(tag).unwrap_or_else(|| panic!("{tag}"));
                assert_eq!(constraint.accepts(&version), expected, "{text}: {tag}");
            }
        }
    }
    for text in
        ["", " ", "||", "1 ||", "latest", ">", ">>1", "1.2.3.4", ">=1<2", "1,,2", "1.2.3-", "1-01", "~ ~1", "1x"]
    {
        let error = text.parse::<Constraint>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    }
}

#[test]
fn tags_that_are_no_versions_suit_no_constraint() {
    for tag in ["latest", "", "v", "1.x", "1.2.3.4", "1.2.3-01", "1.2.3-", "vv1", "1..2", "99999999999999999999", "1_2"]
    {
        assert_eq!(Version::of_tag(tag), None, "{tag}");
    }
    let sorted =
        ["1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-a", "1.0.0-a.1", "1.0.0-b", "1.0.0", "1.0.1", "1.10.0", "v2"];
    let versions: Vec<_> = sorted.iter().map(|tag| Version::of_tag(tag).unwrap()).collect();
    assert!(versions.is_sorted());
    assert_eq!(Version::of_tag("v1"), Version::of_tag("1.0.0+x"));
}

#[test]
fn a_file_says_what_is_wanted() {
    let digest = hex('a');
    let text = format!(
        "# comment\nregistry.example.org:\n  images:\n    app: [1.0, 1.10, \"sha256:{digest}\"]\n    team/base: []\n    \
         tool:\n  images-by-tag-regex:\n    app: ^v2\\.\n  images-by-semver:\n    lib: '>=1.2, <2'\n  \
         credentials: &who\n    username: reader\n    password: '123'\n  tls-verify: no\n  cert-dir: /certs\n\
         localhost:5000/deep:\n  images: {{ x: [latest] }}\n  credentials: *who\nempty.example.org:\n"
    );
    let registries = yaml::parse(text.as_bytes(), Path::new("f.yaml")).unwrap();
    let [first, second, third] = &registries[..] else { panic!("{registries:?}") };
    assert_eq!((first.tls_verify, first.cert_dir.as_deref()), (Some(false), Some(Path::new("/certs"))));
    assert_eq!(
        first.credentials.as_ref().map(|who| (who.username.as_str(), who.password.expose())),
        Some(("reader", "123"))
    );
    assert_eq!(second.credentials.as_ref().map(|who| who.username.as_str()), Some("reader"));
    assert!(third.repositories.is_empty() && third.credentials.is_none() && third.tls_verify.is_none());
    let names: Vec<_> = first.repositories.iter().map(|repository| repository.name.repository()).collect();
    let host = "registry.example.org/";
    assert_eq!(names, ["app", "team/base", "tool", "app", "lib"].map(|path| format!("{host}{path}")));
    match &first.repositories[0].wanted {
        // A tag stays as it was written, though YAML has numbers.
        Wanted::These(names) => assert_eq!(
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("{host}app:1.0"), format!("{host}app:1.10"), format!("{host}app@sha256:{digest}")]
        ),
        other => panic!("{other:?}"),
    }
    let accepted = |n: usize| match &first.repositories[n].wanted {
        Wanted::Tags(filter) => ["1.2", "1.9.1", "2.0.0", "v2.1", "xv2.1"].map(|tag| filter.accepts(tag)),
        other => panic!("{other:?}"),
    };
    assert_eq!(accepted(1), [true; 5]);
    assert_eq!(accepted(2), [true; 5]);
    assert_eq!(accepted(3), [false, false, false, true, false]);
    assert_eq!(accepted(4), [true, true, false, false, false]);
    assert_eq!(second.repositories[0].name.repository(), "localhost:5000/deep/x");
    assert!(yaml::parse(b"", Path::new("f.yaml")).unwrap().is_empty());
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line_and_key() {
    let deep = format!("x: {}{}", "[".repeat(YAML_DEPTH + 2), "]".repeat(YAML_DEPTH + 2));
    // The text, the line, and what is said of it.
    let cases: &[(&str, usize, &[&str])] = &[
        ("- a", 1, &["the file", "must be a map"]),
        ("r.org:\n  image:\n    x: []\n", 3, &["`r.org → image`", "unknown"]),
        ("r.org:\n  images:\n    x: latest\n", 3, &["`r.org → images → x`", "a list of tags"]),
        ("r.org:\n  images:\n    x:\n    - ok\n    - no/tag\n", 5, &["`r.org → images → x`", "`no/tag` is neither"]),
        ("r.org:\n  images:\n    x: ['a@sha256:1']\n", 3, &["neither a tag nor a digest"]),
        ("r.org:\n  images:\n    x: [~]\n", 3, &["it is empty"]),
        ("r.org:\n  images:\n    x: [[a]]\n", 3, &["must be a text"]),
        ("r.org:\n  images:\n    x: [a]\n    x: [b]\n", 4, &["`r.org → images → x`", "twice"]),
        ("r.org:\n  images:\n    X: []\n", 3, &["lower case"]),
        ("r.org:\n  images:\n    'x:1': []\n", 3, &["names an image"]),
        ("r.org:\n  images:\n    ? [a]\n    : []\n", 3, &["a key must be one word"]),
        ("r.org:\n  images-by-tag-regex:\n    x: '('\n", 3, &["`r.org → images-by-tag-regex → x`"]),
        (
            "r.org:\n  images-by-semver:\n    x: '>>1'\n",
            3,
            &["`r.org → images-by-semver → x`", "`>>1` is not a constraint"],
        ),
        ("r.org:\n  tls-verify: maybe\n", 2, &["`r.org → tls-verify`", "true or false"]),
        ("r.org:\n  tls-verify: 'false'\n", 2, &["true or false"]),
        ("r.org:\n  credentials:\n    username: u\n", 3, &["`r.org → credentials`", "both"]),
        ("r.org:\n  credentials:\n    user: u\n", 3, &["`r.org → credentials → user`", "unknown"]),
        ("r.org:\n  cert-dir: [x]\n", 2, &["must be a text"]),
        ("r.org: {images: {x: [1\n", 2, &["reading the file"]),
        ("a: *b\n", 1, &["reading the file"]),
        ("a: &a [*a]\n", 1, &["alias"]),
        ("a:\n---\nb:\n", 2, &["second document"]),
        (&deep, 1, &["nested more than"]),
        ("r.org:\n\tx: y\n", 2, &["reading the file"]),
    ];
    for (text, line, said) in cases {
        let error = yaml::parse(text.as_bytes(), Path::new("dir/f.yaml")).expect_err(text);
        let shown = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {shown}");
        assert!(shown.starts_with(&format!("dir/f.yaml:{line}: reading ")), "{text}: {shown}");
        for said in *said {
            assert!(shown.contains(said), "{text}: {shown}: {said}");
        }
    }
    let error = yaml::parse(b"a: b\n\xff", Path::new("f.yaml")).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "f.yaml:2: reading the file: it is not UTF-8");
    // A password that is wrong in form is not told.
    let error =
        yaml::parse(b"r.org: {credentials: {username: u, password: [s3cret]}}", Path::new("f")).expect_err("list");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn aliases_do_not_make_much_out_of_little() {
    let tags = vec!["t"; 1000].join(", ");
    let mut text = format!("a: {{images: {{x0: &tags [{tags}]");
    for n in 1..2000 {
        text += &format!(", x{n}: *tags");
    }
    text += "}}\n";
    let error = yaml::parse(text.as_bytes(), Path::new("f.yaml")).expect_err("two million images");
    assert!(error.to_string().contains("there are more than"), "{error}");
}

#[test]
fn images_are_named_by_the_last_part_or_by_all_of_it() {
    let digest = hex('b');
    let by_digest = format!("quay.io/team/app@sha256:{digest}");
    let to_dir = Destination::Dir(PathBuf::from("/out"));
    // Source, destination, naming, expected name.
    let cases = [
        ("quay.io/team/app:1", &to_dir, naming(false, ""), "dir:/out/app:1".to_string()),
        ("quay.io/team/app:1", &to_dir, naming(true, ""), "dir:/out/quay.io/team/app:1".to_string()),
        ("quay.io/team/app:1", &to_dir, naming(false, "-new"), "dir:/out/app:1-new".to_string()),
        (&by_digest, &to_dir, naming(false, ""), format!("dir:/out/app@sha256:{digest}")),
        ("alpine:3", &to_dir, naming(true, ""), "dir:/out/docker.io/library/alpine:3".to_string()),
        ("quay.io/team/app:1", &docker("r.org"), naming(false, ""), "docker://r.org/app:1".to_string()),
        ("quay.io/team/app:1", &docker("r.org/x/"), naming(false, "-s"), "docker://r.org/x/app:1-s".to_string()),
        (
            "quay.io/team/app:1",
            &docker("r.org:5000"),
            naming(true, ""),
            "docker://r.org:5000/quay.io/team/app:1".to_string(),
        ),
        (&by_digest, &docker("r.org/x"), naming(false, ""), format!("docker://r.org/x/app@sha256:{digest}")),
    ];
    for (source, to, naming, expected) in cases {
        let made = plan(&Source::Docker(name(source)), to, &naming, &listing(&[]), OnError::Stop).unwrap();
        assert_eq!(
            pairs(&made),
            [(format!("docker://{source}").replace("//alpine", "//docker.io/library/alpine"), expected)]
        );
    }
    // A digest is no place for a suffix at a registry.
    let error =
        plan(&Source::Docker(name(&by_digest)), &docker("r.org"), &naming(false, "-s"), &listing(&[]), OnError::Stop);
    assert!(error.expect_err("no such digest").to_string().starts_with("naming docker://quay.io/team/app@sha256:"));
}

#[test]
fn a_repository_is_all_its_tags() {
    let source = Source::Docker(name("r.org/app"));
    let tags = listing(&["1", "2", "x:y", "a@sha256:b", "-", "latest"]);
    let made = plan(&source, &docker("s.org"), &Naming::default(), &tags, OnError::Stop).unwrap();
    assert_eq!(destinations(&made), ["docker://s.org/app:1", "docker://s.org/app:2", "docker://s.org/app:latest"]);
    assert_eq!(made.images.iter().map(|image| (image.number, image.of)).collect::<Vec<_>>(), [(1, 3), (2, 3), (3, 3)]);
    assert_eq!((made.sources, made.warnings.len()), (1, 3), "{:?}", made.warnings);
    let error = plan(&source, &docker("s.org"), &Naming::default(), &listing(&[]), OnError::Stop).expect_err("no tags");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "No images to sync found in \"r.org/app\"")
    );
}

fn registries(text: &str) -> Source {
    Source::Yaml(yaml::parse(text.as_bytes(), Path::new("f.yaml")).unwrap())
}

#[test]
fn a_file_makes_a_plan() {
    let source = registries(
        "a.org:\n  images:\n    app: [1, 2, 1]\n    none: []\n  images-by-semver:\n    lib: ^1\n\
         b.org:\n  images-by-tag-regex: {tool: '^v'}\nc.org:\n",
    );
    let asked = RefCell::new(Vec::new());
    let tags = |registry: usize, name: &Name| {
        asked.borrow_mut().push((registry, name.to_string()));
        let tags: &[&str] = if name.repository().ends_with("none") { &[] } else { &["1.0", "1.5", "2.0", "v1"] };
        Ok(tags.iter().map(ToString::to_string).collect())
    };
    let made = plan(&source, &docker("d.org"), &Naming::default(), &tags, OnError::Stop).unwrap();
    let expected =
        ["app:1", "app:2", "lib:1.0", "lib:1.5", "lib:v1", "tool:v1"].map(|name| format!("docker://d.org/{name}"));
    assert_eq!(destinations(&made), expected);
    assert_eq!(made.images.iter().map(|image| image.registry).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1]);
    assert_eq!(made.sources, 3);
    assert_eq!(made.warnings, ["No refs to sync found in a.org/none", "No images specified for registry c.org"]);
    let repositories = [(0, "a.org/none"), (0, "a.org/lib"), (1, "b.org/tool")].map(|(n, name)| (n, name.to_string()));
    assert_eq!(asked.into_inner(), repositories);
}

#[test]
fn two_images_cannot_have_one_name() {
    let source = registries("a.org:\n  images: {x/app: [1], y/app: [1]}\n");
    let error =
        plan(&source, &docker("d.org"), &Naming::default(), &listing(&[]), OnError::KeepGoing).expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error
            .to_string()
            .ends_with("docker://a.org/x/app:1 and docker://a.org/y/app:1 would both become docker://d.org/app:1")
    );
    let made = plan(&source, &docker("d.org"), &naming(true, ""), &listing(&[]), OnError::Stop).unwrap();
    assert_eq!(destinations(&made), ["docker://d.org/a.org/x/app:1", "docker://d.org/a.org/y/app:1"]);
}

#[test]
fn a_repository_that_cannot_be_listed_stops_the_plan_or_is_told() {
    let source = registries("a.org:\n  images: {gone: [], app: [1]}\n");
    let tags = |_: usize, _: &Name| Err(Error::not_found("no such repository"));
    let error = plan(&source, &docker("d.org"), &Naming::default(), &tags, OnError::Stop).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let made = plan(&source, &docker("d.org"), &Naming::default(), &tags, OnError::KeepGoing).unwrap();
    assert_eq!(destinations(&made), ["docker://d.org/app:1"]);
    let unlisted: Vec<_> = made.unlisted.iter().map(|(source, error)| format!("{source}: {error}")).collect();
    assert_eq!(unlisted, ["docker://a.org/gone: no such repository"]);
}

#[test]
fn directories_are_images_and_what_is_above_them() {
    let base = tempfile::tempdir().unwrap();
    let image = |below: &str| {
        let dir = base.path().join(below);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("manifest.json"), "{}").unwrap();
    };
    for below in ["quay.io/team/app:1", "quay.io/team/app:2", "b", ".unverified-1/image"] {
        image(below);
    }
    fs::create_dir_all(base.path().join("quay.io/empty")).unwrap();
    fs::write(base.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink(base.path().join("b"), base.path().join("link")).unwrap();
    let source = |path: &Path| Source::Dir(path.to_path_buf());
    let tags = listing(&[]);
    let made = plan(&source(base.path()), &docker("d.org"), &Naming::default(), &tags, OnError::Stop).unwrap();
    assert_eq!(destinations(&made), ["docker://d.org/b:latest", "docker://d.org/app:1", "docker://d.org/app:2"]);
    let made = plan(&source(base.path()), &docker("d.org/x"), &naming(true, "-s"), &tags, OnError::Stop).unwrap();
    let expected =
        ["b-s:latest", "quay.io/team/app:1-s", "quay.io/team/app:2-s"].map(|name| format!("docker://d.org/x/{name}"));
    assert_eq!(destinations(&made), expected);
    assert_eq!(made.images[0].source.to_string(), format!("dir:{}", base.path().join("b").display()));
    // The directory is an image itself.
    for (path, scoped) in [("quay.io/team/app:1", false), ("quay.io/team/app:1/.", true), ("quay.io/team/app:1", true)]
    {
        let made = plan(&source(&base.path().join(path)), &docker("d.org"), &naming(scoped, ""), &tags, OnError::Stop);
        assert_eq!(destinations(&made.unwrap()), ["docker://d.org/app:1"]);
    }
    let error =
        plan(&source(&base.path().join("quay.io/empty")), &docker("d.org"), &Naming::default(), &tags, OnError::Stop);
    assert!(error.expect_err("no images").to_string().starts_with("No images to sync found in"));
    let to_dir = Destination::Dir(PathBuf::from("/out"));
    let error = plan(&source(base.path()), &to_dir, &Naming::default(), &tags, OnError::Stop).expect_err("dir to dir");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
