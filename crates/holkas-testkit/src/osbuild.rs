//! What osbuild does around its modules.

pub mod sandbox;
