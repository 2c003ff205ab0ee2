//! A client of the image proxy that checks what the reference client checks, and that may misbehave.

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde_json::{Value, json};

use crate::common::holkas;

/// The longest packet, and so the room that clients have.
pub(crate) const PACKET: usize = 32 << 10;

/// A server, and our end of its socket.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) child: Child,
    /// What the server had open when it was initialized. Not all of it is its own: cargo leaves pipes open.
    pub(crate) idle: Vec<String>,
}

/// A reply with what came along.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) reply: Value,
    pub(crate) fds: Vec<OwnedFd>,
}

/// How a request or a transfer failed: code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String, pub(crate) String);

/// Makes a pair of sockets of packets.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Returns our command, with a policy that accepts all.
pub(crate) fn proxy() -> Command {
    let mut command = holkas();
    command.args(["proxy", "--insecure-policy", "--retry-delay", "1ms"]);
    command
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < until, "in 20 seconds not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a pipe to its end.
pub(crate) fn read(fd: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(fd).read_to_end(&mut bytes).unwrap();
    bytes
}

impl Client {
    /// Starts a command with one end of a socket as its standard input.
    pub(crate) fn of(mut command: Command) -> Self {
        let (socket, theirs) = pair();
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Self { socket, child, idle: Vec::new() }
    }

    /// Starts ours with these flags, and initializes it.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = proxy();
        command.args(flags);
        Self::initialized(command)
    }

    /// Starts a command and initializes it.
    pub(crate) fn initialized(command: Command) -> Self {
        let mut client = Self::of(command);
        assert_eq!(client.plain("Initialize", json!([])).unwrap(), "0.2.8");
        client.idle = client.descriptors();
        client
    }

    /// Sends a packet with descriptors.
    pub(crate) fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// Sends a packet.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.send_with(bytes, &[]);
    }

    /// Receives a reply, with the room that the reference client has.
    pub(crate) fn receive(&self) -> Reply {
        let mut bytes = vec![0; PACKET];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = rustix::net::recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert!(!received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC), "cut off");
        assert!(received.bytes > 0, "the server has gone");
        let messages = control.drain().map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => panic!("something else than descriptors came"),
        });
        let fds = messages.flatten().collect();
        Reply { reply: serde_json::from_slice(&bytes[..received.bytes]).unwrap(), fds }
    }

    /// Calls a method, and returns the reply as it came.
    pub(crate) fn call(&self, method: &str, arguments: Value) -> Reply {
        self.send(json!({"method": method, "args": arguments}).to_string().as_bytes());
        self.receive()
    }

    /// Calls a method, with the checks that go for all.
    fn answer(&self, method: &str, arguments: Value) -> Result<Reply, Failure> {
        let reply = self.call(method, arguments);
        let text = |key: &str| reply.reply[key].as_str().unwrap_or_default().to_string();
        for key in ["success", "value", "pipeid", "error"] {
            assert!(reply.reply.get(key).is_some(), "{method}: no `{key}` in {}", reply.reply);
        }
        if reply.reply["success"] == true {
            assert_eq!((text("error_code"), text("error")), Default::default(), "{method}");
            return Ok(reply);
        }
        assert!(reply.fds.is_empty() && reply.reply["pipeid"] == 0 && reply.reply["value"].is_null(), "{reply:?}");
        assert!(!text("error").is_empty(), "{method}");
        Err(Failure(text("error_code"), text("error")))
    }

    /// Calls a method that answers with a value alone.
    pub(crate) fn plain(&self, method: &str, arguments: Value) -> Result<Value, Failure> {
        let Reply { reply, fds } = self.answer(method, arguments)?;
        assert!(fds.is_empty() && reply["pipeid"] == 0, "{method}: {reply}");
        Ok(reply["value"].clone())
    }

    /// Calls a method that answers with a pipe to be finished: its value, its number and its read end.
    pub(crate) fn pipe(&self, method: &str, arguments: Value) -> Result<(Value, u64, OwnedFd), Failure> {
        let Reply { reply, mut fds } = self.answer(method, arguments)?;
        let pipe = reply["pipeid"].as_u64().filter(|pipe| *pipe > 0 && u32::try_from(*pipe).is_ok()).unwrap();
        assert_eq!(fds.len(), 1, "{method}: {reply}");
        Ok((reply["value"].clone(), pipe, fds.remove(0)))
    }

    /// Finishes a pipe.
    pub(crate) fn finish(&self, pipe: u64) -> Result<(), Failure> {
        self.plain("FinishPipe", json!([pipe])).map(|value| assert!(value.is_null()))
    }

    /// Calls a method that answers with a pipe, and reads all of it, which ends only when the pipe is finished.
    pub(crate) fn piped(&self, method: &str, arguments: Value) -> Result<(Value, Vec<u8>), Failure> {
        let (value, pipe, fd) = self.pipe(method, arguments)?;
        std::thread::scope(|scope| {
            let bytes = scope.spawn(|| read(fd));
            self.finish(pipe)?;
            Ok((value, bytes.join().unwrap()))
        })
    }

    /// Opens an image.
    #[track_caller]
    pub(crate) fn open(&self, reference: &str) -> u64 {
        self.plain("OpenImage", json!([reference])).unwrap().as_u64().unwrap()
    }

    /// Takes a blob by `GetBlob`.
    pub(crate) fn blob(&self, image: u64, digest: &str, size: u64) -> Result<Vec<u8>, Failure> {
        let (value, bytes) = self.piped("GetBlob", json!([image, digest, size]))?;
        assert_eq!(value.as_u64().unwrap(), bytes.len() as u64);
        Ok(bytes)
    }

    /// Takes a blob by `GetRawBlob`: what came, its size as it was said, and what failed.
    pub(crate) fn raw_blob(&self, image: u64, digest: &str) -> Result<(u64, Vec<u8>, Option<Failure>), Failure> {
        let Reply { reply, mut fds } = self.answer("GetRawBlob", json!([image, digest]))?;
        assert_eq!((fds.len(), &reply["pipeid"]), (2, &json!(0)), "{reply}");
        let (failed, data) = (fds.remove(1), fds.remove(0));
        let bytes = read(data);
        let failed = read(failed);
        let failure = (!failed.is_empty()).then(|| {
            let failed: Value = serde_json::from_slice(&failed).unwrap();
            Failure(failed["code"].as_str().unwrap().into(), failed["message"].as_str().unwrap().into())
        });
        Ok((reply["value"].as_u64().unwrap(), bytes, failure))
    }

    /// Returns a line of `/proc/PID/status`.
    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns how many threads the server has.
    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads")
    }

    /// Returns how much memory of its own the server has, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        self.status("RssAnon")
    }

    /// Returns what the server has open.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let mut open: Vec<_> = open.map(|path| path.display().to_string()).collect();
        open.sort();
        open
    }

    /// Returns the sizes of the files without names that the server holds.
    pub(crate) fn unnamed_files(&self) -> Vec<u64> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let paths = open.filter_map(|entry| Some(entry.ok()?.path()));
        let unnamed =
            paths.filter(|path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("(deleted)")));
        unnamed.filter_map(|path| Some(fs::metadata(path).ok()?.len())).collect()
    }

    /// Waits for the server's end; returns its status and what it said on stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }

    /// Ends the server as clients do, which must go well, with nothing said but warnings.
    pub(crate) fn shutdown(self) {
        self.send(br#"{"method":"Shutdown","args":[]}"#);
        let (status, said) = self.wait();
        assert!(status.success(), "{status}: {said}");
        assert!(said.lines().all(|line| line.starts_with("warning: ")), "{said}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // After a test that failed it may still run; else it has ended.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
