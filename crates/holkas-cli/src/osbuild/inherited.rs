//! The socket that osbuild leaves open for a service, under the number that it says.
#![allow(unsafe_code, reason = "a descriptor that is only known by its number has no owner yet")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use holkas::error::{Context, Error, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Takes the inherited socket of this number, which must be of the kind that osbuild makes. Called once for a number.
pub(super) fn socket(number: RawFd) -> Result<OwnedFd> {
    let frame = || format!("taking over descriptor {number}");
    // The standard streams have their owners already.
    if number <= 2 {
        return Err(Error::invalid("it is one of the standard streams")).context(frame);
    }
    // Owning a number behind which nothing is open would close somebody else's descriptor later.
    let open = std::fs::read_link(format!("/proc/self/fd/{number}")).context(frame)?;
    if !open.to_string_lossy().starts_with("socket:") {
        return Err(Error::invalid("it is no socket")).context(frame);
    }
    // SAFETY: the descriptor is open, as was just seen, and nothing in this process owns it: it is called at the start
    // of the process, before anything else was opened, and the number is none of the standard streams.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let kind = (sockopt::socket_domain(&fd).context(frame)?, sockopt::socket_type(&fd).context(frame)?);
    if kind != (AddressFamily::UNIX, SocketType::SEQPACKET) {
        return Err(Error::invalid("it is no SOCK_SEQPACKET socket of the family AF_UNIX")).context(frame);
    }
    // A credential helper must not inherit it in turn.
    fcntl_setfd(&fd, FdFlags::CLOEXEC).context(frame)?;
    Ok(fd)
}
