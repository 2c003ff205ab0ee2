//! Any bytes as what a sigstore signature brings along, and as keys and certificates of a policy: none is good.
#![no_main]

use holkas::signature::sigstore::{Authorities, Fulcio, Logs, Parameters, Payload, Pki, PublicKey, Subject, Trust};
use holkas::signature::{Kind, SigstoreSignature, UntrustedSignature};
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = include_bytes!("../../crates/holkas/tests/sigstore/data/rekor.pub");
const CERTIFICATE: &[u8] = include_bytes!("../../crates/holkas/tests/sigstore/data/fulcio-certificate.pem");
const CHAIN: &[u8] = include_bytes!("../../crates/holkas/tests/sigstore/data/fulcio-chain.pem");
const PROMISE: &[u8] = include_bytes!("../../crates/holkas/tests/sigstore/data/promise.json");

/// Returns bytes as a PEM block, so that the fuzzer need not learn base64.
fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= three.len() { digit } else { b'=' });
        }
    }
    text.extend(format!("\n-----END {label}-----\n").bytes());
    text
}

fuzz_target!(|bytes: &[u8]| {
    let _ = Payload::parse(bytes);
    let _ = Parameters::parse(bytes, std::path::Path::new("p.yaml"));
    for text in [bytes.to_vec(), pem("PUBLIC KEY", bytes)] {
        if let Ok(key) = PublicKey::from_pem(&text) {
            assert!(key.verify(b"message", bytes).is_err());
        }
    }
    for text in [bytes.to_vec(), pem("CERTIFICATE", bytes)] {
        let _ = Authorities::from_pem(&text);
    }
    if let Ok(Kind::Sigstore(signature)) = UntrustedSignature([b"\0sigstore-json\n", bytes].concat()).kind() {
        let key = PublicKey::from_pem(KEY).expect("it is a key");
        assert!(Trust::Keys(vec![key], None).verify(&signature, 0).is_err());
    }

    // Each part in turn is what was fuzzed, beside others that are real.
    let own = String::from_utf8_lossy(bytes).into_owned();
    let certificate = String::from_utf8_lossy(&pem("CERTIFICATE", bytes)).into_owned();
    let real = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let authorities = || Authorities::from_pem(CHAIN).expect("they are authorities");
    let key = || PublicKey::from_pem(KEY).expect("it is a key");
    let email = "mitr@redhat.com".to_string();
    let fulcio = Fulcio {
        authorities: authorities(),
        oidc_issuer: "https://github.com/login/oauth".to_string(),
        subject_email: email.clone(),
    };
    let pki = Pki { authorities: authorities(), intermediates: None, subject: Subject::Email(email) };
    for trust in [Trust::Fulcio(fulcio, Logs::new(vec![key()]).expect("one")), Trust::Pki(pki)] {
        for (promise, certificate, chain) in [
            (&own, &real(CERTIFICATE), &real(CHAIN)),
            (&real(PROMISE), &certificate, &real(CHAIN)),
            (&real(PROMISE), &own, &real(CHAIN)),
            (&real(PROMISE), &real(CERTIFICATE), &certificate.repeat(2)),
            (&real(PROMISE), &real(CERTIFICATE), &own),
        ] {
            let annotations = [
                ("dev.cosignproject.cosign/signature".to_string(), "AAAA".to_string()),
                ("dev.sigstore.cosign/bundle".to_string(), promise.clone()),
                ("dev.sigstore.cosign/certificate".to_string(), certificate.clone()),
                ("dev.sigstore.cosign/chain".to_string(), chain.clone()),
            ];
            let signature = SigstoreSignature {
                mime_type: String::new(),
                payload: bytes.to_vec(),
                annotations: annotations.into(),
            };
            assert!(trust.verify(&signature, 1_670_870_899).is_err());
        }
    }
});
