//! Docker's schema 1 as documents: what is made of a config, what a config is made of, and a signature that is valid.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holkas::limits::MANIFEST;
use holkas::oci::schema1::{EMPTY_LAYER, Schema1, downgrade, upgraded_config};
use holkas::oci::{Algorithm, DiffId, Digest, Document};
use holkas::verify::UntrustedBlob;
use serde_json::{Value, json};

fn digest(text: &str) -> Digest {
    Algorithm::Sha256.digest(text.as_bytes())
}

fn config() -> Value {
    json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:03Z", "config": {"Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": [digest("a").to_string(), digest("b").to_string()]},
        "history": [
            {"created": "2020-01-01T00:00:00Z", "created_by": "ADD"},
            {"created": "2020-01-01T00:00:01Z", "created_by": "ENV", "empty_layer": true, "author": "me"},
            {"created": "2020-01-01T00:00:02Z", "created_by": "RUN", "comment": "c"},
            {"created": "2020-01-01T00:00:03Z", "created_by": "CMD", "empty_layer": true},
        ],
    })
}

fn blobs() -> [(Digest, Digest); 2] {
    ["one", "two"].map(|text| (digest(text), digest(text)))
}

fn made() -> Schema1 {
    downgrade(config().to_string().as_bytes(), &blobs(), "name", "tag").unwrap()
}

fn parse(bytes: Vec<u8>) -> Schema1 {
    let raw = UntrustedBlob::from_bytes(bytes).identify(Algorithm::Sha256, None, MANIFEST).unwrap();
    let Document::Schema1(schema1) = Document::parse(raw).unwrap() else { panic!("not schema 1") };
    schema1
}

/// Holds the signature against its own key by the crypto of TLS.
fn assert_signed(schema1: &Schema1) {
    let bytes = schema1.raw().bytes();
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let signature = &document["signatures"][0];
    let decoded = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap();
    let protected: Value = serde_json::from_slice(&decoded(&signature["protected"])).unwrap();
    let length = usize::try_from(protected["formatLength"].as_u64().unwrap()).unwrap();
    let payload = [&bytes[..length], &decoded(&protected["formatTail"])].concat();
    assert_eq!(Algorithm::Sha256.digest(&payload), *schema1.digest());
    let message = format!("{}.{}", signature["protected"].as_str().unwrap(), URL_SAFE_NO_PAD.encode(&payload));
    let jwk = &signature["header"]["jwk"];
    let key = [vec![4], decoded(&jwk["x"]), decoded(&jwk["y"])].concat();
    // Two numbers, each with a zero before a first byte that would make it a negative one.
    let numbers = decoded(&signature["signature"]);
    let number = |bytes: &[u8]| {
        let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..];
        let sign = if bytes[0] >= 128 { vec![0] } else { Vec::new() };
        [vec![2, u8::try_from(sign.len() + bytes.len()).unwrap()], sign, bytes.to_vec()].concat()
    };
    let both = [number(&numbers[..32]), number(&numbers[32..])].concat();
    let encoded = [vec![0x30, u8::try_from(both.len()).unwrap()], both].concat();
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let wanted = rustls::SignatureScheme::ECDSA_NISTP256_SHA256;
    let (_, algorithms) = algorithms.mapping.iter().find(|(scheme, _)| *scheme == wanted).unwrap();
    let verifies = |message: &str| {
        algorithms.iter().any(|algorithm| algorithm.verify_signature(&key, message.as_bytes(), &encoded).is_ok())
    };
    assert!(verifies(&message));
    assert!(!verifies(&format!("{message}A")));
}

#[test]
fn what_is_made_is_signed_and_always_the_same() {
    let schema1 = made();
    assert_signed(&schema1);
    assert_eq!(schema1.raw().bytes(), made().raw().bytes());
    assert!(schema1.is_named("name", "tag") && !schema1.is_named("name", "") && !schema1.is_named("", "tag"));
    let renamed = schema1.renamed("other", "").unwrap();
    assert_signed(&renamed);
    assert!(renamed.is_named("other", ""));
    assert_ne!(renamed.digest(), schema1.digest());
    assert_eq!(renamed.renamed("name", "tag").unwrap().raw().bytes(), schema1.raw().bytes());
    // Hashes of all sizes.
    for n in 0..100 {
        assert_signed(&schema1.renamed(&n.to_string(), "").unwrap());
    }
}

#[test]
fn steps_there_and_back() {
    let schema1 = made();
    let empty = Algorithm::Sha256.digest(&EMPTY_LAYER);
    assert_eq!(schema1.layers(), [digest("one"), empty, digest("two"), empty]);
    let steps = schema1.steps().unwrap();
    assert_eq!(steps.iter().map(|step| step.empty).collect::<Vec<_>>(), [false, true, false, true]);
    let ids = [DiffId(digest("a")), DiffId(digest("b"))];
    let back: Value = serde_json::from_slice(&upgraded_config(&steps, &ids).unwrap()).unwrap();
    let mut wanted = config();
    // The newest step has the config in the place of what made it.
    wanted["history"][3].as_object_mut().unwrap().remove("created_by");
    assert_eq!(back, wanted);
}

#[test]
fn an_id_twice_in_a_row_is_one_step() {
    let document: Value = serde_json::from_slice(made().raw().bytes()).unwrap();
    let mut document = document.as_object().unwrap().clone();
    document.remove("signatures");
    for list in ["fsLayers", "history"] {
        let list = document[list].as_array_mut().unwrap();
        list.insert(0, list[0].clone());
    }
    let twice = parse(serde_json::to_vec(&document).unwrap());
    assert_eq!((twice.layers().len(), twice.steps().unwrap().len()), (5, 4));
    assert_eq!(twice.digest(), twice.raw().digest());
}

#[test]
fn configs_without_a_place_in_schema_1() {
    let refused = |config: &str, said: &str| {
        let error = downgrade(config.as_bytes(), &blobs(), "", "").unwrap_err().to_string();
        assert!(error.contains(said), "{said:?} is not in: {error}");
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut config = config();
        change(&mut config);
        config.to_string()
    };
    refused(&changed(&|config| config["history"] = Value::Null), "without a history");
    refused(&changed(&|config| config["history"] = json!([])), "without a history");
    refused(&changed(&|config| config["history"][1] = json!({})), "tells of 3 layers, but the manifest has 2");
    refused(&changed(&|config| config["history"][0]["empty_layer"] = true.into()), "tells of 1 layers");
    refused(&changed(&|config| config["history"][0]["created"] = "2020-01-01 00:00:00Z".into()), "is no time");
    let step = json!({"empty_layer": true});
    refused(&changed(&|config| config["history"] = vec![step.clone(); 1025].into()), "the limit is 1024");
    refused(r#"{"history":[],"history":[]}"#, "occurs twice");
    refused("[]", "an array");
}
