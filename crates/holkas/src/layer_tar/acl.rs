//! Access control lists as GNU tar and libarchive write them: `user::rwx,user:7:r--,group::r-x,mask::r-x,other::---`.

use crate::error::{Error, Result};

/// The one version of the kernel's form.
const VERSION: u32 = 2;

/// Returns the text of a list in the kernel's form (`system.posix_acl_*`): a version, then tag, rights and ID of each
/// entry, all little-endian.
pub(super) fn text(value: &[u8]) -> Result<Vec<u8>> {
    let malformed = || Error::invalid("its access control list is malformed");
    let (version, entries) = value.split_first_chunk::<4>().ok_or_else(malformed)?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return Err(malformed());
    }
    let mut lines = Vec::new();
    for entry in entries.chunks_exact(8) {
        let (tag, rights) = (u16::from_le_bytes([entry[0], entry[1]]), u16::from_le_bytes([entry[2], entry[3]]));
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = match tag {
            0x01 => "user:".to_string(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_string(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_string(),
            0x20 => "other:".to_string(),
            _ => return Err(malformed()),
        };
        let right = |bit: u16, letter: char| if rights & bit == 0 { '-' } else { letter };
        lines.push(format!("{who}:{}{}{}", right(4, 'r'), right(2, 'w'), right(1, 'x')));
    }
    Ok(lines.join(",").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_text() {
        let entry = |tag: u16, rights: u16, id: u32| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let list = [
            2u32.to_le_bytes().to_vec(),
            entry(1, 7, u32::MAX),
            entry(2, 4, 1000),
            entry(4, 5, u32::MAX),
            entry(8, 6, 7),
            entry(16, 5, u32::MAX),
            entry(32, 0, u32::MAX),
        ]
        .concat();
        assert_eq!(
            String::from_utf8(text(&list).unwrap()).unwrap(),
            "user::rwx,user:1000:r--,group::r-x,group:7:rw-,mask::r-x,other::---"
        );
        for wrong in [&list[..3], &list[..11], &[1, 0, 0, 0][..], &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..]] {
            assert!(text(wrong).is_err(), "{wrong:?}");
        }
    }
}
