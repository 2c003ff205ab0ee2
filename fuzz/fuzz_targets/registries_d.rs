//! Any bytes as a file of registries.d, and names by it: an error, or places whose addresses can be shown.
#![no_main]

use holkas::reference::Name;
use holkas::registry::conf::ConfFile;
use holkas::registry::registries_d::{Base, RegistriesD, Use};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = |path: &str| ConfFile { path: path.into(), bytes: bytes.to_vec() };
    let Ok(conf) = RegistriesD::parse(&[file("fuzzed.yaml")], None) else { return };
    for name in ["a.example.com/b/c:1", "docker.io/library/x:1", "localhost:5000/x:1"] {
        let name: Name = name.parse().expect("a name");
        conf.attachments(&name);
        for purpose in [Use::Read, Use::Write] {
            let Ok(Some(lookaside)) = conf.lookaside(&name, purpose) else { continue };
            let said = lookaside.said.as_ref().expect("nothing is built in");
            assert!(said.line > 0 && !said.key.is_empty());
            match &lookaside.base {
                Base::Dir(dir) => assert!(dir.is_absolute()),
                Base::Web(address, _) => assert!(address.contains("://")),
            }
        }
    }
});
