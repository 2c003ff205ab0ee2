//! The directories of a graph root and of a layer in it, and the names that depend on a layer's ID only.

use sha2::Digest as _;

use crate::error::Result;
use crate::fs::staging::sweep_files;
use crate::fs::{Dir, times};
use crate::reference::Driver;

/// The directories of one driver in a graph root.
#[derive(Debug)]
pub(super) struct Skeleton {
    pub(super) driver: Driver,
    /// `overlay` or `vfs`.
    pub(super) home: Dir,
    /// Where the layers are: `overlay` or `vfs/dir`.
    pub(super) layers_home: Dir,
    /// `overlay/l`; `None` for vfs.
    pub(super) links: Option<Dir>,
    /// `overlay-layers` or `vfs-layers`.
    pub(super) layers: Dir,
    /// `overlay-images` or `vfs-images`.
    pub(super) images: Dir,
}

impl Skeleton {
    /// Opens the directories, making those that are missing.
    pub(super) fn create(root: &Dir, driver: Driver) -> Result<Self> {
        let name = driver.name();
        let home = root.make(name, 0o700)?;
        let (layers_home, links) = match driver {
            Driver::Overlay => (home.reopen()?, Some(home.make("l", 0o755)?)),
            Driver::Vfs => (home.make("dir", 0o700)?, None),
        };
        Ok(Self {
            driver,
            layers_home,
            links,
            layers: root.make(format!("{name}-layers"), 0o700)?,
            images: root.make(format!("{name}-images"), 0o700)?,
            home,
        })
    }

    /// Says that the store knows no mount program. The caller holds the store's locks.
    pub(super) fn mark(&self) -> Result<()> {
        sweep_files(&self.home)?;
        match self.driver == Driver::Overlay && !self.home.exists(HAS_MOUNT_PROGRAM)? {
            true => self.home.write(HAS_MOUNT_PROGRAM, b"false", 0o600),
            false => Ok(()),
        }
    }

    /// Opens the directories if the store has been used with this driver.
    pub(super) fn open(root: &Dir, driver: Driver) -> Result<Option<Self>> {
        let name = driver.name();
        let (Some(home), Some(layers), Some(images)) = (
            root.sub_if_exists(name)?,
            root.sub_if_exists(format!("{name}-layers"))?,
            root.sub_if_exists(format!("{name}-images"))?,
        ) else {
            return Ok(None);
        };
        let (layers_home, links) = match driver {
            Driver::Overlay => (Some(home.reopen()?), home.sub_if_exists("l")?),
            Driver::Vfs => (home.sub_if_exists("dir")?, None),
        };
        Ok(layers_home.map(|layers_home| Self { driver, home, layers_home, links, layers, images }))
    }

    /// Gives all directories that were written to the one time, so that the same input leaves the same store.
    pub(super) fn set_times(&self, root: &Dir, clock: i64) -> Result<()> {
        if self.driver == Driver::Overlay && self.home.exists(HAS_MOUNT_PROGRAM)? {
            times::set(&self.home, HAS_MOUNT_PROGRAM.as_bytes(), clock)?;
        }
        for dir in self.links.iter().chain([&self.layers_home, &self.home, &self.layers, &self.images, root]) {
            times::set_own(dir, clock)?;
        }
        Ok(())
    }
}

/// Absent, c/storage walks the whole tree for signs of fuse-overlayfs, and image content can look like one.
const HAS_MOUNT_PROGRAM: &str = ".has-mount-program";

/// Returns the short name of a layer in `overlay/l`: 26 letters of base32, as c/storage draws at random.
///
/// It must be unique in every store that this one may be combined with, so it depends on the layer's ID alone.
pub(super) fn link_name(layer: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = sha2::Sha256::digest(format!("link{layer}"));
    let bit = |n: usize| hash[n / 8] >> (7 - n % 8) & 1;
    (0..26).map(|n| char::from(ALPHABET[(0..5).fold(0, |sum, k| sum << 1 | usize::from(bit(n * 5 + k)))])).collect()
}

/// Returns the name of a layer's tar-split file.
pub(super) fn split_name(layer: &str) -> String {
    format!("{layer}.tar-split.gz")
}
