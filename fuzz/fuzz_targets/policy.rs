//! Any bytes as a policy: an error or a policy, and one that accepts anything only if it says so.
#![no_main]

use holkas::image::PolicyIdentity;
use holkas::policy::Policy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(policy) = Policy::parse(bytes, "fuzzed") {
        let identity = PolicyIdentity { transport: "dir", scopes: vec!["/a/b".to_owned(), "/a".to_owned()] };
        if policy.check(&identity, "dir:/a/b").is_ok() {
            assert!(String::from_utf8_lossy(bytes).contains("insecure") || bytes.contains(&b'\\'));
        }
    }
});
