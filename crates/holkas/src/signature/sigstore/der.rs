//! DER, the binary form of keys and certificates, as far as they need it: definite lengths in their shortest form only.

use crate::error::{Error, Result};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// Returns the tag of a field that only its place tells.
pub(super) const fn context(number: u8, constructed: bool) -> u8 {
    0x80 | if constructed { 0x20 } else { 0 } | number
}

/// One value: its tag, and its contents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub contents: &'a [u8],
    /// The value with its tag and length.
    pub whole: &'a [u8],
}

/// Reads one value after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

fn invalid(why: &str) -> Error {
    Error::invalid(format!("not valid DER: {why}"))
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next value.
    pub(super) fn element(&mut self) -> Result<Element<'a>> {
        let ended = || invalid("it ends too early");
        let (tag, rest) = self.0.split_first().ok_or_else(ended)?;
        if tag & 0x1f == 0x1f {
            return Err(invalid("a tag has more than one byte"));
        }
        let (first, mut rest) = rest.split_first().ok_or_else(ended)?;
        let length = match *first {
            short @ 0..=0x7f => usize::from(short),
            // Sixteen megabytes are far beyond every limit of what is read here.
            long @ 0x81..=0x83 => {
                let (digits, after) = rest.split_at_checked(usize::from(long & 0x7f)).ok_or_else(ended)?;
                rest = after;
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                if length < 0x80 || digits.first() == Some(&0) {
                    return Err(invalid("a length is not in its shortest form"));
                }
                length
            }
            _ => return Err(invalid("a length is indefinite or too great")),
        };
        let (contents, rest) = rest.split_at_checked(length).ok_or_else(ended)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Ok(Element { tag: *tag, contents, whole })
    }

    /// Returns the next value, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>> {
        let element = self.element()?;
        match element.tag == tag {
            true => Ok(element),
            false => Err(invalid(&format!("a value has the tag {:#04x}, not {tag:#04x}", element.tag))),
        }
    }

    /// Returns the next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>> {
        match self.0.first() == Some(&tag) {
            true => self.element().map(Some),
            false => Ok(None),
        }
    }

    /// Returns a reader of the parts of the next value, which must have this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Result<Self> {
        Ok(Self(self.expect(tag)?.contents))
    }

    /// Fails unless everything was read.
    pub(super) fn end(self) -> Result<()> {
        match self.is_at_end() {
            true => Ok(()),
            false => Err(invalid("bytes follow where it should end")),
        }
    }
}

/// Returns the bytes of a bit string that has whole bytes.
pub(super) fn whole_bytes(bits: &[u8]) -> Result<&[u8]> {
    match bits.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(invalid("a bit string does not have whole bytes")),
    }
}

/// Returns a value with this tag.
#[cfg(test)]
pub(super) fn write(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_one_after_the_other() {
        let long = write(OCTET_STRING, &[9; 300]);
        let bytes = write(SEQUENCE, &[write(BOOLEAN, &[0xff]), long.clone()].concat());
        let mut all = Reader::new(&bytes);
        let mut inside = all.enter(SEQUENCE).expect("a sequence");
        all.end().expect("nothing follows");
        assert!(inside.optional(INTEGER).expect("none").is_none());
        assert_eq!(inside.optional(BOOLEAN).expect("one").expect("one").contents, [0xff]);
        assert!(inside.end().is_err());
        assert_eq!(inside.expect(OCTET_STRING).expect("the string").whole, long);
        assert!(inside.is_at_end());
    }

    #[test]
    fn other_forms_are_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x01],
            &[0x1f, 0x01, 0x00],             // a tag of two bytes
            &[0x30, 0x80, 0x00, 0x00],       // indefinite
            &[0x04, 0x81, 0x01, 0x00],       // not the shortest
            &[0x04, 0x82, 0x00, 0x80],       // likewise
            &[0x04, 0x84, 0x00, 0, 0, 1, 0], // too great
            &[0x04, 0x82, 0x01],
        ] {
            assert!(Reader::new(bytes).element().is_err(), "{bytes:x?}");
        }
        assert!(Reader::new(&[0x05, 0x00]).expect(SEQUENCE).is_err());
        assert_eq!(whole_bytes(&[0, 1]).expect("whole"), [1]);
        assert!(whole_bytes(&[1, 2]).is_err() && whole_bytes(&[]).is_err());
    }
}
