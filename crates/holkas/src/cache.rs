//! The blob cache: whole, verified blobs that many images, runs and machines share.
