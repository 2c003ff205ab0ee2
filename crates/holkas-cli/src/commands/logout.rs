//! `holkas logout [REGISTRY]`

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::display;
use holkas::registry::auth::{AuthKey, Credentials};

use super::Setting;
use crate::{cli, output};

/// Forgets what `login` has kept.
pub(crate) fn run(arguments: &cli::login::Logout, setting: &Setting<'_>) -> Result<()> {
    let keeping = &arguments.keeping;
    let (files, store) = setting.login_files(keeping)?;
    let named = keeping.authfile.as_ref().or(keeping.compat_auth_file.as_ref());
    if let Some(path) = named.filter(|path| !path.exists()) {
        return Err(Error::new(ErrorKind::Io, "no such file or directory"))
            .context(|| format!("checking auth file `{}`", display(path)));
    }
    let Some(registry) = &arguments.registry else {
        store.erase_all().context(|| "logging out of all registries")?;
        return output::line("Removed login credentials for all registries");
    };
    let key = AuthKey::parse(registry)?;
    if store.erase(&key).context(|| format!("logging out of {key}"))? {
        return output::line(format!("Removed login credentials for {key}"));
    }
    let error = Error::new(ErrorKind::Unauthorized, format!("not logged into {key}"));
    let elsewhere = files.find(&key)?;
    if elsewhere.credentials == Credentials::Anonymous {
        return Err(error);
    }
    Err(error.hint(format!("credentials that apply to it are still in {}", elsewhere.place)))
}
