//! A host service: answers osbuild's calls, one after the other, until osbuild closes the socket.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use holkas::error::{Context, Error, Result};
use holkas::progress::Cancel;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::jsoncomm::{Packet, Socket};
use crate::report;

/// What a service does.
pub(super) trait Service {
    /// Answers a call; an error becomes an exception at the other side.
    fn call(&mut self, call: Call) -> Result<Value>;

    /// Undoes what must not stay once osbuild is done with the service.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A call: the name of what to do, and with what.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) args: Value,
    pub(super) fds: Vec<OwnedFd>,
}

impl Call {
    fn parse(Packet { value, fds }: Packet) -> Result<Self> {
        let frame = || "reading a call";
        let data = value.get("data").filter(|_| value.get("type").and_then(Value::as_str) == Some("method"));
        let method = data.and_then(|data| data.get("name")).and_then(Value::as_str);
        let method = method.ok_or_else(|| Error::invalid("the message is no call of a method")).context(frame)?;
        let args = data.and_then(|data| data.get("args")).cloned().unwrap_or(Value::Null);
        Ok(Self { method: method.to_string(), args, fds })
    }

    /// Makes the error of a service that knows no such method.
    pub(super) fn unknown(&self) -> Error {
        Error::unsupported(format!("Unknown method {}", holkas::error::printable(self.method.as_bytes())))
    }
}

/// Runs a service that `make` makes, from the arguments that osbuild gives: `--service-id ID --service-fd N`.
///
/// What is given to `make` is cancelled when osbuild closes the socket, even in the middle of a call: nobody waits for
/// the answer any more, but osbuild waits for the process.
pub(super) fn run<S: Service>(arguments: &[OsString], make: impl FnOnce(Cancel) -> S) -> Result<()> {
    let socket = Arc::new(Socket::new(crate::inherited::socket(descriptor(arguments)?)?));
    ignore_signals()?;
    let cancel = Cancel::default();
    cancel_when_closed(&socket, &cancel);
    let mut service = make(cancel);
    let answered = answer(&socket, &mut service);
    let ended = service.end();
    answered.and(ended)
}

/// Returns the number that `--service-fd` says.
fn descriptor(arguments: &[OsString]) -> Result<i32> {
    let value = |flag: &str| {
        arguments.iter().enumerate().find_map(|(n, argument)| {
            let text = argument.to_str()?;
            match text.strip_prefix(flag)?.strip_prefix('=') {
                Some(value) => Some(value),
                None if text == flag => arguments.get(n + 1).and_then(|value| OsStr::to_str(value)),
                None => None,
            }
        })
    };
    value("--service-fd").and_then(|text| text.parse().ok()).ok_or_else(|| {
        Error::invalid("there is no `--service-fd N`")
            .hint("this is a module of osbuild, which starts it; to use holkas by hand, run `holkas`")
    })
}

/// Leaves the order in which things end to osbuild, which closes the socket when it is the service's turn.
fn ignore_signals() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A handler that only sets a flag which nobody reads; programs that are started have the default again.
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

fn cancel_when_closed(socket: &Arc<Socket>, cancel: &Cancel) {
    let (socket, cancel) = (Arc::clone(socket), cancel.clone());
    std::thread::spawn(move || {
        // With nothing asked for, only the end of the connection is told.
        while let Err(Errno::INTR) = poll(&mut [PollFd::new(&socket, PollFlags::empty())], None) {}
        cancel.cancel();
    });
}

fn answer(socket: &Socket, service: &mut impl Service) -> Result<()> {
    loop {
        let answer = match socket.receive() {
            Ok(None) => return Ok(()),
            Ok(Some(packet)) => Call::parse(packet).and_then(|call| guarded(service, call)),
            Err(error) => Err(error),
        };
        let message = match answer {
            Ok(reply) => json!({ "type": "reply", "data": { "reply": reply } }),
            Err(error) => exception(&error),
        };
        socket.send(&message)?;
    }
}

/// Makes an error of a panic, so that what was mounted is undone all the same.
fn guarded(service: &mut impl Service, call: Call) -> Result<Value> {
    catch_unwind(AssertUnwindSafe(|| service.call(call)))
        .unwrap_or_else(|_| Err(Error::invalid("the service panicked; this is a defect of holkas")))
}

/// Tells an error on stderr, where osbuild's log shows it, and returns what is sent for it.
fn exception(error: &Error) -> Value {
    let text = report::text(error);
    tell(&text);
    let name = format!("holkas.{}", error.kind().name());
    json!({ "type": "exception", "data": { "name": name, "value": error.to_string(), "backtrace": text } })
}

/// Writes to stderr, which osbuild forwards to its log.
pub(super) fn tell(text: &str) {
    // With stderr gone there is nobody left to tell.
    let _nobody_left = std::io::stderr().write_all(text.as_bytes());
}
