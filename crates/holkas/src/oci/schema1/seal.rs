//! The signature that a schema 1 manifest must have for a registry to take it, and that proves nothing.
//!
//! Nobody checks whose it is. skopeo makes a key for each manifest, signs with it and throws it away, so that no two of
//! its manifests have the same bytes. Here the key, and the number that must else be secret, are always the same: the
//! signature is as valid and says as little, and the same image has the same bytes every time. The digest does not
//! depend on it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::oci::Algorithm;

/// The public key, P-256, as a JSON web key with the ID that libtrust makes of it. The private one is
/// `6f6ba0510baf03244a8bd33736b44c6597157540696647c23ce5c6ad44f3d196`.
const KEY: &str = concat!(
    r#"{"crv":"P-256","kid":"KGHW:4EUQ:WOL7:QPPW:QFGV:SPB5:DL4Z:V4IR:FEHG:UKHV:XEDX:IQUT","kty":"EC","#,
    r#""x":"f7vDr4xCYLllfcD1cI_nEaIJ39cn3Q1jy51qLeXHobs","y":"JyMUzguMvNOdZgo_Y8ZZ2pvoEO4YFl4X43PPZVQMZOE"}"#
);

/// The order of the curve, in 64-bit words, the lowest first, as all numbers here.
const ORDER: [u64; 4] = [0xf3b9_cac2_fc63_2551, 0xbce6_faad_a717_9e84, 0xffff_ffff_ffff_ffff, 0xffff_ffff_0000_0000];

/// ECDSA's `r` where its number `k` is 1: the x of the curve's base point.
const R: [u64; 4] = [0xf4a1_3945_d898_c296, 0x7703_7d81_2deb_33a0, 0xf8bc_e6e5_63a4_40f2, 0x6b17_d1f2_e12c_4247];

/// `r` times the private key, modulo the order: with `k` being 1, `s` is the hash plus this.
const R_TIMES_KEY: [u64; 4] =
    [0xdede_8ee7_5016_e06e, 0xcc75_b0c1_5dd3_1b55, 0xe0b6_849c_f6e7_edea, 0xb5ce_aeb5_6a03_73c0];

/// Returns a manifest with a signature.
pub(super) fn seal(unsigned: &str) -> Vec<u8> {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let body = unsigned.strip_suffix('}').unwrap_or(unsigned);
    // libtrust's form: the payload is the document up to `formatLength`, and then `formatTail`.
    let protected = format!(
        r#"{{"formatLength":{},"formatTail":"{}","time":"1970-01-01T00:00:00Z"}}"#,
        body.len(),
        encoded(&unsigned.as_bytes()[body.len()..])
    );
    let protected = encoded(protected.as_bytes());
    let hash = Algorithm::Sha256.digest(format!("{protected}.{}", encoded(unsigned.as_bytes())).as_bytes());
    let signature = encoded(&[bytes_of(R), bytes_of(sum(number(&hash.hex()), R_TIMES_KEY))].concat());
    format!(
        r#"{body},"signatures":[{{"header":{{"jwk":{KEY},"alg":"ES256"}},"signature":"{signature}","protected":"{protected}"}}]}}"#
    )
    .into_bytes()
}

/// Returns the number that 64 hexadecimal digits say.
fn number(hex: &str) -> [u64; 4] {
    [3, 2, 1, 0].map(|n| u64::from_str_radix(&hex[16 * n..16 * (n + 1)], 16).expect("a digest is hexadecimal"))
}

fn bytes_of(number: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.rchunks_mut(8).zip(number) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Adds two numbers modulo the order.
fn sum(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let (mut words, mut carry) = ([0; 5], false);
    for n in 0..4 {
        let (first, over) = a[n].overflowing_add(b[n]);
        let (second, again) = first.overflowing_add(u64::from(carry));
        (words[n], carry) = (second, over || again);
    }
    words[4] = u64::from(carry);
    // A hash may be greater than the order, but not twice as great.
    loop {
        let (mut less, mut borrow) = ([0; 5], false);
        for n in 0..5 {
            let (first, under) = words[n].overflowing_sub(ORDER.get(n).copied().unwrap_or(0));
            let (second, again) = first.overflowing_sub(u64::from(borrow));
            (less[n], borrow) = (second, under || again);
        }
        if borrow {
            return [words[0], words[1], words[2], words[3]];
        }
        words = less;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_below_the_order() {
        let most = number(&"f".repeat(64));
        let one_less = [ORDER[0] - 1, ORDER[1], ORDER[2], ORDER[3]];
        assert_eq!(sum(ORDER, [0; 4]), [0; 4]);
        assert_eq!(sum(one_less, [1, 0, 0, 0]), [0; 4]);
        assert_eq!(sum(one_less, [0; 4]), one_less);
        // 2^256 - 1 + n - 1 is 2^256 - n + 2 (n - 1), which leaves 2^256 - n - 2.
        let rest = [0x0c46_353d_039c_daaf - 2, 0x4319_0552_58e8_617b, 0, 0x0000_0000_ffff_ffff];
        assert_eq!(sum(most, one_less), rest);
        assert_eq!(bytes_of(number(&"07".repeat(32))), [7; 32]);
    }
}
