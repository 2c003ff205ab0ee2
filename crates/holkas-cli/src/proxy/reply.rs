//! Replies: one packet each, with the descriptors that go along.

use std::os::fd::{AsFd, OwnedFd};

use holkas::error::Result;
use serde_json::{Value, json};

use super::PACKET;
use super::failure::{Code, Failure, LONGEST, cut};
use crate::seqpacket::Packets;

/// What a request that went well is answered with.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The value.
    pub(super) value: Value,
    /// The number that `FinishPipe` will name; 0 if there is nothing to finish.
    pub(super) pipe: u32,
    /// The read ends that go along: none, the data, or the data and the error.
    pub(super) fds: Vec<OwnedFd>,
}

impl Reply {
    /// Makes a reply of a value alone.
    pub(super) fn of(value: impl Into<Value>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }
}

fn packet(value: &Value, pipe: u32, (code, error): (&str, &str)) -> Vec<u8> {
    let reply = json!({
        "success": code.is_empty(), "value": value, "pipeid": pipe, "error_code": code, "error": error,
    });
    reply.to_string().into_bytes()
}

/// Returns the packet of an answer, and the descriptors that go with it.
///
/// A text that makes it too long is cut; a value that does makes it an error.
fn encode(answer: std::result::Result<Reply, Failure>) -> (Vec<u8>, Vec<OwnedFd>) {
    let failure = match answer {
        Ok(Reply { value, pipe, fds }) => {
            let bytes = packet(&value, pipe, ("", ""));
            if bytes.len() <= PACKET {
                return (bytes, fds);
            }
            let length = bytes.len();
            Failure::other(format!("the answer has {length} bytes, but a packet {PACKET} at most; ask for it piped"))
        }
        Err(failure) => failure,
    };
    let mut longest = LONGEST;
    loop {
        // What must be escaped is longer in the packet: so it is cut until it fits.
        let text = cut(&failure.message, longest);
        let text = if text.is_empty() { "it failed for no known reason".to_string() } else { text };
        let bytes = packet(&Value::Null, 0, (failure.code.as_str(), &text));
        if bytes.len() <= PACKET {
            return (bytes, Vec::new());
        }
        longest /= 2;
    }
}

/// Sends an answer; `false` if there is nobody any more. Our copies of the descriptors are closed.
pub(super) fn send(packets: &Packets, answer: std::result::Result<Reply, Failure>) -> Result<bool> {
    let (bytes, fds) = encode(answer);
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    match packets.send(&bytes, &borrowed) {
        // Too many descriptors may be on their way; then the client hears of it, and takes some in.
        Err(error) if !fds.is_empty() => {
            let failure = Failure { code: Code::Other, message: format!("passing descriptors: {error}") };
            packets.send(&encode(Err(failure)).0, &[])
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(answer: std::result::Result<Reply, Failure>) -> Value {
        let (bytes, _) = encode(answer);
        assert!(bytes.len() <= PACKET, "{} bytes", bytes.len());
        serde_json::from_slice(&bytes).expect("it is JSON")
    }

    #[test]
    fn all_keys_are_always_there() {
        let reply = sent(Ok(Reply { value: json!(7), pipe: 3, fds: Vec::new() }));
        assert_eq!(reply, json!({"success": true, "value": 7, "pipeid": 3, "error_code": "", "error": ""}));
        let reply = sent(Err(Failure::other("no").retryable()));
        assert_eq!(
            reply,
            json!({"success": false, "value": null, "pipeid": 0, "error_code": "retryable", "error": "no"})
        );
    }

    #[test]
    fn no_packet_is_too_long() {
        for text in ["x".repeat(100_000), "\u{1}".repeat(40_000), "\"".repeat(16_000), "ä".repeat(20_000)] {
            let reply = sent(Err(Failure::other(text)));
            assert!(reply["error"].as_str().is_some_and(|text| text.contains("bytes in all") || text.len() == 16_000));
        }
        let reply = sent(Ok(Reply::of("x".repeat(PACKET))));
        assert_eq!((&reply["success"], &reply["value"]), (&json!(false), &Value::Null));
        assert_eq!(sent(Err(Failure::other("")))["error"], "it failed for no known reason");
    }
}
