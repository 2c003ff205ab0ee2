//! Who may do what: nothing asked, a password, or tokens from a token service.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::http::{Request, Response, parameter, parameters};
use super::routes::Route;

/// What a registry asks of its clients.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Nothing.
    None,
    /// The password of one of its users with each request.
    Basic(BTreeMap<String, String>),
    /// A token with each request.
    Bearer(Bearer),
}

/// A registry that wants tokens, and its token service at `/token`.
///
/// A token says in itself what it is good for. So the service of one [`Registry`](super::Registry) can serve another:
/// give that one the first one's `/token` as [`realm`](Bearer::realm).
#[derive(Debug, Clone)]
pub struct Bearer {
    /// Where clients are sent for a token; by default to the registry itself.
    pub realm: Option<String>,
    /// The service's name in the challenge.
    pub service: String,
    /// Users with their passwords. Each may do all.
    pub users: BTreeMap<String, String>,
    /// Whether who says nothing of himself gets a token; it is good for `pull` only.
    pub anonymous: bool,
    /// Refresh tokens (identity tokens) with their users.
    pub refresh_tokens: BTreeMap<String, String>,
    /// How long a token is good.
    pub lifetime: Duration,
    /// What is said to the client of that, as `expires_in`; `None` leaves it out.
    pub announced_lifetime: Option<u64>,
}

/// Tokens are numbered over all registries of the process, so that old ones can be told from new ones.
static TOKENS: AtomicU64 = AtomicU64::new(1);

impl Auth {
    /// Returns basic authentication with one user.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic([(user.to_owned(), password.to_owned())].into())
    }
}

impl Bearer {
    /// Returns what gives tokens to one user, not to anonymous ones, for five minutes.
    pub fn user(user: &str, password: &str) -> Self {
        Self { users: [(user.to_owned(), password.to_owned())].into(), anonymous: false, ..Self::anonymous() }
    }

    /// Returns what gives tokens for `pull` to everyone, for five minutes.
    pub fn anonymous() -> Self {
        Self {
            realm: None,
            service: "registry.test".into(),
            users: BTreeMap::new(),
            anonymous: true,
            refresh_tokens: BTreeMap::new(),
            lifetime: Duration::from_secs(300),
            announced_lifetime: Some(300),
        }
    }

    /// Sends clients to `realm` for their tokens.
    pub fn realm(self, realm: impl Into<String>) -> Self {
        Self { realm: Some(realm.into()), ..self }
    }

    /// Accepts a refresh token as the word of `user`.
    pub fn refresh_token(mut self, token: &str, user: &str) -> Self {
        self.refresh_tokens.insert(token.to_owned(), user.to_owned());
        self
    }

    /// Gives tokens to who says nothing of himself too; they are good for `pull` only.
    pub fn or_anonymous(self) -> Self {
        Self { anonymous: true, ..self }
    }
}

/// Returns the number that the next token will have.
pub(super) fn next_token() -> u64 {
    TOKENS.load(Ordering::SeqCst)
}

/// Returns the challenge that answers a request without the right to it. Tokens before `oldest` are not good any more.
pub(super) fn refusal(auth: &Auth, base: &str, oldest: u64, request: &Request, route: &Route) -> Option<Response> {
    if *route == Route::Token {
        return None;
    }
    let challenge = match auth {
        Auth::None => return None,
        Auth::Basic(users) => {
            if user_of(request, users).is_some() {
                return None;
            }
            "Basic realm=\"registry.test\"".to_owned()
        }
        Auth::Bearer(bearer) => {
            let scopes = needed(request, route);
            let problem = match request.header("Authorization").map(|value| granted(value, oldest)) {
                Some(Some(granted)) if scopes.iter().all(|scope| covers(&granted, scope)) => return None,
                Some(Some(_)) => ",error=\"insufficient_scope\"",
                Some(None) => ",error=\"invalid_token\"",
                None => "",
            };
            let realm = bearer.realm.clone().unwrap_or_else(|| format!("{base}/token"));
            let scope = match scopes.join(" ") {
                scopes if scopes.is_empty() => scopes,
                scopes => format!(",scope=\"{scopes}\""),
            };
            format!("Bearer realm=\"{realm}\",service=\"{}\"{scope}{problem}", bearer.service)
        }
    };
    let response = Response::error(401, "UNAUTHORIZED", "authentication required");
    Some(response.with("WWW-Authenticate", challenge).with("Docker-Distribution-API-Version", "registry/2.0"))
}

/// Returns the scopes that a request needs, as distribution has them (`handlers/app.go`, appendAccessRecords).
fn needed(request: &Request, route: &Route) -> Vec<String> {
    if *route == Route::Catalog {
        return vec!["registry:catalog:*".into()];
    }
    let Some(repository) = route.repository() else { return Vec::new() };
    let actions = match request.method.as_str() {
        "GET" | "HEAD" if !matches!(route, Route::Upload { .. }) => "pull",
        "DELETE" if !matches!(route, Route::Upload { .. }) => "delete",
        _ => "pull,push",
    };
    let mut scopes = vec![format!("repository:{repository}:{actions}")];
    if let (Route::NewUpload { .. }, Some(from)) = (route, request.parameter("from")) {
        scopes.push(format!("repository:{from}:pull"));
    }
    scopes
}

/// Returns whether `granted` scopes hold all actions of `scope`.
fn covers(granted: &[String], scope: &str) -> bool {
    let (name, actions) = scope.rsplit_once(':').expect("a scope has actions");
    actions.split(',').all(|action| {
        granted.iter().filter_map(|granted| granted.rsplit_once(':')).any(|(own_name, own_actions)| {
            own_name == name && own_actions.split(',').any(|own| own == action || own == "*")
        })
    })
}

/// Returns the scopes of a token, if it is one, new enough and not expired.
fn granted(authorization: &str, oldest: u64) -> Option<Vec<String>> {
    let token = authorization.strip_prefix("Bearer ")?;
    let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let is_good = token["number"].as_u64()? >= oldest && u128::from(token["expires"].as_u64()?) > now();
    let scopes = token["scopes"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    is_good.then_some(scopes)
}

/// Answers a request to the token service: `GET` with a password or nothing, `POST` as OAuth2 has it.
pub(super) fn token(auth: &Auth, request: &Request, body: &[u8]) -> Response {
    let Auth::Bearer(bearer) = auth else {
        return Response::error(404, "UNSUPPORTED", "no token service here");
    };
    let body = String::from_utf8_lossy(body).into_owned();
    let is_post = request.method == "POST";
    let form = if is_post { &body } else { request.target.split_once('?').map_or("", |(_, query)| query) };
    let user = if !is_post {
        match request.header("Authorization") {
            Some(_) => user_of(request, &bearer.users).ok_or(()),
            None if bearer.anonymous => Ok(String::new()),
            None => Err(()),
        }
    } else {
        let value = |name: &str| parameter(form, name).unwrap_or_default();
        match value("grant_type").as_str() {
            "refresh_token" => bearer.refresh_tokens.get(&value("refresh_token")).cloned().ok_or(()),
            "password" => {
                let known = bearer.users.get(&value("username"));
                if known == Some(&value("password")) { Ok(value("username")) } else { Err(()) }
            }
            _ => return Response::new(400).json(&json!({"error": "unsupported_grant_type"})),
        }
    };
    let Ok(user) = user else {
        return Response::error(401, "UNAUTHORIZED", "no token for that")
            .with("WWW-Authenticate", "Basic realm=\"token service\"");
    };
    // Several scopes are separated by blanks, or in parameters of their own.
    let asked = parameters(form, "scope");
    let scopes = asked.iter().flat_map(|scopes| scopes.split(' ')).filter(|scope| !scope.is_empty());
    let scopes: Vec<String> = scopes.filter_map(|scope| grant(scope, &user)).collect();
    let token = json!({
        "number": TOKENS.fetch_add(1, Ordering::SeqCst),
        "expires": u64::try_from(now() + bearer.lifetime.as_millis()).unwrap_or(u64::MAX),
        "scopes": scopes,
        "user": user,
    });
    let token = URL_SAFE_NO_PAD.encode(token.to_string());
    let mut answer = json!({"access_token": token});
    if is_post {
        answer["scope"] = json!(scopes.join(" "));
    } else {
        answer["token"] = json!(token);
    }
    if let Some(seconds) = bearer.announced_lifetime {
        answer["expires_in"] = json!(seconds);
    }
    let refresh = bearer.refresh_tokens.iter().find(|(_, owner)| **owner == user).map(|(token, _)| token);
    let wants_refresh = parameter(form, "offline_token").is_some_and(|value| value == "true")
        || parameter(form, "access_type").is_some_and(|value| value == "offline");
    if let (true, Some(refresh)) = (wants_refresh, refresh) {
        answer["refresh_token"] = json!(refresh);
    }
    Response::new(200).json(&answer)
}

fn grant(scope: &str, user: &str) -> Option<String> {
    let (name, actions) = scope.rsplit_once(':')?;
    let actions: Vec<_> = actions.split(',').filter(|action| !user.is_empty() || *action == "pull").collect();
    (!actions.is_empty()).then(|| format!("{name}:{}", actions.join(",")))
}

fn user_of(request: &Request, users: &BTreeMap<String, String>) -> Option<String> {
    let given = STANDARD.decode(request.header("Authorization")?.strip_prefix("Basic ")?).ok()?;
    let given = String::from_utf8(given).ok()?;
    let (user, password) = given.split_once(':')?;
    (users.get(user).map(String::as_str) == Some(password)).then(|| user.to_owned())
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis()
}
