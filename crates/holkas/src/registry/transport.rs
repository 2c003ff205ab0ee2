//! Connections: TLS, proxies and timeouts, set once for all requests to a host.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};

use super::certificates::{Certificates, ClientIdentity};
use super::shown;
use super::url::host_of;
use crate::error::{Context, Error, Result, printable};
use crate::limits::CHUNK;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the first byte of an answer, and all of its headers.
    pub first_byte: Duration,
    /// For the next byte, in either direction.
    pub idle: Duration,
    /// The least bytes a second that still count as going on, over a time of `idle`.
    pub least_rate: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        let usual = Duration::from_secs(30);
        Self { connect: usual, first_byte: usual, idle: usual, least_rate: 128 }
    }
}

/// The proxies that connections go through.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http` addresses.
    pub http: Option<ureq::Proxy>,
    /// For `https` addresses.
    pub https: Option<ureq::Proxy>,
    /// Hosts that are reached without one, as `NO_PROXY` has them.
    pub none_for: Vec<String>,
}

impl fmt::Debug for Proxies {
    /// Leaves out the addresses, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxies(http: {}, https: {})", self.http.is_some(), self.https.is_some())
    }
}

impl Proxies {
    /// Returns the proxy for an address, as Go's `ProxyFromEnvironment` decides: loopback is never behind one.
    fn of(&self, secure: bool, authority: &str) -> Option<&ureq::Proxy> {
        let host = host_of(authority);
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if loopback || self.none_for.iter().any(|entry| without_proxy(entry, host, authority)) {
            return None;
        }
        if secure { self.https.as_ref() } else { self.http.as_ref() }
    }
}

/// Returns whether an entry of `NO_PROXY` speaks of this host: `*`, `host`, `.domain`, `*.domain`, `host:port`, an address block.
fn without_proxy(entry: &str, host: &str, authority: &str) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    if entry.is_empty() {
        return false;
    }
    if entry == "*" || entry == host || entry == authority {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/')
        && let (Ok(network), Ok(ip), Ok(bits)) = (network.parse(), host.parse(), bits.parse())
    {
        return in_block(ip, network, bits);
    }
    let domain = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')).unwrap_or(&entry);
    host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'))
}

fn in_block(ip: std::net::IpAddr, network: std::net::IpAddr, bits: u32) -> bool {
    use std::net::IpAddr::{V4, V6};
    match (ip, network) {
        (V4(ip), V4(network)) if bits <= 32 => (u64::from(ip.to_bits() ^ network.to_bits())) >> (32 - bits) == 0,
        (V6(ip), V6(network)) if bits <= 128 => bits == 0 || (ip.to_bits() ^ network.to_bits()) >> (128 - bits) == 0,
        _ => false,
    }
}

/// Whether and how a server must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// By a certificate that the system, or the host's own directory, vouches for.
    Verified,
    /// Not at all: the user said so for this host.
    Anyone,
}

/// The certificates that the operating system trusts, read when first needed.
#[derive(Debug, Clone, Default)]
pub(super) struct SystemRoots(Arc<OnceLock<Vec<Certificate<'static>>>>);

impl SystemRoots {
    fn get(&self) -> &[Certificate<'static>] {
        self.0.get_or_init(|| {
            // What cannot be read is not trusted; if nothing is left, the handshake says so.
            let found = rustls_native_certs::load_native_certs().certs;
            found.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        })
    }
}

/// Makes the connections to a host. They are kept and used again by later requests.
pub(super) fn agent(
    (secure, authority): (bool, &str),
    trust: Trust,
    certificates: &Certificates,
    system: &SystemRoots,
    proxies: &Proxies,
    timeouts: &Timeouts,
) -> Result<Agent> {
    let mut tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .disable_verification(trust == Trust::Anyone)
        .client_cert(client_certificate(certificates)?);
    if secure {
        let system = if trust == Trust::Anyone { &[] } else { system.get() };
        let own = certificates.authorities.iter().map(|der| Certificate::from_der(der).to_owned());
        tls = tls.root_certs(RootCerts::from(system.iter().cloned().chain(own).collect::<Vec<_>>()));
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .proxy(proxies.of(secure, authority).cloned())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(timeouts.connect))
        .timeout_resolve(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.first_byte))
        .timeout_per_read(Some(timeouts.idle.max(timeouts.first_byte)))
        .timeout_per_write(Some(timeouts.idle))
        .max_idle_connections_per_host(8)
        .input_buffer_size(CHUNK)
        .output_buffer_size(CHUNK)
        .build();
    if !secure || trust == Trust::Anyone || certificates.authorities.is_empty() {
        return Ok(Agent::new_with_config(config));
    }
    let tls = shown::Tls(own_tls(certificates, system)?);
    let connector = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default());
    let connector = connector.chain(TcpConnector::default()).chain(tls);
    Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
}

/// Returns how TLS is spoken to a host that has certificates of its own.
fn own_tls(certificates: &Certificates, system: &SystemRoots) -> Result<Arc<ClientConfig>> {
    let unusable = |what: &str| Error::invalid(format!("{what} cannot be used"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let system = system.get().iter().map(|root| CertificateDer::from_slice(root.der()));
    // What cannot be parsed vouches for nobody.
    roots.add_parsable_certificates(system.chain(certificates.authorities.iter().cloned()));
    let usual = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
    let usual = usual.map_err(|_| unusable("the certificates"))?;
    let verifier = Arc::new(shown::Verifier::new(usual, certificates.authorities.clone()));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| unusable("TLS"))?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(match certificates.identities.first() {
        Some(ClientIdentity { chain, key, .. }) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|_| unusable("the client's certificate"))?,
        None => builder.with_no_client_auth(),
    }))
}

fn client_certificate(certificates: &Certificates) -> Result<Option<ClientCert>> {
    // One is shown at most: a server that knows several of us cannot be asked which it wants.
    let Some(ClientIdentity { chain, key, .. }) = certificates.identities.first() else { return Ok(None) };
    let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    // The library takes keys of all kinds as PEM only.
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(key.secret_der()));
    let key = PrivateKey::from_pem(pem.as_bytes()).map_err(|_| Error::invalid("the client's key cannot be used"))?;
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

/// Reads the address of a proxy, as environment variables have it.
pub fn proxy(text: &str) -> Result<ureq::Proxy> {
    ureq::Proxy::new(text).map_err(|_| Error::invalid("it is not the address of a proxy")).context(|| {
        let shown = text.rsplit('@').next().unwrap_or_default();
        format!("reading proxy `{}`", printable(shown.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_need_no_proxy() {
        for (entry, authority, expected) in [
            ("*", "a.example", true),
            ("a.example", "a.example:5000", true),
            ("a.example:5000", "a.example:5000", true),
            ("a.example:5001", "a.example:5000", false),
            ("example", "a.example", true),
            (".example", "a.example", true),
            ("*.example", "a.example", true),
            ("ample", "a.example", false),
            ("10.0.0.0/8", "10.1.2.3:443", true),
            ("10.0.0.0/8", "11.1.2.3:443", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("fd00::/8", "[fd12::1]:5000", true),
            ("", "a.example", false),
        ] {
            assert_eq!(without_proxy(entry, host_of(authority), authority), expected, "{entry} {authority}");
        }
        let proxies =
            Proxies { https: Some(proxy("http://user:secret@p:3128").expect("a proxy")), ..Proxies::default() };
        assert!(proxies.of(true, "a.example").is_some());
        for (secure, authority) in
            [(false, "a.example"), (true, "localhost:5000"), (true, "127.0.0.9"), (true, "[::1]:1")]
        {
            assert!(proxies.of(secure, authority).is_none(), "{authority}");
        }
        assert!(!format!("{proxies:?}{}", proxy("gopher://u:secret@h").expect_err("no proxy")).contains("secret"));
    }
}
