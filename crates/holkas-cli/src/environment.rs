//! The only reader of the environment, of home directories and of `/etc`: what the run finds around it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use holkas::error::{Context, Error, ErrorKind, Result, printable};
use holkas::fs::{Dir, display, read_file};
use holkas::limits::CONFIGURATION;
use holkas::registry::auth::{AuthFile, AuthFiles, AuthStore, Format, KeyStyle};
use holkas::registry::certificates::CertificatePlaces;
use holkas::registry::conf::ConfFile;
use holkas::registry::transport::{Proxies, proxy};

/// A configuration file that was found: its path, for messages, and its bytes.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// Returns a variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn found(path: PathBuf) -> Result<Option<Found>> {
    Ok(read_file(&path, CONFIGURATION)?.map(|bytes| Found { path, bytes }))
}

fn must_exist(path: PathBuf) -> Result<Found> {
    let missing = format!("`{}` does not exist", display(&path));
    found(path)?.ok_or_else(|| Error::new(ErrorKind::Io, missing))
}

/// The system's policy file.
const SYSTEM_POLICY: &str = "/etc/containers/policy.json";

/// Returns the policy file: the one that was named, or the user's, or the system's.
pub(crate) fn policy_file(named: Option<&Path>) -> Result<Found> {
    let frame = || "loading trust policy";
    if let Some(path) = named {
        return must_exist(path.to_path_buf()).context(frame);
    }
    let user = variable("HOME").map(|home| Path::new(&home).join(".config/containers/policy.json"));
    for path in user.into_iter().chain([PathBuf::from(SYSTEM_POLICY)]) {
        if let Some(policy) = found(path).context(frame)? {
            return Ok(policy);
        }
    }
    Err(Error::new(ErrorKind::Io, format!("open {SYSTEM_POLICY}: no such file or directory"))).context(frame).map_err(
        |error| {
            error.hint("install a policy.json, name one with --policy, or accept every image with --insecure-policy")
        },
    )
}

/// Returns the system's policy file, if there is one: for who runs as no user, and without a home.
pub(crate) fn system_policy_file() -> Result<Option<Found>> {
    found(SYSTEM_POLICY.into()).context(|| "loading trust policy")
}

/// Returns the configuration of containers-storage, if there is any.
pub(crate) fn storage_conf() -> Result<Option<Found>> {
    let frame = || "loading storage.conf";
    if let Some(path) = variable("CONTAINERS_STORAGE_CONF") {
        return must_exist(path.into()).context(|| "CONTAINERS_STORAGE_CONF names the file").context(frame).map(Some);
    }
    for path in ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"] {
        if let Some(conf) = found(path.into()).context(frame)? {
            return Ok(Some(conf));
        }
    }
    Ok(None)
}

/// The files of registries.conf that apply.
#[derive(Debug)]
pub(crate) struct RegistriesFiles {
    pub(crate) main: Option<ConfFile>,
    /// In the order in which they apply.
    pub(crate) drop_ins: Vec<ConfFile>,
}

/// Returns registries.conf with its drop-ins: the file that was named alone, or the user's with the user's drop-ins,
/// or the system's with the system's drop-ins and then the user's.
///
/// As with skopeo, the variable `CONTAINERS_REGISTRIES_CONF` of podman means nothing.
pub(crate) fn registries_conf(named: Option<&Path>) -> Result<RegistriesFiles> {
    let frame = || "loading registries configuration";
    let conf_file = |Found { path, bytes }| ConfFile { path, bytes };
    if let Some(path) = named {
        let main = must_exist(path.to_path_buf()).context(frame)?;
        return Ok(RegistriesFiles { main: Some(conf_file(main)), drop_ins: Vec::new() });
    }
    let system = Path::new("/etc/containers");
    let user = variable("HOME").map(|home| Path::new(&home).join(".config/containers"));
    let users_own = match &user {
        Some(user) => found(user.join("registries.conf")).context(frame)?,
        None => None,
    };
    let (main, with_system) = match users_own {
        Some(own) => (Some(own), false),
        None => (found(system.join("registries.conf")).context(frame)?, true),
    };
    let mut drop_ins = Vec::new();
    for dir in with_system.then_some(system).into_iter().chain(user.as_deref()) {
        drop_ins.extend(drop_ins_of(&dir.join("registries.conf.d")).context(frame)?.into_iter().map(conf_file));
    }
    Ok(RegistriesFiles { main: main.map(conf_file), drop_ins })
}

/// Returns the files `*.conf` of a directory by name; one that leads nowhere is an error, as it may have said `blocked`.
fn drop_ins_of(dir: &Path) -> Result<Vec<Found>> {
    let Some(held) = Dir::open_if_exists(dir)? else { return Ok(Vec::new()) };
    let names = held.entries()?.into_iter().filter(|name| name.as_encoded_bytes().ends_with(b".conf"));
    names.map(|name| dir.join(name)).filter(|path| !path.is_dir()).map(must_exist).collect()
}

/// Returns the files of a directory as registries.d, which says where signatures are, as text.
pub(crate) fn signature_servers(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let frame = || format!("reading `{}`", display(dir));
    let held = Dir::open(dir).context(frame)?;
    let names = held.entries().context(frame)?.into_iter().filter(|name| name.as_encoded_bytes().ends_with(b".yaml"));
    names
        .map(|name| {
            let path = dir.join(name);
            let Found { path, bytes } = must_exist(path).context(frame)?;
            Ok((path, String::from_utf8_lossy(&bytes).into_owned()))
        })
        .collect()
}

/// Returns where certificates of registries are looked for: `--cert-dir` alone, or the user's and the system's certs.d.
pub(crate) fn certificate_places(named: Option<&Path>) -> CertificatePlaces {
    if let Some(dir) = named {
        return CertificatePlaces::One(dir.to_path_buf());
    }
    let user = variable("HOME").map(|home| Path::new(&home).join(".config/containers/certs.d"));
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    CertificatePlaces::PerHost(user.into_iter().chain(system).collect())
}

/// Returns the policy file that `CONTAINERS_POLICY_JSON` names: read by bootc, and so by what it starts.
pub(crate) fn policy_of_containers() -> Option<PathBuf> {
    variable("CONTAINERS_POLICY_JSON").map(PathBuf::from)
}

/// Returns the registries.conf that `CONTAINERS_REGISTRIES_CONF` names, which the newer versions of skopeo read.
pub(crate) fn registries_conf_of_containers() -> Option<PathBuf> {
    variable("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from)
}

/// Returns the options of containers-storage that `STORAGE_OPTS` names, `KEY=VALUE` each.
pub(crate) fn storage_options() -> Vec<String> {
    let options = variable("STORAGE_OPTS").map(|options| options.to_string_lossy().into_owned()).unwrap_or_default();
    options.split(',').map(str::trim).filter(|option| !option.is_empty()).map(str::to_string).collect()
}

/// Returns the driver of containers-storage that the environment asks for.
pub(crate) fn storage_driver() -> Option<String> {
    variable("STORAGE_DRIVER").map(|driver| driver.to_string_lossy().into_owned())
}

/// Returns the version of the osbuild that has started us as its module: it names its own package in `PYTHONPATH`.
pub(crate) fn osbuild_version() -> Option<u32> {
    let path = variable("PYTHONPATH")?;
    let package = std::env::split_paths(&path).map(|dir| dir.join("osbuild/__init__.py"));
    let bytes = package.filter_map(|file| read_file(&file, CONFIGURATION).ok().flatten()).next()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("__version__"))?;
    version.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// Returns `SOURCE_DATE_EPOCH`, in seconds.
pub(crate) fn source_date_epoch() -> Result<Option<i64>> {
    let Some(text) = variable("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    // The year 9999 is the last that RFC 3339 can write, and the store's records are in that form.
    const LAST: i64 = 253_402_300_799;
    let digits = text.to_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()).filter(|seconds| *seconds <= LAST) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Error::invalid(format!(
            "SOURCE_DATE_EPOCH is `{}`, which is not a number of seconds since 1970 up to the year 9999",
            printable(text.as_encoded_bytes())
        ))),
    }
}

/// Returns where credentials for a registry are looked for: in the named file alone, or where people keep them.
///
/// As in skopeo since 1.10: a file that was named, by `--authfile` or by `REGISTRY_AUTH_FILE`, need not exist,
/// and no other is read.
pub(crate) fn auth_files(named: Option<&Path>, helpers: Vec<String>) -> AuthFiles {
    let named = named.map(Path::to_path_buf).or_else(|| variable("REGISTRY_AUTH_FILE").map(PathBuf::from));
    let files = match named {
        Some(path) => vec![current(path)],
        None => usual_auth_files(),
    };
    AuthFiles::new(files, helpers, programs())
}

/// Returns where `login` and `logout` look for credentials, and where they keep them.
///
/// `compat` is a config.json of docker. As in podman and skopeo, `DOCKER_CONFIG` names the one file for these two
/// commands, while all others read it after auth.json.
pub(crate) fn login_files(
    named: Option<&Path>,
    compat: Option<&Path>,
    helpers: Vec<String>,
) -> Result<(AuthFiles, AuthStore)> {
    let store = |file, style| AuthStore { file, style, helpers: helpers.clone(), programs: programs() };
    let alone = |file: PathBuf, style| {
        let files = AuthFiles::new(vec![current(file.clone())], helpers.clone(), programs());
        Ok((files, store(file, style)))
    };
    if let Some(path) = compat {
        return alone(path.to_path_buf(), KeyStyle::Docker);
    }
    let docker = || variable("DOCKER_CONFIG").map(|dir| Path::new(&dir).join("config.json"));
    let named = named.map(Path::to_path_buf).or_else(|| variable("REGISTRY_AUTH_FILE").map(PathBuf::from));
    if let Some(path) = named.or_else(docker) {
        return alone(path, KeyStyle::Containers);
    }
    let runtime = runtime_dir();
    if variable("XDG_RUNTIME_DIR").is_some() && !runtime.exists() {
        let missing = format!("XDG_RUNTIME_DIR is `{}`, which does not exist", display(&runtime));
        return Err(Error::new(ErrorKind::Io, missing).hint("make the directory, or unset XDG_RUNTIME_DIR"));
    }
    Ok((auth_files(None, helpers.clone()), store(runtime_auth_file(), KeyStyle::Containers)))
}

fn current(path: PathBuf) -> AuthFile {
    AuthFile { path, format: Format::Current }
}

fn runtime_dir() -> PathBuf {
    let of_user = || format!("/run/containers/{}", rustix::process::getuid().as_raw()).into();
    variable("XDG_RUNTIME_DIR").map_or_else(of_user, PathBuf::from)
}

fn runtime_auth_file() -> PathBuf {
    // Where there is no runtime directory, the directory is named after the user, and no `containers` is in it.
    let inside = if variable("XDG_RUNTIME_DIR").is_some() { "containers/auth.json" } else { "auth.json" };
    runtime_dir().join(inside)
}

fn usual_auth_files() -> Vec<AuthFile> {
    let home = variable("HOME").map(PathBuf::from);
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| below_home(".config"));
    let docker = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| below_home(".docker"));
    let mut files = vec![current(runtime_auth_file())];
    files.extend(config.map(|dir| current(dir.join("containers/auth.json"))));
    files.extend(docker.map(|dir| current(dir.join("config.json"))));
    files.extend(below_home(".dockercfg").map(|path| AuthFile { path, format: Format::Legacy }));
    files
}

/// Returns the directories that programs are in.
pub(crate) fn programs() -> Vec<PathBuf> {
    variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Returns where the blob cache is: the directory that was named, or the user's, or for root without a home the system's.
pub(crate) fn cache_dir(named: Option<&Path>) -> Result<PathBuf> {
    const SYSTEM: &str = "/var/cache/holkas";
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    // The XDG specification has paths that are not absolute ignored.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(caches) = absolute("XDG_CACHE_HOME") {
        return Ok(caches.join("holkas"));
    }
    match absolute("HOME") {
        Some(home) => Ok(home.join(".cache/holkas")),
        None if rustix::process::geteuid().is_root() => Ok(SYSTEM.into()),
        None => Err(Error::new(ErrorKind::Io, "neither XDG_CACHE_HOME nor HOME is set")
            .context("looking for the blob cache")
            .hint("name a directory with --cache")),
    }
}

/// Returns the proxies that the environment names, as Go's programs read it.
pub(crate) fn proxies() -> Result<Proxies> {
    let read =
        |names: [&str; 2]| names.into_iter().find_map(variable).map(|value| value.to_string_lossy().into_owned());
    let address = |names: [&str; 2]| match read(names) {
        Some(text) => proxy(&text).map(Some).context(|| format!("{} names the proxy", names[0])),
        None => Ok(None),
    };
    // A CGI script's HTTP_PROXY comes from the header `Proxy:` of who calls it.
    let http = if variable("REQUEST_METHOD").is_some() { None } else { address(["HTTP_PROXY", "http_proxy"])? };
    let https = address(["HTTPS_PROXY", "https_proxy"])?;
    let none_for = read(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    Ok(Proxies { http, https, none_for: none_for.split(',').map(|host| host.trim().to_string()).collect() })
}

/// Returns what time it is, in seconds since 1970: keys and signatures must be valid now.
pub(crate) fn now() -> i64 {
    // A clock before 1970 makes every signature one of the future.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

/// Returns the number of cores that the run may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// What a writer of stores must be allowed to do, as bits of the effective capabilities, and what for.
const RIGHTS: [(u8, &str, &str); 6] = [
    (0, "CAP_CHOWN", "owners"),
    (1, "CAP_DAC_OVERRIDE", "files of other owners"),
    (3, "CAP_FOWNER", "modes and times of other owners' files"),
    (21, "CAP_SYS_ADMIN", "trusted.* extended attributes"),
    (27, "CAP_MKNOD", "devices and whiteouts"),
    (31, "CAP_SETFCAP", "file capabilities"),
];

/// Returns an error that names what is missing unless this process may write whole stores.
///
/// Where `/proc` is not mounted, as in a bare chroot, that shows with the first file that is not allowed.
pub(crate) fn may_write_stores() -> Result<()> {
    let read = |path: &str| -> Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).context(|| format!("reading `{path}` to learn what this process is allowed to do")),
        }
    };
    match (read("/proc/self/status")?, read("/proc/self/uid_map")?) {
        (Some(status), Some(uid_map)) => rights(&status, &uid_map),
        _ => Ok(()),
    }
}

fn rights(status: &str, uid_map: &str) -> Result<()> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| Error::new(ErrorKind::Io, "`/proc/self/status` does not tell the effective capabilities"))?;
    let forbidden = |missing: String| {
        Err(Error::new(ErrorKind::Forbidden, missing)
            .context("checking the rights that writing a store needs")
            .hint("run holkas as root; nothing was written"))
    };
    let missing: Vec<_> = RIGHTS
        .iter()
        .filter(|(bit, ..)| effective & (1 << bit) == 0)
        .map(|(_, name, what)| format!("{name} ({what})"))
        .collect();
    if !missing.is_empty() {
        return forbidden(format!("this process lacks {}", missing.join(", ")));
    }
    // Within a user namespace the kernel allows neither devices nor trusted.* attributes, whatever CapEff says.
    let whole = ["0", "0", "4294967295"];
    if !uid_map.split_whitespace().eq(whole) {
        return forbidden(
            "this process is in a user namespace, where devices and trusted.* extended attributes cannot be made"
                .into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        const WHOLE: &str = "         0          0 4294967295\n";
        assert!(rights("Name:\tx\nCapEff:\t000001ffffffffff\n", WHOLE).is_ok());
        let error = rights("CapEff:\t0000000000000000\n", WHOLE).expect_err("no rights");
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        for (_, name, _) in RIGHTS {
            assert!(error.to_string().contains(name), "{error}");
        }
        let error = rights("CapEff:\t000001fff7ffffff\n", WHOLE).expect_err("no mknod");
        assert!(error.to_string().ends_with("this process lacks CAP_MKNOD (devices and whiteouts)"), "{error}");
        let error = rights("CapEff:\t000001ffffffffff\n", "0 1000 1\n").expect_err("user namespace");
        assert!(error.to_string().contains("user namespace"), "{error}");
        assert!(rights("", WHOLE).is_err());
    }
}
