//! What was typed about registries: who we are to them, how they prove who they are, and how patient we are.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Flags of commands that speak to registries, by skopeo's names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    /// The file with credentials.
    pub(crate) authfile: Option<PathBuf>,
    /// `USER[:PASSWORD]`.
    pub(crate) creds: Option<String>,
    /// The user.
    pub(crate) username: Option<String>,
    /// The password.
    pub(crate) password: Option<String>,
    /// A token that is sent as it is.
    pub(crate) registry_token: Option<String>,
    /// Nobody is logged in.
    pub(crate) no_creds: bool,
    /// The directory with certificates.
    pub(crate) cert_dir: Option<PathBuf>,
    /// Whether registries must prove who they are.
    pub(crate) tls_verify: Option<bool>,
}

/// Makes the same flags once for each side that a command can have.
macro_rules! sides {
    ($($(#[$doc:meta])* $side:ident, $prefix:literal, $of:literal, $alias:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Args)]
        #[command(next_help_heading = "Registry options")]
        pub(crate) struct $side {
            #[doc = concat!("Read credentials", $of, " from this file, and from no other")]
            #[arg(id = concat!($prefix, "authfile"), long = concat!($prefix, "authfile"), value_name = "FILE")]
            authfile: Option<PathBuf>,
            #[doc = concat!("Log in", $of, " as this user; without a password it is asked for")]
            #[arg(
                id = concat!($prefix, "creds"), long = concat!($prefix, "creds"), alias = $alias,
                value_name = "USER[:PASSWORD]",
                conflicts_with_all = [
                    concat!($prefix, "username"), concat!($prefix, "registry-token"), concat!($prefix, "no-creds")
                ]
            )]
            creds: Option<String>,
            #[doc = concat!("The user", $of)]
            #[arg(
                id = concat!($prefix, "username"), long = concat!($prefix, "username"), value_name = "USER",
                requires = concat!($prefix, "password"), conflicts_with = concat!($prefix, "no-creds")
            )]
            username: Option<String>,
            #[doc = concat!("The password", $of)]
            #[arg(
                id = concat!($prefix, "password"), long = concat!($prefix, "password"), value_name = "PASSWORD",
                requires = concat!($prefix, "username")
            )]
            password: Option<String>,
            #[doc = concat!("Send this bearer token", $of)]
            #[arg(
                id = concat!($prefix, "registry-token"), long = concat!($prefix, "registry-token"), value_name = "TOKEN"
            )]
            registry_token: Option<String>,
            #[doc = concat!("Do not log in", $of, ", whatever the files say")]
            #[arg(id = concat!($prefix, "no-creds"), long = concat!($prefix, "no-creds"))]
            no_creds: bool,
            #[doc = concat!("Read certificates", $of, " (*.crt, *.cert, *.key) from this directory, and from no other")]
            #[arg(id = concat!($prefix, "cert-dir"), long = concat!($prefix, "cert-dir"), value_name = "DIR")]
            cert_dir: Option<PathBuf>,
            #[doc = concat!("Whether registries", $of, " must prove who they are; false also allows http")]
            #[arg(
                id = concat!($prefix, "tls-verify"), long = concat!($prefix, "tls-verify"), value_name = "BOOL",
                num_args = 0..=1, require_equals = true, default_missing_value = "true"
            )]
            tls_verify: Option<bool>,
        }

        impl From<Registry> for $side {
            fn from(meant: Registry) -> Self {
                let Registry { authfile, creds, username, password, registry_token, no_creds, cert_dir, tls_verify } =
                    meant;
                Self { authfile, creds, username, password, registry_token, no_creds, cert_dir, tls_verify }
            }
        }

        impl From<&$side> for Registry {
            fn from(typed: &$side) -> Self {
                let $side { authfile, creds, username, password, registry_token, no_creds, cert_dir, tls_verify } =
                    typed.clone();
                Self { authfile, creds, username, password, registry_token, no_creds, cert_dir, tls_verify }
            }
        }
    )*};
}

sides! {
    /// Of a command with one image.
    Image, "", "", "cred";
    /// Of a copy's source.
    Source, "src-", " of the source", "screds";
    /// Of a copy's destination.
    Destination, "dest-", " of the destination", "dcreds";
}

/// Flags of every command that speaks to registries.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct Network {
    /// Try so often again what failed for a reason that may pass, a registry that could not be reached included
    #[arg(long, value_name = "N")]
    pub(crate) retry_times: Option<u32>,
    /// Wait so long before each repetition, instead of 1 s, 2 s, 4 s and so on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) retry_delay: Option<Duration>,
    /// Give a connection up when no byte came for so long (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) idle_timeout: Option<Duration>,
    /// Ask no mirrors, but only the registry that the name means
    #[arg(long)]
    pub(crate) no_mirrors: bool,
    /// Keep blobs in this directory for the next time
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub(crate) cache: Option<PathBuf>,
    /// Keep no blobs for the next time, and use none that were kept
    #[arg(long)]
    pub(crate) no_cache: bool,
}

/// Parses a duration as Go writes it: `1m30s`, `500ms`, `2h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration, such as 30s, 1m30s or 500ms");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let (unit, seconds) = [("ms", 0.001), ("us", 0.000_001), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
            .into_iter()
            .find(|(unit, _)| after.starts_with(unit))
            .ok_or_else(wrong)?;
        let part = number.parse::<f64>().map_err(|_| wrong())? * seconds;
        whole += Duration::try_from_secs_f64(part).map_err(|_| wrong())?;
        rest = &after[unit.len()..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in
            [("30", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000), ("0s", 0), ("2h3m", 7_380_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "1m30", "-1s", "1..2s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
