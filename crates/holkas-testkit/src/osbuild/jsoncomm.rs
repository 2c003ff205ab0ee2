//! The packets between osbuild and its services, written once more, and by another hand than holkas's own.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sockopt,
};

/// By what way a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// In the packet.
    Packet,
    /// In a file, whose descriptor the packet had.
    File,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

const VIA_FD: &[u8] = b"<args-via-fd>";

/// Returns the longest message that goes in a packet.
fn wmem_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/core/wmem_max").expect("/proc is mounted");
    text.trim().parse().expect("a number")
}

/// Returns a file in memory that holds these bytes, to be read from its beginning.
pub fn memory_file(bytes: &[u8]) -> File {
    let mut file = File::from(rustix::fs::memfd_create("jsoncomm/payload", MemfdFlags::CLOEXEC).expect("a file"));
    file.write_all(bytes).expect("memory takes it");
    file.rewind().expect("a file has a beginning");
    file
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(super) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        if bytes.len() > wmem_max() {
            let file = memory_file(bytes);
            let all: Vec<_> = std::iter::once(file.as_fd()).chain(fds.iter().copied()).collect();
            return self.packet(VIA_FD, &all);
        }
        self.packet(bytes, fds);
    }

    fn packet(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        sockopt::set_socket_send_buffer_size(&self.0, bytes.len()).expect("a socket takes SO_SNDBUF");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "at most 253 descriptors");
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).expect("it is sent");
    }

    /// Returns the next message; `None` if the other end is closed.
    pub(super) fn receive(&self) -> Option<(Vec<u8>, Carrier)> {
        let peeked = rustix::net::recv(&self.0, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::TRUNC);
        let length = match peeked {
            Ok((_, 0)) | Err(_) => return None,
            Ok((_, length)) => length,
        };
        let mut bytes = vec![0; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("it was peeked at");
        let rights = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        if bytes != VIA_FD {
            return Some((bytes, Carrier::Packet));
        }
        let (mut file, mut whole) = (File::from(rights.expect("the file's descriptor")), Vec::new());
        file.read_to_end(&mut whole).expect("a file in memory can be read");
        Some((whole, Carrier::File))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
