//! A user namespace for who is not root: there they are, with the IDs that `/etc/subuid` and `/etc/subgid` give them.
//!
//! The process itself goes into it, so that its number, its descriptors and what signals do to it stay as they are.
//! The map of several IDs can only be written by the set-user-ID programs `newuidmap` and `newgidmap`, and from outside.
//! So a helper, which is this program by another name, is started before: it waits for a byte, runs the two, and ends.
//! If we die meanwhile, it reads the end of its input in the place of the byte, and does nothing.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use holkas::error::{Context, Error, ErrorKind, Result, printable};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::environment::user::{Ids, Range};
use crate::environment::{self, user};
use crate::face::NAMESPACE_HELPER;

/// What a command does with the stores of containers-storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreUse {
    /// Nothing.
    None,
    /// It may read one; not every one is beyond who has no namespace.
    Reads,
    /// It writes one.
    Writes,
}

/// Returns what is done with stores by a command that reads some images and writes others.
pub(crate) fn use_of<'a>(
    read: impl IntoIterator<Item = &'a OsStr>,
    written: impl IntoIterator<Item = &'a OsStr>,
) -> StoreUse {
    let is_stored = |image: &OsStr| image.as_bytes().starts_with(b"containers-storage:");
    if written.into_iter().any(is_stored) {
        StoreUse::Writes
    } else if read.into_iter().any(is_stored) {
        StoreUse::Reads
    } else {
        StoreUse::None
    }
}

/// How much is read of what `newuidmap` and `newgidmap` say, in bytes: it is a line.
const SAID: u64 = 4 << 10;

/// Why there is no namespace for a run that could do without.
static WITHOUT: OnceLock<(String, Option<String>)> = OnceLock::new();

/// Goes into a user namespace if what is done with stores needs one. No other thread may have been started.
///
/// # Errors
///
/// `Forbidden` if a store is to be written and there can be no namespace.
pub(crate) fn enter(store: StoreUse) -> Result<()> {
    if store == StoreUse::None || environment::privilege().is_ok() {
        return Ok(());
    }
    let Err(error) = user::ids().and_then(|ids| unshare(&ids)) else { return Ok(()) };
    if store == StoreUse::Writes {
        return Err(error
            .context("going into a user namespace, which a store needs of who is not root")
            .hint("run holkas as root"));
    }
    let _first = WITHOUT.set((error.to_string(), error.hint_text().map(str::to_string)));
    Ok(())
}

/// Says of an error what a namespace has to do with it, if there should have been one.
pub(crate) fn explain(error: Error) -> Error {
    // The operating system's words, not those of a registry.
    const WORDS: [&str; 3] = ["ermission denied", "not permitted", "the operating system does not allow it"];
    let Some((why, hint)) = WITHOUT.get() else { return error };
    if !error.chain().last().is_some_and(|cause| WORDS.iter().any(|words| cause.contains(words))) {
        return error;
    }
    let error = error.context(format!("having no user namespace: {why}"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn unshare(ids: &Ids) -> Result<()> {
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Err(forbidden("this process can gain no rights (no_new_privs), which newuidmap would give it"));
    }
    let mut helper = helper(ids)?;
    #[expect(deprecated, reason = "it is thought unsafe for the table of descriptors, which stays shared")]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWUSER);
    let mut go = helper.stdin.take();
    let told = match (&unshared, &mut go) {
        (Ok(()), Some(pipe)) => pipe.write_all(b"!"),
        _ => Ok(()),
    };
    drop(go);
    let mut said = Vec::new();
    if let Some(pipe) = helper.stderr.take() {
        pipe.take(SAID).read_to_end(&mut said).context(|| "reading what newuidmap and newgidmap say")?;
    }
    let status = helper.wait().context(|| "waiting for newuidmap and newgidmap")?;
    unshared.map_err(|errno| match errno {
        // What kernels say whose administrator forbids or limits it.
        Errno::PERM | Errno::NOSPC | Errno::USERS => forbidden("the kernel allows no more user namespaces")
            .hint("let root look at the sysctls user.max_user_namespaces and kernel.unprivileged_userns_clone"),
        errno => errno.into(),
    })?;
    if told.is_ok() && status.success() {
        return Ok(());
    }
    let mapping = map_nobody_else(ids);
    let said = printable(said.trim_ascii());
    let said = if said.is_empty() { format!("the helper ended with {status}") } else { said };
    let error = forbidden(format!("mapping the IDs failed: {said}"))
        .hint("newuidmap and newgidmap must be set-user-ID root, and /etc/subuid and /etc/subgid must be right");
    match mapping {
        Ok(()) => Err(error),
        Err(worse) => Err(error.context(format!("{worse}"))),
    }
}

/// Starts what maps the IDs when it is told to.
fn helper(ids: &Ids) -> Result<std::process::Child> {
    let (newuidmap, newgidmap) = (program("newuidmap")?, program("newgidmap")?);
    Command::new("/proc/self/exe")
        .arg0(NAMESPACE_HELPER)
        .args([newuidmap, newgidmap])
        .arg(std::process::id().to_string())
        .arg(map(ids.uid, &ids.subordinate_uids))
        .arg(map(ids.gid, &ids.subordinate_gids))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| "starting the helper that maps the IDs")
}

fn program(name: &str) -> Result<PathBuf> {
    environment::program(name).ok_or_else(|| {
        Error::new(ErrorKind::Io, format!("the program `{name}` is not there"))
            .hint("install the package `uidmap` (Debian, Ubuntu, Alpine's `shadow-uidmap`) or `shadow-utils` (Fedora)")
    })
}

fn forbidden(cause: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, cause)
}

/// Returns a map as `newuidmap` takes it: the user becomes 0, and the others follow from 1 on.
fn map(own: u32, ranges: &[Range]) -> String {
    let mut text = format!("0 {own} 1");
    let mut next = 1_u64;
    for Range { first, count } in ranges {
        text += &format!(" {next} {first} {count}");
        next += u64::from(*count);
    }
    text
}

/// Maps the user to themselves, so that a run that can do without the namespace is what it was outside.
fn map_nobody_else(ids: &Ids) -> Result<()> {
    let write = |name: &str, text: String| -> Result<()> {
        let path = format!("/proc/self/{name}");
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).context(|| format!("writing `{path}`"))
    };
    write("setgroups", "deny".into())?;
    write("gid_map", format!("{0} {0} 1", ids.gid))?;
    // The first of the two programs may have done its part.
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    write("uid_map", format!("{0} {0} 1", ids.uid))
}

/// Runs as the helper: when it is told to, it maps the IDs of who has started it.
pub(crate) fn help(arguments: &[OsString]) -> ExitCode {
    let [_, newuidmap, newgidmap, process, uids, gids] = arguments else { return ExitCode::FAILURE };
    // Without the byte, who has started us is gone or has not been let in.
    if std::io::stdin().read_exact(&mut [0]).is_err() {
        return ExitCode::FAILURE;
    }
    match run(newuidmap, process, uids) && run(newgidmap, process, gids) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs a program, whose words go to where ours go. Returns whether it succeeded.
fn run(program: &OsStr, process: &OsStr, map: &OsStr) -> bool {
    let words = map.as_bytes().split(|byte| *byte == b' ').map(OsStr::from_bytes);
    match Command::new(program).arg(process).args(words).stdin(Stdio::null()).status() {
        Ok(status) => status.success(),
        Err(error) => {
            let text = format!("{}: {error}", printable(program.as_bytes()));
            // Who has started us is the only one to hear it.
            let _nobody_left = std::io::stderr().write_all(text.as_bytes());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_id_comes_first() {
        assert_eq!(map(1000, &[]), "0 1000 1");
        let ranges = [Range { first: 100_000, count: 65_536 }, Range { first: 300_000, count: 10 }];
        assert_eq!(map(1000, &ranges), "0 1000 1 1 100000 65536 65537 300000 10");
    }

    #[test]
    fn what_is_written_weighs_more_than_what_is_read() {
        let [stored, other] = ["containers-storage:x", "oci:containers-storage:x"].map(OsStr::new);
        assert_eq!(use_of([stored], [stored]), StoreUse::Writes);
        assert_eq!(use_of([other, stored], [other]), StoreUse::Reads);
        assert_eq!(use_of([other], []), StoreUse::None);
    }
}
