//! containers-storage: the graph root that podman, CRI-O and buildah read.

pub mod fields;
pub mod go_json;
pub mod names;
pub mod records;
pub mod state;
pub mod location;
pub mod reassemble;
