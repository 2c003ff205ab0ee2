//! Writes the sample images to `samples/` in the root of the repository, or to the directory given.

use std::path::PathBuf;

fn main() {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples")), PathBuf::from);
    assert!(!path.join("images").exists(), "{} is there: remove it first", path.join("images").display());
    holkas_testkit::samples::write_samples(&path);
}
