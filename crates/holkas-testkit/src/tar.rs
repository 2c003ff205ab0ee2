//! Tar bytes with every field under control: what tools write, and what no tool would.

/// Type flag of a regular file.
pub const FILE: u8 = b'0';
/// Type flag of a regular file in archives older than POSIX.
pub const OLD_FILE: u8 = 0;
/// Type flag of a hard link.
pub const HARD_LINK: u8 = b'1';
/// Type flag of a symbolic link.
pub const SYMLINK: u8 = b'2';
/// Type flag of a character device.
pub const CHARACTER_DEVICE: u8 = b'3';
/// Type flag of a block device.
pub const BLOCK_DEVICE: u8 = b'4';
/// Type flag of a directory.
pub const DIR: u8 = b'5';
/// Type flag of a fifo.
pub const FIFO: u8 = b'6';
/// Type flag of a contiguous file, which nothing makes today.
pub const CONTIGUOUS: u8 = b'7';
/// Type flag of a PAX header that counts for all entries after it.
pub const PAX_GLOBAL: u8 = b'g';
/// Type flag of a PAX header that counts for the next entry.
pub const PAX: u8 = b'x';
/// Type flag of a GNU sparse file.
pub const GNU_SPARSE: u8 = b'S';

/// The time of entries that set none: 2023-11-14 22:13:20 UTC.
pub const DEFAULT_MTIME: Time = Time { seconds: 1_700_000_000, nanos: 0 };

const BLOCK: usize = 512;

/// A moment: seconds since 1970, and nanoseconds after them (so -0.25 s is `seconds: -1, nanos: 750_000_000`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 10^9.
    pub nanos: u32,
}

/// How a name that does not fit the 100 bytes of the header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongNames {
    /// PAX records `path` and `linkpath`.
    Pax,
    /// GNU `L` and `K` entries.
    Gnu,
    /// The ustar prefix field (names only; panics where it does not fit).
    Ustar,
}

/// How a number that does not fit its octal field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargeNumbers {
    /// PAX records `uid`, `gid`, `size` and `mtime`; the field holds zero.
    Pax,
    /// The base-256 of GNU and star, in the field itself.
    Base256,
}

/// One entry of a tar with all its fields.
///
/// Make one with [`Entry::new`] and change what the test is about:
///
/// ```
/// use holkas_testkit::tar::{Entry, FILE, TarBuilder};
/// let entry = Entry { uid: 3_000_000, ..Entry::new(FILE, "srv/data") };
/// let bytes = TarBuilder::new().entry(entry).finish();
/// assert_eq!(bytes.len() % 512, 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type flag, any byte.
    pub kind: u8,
    /// The name as bytes, exactly as it shall be written.
    pub path: Vec<u8>,
    /// The mode field, as it is.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// The modification time. Nanoseconds and negative seconds become a PAX record.
    pub mtime: Time,
    /// What follows the header, padded to whole blocks.
    pub contents: Vec<u8>,
    /// What the header says of the length of `contents`; its true length if unset.
    pub size: Option<u64>,
    /// The target of links.
    pub link: Vec<u8>,
    /// The owner's name (at most 32 bytes).
    pub user_name: Vec<u8>,
    /// The group's name (at most 32 bytes).
    pub group_name: Vec<u8>,
    /// The major number of devices.
    pub device_major: u32,
    /// The minor number of devices.
    pub device_minor: u32,
    /// Extended attributes, written as PAX records `SCHILY.xattr.<name>`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// More PAX records, written last and as they are.
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
    /// How long names are written.
    pub long_names: LongNames,
    /// How large numbers are written.
    pub large_numbers: LargeNumbers,
}

impl Entry {
    /// Returns an entry of type `kind` called `path`: owner 0:0, mode 0755 for directories, 0777 for symlinks, else 0644.
    pub fn new(kind: u8, path: impl AsRef<[u8]>) -> Self {
        let mode = match kind {
            DIR => 0o755,
            SYMLINK => 0o777,
            _ => 0o644,
        };
        Self {
            kind,
            path: path.as_ref().to_vec(),
            mode,
            uid: 0,
            gid: 0,
            mtime: DEFAULT_MTIME,
            contents: Vec::new(),
            size: None,
            link: Vec::new(),
            user_name: Vec::new(),
            group_name: Vec::new(),
            device_major: 0,
            device_minor: 0,
            xattrs: Vec::new(),
            pax: Vec::new(),
            long_names: LongNames::Pax,
            large_numbers: LargeNumbers::Pax,
        }
    }

    /// Sets the target of a link.
    pub fn linking(mut self, target: impl AsRef<[u8]>) -> Self {
        self.link = target.as_ref().to_vec();
        self
    }

    /// Adds an extended attribute.
    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Adds a PAX record.
    pub fn pax_record(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }
}

/// Writes a tar, entry by entry. The same calls give the same bytes.
///
/// ```
/// use holkas_testkit::tar::TarBuilder;
/// let bytes = TarBuilder::new()
///     .dir("etc/", 0o755)
///     .file("etc/motd", 0o644, "hello\n")
///     .symlink("etc/issue", "motd")
///     .whiteout("etc/passwd")
///     .finish();
/// assert_eq!(bytes.len(), 512 * 7);
/// ```
#[derive(Debug, Clone)]
pub struct TarBuilder {
    bytes: Vec<u8>,
    uid: u64,
    gid: u64,
    mtime: Time,
}

impl Default for TarBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TarBuilder {
    /// Returns an empty tar whose entries belong to 0:0 and date from [`DEFAULT_MTIME`].
    pub fn new() -> Self {
        Self { bytes: Vec::new(), uid: 0, gid: 0, mtime: DEFAULT_MTIME }
    }

    /// Sets the owner of the following entries, except those of [`TarBuilder::entry`].
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Sets the time of the following entries, except those of [`TarBuilder::entry`].
    pub fn mtime(mut self, seconds: i64, nanos: u32) -> Self {
        self.mtime = Time { seconds, nanos };
        self
    }

    /// Adds a directory. The name is written as it is: say `etc/` for the usual trailing slash.
    pub fn dir(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        let entry = Entry { mode, ..self.plain(DIR, path) };
        self.entry(entry)
    }

    /// Adds a regular file.
    pub fn file(self, path: impl AsRef<[u8]>, mode: u32, contents: impl AsRef<[u8]>) -> Self {
        let entry = Entry { mode, contents: contents.as_ref().to_vec(), ..self.plain(FILE, path) };
        self.entry(entry)
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let entry = Entry { link: target.as_ref().to_vec(), ..self.plain(SYMLINK, path) };
        self.entry(entry)
    }

    /// Adds a hard link to the entry called `target`; it carries the mode 0644, which wins over the target's.
    pub fn hard_link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let entry = Entry { link: target.as_ref().to_vec(), ..self.plain(HARD_LINK, path) };
        self.entry(entry)
    }

    /// Adds a device; `kind` is [`CHARACTER_DEVICE`] or [`BLOCK_DEVICE`].
    pub fn device(self, path: impl AsRef<[u8]>, kind: u8, major: u32, minor: u32) -> Self {
        let entry = Entry { device_major: major, device_minor: minor, ..self.plain(kind, path) };
        self.entry(entry)
    }

    /// Adds a fifo.
    pub fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        let entry = self.plain(FIFO, path);
        self.entry(entry)
    }

    /// Adds the whiteout of `path`: for `etc/passwd` an empty file `etc/.wh.passwd`.
    pub fn whiteout(self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let name = [&path[..cut], b".wh.", &path[cut..]].concat();
        self.file(name, 0o644, "")
    }

    /// Adds the mark that `dir` hides what lower layers have in it: an empty file `<dir>/.wh..wh..opq`.
    pub fn opaque(self, dir: impl AsRef<[u8]>) -> Self {
        let dir = dir.as_ref().strip_suffix(b"/").unwrap_or(dir.as_ref());
        let name = if dir.is_empty() { b".wh..wh..opq".to_vec() } else { [dir, b"/.wh..wh..opq"].concat() };
        self.file(name, 0o644, "")
    }

    /// Adds an entry of which everything is said.
    pub fn entry(mut self, entry: Entry) -> Self {
        write_entry(&mut self.bytes, &entry);
        self
    }

    /// Adds a PAX header for all that follows.
    pub fn global_pax(mut self, records: &[(&str, &str)]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            pax_record(&mut data, key.as_bytes(), value.as_bytes());
        }
        write_special(&mut self.bytes, PAX_GLOBAL, b"pax_global_header", &data, MAGIC_USTAR);
        self
    }

    /// Adds bytes as they are, wherever the tar is now.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// Returns the length of what was written until now.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the tar, ended by two blocks of zeros.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    /// Returns the tar without the two blocks of zeros.
    pub fn finish_without_end(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the ended tar, padded with zeros to a multiple of `record` bytes (GNU tar has 10240).
    pub fn finish_padded(self, record: usize) -> Vec<u8> {
        let mut bytes = self.finish();
        bytes.resize(bytes.len().next_multiple_of(record), 0);
        bytes
    }

    fn plain(&self, kind: u8, path: impl AsRef<[u8]>) -> Entry {
        Entry { uid: self.uid, gid: self.gid, mtime: self.mtime, ..Entry::new(kind, path) }
    }
}

/// Returns the value of `security.capability` (revision 2) with the capability numbers `permitted`, effective.
///
/// Number 10 is CAP_NET_BIND_SERVICE, 13 is CAP_NET_RAW.
pub fn file_capability(permitted: &[u32]) -> Vec<u8> {
    const VFS_CAP_REVISION_2: u32 = 0x0200_0000;
    const VFS_CAP_FLAGS_EFFECTIVE: u32 = 1;
    let mut words = [VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, 0, 0, 0, 0];
    for number in permitted {
        words[1 + 2 * (*number as usize / 32)] |= 1 << (number % 32);
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const MAGIC_USTAR: &[u8; 8] = b"ustar\x0000";
const MAGIC_GNU: &[u8; 8] = b"ustar  \0";

fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    let mut records = Vec::new();
    let magic = if entry.long_names == LongNames::Gnu { MAGIC_GNU } else { MAGIC_USTAR };
    let mut header = [0u8; BLOCK];

    match entry.long_names {
        _ if entry.path.len() <= 100 => header[..entry.path.len()].copy_from_slice(&entry.path),
        LongNames::Pax => {
            pax_record(&mut records, b"path", &entry.path);
            header[..100].copy_from_slice(&entry.path[..100]);
        }
        LongNames::Gnu => {
            write_special(out, b'L', b"././@LongLink", &[&entry.path[..], &[0]].concat(), MAGIC_GNU);
            header[..100].copy_from_slice(&entry.path[..100]);
        }
        LongNames::Ustar => {
            let cut = (0..entry.path.len())
                .find(|&at| entry.path[at] == b'/' && at <= 155 && (1..=100).contains(&(entry.path.len() - at - 1)))
                .unwrap_or_else(|| panic!("no slash splits {:?} for ustar", String::from_utf8_lossy(&entry.path)));
            header[345..345 + cut].copy_from_slice(&entry.path[..cut]);
            header[..entry.path.len() - cut - 1].copy_from_slice(&entry.path[cut + 1..]);
        }
    }
    match entry.long_names {
        _ if entry.link.len() <= 100 => header[157..157 + entry.link.len()].copy_from_slice(&entry.link),
        LongNames::Pax => {
            pax_record(&mut records, b"linkpath", &entry.link);
            header[157..257].copy_from_slice(&entry.link[..100]);
        }
        LongNames::Gnu => {
            write_special(out, b'K', b"././@LongLink", &[&entry.link[..], &[0]].concat(), MAGIC_GNU);
            header[157..257].copy_from_slice(&entry.link[..100]);
        }
        LongNames::Ustar => panic!("ustar cannot hold the link {:?}", String::from_utf8_lossy(&entry.link)),
    }

    let size = entry.size.unwrap_or(entry.contents.len() as u64);
    octal(&mut header[100..108], entry.mode.into());
    for (range, key, value) in [(108..116, "uid", entry.uid), (116..124, "gid", entry.gid), (124..136, "size", size)] {
        let field = &mut header[range];
        if fits(field.len(), value) {
            octal(field, value);
        } else if entry.large_numbers == LargeNumbers::Base256 {
            base256(field, value.into());
        } else {
            octal(field, 0);
            pax_record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let Time { seconds, nanos } = entry.mtime;
    let octal_seconds = u64::try_from(seconds).ok().filter(|&value| fits(12, value));
    match octal_seconds {
        Some(value) => octal(&mut header[136..148], value),
        None if entry.large_numbers == LargeNumbers::Base256 => base256(&mut header[136..148], seconds.into()),
        None => octal(&mut header[136..148], 0),
    }
    if nanos != 0 || (octal_seconds.is_none() && entry.large_numbers == LargeNumbers::Pax) {
        pax_record(&mut records, b"mtime", pax_time(entry.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        pax_record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    for (key, value) in &entry.pax {
        pax_record(&mut records, key, value);
    }

    header[156] = entry.kind;
    header[257..265].copy_from_slice(magic);
    header[265..265 + entry.user_name.len()].copy_from_slice(&entry.user_name);
    header[297..297 + entry.group_name.len()].copy_from_slice(&entry.group_name);
    octal(&mut header[329..337], entry.device_major.into());
    octal(&mut header[337..345], entry.device_minor.into());
    checksum(&mut header);

    if !records.is_empty() {
        let base = entry.path.rsplit(|&byte| byte == b'/').find(|part| !part.is_empty()).unwrap_or(b"root");
        let name = [b"PaxHeaders.0/", &base[..base.len().min(80)]].concat();
        write_special(out, PAX, &name, &records, MAGIC_USTAR);
    }
    out.extend_from_slice(&header);
    out.extend_from_slice(&entry.contents);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn write_special(out: &mut Vec<u8>, kind: u8, name: &[u8], data: &[u8], magic: &[u8; 8]) {
    let mut header = [0u8; BLOCK];
    header[..name.len()].copy_from_slice(name);
    octal(&mut header[100..108], 0o644);
    octal(&mut header[108..116], 0);
    octal(&mut header[116..124], 0);
    octal(&mut header[124..136], data.len() as u64);
    octal(&mut header[136..148], 0);
    header[156] = kind;
    header[257..265].copy_from_slice(magic);
    octal(&mut header[329..337], 0);
    octal(&mut header[337..345], 0);
    checksum(&mut header);
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Appends `<length> <key>=<value>\n`, where the length counts its own digits.
fn pax_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(&[key, b"=", value, b"\n"].concat());
}

fn pax_time(time: Time) -> String {
    // -0.25 is stored as second -1 plus 750 million nanoseconds, and written with one sign for both parts.
    let (sign, seconds, nanos) = match time.seconds {
        seconds if seconds >= 0 => ("", seconds.unsigned_abs(), time.nanos),
        seconds if time.nanos == 0 => ("-", seconds.unsigned_abs(), 0),
        seconds => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - time.nanos),
    };
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{nanos:09}").trim_end_matches('0').to_owned()
}

fn fits(width: usize, value: u64) -> bool {
    value < 1u64 << (3 * (width - 1))
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    field[digits] = 0;
}

fn base256(field: &mut [u8], value: i128) {
    let bytes = value.to_be_bytes();
    let width = field.len();
    field.copy_from_slice(&bytes[bytes.len() - width..]);
    field[0] |= 0x80;
}

fn checksum(header: &mut [u8; BLOCK]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
