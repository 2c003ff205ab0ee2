//! Chains of certificates: from one that the signature brings along to an authority that the policy trusts.

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::pem;
use super::public_key::PublicKey;
use crate::error::{Context, Error, Result, printable};

/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x03";

/// Authorities that a policy trusts.
#[derive(Debug, Clone)]
pub struct Authorities(Vec<Vec<u8>>);

impl Authorities {
    /// Reads a file of certificates.
    ///
    /// # Errors
    ///
    /// `Invalid` if it has none, has something else, or one that is damaged or no authority's.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        let frame = || "reading the certificates of authorities";
        let found = pem::certificates(text).context(frame)?;
        for (n, der) in found.iter().enumerate() {
            authority(der).context(|| format!("certificate {}", n + 1)).context(frame)?;
        }
        Ok(Self(found))
    }

    pub(super) fn to_ders(&self) -> Vec<Vec<u8>> {
        self.0.clone()
    }
}

fn authority(der: &[u8]) -> Result<()> {
    if !Certificate::parse(der)?.is_authority {
        return Err(Error::invalid("it does not let its holder sign certificates"));
    }
    let certificate = CertificateDer::from(der);
    anchor_from_trusted_cert(&certificate).map(drop).map_err(|error| Error::invalid(error.to_string()))
}

/// A certificate that was verified, and its key.
#[derive(Debug)]
pub(super) struct VerifiedCertificate {
    pub certificate: Certificate,
    pub key: PublicKey,
    der: Vec<u8>,
}

impl VerifiedCertificate {
    /// Fails unless the certificate is for the owner of this address.
    pub(super) fn check_email(&self, wanted: &str) -> Result<()> {
        match self.certificate.emails.iter().any(|email| email == wanted) {
            true => Ok(()),
            false => Err(Error::mismatch(format!(
                "the certificate is not for `{}`, but for {}",
                printable(wanted.as_bytes()),
                match self.certificate.emails.as_slice() {
                    [] => "no e-mail address".to_string(),
                    some => format!("`{}`", printable(some.join("`, `").as_bytes())),
                },
            ))),
        }
    }

    /// Fails unless the certificate is for this host: a DNS name, which its wildcards may match, or an IP address.
    pub(super) fn check_hostname(&self, wanted: &str) -> Result<()> {
        let invalid = |why: String| Error::mismatch(format!("the host `{}`: {why}", printable(wanted.as_bytes())));
        let bare = wanted.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(wanted);
        let name = ServerName::try_from(bare).map_err(|error| invalid(error.to_string()))?;
        let der = CertificateDer::from(self.der.as_slice());
        EndEntityCert::try_from(&der)
            .and_then(|certificate| certificate.verify_is_valid_for_subject_name(&name))
            .map_err(|error| invalid(format!("the certificate is not for it: {}", words(&error))))
    }
}

/// Returns the certificates between a signer's and an authority's that a signature brings along: all but the last,
/// which should be the authority's own, and is of no use, because only the policy says who is trusted.
pub(super) fn untrusted_intermediates(chain: Option<&str>) -> Result<Vec<Vec<u8>>> {
    let Some(chain) = chain.filter(|chain| !chain.is_empty()) else { return Ok(Vec::new()) };
    let mut chain = pem::certificates(chain.as_bytes()).context(|| "reading the chain of certificates")?;
    chain.pop();
    Ok(chain)
}

/// Verifies that an authority vouches for a certificate, at a time in seconds since 1970.
///
/// # Errors
///
/// `Mismatch` unless every certificate of a chain is valid then, and lets its holder do what the chain needs.
pub(super) fn verify(
    certificate: &[u8],
    intermediates: &[Vec<u8>],
    authorities: &Authorities,
    time: i64,
) -> Result<VerifiedCertificate> {
    let frame = || "verifying the signer's certificate";
    let der = pem::only_block(certificate, "certificate").context(frame)?;
    if der.label != "CERTIFICATE" {
        return Err(Error::invalid("it is no certificate").context(frame()));
    }
    let der = der.der;
    verify_chain(&der, intermediates, authorities, time).context(frame)?;
    // Only what was verified is read: a second parser must not be a way in.
    let certificate = Certificate::parse(&der).context(frame)?;
    let key = PublicKey::from_info(&certificate.key).context(frame)?;
    Ok(VerifiedCertificate { certificate, key, der })
}

/// Says what webpki found, of what users meet; the rest is for who knows certificates.
fn words(error: &webpki::Error) -> String {
    use webpki::Error as Found;
    match error {
        Found::CertExpired { .. } => "a certificate had expired at the time that counts",
        Found::CertNotValidYet { .. } => "a certificate was not valid yet at the time that counts",
        Found::UnknownIssuer => "no authority that the policy trusts vouches for it",
        Found::InvalidSignatureForPublicKey => "a certificate was not signed by the authority that it names",
        Found::RequiredEkuNotFoundContext(_) => "a certificate is not for signing code",
        Found::CaUsedAsEndEntity => "it is an authority's certificate, which signs certificates alone",
        Found::EndEntityUsedAsCa => "a certificate was signed by a holder of one that may not sign any",
        Found::UnsupportedCriticalExtension => "a certificate has a critical extension that is not understood",
        other => return other.to_string(),
    }
    .to_string()
}

fn verify_chain(leaf: &[u8], intermediates: &[Vec<u8>], authorities: &Authorities, time: i64) -> Result<()> {
    let refused = |error: webpki::Error| Error::mismatch(words(&error));
    let at = u64::try_from(time).map_err(|_| Error::mismatch("it was signed before 1970"))?;
    // webpki does not look at the dates of what it is told to trust.
    let mut roots = Vec::new();
    for root in &authorities.0 {
        if Certificate::parse(root)?.is_valid_at(time) {
            roots.push(CertificateDer::from(root.as_slice()));
        }
    }
    if roots.is_empty() {
        return Err(Error::mismatch("no authority that the policy trusts was valid at the time of signing"));
    }
    let anchors: Vec<TrustAnchor<'_>> =
        roots.iter().map(anchor_from_trusted_cert).collect::<Result<_, _>>().map_err(refused)?;
    let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(refused)?;
    // Nor does it look at keyUsage, by which an authority may say that it does not sign certificates.
    let may_sign = |path: &VerifiedPath<'_>| {
        let all = path.intermediate_certificates().all(|certificate| {
            Certificate::parse(&certificate.der()).is_ok_and(|certificate| certificate.is_authority)
        });
        if all { Ok(()) } else { Err(webpki::Error::EndEntityUsedAsCa) }
    };
    leaf.verify_for_usage(
        default_provider().signature_verification_algorithms.all,
        &anchors,
        &intermediates,
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(at)),
        KeyUsage::required_if_present(CODE_SIGNING),
        None,
        Some(&may_sign),
    )
    .map(drop)
    .map_err(refused)
}
