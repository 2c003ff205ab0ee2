//! Simple signing, both ways: what skopeo signs holkas accepts or refuses as skopeo does, and the other way round.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::gpg::Gpg;
use holkas_testkit::image::{BuiltImage, ImageBuilder, IndexBuilder};
use holkas_testkit::peers::{Output, Peer, Store};
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;

const NAME: &str = "registry.example.com:5000/a/b:1";

/// A home with keys.
struct Keys {
    gpg: Gpg,
    good: String,
    other: String,
    locked: String,
}

impl Keys {
    fn new() -> Self {
        let gpg = Gpg::new();
        let good = gpg.key("good@example.com", "never");
        let other = gpg.key("other@example.com", "never");
        let locked = gpg.key_with("locked@example.com", "never", &["--passphrase", "open sesame"]);
        gpg.file("good.gpg", &gpg.public(&good));
        gpg.file("other.asc", &gpg.armoured(&other));
        gpg.file("passphrase", b"open sesame\n");
        Keys { gpg, good, other, locked }
    }
}

/// The keys of the test that runs in this thread; with it, its agent ends.
fn keys() -> Rc<Keys> {
    thread_local! {
        static KEYS: Rc<Keys> = Rc::new(Keys::new());
    }
    KEYS.with(Rc::clone)
}

fn key_file(name: &str) -> String {
    keys().gpg.home().join(name).display().to_string()
}

/// Whose program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Debians,
    Ours,
}

/// Runs skopeo, or holkas in its place, with the keys.
fn skopeo(whose: Whose, arguments: &[&str]) -> Output {
    match whose {
        Whose::Debians => keys().gpg.skopeo(arguments),
        Whose::Ours => holkas(&[&["skopeo"], arguments].concat()),
    }
}

fn holkas(arguments: &[&str]) -> Output {
    keys().gpg.peer(Peer::program(env!("CARGO_BIN_EXE_holkas"))).run(arguments)
}

fn image(content: &str) -> BuiltImage {
    ImageBuilder::docker().layer(TarBuilder::new().file("f", 0o644, content).finish()).build()
}

struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        image("x").write_dir(bench.path("plain"));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dir(&self, name: &str) -> String {
        format!("dir:{}", self.path(name).display())
    }

    fn policy(&self, name: &str, policy: &Value) -> String {
        let path = self.path(&format!("{name}.json"));
        fs::write(&path, policy.to_string()).unwrap();
        path.display().to_string()
    }

    /// Copies with signatures made.
    #[track_caller]
    fn sign(&self, whose: Whose, from: &str, to: &str, more: &[&str]) {
        let copy = ["--insecure-policy", "copy", "-q", &self.dir(from), &self.dir(to)];
        skopeo(whose, &[&copy[..], more].concat()).ok();
    }
}

fn signed_by(file: &str, identity: Value) -> Value {
    json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": key_file(file), "signedIdentity": identity })
}

fn exactly(name: &str) -> Value {
    json!({ "type": "exactReference", "dockerReference": name })
}

fn policy(requirements: &[Value]) -> Value {
    json!({ "default": requirements })
}

#[test]
fn what_is_signed_here_or_there_is_accepted_and_refused_alike() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, other, .. } = &*keys;
    bench.sign(Whose::Debians, "plain", "theirs", &["--sign-by", good, "--sign-identity", NAME]);
    bench.sign(Whose::Ours, "plain", "ours", &["--sign-by", good, "--sign-identity", NAME]);
    // A second signature is added to the first.
    bench.sign(Whose::Ours, "theirs", "both", &["--sign-by", other, "--sign-identity", "other.example.com/x:2"]);
    assert!(bench.path("both/signature-2").exists());
    assert_eq!(fs::read(bench.path("both/signature-1")).unwrap(), fs::read(bench.path("theirs/signature-1")).unwrap());
    // The signature is for another image.
    image("y").write_dir(bench.path("moved"));
    fs::copy(bench.path("theirs/signature-1"), bench.path("moved/signature-1")).unwrap();
    bench.sign(Whose::Debians, "plain", "unsigned", &[]);

    let repository = |name: &str| json!({ "type": "exactRepository", "dockerRepository": name });
    let plain = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": key_file("good.gpg") });
    let accept = json!({ "type": "insecureAcceptAnything" });
    let cases = [
        ("exact", vec![signed_by("good.gpg", exactly(NAME))]),
        ("other tag", vec![signed_by("good.gpg", exactly("registry.example.com:5000/a/b:2"))]),
        ("no port", vec![signed_by("good.gpg", exactly("registry.example.com/a/b:1"))]),
        ("repository", vec![signed_by("good.gpg", repository("registry.example.com:5000/a/b"))]),
        ("parent", vec![signed_by("good.gpg", repository("registry.example.com:5000/a"))]),
        ("other key", vec![signed_by("other.asc", exactly(NAME))]),
        ("other key and name", vec![signed_by("other.asc", exactly("other.example.com/x:2"))]),
        ("its own name", vec![plain]),
        ("match exact", vec![signed_by("good.gpg", json!({ "type": "matchExact" }))]),
        ("both", vec![signed_by("good.gpg", exactly(NAME)), signed_by("other.asc", exactly("other.example.com/x:2"))]),
        ("with accept", vec![accept.clone(), signed_by("good.gpg", exactly(NAME))]),
        ("with reject", vec![signed_by("good.gpg", exactly(NAME)), json!({ "type": "reject" })]),
        ("no key", vec![signed_by("nonexistent", exactly(NAME))]),
        ("base layer", vec![json!({ "type": "signedBaseLayer", "baseLayerIdentity": exactly(NAME) })]),
        ("any", vec![accept]),
    ];
    let mut accepted = 0;
    for (n, (what, requirements)) in cases.iter().enumerate() {
        let file = bench.policy(&format!("p{n}"), &policy(requirements));
        for from in ["theirs", "ours", "both", "moved", "unsigned"] {
            let run = |whose| {
                let to = bench.dir(&format!("out-{whose:?}-{n}-{from}"));
                skopeo(whose, &["--policy", &file, "copy", &bench.dir(from), &to])
            };
            let (theirs, ours) = (run(Whose::Debians), run(Whose::Ours));
            let why = format!("{what}, {from}: {} / {}", theirs.errors(), ours.errors());
            assert_eq!(theirs.status.success(), ours.status.success(), "{why}");
            accepted += usize::from(ours.status.success());
            if !ours.status.success() {
                assert!(ours.errors().contains("Source image rejected: "), "{why}");
                assert!(theirs.errors().contains("Source image rejected: "), "{why}");
            }
        }
    }
    assert!((15..40).contains(&accepted), "{accepted}");
    let file = bench.policy("told", &policy(&[signed_by("good.gpg", exactly(NAME))]));
    let told = |from: &str, words: &str| {
        for whose in [Whose::Debians, Whose::Ours] {
            let error = skopeo(whose, &["--policy", &file, "copy", &bench.dir(from), &bench.dir("never")]).fails();
            assert!(error.contains(words), "{whose:?}: {error}");
        }
    };
    told("unsigned", "Source image rejected: A signature was required, but no signature exists");
    let error = holkas(&["--policy", &file, "copy", &bench.dir("moved"), &bench.dir("never")]).fails();
    assert!(error.contains("does not match"), "{error}");
}

/// An image in a store has a name, by which the rules that look at it decide.
#[test]
fn names_in_a_store_decide_alike() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, .. } = &*keys;
    let digest = image("x").digest();
    let stored = [
        "registry.example.com:5000/a/b:1",
        "registry.example.com/a/b:1",
        "registry.example.com:5000/a/b:2",
        "mirror.example.com/a/b:1",
    ];
    let rules = [
        json!({ "type": "matchExact" }),
        json!({ "type": "matchRepoDigestOrExact" }),
        json!({ "type": "matchRepository" }),
        json!({ "type": "remapIdentity", "prefix": "mirror.example.com", "signedPrefix": "registry.example.com:5000" }),
        json!({ "type": "remapIdentity", "prefix": "registry.example.com", "signedPrefix": "registry.example.com:5000" }),
        json!({ "type": "remapIdentity", "prefix": "mirror.example.com/a", "signedPrefix": "registry.example.com:5000/a" }),
    ];
    bench.sign(Whose::Ours, "plain", "signed", &["--sign-by", good, "--sign-identity", NAME]);
    let store = Store::vfs();
    let mut accepted = 0;
    for name in stored {
        store.skopeo(["copy", "-q", &bench.dir("signed"), &store.reference(name)]).ok();
        for (n, rule) in rules.iter().enumerate() {
            let file = bench.policy("store", &policy(&[signed_by("good.gpg", rule.clone())]));
            for reference in [name.to_string(), format!("{}@{digest}", name.rsplit_once(':').unwrap().0)] {
                let run = |whose| {
                    let to = bench.dir("out-of-store");
                    let copy = ["copy", "--remove-signatures", &store.reference(&reference), &to];
                    let _old = fs::remove_dir_all(bench.path("out-of-store"));
                    skopeo(whose, &[&["--policy", &file], &copy[..]].concat())
                };
                let (theirs, ours) = (run(Whose::Debians), run(Whose::Ours));
                let why = format!("{rule} ({n}) {reference}: {} / {}", theirs.errors(), ours.errors());
                assert_eq!(theirs.status.success(), ours.status.success(), "{why}");
                accepted += usize::from(ours.status.success());
            }
        }
    }
    assert!(accepted > 8, "{accepted}");
}

/// Of a list the instance that is taken must be signed; what signs it all signs the list, too.
#[test]
fn lists() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, .. } = &*keys;
    let instance = |architecture: &str| {
        ImageBuilder::oci()
            .platform(architecture, "linux")
            .layer(TarBuilder::new().file("f", 0o644, architecture).finish())
            .build()
    };
    let (amd, arm) = (instance("amd64"), instance("arm64"));
    let index = IndexBuilder::oci().image(&amd).image(&arm).build();
    index.write_dir(bench.path("list"));
    let sign = ["--all", "--sign-by", good, "--sign-identity", NAME];
    bench.sign(Whose::Ours, "list", "ours", &sign);
    bench.sign(Whose::Debians, "list", "theirs", &sign);
    let names = |dir: &str| {
        let files =
            fs::read_dir(bench.path(dir)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = files.filter(|name| name.contains("signature")).collect();
        names.sort();
        names
    };
    assert_eq!(names("ours"), names("theirs"));
    assert_eq!(names("ours").len(), 3);
    let file = bench.policy("p", &policy(&[signed_by("good.gpg", exactly(NAME))]));
    let run = |whose, from: &str, more: &[&str]| {
        let to = bench.dir(&format!("out-{whose:?}"));
        let _old = fs::remove_dir_all(bench.path(&format!("out-{whose:?}")));
        let global = ["--policy", &file, "--override-arch", "arm64", "copy"];
        skopeo(whose, &[&global[..], more, &[&bench.dir(from), &to]].concat())
    };
    for from in ["ours", "theirs"] {
        for more in [&[][..], &["--all"]] {
            run(Whose::Debians, from, more).ok();
            run(Whose::Ours, from, more).ok();
        }
    }
    // Without the list's own signature the instance is as good as before, and as good as skopeo finds it.
    fs::remove_file(bench.path("ours/signature-1")).unwrap();
    run(Whose::Debians, "ours", &[]).ok();
    run(Whose::Ours, "ours", &[]).ok();
    // A list that is itself taken must be signed; skopeo does not look.
    run(Whose::Debians, "ours", &["--all"]).ok();
    assert!(run(Whose::Ours, "ours", &["--all"]).fails().contains("Source image rejected"));
    assert!(run(Whose::Ours, "ours", &["--multi-arch", "index-only"]).fails().contains("Source image rejected"));
    // Without the instance's signature the list's does not help.
    fs::remove_file(bench.path(&format!("theirs/{}.signature-1", &arm.digest()[7..]))).unwrap();
    for whose in [Whose::Debians, Whose::Ours] {
        for more in [&[][..], &["--all"]] {
            assert!(run(whose, "theirs", more).fails().contains("Source image rejected"), "{whose:?} {more:?}");
        }
    }
}

#[test]
fn signing_needs_a_name_a_place_and_a_key() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, .. } = &*keys;
    let fails = |whose, to: &str, more: &[&str]| {
        let copy = ["--insecure-policy", "copy", "-q", &bench.dir("plain"), to];
        skopeo(whose, &[&copy[..], more].concat()).fails()
    };
    for whose in [Whose::Debians, Whose::Ours] {
        let error = fails(whose, &bench.dir("out"), &["--sign-by", good]);
        assert!(
            error.contains("Cannot determine canonical Docker reference for destination dir:"),
            "{whose:?}: {error}"
        );
        let error = fails(whose, &bench.dir("out"), &["--sign-by", good, "--sign-identity", "example.com/a"]);
        assert!(
            error.contains("Sign identity must be a fully specified reference example.com/a"),
            "{whose:?}: {error}"
        );
        let error = fails(whose, &bench.dir("out"), &["--sign-by", good, "--sign-identity", "a:1"]);
        assert!(
            error.contains("Could not parse --sign-identity: repository name must be canonical"),
            "{whose:?}: {error}"
        );
        fails(
            whose,
            &bench.dir("out"),
            &["--sign-by", "0123456789ABCDEF0123456789ABCDEF01234567", "--sign-identity", NAME],
        );
        let oci = format!("oci:{}:1", bench.path("layout").display());
        fails(whose, &oci, &["--sign-by", good, "--sign-identity", NAME]);
    }
}

#[test]
fn passphrases_come_from_a_file() {
    let bench = Bench::new();
    // A home of its own: the agent remembers a passphrase that was right.
    let gpg = Gpg::new();
    let locked = gpg.key_with("locked@example.com", "never", &["--passphrase", "open sesame"]);
    gpg.forget();
    let file = |name: &str, text: &str| gpg.file(name, text.as_bytes()).display().to_string();
    let copy = |whose, file: &str, to: &str| {
        let (from, to) = (bench.dir("plain"), bench.dir(to));
        let copy = ["--insecure-policy", "copy", "-q", &from, &to, "--sign-by", &locked, "--sign-identity", NAME];
        let arguments = [&copy[..], &["--sign-passphrase-file", file]].concat();
        match whose {
            Whose::Debians => gpg.skopeo(&arguments),
            Whose::Ours => {
                gpg.peer(Peer::program(env!("CARGO_BIN_EXE_holkas"))).run([&["skopeo"], &arguments[..]].concat())
            }
        }
    };
    for whose in [Whose::Debians, Whose::Ours] {
        let error = copy(whose, &file("wrong", "guess\n"), "never").fails();
        assert!(error.to_lowercase().contains("passphrase"), "{whose:?}: {error}");
        let error = copy(whose, &bench.path("none").display().to_string(), "never").fails();
        assert!(error.contains("no such file or directory"), "{whose:?}: {error}");
    }
    copy(Whose::Ours, &file("right", "open sesame\n"), "locked").ok();
    let keys = gpg.file("locked.gpg", &gpg.public(&locked)).display().to_string();
    let requirement =
        json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": keys, "signedIdentity": exactly(NAME) });
    let policy = bench.policy("p", &policy(&[requirement]));
    skopeo(Whose::Debians, &["--policy", &policy, "copy", &bench.dir("locked"), &bench.dir("out")]).ok();
}

/// A store knows what the image is called, and keeps the signature.
#[test]
fn what_goes_into_a_store_is_signed_for_its_name() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, .. } = &*keys;
    let store = Store::vfs();
    let to = store.reference(NAME);
    skopeo(Whose::Ours, &["--insecure-policy", "copy", "--sign-by", good, &bench.dir("plain"), &to]).ok();
    let file = bench.policy("p", &policy(&[signed_by("good.gpg", json!({ "type": "matchExact" }))]));
    let out = bench.dir("out");
    skopeo(Whose::Debians, &["--policy", &file, "copy", "--remove-signatures", &to, &out]).ok();
}

#[test]
fn unsigned_images_are_refused_when_it_is_demanded() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, .. } = &*keys;
    bench.sign(Whose::Ours, "plain", "signed", &["--sign-by", good, "--sign-identity", NAME]);
    let weak = bench.policy("weak", &json!({ "default": [{ "type": "insecureAcceptAnything" }] }));
    let strong = bench.policy("strong", &policy(&[signed_by("good.gpg", exactly(NAME))]));
    let run = |file: &str, from: &str| {
        let _old = fs::remove_dir_all(bench.path("out"));
        skopeo(Whose::Ours, &["--policy", file, "--require-signed", "copy", &bench.dir(from), &bench.dir("out")])
    };
    assert!(run(&weak, "signed").fails().contains("No signature verification policy found for image dir:"));
    run(&strong, "signed").ok();
    assert!(run(&strong, "plain").fails().contains("A signature was required, but no signature exists"));
}

#[test]
fn files_are_signed_and_verified_both_ways() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, other, locked, .. } = &*keys;
    let path = |name: &str| bench.path(name).display().to_string();
    let manifest = path("plain/manifest.json");
    let digest = image("x").digest();
    let all = key_file("good.gpg");
    for maker in [Whose::Debians, Whose::Ours] {
        let signature = path(&format!("{maker:?}.signature"));
        skopeo(maker, &["standalone-sign", &manifest, NAME, good, "-o", &signature]).ok();
        // Debian's takes the keys of GnuPG alone.
        let verified = skopeo(Whose::Debians, &["standalone-verify", &manifest, NAME, good, &signature]).ok();
        assert_eq!(verified, format!("Signature verified, digest {digest}"));
        let expected = format!("Signature verified using fingerprint {good}, digest {digest}");
        let two = format!("{other},{good}");
        for fingerprints in [good, &two] {
            assert_eq!(
                skopeo(Whose::Ours, &["standalone-verify", &manifest, NAME, fingerprints, &signature]).ok(),
                expected
            );
        }
        let by_file = |fingerprints: &str, identity: &str, manifest: &str| {
            let keys = ["--public-key-file", &all];
            skopeo(
                Whose::Ours,
                &[&["standalone-verify"], &keys[..], &[manifest, identity, fingerprints, &signature]].concat(),
            )
        };
        assert_eq!(by_file("any", NAME, &manifest).ok(), expected);
        assert_eq!(by_file(good, NAME, &manifest).ok(), expected);
        let error = by_file(other, NAME, &manifest).fails();
        assert!(
            error.contains(&format!("Signature by {good} does not match expected fingerprints [{other}]")),
            "{error}"
        );
        let error = by_file("any", "registry.example.com/a/b:1", &manifest).fails();
        assert!(error.contains("Docker reference") && error.contains("does not match"), "{error}");
        fs::write(bench.path("other.json"), "{}").unwrap();
        let error = by_file("any", NAME, &path("other.json")).fails();
        assert!(error.contains("Signature for docker digest") && error.contains("does not match"), "{error}");
        let error = skopeo(Whose::Ours, &["standalone-verify", &manifest, NAME, other, &signature]).fails();
        assert!(error.contains("Error verifying signature"), "{error}");
        let error = skopeo(Whose::Ours, &["standalone-verify", &manifest, NAME, "any", &signature]).fails();
        assert!(error.contains("Cannot use any fingerprint without a public key file"), "{error}");
        let dump = ["untrusted-signature-dump-without-verification", &signature];
        assert_eq!(skopeo(Whose::Debians, &dump).ok(), skopeo(Whose::Ours, &dump).ok());
        let shown = holkas(&["signature", "show", &signature, "--json"]).json();
        assert_eq!(shown["untrusted_manifest_digest"], digest);
        assert_eq!(shown["untrusted_identity"], NAME);
        assert_eq!(shown["untrusted_key_id"], good[24..]);
        assert!(holkas(&["signature", "show", &signature]).ok().contains(NAME));
        let verify = ["signature", "verify", &manifest, &signature, "--identity", NAME, "--public-keys"];
        let good_file = key_file("good.gpg");
        let found = holkas(&[&verify[..], &[&good_file, "--json"]].concat()).json();
        assert_eq!(found["manifest_digest"], digest);
        assert_eq!(found["fingerprint"], *good);
        let error = holkas(&[&verify[..], &[&key_file("other.asc")]].concat()).fails();
        assert!(error.contains("which is not accepted"), "{error}");
    }
    let signature = path("mine.signature");
    let passphrase = key_file("passphrase");
    let sign = ["signature", "sign", &manifest, "--identity", NAME, "--by", locked, "--passphrase-file", &passphrase];
    holkas(&[&sign[..], &["--output", &signature]].concat()).ok();
    skopeo(Whose::Debians, &["standalone-verify", &manifest, NAME, locked, &signature]).ok();
    // What has no signature in it, and what has no manifest.
    fs::write(bench.path("junk"), "junk").unwrap();
    let dump = ["untrusted-signature-dump-without-verification", &path("junk")];
    let error = skopeo(Whose::Ours, &dump).fails();
    assert!(error.contains("Error decoding untrusted signature"), "{error}");
    let error = skopeo(Whose::Ours, &["standalone-sign", &path("none"), NAME, good, "-o", &signature]).fails();
    assert!(error.contains("Error reading ") && error.contains("no such file or directory"), "{error}");
    let error = skopeo(Whose::Ours, &["standalone-sign", &manifest, NAME, good]).fails();
    assert!(
        error.contains("Usage: skopeo standalone-sign manifest docker-reference key-fingerprint -o signature"),
        "{error}"
    );
}

/// What is embedded and unpacked obeys the policy as what is copied does.
#[test]
fn every_way_in_is_guarded() {
    let bench = Bench::new();
    let keys = keys();
    let Keys { good, .. } = &*keys;
    bench.sign(Whose::Ours, "plain", "signed", &["--sign-by", good, "--sign-identity", NAME]);
    let file = bench.policy("p", &policy(&[signed_by("good.gpg", exactly(NAME))]));
    let registry = DockerRegistry::start();
    for (from, accepted) in [("signed", true), ("plain", false)] {
        let root = bench.path(&format!("root-{from}"));
        fs::create_dir(&root).unwrap();
        let listed = format!("[[image]]\nsource = \"{}\"\nname = \"{NAME}\"\n", bench.dir(from));
        let toml = bench.path("images.toml");
        fs::write(&toml, listed).unwrap();
        let into = bench.path(&format!("tree-{from}"));
        let text = |path: &Path| path.display().to_string();
        let embedded = holkas(&["--policy", &file, "embed", &text(&toml), "--root", &text(&root)]);
        let unpacked = holkas(&["--policy", &file, "unpack", &bench.dir(from), &text(&into)]);
        for output in [embedded, unpacked] {
            assert_eq!(output.status.success(), accepted, "{}", output.errors());
            assert!(accepted || output.errors().contains("a signature was required"), "{}", output.errors());
        }
        let synced = holkas(&[
            "--policy",
            &file,
            "sync",
            "--src",
            "dir",
            "--dest",
            "docker",
            "--dest-tls-verify=false",
            "--remove-signatures",
            &text(&bench.path(from)),
            registry.host(),
        ]);
        assert_eq!(synced.status.success(), accepted, "{}", synced.errors());
    }
}
