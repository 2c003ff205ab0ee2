//! `holkas login` and `holkas logout`.

use std::path::PathBuf;

use clap::Args;
use holkas::registry::auth::Secret;

/// Where `login` and `logout` keep credentials.
#[derive(Debug, Args)]
pub(crate) struct Keeping {
    /// Read and change this file, and no other; $REGISTRY_AUTH_FILE if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Read and change this file, and no other, in the way of docker's config.json
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Whether the registry must have a valid certificate; without, plain HTTP is tried too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
}

/// `login`
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The registry, HOST[:PORT], or a part of it, HOST[:PORT]/PATH
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: String,
    /// The user
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// The password; whoever lists processes can see it there, so better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", value_parser = secret)]
    pub(crate) password: Option<Secret>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password", requires = "username")]
    pub(crate) password_stdin: bool,
    /// Print the user that is logged in, and do nothing else
    #[arg(long)]
    pub(crate) get_login: bool,
    /// Take certificates from this directory: *.crt of authorities, *.cert and *.key of ours
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Print where the credentials are kept
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

/// `logout`
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The registry, HOST[:PORT], or a part of it, HOST[:PORT]/PATH
    #[arg(value_name = "REGISTRY", required_unless_present = "all")]
    pub(crate) registry: Option<String>,
    /// Forget the credentials for all registries
    #[arg(short, long, conflicts_with = "registry")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
