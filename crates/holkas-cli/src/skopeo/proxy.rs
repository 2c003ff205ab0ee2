//! `skopeo experimental-image-proxy`.

use super::{Call, Failure, usage};
use crate::{cli, commands};

/// Serves on the socket that was inherited, until its other side is gone.
pub(crate) fn run(call: &Call<'_>) -> Result<(), Failure> {
    let given = call.given;
    if !call.arguments.is_empty() {
        return Err(usage("experimental-image-proxy takes no arguments"));
    }
    let sockfd = given.int("sockfd").unwrap_or(0);
    let arguments = cli::proxy::Proxy {
        sockfd: u16::try_from(sockfd).map_err(|_| usage(format!("--sockfd: {sockfd} is not a file descriptor")))?,
        shared_blob_dir: given.filled("shared-blob-dir").map(Into::into),
        require_signed: given.on("require-signed"),
        tls_details: given.filled("tls-details").map(Into::into),
        registry: call.registry("", "cred")?.into(),
        network: call.network(),
        ..cli::proxy::Proxy::default()
    };
    Ok(commands::proxy::run(&arguments, call.setting)?)
}
