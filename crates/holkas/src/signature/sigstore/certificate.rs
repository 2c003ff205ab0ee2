//! One X.509 certificate: what of it decides who signed, and what the chain's verifier leaves to us.
//!
//! Chains are verified by webpki alone. This reads what it does not give out: the times, usages and constraints of
//! a root, e-mail addresses, and the issuer of the identity that Fulcio writes into its certificates.

use jiff::civil::DateTime;

use super::der::{
    BIT_STRING, BOOLEAN, Element, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE,
    UTC_TIME, UTF8_STRING, context,
};
use crate::error::{Error, Result};

/// keyUsage, subjectAltName and basicConstraints: 2.5.29.15, .17 and .19.
const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
const ALTERNATIVE_NAMES: &[u8] = b"\x55\x1d\x11";
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
/// Who proved to Fulcio who the subject is: 1.3.6.1.4.1.57264.1.1, plain text, and .1.8, a UTF-8 string.
const ISSUER_V1: &[u8] = b"\x2b\x06\x01\x04\x01\x83\xbf\x30\x01\x01";
const ISSUER_V2: &[u8] = b"\x2b\x06\x01\x04\x01\x83\xbf\x30\x01\x08";

/// What is read of a certificate.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    /// From when and until when it is valid, in seconds since 1970.
    pub validity: (i64, i64),
    /// Its SubjectPublicKeyInfo.
    pub key: Vec<u8>,
    /// Whether it may sign certificates, as far as it says.
    pub is_authority: bool,
    /// The e-mail addresses among its names.
    pub emails: Vec<String>,
    /// Fulcio's two extensions.
    issuer_v1: Option<String>,
    issuer_v2: Option<String>,
}

impl Certificate {
    /// Reads a certificate. Nothing about it is proven by that.
    pub(super) fn parse(der: &[u8]) -> Result<Self> {
        let mut all = Reader::new(der);
        let mut outer = all.enter(SEQUENCE)?;
        all.end()?;
        let mut fields = outer.enter(SEQUENCE)?;
        outer.expect(SEQUENCE)?;
        outer.expect(BIT_STRING)?;
        outer.end()?;

        let versioned = fields.optional(context(0, true))?.is_some();
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?; // the signature's algorithm
        fields.expect(SEQUENCE)?; // the issuer
        let mut validity = fields.enter(SEQUENCE)?;
        let validity = (time(validity.element()?)?, time(validity.element()?)?);
        fields.expect(SEQUENCE)?; // the subject
        let key = fields.expect(SEQUENCE)?.whole.to_vec();
        fields.optional(context(1, false))?;
        fields.optional(context(2, false))?;

        // Certificates of version 1 cannot say what they are for; whoever trusts one has said it.
        let mut certificate = Self { validity, key, is_authority: !versioned, ..Self::default() };
        if let Some(extensions) = fields.optional(context(3, true))? {
            certificate.extensions(extensions.contents)?;
        }
        fields.end()?;
        Ok(certificate)
    }

    fn extensions(&mut self, contents: &[u8]) -> Result<()> {
        let mut outer = Reader::new(contents);
        let mut list = outer.enter(SEQUENCE)?;
        outer.end()?;
        let (mut seen, mut may_sign) = (Vec::new(), true);
        while !list.is_at_end() {
            let mut extension = list.enter(SEQUENCE)?;
            let identifier = extension.expect(OBJECT_IDENTIFIER)?.contents;
            extension.optional(BOOLEAN)?;
            let value = extension.expect(OCTET_STRING)?.contents;
            extension.end()?;
            if seen.contains(&identifier) {
                return Err(Error::invalid("the certificate has an extension twice"));
            }
            seen.push(identifier);
            match identifier {
                KEY_USAGE => {
                    let bits = Reader::new(value).expect(BIT_STRING)?.contents;
                    // The second byte has the first bits, from the left; the sixth is keyCertSign.
                    may_sign = bits.get(1).is_some_and(|byte| byte & 0x04 != 0);
                }
                BASIC_CONSTRAINTS => {
                    let mut constraints = Reader::new(value).enter(SEQUENCE)?;
                    self.is_authority = constraints.optional(BOOLEAN)?.is_some_and(|is| is.contents == [0xff]);
                }
                ALTERNATIVE_NAMES => self.emails = emails(value)?,
                ISSUER_V1 => self.issuer_v1 = Some(text(value)?),
                ISSUER_V2 => {
                    let mut reader = Reader::new(value);
                    self.issuer_v2 = Some(text(reader.expect(UTF8_STRING)?.contents)?);
                    reader.end()?;
                }
                _ => {}
            }
        }
        self.is_authority &= may_sign;
        Ok(())
    }

    /// Returns who proved to Fulcio who the subject is.
    ///
    /// # Errors
    ///
    /// `Invalid` if the certificate does not say it, or says two things.
    pub(super) fn issuer(&self) -> Result<&str> {
        match (&self.issuer_v1, &self.issuer_v2) {
            (Some(one), Some(other)) if one != other => Err(Error::invalid("the certificate names two OIDC issuers")),
            (Some(issuer), _) | (None, Some(issuer)) => Ok(issuer),
            (None, None) => Err(Error::invalid("the certificate does not name an OIDC issuer")),
        }
    }

    /// Returns whether it is valid at a time, in seconds since 1970.
    pub(super) fn is_valid_at(&self, time: i64) -> bool {
        (self.validity.0..=self.validity.1).contains(&time)
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid("a text of the certificate is not UTF-8"))?;
    Ok(text.to_string())
}

fn emails(value: &[u8]) -> Result<Vec<String>> {
    let mut outer = Reader::new(value);
    let mut names = outer.enter(SEQUENCE)?;
    outer.end()?;
    let mut found = Vec::new();
    while !names.is_at_end() {
        let name = names.element()?;
        if name.tag == context(1, false) {
            if !name.contents.is_ascii() {
                return Err(Error::invalid("an e-mail address of the certificate is not ASCII"));
            }
            found.push(text(name.contents)?);
        }
    }
    Ok(found)
}

/// Returns a time, in seconds since 1970. All are in UTC, and have seconds.
fn time(element: Element<'_>) -> Result<i64> {
    let invalid = || Error::invalid("a time of the certificate is not one");
    let (format, text) = match element.tag {
        UTC_TIME => {
            let text = text(element.contents)?;
            // RFC 5280: the years of two digits are those from 1950 to 2049.
            let century = if text.as_str() < "5" { "20" } else { "19" };
            ("%Y%m%d%H%M%SZ", format!("{century}{text}"))
        }
        GENERALIZED_TIME => ("%Y%m%d%H%M%SZ", text(element.contents)?),
        _ => return Err(invalid()),
    };
    if text.len() != "20260101000000Z".len() {
        return Err(invalid());
    }
    let time = DateTime::strptime(format, &text).map_err(|_| invalid())?;
    // Not by way of a time stamp: those end before the year 9999 does, which stands for "never".
    Ok(time.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs())
}

#[cfg(test)]
mod tests {
    use super::super::der::write;
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let at = |tag, text: &str| {
            let bytes = write(tag, text.as_bytes());
            let element = Reader::new(&bytes).element().expect("one value");
            time(element).map_err(|error| error.to_string())
        };
        assert_eq!(at(UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(at(UTC_TIME, "221212184818Z"), Ok(1_670_870_898));
        assert_eq!(at(GENERALIZED_TIME, "20221212184818Z"), Ok(1_670_870_898));
        assert!(at(UTC_TIME, "491231235959Z") > Ok(2_000_000_000) && at(UTC_TIME, "500101000000Z") < Ok(0));
        assert!(at(GENERALIZED_TIME, "99991231235959Z").is_ok());
        for wrong in
            ["2212121848Z", "221212184818", "221312184818Z", "221212184818+0100", "+21212184818Z", "22121218481 Z"]
        {
            assert!(at(UTC_TIME, wrong).is_err(), "{wrong}");
        }
        assert!(at(OCTET_STRING, "20221212184818Z").is_err());
    }

    #[test]
    fn addresses_are_those_of_mail_only() {
        let names = [
            write(context(1, false), b"a@b.example"),
            write(context(2, false), b"c.example"),
            write(context(6, false), b"d@e.example"),
            write(context(1, false), b"f@g.example"),
        ];
        assert_eq!(emails(&write(SEQUENCE, &names.concat())).expect("valid"), ["a@b.example", "f@g.example"]);
        assert!(emails(&write(SEQUENCE, &write(context(1, false), "ä@b".as_bytes()))).is_err());
    }
}
