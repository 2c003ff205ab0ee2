//! The commands: typed arguments, one call into the library, printed results. One file each.

mod completion;
mod is_manifest_list;
mod man;
mod manifest_digest;

use std::io::Read;
use std::path::Path;

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::{display, read_file};
use holkas::limits::Limit;
use holkas::progress::Cancel;

use crate::cli::{Cli, Command};

/// Runs what was typed.
pub(crate) fn run(typed: Cli, _cancel: &Cancel) -> Result<()> {
    let _global = typed.global;
    match typed.command {
        Command::ManifestDigest(arguments) => manifest_digest::run(&arguments),
        Command::IsManifestList(arguments) => is_manifest_list::run(&arguments),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
        _ => Err(Error::unsupported("this command is yet to come")),
    }
}

/// Reads a document that the user named, or standard input for `-`. A missing file is no missing image.
fn read_document(path: &Path, limit: Limit) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let stdin = std::io::stdin().lock();
        stdin.take(limit.bytes + 1).read_to_end(&mut bytes).context(|| "reading standard input")?;
        limit.check(bytes.len() as u64).context(|| "reading standard input")?;
        return Ok(bytes);
    }
    read_file(path, limit)?.ok_or_else(|| {
        Error::new(ErrorKind::Io, "no such file or directory").context(format!("reading `{}`", display(path)))
    })
}
