//! `holkas manifest-digest FILE`

use holkas::error::{Context, Result};
use holkas::fs::display;
use holkas::limits::MANIFEST;
use holkas::oci::document::manifest_digest;

use crate::{cli, output};

/// Prints the digest that the manifest is known by.
pub(crate) fn run(arguments: &cli::ManifestDigest) -> Result<()> {
    let bytes = super::read_document(&arguments.file, MANIFEST)?;
    let digest = manifest_digest(&bytes, arguments.algorithm, MANIFEST)
        .context(|| format!("computing the manifest digest of `{}`", display(&arguments.file)))?;
    output::line(digest.to_string())
}
