//! Signatures as cosign makes them: keys, a log, Fulcio and other authorities, and all that must be refused.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "sigstore/certificates.rs"]
mod certificates;
#[path = "sigstore/files.rs"]
mod files;
#[path = "sigstore/kit.rs"]
mod kit;

use holkas::ErrorKind;
use holkas::signature::UntrustedSignature;
use kit::{
    Entry, NAME, NOW, PROMISE, SIGNATURE, World, accepted, decide, decide_all, encoded, honest, manifest, payload,
    refused, sealed, with,
};
use serde_json::{Value, json};

fn by_key(public: &str) -> Value {
    json!({ "type": "sigstoreSigned", "keyData": encoded(public) })
}

#[test]
fn keys_of_all_kinds_verify_what_openssl_signed() {
    let world = World::new();
    let other = by_key(&world.usual_key("other"));
    for (name, options) in [
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
        ("rsa2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"),
    ] {
        let requirement = by_key(&world.key(name, options));
        let signature = world.signed_by(name);
        accepted(&requirement, &signature);
        refused(&other, &signature, "the signature was not made by this ECDSA P-256 key");
        let mut changed = signature.clone();
        changed.payload.insert(0, b' ');
        refused(&requirement, &changed, "the signature was not made by this");
    }
    // The old form of RSA keys.
    world.openssl("rsa -in rsa2048.key -RSAPublicKey_out -out old.pub");
    accepted(&by_key(&world.read("old.pub")), &world.signed_by("rsa2048"));
    // Ed25519 signs the message, not its digest.
    let requirement = by_key(&world.key("ed", "-algorithm ED25519"));
    world.write("message", honest());
    world.openssl("pkeyutl -sign -rawin -inkey ed.key -in message -out signature");
    let signature = sealed(&honest(), &std::fs::read(world.path("signature")).unwrap(), &[]);
    accepted(&requirement, &signature);
    refused(&other, &signature, "the signature was not made by this");
}

#[test]
fn keys_that_cannot_be_used_refuse_every_image_and_say_why() {
    let world = World::new();
    let good = world.usual_key("good");
    let signature = world.signed_by("good");
    world.certificate("holder", None, kit::LONG, &[]);
    let cases = [
        (world.key("small", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024"), "the RSA key cannot be used"),
        (world.key("koblitz", "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1"), "keys of this kind cannot"),
        (world.key("x", "-algorithm X25519"), "keys of this kind cannot"),
        (world.read("good.key"), "it is a `PRIVATE KEY`, not a public key"),
        (world.read("holder.pem"), "it is a `CERTIFICATE`, not a public key"),
        (format!("{good}{good}"), "it has 2 PEM blocks"),
        ("nothing".to_string(), "no public key in PEM form"),
        (good.replace("MFkw", "MFkx"), "not valid DER"),
        // A point that is not on the curve.
        (good.replacen(&good[100..102], if &good[100..102] == "AA" { "AB" } else { "AA" }, 1), "cannot be used"),
    ];
    for (key, why) in cases {
        refused(&by_key(&key), &signature, why);
        // A bad key beside a good one is bad: who finds it out when the good one is lost finds it out too late.
        let both = json!({ "type": "sigstoreSigned", "keyDatas": [encoded(&good), encoded(&key)] });
        refused(&both, &signature, why);
    }
    let absent = json!({ "type": "sigstoreSigned", "keyPath": world.path("absent.pub") });
    refused(&absent, &signature, "absent.pub");
}

#[test]
fn keys_come_from_files_and_lists() {
    let world = World::new();
    let (one, two) = (world.usual_key("one"), world.usual_key("two"));
    let signature = world.signed_by("two");
    for fields in [
        json!({ "keyPath": world.path("two.pub") }),
        json!({ "keyPaths": [world.path("one.pub"), world.path("two.pub")] }),
        json!({ "keyDatas": [encoded(&one), encoded(&two)] }),
    ] {
        let mut requirement = fields;
        requirement["type"] = "sigstoreSigned".into();
        accepted(&requirement, &signature);
    }
    let neither = json!({ "type": "sigstoreSigned", "keyPaths": [world.path("one.pub"), world.path("one.pub")] });
    refused(&neither, &signature, "none of the 2 keys fits");
}

/// F4: what is signed must be this image, by its name.
#[test]
fn a_good_signature_of_something_else_is_refused() {
    let world = World::new();
    let requirement = by_key(&world.usual_key("key"));
    let signed = |payload: &[u8]| sealed(payload, &world.sign("key", payload), &[]);
    let own = manifest().digest().to_string();
    accepted(&requirement, &signed(&payload(&own, NAME)));
    let other = own.replace(&own[10..14], if &own[10..14] == "0000" { "1111" } else { "0000" });
    refused(&requirement, &signed(&payload(&other, NAME)), "does not match");
    for name in ["registry.example/team/app:2", "registry.example/team/app", "registry.example/team/ap", "app:1", ""] {
        refused(&requirement, &signed(&payload(&own, name)), "is not accepted");
    }
    let mut repository = requirement.clone();
    repository["signedIdentity"] = json!({ "type": "matchRepository" });
    accepted(&repository, &signed(&payload(&own, "registry.example/team/app")));
    refused(&repository, &signed(&payload(&own, "registry.example/team/application")), "is not accepted");
    // A payload that could be read in two ways, or of simple signing, is refused although it is signed.
    let text = String::from_utf8(honest()).unwrap();
    let twice = text.replacen("{\"critical\"", "{\"critical\":{},\"critical\"", 1);
    refused(&requirement, &signed(twice.as_bytes()), "occurs twice");
    let simple = text.replace("cosign container image signature", "atomic container signature");
    refused(&requirement, &signed(simple.as_bytes()), "it is a `atomic container signature`");
    refused(&requirement, &signed(b"{}"), "`critical` is missing");
}

#[test]
fn one_good_signature_is_enough_and_others_do_not_count() {
    let world = World::new();
    let requirement = by_key(&world.usual_key("key"));
    world.usual_key("other");
    let (good, bad) = (UntrustedSignature::from(&world.signed_by("key")), (&world.signed_by("other")).into());
    let simple = UntrustedSignature(b"\x90\x0dsimple".to_vec());
    let mut attachment = world.signed_by("key");
    attachment.mime_type = "application/vnd.dsse.envelope.v1+json".to_string();
    let attachment = UntrustedSignature::from(&attachment);
    let damaged = UntrustedSignature(b"\0sigstore-json\n{}".to_vec());

    let all = [simple.clone(), damaged.clone(), bad, attachment.clone(), good];
    decide_all(&requirement, &all).unwrap();
    let why = |signatures: &[UntrustedSignature]| {
        let error = decide_all(&requirement, signatures).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        error.to_string()
    };
    assert!(why(&[]).contains("a signature was required, but no signature exists"));
    let counted = "no signature exists (1 non-sigstore signatures, 1 sigstore non-signature attachments)";
    assert!(why(&[simple, attachment]).contains(counted));
    assert!(why(&all[..3]).contains("none of the signatures were accepted, reasons: "));
    let error = decide_all(&requirement, &[damaged]).unwrap_err().to_string();
    assert!(error.contains("reading a sigstore signature"), "{error}");
}

#[test]
fn damaged_parts_are_refused() {
    let world = World::new();
    let requirement = by_key(&world.usual_key("key"));
    let signature = world.signed_by("key");
    let own = signature.annotations[SIGNATURE].clone();
    refused(&requirement, &with(&signature, SIGNATURE, None), "`dev.cosignproject.cosign/signature` is missing");
    refused(&requirement, &with(&signature, SIGNATURE, Some("*")), "not base64");
    refused(&requirement, &with(&signature, SIGNATURE, Some("")), "was not made by this");
    refused(&requirement, &with(&signature, SIGNATURE, Some(&encoded(own.as_bytes()))), "was not made by this");
    accepted(&requirement, &with(&signature, SIGNATURE, Some(&format!("{}\n{}\n", &own[..20], &own[20..]))));
}

/// F6: a log's promise must be about this signature, by this key, of this payload.
#[test]
fn a_log_must_have_the_signature() {
    let world = World::new();
    let public = world.usual_key("key");
    let other = world.usual_key("other");
    let log = world.usual_key("log");
    world.usual_key("false-log");
    let requirement =
        |logs: Value| json!({ "type": "sigstoreSigned", "keyData": encoded(&public), "rekorPublicKeyDatas": logs });
    let requirement_of_log = requirement(json!([encoded(&other), encoded(&log)]));
    let signature = world.signed_by("key");
    let promised = |entry: &Entry, log: &str| with(&signature, PROMISE, Some(&entry.promise(&world, log)));
    let entry = || Entry::of(&public, &signature, NOW);
    let good = promised(&entry(), "log");
    accepted(&requirement_of_log, &good);
    accepted(&by_key(&public), &good);
    // Of two keys, the one that the log names is the one that counts.
    let two = json!({ "type": "sigstoreSigned", "keyDatas": [encoded(&other), encoded(&public)], "rekorPublicKeyData": encoded(&log) });
    accepted(&two, &good);

    refused(&requirement_of_log, &signature, "`dev.sigstore.cosign/bundle` is missing");
    refused(&requirement_of_log, &promised(&entry(), "false-log"), "none of the logs");
    for (changed, why) in [
        (Entry { signer: other.clone(), ..entry() }, "another key or certificate"),
        (Entry { signature: world.sign("key", b"else"), ..entry() }, "another signature"),
        (Entry { payload: b"else".to_vec(), ..entry() }, "something else that was signed"),
        (Entry { kind: "rekord", ..entry() }, "it is a `rekord 0.0.1`"),
        (Entry { version: "0.0.2", ..entry() }, "it is a `hashedrekord 0.0.2`"),
        (Entry { algorithm: "sha512", ..entry() }, "its hash is `sha512`"),
        (Entry { signer: format!("{public}{public}"), ..entry() }, "it has 2 PEM blocks"),
        (Entry { time: -1, ..entry() }, "`integratedTime`"),
        (Entry { time: 1 << 53, ..entry() }, "`integratedTime`"),
    ] {
        refused(&requirement_of_log, &promised(&changed, "log"), why);
    }
    let promise = good.annotations[PROMISE].clone();
    for (from, to, why) in [
        ("\"integratedTime\":1", "\"integratedTime\":2", "none of the logs"),
        ("\"logIndex\":7", "\"logIndex\":8", "none of the logs"),
        ("\"logID\":\"c0d2\"", "\"logID\":\"c0d3\"", "none of the logs"),
        ("\"logID\":\"c0d2\",", "", "`logID` is missing"),
        ("\"logIndex\":7", "\"logIndex\":7.0", "`logIndex`"),
        ("\"logIndex\":7", "\"logIndex\":7,\"logIndex\":7", "occurs twice"),
        ("\"Payload\":{", "\"Payload\":{\"more\":1,", "unknown key `more`"),
        ("{\"Signed", "{\"more\":1,\"Signed", "unknown key `more`"),
        ("{\"Signed", "{\"signed", "is missing"),
        ("\"body\":\"", "\"body\":\"A", "none of the logs"),
    ] {
        let changed = promise.replacen(from, to, 1);
        assert_ne!(changed, promise, "{from}");
        refused(&requirement_of_log, &with(&good, PROMISE, Some(&changed)), why);
    }
    // The log's word is not enough: the key must have signed.
    let mut unsigned = sealed(&honest(), b"no signature", &[]);
    unsigned = with(&unsigned, PROMISE, Some(&Entry::of(&public, &unsigned, NOW).promise(&world, "log")));
    refused(&requirement_of_log, &unsigned, "was not made by this");
    // Logs sign with ECDSA.
    let rsa = world.key("rsa", "-algorithm RSA");
    refused(&requirement(json!([encoded(rsa)])), &good, "must be ECDSA");
}

#[test]
fn requirements_are_read_strictly() {
    let key = "eA==";
    let fulcio = json!({ "caData": key, "oidcIssuer": "i", "subjectEmail": "e" });
    let pki = json!({ "caRootsData": key, "subjectEmail": "e" });
    let without = |object: &Value, name: &str| {
        let mut object = object.clone();
        object.as_object_mut().unwrap().remove(name);
        object
    };
    let plus = |object: &Value, name: &str, value: Value| {
        let mut object = object.clone();
        object[name] = value;
        object
    };
    let (base, log) = (json!({ "type": "sigstoreSigned" }), "rekorPublicKeyData");
    let parse = |requirement: &Value| decide_all(requirement, &[]).expect_err("unsigned images are refused");
    for good in [
        plus(&base, "keyPath", "/k".into()),
        plus(&base, "keyPaths", json!(["/k"])),
        plus(&base, "keyData", key.into()),
        plus(&base, "keyDatas", json!([key])),
        plus(&plus(&base, "keyData", key.into()), log, key.into()),
        plus(&plus(&base, "fulcio", fulcio.clone()), log, key.into()),
        plus(&plus(&base, "fulcio", plus(&without(&fulcio, "caData"), "caPath", "/c".into())), log, key.into()),
        plus(&base, "pki", pki.clone()),
        plus(&base, "pki", plus(&pki, "subjectHostname", "h.example".into())),
        plus(&base, "pki", plus(&pki, "caIntermediatesPath", "/c".into())),
    ] {
        let error = parse(&good);
        assert_eq!(error.kind(), ErrorKind::Refused, "{good}: {error}");
    }
    let one = plus(&base, "keyData", key.into());
    for bad in [
        base.clone(),
        plus(&one, "keyPath", "/k".into()),
        plus(&one, "fulcio", fulcio.clone()),
        plus(&one, "pki", pki.clone()),
        plus(&one, "unknown", 1.into()),
        plus(&one, "keydata", key.into()),
        plus(&base, "keyData", "*".into()),
        plus(&base, "keyData", 1.into()),
        plus(&base, "keyPath", "".into()),
        plus(&base, "keyPaths", json!([])),
        plus(&base, "keyPaths", json!([1])),
        plus(&base, "keyPaths", "/k".into()),
        plus(&base, "keyDatas", json!([])),
        plus(&base, "keyDatas", json!(["*"])),
        plus(&one, "signedIdentity", json!({ "type": "other" })),
        plus(&plus(&one, log, key.into()), "rekorPublicKeyPath", "/r".into()),
        plus(&one, "rekorPublicKeyPaths", json!([])),
        plus(&base, "fulcio", fulcio.clone()),
        plus(&base, log, key.into()),
        plus(&plus(&base, "fulcio", plus(&fulcio, "caPath", "/c".into())), log, key.into()),
        plus(&plus(&base, "fulcio", without(&fulcio, "caData")), log, key.into()),
        plus(&plus(&base, "fulcio", without(&fulcio, "oidcIssuer")), log, key.into()),
        plus(&plus(&base, "fulcio", without(&fulcio, "subjectEmail")), log, key.into()),
        plus(&plus(&base, "fulcio", plus(&fulcio, "subjectEmail", "".into())), log, key.into()),
        plus(&plus(&base, "fulcio", plus(&fulcio, "more", 1.into())), log, key.into()),
        plus(&plus(&base, "fulcio", json!([])), log, key.into()),
        plus(&plus(&base, "pki", pki.clone()), log, key.into()),
        plus(&base, "pki", without(&pki, "subjectEmail")),
        plus(&base, "pki", without(&pki, "caRootsData")),
        plus(&base, "pki", plus(&pki, "caRootsPath", "/c".into())),
        plus(&base, "pki", plus(&plus(&pki, "caIntermediatesPath", "/c".into()), "caIntermediatesData", key.into())),
        plus(&base, "pki", plus(&pki, "oidcIssuer", "i".into())),
    ] {
        let error = parse(&bad);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}: {error}");
    }
}

/// The file is that of a real signature: by Fulcio's certificate for a person, in the log of all of sigstore.
///
/// From containers/image, `signature/fixtures/fulcio-*` and `signature/internal/testdata/rekor-*` (Apache-2.0).
#[test]
fn a_real_signature_of_fulcio_and_rekor_verifies() {
    use holkas::signature::sigstore::{Authorities, Fulcio, Logs, PublicKey, Trust};

    let text = |name: &str| String::from_utf8(kit::data(name)).unwrap();
    let trust = |issuer: &str, email: &str| {
        let fulcio = Fulcio {
            authorities: Authorities::from_pem(&kit::data("fulcio-chain.pem")).unwrap(),
            oidc_issuer: issuer.to_string(),
            subject_email: email.to_string(),
        };
        Trust::Fulcio(fulcio, Logs::new(vec![PublicKey::from_pem(&kit::data("rekor.pub")).unwrap()]).unwrap())
    };
    let (issuer, email) = ("https://github.com/login/oauth", "mitr@redhat.com");
    let signature = kit::sealed(
        &kit::data("payload.json"),
        b"",
        &[
            (PROMISE, &text("promise.json")),
            (kit::CERTIFICATE, &text("fulcio-certificate.pem")),
            (kit::CHAIN, &text("fulcio-chain.pem")),
        ],
    );
    let signature = with(&signature, SIGNATURE, Some(&text("signature.base64")));
    let says = trust(issuer, email).verify(&signature, NOW).unwrap();
    assert_eq!(says.identity, "192.168.64.2:5000/test-repo-2100826901021538654/alpine");
    assert_eq!(says.manifest.short(), "sha256:fa93b01658e3…");
    for (issuer, email) in [(issuer, "other@redhat.com"), ("https://github.com/login", email)] {
        assert_eq!(trust(issuer, email).verify(&signature, NOW).unwrap_err().kind(), ErrorKind::Mismatch);
    }
    let promise = text("promise.json").replace("1670870899", "1670870900");
    let error = trust(issuer, email).verify(&with(&signature, PROMISE, Some(&promise)), NOW).unwrap_err();
    assert!(error.to_string().contains("none of the logs"), "{error}");
}

/// F6: a policy that needs an identity gets one from no signature that lacks it.
#[test]
fn a_signature_without_identity_is_refused_where_one_is_needed() {
    let world = World::new();
    world.authority("root", None);
    let log = world.usual_key("log");
    let public = world.usual_key("key");
    let signature = world.signed_by("key");
    let promised = with(&signature, PROMISE, Some(&Entry::of(&public, &signature, NOW).promise(&world, "log")));
    let fulcio = json!({
        "type": "sigstoreSigned",
        "fulcio": { "caPath": world.path("root.pem"), "oidcIssuer": kit::ISSUER, "subjectEmail": kit::EMAIL },
        "rekorPublicKeyData": encoded(log),
    });
    refused(&fulcio, &promised, "`dev.sigstore.cosign/certificate` is missing");
    refused(&fulcio, &with(&promised, kit::CERTIFICATE, Some(&public)), "it is no certificate");
    let pki = json!({
        "type": "sigstoreSigned",
        "pki": { "caRootsPath": world.path("root.pem"), "subjectEmail": kit::EMAIL },
    });
    assert!(decide(&pki, &promised).unwrap_err().to_string().contains("certificate` is missing"));
}
