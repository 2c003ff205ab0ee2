//! The records of PAX headers, of which only what matters on disk is kept.

use super::Timestamp;
use crate::error::{Error, Result, printable};

/// What PAX records say of the next entry.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) atime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// There is a record that nothing on disk depends on, and that readers may take in several ways.
    pub(crate) unclear: bool,
}

/// Parses the records of one header. Anything malformed is an error: a record that one reader skips and another
/// takes is how a tar shows two faces (RUSTSEC-2026-0112).
pub(crate) fn parse(mut data: &[u8]) -> Result<Pax> {
    let mut pax = Pax::default();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or_else(|| Error::invalid("a malformed record in a PAX header"))?;
        data = rest;
        take(&mut pax, key, value)?;
    }
    Ok(pax)
}

/// Splits `"<length> <key>=<value>\n"` off.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(8).position(|&byte| byte == b' ')?;
    let length = usize::try_from(integer(&data[..space])?).ok()?;
    if data[0] == b'-' || length > data.len() || length < space + 2 || data[length - 1] != b'\n' {
        return None;
    }
    let body = &data[space + 1..length - 1];
    let equals = body.iter().position(|&byte| byte == b'=')?;
    let key = &body[..equals];
    (!key.is_empty() && !key.contains(&0)).then_some((key, &body[equals + 1..], &data[length..]))
}

fn take(pax: &mut Pax, key: &[u8], value: &[u8]) -> Result<()> {
    let malformed = || Error::invalid(format!("the PAX record `{}` has a malformed value", printable(key)));
    if key.starts_with(b"GNU.sparse.") {
        return Err(Error::unsupported("a PAX sparse file, which no container store can give back"));
    }
    if matches!(key, b"path" | b"linkpath" | b"uname" | b"gname") && value.contains(&0) {
        return Err(malformed());
    }
    if value.is_empty() {
        // Go's archive/tar then keeps the header's own value, and forgets empty xattrs.
        pax.unclear |= key.starts_with(b"SCHILY.xattr.");
        return Ok(());
    }
    let fresh = match key {
        b"path" => pax.path.replace(value.to_vec()).is_none(),
        b"linkpath" => pax.link.replace(value.to_vec()).is_none(),
        b"size" => {
            let size = integer(value).and_then(|size| u64::try_from(size).ok()).ok_or_else(malformed)?;
            pax.size.replace(size).is_none()
        }
        b"uid" => pax.uid.replace(integer(value).ok_or_else(malformed)?).is_none(),
        b"gid" => pax.gid.replace(integer(value).ok_or_else(malformed)?).is_none(),
        b"mtime" => pax.mtime.replace(time(value).ok_or_else(malformed)?).is_none(),
        b"atime" => pax.atime.replace(time(value).ok_or_else(malformed)?).is_none(),
        b"ctime" => {
            let ctime = time(value);
            pax.unclear |= ctime.is_none() || pax.ctime.is_some();
            pax.ctime = ctime;
            true
        }
        _ => match key.strip_prefix(b"SCHILY.xattr.") {
            Some(name) => {
                let fresh = pax.xattrs.iter().all(|(other, _)| other != name);
                pax.xattrs.push((name.to_vec(), value.to_vec()));
                fresh
            }
            None => true,
        },
    };
    if fresh {
        return Ok(());
    }
    Err(Error::invalid(format!("a PAX header has the record `{}` twice", printable(key))))
}

/// Parses a decimal number, perhaps negative.
fn integer(digits: &[u8]) -> Option<i64> {
    let bare = digits.strip_prefix(b"-").unwrap_or(digits);
    if bare.is_empty() || !bare.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Parses seconds with an optional fraction, of which nanoseconds are kept.
fn time(value: &[u8]) -> Option<Timestamp> {
    let dot = value.iter().position(|&byte| byte == b'.').unwrap_or(value.len());
    let seconds = integer(&value[..dot])?;
    let mut nanos: u32 = 0;
    let fraction = value.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for n in 0..9 {
        nanos = nanos * 10 + fraction.get(n).map_or(0, |digit| u32::from(digit - b'0'));
    }
    if value[0] == b'-' && nanos != 0 {
        // -1.25 is 0.75 s after -2.
        return Some(Timestamp { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Timestamp { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<(i64, u32)>| {
            assert_eq!(time(text.as_bytes()).map(|time| (time.seconds, time.nanos)), expected, "{text}");
        };
        check("1350244992.023960108", Some((1350244992, 23960108)));
        check("1350244992.0239601089", Some((1350244992, 23960108)));
        check("1350244992.3", Some((1350244992, 300000000)));
        check("-1.25", Some((-2, 750000000)));
        check("-0.5", Some((-1, 500000000)));
        check("-157766400", Some((-157766400, 0)));
        check("1.", Some((1, 0)));
        check(".5", None);
        check("1.x", None);
        check("+1", None);
        check("", None);
        check("99999999999999999999", None);
    }

    #[test]
    fn records_that_lie() {
        let check = |data: &[u8], good: bool| assert_eq!(parse(data).is_ok(), good, "{}", printable(data));
        check(b"", true);
        check(b"11 path=ab\n", true);
        check(b"10 path=ab\n", false);
        check(b"12 path=ab\n", false);
        check(b"11 path=ab ", false);
        check(b"11 path=ab\n\0\0", false);
        check(b"-11 path=ab\n", false);
        check(b"+11 path=ab\n", false);
        check(b"4 =\n", false);
        check(b"5 =a\n", false);
        check(b"6 abc\n", false);
        check(b"11 path=a\0\n", false);
        check(b"11 path=ab\n11 path=ab\n", false);
        check(b"10 size=1\n", true);
        check(b"11 size=-1\n", false);
        check(b"99999999999999999999 path=a\n", false);
        check(b"22 GNU.sparse.major=1\n", false);
    }
}
