//! Any bytes as a signature, and as keys: an error, or what they say; never a good signature by a key that is not there.
#![no_main]

use holkas::signature::openpgp::{self, KeyRing};
use holkas::signature::payload::Payload;
use holkas::signature::{Kind, UntrustedSignature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let ring = KeyRing::parse([bytes]).unwrap_or_default();
    let signature = UntrustedSignature(bytes.to_vec());
    match signature.kind() {
        Ok(Kind::Simple(message)) => {
            if let Ok((payload, _)) = openpgp::read_untrusted(message) {
                let _unverified = Payload::parse(&payload);
            }
            assert!(openpgp::verify(message, &KeyRing::default(), 1_800_000_000).is_err());
            let _by_itself = openpgp::verify(message, &ring, 1_800_000_000);
        }
        Ok(Kind::Sigstore(_) | Kind::Unknown(_)) | Err(_) => {}
    }
    if let Ok(payload) = Payload::parse(bytes) {
        let again = Payload::parse(&payload.to_json()).expect("what was written can be read");
        assert_eq!(again, payload);
    }
});
