//! Files of private keys, and signatures that are made with them.

use holkas::ErrorKind;
use holkas::reference::Name;
use holkas::signature::sigstore::{PrivateKey, PublicKey, SigstoreSigner};
use holkas::signature::{Kind, Signer, SigstoreSignature};
use serde_json::{Value, json};

use super::kit::{NAME, SIGNATURE, World, accepted, data, decide, encoded, manifest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

fn signer(key: PrivateKey) -> SigstoreSigner {
    SigstoreSigner::new(key, "key".to_string(), "holkas test".to_string(), 1)
}

fn sign(key: PrivateKey, name: &str) -> Result<SigstoreSignature, holkas::Error> {
    let name = Name::parse_normalised(name).unwrap();
    let signature = signer(key).sign(manifest().digest(), &name)?;
    match signature.kind()? {
        Kind::Sigstore(signature) => Ok(signature),
        other => panic!("{other:?}"),
    }
}

/// Returns the JSON within a key's file.
fn inside(file: &str) -> Value {
    let lines: String = file.lines().filter(|line| !line.starts_with("-----")).collect();
    serde_json::from_slice(&STANDARD.decode(lines).unwrap()).unwrap()
}

fn outside(json: &Value) -> String {
    let text = encoded(json.to_string());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n{}\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

/// The key is one that cosign made for the tests of podman: `test/e2e/testdata/sigstore-key.*` (Apache-2.0).
#[test]
fn a_key_of_cosign_signs() {
    let key = PrivateKey::from_file(&data("cosign.key"), b"sigstore pass").unwrap();
    assert_eq!(key.public_key().unwrap().1.as_bytes(), data("cosign.pub"));
    let signature = sign(key, NAME).unwrap();
    accepted(&json!({ "type": "sigstoreSigned", "keyData": encoded(data("cosign.pub")) }), &signature);
    let error = PrivateKey::from_file(&data("cosign.key"), b"sigstore pass\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[test]
fn a_new_key_is_kept_under_a_passphrase_and_openssl_accepts_what_it_signs() {
    let world = World::new();
    let (key, file) = PrivateKey::generate(b"pass").unwrap();
    let public = key.public_key().unwrap().1;
    assert!(file.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), "{file}");
    let document = inside(&file);
    assert_eq!(document["kdf"]["params"], json!({ "N": 65536, "r": 8, "p": 1 }));
    assert_ne!(PrivateKey::generate(b"pass").unwrap().1, file);

    let again = PrivateKey::from_file(file.as_bytes(), b"pass").unwrap();
    assert_eq!(again.public_key().unwrap().1, public);
    let signature = sign(again, NAME).unwrap();
    world.write("payload", &signature.payload);
    world.write("signature", STANDARD.decode(&signature.annotations[SIGNATURE]).unwrap());
    world.write("key.pub", &public);
    world.openssl("dgst -sha256 -verify key.pub -signature signature payload");
    assert_eq!(
        serde_json::from_slice::<Value>(&signature.payload).unwrap(),
        json!({
            "critical": {
                "identity": { "docker-reference": NAME },
                "image": { "docker-manifest-digest": manifest().digest().to_string() },
                "type": "cosign container image signature",
            },
            "optional": { "creator": "holkas test", "timestamp": 1 },
        })
    );
    accepted(&json!({ "type": "sigstoreSigned", "keyPath": world.path("key.pub") }), &signature);
    let other = PrivateKey::generate(b"").unwrap().0.public_key().unwrap().1;
    assert!(decide(&json!({ "type": "sigstoreSigned", "keyData": encoded(other) }), &signature).is_err());

    for wrong in [&b""[..], b"Pass", b"pass "] {
        let error = PrivateKey::from_file(file.as_bytes(), wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    }
    // A name without a tag and a digest says of no image what it is.
    let error = sign(key, "registry.example/team/app").unwrap_err();
    assert!(error.to_string().contains("only with a tag or a digest"), "{error}");
}

#[test]
fn damaged_and_hostile_key_files_are_refused() {
    let (_, file) = PrivateKey::generate(b"pass").unwrap();
    let document = inside(&file);
    assert!(PrivateKey::from_file(outside(&document).as_bytes(), b"pass").is_ok());
    let changed = |path: &[&str], value: Value| {
        let mut document = document.clone();
        *path.iter().fold(&mut document, |value, key| &mut value[*key]) = value;
        outside(&document)
    };
    let sealed = document["ciphertext"].as_str().unwrap();
    let mut bytes = STANDARD.decode(sealed).unwrap();
    bytes[20] ^= 1;
    for (file, kind) in [
        // Gigabytes of memory, or hours of time.
        (changed(&["kdf", "params", "N"], json!(1_u64 << 30)), ErrorKind::Unsupported),
        (changed(&["kdf", "params", "r"], json!(1 << 20)), ErrorKind::Unsupported),
        (changed(&["kdf", "params", "p"], json!(1 << 20)), ErrorKind::Unsupported),
        (changed(&["kdf", "params", "N"], json!(16384)), ErrorKind::Unsupported),
        (changed(&["kdf", "params", "more"], json!(1)), ErrorKind::Unsupported),
        (changed(&["kdf", "name"], json!("none")), ErrorKind::Unsupported),
        (changed(&["cipher", "name"], json!("none")), ErrorKind::Unsupported),
        (changed(&["cipher", "nonce"], json!("AAAA")), ErrorKind::Invalid),
        (changed(&["cipher", "nonce"], json!("*")), ErrorKind::Invalid),
        (changed(&["more"], json!("x")), ErrorKind::Invalid),
        (changed(&["ciphertext"], json!("")), ErrorKind::Unauthorized),
        (changed(&["ciphertext"], json!(STANDARD.encode(&bytes))), ErrorKind::Unauthorized),
        (outside(&json!([])), ErrorKind::Invalid),
        (file.replace("SIGSTORE", "RSA"), ErrorKind::Invalid),
        (format!("{file}{file}"), ErrorKind::Invalid),
        (String::new(), ErrorKind::Invalid),
    ] {
        let error = PrivateKey::from_file(file.as_bytes(), b"pass").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}\n{file}");
        assert!(error.to_string().starts_with("reading a private key: "), "{error}");
    }
    // The name of the block until 2023.
    assert!(PrivateKey::from_file(file.replace("SIGSTORE", "COSIGN").as_bytes(), b"pass").is_ok());
    // What never was under a passphrase is refused with what helps.
    let world = World::new();
    world.usual_key("plain");
    let error = PrivateKey::from_file(world.read("plain.key").as_bytes(), b"").unwrap_err();
    assert!(error.to_string().contains("it is a `PRIVATE KEY`"), "{error}");
    assert!(PublicKey::from_pem(b"").is_err());
}
