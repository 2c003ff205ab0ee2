//! Lies: small damages to files that were right.

use std::fs;
use std::path::{Path, PathBuf};

use crate::image::hex_of;

/// Inverts all bits of the byte at `offset`.
pub fn flip_byte(path: impl AsRef<Path>, offset: usize) {
    change(path.as_ref(), |bytes| {
        let length = bytes.len();
        *bytes.get_mut(offset).unwrap_or_else(|| panic!("no byte {offset} in a file of {length} bytes")) ^= 0xff;
    });
}

/// Inverts all bits of the byte in the middle.
pub fn flip_middle(path: impl AsRef<Path>) {
    let length = read(path.as_ref()).len();
    flip_byte(path, length / 2);
}

/// Cuts the file to its first `length` bytes.
pub fn truncate(path: impl AsRef<Path>, length: usize) {
    change(path.as_ref(), |bytes| {
        assert!(length < bytes.len(), "cutting {} bytes to {length} cuts nothing", bytes.len());
        bytes.truncate(length);
    });
}

/// Takes the last `count` bytes away.
pub fn drop_last(path: impl AsRef<Path>, count: usize) {
    let length = read(path.as_ref()).len();
    truncate(path, length.checked_sub(count).expect("the file has as many bytes"));
}

/// Adds bytes at the end.
pub fn append(path: impl AsRef<Path>, more: impl AsRef<[u8]>) {
    change(path.as_ref(), |bytes| bytes.extend_from_slice(more.as_ref()));
}

/// Puts other contents into the file, which must be there.
pub fn replace(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
    change(path.as_ref(), |bytes| *bytes = contents.as_ref().to_vec());
}

/// Replaces each `from` in a file by `to`; panics if there is none.
pub fn replace_text(path: impl AsRef<Path>, from: &str, to: &str) {
    let path = path.as_ref();
    change(path, |bytes| {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(from), "{} has no {from:?}", path.display());
        *bytes = text.replace(from, to).into_bytes();
    });
}

/// Changes the bytes of a file in any way.
pub fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = read(path);
    change(&mut bytes);
    fs::write(path, bytes).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}

/// Removes a file, which must be there.
pub fn remove(path: impl AsRef<Path>) {
    let path = path.as_ref();
    fs::remove_file(path).unwrap_or_else(|error| panic!("removing {}: {error}", path.display()));
}

/// Returns where an OCI layout keeps the blob of `digest`.
pub fn oci_blob(layout: impl AsRef<Path>, digest: &str) -> PathBuf {
    layout.as_ref().join("blobs/sha256").join(hex_of(digest))
}

/// Returns where a `dir:` keeps the blob of `digest`.
pub fn dir_blob(dir: impl AsRef<Path>, digest: &str) -> PathBuf {
    dir.as_ref().join(hex_of(digest))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}
