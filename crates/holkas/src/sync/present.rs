//! Whether an image is at its destination already, for the price of one request at its source.

use crate::copy::{self, CopyOptions, MultiArch};
use crate::dir::DirSource;
use crate::error::{Context, ErrorKind, Result};
use crate::image::{ImageDestination, ImageSource, open_top};
use crate::oci::{Descriptor, Digest, Document, Format, Meaning};
use crate::reference::ImageReference;

/// Returns the digest of the image if the destination has all of it.
///
/// `room` is the destination, opened; a `dir:` needs none, being looked at where it is.
/// What the destination has is compared by the digest that the copy would have, if it would change nothing.
pub(super) fn present(
    source: &dyn ImageSource,
    destination: &ImageReference,
    room: Option<&dyn ImageDestination>,
    options: &CopyOptions,
) -> Result<Option<Digest>> {
    let there = match (destination, room) {
        (ImageReference::Dir(path), _) => match DirSource::open(path) {
            Ok(dir) => There::Dir(dir),
            // There is nothing, or nothing that is an image; whether it may be replaced is for the room to say.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Invalid) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        },
        (_, Some(room)) => There::Room(room),
        (_, None) => return Ok(None),
    };
    let Some(digest) = there.announced()? else { return Ok(None) };
    if options.strip_removed_platforms || options.compress.is_some() || options.decompress {
        return Ok(None);
    }
    match wanted(source, options)? {
        Some(wanted) if wanted.digest == digest && there.has_all(&wanted, options)? => Ok(Some(digest)),
        _ => Ok(None),
    }
}

/// What the destination must have.
struct Wanted {
    digest: Digest,
    /// The entries of a list of which the destination may lack some.
    entries: Vec<Descriptor>,
}

/// Returns what the copy will have made, if it changes nothing; `None` if it may.
fn wanted(source: &dyn ImageSource, options: &CopyOptions) -> Result<Option<Wanted>> {
    let whole = |digest: Digest| Some(Wanted { digest, entries: Vec::new() });
    let stays = |format: Format| !options.schema1 && options.format.is_none_or(|wanted| wanted == format);
    if options.format.is_none()
        && matches!(options.multi_arch, MultiArch::All | MultiArch::IndexOnly)
        && let Some(digest) = source.announced()?
    {
        return Ok(whole(digest));
    }
    let index = match open_top(source)? {
        Document::Manifest(manifest) => return Ok(whole(*manifest.digest()).filter(|_| stays(manifest.format()))),
        Document::Schema1(schema1) => {
            let stays = options.schema1 || options.format.is_none();
            return Ok(whole(*schema1.digest()).filter(|_| stays));
        }
        Document::Index(index) => index,
    };
    let frame = || format!("choosing an image of {}", source.name());
    Ok(match options.multi_arch {
        MultiArch::System => {
            let entry = options.platform.choose(&index).context(frame)?;
            let (digest, format) = match entry.media_type.meaning() {
                Meaning::Manifest(format) => (entry.digest, format),
                // A list within the list, or a type that says nothing.
                _ => {
                    let (manifest, _) = copy::select(source, index, &options.platform)?;
                    (*manifest.digest(), manifest.format())
                }
            };
            whole(digest).filter(|_| stays(format))
        }
        MultiArch::IndexOnly => whole(*index.digest()).filter(|_| stays(index.format())),
        // Any of its images may be of another format.
        MultiArch::All | MultiArch::Platforms if options.format.is_some() => None,
        MultiArch::All => whole(*index.digest()),
        MultiArch::Platforms => {
            let entries = options.platforms.iter().map(|platform| platform.choose(&index).cloned());
            Some(Wanted { digest: *index.digest(), entries: entries.collect::<Result<_>>().context(frame)? })
        }
    })
}

/// What can be asked what it has.
enum There<'a> {
    Dir(DirSource),
    Room(&'a dyn ImageDestination),
}

impl There<'_> {
    fn announced(&self) -> Result<Option<Digest>> {
        match self {
            Self::Dir(dir) => Ok(Some(*dir.top()?.digest())),
            Self::Room(room) => room.announced(),
        }
    }

    fn has(&self, entry: &Descriptor) -> Result<bool> {
        match self {
            // What has a name in a `dir:` that we can read was published with all that is below it.
            Self::Dir(dir) => match dir.open_manifest(entry) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
            Self::Room(room) => room.has_manifest(&entry.digest),
        }
    }

    /// Returns whether what a list leads to is there as well: a copy for some platforms leaves the others out.
    ///
    /// Of a registry that has a whole list it is believed: it takes none whose images it lacks, unless told to.
    fn has_all(&self, wanted: &Wanted, options: &CopyOptions) -> Result<bool> {
        let mut entries = wanted.entries.clone();
        if let (Self::Dir(dir), MultiArch::All) = (self, options.multi_arch)
            && let Document::Index(index) = open_top(dir)?
        {
            entries.extend(index.entries().iter().cloned());
        }
        for entry in &entries {
            if !self.has(entry)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
