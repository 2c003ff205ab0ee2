//! A socket that the caller left open for us, under the number that it says.
#![allow(unsafe_code, reason = "a descriptor that is only known by its number has no owner yet")]

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use holkas::error::{Context, Error, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Returns the inherited socket of this number, which must be one of packets, under a number of our own.
///
/// The old number stays open: what else of this process may be behind it is not ours to close.
pub(super) fn socket(number: RawFd) -> Result<OwnedFd> {
    let frame = || match number {
        0 => "taking over standard input".to_string(),
        _ => format!("taking over descriptor {number}"),
    };
    let open = std::fs::read_link(format!("/proc/self/fd/{number}")).context(frame)?;
    if !open.to_string_lossy().starts_with("socket:") {
        return Err(Error::invalid("it is no socket")).context(frame);
    }
    // SAFETY: the descriptor is open, as was just seen, and nothing closes it meanwhile: this is called at the start of
    // the process, before there is anything that does.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let kind = (sockopt::socket_domain(fd).context(frame)?, sockopt::socket_type(fd).context(frame)?);
    if kind != (AddressFamily::UNIX, SocketType::SEQPACKET) {
        return Err(Error::invalid("it is no SOCK_SEQPACKET socket of the family AF_UNIX")).context(frame);
    }
    // A credential helper must not inherit it in turn.
    fcntl_setfd(fd, FdFlags::CLOEXEC).context(frame)?;
    fd.try_clone_to_owned().context(frame)
}
