//! Any text as a reference: an error, or a value that prints as a text with the same meaning.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use holkas::reference::ImageReference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reference) = ImageReference::parse(OsStr::from_bytes(bytes)) {
        let printed = reference.to_string();
        if std::str::from_utf8(bytes).is_ok()
            && let Ok(again) = ImageReference::parse(&printed)
        {
            assert_eq!(again.to_string(), printed);
        }
    }
});
