//! `holkas is-manifest-list FILE`

use holkas::error::{Context, Result};
use holkas::fs::display;
use holkas::limits::MANIFEST;
use holkas::oci::{Algorithm, Document};
use holkas::verify::UntrustedBlob;

use crate::{cli, output};

/// Prints whether the document is a manifest list.
pub(crate) fn run(arguments: &cli::IsManifestList) -> Result<()> {
    let bytes = super::read_document(&arguments.file, MANIFEST)?;
    let document = UntrustedBlob::from_bytes(bytes)
        .identify(Algorithm::Sha256, None, MANIFEST)
        .and_then(Document::parse)
        .context(|| format!("reading `{}`", display(&arguments.file)))?;
    output::line(if matches!(document, Document::Index(_)) { "true" } else { "false" })
}
