//! The image proxy: manifests and blobs for the program at the other end of a socket, by skopeo's protocol.
//!
//! See docs/image-proxy.md. One thread answers requests, one after the other, as the protocol has it; others fill pipes.

mod ahead;
mod body;
mod convert;
mod failure;
mod image;
mod images;
mod pipes;
mod reply;
mod request;
mod server;
mod spool;

use std::path::Path;

use holkas::error::Result;
use holkas::open::Rooms;
use holkas::policy::Policy;
use holkas::progress::Cancel;
use holkas::registry::Client;

use crate::seqpacket::Packets;

/// The version of the protocol: the first with error codes and `GetRawBlob`.
const VERSION: &str = "0.2.8";
/// The longest packet in either direction, in bytes: what clients have room for.
const PACKET: usize = 32 << 10;

/// What the proxy finds around it: asked for when it is needed, so that what is wrong is told to the client.
pub(crate) trait Surroundings {
    /// Returns the policy that decides which images are given away.
    fn policy(&self) -> Result<Policy>;

    /// Returns what opening images needs, but for registries.
    fn rooms(&self) -> Result<Rooms>;

    /// Returns how registries are spoken to.
    fn client(&self) -> Result<Client>;
}

/// Answers the requests that come in packets, until the client is gone or wants no more. `scratch` is for large files.
pub(crate) fn serve(packets: &Packets, around: &dyn Surroundings, scratch: &Path, cancel: &Cancel) -> Result<()> {
    std::thread::scope(|scope| {
        // A client may die while we wait for a registry, or for its own reading.
        scope.spawn(|| {
            packets.wait_for_the_end();
            cancel.cancel();
        });
        let served = server::serve(packets, around, scratch, cancel);
        packets.end();
        served
    })
}
