//! `signedBy`: keys of GnuPG, signatures that are good, and those that lie in every way that we know.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holkas::ErrorKind;
use holkas::image::PolicyIdentity;
use holkas::oci::Algorithm;
use holkas::policy::Policy;
use holkas::signature::UntrustedSignature;
use holkas::verify::{UntrustedBlob, VerifiedBytes};
use holkas_testkit::gpg::{Gpg, payload};
use serde_json::{Value, json};

/// A time at which the keys are valid.
const NOW: i64 = 1_800_000_000;
const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;
const NAME: &str = "registry.example.com:5000/a/b:1";

/// A home with keys.
struct Keys {
    gpg: Gpg,
    good: String,
    other: String,
}

impl Keys {
    fn new() -> Self {
        let gpg = Gpg::new();
        let at = ["--passphrase", "", "--faked-system-time", "1700000000"];
        let good = gpg.key_with("good@example.com", "never", &at);
        let other = gpg.key_with("other@example.com", "never", &at);
        Keys { gpg, good, other }
    }
}

/// The keys of the test that runs in this thread; with it, its agent ends.
fn keys() -> Rc<Keys> {
    thread_local! {
        static KEYS: Rc<Keys> = Rc::new(Keys::new());
    }
    KEYS.with(Rc::clone)
}

fn sign(key: &str, bytes: &str, options: &[&str]) -> Vec<u8> {
    keys().gpg.sign(key, bytes.as_bytes(), &[options, &["--faked-system-time", "1700000100"]].concat())
}

fn manifest() -> VerifiedBytes {
    let limit = holkas::limits::MANIFEST;
    UntrustedBlob::from_bytes(MANIFEST.to_vec()).identify(Algorithm::Sha256, None, limit).unwrap()
}

fn good_payload() -> String {
    payload(&manifest().digest().to_string(), NAME)
}

/// Checks an image that is called `name` under one requirement.
fn check(requirement: &Value, name: Option<&str>, now: i64, signatures: &[Vec<u8>]) -> Result<(), holkas::Error> {
    let policy = json!({ "default": [requirement] }).to_string();
    let docker_reference = name.map(|name| name.parse().unwrap());
    let identity = PolicyIdentity { transport: "docker", scopes: Vec::new(), docker_reference };
    let policy = Policy::parse(policy.as_bytes(), "/p.json")?.at(now);
    let signatures: Vec<_> = signatures.iter().cloned().map(UntrustedSignature).collect();
    policy.demands(&identity, "docker://x").unwrap().check(&manifest(), &signatures)
}

fn by(key: &str) -> Value {
    let data = STANDARD.encode(keys().gpg.public(key));
    json!({ "type": "signedBy", "keyType": "GPGKeys", "keyData": data })
}

#[track_caller]
fn refused(result: Result<(), holkas::Error>, why: &str) {
    let error = result.expect_err(why);
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.to_string().contains("source image rejected"), "{error}");
}

#[test]
fn what_a_requirement_may_say() {
    let good = by(&keys().good);
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    let without = |key: &str| {
        let mut changed = good.clone();
        changed.as_object_mut().unwrap().remove(key);
        changed
    };
    let identity = |value: Value| with("signedIdentity", value);
    let exactly_one = "exactly one of `keyPath`, `keyPaths` and `keyData`";
    let only_one = "only one of `keyPath`, `keyPaths`, `keyData` may be there";
    for (requirement, why) in [
        (without("keyType"), "`keyType` is missing"),
        (with("keyType", json!("")), "`keyType` is empty"),
        (with("keyType", json!("gpgkeys")), "unknown `keyType`"),
        (without("keyData"), exactly_one),
        (with("keyPath", json!("/k")), only_one),
        (with("keyPaths", json!(["/k"])), only_one),
        (with("keyData", json!(null)), "`keyData` is not a string"),
        (with("keyData", json!("")), "`keyData` is empty"),
        (with("keyData", json!("*")), "not base64"),
        (with("keydata", json!("")), "no key `keydata`"),
        (json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": "" }), "`keyPath` is empty"),
        (json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPaths": "/k" }), "not a list"),
        (json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPaths": [1] }), "not a string"),
        (identity(json!(null)), "`signedIdentity`: not an object"),
        (identity(json!({})), "`type` is missing"),
        (identity(json!({ "type": "matchAny" })), "unknown identity type"),
        (identity(json!({ "type": "matchExact", "x": 1 })), "no key `x`"),
        (identity(json!({ "type": "exactReference" })), "`dockerReference` is missing"),
        (identity(json!({ "type": "exactReference", "dockerReference": "a/b" })), "neither a tag nor a digest"),
        (identity(json!({ "type": "exactReference", "dockerReference": "A" })), "lower case"),
        (identity(json!({ "type": "exactRepository", "dockerReference": "a" })), "no key `dockerReference`"),
        (identity(json!({ "type": "remapIdentity", "prefix": "a.b" })), "`signedPrefix` is missing"),
        (identity(json!({ "type": "remapIdentity", "prefix": "a.b/", "signedPrefix": "c.d" })), "`prefix`"),
        (identity(json!({ "type": "remapIdentity", "prefix": "a.b", "signedPrefix": "c.d/e:1" })), "`signedPrefix`"),
        (identity(json!({ "type": "remapIdentity", "prefix": "a.b/C", "signedPrefix": "c" })), "`prefix`"),
    ] {
        let error = check(&requirement, Some(NAME), NOW, &[]).expect_err(&requirement.to_string());
        assert_eq!(error.kind(), ErrorKind::Invalid, "{requirement}: {error}");
        assert!(error.to_string().contains(why), "{requirement}: {error}");
    }
    let twice = br#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a","keyPath":"/b"}]}"#;
    assert!(Policy::parse(twice, "/p").unwrap_err().to_string().contains("twice"));
    let twice = br#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a","signedIdentity":{"type":"matchExact","type":"matchRepository"}}]}"#;
    assert!(Policy::parse(twice, "/p").unwrap_err().to_string().contains("twice"));
}

#[test]
fn keys_come_from_files_and_from_the_policy() {
    let keys = keys();
    let Keys { gpg, good, other } = &*keys;
    let signature = vec![sign(good, &good_payload(), &[])];
    let file = |name: &str, bytes: &[u8]| gpg.file(name, bytes).display().to_string();
    let (both, text) = (gpg.run(&["--export", good, other], b""), gpg.armoured(good));
    let two_texts = [gpg.armoured(other), text.clone()].concat();
    for (name, bytes) in [("binary", gpg.public(good)), ("both", both), ("text", text), ("texts", two_texts)] {
        let path = file(name, &bytes);
        let data = STANDARD.encode(&bytes);
        for keys in [
            json!({ "keyPath": path }),
            json!({ "keyPaths": [file("other", &gpg.public(other)), path] }),
            json!({ "keyData": data }),
        ] {
            let mut requirement = json!({ "type": "signedBy", "keyType": "GPGKeys" });
            requirement.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            check(&requirement, Some(NAME), NOW, &signature).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    let by_path = |path: &str| json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": path });
    refused(check(&by_path("/nonexistent"), Some(NAME), NOW, &signature), "no such file");
    refused(check(&by_path(&file("none", b"")), Some(NAME), NOW, &signature), "no OpenPGP public key");
    refused(check(&by_path(&file("junk", b"junk")), Some(NAME), NOW, &signature), "no OpenPGP public key");
    // Without a signature no key is read.
    refused(check(&by_path("/nonexistent"), Some(NAME), NOW, &[]), "a signature was required, but no signature exists");
    let none = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPaths": [] });
    refused(check(&none, Some(NAME), NOW, &signature), "No public keys imported");
    let unknown = json!({ "type": "signedBy", "keyType": "X509Certificates", "keyPath": "/k" });
    refused(check(&unknown, Some(NAME), NOW, &signature), "Unimplemented \"keyType\" value");
    refused(check(&by(other), Some(NAME), NOW, &signature), "which is not accepted");
    // One good signature is enough, whatever the others are.
    let junk = [b"junk".to_vec(), sign(other, &good_payload(), &[]), signature[0].clone(), b"\0other\n".to_vec()];
    check(&by(good), Some(NAME), NOW, &junk).expect("one is good");
    refused(check(&by(good), Some(NAME), NOW, &junk[..2]), "none of the signatures were accepted, reasons: ");
    // Without a clock nothing is valid.
    let policy = json!({ "default": [by(good)] }).to_string();
    let identity = PolicyIdentity { transport: "docker", scopes: Vec::new(), docker_reference: None };
    let timeless = Policy::parse(policy.as_bytes(), "/p").unwrap();
    assert!(timeless.demands(&identity, "x").unwrap().check(&manifest(), &[]).is_err());
}

/// F3: names are compared whole.
#[test]
fn identities() {
    let good = &keys().good;
    let digest = manifest().digest().to_string();
    let by_digest = format!("example.com/a/b@{digest}");
    let port_digest = format!("example.com:5000/a/b@{digest}");
    let kind = |kind: &str| json!({ "type": kind });
    let reference = |name: &str| json!({ "type": "exactReference", "dockerReference": name });
    let repository = |name: &str| json!({ "type": "exactRepository", "dockerRepository": name });
    let remap = |from: &str, to: &str| json!({ "type": "remapIdentity", "prefix": from, "signedPrefix": to });
    // The rule, the image's name, what is signed, whether that will do.
    let cases = [
        (kind("matchExact"), Some("example.com/a/b:1"), "example.com/a/b:1", true),
        (kind("matchExact"), Some("example.com/a/b:1"), "example.com/a/b:2", false),
        (kind("matchExact"), Some("example.com/a/b:1"), "example.com:443/a/b:1", false),
        (kind("matchExact"), Some("example.com:5000/a/b:1"), "example.com/a/b:1", false),
        (kind("matchExact"), Some("example.com/a/b:1"), "example.com/a/b", false),
        (kind("matchExact"), Some("example.com/a/b:1"), "example.com/a/bb:1", false),
        (kind("matchExact"), Some(&by_digest), "example.com/a/b:1", false),
        (kind("matchExact"), Some(&by_digest), &by_digest, true),
        (kind("matchExact"), Some("docker.io/library/x:1"), "x:1", true),
        (kind("matchExact"), Some("docker.io/library/x:1"), "index.docker.io/x:1", true),
        (kind("matchExact"), Some("docker.io/library/x:1"), "X:1", false),
        (kind("matchExact"), Some("docker.io/library/x:1"), "", false),
        (kind("matchExact"), None, "example.com/a/b:1", false),
        (kind("matchRepoDigestOrExact"), Some("example.com/a/b:1"), "example.com/a/b:1", true),
        (kind("matchRepoDigestOrExact"), Some("example.com/a/b:1"), "example.com/a/b:2", false),
        (kind("matchRepoDigestOrExact"), Some("example.com/a/b:1"), &by_digest, false),
        (kind("matchRepoDigestOrExact"), Some(&by_digest), "example.com/a/b:7", true),
        (kind("matchRepoDigestOrExact"), Some(&by_digest), &by_digest, true),
        (kind("matchRepoDigestOrExact"), Some(&by_digest), "example.com/a/b", false),
        (kind("matchRepoDigestOrExact"), Some(&by_digest), &port_digest, false),
        (kind("matchRepoDigestOrExact"), Some(&by_digest), "example.com/a/bb:1", false),
        (kind("matchRepoDigestOrExact"), Some("example.com/a/b"), "example.com/a/b:1", false),
        (kind("matchRepoDigestOrExact"), None, "example.com/a/b:1", false),
        (kind("matchRepository"), Some("example.com/a/b:1"), "example.com/a/b:2", true),
        (kind("matchRepository"), Some("example.com/a/b:1"), "example.com/a/b", true),
        (kind("matchRepository"), Some("example.com/a/b:1"), "example.com:5000/a/b:1", false),
        (kind("matchRepository"), Some("example.com/a/b:1"), "example.com/a/b/c:1", false),
        (kind("matchRepository"), None, "example.com/a/b:1", false),
        (reference("example.com/a/b:1"), None, "example.com/a/b:1", true),
        (reference("example.com/a/b:1"), Some("other.com/x:9"), "example.com/a/b:1", true),
        (reference("example.com/a/b:1"), None, "example.com/a/b:2", false),
        (reference("example.com/a/b:1"), None, "example.com/a/b", false),
        (reference("x:1"), None, "docker.io/library/x:1", true),
        (repository("example.com/a/b"), None, "example.com/a/b:2", true),
        (repository("example.com/a/b:9"), None, "example.com/a/b:2", true),
        (repository("example.com/a/b"), None, "example.com/a/bb:2", false),
        (repository("example.com/a/b"), None, "example.com:80/a/b:2", false),
        (remap("mirror.local", "example.com"), Some("mirror.local/a/b:1"), "example.com/a/b:1", true),
        (remap("mirror.local", "example.com"), Some("mirror.local/a/b:1"), "mirror.local/a/b:1", false),
        (remap("mirror.local", "example.com"), Some("mirror.local/a/b:1"), "example.com/a/b:2", false),
        (remap("mirror.local", "example.com"), Some("mirror.local:5000/a/b:1"), "example.com/a/b:1", false),
        (remap("mirror.local", "example.com"), Some("mirror.local:5000/a/b:1"), "example.com:5000/a/b:1", false),
        (remap("mirror.local", "example.com"), Some("mirror.local:5000/a/b:1"), "mirror.local:5000/a/b:1", true),
        (remap("mirror.local:5000", "example.com"), Some("mirror.local:5000/a/b:1"), "example.com/a/b:1", true),
        (remap("mirror.local/a", "example.com/z"), Some("mirror.local/a/b:1"), "example.com/z/b:1", true),
        (remap("mirror.local/a", "example.com/z"), Some("mirror.local/ab/b:1"), "example.com/zb/b:1", false),
        (remap("mirror.local/a", "example.com/z"), Some("mirror.local/ab/b:1"), "mirror.local/ab/b:1", true),
        (remap("mirror.local/a/b", "example.com/z"), Some("mirror.local/a/b:1"), "example.com/z:1", true),
        (remap("mirror.local", "docker.io"), Some("mirror.local/x:1"), "docker.io/library/x:1", false),
        (remap("mirror.local", "docker.io/library"), Some("mirror.local/x:1"), "docker.io/library/x:1", true),
        (remap("mirror.local", "example.com"), Some("other.com/a/b:1"), "other.com/a/b:1", true),
        (remap("mirror.local", "example.com"), None, "example.com/a/b:1", false),
    ];
    for (rule, name, signed, accepted) in cases {
        let mut requirement = by(good);
        requirement["signedIdentity"] = rule.clone();
        let result = check(&requirement, name, NOW, &[sign(good, &payload(&digest, signed), &[])]);
        let why = || format!("{rule} for {name:?}, signed {signed}: {result:?}");
        assert_eq!(result.is_ok(), accepted, "{}", why());
        if let Err(error) = &result {
            assert!(error.to_string().contains("signature for identity"), "{}", why());
            let unnamed =
                "Docker reference match attempted on image docker://x with no known Docker reference identity";
            let unknown = name.is_none() && !rule["type"].as_str().unwrap().starts_with("exact");
            assert_eq!(error.to_string().contains(unnamed), unknown, "{}", why());
        }
    }
    // Without a rule it is matchRepoDigestOrExact.
    let digest_name = format!("example.com/a/b@{digest}");
    check(&by(good), Some(&digest_name), NOW, &[sign(good, &payload(&digest, "example.com/a/b:7"), &[])]).unwrap();
    let other = [sign(good, &payload(&digest, "example.com/a/b:7"), &[])];
    refused(check(&by(good), Some("example.com/a/b:1"), NOW, &other), "signature for identity");
}

/// F4: what was signed.
#[test]
fn payloads_that_lie() {
    let good = &keys().good;
    let text = good_payload();
    check(&by(good), Some(NAME), NOW, &[sign(good, &text, &[])]).expect("it is good");
    let other_digest = payload(&format!("sha256:{}", "0".repeat(64)), NAME);
    let sha512 = payload(&Algorithm::Sha512.digest(MANIFEST).to_string(), NAME);
    check(&by(good), Some(NAME), NOW, &[sign(good, &sha512, &[])]).expect("the same manifest by another hash");
    for (payload, why) in [
        (other_digest, "does not match"),
        (text.replace(r#"{"critical""#, r#"{"critical":{},"critical""#), "twice"),
        (text.replace("atomic container signature", "cosign container image signature"), "unknown signature type"),
        (text.replace(r#","type""#, r#","x":1,"type""#), "unknown key"),
        (format!("{text}x"), "trailing"),
        (String::new(), "not valid JSON"),
        (text.replace(r#""timestamp":1700000000"#, r#""timestamp":1.5"#), "not an integer"),
    ] {
        refused(check(&by(good), Some(NAME), NOW, &[sign(good, &payload, &[])]), why);
    }
}

/// F4: what stands around it.
#[test]
fn messages_that_lie() {
    let keys = keys();
    let Keys { gpg, good, other } = &*keys;
    let text = good_payload();
    let accepts = |signature: &[u8]| check(&by(good), Some(NAME), NOW, &[signature.to_vec()]);
    for algorithm in ["none", "zip", "zlib", "bzip2"] {
        let whole = sign(good, &text, &["--compress-algo", algorithm]);
        accepts(&whole).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        for end in 0..whole.len() {
            assert!(accepts(&whole[..end]).is_err(), "{algorithm}: {end} of {} bytes", whole.len());
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            // Some bytes decide nothing: the literal's time and name, or hints of who has signed.
            if accepts(&changed).is_ok() {
                let (signed, _) = holkas::signature::openpgp::read_untrusted(&changed).unwrap();
                assert_eq!(signed, text.as_bytes(), "{algorithm}: byte {at}");
            }
        }
        for more in [&b"\0"[..], b"x", b"\xff", &whole] {
            assert!(accepts(&[&whole[..], more].concat()).is_err(), "{algorithm}: followed by {more:?}");
        }
    }
    refused(accepts(&sign(good, &text, &["--digest-algo", "SHA1"])), "too weak");
    refused(accepts(&sign(good, &text, &["--textmode"])), "of a text");
    refused(accepts(&sign(good, &text, &["--armor"])), "no binary OpenPGP message");
    refused(accepts(&sign(good, &text, &["--local-user", other])), "OpenPGP message");
    let clear = gpg.run(&["--local-user", good, "--clear-sign"], text.as_bytes());
    refused(accepts(&clear), "no binary OpenPGP message");
    let detached = gpg.run(&["--local-user", good, "--detach-sign"], text.as_bytes());
    refused(accepts(&detached), "no OpenPGP message with one signature");
    let unsigned = gpg.run(&["--store"], text.as_bytes());
    refused(accepts(&unsigned), "no OpenPGP message with one signature");
    // The payload of one signature with the signature of another.
    let plain = |text: &str| sign(good, text, &["--compress-algo", "none"]);
    let (one, two) = (plain(&text), text.replace("b:1", "b:2"));
    let at = one.windows(text.len()).position(|part| part == text.as_bytes()).expect("it is not compressed");
    let swapped = [&one[..at], two.as_bytes(), &one[at + text.len()..]].concat();
    assert_eq!(swapped.len(), plain(&two).len());
    refused(accepts(&swapped), "not one of what it signs");
}

/// A small file that is large when it is decompressed.
#[test]
fn compressed_bombs() {
    let good = &keys().good;
    let huge = " ".repeat(64 << 20);
    for algorithm in ["zip", "zlib", "bzip2"] {
        let bomb = sign(good, &huge, &["--compress-algo", algorithm]);
        assert!(bomb.len() < 1 << 20, "{algorithm}: {}", bomb.len());
        refused(check(&by(good), Some(NAME), NOW, &[bomb]), "signature");
    }
    // Compressed again and again.
    let gpg = &keys().gpg;
    let nested = gpg.run(&["--store", "--compress-algo", "zlib"], &sign(good, &good_payload(), &[]));
    refused(check(&by(good), Some(NAME), NOW, &[nested]), "no OpenPGP message with one signature");
}

/// Keys and signatures that are over, revoked, or not for signing.
#[test]
fn keys_that_are_not_valid() {
    let gpg = Gpg::new();
    let text = good_payload();
    let (made, day) = (1_700_000_000, 86_400);
    let at = |time: i64| format!("{time}!");
    let then = at(made);
    let new =
        |user: &str, expires: &str| gpg.key_with(user, expires, &["--passphrase", "", "--faked-system-time", &then]);
    let by = |key: &str| {
        let data = STANDARD.encode(gpg.public(key));
        json!({ "type": "signedBy", "keyType": "GPGKeys", "keyData": data })
    };
    let sign = |key: &str, time: i64, options: &[&str]| {
        gpg.sign(key, text.as_bytes(), &[options, &["--faked-system-time", &at(time)]].concat())
    };
    let check =
        |requirement: &Value, now: i64, signature: &[u8]| check(requirement, Some(NAME), now, &[signature.to_vec()]);

    let brief = new("brief", "seconds=172800");
    let signature = sign(&brief, made + 10, &[]);
    check(&by(&brief), made + day, &signature).expect("it is valid for two days");
    refused(check(&by(&brief), made + 2 * day, &signature), "the key has expired");
    refused(check(&by(&brief), made - 1, &signature), "in the future");

    let lasting = new("lasting", "never");
    let signature = sign(&lasting, made + 10, &["--default-sig-expire", "1d"]);
    check(&by(&lasting), made + day, &signature).expect("it is valid for a day");
    refused(check(&by(&lasting), made + day + 10, &signature), "the signature has expired");

    // A subkey signs; its primary key may not be over, and it must be one to sign with.
    let subkey = gpg.subkey(&lasting, "sign", "seconds=172800");
    let signature = gpg.sign(&format!("{subkey}!"), text.as_bytes(), &[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    check(&by(&lasting), now, &signature).expect("a subkey signs for its primary key");
    refused(check(&by(&lasting), now + 3 * day, &signature), "the key has expired");
    let certifies = gpg.key_with("certifies", "never", &["--passphrase", ""]);
    let signature = gpg.sign(&certifies, text.as_bytes(), &[]);
    check(&by(&certifies), now, &signature).expect("it may sign");

    // Revoked keys.
    let certificate = std::fs::read(gpg.home().join(format!("openpgp-revocs.d/{certifies}.rev"))).unwrap();
    let certificate = String::from_utf8(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
    gpg.run(&["--import"], certificate.as_bytes());
    refused(check(&by(&certifies), now, &signature), "the key was revoked");
    let signature = gpg.sign(&format!("{subkey}!"), text.as_bytes(), &[]);
    check(&by(&lasting), now, &signature).expect("the other key is as it was");
}
