//! Names of files and directories in a graph root.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result, printable};
use crate::oci::Digest;

/// The item that holds the manifest by which an image is used.
pub const MANIFEST: &str = "manifest";
/// The item that holds the signatures of [`MANIFEST`].
pub const SIGNATURES: &str = "signatures";

/// Returns the key of the item that holds the manifest or index of this digest.
pub fn manifest_key(digest: &Digest) -> String {
    format!("{MANIFEST}-{digest}")
}

/// Returns the key of the item that holds the signatures of the manifest of this digest.
pub fn signature_key(digest: &Digest) -> String {
    format!("signature-{}", digest.hex())
}

/// Returns the name of the file that holds a big data item.
///
/// Keys of `.`, digits and lower-case letters stand for themselves, all others are in base64.
pub fn big_data_file(key: &str) -> Result<String> {
    let plain = key.bytes().all(|c| matches!(c, b'.' | b'0'..=b'9' | b'a'..=b'z'));
    let name = if plain { key.to_owned() } else { format!("={}", STANDARD.encode(key)) };
    if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > 255 {
        return Err(Error::invalid(format!("`{}` cannot be the key of a big data item", printable(key.as_bytes()))));
    }
    Ok(name)
}

/// Checks an ID from a record: it becomes a part of paths.
pub fn check_id(id: &str) -> Result<()> {
    let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if id.len() <= 128 && id.bytes().all(word) && id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
        return Ok(());
    }
    Err(Error::invalid(format!("`{}` is not an ID", printable(id.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_the_file_names_of_containers_storage() {
        let name = |key| big_data_file(key).unwrap();
        assert_eq!(name("manifest"), "manifest");
        assert_eq!(name("a.0"), "a.0");
        assert_eq!(name("manifest-sha256:ab"), "=bWFuaWZlc3Qtc2hhMjU2OmFi");
        assert_eq!(name("A"), "=QQ==");
        for bad in ["", ".", "..", "???", &"x".repeat(256)] {
            assert!(big_data_file(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        assert!(check_id(&"a".repeat(64)).is_ok());
        for bad in ["", ".", "..", "a/b", "../x", "a\0", "-x", &"a".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
