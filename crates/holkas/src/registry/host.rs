//! One registry: found by a ping, asked with what it wants of us, asked again if it has a bad moment.

use std::sync::{Arc, Mutex, PoisonError};

use ureq::http::Method;

use super::auth::{AuthKey, Credentials};
use super::challenge::{Challenge, challenges};
use super::client::Client;
use super::conf::DOCKER_HUB;
use super::exchange::{Payload, Request, Response, exchange};
use super::retry::{Attempts, Retry, may_pass, retry_after};
use super::settings::Login;
use super::token::{self, Tokens, basic};
use super::transport::Trust;
use super::url::Url;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::limits::Limit;
use crate::reference::Name;

/// A registry's host.
pub(super) struct Host {
    client: Client,
    /// `HOST[:PORT]` as in names of images.
    authority: String,
    trust: Trust,
    /// Held while the first ping is under way: all others would only ask the same.
    found: Mutex<Option<Arc<Found>>>,
    tokens: Tokens,
}

/// What a ping tells.
struct Found {
    /// The address of `/v2/`.
    base: Url,
    challenges: Vec<Challenge>,
    /// Whether signatures are kept by the extension of Atomic Registry and OpenShift.
    signatures: bool,
}

/// What is wanted of a registry.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) to: To,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Payload<'a>,
    /// The repository, below the host, by which credentials are looked up.
    pub(super) repository: &'a str,
    /// What a token must allow: `repository:NAME:ACTIONS`, each.
    pub(super) scopes: Vec<String>,
}

/// Where a call goes.
pub(super) enum To {
    /// A path below `/v2/`.
    Path(String),
    /// An address that the registry gave, of an upload for example.
    Address(Url),
}

impl Host {
    pub(super) fn new(client: Client, authority: &str, trust: Trust) -> Self {
        Self { client, authority: authority.to_string(), trust, found: Mutex::default(), tokens: Tokens::default() }
    }

    /// Returns `HOST[:PORT]`.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns where docker.io really is; all others are where their name says.
    fn server(&self) -> &str {
        if self.authority == "docker.io" { DOCKER_HUB } else { &self.authority }
    }

    /// Finds out how the registry is spoken to, once.
    fn found(&self) -> Result<Arc<Found>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = &*found {
            return Ok(Arc::clone(found));
        }
        let new = Arc::new(self.ping().context(|| format!("pinging container registry {}", self.authority))?);
        *found = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Asks by https first, and by plain http only where the user said that the host needs to prove nothing.
    fn ping(&self) -> Result<Found> {
        let ping = |secure| {
            let base = Url::new(secure, self.server(), "/v2/");
            let request =
                Request { method: Method::GET, url: base.clone(), headers: self.headers(), body: Payload::None };
            let response = self.patiently(request, self.client.settings().retry.first_contact)?;
            match response.status {
                200 | 401 => {
                    let signatures = response.header("x-registry-supports-signatures") == Some("1");
                    Ok(Found { base, challenges: challenges(&response.headers), signatures })
                }
                _ => Err(response.into_error()),
            }
        };
        match ping(true) {
            Err(error) if self.trust == Trust::Anyone && error.kind() != ErrorKind::Cancelled => {
                ping(false).map_err(|plain| match plain.kind() {
                    // A server that speaks TLS answers plain HTTP by 400, or not at all: then the first failure says more.
                    ErrorKind::Network | ErrorKind::Invalid if error.kind() != ErrorKind::Network => error,
                    _ => plain,
                })
            }
            other => other,
        }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        vec![("user-agent", self.client.settings().user_agent.clone())]
    }

    fn exchange(&self, request: Request<'_>) -> Result<Response> {
        exchange(request, &|url| self.client.agent(url, self.server(), self.trust))
    }

    /// Returns who we are to a repository.
    fn credentials(&self, repository: &str) -> Result<Credentials> {
        match &self.client.settings().login {
            Login::As(credentials) => Ok(credentials.clone()),
            Login::Files(files) => {
                let name = Name::parse_normalised(&format!("{}/{repository}", self.authority))?;
                Ok(files.find(&AuthKey::from(&name))?.credentials)
            }
        }
    }

    /// Returns the `Authorization` that the registry wants for a call.
    fn authorization(
        &self,
        found: &Found,
        asked: &[Challenge],
        credentials: &Credentials,
        scopes: &[String],
    ) -> Result<Option<String>> {
        if let Credentials::Bearer(token) = credentials {
            return Ok(Some(format!("Bearer {}", token.expose())));
        }
        for challenge in asked {
            match challenge {
                Challenge::Bearer { realm, service, .. } => {
                    let service = token::service(&found.base, realm, service.clone())?;
                    let send = |request: Request<'_>| self.patiently(request, self.client.settings().retry.times);
                    let token = self.tokens.get(&service, scopes, credentials, &send)?;
                    return Ok(Some(format!("Bearer {token}")));
                }
                Challenge::Basic => {
                    if let Credentials::Basic { user, password } = credentials {
                        return Ok(Some(basic(user, password)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Asks the registry, and returns its answer, whatever it is but a refusal of who we are.
    pub(super) fn call(&self, mut call: Call<'_>) -> Result<Response> {
        let found = self.found()?;
        let url = match &call.to {
            To::Path(path) => found.base.join(path)?,
            To::Address(url) => url.clone(),
        };
        // What we are is for the registry's own server, wherever an upload's address leads.
        let ours = url.same_origin(&found.base);
        let credentials = if ours { self.credentials(call.repository)? } else { Credentials::Anonymous };
        let mut asked = if ours { found.challenges.clone() } else { Vec::new() };
        let mut scopes = call.scopes.clone();
        let mut refused = false;
        loop {
            let mut headers = self.headers();
            headers.extend(call.headers.iter().cloned());
            if let Some(value) = self.authorization(&found, &asked, &credentials, &scopes)? {
                headers.push(("authorization", value));
            }
            let (method, url) = (call.method.clone(), url.clone());
            let times = self.client.settings().retry.times;
            let response = match &mut call.body {
                Payload::None => self.patiently(Request { method, url, headers, body: Payload::None }, times)?,
                Payload::Bytes(bytes) => {
                    self.patiently(Request { method, url, headers, body: Payload::Bytes(bytes) }, times)?
                }
                Payload::Stream(stream, length) => {
                    let body = Payload::Stream(&mut **stream, *length);
                    self.exchange(Request { method, url, headers, body })?
                }
            };
            if response.status != 401 {
                return Ok(response);
            }
            if refused || !ours || matches!(call.body, Payload::Stream(..)) {
                return Err(self.refusal(response, &credentials));
            }
            // A token may have ended, or the registry may want one for this call only, or for more than we thought.
            refused = true;
            self.tokens.forget(&scopes, &credentials);
            asked = challenges(&response.headers);
            for challenge in &asked {
                if let Challenge::Bearer { scope: Some(wanted), .. } = challenge {
                    scopes.extend(wanted.split(' ').filter(|w| !w.is_empty()).map(str::to_string));
                }
            }
            scopes.sort();
            scopes.dedup();
            if asked.is_empty() || asked == [Challenge::Basic] && !matches!(credentials, Credentials::Basic { .. }) {
                return Err(self.refusal(response, &credentials));
            }
        }
    }

    fn refusal(&self, response: Response, credentials: &Credentials) -> Error {
        let error = response.into_error();
        match credentials {
            Credentials::Anonymous => error.hint(format!("log in with `holkas login {}`", self.authority)),
            _ => error.hint(format!("the credentials for {} were not accepted", self.authority)),
        }
    }

    /// Sends a request, and again after a while if the server has a bad moment; and `times` if the network has one.
    fn patiently(&self, request: Request<'_>, times: u32) -> Result<Response> {
        let settings = self.client.settings();
        let attempts = |times| Attempts::new(Retry { times, ..settings.retry }, &settings.cancel, &*settings.monitor);
        let (mut busy, mut unreachable) = (attempts(settings.retry.times), attempts(times));
        loop {
            settings.cancel.check()?;
            let Request { method, url, headers, body } = &request;
            let body = match body {
                Payload::Bytes(bytes) => Payload::Bytes(bytes),
                Payload::None | Payload::Stream(..) => Payload::None,
            };
            let again = Request { method: method.clone(), url: url.clone(), headers: headers.clone(), body };
            match self.exchange(again) {
                Ok(response) if matches!(response.status, 429 | 500 | 502..=504) => {
                    let asked = retry_after(&response.headers);
                    busy.again(response.into_error(), asked)?;
                }
                Err(error) if may_pass(&error) => unreachable.again(error, None)?,
                Err(error) => return settings.cancel.check().and(Err(error)),
                Ok(response) => return Ok(response),
            }
        }
    }

    /// Returns whether the registry announces that it keeps signatures itself.
    pub(super) fn supports_signatures(&self) -> Result<bool> {
        Ok(self.found()?.signatures)
    }

    /// Asks any web server for a file. It hears nothing of who we are to the registry.
    pub(super) fn fetch(&self, url: Url) -> Result<Response> {
        let request = Request { method: Method::GET, url, headers: self.headers(), body: Payload::None };
        self.patiently(request, self.client.settings().retry.times)
    }

    /// Reads the whole body of an answer. What fails because the run is cancelled is told as that.
    pub(super) fn read(&self, response: Response, limit: Limit) -> Result<Vec<u8>> {
        response.read(limit).or_else(|error| self.client.settings().cancel.check().and(Err(error)))
    }

    /// Checks that the registry lets us in as who we are: what `login` does before it writes anything.
    pub(super) fn check(&self, credentials: &Credentials) -> Result<()> {
        let found = self.found()?;
        let mut headers = self.headers();
        if let Some(value) = self.authorization(&found, &found.challenges, credentials, &[])? {
            headers.push(("authorization", value));
        }
        let request = Request { method: Method::GET, url: found.base.clone(), headers, body: Payload::None };
        match self.patiently(request, self.client.settings().retry.times)? {
            response if response.status == 200 => Ok(()),
            response => Err(response.into_error()),
        }
    }
}
