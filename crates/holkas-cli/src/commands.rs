//! The commands: typed arguments, one call into the library, printed results. One file each.

mod cache;
mod completion;
pub(crate) mod copy;
pub(crate) mod delete;
mod embed;
mod explain;
pub(crate) mod inspect;
mod is_manifest_list;
pub(crate) mod list_tags;
mod lists;
pub(crate) mod login;
pub(crate) mod logout;
mod man;
pub(crate) mod manifest_digest;
mod merge_manifest;
mod osbuild;
pub(crate) mod proxy;
pub(crate) mod registries;
mod resolve;
mod resolve_input;
pub(crate) mod signature;
pub(crate) mod sync;
mod unpack;

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holkas::archive::SCRATCH;
use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::{display, read_file};
use holkas::limits::Limit;
use holkas::oci::Platform;
use holkas::open::Rooms;
use holkas::policy::Policy;
use holkas::progress::Cancel;
use holkas::registry::auth::{AuthFiles, AuthStore};
use holkas::registry::conf::RegistriesConf;
use holkas::registry::registries_d::RegistriesD;
use holkas::storage::location::StorageConf;

use crate::cli::login::Keeping;
use crate::cli::{Cli, Command, Global};
use crate::environment::{self, Found};
use crate::user_namespace::{StoreUse, use_of};

/// The time of what no image gives a time, if nobody says otherwise: the same in every run.
const UNKNOWN_TIME: i64 = 0;

/// What a command stands in: the global flags, and what the environment says where they are silent.
pub(crate) struct Setting<'a> {
    pub(crate) global: &'a Global,
    pub(crate) cancel: &'a Cancel,
}

impl Setting<'_> {
    /// Returns the policy that decides which images may come in.
    pub(crate) fn policy(&self) -> Result<Policy> {
        if self.global.insecure_policy {
            return Ok(Policy::accept_anything());
        }
        let file = environment::policy_file(self.global.policy.as_deref())?;
        Ok(Policy::parse(&file.bytes, &display(&file.path))?.at(environment::now()))
    }

    /// Returns what registries.conf and its drop-ins say.
    fn registries(&self) -> Result<RegistriesConf> {
        let files = environment::registries_conf(self.global.registries_conf.as_deref())?;
        RegistriesConf::parse(files.main.as_ref(), &files.drop_ins)
    }

    /// Returns what registries.d says.
    fn registries_d(&self) -> Result<RegistriesD> {
        let files = environment::registries_d(self.global.registries_d.as_deref())?;
        RegistriesD::parse(&files, environment::signature_dir())
    }

    /// Returns what opening rooms needs beside a reference.
    ///
    /// `platform` is the command's own wish, before the global ones.
    pub(crate) fn rooms(&self, platform: Option<&Platform>) -> Result<Rooms> {
        let conf = storage_conf()?;
        let from_environment = match environment::storage_driver() {
            Some(driver) => Some(driver.parse().context(|| "reading the environment variable STORAGE_DRIVER")?),
            None => None,
        };
        let storage_conf = match (conf, from_environment) {
            (conf, None) => conf,
            (conf, driver) => Some(StorageConf { driver, ..conf.unwrap_or_default() }),
        };
        let storage_conf = with_options(storage_conf, &environment::storage_options())?;
        let clock = environment::source_date_epoch()?.unwrap_or(UNKNOWN_TIME);
        let (platform, scratch) = (self.platform(platform)?, self.scratch());
        // Who may not write stores hears of it where one is to be written.
        let privilege = environment::privilege().unwrap_or_default();
        Ok(Rooms { storage_conf, platform, clock, scratch, privilege, ..Rooms::default() })
    }

    /// Returns where `login` and `logout` look for credentials, and where they keep them.
    fn login_files(&self, keeping: &Keeping) -> Result<(AuthFiles, AuthStore)> {
        let (named, compat) = (keeping.authfile.as_deref(), keeping.compat_auth_file.as_deref());
        environment::login_files(named, compat, self.registries()?.credential_helpers)
    }

    /// Returns where large temporary files may be.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.global.tmpdir.clone().unwrap_or_else(|| SCRATCH.into())
    }

    /// Returns the wanted platform: the command's own, or the host's with what the global flags override.
    fn platform(&self, own: Option<&Platform>) -> Result<Platform> {
        if let Some(own) = own {
            return Ok(own.clone());
        }
        let host = Platform::host();
        let Global { override_os, override_arch, override_variant, .. } = self.global;
        let part = |flag: &str, text: &Option<String>, host: String| match text.as_deref() {
            Some("") => Err(Error::invalid("it is empty").context(format!("reading {flag}"))),
            Some(text) => Ok(text.to_string()),
            None => Ok(host),
        };
        Ok(Platform {
            os: part("--override-os", override_os, host.os)?,
            architecture: part("--override-arch", override_arch, host.architecture)?,
            variant: override_variant.clone().filter(|variant| !variant.is_empty()),
        })
    }
}

/// Returns the configuration of containers-storage that holds for the user.
fn storage_conf() -> Result<Option<StorageConf>> {
    let parse = |file: Option<Found>| {
        let parsed =
            file.map(|file| StorageConf::parse(&file.bytes, &display(&file.path), &environment::in_storage_conf));
        parsed.transpose()
    };
    let usual = if environment::user::id() == 0 { None } else { environment::users_graph_root() };
    let Some(usual) = usual else { return parse(environment::storage_conf()?) };
    let (own, system) = (environment::own_storage_conf()?, environment::storage_conf()?);
    Ok(Some(StorageConf::of_user(parse(own)?, parse(system)?, usual)))
}

/// Adds the stores that options of containers-storage name, before those of storage.conf.
fn with_options(conf: Option<StorageConf>, options: &[String]) -> Result<Option<StorageConf>> {
    if options.is_empty() {
        return Ok(conf);
    }
    let mut conf = conf.unwrap_or_default();
    conf.add_options(options).context(|| "reading the environment variable STORAGE_OPTS")?;
    Ok(Some(conf))
}

/// Runs what was typed.
pub(crate) fn run(typed: Cli, cancel: &Cancel) -> Result<()> {
    let setting = Setting { global: &typed.global, cancel };
    // As in skopeo, the proxy serves for as long as its client wants.
    if matches!(typed.command, Command::Proxy(_)) {
        return run_command(typed.command, &setting);
    }
    in_time(&setting, || run_command(typed.command, &setting))
}

/// Runs a command within the time that the global flags give it.
pub(crate) fn in_time(setting: &Setting<'_>, command: impl FnOnce() -> Result<()>) -> Result<()> {
    let deadline = setting.global.command_timeout.map(|timeout| Deadline::set(timeout, setting.cancel));
    let result = command();
    match deadline {
        Some(deadline) => deadline.explain(result),
        None => result,
    }
}

/// Ends the run when its time is over.
struct Deadline {
    timeout: Duration,
    passed: Arc<AtomicBool>,
}

impl Deadline {
    fn set(timeout: Duration, cancel: &Cancel) -> Self {
        let passed = Arc::new(AtomicBool::new(false));
        let (set, cancel) = (Arc::clone(&passed), cancel.clone());
        std::thread::spawn(move || {
            // A run that ends otherwise takes this thread along.
            if cancel.sleep(timeout).is_ok() {
                set.store(true, Ordering::Relaxed);
                cancel.cancel();
            }
        });
        Self { timeout, passed }
    }

    /// Says that it was not the user who stopped the run.
    fn explain(&self, result: Result<()>) -> Result<()> {
        result.map_err(|error| match error.kind() {
            ErrorKind::Cancelled if self.passed.load(Ordering::Relaxed) => {
                let seconds = self.timeout.as_secs_f64();
                Error::new(ErrorKind::Network, format!("the command took longer than --command-timeout, {seconds} s"))
            }
            _ => error,
        })
    }
}

/// Returns what a command does with stores, by what was typed.
pub(crate) fn store_use(command: &Command) -> StoreUse {
    match command {
        Command::Copy(arguments) => use_of([arguments.source.as_os_str()], [arguments.destination.as_os_str()]),
        Command::Inspect(arguments) => use_of([arguments.image.as_os_str()], []),
        Command::Delete(arguments) => use_of([], [arguments.image.as_os_str()]),
        Command::Resolve(arguments) => use_of(arguments.names.iter().map(OsStr::new), []),
        // The owners of its tree are as many as those of a store, wherever the image comes from.
        Command::Unpack(_) => StoreUse::Reads,
        // What it will be asked for is not known.
        Command::Proxy(_) => StoreUse::Reads,
        _ => StoreUse::None,
    }
}

fn run_command(command: Command, setting: &Setting<'_>) -> Result<()> {
    match command {
        Command::Embed(arguments) => embed::run(&arguments, setting),
        Command::Copy(arguments) => copy::run(&arguments, setting),
        Command::Sync(arguments) => sync::run(&arguments, setting),
        Command::Unpack(arguments) => unpack::run(&arguments, setting),
        Command::Inspect(arguments) => inspect::run(&arguments, setting),
        Command::Delete(arguments) => delete::run(&arguments, setting),
        Command::Explain(arguments) => explain::run(&arguments, setting),
        Command::Login(arguments) => login::run(&arguments, setting),
        Command::Logout(arguments) => logout::run(&arguments, setting),
        Command::Cache(arguments) => cache::run(&arguments, setting),
        Command::ListTags(arguments) => list_tags::run(&arguments, setting),
        Command::ManifestDigest(arguments) => manifest_digest::run(&arguments),
        Command::IsManifestList(arguments) => is_manifest_list::run(&arguments),
        Command::Lists(arguments) => lists::run(&arguments),
        Command::MergeManifest(arguments) => merge_manifest::run(&arguments),
        Command::Resolve(arguments) => resolve::run(&arguments, setting),
        Command::ResolveInput(arguments) => resolve_input::run(&arguments, setting),
        Command::Proxy(arguments) => proxy::run(&arguments, setting),
        Command::Signature(arguments) => signature::run(&arguments.command, setting),
        Command::Osbuild(arguments) => osbuild::run(&arguments),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// Reads a document that the user named, or standard input for `-`. A missing file is no missing image.
fn read_document(path: &Path, limit: Limit) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let stdin = std::io::stdin().lock();
        stdin.take(limit.bytes + 1).read_to_end(&mut bytes).context(|| "reading standard input")?;
        limit.check(bytes.len() as u64).context(|| "reading standard input")?;
        return Ok(bytes);
    }
    read_file(path, limit)?.ok_or_else(|| {
        Error::new(ErrorKind::Io, "no such file or directory").context(format!("reading `{}`", display(path)))
    })
}
