//! `skopeo login` and `logout`.

use holkas::error::Result;
use holkas::registry::auth::Secret;

use super::{Call, Failure, usage};
use crate::cli;
use crate::commands;

/// Checks a user and a password with the registry and keeps them, or prints the user that is logged in.
pub(crate) fn login(call: &Call<'_>) -> Result<(), Failure> {
    let given = call.given;
    let registry = match call.arguments {
        [registry] => registry.to_string_lossy().into_owned(),
        [] => return Err(usage("please provide a registry to login to")),
        _ => return Err(usage("login accepts only one registry to login to")),
    };
    let text = |name: &str| given.filled(name).map(|value| value.to_string_lossy().into_owned());
    let (username, password) = (text("username"), text("password"));
    if given.on("password-stdin") && password.is_some() {
        return Err(usage("Can't specify both --password-stdin and --password"));
    }
    if given.on("password-stdin") && username.is_none() {
        return Err(usage("Must provide --username with --password-stdin"));
    }
    let arguments = cli::login::Login {
        registry,
        username,
        password: password.map(Secret::new),
        password_stdin: given.on("password-stdin"),
        get_login: given.on("get-login"),
        cert_dir: given.filled("cert-dir").map(Into::into),
        verbose: given.on("verbose"),
        keeping: keeping(call)?,
    };
    Ok(commands::login::run(&arguments, call.setting)?)
}

/// Forgets what `login` has kept.
pub(crate) fn logout(call: &Call<'_>) -> Result<(), Failure> {
    let all = call.given.on("all");
    let registry = match call.arguments {
        [] if all => None,
        [registry] if !all => Some(registry.to_string_lossy().into_owned()),
        [] => return Err(usage("please provide a registry to logout from")),
        _ if all => return Err(usage("--all takes no arguments")),
        _ => return Err(usage("logout accepts only one registry to logout from")),
    };
    let arguments = cli::login::Logout { registry, all, keeping: keeping(call)? };
    Ok(commands::logout::run(&arguments, call.setting)?)
}

fn keeping(call: &Call<'_>) -> Result<cli::login::Keeping, Failure> {
    let path = |name: &str| call.given.filled(name).map(Into::into);
    let (authfile, compat_auth_file) = (path("authfile"), path("compat-auth-file"));
    if authfile.is_some() && compat_auth_file.is_some() {
        return Err(usage("options for paths to the credential file and to the Docker-compatible one conflict"));
    }
    let tls_verify = call.given.choice("tls-verify").or(call.tls_verify);
    Ok(cli::login::Keeping { authfile, compat_auth_file, tls_verify })
}
