//! `holkas login REGISTRY`

use std::io::Read;

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::display;
use holkas::limits::TYPED_SECRET;
use holkas::registry::auth::{AuthKey, Credentials, Found, Place, Secret, login};

use super::{Setting, registries};
use crate::cli::Progress;
use crate::cli::registry::{Network, Registry};
use crate::terminal::{Echo, ask};
use crate::{cli, output, progress};

/// Checks a user and a password with the registry and keeps them, or prints the user that is logged in.
pub(crate) fn run(arguments: &cli::login::Login, setting: &Setting<'_>) -> Result<()> {
    let key = AuthKey::parse(&arguments.registry)?;
    let keeping = &arguments.keeping;
    let (files, store) = setting.login_files(keeping)?;
    if arguments.get_login {
        let user = files.find(&key)?.user.filter(|user| !user.is_empty());
        let missing = || Error::new(ErrorKind::Unauthorized, format!("not logged into {key}"));
        return output::line(user.ok_or_else(missing)?);
    }
    let given = arguments.password_stdin.then(password_from_stdin).transpose()?;
    let given = given.or_else(|| arguments.password.clone());
    let known = match (&arguments.username, &given) {
        // All is there: what is kept now does not matter, not even whether it can be read.
        (Some(_), Some(_)) => None,
        _ => Some(files.find(&key)?),
    };
    if let Some(known) = &known
        && arguments.username.is_none()
        && given.is_none()
        && is_still_good(known, &key, arguments, setting)?
    {
        return output::line(format!("Existing credentials are valid. Already logged in to {}", key.registry()));
    }
    let user = match &arguments.username {
        Some(user) => user.clone(),
        None => ask_user(known.and_then(|known| known.user), setting)?,
    };
    let password = match given {
        Some(password) => password,
        None => ask("Password: ", "--password-stdin", Echo::Hidden, setting.cancel)
            .map(Secret::new)
            .context(|| "asking for the password")?,
    };
    let place =
        login(&store, &key, user.trim(), &password, &|credentials| check(arguments, setting, &key, credentials))?;
    if arguments.verbose {
        let told = match &place {
            Place::File { path, .. } => display(path),
            Place::Helper { .. } | Place::Nowhere => place.to_string(),
        };
        output::line(format!("Used:  {told}"))?;
    }
    output::line("Login Succeeded!")
}

/// Asks a registry whether it accepts credentials: an error of kind `Unauthorized` says that it does not.
fn check(arguments: &cli::login::Login, setting: &Setting<'_>, key: &AuthKey, credentials: &Credentials) -> Result<()> {
    let typed = Registry {
        no_creds: true,
        cert_dir: arguments.cert_dir.clone(),
        tls_verify: arguments.keeping.tls_verify,
        ..Registry::default()
    };
    let network = Network { no_cache: true, ..Network::default() };
    let client = registries::client(&typed, &network, setting, &progress::monitor(Progress::Plain))?;
    holkas::registry::login::check(&client, key.registry(), credentials)
}

/// Returns whether what is kept is still accepted; as in skopeo, it is only tried if nothing was given.
fn is_still_good(known: &Found, key: &AuthKey, arguments: &cli::login::Login, setting: &Setting<'_>) -> Result<bool> {
    match &known.credentials {
        Credentials::Anonymous => return Ok(false),
        Credentials::IdentityToken(_) => {
            return Err(Error::refused(format!("there is an identity token already, in {}", known.place))
                .context(format!("logging in to {key}"))
                .hint("log out first, or give user and password"));
        }
        Credentials::Basic { .. } | Credentials::Bearer(_) => {}
    }
    output::line(format!("Authenticating with existing credentials for {key}"))?;
    match check(arguments, setting, key, &known.credentials) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Unauthorized => {
            output::line("Existing credentials are invalid, please enter valid username and password")?;
            Ok(false)
        }
        Err(error) => Err(error.context(format!("logging in to {key}"))),
    }
}

/// Asks for the user; an empty answer is the one that is known.
fn ask_user(known: Option<String>, setting: &Setting<'_>) -> Result<String> {
    let prompt = match &known {
        Some(user) => format!("Username ({}): ", holkas::error::printable(user.as_bytes())),
        None => "Username: ".to_owned(),
    };
    let typed = ask(&prompt, "--username", Echo::Shown, setting.cancel).context(|| "asking for the user")?;
    Ok(if typed.trim().is_empty() { known.unwrap_or_default() } else { typed })
}

/// Reads the password. As in podman and skopeo, the ends of lines are no part of it.
fn password_from_stdin() -> Result<Secret> {
    let frame = || "reading the password from standard input";
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(TYPED_SECRET.bytes + 1).read_to_end(&mut bytes).context(frame)?;
    TYPED_SECRET.check(bytes.len() as u64).context(frame)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::invalid("it is not UTF-8")).context(frame)?;
    Ok(Secret::new(text.lines().collect::<String>()))
}
