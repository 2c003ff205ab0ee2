//! PEM, the text form of keys and certificates: read strictly, written as everybody does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result, printable};

/// One block of a PEM text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// What the block is: `PUBLIC KEY`.
    pub label: &'a str,
    /// Its bytes.
    pub der: Vec<u8>,
}

/// Returns all blocks of a text. What stands outside of them is a comment.
///
/// # Errors
///
/// `Invalid` if a block does not end, has headers, or is not base64.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>> {
    let text = std::str::from_utf8(text).map_err(|_| Error::invalid("it is not a PEM text: it is not UTF-8"))?;
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let name = printable(label.as_bytes());
        let mut encoded = String::new();
        loop {
            let line = lines.next().ok_or_else(|| Error::invalid(format!("the PEM block `{name}` does not end")))?;
            match line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) {
                Some(end) if end == label => break,
                Some(_) => return Err(Error::invalid(format!("the PEM block `{name}` ends as another one"))),
                None => encoded.push_str(line.trim_start()),
            }
        }
        let der = STANDARD
            .decode(encoded)
            .map_err(|error| Error::invalid(format!("the PEM block `{name}` is not base64: {error}")))?;
        found.push(Block { label, der });
    }
    Ok(found)
}

/// Returns the only block of a text; `what` it is, for the errors.
pub(super) fn only_block<'a>(text: &'a [u8], what: &str) -> Result<Block<'a>> {
    let mut found = blocks(text)?;
    match (found.pop(), found.len()) {
        (Some(block), 0) => Ok(block),
        (None, _) => Err(Error::invalid(format!("it has no {what} in PEM form"))),
        (Some(_), others) => Err(Error::invalid(format!("it has {} PEM blocks, and must have one {what}", others + 1))),
    }
}

/// Returns the bytes of all certificates of a text that has nothing else.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>> {
    let found = blocks(text)?;
    if found.is_empty() {
        return Err(Error::invalid("it has no certificate in PEM form"));
    }
    let certificate = |block: Block<'_>| match block.label {
        "CERTIFICATE" => Ok(block.der),
        other => Err(Error::invalid(format!("it has a `{}`, which is no certificate", printable(other.as_bytes())))),
    };
    found.into_iter().map(certificate).collect()
}

/// Returns the text of one block.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 47, 48, 49, 200] {
            let der = vec![7; length];
            let text = write("SOME KEY", &der);
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(blocks(text.as_bytes()).expect("it is whole"), [Block { label: "SOME KEY", der }]);
        }
    }

    #[test]
    fn comments_are_passed_over_and_damage_is_not() {
        let two = format!("a comment\r\n{}\nand\n{}", write("A", b"1").replace('\n', "\r\n"), write("B", b"2"));
        let labels: Vec<_> = blocks(two.as_bytes()).expect("two").into_iter().map(|block| block.label).collect();
        assert_eq!(labels, ["A", "B"]);
        assert!(only_block(two.as_bytes(), "key").is_err());
        for (damaged, why) in [
            ("-----BEGIN A-----\nMQ==\n", "does not end"),
            ("-----BEGIN A-----\nMQ==\n-----END B-----\n", "ends as another"),
            ("-----BEGIN A-----\nMQ=\n-----END A-----\n", "not base64"),
            ("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nMQ==\n-----END A-----\n", "not base64"),
            ("-----BEGIN A-----\n-----BEGIN A-----\nMQ==\n-----END A-----\n", "not base64"),
        ] {
            let error = blocks(damaged.as_bytes()).expect_err(damaged);
            assert!(error.to_string().contains(why), "{damaged}: {error}");
        }
        assert!(only_block(b"", "key").expect_err("nothing").to_string().contains("no key"));
        assert!(certificates(b"").is_err());
        assert!(certificates(write("PUBLIC KEY", b"1").as_bytes()).is_err());
    }
}
