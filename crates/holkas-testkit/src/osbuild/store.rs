//! The service that osbuild's store has for inputs: where sources are, and mounts of what pipelines built.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::jsoncomm::Socket;
use crate::peers::unmount_below;

/// The running service. Dropped, it ends, and what it has mounted is unmounted.
#[derive(Debug)]
pub struct StoreServer {
    address: PathBuf,
    root: PathBuf,
    listener: Arc<OwnedFd>,
    accepting: Option<JoinHandle<()>>,
}

impl StoreServer {
    pub(super) fn start(root: &Path, sources: PathBuf, trees: &[(&str, &Path)]) -> Self {
        let address = tempfile::tempdir_in(root).expect("a directory").keep().join("store");
        let trees: BTreeMap<String, PathBuf> =
            trees.iter().map(|(id, path)| ((*id).to_owned(), (*path).to_owned())).collect();
        let flags = SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let listener = Arc::new(listener.expect("a socket"));
        let name = SocketAddrUnix::new(&address).expect("a short path");
        rustix::net::bind(&listener, &name).expect("the name is free");
        rustix::net::listen(&listener, 8).expect("it listens");
        let own = Arc::clone(&listener);
        let accepting = std::thread::spawn(move || {
            // It ends when the listener is shut down.
            while let Ok(stream) = rustix::net::accept_with(&own, SocketFlags::CLOEXEC) {
                let socket = Socket::new(stream);
                while let Some((bytes, _)) = socket.receive() {
                    let question: Value = serde_json::from_slice(&bytes).expect("it sends JSON");
                    socket.send(answer(&question, &sources, &trees).to_string().as_bytes(), &[]);
                }
            }
        });
        Self { address, root: root.to_owned(), listener, accepting: Some(accepting) }
    }

    /// Returns the path of the socket.
    pub fn address(&self) -> &Path {
        &self.address
    }
}

fn answer(question: &Value, sources: &Path, trees: &BTreeMap<String, PathBuf>) -> Value {
    match question["method"].as_str() {
        Some("source") => json!({ "path": sources.join(question["name"].as_str().expect("a name")) }),
        Some("read-tree-at") => {
            let target = question["target"].as_str().expect("a path");
            let Some(tree) = trees.get(question["object-id"].as_str().expect("an ID")) else {
                return json!({ "path": null });
            };
            let mounted = Command::new("mount").args(["--rbind", "-o", "ro"]).arg(tree).arg(target).output();
            let mounted = mounted.expect("mount is installed");
            match mounted.status.success() {
                true => json!({ "path": target }),
                false => json!({ "error": String::from_utf8_lossy(&mounted.stderr) }),
            }
        }
        _ => json!({
            "method": "exception",
            "exception": { "type": "ValueError", "value": "unknown method", "traceback": "" },
        }),
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        // accept() comes back with an error.
        let _ended = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _told = accepting.join();
        }
        unmount_below(&self.root.join("store/tmp"));
    }
}
