//! A private certificate authority and the certificates that it gave, good and bad ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

/// How a server shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// By a certificate for `127.0.0.1` and `localhost`, given by the private authority.
    Private,
    /// By one like that which ended in 2020.
    Expired,
    /// By one of the authority for `other.example`.
    OtherName,
    /// By one for the right names that nobody has signed but itself.
    SelfSigned,
    /// By one for the right names that is an authority's, signed by itself, and the only one that clients trust.
    SelfSignedAuthority,
    /// As [`Tls::Private`]; and clients must show a certificate of the same authority.
    ClientCertificate,
}

/// The certificates of one server, as files for it and for its clients.
///
/// ```text
/// certs/      what a client's --cert-dir or certs.d has: ca.crt, and client.cert and client.key if they are wanted
/// strangers/  the same with a client certificate of another authority
/// server.crt, server.key
/// ```
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    wants_client: bool,
}

const WHY: &str = "the parameters of a certificate are right";

impl Certificates {
    /// Makes an authority and what it gives.
    pub fn new(tls: Tls) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (authority, issuer) = authority("authority of the tests");
        let mut params = leaf(match tls {
            Tls::OtherName => &["other.example"],
            _ => &["127.0.0.1", "localhost"],
        });
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if tls == Tls::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        }
        let key = KeyPair::generate().expect(WHY);
        if tls == Tls::SelfSignedAuthority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = match tls {
            Tls::SelfSigned | Tls::SelfSignedAuthority => params.self_signed(&key),
            _ => params.signed_by(&key, &issuer),
        }
        .expect(WHY);
        write(dir.path().join("server.crt"), &certificate.pem());
        write(dir.path().join("server.key"), &key.serialize_pem());
        let wants_client = tls == Tls::ClientCertificate;
        for name in ["certs", "strangers"] {
            let certs = dir.path().join(name);
            fs::create_dir(&certs).expect("a new directory");
            let trusted = if tls == Tls::SelfSignedAuthority { &certificate } else { &authority };
            write(certs.join("ca.crt"), &trusted.pem());
            if wants_client {
                let stranger = self::authority("stranger").1;
                let mut params = leaf(&["client"]);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let key = KeyPair::generate().expect(WHY);
                let issuer = if name == "certs" { &issuer } else { &stranger };
                write(certs.join("client.cert"), &params.signed_by(&key, issuer).expect(WHY).pem());
                write(certs.join("client.key"), &key.serialize_pem());
            }
        }
        let (authority, certificate) = (authority.der().clone(), certificate.der().clone());
        Self { dir, authority, certificate, key: key.serialize_der(), wants_client }
    }

    /// Returns the directory for `--cert-dir`, or for the place `certs.d/HOST:PORT`.
    pub fn dir(&self) -> PathBuf {
        self.path("certs")
    }

    /// Returns a directory like [`Certificates::dir`] whose client certificate is of another authority.
    pub fn strangers_dir(&self) -> PathBuf {
        self.path("strangers")
    }

    /// Returns the file of the authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.path("certs/ca.crt")
    }

    /// Returns the file of the server's certificate.
    pub fn server_certificate(&self) -> PathBuf {
        self.path("server.crt")
    }

    /// Returns the file of the server's private key.
    pub fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider can do TLS 1.2 and 1.3");
        let builder = if self.wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.clone()).expect("a certificate that was just made");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect(WHY);
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        Arc::new(
            builder.with_single_cert(vec![self.certificate.clone()], key).expect("the key is that of the certificate"),
        )
    }
}

fn authority(name: &str) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).expect(WHY);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect(WHY);
    let certificate = params.self_signed(&key).expect(WHY);
    (certificate, Issuer::new(params, key))
}

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect(WHY);
    params.distinguished_name.push(DnType::CommonName, names[0].as_str());
    params.use_authority_key_identifier_extension = true;
    params
}

fn write(path: impl AsRef<Path>, pem: &str) {
    let path = path.as_ref();
    fs::write(path, pem).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
