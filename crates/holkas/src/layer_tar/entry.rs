//! One entry's headers: ustar, with a PAX header before it for what does not fit.

use crate::error::{Error, Result};

/// The unit of a tar, in bytes.
pub(super) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of so many bytes, which follow.
    File(u64),
    /// One more name of the file at this path.
    HardLink(Vec<u8>),
    /// A symlink to this.
    Symlink(Vec<u8>),
    /// A character device, by its numbers.
    CharacterDevice((u32, u32)),
    /// A block device, by its numbers.
    BlockDevice((u32, u32)),
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

/// All that the headers say.
pub(super) struct Entry<'a> {
    /// The path, that of a directory with a `/` at its end.
    pub(super) path: &'a [u8],
    /// What it is.
    pub(super) kind: Kind,
    /// The permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    /// The owner.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
    /// When it was last changed: seconds since 1970, and nanoseconds after them.
    pub(super) mtime: (i64, u32),
    /// More PAX records.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry<'_> {
    /// Returns the header, after a PAX header if one is needed.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let (flag, size, link, device) = match &self.kind {
            Kind::File(size) => (b'0', *size, &b""[..], (0, 0)),
            Kind::HardLink(first) => (b'1', 0, &first[..], (0, 0)),
            Kind::Symlink(target) => (b'2', 0, &target[..], (0, 0)),
            Kind::CharacterDevice(device) => (b'3', 0, &b""[..], *device),
            Kind::BlockDevice(device) => (b'4', 0, &b""[..], *device),
            Kind::Directory => (b'5', 0, &b""[..], (0, 0)),
            Kind::Fifo => (b'6', 0, &b""[..], (0, 0)),
        };
        let mut pax = Vec::new();
        let path = field(&mut pax, b"path", self.path);
        let link = field(&mut pax, b"linkpath", link);
        let uid = number(&mut pax, b"uid", self.uid.into(), 7);
        let gid = number(&mut pax, b"gid", self.gid.into(), 7);
        let size = number(&mut pax, b"size", size, 11);
        let (seconds, nanos) = self.mtime;
        let time = match u64::try_from(seconds) {
            Ok(seconds) if nanos == 0 => number(&mut pax, b"mtime", seconds, 11),
            Ok(_) | Err(_) => {
                record(&mut pax, b"mtime", time(seconds, nanos).as_bytes());
                u64::try_from(seconds).ok().filter(|seconds| fits(*seconds, 11)).unwrap_or(0)
            }
        };
        if !fits(device.0.into(), 7) || !fits(device.1.into(), 7) {
            return Err(Error::unsupported(format!("device {}:{} has numbers that no tar has", device.0, device.1)));
        }
        for (key, value) in &self.records {
            record(&mut pax, key, value);
        }
        let mut bytes = Vec::new();
        if !pax.is_empty() {
            // GNU tar's name for it, but without the process's number.
            let name = Header { path: b"././@PaxHeader", flag: b'x', size: pax.len() as u64, ..Header::default() };
            bytes.extend_from_slice(&name.to_bytes());
            bytes.extend_from_slice(&pax);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        let header = Header { path, flag, mode: self.mode, uid, gid, size, time, link, device };
        bytes.extend_from_slice(&header.to_bytes());
        Ok(bytes)
    }
}

/// Returns what a field of 100 bytes holds of a text, which goes into a record if it is longer.
fn field<'a>(pax: &mut Vec<u8>, key: &[u8], text: &'a [u8]) -> &'a [u8] {
    if text.len() > 100 {
        record(pax, key, text);
    }
    &text[..text.len().min(100)]
}

/// Returns what a field of so many octal digits holds of a number, which goes into a record if it is larger.
fn number(pax: &mut Vec<u8>, key: &[u8], value: u64, digits: u32) -> u64 {
    if fits(value, digits) {
        return value;
    }
    record(pax, key, value.to_string().as_bytes());
    0
}

fn fits(value: u64, digits: u32) -> bool {
    value < 1 << (3 * digits)
}

/// Adds `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    pax.extend_from_slice(length.to_string().as_bytes());
    for part in [&b" "[..], key, b"=", value, b"\n"] {
        pax.extend_from_slice(part);
    }
}

/// Returns a time as PAX writes it: decimal seconds, of which as many digits as are needed.
fn time(seconds: i64, nanos: u32) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    // A time before 1970 is so much before a second, as its sign says.
    let (sign, whole, nanos) = match seconds {
        0.. => ("", seconds, nanos),
        _ => ("-", -(seconds + 1), 1_000_000_000 - nanos),
    };
    format!("{sign}{whole}.{nanos:09}").trim_end_matches('0').to_string()
}

#[derive(Default)]
struct Header<'a> {
    path: &'a [u8],
    flag: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    time: u64,
    link: &'a [u8],
    device: (u32, u32),
}

impl Header<'_> {
    fn to_bytes(&self) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        header[..self.path.len()].copy_from_slice(self.path);
        octal(&mut header[100..108], self.mode.into());
        octal(&mut header[108..116], self.uid);
        octal(&mut header[116..124], self.gid);
        octal(&mut header[124..136], self.size);
        octal(&mut header[136..148], self.time);
        header[156] = self.flag;
        header[157..157 + self.link.len()].copy_from_slice(self.link);
        header[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut header[329..337], self.device.0.into());
        octal(&mut header[337..345], self.device.1.into());
        sum(&mut header);
        header
    }
}

/// Writes the check sum of a header, all other fields of which are set.
pub(crate) fn sum(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut header[148..155], sum);
}

/// Writes a number into a field of a header, in octal digits, as many as it has room for beside a NUL.
pub(crate) fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for length in 0..2000 {
            let mut pax = Vec::new();
            record(&mut pax, b"path", &vec![b'x'; length]);
            let digits = pax.iter().position(|byte| *byte == b' ').unwrap();
            assert_eq!(std::str::from_utf8(&pax[..digits]).unwrap(), pax.len().to_string());
        }
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (1_700_000_000, 500_000_000, "1700000000.5"),
            (1, 1, "1.000000001"),
            (-1, 750_000_000, "-0.25"),
            (-2, 750_000_000, "-1.25"),
            (-3, 0, "-3"),
        ] {
            assert_eq!(time(seconds, nanos), text);
        }
    }
}
