//! osbuild's packets: one JSON text each, with descriptors, and in a file of its own where it is too long for a packet.
//!
//! As `osbuild/util/jsoncomm.py` has it since version 129.

use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use holkas::error::{Context, Error, Result};
use holkas::fs::display;
use holkas::limits::OSBUILD_MESSAGE;
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketAddrUnix, SocketFlags,
    SocketType, sockopt,
};
use serde_json::Value;

use crate::seqpacket::Packets;

/// What stands in a packet whose JSON text is in the first descriptor.
const VIA_FD: &[u8] = b"<args-via-fd>";
/// So many descriptors can come with one packet: the kernel's SCM_MAX_FD.
const MOST_FDS: usize = 253;
/// The longest packet where the kernel does not say, as osbuild has it.
const LONGEST_PACKET: usize = 64_000;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket(Packets);

/// What came in one packet. Descriptors that nobody takes are closed.
#[derive(Debug)]
pub(super) struct Packet {
    /// The JSON text, parsed.
    pub(super) value: Value,
    /// The descriptors that came with it, without the one that the text was in.
    pub(super) fds: Vec<OwnedFd>,
}

impl Socket {
    /// Takes a connected socket.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(Packets::new(fd))
    }

    /// Connects to a socket in the file system.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let frame = || format!("connecting to `{}`", display(path));
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let fd = fd.context(frame)?;
        let address = SocketAddrUnix::new(path).context(frame)?;
        retry_on_intr(|| rustix::net::connect(&fd, &address)).context(frame)?;
        Ok(Self::new(fd))
    }

    /// Waits for the next packet; `None` once the other side has closed.
    pub(super) fn receive(&self) -> Result<Option<Packet>> {
        let frame = || "receiving a message";
        // Without its bytes being taken, a packet can be asked for its real length.
        let peeked = retry_on_intr(|| rustix::net::recv(&self.0, &mut [0][..], RecvFlags::PEEK | RecvFlags::TRUNC));
        let length = match peeked {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(None),
            Ok((_, length)) => length,
            Err(error) => return Err(error).context(frame),
        };
        let fits = OSBUILD_MESSAGE.check(length as u64);
        // Of one that is too long, the packet must go all the same, or it would be the next one for ever.
        let mut bytes = vec![0; if fits.is_ok() { length } else { 1 }];
        let (flags, mut fds) = self.take(&mut bytes).context(frame)?;
        fits.context(frame)?;
        if flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(Error::invalid("the message or its descriptors are cut off")).context(frame);
        }
        if bytes == VIA_FD {
            if fds.is_empty() {
                return Err(Error::invalid("the descriptor that holds the message is missing")).context(frame);
            }
            bytes = read_whole(fds.remove(0)).context(|| "reading the message's file").context(frame)?;
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("it is no JSON: {error}")));
        Ok(Some(Packet { value: value.context(frame)?, fds }))
    }

    /// Takes the next packet out of the socket.
    fn take(&self, bytes: &mut [u8]) -> Result<(ReturnFlags, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(bytes)];
        let received = loop {
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok((received.flags, fds))
    }

    /// Sends a packet.
    pub(super) fn send(&self, value: &Value) -> Result<()> {
        let frame = || "sending a message";
        let bytes = value.to_string().into_bytes();
        OSBUILD_MESSAGE.check(bytes.len() as u64).context(frame)?;
        if bytes.len() > longest_packet() {
            let file = whole_file(&bytes).context(|| "writing the message's file").context(frame)?;
            return self.put(VIA_FD, &[file.as_fd()]).context(frame);
        }
        // A packet must fit into the buffer whole; the kernel itself bounds what can be asked for.
        sockopt::set_socket_send_buffer_size(&self.0, bytes.len()).context(frame)?;
        self.put(&bytes, &[]).context(frame)
    }

    /// Puts a packet into the socket.
    fn put(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        match self.0.send(bytes, fds)? {
            true => Ok(()),
            false => Err(Errno::PIPE.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the length of the longest packet that either side sends without a file.
fn longest_packet() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/net/core/wmem_max").ok();
    limit.and_then(|text| text.trim().parse().ok()).unwrap_or(LONGEST_PACKET)
}

/// Makes a file without a name that holds these bytes.
fn whole_file(bytes: &[u8]) -> Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("jsoncomm/payload", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Reads a regular file from its beginning, wherever its sender left off.
pub(super) fn read_whole(fd: OwnedFd) -> Result<Vec<u8>> {
    let mut file = File::from(fd);
    let found = file.metadata()?;
    // A pipe might never end.
    if !found.is_file() {
        return Err(Error::invalid("it is no regular file"));
    }
    OSBUILD_MESSAGE.check(found.len())?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(OSBUILD_MESSAGE.bytes + 1).read_to_end(&mut bytes)?;
    OSBUILD_MESSAGE.check(bytes.len() as u64)?;
    Ok(bytes)
}
