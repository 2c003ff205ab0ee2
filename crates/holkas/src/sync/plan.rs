//! What is synced to where: a list of images and the names that they get, made before anything is moved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::yaml::{Registry, TagFilter, Wanted};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::fs::{Dir, UNVERIFIED, display};
use crate::limits::LISTED;
use crate::reference::{DockerReference, ImageReference, Name};

/// Where the images are.
#[derive(Debug, Clone)]
pub enum Source {
    /// An image of a registry, or a repository with all its tags.
    Docker(Name),
    /// All `dir:` images below a directory, or in it.
    Dir(PathBuf),
    /// What a YAML file lists.
    Yaml(Vec<Registry>),
}

/// Below what the images get their names.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A registry, perhaps with the beginning of a path.
    Docker(String),
    /// A directory, which need not exist.
    Dir(PathBuf),
}

/// How the images are named at the destination.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// By their whole names, with the host; else by the last part of it.
    pub scoped: bool,
    /// What is added to each name's end, which is the tag.
    pub suffix: String,
}

/// What becomes of the rest when something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is not begun.
    Stop,
    /// It is done nevertheless.
    KeepGoing,
}

/// One image to sync.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Where it is.
    pub source: ImageReference,
    /// Where it shall be.
    pub destination: ImageReference,
    /// Which registry of the YAML file it is of; 0 if there is no such file.
    pub registry: usize,
    /// Its place among the images of its repository or directory, counted from 1.
    pub number: usize,
    /// How many these are.
    pub of: usize,
}

/// All images to sync.
#[derive(Debug, Default)]
pub struct Plan {
    /// The images, in the order of the source.
    pub images: Vec<Planned>,
    /// How many repositories and directories they come from.
    pub sources: usize,
    /// Repositories whose images could not be listed, and why; only with [`OnError::KeepGoing`].
    pub unlisted: Vec<(String, Error)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Lists the tags of a repository; the number says which registry of the YAML file it is of, 0 without such a file.
pub type Tags<'a> = dyn Fn(usize, &Name) -> Result<Vec<String>> + 'a;

/// Makes the plan. Nothing is asked but tags, and directories, where the source does not name the images itself.
///
/// # Errors
///
/// `NotFound` if a repository or a directory has no images; `Refused` if two images would get the same name;
/// `Unsupported` from directory to directory; whatever listing tags says.
pub fn plan(
    source: &Source,
    destination: &Destination,
    naming: &Naming,
    tags: &Tags<'_>,
    on_error: OnError,
) -> Result<Plan> {
    let mut planning = Planning { destination, naming, plan: Plan::default(), taken: BTreeMap::new() };
    match (source, destination) {
        (Source::Dir(_), Destination::Dir(_)) => {
            return Err(Error::unsupported("sync from 'dir' to 'dir' not implemented, consider using rsync instead"));
        }
        (Source::Dir(dir), Destination::Docker(_)) => planning.dir(dir)?,
        (Source::Docker(name), _) if name.tag().is_some() || name.digest().is_some() => {
            planning.add(0, vec![of_registry(name)?])?;
        }
        (Source::Docker(repository), _) => {
            let listed = tags(0, repository)?;
            let images = planning.tagged(repository, &TagFilter::All, &listed)?;
            if images.is_empty() {
                return Err(nothing(repository.repository()));
            }
            planning.add(0, images)?;
        }
        (Source::Yaml(registries), _) => {
            for (n, registry) in registries.iter().enumerate() {
                planning.registry(n, registry, tags, on_error)?;
            }
        }
    }
    Ok(planning.plan)
}

/// Returns the name of a repository with a tag, if it is one.
pub(super) fn tagged(repository: &Name, tag: &str) -> Option<Name> {
    let name = Name::parse_normalised(&format!("{}:{tag}", repository.repository())).ok()?;
    (name.tag() == Some(tag) && name.digest().is_none() && name.repository() == repository.repository()).then_some(name)
}

fn nothing(place: &str) -> Error {
    Error::not_found(format!("No images to sync found in \"{}\"", printable(place.as_bytes())))
}

/// An image, and the whole of what it can be named by.
struct Found {
    source: ImageReference,
    whole: PathBuf,
}

fn of_registry(name: &Name) -> Result<Found> {
    let reference = DockerReference::named(name.clone())?;
    let whole = PathBuf::from(reference.name().to_string());
    Ok(Found { source: ImageReference::Docker(reference), whole })
}

struct Planning<'a> {
    destination: &'a Destination,
    naming: &'a Naming,
    plan: Plan,
    /// The names that are given away, and to whom.
    taken: BTreeMap<String, String>,
}

impl Planning<'_> {
    fn registry(&mut self, n: usize, registry: &Registry, tags: &Tags<'_>, on_error: OnError) -> Result<()> {
        if registry.repositories.is_empty() {
            self.plan
                .warnings
                .push(format!("No images specified for registry {}", printable(registry.host.as_bytes())));
        }
        for repository in &registry.repositories {
            let name = &repository.name;
            let images = match &repository.wanted {
                Wanted::These(names) => names.iter().map(of_registry).collect::<Result<_>>()?,
                Wanted::Tags(filter) => match tags(n, name) {
                    Ok(listed) => self.tagged(name, filter, &listed)?,
                    Err(error) if on_error == OnError::Stop || error.kind() == ErrorKind::Cancelled => {
                        return Err(error);
                    }
                    Err(error) => {
                        self.plan.unlisted.push((format!("docker://{name}"), error));
                        continue;
                    }
                },
            };
            match images.is_empty() {
                true => self.plan.warnings.push(format!("No refs to sync found in {name}")),
                false => self.add(n, images)?,
            }
        }
        Ok(())
    }

    /// Returns the images of a repository whose tags are wanted.
    fn tagged(&mut self, repository: &Name, filter: &TagFilter, tags: &[String]) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for tag in tags.iter().filter(|tag| filter.accepts(tag)) {
            match tagged(repository, tag) {
                Some(name) => found.push(of_registry(&name)?),
                None => {
                    let tag = printable(tag.as_bytes());
                    self.plan.warnings.push(format!("{repository} lists `{tag}`, which is no tag; it is left out"));
                }
            }
        }
        Ok(found)
    }

    fn dir(&mut self, base: &Path) -> Result<()> {
        let images = images_below(base).context(|| format!("looking for images in `{}`", display(base)))?;
        if images.is_empty() {
            return Err(nothing(&display(base)));
        }
        let found = |path: PathBuf| -> Result<Found> {
            let below = path.strip_prefix(base).unwrap_or(&path);
            let whole = match below.as_os_str().is_empty() {
                false => below.to_path_buf(),
                // The directory is an image itself, and named by its own name.
                true => PathBuf::from(crate::fs::resolve(base)?.file_name().unwrap_or_default()),
            };
            Ok(Found { source: ImageReference::Dir(path), whole })
        };
        let images = images.into_iter().map(found).collect::<Result<_>>()?;
        self.add(0, images)
    }

    /// Adds the images of one repository or directory.
    fn add(&mut self, registry: usize, images: Vec<Found>) -> Result<()> {
        let mut planned = Vec::new();
        for Found { source, whole } in images {
            let shown = source.to_string();
            let frame = || format!("naming {shown} at the destination");
            let destination = self.named(&whole).context(frame)?;
            match self.taken.insert(destination.to_string(), shown.clone()) {
                None => planned.push((source, destination)),
                // It is listed twice.
                Some(other) if other == shown => {}
                Some(other) => {
                    return Err(Error::refused(format!("{other} and {shown} would both become {destination}"))
                        .hint("with --scoped images have their whole names, which differ"));
                }
            }
        }
        let of = planned.len();
        if of == 0 {
            return Ok(());
        }
        if self.plan.images.len() + of > LISTED {
            return Err(Error::invalid(format!("there are more than {LISTED} images")));
        }
        let numbered = planned.into_iter().zip(1..).map(|((source, destination), number)| Planned {
            source,
            destination,
            registry,
            number,
            of,
        });
        self.plan.images.extend(numbered);
        self.plan.sources += 1;
        Ok(())
    }

    fn named(&self, whole: &Path) -> Result<ImageReference> {
        let own = match self.naming.scoped {
            true => whole,
            false => Path::new(whole.file_name().unwrap_or_default()),
        };
        let mut own = own.as_os_str().to_os_string();
        own.push(&self.naming.suffix);
        match self.destination {
            Destination::Dir(dir) => Ok(ImageReference::Dir(dir.join(own))),
            Destination::Docker(registry) => {
                let not_utf8 = || Error::invalid(format!("`{}` is not UTF-8", display(Path::new(&own))));
                let own = own.to_str().ok_or_else(not_utf8)?;
                ImageReference::parse(format!("docker://{}/{own}", registry.trim_end_matches('/')))
            }
        }
    }
}

/// Returns the `dir:` images in a directory and below it, sorted; symlinks below it are not followed.
fn images_below(base: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    let mut open = vec![base.to_path_buf()];
    while let Some(path) = open.pop() {
        let dir = Dir::open(&path)?;
        if dir.exists("manifest.json")? {
            images.push(path);
            continue;
        }
        // Those that come last are opened first: in reverse, all is sorted.
        for name in dir.entries()?.into_iter().rev() {
            let below = path.join(&name);
            // What an interrupted run left is no image.
            let staged = name.as_encoded_bytes().starts_with(UNVERIFIED.as_bytes());
            if !staged && std::fs::symlink_metadata(&below).is_ok_and(|metadata| metadata.is_dir()) {
                open.push(below);
            }
        }
        if open.len() + images.len() > LISTED {
            return Err(Error::invalid(format!("there are more than {LISTED} directories")));
        }
    }
    Ok(images)
}
