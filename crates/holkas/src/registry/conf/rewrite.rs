//! Prefixes: whether one is that of a name, and what the name becomes under another location.

use crate::error::{Error, Result, printable};
use crate::reference::Name;

/// Returns how many bytes of `text` a prefix stands for; `None` if it is no prefix of it.
///
/// `text` is a repository with its host, perhaps with tag and digest. A prefix ends where a component ends, and the
/// bytes that `*.example.com` stands for are the whole host. As in containers/image, a prefix without a port is one
/// of hosts with a port too.
pub(super) fn matching(text: &str, prefix: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => {
            // The first place, and no other, as containers/image has it.
            let at = text.find(domain)?;
            if text[..at].contains('/') {
                return None;
            }
            at + domain.len()
        }
        _ => text.starts_with(prefix).then_some(prefix.len())?,
    };
    matches!(text.as_bytes().get(length), None | Some(b':' | b'/' | b'@')).then_some(length)
}

/// Returns the name with its prefix replaced by a location; without a location (only with `*.…`) it stays.
pub(super) fn rewrite(name: &Name, prefix: &str, location: Option<&str>) -> Result<Name> {
    let Some(location) = location else { return Ok(name.clone()) };
    let text = name.to_string();
    let length =
        matching(&text, prefix).ok_or_else(|| Error::invalid("the prefix is not one of the name as a whole"))?;
    let rewritten = format!("{location}{}", &text[length..]);
    let shown = printable(rewritten.as_bytes());
    let parsed = Name::parse_normalised(&rewritten)?;
    // A location without a host would quietly become one of docker.io.
    match parsed.to_string() == rewritten {
        true => Ok(parsed),
        false => Err(Error::invalid(format!("`{shown}` is not a whole name: it would be {parsed}"))
            .hint("a location begins with a host, such as registry.example.com or localhost:5000")),
    }
}
