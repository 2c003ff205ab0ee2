//! Every bound on memory and count, each with its reason.

use std::time::Duration;

use crate::error::{Error, Result};

/// A bound on the bytes of one thing that is read whole into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The greatest length that is still read, in bytes.
    pub bytes: u64,
    /// What the thing is, for the error.
    pub what: &'static str,
}

impl Limit {
    /// Returns an error of kind `Invalid` if `length` is over the limit.
    pub fn check(self, length: u64) -> Result<()> {
        if length <= self.bytes {
            return Ok(());
        }
        Err(Error::invalid(format!("{} of {length} bytes is over the limit of {} bytes", self.what, self.bytes)))
    }
}

const MIB: u64 = 1 << 20;

/// Manifests and indexes: what registries and containers/image accept.
pub const MANIFEST: Limit = Limit { bytes: 4 * MIB, what: "manifest" };
/// Image configs: as containers/image.
pub const CONFIG: Limit = Limit { bytes: 4 * MIB, what: "image config" };
/// One signature blob: as containers/image.
pub const SIGNATURE: Limit = Limit { bytes: 4 * MIB, what: "signature" };
/// Signatures of one manifest: a denial of service beyond any real use (CVE-2024-29902 class).
pub const SIGNATURES: usize = 128;
/// `manifest.json` and `repositories` of a docker-archive: as containers/image.
pub const ARCHIVE_MANIFEST: Limit = Limit { bytes: MIB, what: "manifest.json of the archive" };
/// `index.json` of an OCI layout: holds many images, so more than one manifest.
pub const LAYOUT_INDEX: Limit = Limit { bytes: 64 * MIB, what: "index.json" };
/// Configuration files of the user: policy.json, storage.conf, images.toml.
pub const CONFIGURATION: Limit = Limit { bytes: 16 * MIB, what: "configuration file" };
/// How long GnuPG may take to sign: it may ask a person for a passphrase, or for a touch of a key.
pub const GPG_TIME: Duration = Duration::from_secs(120);
/// The file with the passphrase of a secret key, as that of a typed secret.
pub const PASSPHRASE: Limit = Limit { bytes: 32 << 10, what: "passphrase file" };
/// A file of public keys: a key has some KiB, and a few hundred signatures by others at most.
pub const KEYS: Limit = Limit { bytes: 16 * MIB, what: "file of keys" };
/// The arguments of a stage of osbuild: some hundred bytes an image and list, of which real builds have hundreds.
pub const STAGE_ARGUMENTS: Limit = Limit { bytes: 64 * MIB, what: "file with the stage's arguments" };
/// One file of certs.d: a bundle of all public authorities has a quarter of a megabyte.
pub const CERTIFICATE: Limit = Limit { bytes: 4 * MIB, what: "certificate file" };
/// Files of one directory of certs.d: real ones have three.
pub const CERTIFICATE_FILES: usize = 1024;
/// `layers.json` and `images.json`: about 1 KiB a layer, so room for some hundred thousand.
pub const STORE_RECORDS: Limit = Limit { bytes: 512 * MIB, what: "store record file" };
/// Small files of a store: `link`, `lower` of 500 layers.
pub const STORE_TEXT: Limit = Limit { bytes: MIB, what: "file of the store" };
/// Entries of one index: real ones have tens; containers/image has no bound.
pub const INDEX_ENTRIES: usize = 4096;
/// Indexes within indexes.
pub const INDEX_DEPTH: usize = 4;
/// Layers of one image: containers-storage mounts 500 at most since 1.44.
pub const LAYERS: usize = 500;
/// Layers that every containers-storage in use can run: Debian 12's stops at 128.
pub const RUNNABLE_LAYERS: usize = 128;
/// One PAX or GNU long-name header: Go's and GNU tar's own bound on special files.
pub const TAR_EXTENSION: Limit = Limit { bytes: MIB, what: "extended tar header" };
/// One JSON object of tar-split: in base64 up to three extended headers, or what follows the tar in one piece.
pub const TAR_SPLIT_LINE: Limit = Limit { bytes: 16 * MIB, what: "object of the tar-split file" };
/// Places that one blob is tried from: a cache, a few mirrors, the registry itself, with room.
pub const PLACES: usize = 32;
/// One path inside a layer: the kernel's PATH_MAX, without which nothing could open it again.
pub const PATH: usize = 4096;
/// Entries of one layer: several times the largest real ones. Their names are known by 8 bytes each, to find doubles.
pub const LAYER_ENTRIES: u64 = 3_500_000;
/// Directories of one layer, whose paths and times are kept until all is written into them.
pub const LAYER_DIRECTORIES: usize = 500_000;
/// Different owners, or groups, of one layer: they are all written into the store's records.
pub const LAYER_OWNERS: usize = 65_536;
/// Paths of one image that upper layers remove from lower ones: a directory takes one, so real images have some thousands.
pub const IMAGE_WHITEOUTS: usize = 450_000;
/// Default access lists that are taken from directories while a lower layer is put into them: no known image has one.
pub const ACCESS_LISTS: Limit = Limit { bytes: 4 * MIB, what: "total of the access lists of directories" };
/// Entries of a docker-archive or oci-archive: three for each layer, with much room.
pub const ARCHIVE_ENTRIES: usize = 100_000;
/// Bytes that a zstd frame may ask us to keep as its window, as a power of two: what `zstd -d` accepts.
pub const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory of an xz decoder: what `xz -9` needs to decompress.
pub const XZ_MEMORY: u64 = 65 * MIB + MIB;
/// The buffer that bytes travel in, between the steps of the pipeline.
pub const CHUNK: usize = 256 << 10;
/// The file `version` of a `dir:`: 33 bytes, with room for what may come.
pub const DIR_VERSION: Limit = Limit { bytes: 4096, what: "version file" };
/// The file `oci-layout`: 30 bytes, with room for what may come.
pub const OCI_LAYOUT: Limit = Limit { bytes: 64 << 10, what: "oci-layout" };
/// An archive that is compressed or comes through a pipe, unpacked: larger than any image that people carry about.
pub const ARCHIVE_SPOOL: Limit = Limit { bytes: 1 << 40, what: "unpacked archive" };
/// auth.json and docker's config.json: some KiB each entry at most (identity tokens), so room for a thousand registries.
pub const AUTH_FILE: Limit = Limit { bytes: 4 * MIB, what: "auth file" };
/// What a credential helper says: a user and a secret, whose longest kinds (tokens of clouds) have some KiB.
pub const HELPER_OUTPUT: Limit = Limit { bytes: 256 << 10, what: "answer of the credential helper" };
/// How long a credential helper may take: it asks a keyring or one service, while a registry waits.
pub const HELPER_TIME: Duration = Duration::from_secs(10);
/// A user's name or password as typed: far beyond any, and below what a pipe takes at once.
pub const TYPED_SECRET: Limit = Limit { bytes: 32 << 10, what: "user name or password" };
/// What a registry or a token service answers beside content: as containers/image.
pub const ERROR_BODY: Limit = Limit { bytes: MIB, what: "error message of the server" };
/// The answer of a token service: as containers/image.
pub const TOKEN: Limit = Limit { bytes: MIB, what: "token" };
/// One page of tags or referrers.
pub const PAGE: Limit = Limit { bytes: 16 * MIB, what: "page of a list" };
/// Pages of one list: at the usual hundred entries a page more than any repository has.
pub const PAGES: usize = 100_000;
/// Entries of one list, which is kept in memory whole.
pub const LISTED: usize = 1_000_000;
/// Manifests that belong to what one copy takes along: real images have tens, and `index.json` must hold them all.
pub const REFERRERS: usize = 1024;
/// All their bytes, as a registry gets them at the end: they are a KiB or two each.
pub const REFERRER_DOCUMENTS: Limit =
    Limit { bytes: 64 * MIB, what: "total of all manifests that belong to the image" };
/// Referrers of referrers: a bill of materials, its signature, the signature's time stamp, and one to spare.
pub const REFERRER_DEPTH: usize = 4;
/// Blobs of one of them: one for each signature or statement, of which cosign itself has seen thousands as an attack.
pub const REFERRER_BLOBS: usize = 1000;
/// Pages of the list of what refers to one manifest: at four entries a page as many as there may be.
pub const REFERRER_PAGES: usize = 256;
/// Values within values in the YAML file of `sync`: four levels have a meaning there.
pub const YAML_DEPTH: usize = 16;
/// Memory of a compiled regular expression that chooses tags, in bytes: much more than any that a person writes.
pub const REGEX: usize = 1 << 20;
/// A message of osbuild's: all images of a manifest at once, some 200 bytes each, and the answer to them.
pub const OSBUILD_MESSAGE: Limit = Limit { bytes: 256 * MIB, what: "message from osbuild" };
