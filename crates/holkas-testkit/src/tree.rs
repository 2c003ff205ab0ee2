//! A directory tree as a value: all that a file system knows of it, to compare and to hash.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
}

/// All that is known of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky, without the type.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The length of a file or of a symlink's target; 0 for all else, where it depends on the file system.
    pub size: u64,
    /// Major and minor number of devices, else (0, 0).
    pub device: (u32, u32),
    /// SHA-256 in hex of a file's contents, else empty.
    pub contents: String,
    /// The target of a symlink, else empty.
    pub link: Vec<u8>,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes, of all namespaces that root sees.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in byte order, of the hard links that share this inode; `None` if no other path shares it.
    pub hard_link: Option<Vec<u8>>,
}

/// A tree: relative paths (the root itself is empty) and what is there.
///
/// ```
/// use holkas_testkit::tree::{Options, Tree};
/// let dir = tempfile::tempdir().expect("temp dir");
/// let before = Tree::read(dir.path());
/// std::fs::write(dir.path().join("new"), "x").expect("write");
/// let after = Tree::read(dir.path());
/// assert_eq!(before.differences(&after, &Options::new().ignore_mtime_of(|path| path.is_empty())), ["+ new"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The nodes by path, in byte order.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

type PathTest = Box<dyn Fn(&[u8]) -> bool>;

/// What a comparison shall overlook; nothing by default.
#[derive(Default)]
pub struct Options {
    paths: Vec<PathTest>,
    mtimes: Vec<PathTest>,
    xattrs: Vec<PathTest>,
    owners: bool,
}

impl Options {
    /// Returns options that overlook nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Overlooks `path` and all below it.
    pub fn ignore_path(self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref().to_vec();
        self.ignore_paths(move |candidate| {
            candidate == path || candidate.strip_prefix(&path[..]).is_some_and(|rest| rest.starts_with(b"/"))
        })
    }

    /// Overlooks the paths for which `test` is true (not those below them).
    pub fn ignore_paths(mut self, test: impl Fn(&[u8]) -> bool + 'static) -> Self {
        self.paths.push(Box::new(test));
        self
    }

    /// Overlooks all mtimes.
    pub fn ignore_mtimes(self) -> Self {
        self.ignore_mtime_of(|_| true)
    }

    /// Overlooks the mtimes of the paths for which `test` is true.
    pub fn ignore_mtime_of(mut self, test: impl Fn(&[u8]) -> bool + 'static) -> Self {
        self.mtimes.push(Box::new(test));
        self
    }

    /// Overlooks the extended attributes for whose name `test` is true.
    pub fn ignore_xattrs(mut self, test: impl Fn(&[u8]) -> bool + 'static) -> Self {
        self.xattrs.push(Box::new(test));
        self
    }

    /// Overlooks owners and groups.
    pub fn ignore_owners(mut self) -> Self {
        self.owners = true;
        self
    }
}

impl Tree {
    /// Reads everything below `path`, without following symlinks. Run as root, or some xattrs are not seen.
    pub fn read(path: impl AsRef<Path>) -> Self {
        let root = path.as_ref();
        let mut paths = BTreeMap::new();
        walk(root, Vec::new(), &mut paths);
        let mut groups: BTreeMap<(u64, u64), (Vec<u8>, usize)> = BTreeMap::new();
        for (path, metadata) in paths.iter().filter(|(_, metadata)| !metadata.is_dir()) {
            groups.entry((metadata.dev(), metadata.ino())).or_insert_with(|| (path.clone(), 0)).1 += 1;
        }
        let mut nodes = BTreeMap::new();
        for (path, metadata) in paths {
            let mut node = read_node(&absolute(root, &path), &metadata);
            if let Some((first, 2..)) = groups.get(&(metadata.dev(), metadata.ino())) {
                node.hard_link = Some(first.clone());
            }
            nodes.insert(path, node);
        }
        Self { nodes }
    }

    /// Returns the node at `path`.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// Returns the node at `path`; panics, naming it, if there is none.
    pub fn at(&self, path: impl AsRef<[u8]>) -> &Node {
        let path = path.as_ref();
        self.get(path).unwrap_or_else(|| panic!("the tree has no {:?}", show(path)))
    }

    /// Returns the paths, in byte order, with what no UTF-8 is escaped.
    pub fn paths(&self) -> Vec<String> {
        self.nodes.keys().map(|path| show(path)).collect()
    }

    /// Returns the tree below `path`, its paths relative to it.
    pub fn subtree(&self, path: impl AsRef<[u8]>) -> Tree {
        let path = path.as_ref();
        let inside = |candidate: &Vec<u8>| {
            let rest = candidate.strip_prefix(path)?;
            if path.is_empty() {
                Some(rest.to_vec())
            } else if rest.is_empty() {
                Some(Vec::new())
            } else {
                rest.strip_prefix(b"/").map(<[u8]>::to_vec)
            }
        };
        Tree { nodes: self.nodes.iter().filter_map(|(key, node)| Some((inside(key)?, node.clone()))).collect() }
    }

    /// Returns one line for each difference: `- path` only in `self`, `+ path` only in `other`, `~ path: field: a -> b`.
    pub fn differences(&self, other: &Tree, options: &Options) -> Vec<String> {
        let ignored = |tests: &[PathTest], path: &[u8]| tests.iter().any(|test| test(path));
        let mut lines = Vec::new();
        let mut all: Vec<&Vec<u8>> = self.nodes.keys().chain(other.nodes.keys()).collect();
        all.sort_unstable();
        all.dedup();
        for path in all.into_iter().filter(|path| !ignored(&options.paths, path)) {
            match (self.nodes.get(path), other.nodes.get(path)) {
                (Some(_), None) => lines.push(format!("- {}", show(path))),
                (None, Some(_)) => lines.push(format!("+ {}", show(path))),
                (Some(left), Some(right)) => {
                    let mut say = |field: &str, left: String, right: String| {
                        if left != right {
                            lines.push(format!("~ {}: {field}: {left} -> {right}", show(path)));
                        }
                    };
                    say("kind", left.kind.to_string(), right.kind.to_string());
                    say("mode", format!("{:04o}", left.mode), format!("{:04o}", right.mode));
                    if !options.owners {
                        say("owner", format!("{}:{}", left.uid, left.gid), format!("{}:{}", right.uid, right.gid));
                    }
                    say("size", left.size.to_string(), right.size.to_string());
                    say("device", format!("{:?}", left.device), format!("{:?}", right.device));
                    say("contents", left.contents.clone(), right.contents.clone());
                    say("link", show(&left.link), show(&right.link));
                    if !ignored(&options.mtimes, path) {
                        say("mtime", show_time(left.mtime), show_time(right.mtime));
                    }
                    for name in left.xattrs.keys().chain(right.xattrs.keys().filter(|n| !left.xattrs.contains_key(*n)))
                    {
                        if !ignored(&options.xattrs, name) {
                            let value =
                                |node: &Node| node.xattrs.get(name).map_or("none".into(), |v| format!("{:?}", show(v)));
                            say(&format!("xattr {}", show(name)), value(left), value(right));
                        }
                    }
                    let group = |node: &Node| node.hard_link.as_deref().map_or("none".into(), show);
                    say("hard link", group(left), group(right));
                }
                (None, None) => {}
            }
        }
        lines
    }

    /// Panics with all differences, if there are any.
    #[track_caller]
    pub fn assert_same(&self, other: &Tree, options: &Options) {
        let lines = self.differences(other, options);
        assert!(lines.is_empty(), "the trees differ in {} places:\n{}", lines.len(), lines.join("\n"));
    }

    /// Returns one SHA-256 in hex over everything, mtimes included.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (path, node) in &self.nodes {
            field(path);
            let Node { kind, mode, uid, gid, size, device, contents, link, mtime, xattrs, hard_link } = node;
            field(
                format!("{kind} {mode:o} {uid} {gid} {size} {device:?} {contents} {mtime:?} {}", xattrs.len())
                    .as_bytes(),
            );
            field(link);
            for (name, value) in xattrs {
                field(name);
                field(value);
            }
            field(hard_link.as_deref().unwrap_or_default());
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::File => "file",
            Kind::Dir => "directory",
            Kind::Symlink => "symlink",
            Kind::CharacterDevice => "character device",
            Kind::BlockDevice => "block device",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
        })
    }
}

fn walk(root: &Path, path: Vec<u8>, paths: &mut BTreeMap<Vec<u8>, Metadata>) {
    let full = absolute(root, &path);
    let metadata = match fs::symlink_metadata(&full) {
        Ok(metadata) => metadata,
        // An overlay lists a whiteout in a directory that only one layer has, and then says that it is not there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_empty() => return,
        Err(error) => panic!("looking at {}: {error}", full.display()),
    };
    let is_dir = metadata.is_dir();
    if is_dir {
        for entry in fs::read_dir(&full).unwrap_or_else(|error| panic!("listing {}: {error}", full.display())) {
            let name = entry.unwrap_or_else(|error| panic!("listing {}: {error}", full.display())).file_name();
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            walk(root, [&path[..], separator, name.as_bytes()].concat(), paths);
        }
    }
    paths.insert(path, metadata);
}

fn absolute(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(Path::new(std::ffi::OsStr::from_bytes(path))) }
}

fn read_node(path: &Path, metadata: &Metadata) -> Node {
    let file_type = metadata.file_type();
    let kind = if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        Kind::Symlink
    } else if file_type.is_char_device() {
        Kind::CharacterDevice
    } else if file_type.is_block_device() {
        Kind::BlockDevice
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else {
        Kind::Socket
    };
    let device = match kind {
        Kind::CharacterDevice | Kind::BlockDevice => {
            (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
        }
        _ => (0, 0),
    };
    let link = match kind {
        Kind::Symlink => fs::read_link(path)
            .unwrap_or_else(|error| panic!("reading the link {}: {error}", path.display()))
            .into_os_string()
            .into_vec(),
        _ => Vec::new(),
    };
    Node {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: if matches!(kind, Kind::File | Kind::Symlink) { metadata.size() } else { 0 },
        device,
        contents: if kind == Kind::File { hash_file(path) } else { String::new() },
        link,
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        xattrs: read_xattrs(path),
        hard_link: None,
    }
}

fn hash_file(path: &Path) -> String {
    let mut file = fs::File::open(path).unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer).unwrap_or_else(|error| panic!("reading {}: {error}", path.display())) {
            0 => break hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn read_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // The kernel's limits: 64 KiB for the list of names and for a value.
    let (mut names, mut value) = (vec![0u8; 65536], vec![0u8; 65536]);
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return BTreeMap::new(),
        Err(error) => panic!("listing the xattrs of {}: {error}", path.display()),
    };
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])
            .unwrap_or_else(|error| panic!("reading the xattr {} of {}: {error}", show(name), path.display()));
        xattrs.insert(name.to_vec(), value[..length].to_vec());
    }
    xattrs
}

fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn show_time((seconds, nanos): (i64, i64)) -> String {
    format!("{seconds}.{nanos:09}")
}
