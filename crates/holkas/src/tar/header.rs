//! The 512-byte header block of a tar: v7, ustar, star and GNU.

use super::Timestamp;
use crate::error::{Error, Result};

/// The unit that a tar is made of.
pub(crate) const BLOCK: usize = 512;

/// What a header block is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A PAX header for all that follows.
    Global,
    /// A PAX header for the next entry.
    Pax,
    /// The GNU long name of the next entry.
    LongName,
    /// The GNU long link target of the next entry.
    LongLink,
}

/// The fields of a block, numbers parsed, names not yet joined.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) kind: Kind,
    /// The type flag is NUL: a name that ends in `/` then means a directory.
    pub(crate) old: bool,
    pub(crate) prefix: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    /// With all that is in the field, as the kind that some writers put there too.
    pub(crate) whole_mode: i64,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) atime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    pub(crate) major: i64,
    pub(crate) minor: i64,
}

/// Parses a block that is not all zeros.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Block<'_>> {
    check_sum(block)?;
    let field = |what: &str, from: usize, to: usize| {
        number(&block[from..to]).ok_or_else(|| Error::invalid(format!("the {what} in the tar header is not a number")))
    };
    let size = field("size", 124, 136)?;
    let size = u64::try_from(size).map_err(|_| Error::invalid(format!("the size in the tar header is {size}")))?;
    let flag = block[156];
    let whole_mode = field("mode", 100, 108)?;
    let mut parsed = Block {
        kind: kind_of(flag)?,
        old: flag == 0,
        prefix: b"",
        name: text(&block[..100]),
        link: text(&block[157..257]),
        mode: (whole_mode & 0o7777) as u32,
        whole_mode,
        uid: field("owner", 108, 116)?,
        gid: field("group", 116, 124)?,
        size,
        mtime: Timestamp { seconds: field("time", 136, 148)?, nanos: 0 },
        atime: None,
        ctime: None,
        major: 0,
        minor: 0,
    };
    let ustar = &block[257..263] == b"ustar\0";
    let gnu = &block[257..265] == b"ustar  \0";
    if ustar || gnu {
        parsed.major = field("device number", 329, 337)?;
        parsed.minor = field("device number", 337, 345)?;
    }
    if ustar {
        // star's header ends its prefix earlier, for two times.
        let star = &block[508..] == b"tar\0";
        parsed.prefix = text(&block[345..if star { 476 } else { 500 }]);
        if star {
            parsed.atime = Some(Timestamp { seconds: field("access time", 476, 488)?, nanos: 0 });
            // Nothing on disk depends on it: no tree is refused for it.
            parsed.ctime = number(&block[488..500]).map(|seconds| Timestamp { seconds, nanos: 0 });
        }
    }
    if gnu {
        match (optional(&block[345..357]), optional(&block[357..369])) {
            (Some(access), Some(change)) => {
                parsed.atime = access.map(|seconds| Timestamp { seconds, nanos: 0 });
                parsed.ctime = change.map(|seconds| Timestamp { seconds, nanos: 0 });
            }
            // Go before 1.8 wrote a ustar prefix where GNU has times, so images of that age have it
            // (archive/tar/reader.go, `readHeader`).
            _ => {
                let prefix = text(&block[345..500]);
                parsed.prefix = if prefix.is_ascii() { prefix } else { b"" };
            }
        }
    }
    Ok(parsed)
}

fn kind_of(flag: u8) -> Result<Kind> {
    Ok(match flag {
        0 | b'0' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'g' => Kind::Global,
        b'x' => Kind::Pax,
        b'L' => Kind::LongName,
        b'K' => Kind::LongLink,
        b'S' => return Err(Error::unsupported("a GNU sparse file, which no container store can give back")),
        other => return Err(Error::unsupported(format!("a tar entry of type {:?}", char::from(other)))),
    })
}

/// The sum is over bytes; some old tools took them as signed. Both are accepted, as everywhere.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let (before, after) = (&block[..148], &block[156..]);
    // The field itself counts as spaces.
    let spaces = 8 * i64::from(b' ');
    let unsigned = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte)).sum::<i64>();
    let signed = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte as i8)).sum::<i64>();
    match octal(&block[148..156]) {
        Some(sum) if sum == spaces + unsigned(before) + unsigned(after) => Ok(()),
        Some(sum) if sum == spaces + signed(before) + signed(after) => Ok(()),
        _ => Err(Error::invalid("a tar header has a wrong checksum: this is no tar, or it is damaged")),
    }
}

/// Returns the field up to its first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Returns a field that need not be there: `Some(None)` if it is not, `None` if it is malformed.
fn optional(field: &[u8]) -> Option<Option<i64>> {
    if field[0] == 0 { Some(None) } else { number(field).map(Some) }
}

/// Parses octal digits, or base-256 where the first bit is set.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    let negative = field[0] & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (n, &byte) in field.iter().enumerate() {
        let byte = if n == 0 { (byte ^ invert) & 0x7f } else { byte ^ invert };
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if negative { !value } else { value })
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let from = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = text(&field[from..]);
    let digits = &digits[..digits.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1)];
    digits.iter().try_fold(0i64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_writings() {
        let check = |field: &[u8], expected: Option<i64>| assert_eq!(number(field), expected, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0", Some(0));
        check(b"77777777777\0", Some(0o77777777777));
        check(b"777777777777", Some(0o777777777777));
        check(b"12 34\0", None);
        check(b"-1\0", None);
        check(b"8\0", None);
        check(b"\x80\0\0\0\0\0\0\x07", Some(7));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2));
        check(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX));
        check(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None);
        check(b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None);
    }
}
