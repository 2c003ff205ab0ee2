//! Any bytes as the YAML file of `sync`, and as a constraint on versions: an error or a value.
#![no_main]

use std::path::Path;

use holkas::sync::constraint::{Constraint, Version};
use holkas::sync::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for registry in yaml::parse(bytes, Path::new("fuzzed")).unwrap_or_default() {
        for repository in &registry.repositories {
            assert!(repository.name.tag().is_none() && repository.name.digest().is_none());
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let (constraint, tag) = text.split_once('\n').unwrap_or((&text, "1.2.3"));
    if let (Ok(constraint), Some(version)) = (constraint.parse::<Constraint>(), Version::of_tag(tag)) {
        let _either = constraint.accepts(&version);
    }
});
