//! Any bytes as a policy: an error or a policy, and one that accepts anything only if it says so.
#![no_main]

use holkas::image::PolicyIdentity;
use holkas::policy::Policy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(policy) = Policy::parse(bytes, "fuzzed") {
        let scopes = vec!["/a/b".to_owned(), "/a".to_owned()];
        let identity = PolicyIdentity { transport: "dir", scopes, docker_reference: None };
        if policy.demands(&identity, "dir:/a/b").is_ok_and(|demands| !demands.need_signatures()) {
            assert!(String::from_utf8_lossy(bytes).contains("insecure") || bytes.contains(&b'\\'));
        }
    }
});
