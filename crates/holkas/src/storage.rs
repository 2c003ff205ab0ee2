//! The `containers-storage:` room: the graph root that podman, CRI-O, buildah and skopeo share.
//!
//! ```text
//! G/                                    the graph root
//!   overlay/l/<26>  -> ../<L>/diff      short names of layers, a function of the layer's ID
//!   overlay/<L>/{diff,link,lower,lower-layers,work,merged,empty}
//!   overlay-layers/{layers.lock,layers.json,<L>.tar-split.gz}
//!   overlay-images/{images.lock,images.json}
//!   overlay-images/<I>/{manifest,=base64(key)…}
//!   vfs/dir/<L>/                        with the vfs driver: a layer with all below it, as a plain tree
//! ```

pub mod delete;
pub mod destination;
pub mod fields;
pub mod go_json;
mod layer;
pub mod location;
pub mod names;
mod publish;
pub mod reassemble;
pub mod records;
mod skeleton;
pub mod source;
pub mod state;
pub mod store;
mod vfs;

pub use crate::tar::split as tar_split;
