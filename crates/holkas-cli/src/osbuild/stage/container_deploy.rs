//! The stage `org.osbuild.container-deploy`: the file tree of one image becomes the tree, or comes over what is in it.

use holkas::containers::{ResolvedImage, WithLists};
use holkas::error::{Context, Error, Result};
use holkas::flatten::{FlattenOptions, unpack_image_over};
use holkas::fs::Dir;
use holkas::fs::Reach;
use holkas::open::open_source;
use holkas::progress::Cancel;
use holkas::unpack::ExcludedPath;

use super::arguments::Arguments;
use super::{images, monitor, say};
use crate::environment;

/// Writes the image's files into the tree.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let options = &arguments.options;
    options.only(&["exclude", "remove-signatures"])?;
    // It has no effect: a file tree has no signatures.
    options.flag("remove-signatures")?;
    let exclude = options.texts("exclude")?.unwrap_or_default();
    let exclude =
        exclude.iter().map(|path| excluded(path)).collect::<Result<Vec<_>>>().context(|| "reading `exclude`")?;
    let image = only(images::read(arguments)?)?;
    environment::may_write_system_stores()?;
    let rooms = images::rooms(arguments);
    let source = open_source(&image.reference()?, &rooms)?;
    let source = match image.lists.is_empty() {
        true => source,
        false => Box::new(WithLists::new(source, &image.lists)?),
    };
    let options = FlattenOptions {
        platform: rooms.platform,
        policy: &images::policy()?,
        exclude,
        clock: arguments.clock,
        // The tree is one step of a build, which osbuild keeps or throws away as a whole.
        reach: Reach::System,
        cancel: Cancel::default(),
    };
    let flattened = unpack_image_over(&*source, &Dir::open(&arguments.tree)?, &options, &*monitor())?;
    say(&format!(
        "{}: {}, image {}, manifest {}, {} layers",
        image.name, flattened.platform, flattened.image_id, flattened.manifest_digest, flattened.layers
    ));
    Ok(())
}

/// Reads a path of the image, whose leading `/` may be missing.
fn excluded(path: &str) -> Result<ExcludedPath> {
    match path.starts_with('/') {
        true => ExcludedPath::parse(path.as_bytes()),
        false => ExcludedPath::parse(format!("/{path}").as_bytes()),
    }
}

fn only(mut images: Vec<ResolvedImage>) -> Result<ResolvedImage> {
    match (images.len(), images.pop()) {
        (1, Some(image)) => Ok(image),
        (n, _) => Err(Error::refused(format!("a tree can be of one image, and the input `images` has {n}"))),
    }
}
