//! Copies what belongs to an image along with it: referrers, what cosign keeps under tags, and what belongs to those.
//!
//! Lists are hints. What they name is fetched by digest and verified, and its own `subject` decides.

use std::collections::BTreeSet;

use super::{CopyOptions, layers, open_document, support};
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::image::{
    Attached, Attachment, Image, ImageDestination, ImageSource, Referrer, Support, from_any_place, no_referrers,
};
use crate::limits::{INDEX_DEPTH, REFERRER_DEPTH, REFERRER_DOCUMENTS, REFERRERS};
use crate::oci::{Descriptor, Digest, Document, Format, Index, Manifest};
use crate::progress::{Event, Monitor};

/// Refuses rooms that cannot hold what belongs to an image, before anything is read.
pub(super) fn check(source: &dyn ImageSource, destination: &dyn ImageDestination) -> Result<()> {
    if !destination.holds_referrers() {
        return Err(no_referrers(destination.name()));
    }
    if !source.keeps_referrers() {
        return Err(Error::unsupported(format!(
            "{} has nothing that belongs to an image, such as its signatures",
            source.name()
        ))
        .hint("copy from docker://, oci: or oci-archive:, or without --referrers"));
    }
    Ok(())
}

/// Copies all that belongs to the manifests and indexes of these digests. Returns how much that was.
///
/// What belongs to a referrer goes before it, so that nothing is there without what vouches for it.
pub(super) fn copy(
    source: &dyn ImageSource,
    destination: &dyn ImageDestination,
    subjects: &[Digest],
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<usize> {
    let mut copy = Referrers {
        source,
        destination,
        options,
        monitor,
        asked: BTreeSet::new(),
        moved: BTreeSet::new(),
        documents: 0,
        bytes: 0,
        attached: 0,
    };
    for subject in subjects {
        copy.follow(subject, 1)?;
    }
    Ok(copy.attached)
}

struct Referrers<'a> {
    source: &'a dyn ImageSource,
    destination: &'a dyn ImageDestination,
    options: &'a CopyOptions,
    monitor: &'a dyn Monitor,
    /// Digests for which the source was asked what belongs to them. It may lead in circles, by tags.
    asked: BTreeSet<Digest>,
    /// Manifests whose blobs are at the destination.
    moved: BTreeSet<Digest>,
    /// Manifests and indexes that were put, each time.
    documents: usize,
    /// Their bytes.
    bytes: u64,
    /// Those of them that belong to something, and are not just named by an index.
    attached: usize,
}

impl Referrers<'_> {
    fn follow(&mut self, subject: &Digest, depth: usize) -> Result<()> {
        if !self.asked.insert(*subject) {
            return Ok(());
        }
        let found = self
            .source
            .referrers(subject)
            .context(|| format!("looking for what belongs to {subject} in {}", self.source.name()))?;
        for referrer in found {
            self.options.cancel.check()?;
            let frame = || format!("copying what belongs to {subject} from {}", self.source.name());
            if depth > REFERRER_DEPTH {
                let deep = format!("what belongs to it belongs to more than {REFERRER_DEPTH} others, one to the next");
                return Err(Error::invalid(deep)).context(frame);
            }
            // The image is there; that something which belongs to it is not must not read as if it were not.
            let (document, attachment) = self.open(referrer, subject).map_err(Error::lacking).context(frame)?;
            self.follow(document.raw().digest(), depth + 1)?;
            self.put(&document, &attachment, 1).map_err(Error::lacking).context(frame)?;
            self.attached += 1;
            self.tell(subject, &document, &attachment);
        }
        Ok(())
    }

    /// Reads what was found, and makes sure that it belongs to the subject.
    fn open(&self, referrer: Referrer, subject: &Digest) -> Result<(Document, Attachment)> {
        match referrer {
            Referrer::Tagged { tag, manifest } => Ok((Document::parse(manifest)?, Attachment::Tag(tag))),
            Referrer::Listed(entry) => {
                let read = || open_document(self.source, &entry);
                let document =
                    from_any_place(self.source, &entry, |_| {}, read).map_err(|error| match error.kind() {
                        ErrorKind::NotFound | ErrorKind::Mismatch => {
                            error.hint("the list of what refers to the image names what is not there as it should be")
                        }
                        _ => error,
                    })?;
                match document.subject() {
                    Some(own) if own.digest == *subject => Ok((document, Attachment::Subject)),
                    own => Err(Error::mismatch(format!(
                        "the list of what refers to {subject} names {}, which refers to {}",
                        entry.digest,
                        own.map_or_else(|| "nothing".to_string(), |own| own.digest.to_string())
                    ))),
                }
            }
        }
    }

    /// Puts a document, with its blobs or with all that it names before it.
    fn put(&mut self, document: &Document, attachment: &Attachment, depth: usize) -> Result<()> {
        self.documents += 1;
        if self.documents > REFERRERS {
            return Err(Error::invalid(format!("there are more than {REFERRERS} manifests that belong to the image")));
        }
        self.bytes += document.raw().bytes().len() as u64;
        REFERRER_DOCUMENTS.check(self.bytes)?;
        let attached = match document {
            Document::Manifest(manifest) => {
                self.check_format(manifest.format())?;
                self.move_blobs(manifest)?;
                Attached::from(manifest)
            }
            Document::Index(index) => {
                self.check_format(index.format())?;
                self.put_entries(index, depth)?;
                Attached::from(index)
            }
            Document::Schema1(schema1) => return Err(schema1.refusal()),
        };
        self.destination.put_referrer(&attached, attachment)
    }

    fn put_entries(&mut self, index: &Index, depth: usize) -> Result<()> {
        if depth > INDEX_DEPTH {
            return Err(Error::invalid(format!("its lists are nested more than {INDEX_DEPTH} deep")));
        }
        for entry in index.entries() {
            if !self.moved.contains(&entry.digest) {
                let document = open_document(self.source, entry)?;
                self.put(&document, &Attachment::Within, depth + 1)?;
            }
        }
        Ok(())
    }

    fn move_blobs(&mut self, manifest: &Manifest) -> Result<()> {
        if !self.moved.insert(*manifest.digest()) {
            return Ok(());
        }
        let image = Image::open_referrer(self.source, manifest.clone())?;
        let writer = self.destination.begin_referrer(&image)?;
        let order = self.destination.capabilities().order;
        layers::move_layers(self.source, &image, writer, order, self.options, &Within(self.monitor))
    }

    fn check_format(&self, format: Format) -> Result<()> {
        match support(&self.destination.capabilities(), format) {
            Support::Native => Ok(()),
            Support::OnRequest if self.options.preserve_digests => Ok(()),
            Support::OnRequest | Support::No => {
                Err(Error::refused(format!("{} holds no manifests of Docker's types", self.destination.name()))
                    .hint("keep them as they are by --preserve-digests where the destination allows it"))
            }
        }
    }

    fn tell(&self, subject: &Digest, document: &Document, attachment: &Attachment) {
        let said = match document {
            Document::Manifest(manifest) => Attached::from(manifest).descriptor,
            Document::Index(index) => Attached::from(index).descriptor,
            Document::Schema1(_) => return,
        };
        let kind = match attachment {
            Attachment::Tag(tag) => tag.clone(),
            Attachment::Subject | Attachment::Within => kind(said),
        };
        let (subject, digest) = (subject.to_string(), document.raw().digest().to_string());
        self.monitor.event(Event::ReferrerFinished { subject: &subject, digest: &digest, kind: &kind });
    }
}

/// Returns the type of an artifact, for people.
fn kind(said: Descriptor) -> String {
    printable(said.artifact_type.unwrap_or(said.media_type).as_str().as_bytes())
}

/// Tells of the blobs of a referrer, but not that it is an image.
struct Within<'a>(&'a dyn Monitor);

impl Monitor for Within<'_> {
    fn event(&self, event: Event<'_>) {
        if !matches!(event, Event::ImageStarted { .. } | Event::ImageFinished { .. }) {
            self.0.event(event);
        }
    }
}
