//! Any bytes as a registries.conf, and names by it: an error, or places that are whole names.
#![no_main]

use holkas::reference::Name;
use holkas::registry::conf::{ConfFile, Purpose, RegistriesConf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = ConfFile { path: "fuzzed.conf".into(), bytes: bytes.to_vec() };
    for conf in [RegistriesConf::parse(Some(&file), &[]), RegistriesConf::parse(None, std::slice::from_ref(&file))] {
        let Ok(conf) = conf else { continue };
        for name in ["a.example.com/b/c:1", "docker.io/library/x:1", "localhost:5000/x:1"] {
            let name: Name = name.parse().expect("a name");
            for purpose in [Purpose::Pull, Purpose::Push, Purpose::List] {
                for endpoint in conf.endpoints(&name, purpose).unwrap_or_default() {
                    let printed = endpoint.name.to_string();
                    assert_eq!(printed.parse::<Name>().expect("a whole name"), endpoint.name);
                    assert_eq!(endpoint.name.tag(), Some("1"));
                    assert!(!endpoint.path().is_empty() && !endpoint.host().contains('/'));
                }
            }
        }
    }
});
