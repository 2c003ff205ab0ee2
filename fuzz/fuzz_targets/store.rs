//! Any bytes as a store's records: an error, or records that survive being written and read again.
#![no_main]

use holkas::storage::records::{ImageRecord, LayerRecord, encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(records) = parse::<LayerRecord>(bytes) {
        let written = encode(&records);
        let again = parse::<LayerRecord>(&written).expect("what we write, we read");
        assert_eq!(encode(&again), written);
    }
    if let Ok(records) = parse::<ImageRecord>(bytes) {
        let written = encode(&records);
        let again = parse::<ImageRecord>(&written).expect("what we write, we read");
        assert_eq!(encode(&again), written);
    }
});
