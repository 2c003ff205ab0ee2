//! skopeo's command line: its commands, messages and exit codes, on top of our own commands.

mod commands;
mod copy;
mod flags;
mod help;
mod images;
mod log;
mod login;
mod monitor;
mod proxy;
mod signing;
mod sync;
mod words;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::sync::Arc;

use holkas::error::{Error, Result, printable};
use holkas::policy::Policy;
use holkas::progress::{Cancel, Monitor};
use holkas::reference::ImageReference;

use self::commands::{COMMANDS, Command};
use self::flags::{Flag, Given, Kind};
use self::log::{Level, log, quoted};
use self::monitor::{Lines, Signatures, Voice};
use self::words::Unchangeable;
use crate::cli::Global;
use crate::cli::registry::{Network, Registry};
use crate::commands::{Setting, in_time};
use crate::output;
use crate::report::FAILED;
use crate::user_namespace::{self, StoreUse, use_of};

/// The version of skopeo whose command line this is: callers compare it, and decide by it what they may ask for.
const VERSION: &str = "1.22.0";

/// The command that other programs start, and not people.
const PROXY: &str = "experimental-image-proxy";

/// Runs what was typed after `skopeo`.
pub(crate) fn run(typed: &[OsString]) -> ExitCode {
    log::begin(false);
    match answer(typed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(help) = &failure.help {
                // With stderr gone there is nobody left to tell.
                let _nobody_left = std::io::stderr().write_all(help.as_bytes());
            }
            log(Level::Fatal, &words::text(&failure.error, failure.unchangeable));
            ExitCode::from(if failure.usage { FAILED } else { words::code(&failure.error) })
        }
    }
}

/// A run that failed.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// What goes before the error.
    help: Option<String>,
    /// Whether it is about what was typed.
    usage: bool,
    /// Why the image may not be changed, if it may not.
    unchangeable: Unchangeable,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, help: None, usage: false, unchangeable: None }
    }
}

/// Returns a failure that is about what was typed.
fn usage(text: impl Into<String>) -> Failure {
    Failure { usage: true, ..Error::invalid(text).into() }
}

/// A command with what was typed for it.
struct Call<'a> {
    command: &'static Command,
    given: &'a Given,
    arguments: &'a [OsString],
    /// The `--tls-verify` of former versions, before the command.
    tls_verify: Option<bool>,
    setting: &'a Setting<'a>,
}

fn answer(typed: &[OsString]) -> Result<(), Failure> {
    let leading = [commands::global(), commands::root(), vec![commands::help("skopeo")]].concat();
    let (mut given, rest) = flags::leading(&leading, typed).map_err(as_usage)?;
    if given.on("help") {
        return Ok(output::write(help::root().as_bytes())?);
    }
    if given.on("version") {
        return Ok(output::line(format!("skopeo version {VERSION}"))?);
    }
    let Some((name, rest)) = rest.split_first() else {
        return Err(usage("Missing command 'skopeo COMMAND'\nTry 'skopeo --help' for more information"));
    };
    let Some(command) = COMMANDS.iter().find(|command| OsStr::new(command.name) == name) else {
        return Err(unrecognised(name));
    };
    let tls_verify = given.choice("tls-verify");
    given.forget("tls-verify");
    let flags = [commands::global(), (command.flags)(), vec![commands::help(command.name)]].concat();
    let (own, arguments) = flags::all(&flags, rest).map_err(as_usage)?;
    given.extend(own);
    if command.name == "help" {
        return explain(arguments.first().map(OsString::as_os_str));
    }
    if given.on("help") {
        return Ok(output::write(help::of(command).as_bytes())?);
    }
    log::begin(given.on("debug"));
    if command.name == PROXY {
        // Its clients pass flags on without knowing whether they have an effect; and no time is set to a server.
        given.forget("command-timeout");
    } else {
        refuse_lacking(command, &flags, &given)?;
    }
    if tls_verify.is_some() {
        log(Level::Warning, "'--tls-verify' is deprecated, please set this on the specific subcommand");
    }
    if given.on("insecure-policy") && given.on("require-signed") {
        return Err(usage("--insecure-policy and --require-signed are mutually exclusive"));
    }
    let global = global(&given);
    let cancel = Cancel::default();
    // Before there are threads.
    user_namespace::enter(store_use(command, &arguments))?;
    crate::open_many_files();
    crate::stop_on_signals(&cancel)?;
    let setting = Setting { global: &global, cancel: &cancel };
    let call = Call { command, given: &given, arguments: &arguments, tls_verify, setting: &setting };
    let mut failure = None;
    let in_time = in_time(&setting, || {
        call.run().map_err(|failed| {
            let Failure { error, help, usage, unchangeable } = failed;
            failure = Some((help, usage, unchangeable));
            error
        })
    });
    in_time.map_err(|error| {
        let (help, usage, unchangeable) = failure.take().unwrap_or_default();
        Failure { error: user_namespace::explain(error), help, usage, unchangeable }
    })
}

/// Returns what a command does with stores, by what was typed.
fn store_use(command: &Command, arguments: &[OsString]) -> StoreUse {
    match (command.name, arguments) {
        (PROXY, _) => StoreUse::Reads,
        ("copy", [source, destination]) => use_of([source.as_os_str()], [destination.as_os_str()]),
        ("delete", [image]) => use_of([], [image.as_os_str()]),
        (_, arguments) => use_of(arguments.iter().map(OsString::as_os_str), []),
    }
}

fn as_usage(error: Error) -> Failure {
    Failure { usage: true, ..error.into() }
}

fn unrecognised(name: &OsStr) -> Failure {
    let name = printable(name.as_bytes());
    let meant = match help::suggestions(&name) {
        none if none.is_empty() => String::new(),
        meant => format!("\nDid you mean this?\n\t{}\n\n", meant.join("\n\t")),
    };
    usage(format!("Unrecognized command `skopeo {name}`\n{meant}Try 'skopeo --help' for more information"))
}

/// Shows the help of a command, or of the program.
fn explain(name: Option<&OsStr>) -> Result<(), Failure> {
    let text = match name {
        None => help::root(),
        Some(name) => match COMMANDS.iter().find(|command| OsStr::new(command.name) == name) {
            Some(command) => help::of(command),
            None => format!("Unknown help topic [`{}`]\n{}", printable(name.as_bytes()), help::root()),
        },
    };
    Ok(output::write(text.as_bytes())?)
}

/// Refuses what skopeo can do and holkas cannot, by its name.
fn refuse_lacking(command: &Command, flags: &[Flag], given: &Given) -> Result<(), Failure> {
    let lacking = |what: String, why: &str| Failure {
        usage: true,
        ..Error::unsupported(format!("{what} is not supported by holkas: {why}")).into()
    };
    if let Some(why) = command.lacking {
        return Err(lacking(format!("`skopeo {}`", command.name), why));
    }
    if given.filled("encryption-key").is_some() && given.filled("decryption-key").is_some() {
        return Err(usage("--encryption-key and --decryption-key cannot be specified together"));
    }
    for name in given.names() {
        let flag = flags.iter().find(|flag| flag.name == name);
        let meant = |flag: &&Flag| match flag.kind {
            Kind::Bool => given.on(name),
            _ => given.filled(name).is_some(),
        };
        if let Some(why) = flag.filter(meant).and_then(|flag| flag.lacking) {
            return Err(lacking(format!("--{name}"), why));
        }
    }
    Ok(())
}

fn global(given: &Given) -> Global {
    let text = |name: &str| given.filled(name).map(|value| value.to_string_lossy().into_owned());
    let path = |name: &str| given.filled(name).map(Into::into);
    Global {
        policy: path("policy"),
        insecure_policy: given.on("insecure-policy"),
        registries_conf: path("registries-conf"),
        registries_d: path("registries.d"),
        override_arch: text("override-arch"),
        override_os: text("override-os"),
        override_variant: text("override-variant"),
        user_agent_prefix: text("user-agent-prefix"),
        command_timeout: given.duration("command-timeout"),
        tmpdir: path("tmpdir"),
        debug: given.on("debug"),
        version: None,
    }
}

impl Call<'_> {
    fn run(&self) -> Result<(), Failure> {
        match self.command.name {
            "copy" => copy::run(self),
            PROXY => proxy::run(self),
            "sync" => sync::run(self),
            "inspect" => images::inspect(self),
            "delete" => images::delete(self),
            "list-tags" => images::list_tags(self),
            "manifest-digest" => images::manifest_digest(self),
            "generate-sigstore-key" => signing::generate_sigstore_key(self),
            "standalone-sign" => signing::sign(self),
            "standalone-verify" => signing::verify(self),
            "untrusted-signature-dump-without-verification" => signing::dump(self),
            "login" => login::login(self),
            "logout" => login::logout(self),
            name => Err(usage(format!("`skopeo {name}` is not supported by holkas"))),
        }
    }

    /// Returns the arguments if there are so many; else the failure has the help before it, on stderr.
    fn exactly<const N: usize>(&self, text: &str) -> Result<&[OsString; N], Failure> {
        let exactly = self.arguments.try_into();
        exactly.map_err(|_| Failure { help: Some(help::of(self.command)), ..usage(text) })
    }

    /// Returns the only argument.
    fn only(&self, text: &str) -> Result<&OsString, Failure> {
        match self.arguments {
            [only] => Ok(only),
            _ => Err(usage(text)),
        }
    }

    fn policy(&self) -> Result<Policy> {
        let policy = self.setting.policy()?;
        Ok(if self.given.on("require-signed") { policy.signed_only() } else { policy })
    }

    /// Returns who tells what happens.
    fn monitor(&self) -> Arc<dyn Monitor> {
        let voice = if self.given.on("quiet") { Voice::Quiet } else { Voice::Loud };
        let removed = self.given.on("remove-signatures");
        Arc::new(Lines::new(voice, if removed { Signatures::Removed } else { Signatures::Taken }))
    }

    /// Returns how registries are spoken to. As skopeo, we keep no blobs for the next time.
    fn network(&self) -> Network {
        Network {
            retry_times: self.given.int("retry-times").map(|times| u32::try_from(times.max(0)).unwrap_or(u32::MAX)),
            retry_delay: self.given.duration("retry-delay"),
            no_cache: true,
            ..Network::default()
        }
    }

    /// Returns what was typed of a registry; `prefix` is that of its flags, `alias` a former name of `--creds`.
    fn registry(&self, prefix: &str, alias: &str) -> Result<Registry, Failure> {
        let given = self.given;
        let text = |name: &str| given.text(&format!("{prefix}{name}"));
        let path = |name: &str| given.filled(name).map(Into::into);
        let creds = text("creds").or_else(|| given.text(alias));
        let (username, password) = (text("username"), text("password"));
        let no_creds = given.on(&format!("{prefix}no-creds"));
        let wrong = match (&creds, &username, &password) {
            (Some(_), ..) if no_creds => Some("creds and no-creds cannot be specified at the same time"),
            (_, Some(_), _) if no_creds => Some("username and no-creds cannot be specified at the same time"),
            (Some(_), Some(_), _) => Some("creds and username cannot be specified at the same time"),
            (_, Some(_), None) => Some("password must be specified when username is specified"),
            (_, None, Some(_)) => Some("username must be specified when password is specified"),
            (Some(creds), ..) if creds.is_empty() => Some("credentials can't be empty"),
            (Some(creds), ..) if creds.starts_with(':') => Some("username can't be empty"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(usage(wrong));
        }
        // Without a password it is the empty one.
        let creds = creds.map(|creds| if creds.contains(':') { creds } else { creds + ":" });
        let own = given.choice(&format!("{prefix}tls-verify"));
        Ok(Registry {
            authfile: path(&format!("{prefix}authfile")).or_else(|| path("authfile")),
            creds,
            username,
            password,
            registry_token: text("registry-token"),
            no_creds,
            cert_dir: path(&format!("{prefix}cert-dir")),
            tls_verify: own.or_else(|| given.choice("tls-verify")).or(self.tls_verify),
        })
    }

    /// Warns of the `--tls-verify` that former versions of `copy` and `sync` had for both sides.
    fn warn_of_tls_verify(&self) {
        if self.given.has("tls-verify") {
            let text = "'--tls-verify' is deprecated, instead use: --src-tls-verify, --dest-tls-verify";
            log(Level::Warning, text);
        }
    }
}

/// Reads a reference, and says what is wrong with it in skopeo's words.
fn reference(text: &OsStr) -> Result<ImageReference> {
    const LACKING: [&[u8]; 5] = [b"docker-daemon", b"tarball", b"sif", b"ostree", b"atomic"];
    const THERE: [&[u8]; 6] = [b"containers-storage", b"dir", b"docker", b"docker-archive", b"oci", b"oci-archive"];
    let bytes = text.as_bytes();
    let shown = quoted(&text.to_string_lossy());
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
        let expected = "expected colon-separated transport:reference";
        return Err(Error::invalid(format!("Invalid image name {shown}, {expected}")));
    };
    let transport = &bytes[..colon];
    if LACKING.contains(&transport) {
        let transport = String::from_utf8_lossy(transport);
        return Err(Error::unsupported(format!(
            "Invalid image name {shown}: the transport {transport} is not supported by holkas"
        )));
    }
    if !THERE.contains(&transport) {
        let transport = quoted(&String::from_utf8_lossy(transport));
        return Err(Error::invalid(format!("Invalid image name {shown}, unknown transport {transport}")));
    }
    ImageReference::parse(text)
}
