//! `holkas osbuild install` and `holkas osbuild files`

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::fs::{Dir, UNVERIFIED, at, display};
use holkas::limits::CONFIGURATION;

use crate::cli::osbuild::{Osbuild, OsbuildCommand, OsbuildInstall};
use crate::osbuild::modules::{Listed, MODULES, files};
use crate::output;

/// Where modules go whose place is taken, below the library directory: osbuild looks for none there.
const REPLACED: &str = "holkas-replaced";

/// Installs the modules, or lists them.
pub(crate) fn run(arguments: &Osbuild) -> Result<()> {
    match &arguments.command {
        OsbuildCommand::Install(arguments) => install(arguments),
        OsbuildCommand::Files => output::line(files().join("\n")),
    }
}

/// Who the owner of a file in a module's place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// There is none.
    Nobody,
    /// It is what would be written.
    Same,
    /// It is of another holkas.
    Ours,
    Foreign,
}

/// A module, and what is in its place.
struct Place {
    module: Listed,
    dir: Dir,
    link: Owner,
    meta: Owner,
}

fn install(arguments: &OsbuildInstall) -> Result<()> {
    let frame = || format!("installing into `{}`", display(&arguments.libdir));
    let binary = match &arguments.binary {
        Some(path) => path.clone(),
        None => std::env::current_exe().context(|| "finding this program").context(frame)?,
    };
    let libdir = Dir::open_if_exists(&arguments.libdir).context(frame)?.ok_or_else(|| no_libdir().context(frame()))?;
    let places = places(&libdir, &binary).context(frame)?;
    let foreign: Vec<String> = places.iter().flat_map(Place::foreign).collect();
    if !foreign.is_empty() && !arguments.force {
        return Err(Error::refused(format!("these files are somebody else's: {}", foreign.join(", "))).hint(
            "nothing was changed; with --force they are moved into the folder `holkas-replaced`, and their place taken",
        ))
        .context(frame);
    }
    for place in &places {
        put(place, &libdir, &binary).context(frame)?;
    }
    Ok(())
}

fn no_libdir() -> Error {
    Error::new(ErrorKind::Io, "there is no such directory")
        .hint("it is osbuild's library directory, /usr/lib/osbuild as a rule; install osbuild, or make it, before")
}

impl Place {
    fn foreign(&self) -> Vec<String> {
        let Listed { folder, name, .. } = self.module;
        let file = |owner: Owner, name: &str| (owner == Owner::Foreign).then(|| format!("{folder}/{name}"));
        [file(self.link, name), file(self.meta, &self.module.meta_name())].into_iter().flatten().collect()
    }
}

/// Looks at all places before anything is changed.
fn places(libdir: &Dir, binary: &Path) -> Result<Vec<Place>> {
    MODULES.iter().map(|module| look(libdir, *module, binary)).collect()
}

fn look(libdir: &Dir, module: Listed, binary: &Path) -> Result<Place> {
    let dir = libdir.make(module.folder, 0o755)?;
    let target = dir.read_link(module.name)?.map(|target| PathBuf::from(holkas::fs::path_of(&target)));
    let link = match &target {
        Some(target) if target == binary => Owner::Same,
        Some(target) if target.file_name() == binary.file_name() || leads_to_us(target) => Owner::Ours,
        _ if dir.exists(module.name)? => Owner::Foreign,
        _ => Owner::Nobody,
    };
    let own = matches!(link, Owner::Same | Owner::Ours);
    let meta = match dir.exists(module.meta_name())? {
        false => Owner::Nobody,
        true => match dir.read(module.meta_name(), CONFIGURATION) {
            Ok(Some(bytes)) if bytes == module.meta.as_bytes() => Owner::Same,
            // What lies beside our link was written with it.
            _ if own => Owner::Ours,
            _ => Owner::Foreign,
        },
    };
    Ok(Place { module, dir, link, meta })
}

fn leads_to_us(target: &Path) -> bool {
    target.file_name().is_some_and(|name| name == "holkas")
}

/// Puts the meta.json, and then the link: osbuild must not find a module without its description.
fn put(place: &Place, libdir: &Dir, binary: &Path) -> Result<()> {
    let Place { module, dir, link, meta } = place;
    let (shown, meta_name) = (format!("{}/{}", module.folder, module.name), module.meta_name());
    if *meta == Owner::Foreign {
        keep(libdir, module.folder, dir, &meta_name)?;
    }
    if *meta != Owner::Same {
        dir.write(&meta_name, module.meta.as_bytes(), 0o644)?;
    }
    if *link == Owner::Foreign {
        keep(libdir, module.folder, dir, module.name)?;
    }
    if *link != Owner::Same {
        let staged = format!("{UNVERIFIED}{}-{}", std::process::id(), module.name);
        dir.remove_file(&staged)?;
        at::make_symlink(binary.as_os_str().as_bytes(), dir.as_fd(), staged.as_bytes())
            .context(|| format!("making the link `{}`", display(&dir.path_of(module.name))))?;
        dir.rename(&staged, dir, module.name)?;
        dir.sync()?;
    }
    let replaced = [(link, shown.clone()), (meta, format!("{}/{meta_name}", module.folder))];
    for (_, name) in replaced.iter().filter(|(owner, _)| **owner == Owner::Foreign) {
        output::line(format!("{name}: replaced; what was there is {REPLACED}/{name}"))?;
    }
    match (link, meta) {
        (Owner::Same, Owner::Same) => output::line(format!("{shown}: was there")),
        _ => output::line(format!("{shown}: installed")),
    }
}

/// Gives somebody else's file a second name where osbuild does not look. Its first one is taken over in one step; what
/// was kept before stays, being the original.
fn keep(libdir: &Dir, folder: &str, dir: &Dir, name: &str) -> Result<()> {
    let kept = libdir.make(REPLACED, 0o755)?.make(folder, 0o755)?;
    if kept.exists(name)? {
        return Ok(());
    }
    at::make_hard_link(dir.as_fd(), name.as_bytes(), kept.as_fd(), name.as_bytes())
        .context(|| format!("keeping `{}`", display(&dir.path_of(name))))?;
    kept.sync()
}
