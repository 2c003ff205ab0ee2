//! containers-storage: the graph root that podman, CRI-O and buildah read.

pub mod delete;
pub mod fields;
pub mod go_json;
pub mod location;
pub mod names;
pub mod reassemble;
pub mod records;
pub mod source;
pub mod state;
pub mod store;
pub mod tar_split;
