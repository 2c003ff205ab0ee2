//! Questions to osbuild's object store, over the socket that it has for its inputs.

use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, Result, printable};
use serde_json::{Value, json};

use super::jsoncomm::Socket;

/// A connection to the store.
#[derive(Debug)]
pub(super) struct StoreApi(Socket);

impl StoreApi {
    /// Connects to the store's socket.
    pub(super) fn connect(address: &Path) -> Result<Self> {
        Socket::connect(address).map(Self).context(|| "connecting to osbuild's store")
    }

    /// Returns the directory of what sources have fetched, by its content type. It need not exist.
    pub(super) fn source(&self, content_type: &str) -> Result<PathBuf> {
        let frame = || format!("asking osbuild's store for the sources `{content_type}`");
        let path = self.ask(&json!({ "method": "source", "name": content_type })).context(frame)?;
        path.ok_or_else(|| Error::not_found("the store has none")).context(frame)
    }

    /// Has the tree that a pipeline built mounted at `target`, which must exist. osbuild itself undoes that.
    pub(super) fn read_tree_at(&self, object: &str, target: &Path) -> Result<()> {
        let frame =
            || format!("asking osbuild's store for the tree of pipeline object `{}`", printable(object.as_bytes()));
        let question = json!({ "method": "read-tree-at", "object-id": object, "target": target, "subtree": "/" });
        match self.ask(&question).context(frame)? {
            Some(_) => Ok(()),
            None => Err(Error::not_found("the store has no such object")
                .hint("the pipeline that the reference names must come before this one, and be built"))
            .context(frame),
        }
    }

    /// Asks, and returns the path in the answer.
    fn ask(&self, question: &Value) -> Result<Option<PathBuf>> {
        self.0.send(question)?;
        let answer = self.0.receive()?.ok_or_else(|| Error::invalid("the store closed the connection"))?.value;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Err(Error::invalid(said(error)));
        }
        if let Some(exception) = answer.get("exception") {
            let part = |key: &str| exception.get(key).map(said).unwrap_or_default();
            return Err(Error::invalid(format!("{}: {}", part("type"), part("value"))));
        }
        match answer.get("path") {
            Some(Value::String(path)) => Ok(Some(path.into())),
            Some(Value::Null) => Ok(None),
            _ => Err(Error::invalid("the answer has no `path`")),
        }
    }
}

/// Returns what another program says, for a message.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text.as_bytes()),
        other => printable(other.to_string().as_bytes()),
    }
}
