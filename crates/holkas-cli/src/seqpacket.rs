//! Sockets of packets (`SOCK_SEQPACKET`): whole packets in, whole packets out, with descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use holkas::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
};

/// So many descriptors can go with one packet of ours.
const MOST_FDS: usize = 2;

/// A connected socket of packets.
#[derive(Debug)]
pub(crate) struct Packets(OwnedFd);

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A packet of so many bytes, which are at the beginning of the buffer.
    Packet(usize),
    /// A packet that is longer than the buffer. It is gone.
    TooLong,
    /// Nothing, and nothing will: the other side has closed.
    Closed,
}

impl Packets {
    /// Takes a connected socket of packets.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for the next packet. Descriptors that come with it are closed.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received> {
        // Without room for them, the kernel installs no descriptors.
        let mut control = RecvAncillaryBuffer::new(&mut []);
        let received = loop {
            let mut parts = [IoSliceMut::new(buffer)];
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(Received::Closed),
                other => break other?,
            }
        };
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Ok(Received::TooLong);
        }
        match received.bytes {
            // An empty packet looks like the end, but after the end the other side is gone.
            0 if self.is_closed()? => Ok(Received::Closed),
            bytes => Ok(Received::Packet(bytes)),
        }
    }

    fn is_closed(&self) -> Result<bool> {
        let events = PollFlags::RDHUP;
        let mut fds = [PollFd::new(&self.0, events)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut fds, Some(&now)) {
                Err(Errno::INTR) => {}
                other => {
                    other?;
                    return Ok(fds[0].revents().intersects(events | PollFlags::HUP | PollFlags::ERR));
                }
            }
        }
    }

    /// Sends a packet with descriptors, two at most; `false` if the other side is gone.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Error::invalid("there are more descriptors than room for them"));
        }
        let parts = [IoSlice::new(bytes)];
        loop {
            match rustix::net::sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                // A packet goes whole or not at all.
                other => return Ok(other.map(|_| true)?),
            }
        }
    }

    /// Waits until the other side is gone.
    pub(crate) fn wait_for_the_end(&self) {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        // What cannot be polled has come to its end, too.
        while let Err(Errno::INTR) = poll(&mut fds, None) {}
    }

    /// Ends the connection: nothing more is received but what has come already.
    pub(crate) fn end(&self) {
        // One that has ended already cannot be ended.
        let _ended = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
