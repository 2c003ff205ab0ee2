//! Any bytes as a manifest, an index, or a config: an error or a value, and the raw bytes stay as they were.
#![no_main]

use holkas::limits::{CONFIG, MANIFEST};
use holkas::oci::schema1::{downgrade, upgraded_config};
use holkas::oci::{Algorithm, Document, ImageConfig};
use holkas::verify::UntrustedBlob;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let read = |limit| UntrustedBlob::from_bytes(bytes.to_vec()).identify(Algorithm::Sha256, None, limit);
    if let Ok(read) = read(MANIFEST) {
        assert_eq!(read.bytes(), bytes);
        if let Ok(Document::Schema1(schema1)) = Document::parse(read) {
            let _may_fail = schema1.steps().and_then(|steps| upgraded_config(&steps, &[]));
            let _may_fail = schema1.renamed("name", "tag");
        }
    }
    if let Ok(read) = read(CONFIG) {
        let _may_fail = ImageConfig::parse(read);
        let _may_fail = downgrade(bytes, &[], "", "");
    }
});
