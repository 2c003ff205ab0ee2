//! The user who has started us: their home, and the IDs that they have beside their own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use holkas::error::{Context, Error, ErrorKind, Result, printable};
use holkas::fs::read_file;
use holkas::limits::CONFIGURATION;

use super::variable;

/// Returns the ID of the user who has started us, which stays the same when a user namespace makes us its root.
pub(crate) fn id() -> u32 {
    static ID: OnceLock<u32> = OnceLock::new();
    *ID.get_or_init(|| {
        let own = rustix::process::getuid();
        // Within `podman unshare`, whose user we serve.
        let told = variable("_CONTAINERS_ROOTLESS_UID").filter(|_| own.is_root());
        told.and_then(|id| id.to_str()?.parse().ok()).unwrap_or(own.as_raw())
    })
}

/// Returns the home directory.
pub(super) fn home() -> Option<PathBuf> {
    let known = || entry_of(&read("/etc/passwd").ok()??, id()).map(|entry| entry.home);
    variable("HOME").map(PathBuf::from).or_else(known)
}

/// IDs that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// The IDs of a user and of their group, with those that the administrator has given to them for namespaces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) subordinate_uids: Vec<Range>,
    pub(crate) subordinate_gids: Vec<Range>,
}

/// Returns the IDs of the user, who is not root.
///
/// # Errors
///
/// `Forbidden` if the user has no IDs but their own.
pub(crate) fn ids() -> Result<Ids> {
    let uid = id();
    let passwd = read("/etc/passwd")?.unwrap_or_default();
    let entry = entry_of(&passwd, uid);
    // A user whom another service than /etc/passwd knows.
    let told = || variable("USER").or_else(|| variable("LOGNAME")).map(|name| name.as_bytes().to_vec());
    let name = entry.map(|entry| entry.name).or_else(told);
    let ranges = |file: &str| -> Result<Vec<Range>> {
        let ranges = ranges_of(&read(file)?.unwrap_or_default(), name.as_deref(), uid);
        if ranges.is_empty() {
            let user = name.as_deref().map_or_else(|| uid.to_string(), printable);
            let cause = format!("`{file}` has no IDs for user `{user}`");
            return Err(Error::new(ErrorKind::Forbidden, cause).hint(format!(
                "let root run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`, with IDs that \
                 nobody else has"
            )));
        }
        Ok(ranges)
    };
    Ok(Ids {
        uid,
        gid: rustix::process::getgid().as_raw(),
        subordinate_uids: ranges("/etc/subuid")?,
        subordinate_gids: ranges("/etc/subgid")?,
    })
}

fn read(path: &str) -> Result<Option<Vec<u8>>> {
    read_file(Path::new(path), CONFIGURATION).context(|| "looking for the IDs of the user")
}

/// What `/etc/passwd` says of a user.
struct Entry {
    name: Vec<u8>,
    home: PathBuf,
}

fn entry_of(passwd: &[u8], uid: u32) -> Option<Entry> {
    let uid = uid.to_string();
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [name, _, id, _, _, home, _] = fields[..] else { return None };
        (id == uid.as_bytes()).then(|| Entry { name: name.to_vec(), home: OsStr::from_bytes(home).into() })
    })
}

/// Returns the ranges of a user, by name or by number, the lowest first, as podman maps them.
fn ranges_of(file: &[u8], name: Option<&[u8]>, uid: u32) -> Vec<Range> {
    let uid = uid.to_string();
    let number = |text: &[u8]| -> Option<u32> { str::from_utf8(text).ok()?.parse().ok() };
    let lines = file.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [owner, first, count] = fields[..] else { return None };
        let range = Range { first: number(first)?, count: number(count).filter(|count| *count > 0)? };
        (Some(owner) == name || owner == uid.as_bytes()).then_some(range)
    });
    let mut ranges: Vec<Range> = lines.collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_user_by_name_and_by_number() {
        let file =
            b"# a comment\nann:300000:10\nbob:100000:65536\nann:200000:5\n1000:400000:7\nann:x:1\nann:1:0\nann:1\n";
        let ranges = |name: &str, uid| ranges_of(file, Some(name.as_bytes()), uid);
        let range = |first, count| Range { first, count };
        assert_eq!(ranges("ann", 1000), [range(200_000, 5), range(300_000, 10), range(400_000, 7)]);
        assert_eq!(ranges("bob", 5), [range(100_000, 65_536)]);
        assert_eq!(ranges("eve", 5), []);
        assert_eq!(ranges_of(file, None, 1000), [range(400_000, 7)]);
    }

    #[test]
    fn an_entry_is_found_by_the_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken:x:1000\nann:x:1000:1000:Ann,,,:/home/ann:/bin/sh\n";
        let entry = entry_of(passwd, 1000).expect("it is there");
        assert_eq!((entry.name.as_slice(), entry.home.as_path()), (&b"ann"[..], Path::new("/home/ann")));
        assert!(entry_of(passwd, 100).is_none());
    }
}
