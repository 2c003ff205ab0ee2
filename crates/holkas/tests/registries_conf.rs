//! registries.conf: which places a name leads to, what is refused, and that skopeo asks the same hosts.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::net::TcpListener;
use std::path::Path;

use holkas::ErrorKind;
use holkas::reference::Name;
use holkas::registry::conf::{
    AUTH_FILE_HELPER, ConfFile, EndpointKind, Purpose, RegistriesConf, ShortNameMode, Skipped,
};
use holkas_testkit::peers::Peer;

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn file(path: &str, text: &str) -> ConfFile {
    ConfFile { path: path.into(), bytes: text.as_bytes().to_vec() }
}

fn conf(main: &str, drop_ins: &[&str]) -> holkas::Result<RegistriesConf> {
    let drop_ins: Vec<_> = drop_ins.iter().enumerate().map(|(n, text)| file(&format!("/d/{n}.conf"), text)).collect();
    RegistriesConf::parse(Some(&file("/registries.conf", main)), &drop_ins)
}

fn name(text: &str) -> Name {
    Name::parse_normalised(text).expect(text).with_default_tag()
}

/// Returns the places in their order, mirrors with `~` before them and insecure ones with `!` behind; or the error.
fn places(conf: &RegistriesConf, text: &str, purpose: Purpose) -> String {
    match conf.endpoints(&name(text), purpose) {
        Err(error) => format!("{}: {error}", error.kind().name()),
        Ok(endpoints) => {
            let shown = endpoints.iter().map(|endpoint| {
                let kind = if endpoint.kind == EndpointKind::Mirror { "~" } else { "" };
                format!("{kind}{}{}", endpoint.name, if endpoint.insecure { "!" } else { "" })
            });
            shown.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Checks what each name leads to when it is pulled.
#[track_caller]
fn check(main: &str, cases: &[(&str, &str)]) {
    let conf = conf(main, &[]).expect(main);
    for (name, expected) in cases {
        assert_eq!(places(&conf, name, Purpose::Pull), *expected, "{name} by\n{main}");
    }
}

#[test]
fn without_configuration_a_name_is_its_own_place() {
    let conf = RegistriesConf::parse(None, &[]).unwrap();
    assert_eq!(conf, RegistriesConf::default());
    for purpose in [Purpose::Pull, Purpose::Push, Purpose::List] {
        assert_eq!(places(&conf, "alpine", purpose), "docker.io/library/alpine:latest");
        assert_eq!(places(&conf, "localhost:5000/a/b:1", purpose), "localhost:5000/a/b:1");
    }
    let hub = &conf.endpoints(&name("alpine"), Purpose::Pull).unwrap()[0];
    assert_eq!((hub.authority(), hub.host(), hub.path()), ("registry-1.docker.io", "docker.io", "library/alpine"));
    assert!(hub.matched.is_none());
    let other = &conf.endpoints(&name("quay.io:1/a/b"), Purpose::Push).unwrap()[0];
    assert_eq!((other.authority(), other.host(), other.path()), ("quay.io:1", "quay.io:1", "a/b"));
}

/// The cases of containers/image's own tests, and more.
#[test]
fn prefixes_are_rewritten() {
    let digested = |text: &str| format!("{text}{DIGEST}");
    for (prefix, location, name, expected) in [
        ("example.com", "example.com", "example.com/image:1".to_string(), "example.com/image:1".to_string()),
        ("example.com:5000", "example.com:5000", "example.com:5000/image:1".into(), "example.com:5000/image:1".into()),
        ("example.com", "example.com", digested("example.com/foo"), digested("example.com/foo")),
        ("example.com/foo", "example.com", "example.com/foo/image:1".into(), "example.com/image:1".into()),
        ("example.com/foo", "internal:5000/bar", "example.com/foo/x".into(), "internal:5000/bar/x:latest".into()),
        ("example.com/foo/x", "internal:5000/bar", "example.com/foo/x:2".into(), "internal:5000/bar:2".into()),
        ("example.com/foo/x", "internal:5000/bar", digested("example.com/foo/x"), digested("internal:5000/bar")),
        ("example.com/foo/", "internal:5000/bar//", "example.com/foo/x:1".into(), "internal:5000/bar/x:1".into()),
        ("docker.io/library", "example.com", "image:1".into(), "example.com/image:1".into()),
        ("docker.io", "example.com", "image:1".into(), "example.com/library/image:1".into()),
        ("*.io", "example.com", "image:1".into(), "example.com/library/image:1".into()),
        ("*.sub.example.io", "example.com", "a.sub.example.io:5000/x:1".into(), "example.com:5000/x:1".into()),
        ("*.bar.io", "omg.bbq.com/a", "foo.bar.io/b/c/d:1".into(), "omg.bbq.com/a/b/c/d:1".into()),
        // Not a prefix: the name stays.
        ("example.com/foo", "internal:5000/bar", "example.com/foobar/x:1".into(), "example.com/foobar/x:1".into()),
        ("example.com", "internal:5000", "example.com.org/x:1".into(), "example.com.org/x:1".into()),
        ("example.com", "internal:5000", "sub.example.com/x:1".into(), "sub.example.com/x:1".into()),
        ("*.example.com", "internal:5000", "example.com/x:1".into(), "example.com/x:1".into()),
        ("*.example.com", "internal:5000", "a.example.com.org/x:1".into(), "a.example.com.org/x:1".into()),
        ("*.example.com", "internal:5000", "quay.io/a.example.com/x:1".into(), "quay.io/a.example.com/x:1".into()),
        ("example.com/foo:1", "internal:5000", "example.com/foo:1".into(), "example.com/foo:1".into()),
        ("*", "internal:5000", "quay.io/x:1".into(), "quay.io/x:1".into()),
        // A prefix without a port is one of hosts with a port too, as in containers/image.
        ("example.com", "internal", "example.com:5000/x:1".into(), "internal:5000/x:1".into()),
    ] {
        check(
            &format!("[[registry]]\nprefix = {prefix:?}\nlocation = {location:?}\n"),
            &[(name.as_str(), expected.as_str())],
        );
    }
    check(
        "[[registry]]\nprefix = '*.example.com'\ninsecure = true\n",
        &[("a.b.example.com:1/x:1", "a.b.example.com:1/x:1!"), ("example.com/x:1", "example.com/x:1")],
    );
}

#[test]
fn locations_that_make_no_name_are_told_with_their_place() {
    for (location, name, why) in [
        ("internal/bar", "example.com/foo/x:1", "not a whole name"),
        ("docker.io", "example.com/foo/x:1", "not a whole name"),
        ("example.org:5000", "example.com/foo:1", "example.org:5000:1"),
        ("ex ample.org", "example.com/foo/x:1", "not an image name"),
        ("example.org/../..", "example.com/foo/x:1", "not an image name"),
        ("user@example.org", "example.com/foo/x:1", "digest"),
        ("\u{1b}[31m", "example.com/foo/x:1", "not an image name"),
    ] {
        let text = format!("\n[[registry]]\nprefix = 'example.com/foo'\nlocation = {}\n", serde_like(location));
        let error = places(&conf(&text, &[]).expect(&text), name, Purpose::Pull);
        assert!(error.starts_with("invalid: rewriting example.com/foo"), "{error}");
        assert!(error.contains("prefix `example.com/foo` of /registries.conf:2"), "{error}");
        assert!(error.contains(why) && !error.contains('\u{1b}'), "{location}: {error}");
    }
}

/// Returns a string as TOML has it, escapes and all.
fn serde_like(text: &str) -> String {
    format!("\"{}\"", text.replace('\u{1b}', "\\u001b"))
}

#[test]
fn the_longest_prefix_decides() {
    let text = "
        [[registry]]
        location = 'example.com'
        [[registry]]
        prefix = 'example.com/a/b'
        location = 'two.example'
        [[registry]]
        prefix = 'example.com/a'
        location = 'one.example'
        [[registry]]
        prefix = 'example.com/a'
        location = 'never.example'
        [[registry]]
        prefix = '*.example.com'
        location = 'wild.example'
        [[registry]]
        prefix = 'a.example.com'
        location = 'same.example'
        [[registry]]
        prefix = 'ab.example.com'
        location = 'longer.example'
    ";
    check(
        text,
        &[
            ("example.com/x:1", "example.com/x:1"),
            ("example.com/a/x:1", "one.example/x:1"),
            ("example.com/a/b/x:1", "two.example/x:1"),
            ("example.com/ab/x:1", "example.com/ab/x:1"),
            ("x.example.com/x:1", "wild.example/x:1"),
            // Of one length; containers/image takes the one that sorts first.
            ("a.example.com/x:1", "wild.example/x:1"),
            ("ab.example.com/x:1", "longer.example/x:1"),
        ],
    );
    let plan = conf(text, &[]).unwrap().plan(&name("example.com/a/x"), Purpose::Pull).unwrap();
    let matched = plan.matched.unwrap();
    assert_eq!(
        (matched.prefix.as_str(), matched.file.as_path(), matched.line),
        ("example.com/a", Path::new("/registries.conf"), 7)
    );
}

#[test]
fn mirrors_come_first_and_for_pulls_only() {
    let text = "
        [[registry]]
        prefix = 'example.com/foo'
        location = 'internal:5000/bar'
        insecure = true
        [[registry.mirror]]
        location = 'one.example/m/'
        [[registry.mirror]]
        location = 'two.example'
        insecure = true
        pull-from-mirror = 'digest-only'
        [[registry.mirror]]
        location = 'three.example'
        pull-from-mirror = 'tag-only'
        [[registry.mirror]]
        location = 'four.example'
        pull-from-mirror = 'all'
    ";
    let digest = format!("example.com/foo/x{DIGEST}");
    check(
        text,
        &[
            ("example.com/foo/x:1", "~one.example/m/x:1 ~three.example/x:1 ~four.example/x:1 internal:5000/bar/x:1!"),
            (
                &digest,
                &format!(
                    "~one.example/m/x{DIGEST} ~two.example/x{DIGEST}! ~four.example/x{DIGEST} internal:5000/bar/x{DIGEST}!"
                ),
            ),
        ],
    );
    let conf = conf(text, &[]).unwrap();
    for purpose in [Purpose::Push, Purpose::List] {
        // containers/image rewrites nothing here: the location is for reading.
        assert_eq!(places(&conf, "example.com/foo/x:1", purpose), "example.com/foo/x:1!");
    }
    let skipped: Vec<_> = conf.plan(&name(&digest), Purpose::Pull).unwrap().candidates;
    let skipped: Vec<_> = skipped.into_iter().map(|candidate| candidate.skipped).collect();
    assert_eq!(skipped, [None, None, Some(Skipped::TagOnly), None, None]);

    let by_digest = "
        [[registry]]
        location = 'example.com'
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = 'one.example'
    ";
    check(
        by_digest,
        &[
            ("example.com/x:1", "example.com/x:1"),
            (&format!("example.com/x{DIGEST}"), &format!("~one.example/x{DIGEST} example.com/x{DIGEST}")),
        ],
    );
}

#[test]
fn what_is_blocked_is_not_asked() {
    let text = "
        [[registry]]
        location = 'example.com'
        blocked = true
        [[registry.mirror]]
        location = 'one.example'
        [[registry.mirror]]
        location = 'example.com/mirror'
        [[registry]]
        location = 'alone.example'
        blocked = true
        [[registry]]
        prefix = 'moved.example'
        location = 'elsewhere.example'
        blocked = true
        [[registry]]
        prefix = 'leads.example'
        location = 'alone.example'
        blocked = true
        [[registry]]
        prefix = 'open.example'
        location = 'elsewhere.example/x'
        [[registry]]
        prefix = '*.wild.example'
        blocked = true
    ";
    let alone = "refused: registry alone.example is blocked in /registries.conf:9";
    check(
        text,
        &[
            ("example.com/x:1", "~one.example/x:1"),
            ("alone.example/x:1", alone),
            ("moved.example/x:1", "refused: registry moved.example is blocked in /registries.conf:12"),
            ("leads.example/x:1", "refused: registry leads.example is blocked in /registries.conf:16"),
            ("open.example/a:1", "elsewhere.example/x/a:1"),
            ("a.wild.example/x:1", "refused: registry *.wild.example is blocked in /registries.conf:23"),
        ],
    );
    let conf = conf(text, &[]).unwrap();
    for purpose in [Purpose::Push, Purpose::List] {
        assert_eq!(places(&conf, "alone.example/x:1", purpose), alone);
        assert!(places(&conf, "example.com/x:1", purpose).starts_with("refused: registry example.com is blocked"));
    }
    let plan = conf.plan(&name("example.com/x"), Purpose::Pull).unwrap();
    assert!(matches!(plan.primary_skipped(), Some(Skipped::Blocked(matched)) if matched.prefix == "example.com"));

    // A place that another [[registry]] blocks.
    let text = "
        [[registry]]
        prefix = 'example.com'
        location = 'internal.example/a'
        [[registry]]
        location = 'internal.example'
        blocked = true
    ";
    check(text, &[("example.com/x:1", "refused: registry internal.example is blocked in /registries.conf:5")]);
}

#[test]
fn drop_ins_replace() {
    let main = "
        unqualified-search-registries = ['a.example', 'b.example:5000']
        credential-helpers = ['one', 'two']
        short-name-mode = 'enforcing'
        [[registry]]
        location = 'example.com'
        insecure = true
        [[registry.mirror]]
        location = 'mirror.example'
        [[registry]]
        location = 'kept.example'
        insecure = true
        [aliases]
        a = 'example.com/a'
        b = 'example.com/b'
    ";
    let alone = conf(main, &[]).unwrap();
    assert_eq!(alone.unqualified_search_registries, ["a.example", "b.example:5000"]);
    assert_eq!(alone.credential_helpers, ["one", "two"]);
    assert_eq!(alone.short_name_mode, ShortNameMode::Enforcing);
    assert_eq!(places(&alone, "example.com/x:1", Purpose::Pull), "~mirror.example/x:1 example.com/x:1!");

    let first = "credential-helpers = []\n[[registry]]\nlocation = 'example.com'\n[aliases]\na = ''\n";
    let second = "unqualified-search-registries = []\n[[registry]]\nlocation = 'new.example'\nblocked = true\n";
    let merged = conf(main, &[first, second]).unwrap();
    assert_eq!(merged.unqualified_search_registries, [""; 0]);
    assert_eq!(merged.credential_helpers, [AUTH_FILE_HELPER], "an empty list is the default");
    assert_eq!(merged.short_name_mode, ShortNameMode::Enforcing);
    assert_eq!(merged.aliases.get("a").map(String::as_str), Some(""));
    assert_eq!(merged.aliases.get("b").map(String::as_str), Some("example.com/b"));
    assert_eq!(merged.files, ["/registries.conf", "/d/0.conf", "/d/1.conf"].map(Path::new));
    assert_eq!(places(&merged, "example.com/x:1", Purpose::Pull), "example.com/x:1", "replaced whole, mirror and all");
    assert_eq!(places(&merged, "kept.example/x:1", Purpose::Pull), "kept.example/x:1!");
    let error = places(&merged, "new.example/x:1", Purpose::Pull);
    assert_eq!(error, "refused: registry new.example is blocked in /d/1.conf:2");
    let without_main = RegistriesConf::parse(None, &[file("/d/0.conf", second)]).unwrap();
    assert_eq!(
        places(&without_main, "new.example/x:1", Purpose::Push),
        "refused: registry new.example is blocked in /d/0.conf:2"
    );
}

#[test]
fn version_1_is_read() {
    let text = "
        [registries.search]
        registries = ['a.example/', 'b.example']
        [registries.insecure]
        registries = ['plain.example:5000', 'both.example/ns']
        [registries.block]
        registries = ['bad.example', 'both.example/ns/']
    ";
    check(
        text,
        &[
            ("plain.example:5000/x:1", "plain.example:5000/x:1!"),
            ("bad.example/x:1", "refused: registry bad.example is blocked in /registries.conf:7"),
            ("both.example/ns/x:1", "refused: registry both.example/ns is blocked in /registries.conf:7"),
            ("both.example/x:1", "both.example/x:1"),
        ],
    );
    assert_eq!(conf(text, &[]).unwrap().unqualified_search_registries, ["a.example", "b.example"]);
    // Lists that are empty are of no version.
    check("credential-helpers = ['x']\n[registries.search]\nregistries = []\n", &[("a.example/x:1", "a.example/x:1")]);
}

#[test]
fn unknown_keys_are_ignored_and_known_ones_found_in_any_case() {
    let text = "nonsense = 1\n[[Registry]]\nLocation = 'example.com'\nBLOCKED = true\nbogus = []\n[other]\nx = 1\n";
    let conf = conf(text, &[]).unwrap();
    assert_eq!(
        places(&conf, "example.com/x:1", Purpose::Pull),
        "refused: registry example.com is blocked in /registries.conf:2"
    );
    assert_eq!(
        conf.unknown_keys,
        [
            "/registries.conf:1: `nonsense`",
            "/registries.conf:6: `other`",
            "/registries.conf:5: `bogus` of [[registry]] 1",
        ]
    );
}

/// Files that are not as they must be, the place that is named, and the reason.
const FAULTS: &[(&str, &str, &str)] = &[
    ("registry = 1", ":1:12: reading `registry`", "expected [[registry]] tables, found an integer"),
    ("[registry]\nlocation = 'a.example'", ":1:", "expected [[registry]] tables, found a table"),
    ("[[registry]]\nlocation = 1", ":2:12: reading `location` of [[registry]] 1", "expected a string"),
    ("[[registry]]\nlocation = 'a.example'\ninsecure = 'true'", ":3:12:", "expected true or false"),
    ("[[registry]]\nlocation = 'a.example'\nblocked = 1", ":3:11:", "expected true or false"),
    ("[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = []", ":3:", "expected true or false"),
    ("[[registry]]\nlocation = 'https://a.example'", ":2:12:", "URI schemes are not supported"),
    ("[[registry]]\nlocation = 'a.example'\nprefix = 'http://a.example/'", ":3:10:", "URI schemes are not supported"),
    ("[[registry]]\n", ":1:1: reading [[registry]] 1", "both location and prefix are unset"),
    ("[[registry]]\nlocation = '/'", ":1:1:", "both location and prefix are unset"),
    ("[[registry]]\nprefix = 'a.example'", ":1:1:", "not in the format: *.example.com"),
    ("[[registry]]\nprefix = '*.a.example/x'\nlocation = 'b.example'", ":2:10:", "should be in the format"),
    ("[[registry]]\nprefix = '*.a.example:1'", ":2:10:", "should be in the format"),
    ("[[registry]]\nlocation = 'a.example'\npull-from-mirror = 'all'", ":3:20:", "non-mirror registry"),
    ("[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\n", ":3:1:", "mirror location is unset"),
    ("[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation='http://x'", ":4:10:", "URI schemes"),
    (
        "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation='b.example'\npull-from-mirror='never'",
        ":5:18: reading `pull-from-mirror` of [[registry.mirror]] 1 of [[registry]] 1",
        "unsupported pull-from-mirror value `never`",
    ),
    (
        "[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation='b.example'\npull-from-mirror='all'",
        ":6:18:",
        "at the same time",
    ),
    (
        "[[registry]]\nlocation='a.example'\n[[registry]]\nprefix='b.example'\nlocation='a.example'\ninsecure=true",
        ":3: reading [[registry]]",
        "conflicting 'insecure' setting, on line 1 and on line 3",
    ),
    (
        "[[registry]]\nlocation='a.example'\nblocked=true\n[[registry]]\nprefix='b.example'\nlocation='a.example'",
        ":4: reading [[registry]]",
        "conflicting 'blocked' setting",
    ),
    ("unqualified-search-registries = 1", ":1:33:", "expected a list of strings"),
    ("unqualified-search-registries = ['a.example', 1]", ":1:47:", "expected a string"),
    ("unqualified-search-registries = ['a.example/x']", ":1:34:", "not HOST"),
    ("unqualified-search-registries = ['']", ":1:34:", "not HOST"),
    ("credential-helpers = 'x'", ":1:22:", "expected a list of strings"),
    ("short-name-mode = 'sometimes'", ":1:19:", "invalid short-name mode"),
    ("aliases = 1", ":1:11:", "expected a table"),
    ("[aliases]\na = 1", ":2:5: reading `a` of [aliases]", "expected a string"),
    ("registries = 1", ":1:14:", "expected a table"),
    ("[registries]\nsearch = 1", ":2:10:", "expected a table"),
    ("[registries.block]\nregistries = 'x'", ":2:14:", "expected a list of strings"),
    ("[registries.block]\nregistries = ['https://x']", ":2:15:", "URI schemes"),
    (
        "[[registry]]\nlocation='a.example'\n[registries.block]\nregistries = ['b.example']",
        ":3:",
        "mixing sysregistry v1/v2 is not supported",
    ),
    ("short-name-mode='disabled'\n[registries.search]\nregistries = ['b.example']", ":2:", "mixing sysregistry v1/v2"),
    ("[[registry]]\nlocation='a.example'\nlocation='b.example'", ":3:1:", "duplicate key"),
    ("[[registry", ":1:", "reading the file"),
    ("\u{feff}x = ", ":1:", "reading the file"),
];

#[test]
fn faults_are_told_with_their_place() {
    for (text, place, why) in FAULTS {
        let error = conf(text, &[]).expect_err(text);
        let shown = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {shown}");
        assert!(shown.contains(&format!("/registries.conf{place}")), "{text}: {shown}");
        assert!(shown.contains(why), "{text}: {shown}");
        let error = conf("", &[text]).expect_err(text).to_string();
        assert!(
            error.contains(&format!("drop-in registries configuration: /d/0.conf{place}")) || error.contains("in v1"),
            "{error}"
        );
    }
    let ambiguous = "[[registry]]\nlocation='a.example'\nblocked=true\nBlocked=false";
    assert!(conf(ambiguous, &[]).unwrap_err().to_string().contains("in two cases"));
    let old = "[registries.block]\nregistries = ['b.example']";
    let error = conf("", &[old]).unwrap_err().to_string();
    assert!(error.contains("registry must be in v2 format but is in v1"), "{error}");
}

#[test]
fn hostile_files_are_refused_and_leave_the_terminal_alone() {
    let deep = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let dotted = format!("{}x = 1", "a.".repeat(100_000));
    let escapes = "[[registry]]\nlocation = \"https://\\u001b[31m\"";
    let key = "[[registry]]\nlocation='a.example'\n\"\\u001b[31m\" = 1";
    for text in [deep.as_str(), dotted.as_str(), escapes] {
        let error = conf(text, &[]).expect_err("hostile");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!error.to_string().contains('\u{1b}'));
    }
    assert!(!conf(key, &[]).unwrap().unknown_keys.concat().contains('\u{1b}'));
    let binary = ConfFile { path: "/b.conf".into(), bytes: b"x = 1\ny = '\xff'\n".to_vec() };
    let error = RegistriesConf::parse(Some(&binary), &[]).unwrap_err().to_string();
    assert!(error.contains("/b.conf:2: reading the file: it is not UTF-8"), "{error}");
    // Ten thousand registries, each with a mirror.
    let many: String = (0..10_000)
        .map(|n| format!("[[registry]]\nlocation='r{n}.example'\n[[registry.mirror]]\nlocation='m{n}.example'\n"))
        .collect();
    check(&many, &[("r9999.example/x:1", "~m9999.example/x:1 r9999.example/x:1")]);
}

/// Returns a port of the loopback that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Files that skopeo refuses too, before anything is asked.
#[test]
fn skopeo_refuses_the_same_files() {
    let temp = tempfile::tempdir().expect("a directory");
    let file = temp.path().join("registries.conf");
    let reference = format!("docker://127.0.0.1:{}/x", closed_port());
    // skopeo takes `aliases` of any type that is no table for none.
    for (text, ..) in FAULTS.iter().filter(|(text, ..)| !text.starts_with("aliases")) {
        std::fs::write(&file, text).expect("a file");
        let skopeo = Peer::skopeo().argument("--registries-conf").argument(&file);
        let theirs = skopeo.run(["inspect", &reference]).errors();
        assert!(!theirs.contains("pinging"), "{text}: {theirs}");
    }
}
