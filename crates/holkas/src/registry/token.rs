//! Tokens: what a registry's token service gives for our credentials, kept until shortly before they end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::Method;

use super::auth::{Credentials, Secret};
use super::exchange::{Payload, Request, Response};
use super::url::{Url, escape};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::limits::TOKEN;

/// A token lives so long at least, whatever its service says: as in containers/image.
const SHORTEST: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds, in which it might end on the way.
const MARGIN: Duration = Duration::from_secs(5);

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) realm: Url,
    pub(super) name: Option<String>,
}

/// Checks the address of a token service before anything is sent to it.
///
/// # Errors
///
/// `Refused` if the way there is open while the registry's is not, and if a registry of the outside world sends us
/// to an address within our own network (CVE-2019-10214 and its kin).
pub(super) fn service(registry: &Url, realm: &str, name: Option<String>) -> Result<Service> {
    let frame = || format!("finding the token service of {}", registry.authority());
    let realm = Url::parse(realm).context(frame)?;
    if registry.is_secure() && !realm.is_secure() {
        return Err(Error::refused(format!("it is at {realm}, where credentials could be read on the way")))
            .context(frame);
    }
    let within = |url: &Url| url.host() == "localhost" || url.host().parse().is_ok_and(|ip| is_within(&ip));
    if within(&realm) && !within(registry) {
        return Err(Error::refused(format!("it is at {realm}, within this machine's own network"))).context(frame);
    }
    Ok(Service { realm, name })
}

/// Returns whether an address is loopback, link-local or private.
fn is_within(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_within(&IpAddr::V4(ip)),
            None => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
        },
    }
}

#[derive(Clone)]
struct Token {
    text: String,
    ends: Instant,
}

/// The tokens of one registry, by what they allow and for whom.
#[derive(Default)]
pub(super) struct Tokens(Mutex<BTreeMap<String, Token>>);

impl Tokens {
    /// Returns a token that allows `scopes`, asking the service with `send` if there is none.
    ///
    /// Others who need one wait meanwhile: it may well be the same.
    pub(super) fn get(
        &self,
        service: &Service,
        scopes: &[String],
        credentials: &Credentials,
        send: &dyn Fn(Request<'_>) -> Result<Response>,
    ) -> Result<String> {
        let key = key(scopes, credentials);
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(&key).filter(|token| token.ends > Instant::now()) {
            return Ok(token.text.clone());
        }
        let token =
            fetch(service, scopes, credentials, send).context(|| format!("getting a token from {}", service.realm))?;
        let text = token.text.clone();
        tokens.insert(key, token);
        Ok(text)
    }

    /// Forgets a token that was not accepted.
    pub(super) fn forget(&self, scopes: &[String], credentials: &Credentials) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(scopes, credentials));
    }
}

fn key(scopes: &[String], credentials: &Credentials) -> String {
    let who = match credentials {
        Credentials::Anonymous => "",
        Credentials::Basic { user, .. } => user,
        Credentials::IdentityToken(_) => "<token>",
        Credentials::Bearer(_) => "<bearer>",
    };
    format!("{who} {}", scopes.join(" "))
}

fn fetch(
    service: &Service,
    scopes: &[String],
    credentials: &Credentials,
    send: &dyn Fn(Request<'_>) -> Result<Response>,
) -> Result<Token> {
    let response = match credentials {
        Credentials::IdentityToken(secret) => {
            let mut form =
                format!("grant_type=refresh_token&client_id=holkas&refresh_token={}", escape(secret.expose()));
            for (key, value) in parameters(service, scopes) {
                form.push_str(&format!("&{key}={}", escape(&value)));
            }
            let headers = vec![("content-type", "application/x-www-form-urlencoded".to_string())];
            let url = service.realm.clone();
            send(Request { method: Method::POST, url, headers, body: Payload::Bytes(form.as_bytes()) })?
        }
        credentials => {
            let mut url = service.realm.clone();
            let mut headers = Vec::new();
            if let Credentials::Basic { user, password } = credentials {
                url = url.with_query("account", user);
                headers.push(("authorization", basic(user, password)));
            }
            for (key, value) in parameters(service, scopes) {
                url = url.with_query(key, &value);
            }
            send(Request { method: Method::GET, url, headers, body: Payload::None })?
        }
    };
    if response.status != 200 {
        let anonymous = matches!(credentials, Credentials::Anonymous);
        return Err(match response.into_error() {
            error if error.kind() == ErrorKind::Unauthorized && anonymous => error.hint("log in with `holkas login`"),
            error => error,
        });
    }
    parse(&response.read(TOKEN)?)
}

fn parameters<'a>(service: &Service, scopes: &'a [String]) -> impl Iterator<Item = (&'static str, String)> + 'a {
    let name = service.name.clone().map(|name| ("service", name));
    name.into_iter().chain(scopes.iter().map(|scope| ("scope", scope.clone())))
}

/// Returns the header of a user and a password.
pub(super) fn basic(user: &str, password: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
}

fn parse(bytes: &[u8]) -> Result<Token> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    // The error of the parser would quote what may be a secret.
    let answer: Answer = serde_json::from_slice(bytes).map_err(|_| Error::invalid("the answer is not a token"))?;
    let text = answer.token.filter(|token| !token.is_empty()).or(answer.access_token).unwrap_or_default();
    if text.is_empty() {
        return Err(Error::invalid("there is no token in the answer"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        let most = printable(text.as_bytes()).len();
        return Err(Error::invalid(format!("the token ({most} characters) cannot be sent in a header")));
    }
    let lives = Duration::from_secs(answer.expires_in.unwrap_or(0)).clamp(SHORTEST, Duration::from_secs(86_400));
    Ok(Token { text, ends: Instant::now() + lives - MARGIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_services_that_are_refused() {
        let at = |url: &str| Url::parse(url).expect("an address");
        for (registry, realm, fine) in [
            ("https://r.example/v2/", "https://auth.example/token", true),
            ("https://r.example/v2/", "http://auth.example/token", false),
            ("https://r.example/v2/", "https://169.254.169.254/latest", false),
            ("https://r.example/v2/", "https://[::ffff:10.0.0.1]/t", false),
            ("https://r.example/v2/", "https://localhost:1/t", false),
            ("https://10.0.0.7:5000/v2/", "https://10.0.0.8/t", true),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/t", true),
            ("http://127.0.0.1:5000/v2/", "file:///etc/passwd", false),
            ("https://r.example/v2/", "https://user:pw@auth.example/", false),
        ] {
            assert_eq!(service(&at(registry), realm, None).is_ok(), fine, "{registry} {realm}");
        }
    }

    #[test]
    fn answers_of_token_services() {
        for (answer, token) in [
            (r#"{"token":"a"}"#, Some("a")),
            (r#"{"token":"","access_token":"b","expires_in":3600}"#, Some("b")),
            (r#"{"access_token":"c\r\nX-Evil: 1"}"#, None),
            (r#"{"token":null}"#, None),
            ("{}", None),
            ("<html>", None),
            (r#"{"token":"d","expires_in":18446744073709551615}"#, Some("d")),
        ] {
            assert_eq!(parse(answer.as_bytes()).ok().map(|token| token.text).as_deref(), token, "{answer}");
        }
    }
}
