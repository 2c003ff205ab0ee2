//! `holkas merge-manifest LIST DIR OUT`

use holkas::Result;
use holkas::containers::merge_manifest;

use crate::cli;

/// Writes the image directory with its list.
pub(crate) fn run(arguments: &cli::MergeManifest) -> Result<()> {
    merge_manifest(&arguments.list, &arguments.dir, &arguments.out)
}
