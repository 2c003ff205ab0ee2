//! Any bytes as a store's tar-split: an error, or entries, and always an end.
#![no_main]

use holkas::storage::tar_split::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    while let Ok(Some(_)) = reader.read() {}
});
