//! The stage `org.osbuild.skopeo`: images into a store, a layout, an archive or a directory of the tree.

use std::path::{Path, PathBuf};

use holkas::containers::ResolvedImage;
use holkas::embed::{EmbedImage, EmbedOptions, embed};
use holkas::error::{Context, Error, Result, printable};
use holkas::fs::Reach;
use holkas::open::open_source;
use holkas::pack::{PackForm, PackImage, PackOptions, pack};
use holkas::reference::{Driver, Name};
use holkas::storage::location::DEFAULT_GRAPH_ROOT;

use super::arguments::{Arguments, Object};
use super::{images, monitor, say};
use crate::environment;

/// Where the images go.
enum Destination {
    Store { path: PathBuf, driver: Driver },
    Packed { path: PathBuf, form: PackForm },
}

/// Puts all images into the tree, or none.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let options = &arguments.options;
    options.only(&["destination", "remove-signatures"])?;
    let destination = destination(&options.required_object("destination")?).context(|| "reading `destination`")?;
    let remove_signatures = options.flag("remove-signatures")?;
    let images = images::read(arguments)?;
    match destination {
        Destination::Store { path, driver } => into_store(arguments, &images, &path, driver, remove_signatures),
        Destination::Packed { path, form } => into_one(arguments, &images, &path, form, remove_signatures),
    }
}

fn destination(options: &Object) -> Result<Destination> {
    let packed = |form| {
        options.only(&["type", "path"])?;
        Ok(Destination::Packed { path: PathBuf::from(options.required_text("path")?), form })
    };
    match options.required_text("type")? {
        "containers-storage" => {
            options.only(&["type", "storage-path", "storage-driver"])?;
            let path = match options.text("storage-path")? {
                None => DEFAULT_GRAPH_ROOT,
                Some(_) => options.required_text("storage-path")?,
            };
            let driver = match options.text("storage-driver")? {
                None => Driver::Overlay,
                Some(driver) => driver.parse().context(|| "reading `storage-driver`")?,
            };
            Ok(Destination::Store { path: path.into(), driver })
        }
        "oci" => packed(PackForm::Oci),
        "oci-archive" => packed(PackForm::OciArchive),
        "dir" => packed(PackForm::Dir),
        // osbuild's own sentence: people search for it.
        other => Err(Error::unsupported(format!("Unknown destination type '{}'", printable(other.as_bytes())))
            .hint("the types are containers-storage, oci, oci-archive and dir")),
    }
}

/// Returns an image's name as containers-storage writes it: with registry and tag.
fn name(image: &ResolvedImage) -> Result<Name> {
    let name = Name::parse_normalised(&image.name).map(Name::with_default_tag);
    name.context(|| format!("reading the name of container `{}`", printable(image.key.as_bytes())))
}

fn into_store(
    arguments: &Arguments,
    resolved: &[ResolvedImage],
    store: &Path,
    driver: Driver,
    remove_signatures: bool,
) -> Result<()> {
    environment::may_write_system_stores()?;
    let embedded = |image: &ResolvedImage| -> Result<EmbedImage> {
        let (source, names) = (image.reference()?, vec![name(image)?]);
        Ok(EmbedImage { source, names, manifest_lists: image.lists.clone(), platforms: Vec::new() })
    };
    let wanted = resolved.iter().map(embedded).collect::<Result<Vec<_>>>()?;
    let rooms = images::rooms(arguments);
    let options = EmbedOptions {
        driver,
        clock: arguments.clock,
        // osbuild throws the tree away if the machine fails.
        reach: Reach::System,
        policy: &images::policy()?,
        open: &|reference| open_source(reference, &rooms),
        copy: images::copy_options(remove_signatures),
    };
    for image in embed(&wanted, &arguments.tree, store, &options, &*monitor())? {
        let list = image.list_digest.map(|digest| format!(", list {digest}")).unwrap_or_default();
        say(&format!(
            "{}: {}, image {}, manifest {}{list}, {} layers",
            image.names.join(", "),
            image.platform,
            image.image_id,
            image.manifest_digest,
            image.layers
        ));
    }
    Ok(())
}

fn into_one(
    arguments: &Arguments,
    resolved: &[ResolvedImage],
    path: &Path,
    form: PackForm,
    remove_signatures: bool,
) -> Result<()> {
    let packed = |image: &ResolvedImage| -> Result<PackImage> {
        Ok(PackImage { source: image.reference()?, name: name(image)?, manifest_lists: image.lists.clone() })
    };
    let wanted = resolved.iter().map(packed).collect::<Result<Vec<_>>>()?;
    let rooms = images::rooms(arguments);
    let mut copy = images::copy_options(remove_signatures);
    // An OCI layout holds OCI manifests: as with skopeo, others are converted, and layers that a store has unpacked
    // are stored as they are there.
    copy.allow_changes = true;
    let options = PackOptions {
        clock: arguments.clock,
        policy: &images::policy()?,
        open: &|reference| open_source(reference, &rooms),
        copy,
    };
    let copied = pack(&wanted, &arguments.tree, path, form, &options, &*monitor())?;
    for (image, copied) in wanted.iter().zip(copied) {
        let id = copied.image_id.map(|id| format!("image {id}, ")).unwrap_or_default();
        say(&format!("{}: {id}manifest {}, {} layers", image.name, copied.manifest_digest, copied.layers));
    }
    Ok(())
}
