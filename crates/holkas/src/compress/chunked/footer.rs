//! The end of a zstd:chunked layer: table of contents, tar-split and footer, and the annotations that lead there.

use std::collections::BTreeMap;

use super::frames::Frames;
use super::toc::{Parts, TYPE};
use crate::error::Result;
use crate::oci::Algorithm;

/// The digest of the table of contents, as it is in the layer, compressed.
pub(super) const TOC_DIGEST: &str = "io.github.containers.zstd-chunked.manifest-checksum";
/// Where it is: `offset:length:uncompressed length:type`.
pub(super) const TOC_PLACE: &str = "io.github.containers.zstd-chunked.manifest-position";
/// Where the tar-split is: `offset:length:uncompressed length`.
const TAR_SPLIT_PLACE: &str = "io.github.containers.zstd-chunked.tarsplit-position";
/// The digest of the tar-split. Later readers have it from the table of contents instead.
const TAR_SPLIT_DIGEST: &str = "io.github.containers.zstd-chunked.tarsplit-checksum";
/// The first two, as containers/storage 1.43 and older name them: Debian 12's podman and skopeo know no others.
const OLD_TOC_DIGEST: &str = "io.containers.zstd-chunked.manifest-checksum";
const OLD_TOC_PLACE: &str = "io.containers.zstd-chunked.manifest-position";
/// What the layer ends with.
const MAGIC: &[u8; 8] = b"GNUlInUx";

/// Ends the layer, and returns its annotations.
pub(super) fn write(frames: &mut Frames<'_>, parts: &Parts) -> Result<BTreeMap<String, String>> {
    let Parts { toc, toc_plain, tar_split, tar_split_plain } = parts;
    let toc_offset = frames.skippable(toc)?;
    let tar_split_offset = frames.skippable(tar_split)?;
    let (toc_length, tar_split_length) = (toc.len() as u64, tar_split.len() as u64);
    let numbers = [toc_offset, toc_length, *toc_plain, TYPE, tar_split_offset, tar_split_length, *tar_split_plain];
    let mut footer: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    footer.extend_from_slice(MAGIC);
    frames.skippable(&footer)?;
    let digest = |bytes: &[u8]| Algorithm::Sha256.digest(bytes).to_string();
    let toc_place = format!("{toc_offset}:{toc_length}:{toc_plain}:{TYPE}");
    let annotations = [
        (TOC_DIGEST, digest(toc)),
        (TOC_PLACE, toc_place.clone()),
        (OLD_TOC_DIGEST, digest(toc)),
        (OLD_TOC_PLACE, toc_place),
        (TAR_SPLIT_DIGEST, digest(tar_split)),
        (TAR_SPLIT_PLACE, format!("{tar_split_offset}:{tar_split_length}:{tar_split_plain}")),
    ];
    Ok(annotations.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}
