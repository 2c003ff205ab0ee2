//! An image's file tree in a directory: its layers as one, each surviving file written once.
//!
//! Three threads carry the layers, the uppermost first: one reads, hashes and decompresses the blobs, one hashes the
//! plain bytes, the caller's makes the tree. Bounded buffers lie between them, so that the next layer is read while the
//! last files of the one before are made.

use std::io::BufRead;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use crate::compress::Decoder;
use crate::copy::layers::{given_up, open_layer, warn};
use crate::copy::select;
use crate::copy::ticker::Ticker;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fan_out::{Reader, Source, fan_out};
use crate::fs::staging::Staging;
use crate::fs::write_back::WriteBack;
use crate::fs::{Dir, Reach, display};
use crate::image::{Image, ImageSource, Layer, LayerReader, open_top};
use crate::layout::place::Place;
use crate::limits::PLACES;
use crate::oci::{DiffId, Digest, Document, ImageId, Meaning, Platform};
use crate::policy::{Demands, Policy};
use crate::progress::{Cancel, Counter, Event, Monitor};
use crate::unpack::{ExcludedPath, FlatTree, Put, Timestamp};
use crate::verify::DiffReader;

/// How to unpack an image.
pub struct FlattenOptions<'a> {
    /// Which image of a list is wanted.
    pub platform: Platform,
    /// The policy that the image must pass.
    pub policy: &'a Policy,
    /// What shall not come into the tree.
    pub exclude: Vec<ExcludedPath>,
    /// The time of what no layer gives a time, in seconds since 1970.
    pub clock: i64,
    /// How far the tree must have come when all is done.
    pub reach: Reach,
    /// Stops the run.
    pub cancel: Cancel,
}

/// An image that was unpacked.
#[derive(Debug, Clone)]
pub struct Flattened {
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// Its ID.
    pub image_id: ImageId,
    /// Its platform, by its config.
    pub platform: String,
    /// How many layers it has.
    pub layers: usize,
    /// Their compressed bytes.
    pub bytes: u64,
}

/// Writes the file tree of an image as the directory `path`.
///
/// If there is no such directory yet, the tree is made beside its place, and takes it in one step.
/// If there is, which must be empty, the tree is made within it, since it may be a mount point:
/// see [`unpack_image`].
///
/// # Errors
///
/// As [`unpack_image`]. After one the directory is as it was before, not there or empty.
pub fn unpack_image_to(
    source: &dyn ImageSource,
    path: &Path,
    options: &FlattenOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Flattened> {
    if let Some(dir) = Dir::open_if_exists(path)? {
        return unpack_image(source, &dir, options, monitor);
    }
    let place = Place::find(path)?;
    let staging = Staging::create(&place.parent)?;
    let tree = staging.dir().make("tree", 0o700)?;
    let flattened = unpack_image(source, &tree, options, monitor)?;
    staging.dir().rename("tree", &place.parent, &place.name)?;
    if options.reach == Reach::Disk {
        place.parent.sync()?;
    }
    Ok(flattened)
}

/// Writes the file tree of an image into the empty directory `into`, which becomes the image's root.
///
/// The tree equals the merged view of the image's layers in an overlay store, less what is excluded.
/// As long as it is not whole, its root holds something whose name begins with `.unverified-`.
/// Needs to be root, with all capabilities, for owners, devices and attributes.
///
/// # Errors
///
/// `Refused` by the policy, or because the directory is not empty; `NotFound` where the list has no image for the
/// platform; `Mismatch` where the source lies; what unpacking a layer and the operating system say.
/// After an error the directory is empty again; what the process could not remove when it was killed tells by its name
/// that the tree is not whole.
pub fn unpack_image(
    source: &dyn ImageSource,
    into: &Dir,
    options: &FlattenOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Flattened> {
    let demands = options.policy.demands(&source.policy_scopes(), &source.name())?;
    let (image, flattened) = open(source, &options.platform, &demands)?;
    let frame = || format!("unpacking {} into `{}`", source.name(), display(into.path()));
    let mut places = 1;
    loop {
        let tree = begin(into, options).context(frame)?;
        let Err((layer, error)) = attempt(source, &image, (tree, into), options, monitor) else { break };
        // What cannot be removed now still shows by its names that it is no whole tree.
        let emptied = empty(into);
        let wrong = matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Invalid);
        match layer.and_then(|position| image.layers.get(position)).filter(|_| wrong && places < PLACES) {
            Some(layer) if emptied.is_ok() && source.try_another_place(&layer.descriptor, &error) => {
                given_up(layer, &error, monitor);
                places += 1;
            }
            _ => return Err(error).context(frame),
        }
    }
    monitor.event(Event::ImageFinished { image: &source.name() });
    Ok(flattened)
}

/// Reads what the source's reference names, and checks that the policy lets it in and that it can be unpacked.
fn open(source: &dyn ImageSource, platform: &Platform, demands: &Demands<'_>) -> Result<(Image, Flattened)> {
    let (manifest, indexes) = match open_top(source)? {
        Document::Schema1(schema1) => return Err(schema1.refusal()),
        Document::Manifest(manifest) => (manifest, Vec::new()),
        Document::Index(index) => select(source, index, platform)?,
    };
    demands.check_in(source, manifest.raw())?;
    let image = Image::open_with(source, manifest, indexes, Vec::new())?;
    let Some(config) = &image.config else {
        return Err(Error::unsupported(format!(
            "{} is an artifact (config type `{}`), which has no file tree",
            source.name(),
            image.manifest.config().media_type
        )));
    };
    if let Some(layer) = image.opaque_layer() {
        return Err(Error::unsupported(format!(
            "layer {} is of type `{}`, which cannot be unpacked",
            layer.position + 1,
            layer.descriptor.media_type
        )));
    }
    if image.layers.iter().any(|layer| matches!(layer.descriptor.media_type.meaning(), Meaning::Config(_))) {
        return Err(Error::invalid("a config is listed as a layer"));
    }
    let flattened = Flattened {
        manifest_digest: *image.manifest.digest(),
        image_id: config.image_id(),
        platform: config.platform().to_string(),
        layers: image.layers.len(),
        bytes: image.layers.iter().map(|layer| layer.descriptor.size).sum(),
    };
    Ok((image, flattened))
}

fn begin<'d>(into: &'d Dir, options: &FlattenOptions<'_>) -> Result<FlatTree<'d>> {
    FlatTree::begin(into, Timestamp { seconds: options.clock, nanos: 0 }, options.exclude.clone())
}

fn empty(into: &Dir) -> Result<()> {
    into.entries()?.iter().try_for_each(|name| into.remove_all(name.as_encoded_bytes()))
}

/// What went wrong, and with which layer.
type Failed = (Option<usize>, Error);

fn attempt(
    source: &dyn ImageSource,
    image: &Image,
    (mut tree, into): (FlatTree<'_>, &Dir),
    options: &FlattenOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<(), Failed> {
    let whole = |error| (None, error);
    let bytes = image.layers.iter().map(|layer| layer.descriptor.size).sum();
    warn(source, monitor);
    monitor.event(Event::ImageStarted { image: &source.name(), layers: image.layers.len(), bytes });
    let write_back = WriteBack::start(into, options.reach).map_err(whole)?;
    let pass = Pass { source, image, cancel: &options.cancel, write_back: &write_back, monitor };
    pass.put_all(&mut tree)?;
    options.cancel.check().map_err(whole)?;
    monitor.event(Event::Committing);
    tree.end().map_err(whole)?;
    write_back.finish().map_err(whole)?;
    options.reach.sync(into).map_err(whole)
}

/// What all threads need.
#[derive(Clone, Copy)]
struct Pass<'p> {
    source: &'p dyn ImageSource,
    image: &'p Image,
    cancel: &'p Cancel,
    write_back: &'p WriteBack,
    monitor: &'p dyn Monitor,
}

/// A layer on its way to who takes its plain bytes.
type Coming<'p> = (&'p Layer, Reader);

impl<'p> Pass<'p> {
    fn put_all(self, tree: &mut FlatTree<'_>) -> Result<(), Failed> {
        let ticker = Ticker::default();
        thread::scope(|scope| {
            let (_until_all_is_done, ended) = channel();
            scope.spawn(|| ticker.run(&{ ended }, self.monitor));
            let ((to_tree, for_tree), (to_proof, for_proof)) = (sync_channel(1), sync_channel(1));
            let read = scope.spawn(|| self.read_all(&ticker, to_tree, to_proof));
            let proven = scope.spawn(|| {
                { for_proof }
                    .into_iter()
                    .try_for_each(|(layer, plain)| prove(layer, plain).map_err(|e| self.of(layer, e)))
            });
            let made = self.make_all(&ticker, for_tree, tree);
            first_of([made, ended_with(proven), ended_with(read)])
        })
    }

    fn read_all(
        self,
        ticker: &Ticker,
        to_tree: SyncSender<Coming<'p>>,
        to_proof: SyncSender<Coming<'p>>,
    ) -> Result<(), Failed> {
        for layer in self.image.layers.iter().rev() {
            let digest = layer.descriptor.digest.to_string();
            let bytes = layer.descriptor.size;
            self.monitor.event(Event::LayerStarted { image: &self.source.name(), digest: &digest, bytes });
            let counter = ticker.follow(&digest, bytes);
            self.read(layer, &counter, |tree, proof| {
                // Who is gone has an error of its own.
                to_tree.send((layer, tree)).map_err(|_| Error::cancelled())?;
                proof.map_or(Ok(()), |proof| to_proof.send((layer, proof)).map_err(|_| Error::cancelled()))
            })
            .map_err(|error| self.of(layer, error))?;
        }
        Ok(())
    }

    fn make_all(self, ticker: &Ticker, coming: Receiver<Coming<'p>>, tree: &mut FlatTree<'_>) -> Result<(), Failed> {
        for (layer, mut plain) in coming {
            self.make(layer, &mut plain, tree).map_err(|error| self.of(layer, error))?;
            let digest = layer.descriptor.digest.to_string();
            ticker.forget(&digest);
            warn(self.source, self.monitor);
            let bytes = layer.descriptor.size;
            self.monitor.event(Event::LayerFinished { digest: &digest, bytes, reused: false });
        }
        Ok(())
    }

    fn make(self, layer: &Layer, plain: &mut Reader, tree: &mut FlatTree<'_>) -> Result<()> {
        match tree.layer(plain)? {
            Put::Whole => Ok(()),
            Put::LinksWanting => {
                self.make_again(layer, tree).context(|| "reading it again, for the targets of hard links")
            }
        }
    }

    /// Reads a layer a second time, with all proofs. The threads of the others wait meanwhile.
    fn make_again(self, layer: &Layer, tree: &mut FlatTree<'_>) -> Result<()> {
        thread::scope(|scope| {
            let ((to_tree, for_tree), (to_proof, for_proof)) = (sync_channel(1), sync_channel(1));
            let read = scope.spawn(move || {
                self.read(layer, &Counter::default(), |tree, proof| {
                    to_tree.send(tree).map_err(|_| Error::cancelled())?;
                    proof.map_or(Ok(()), |proof| to_proof.send(proof).map_err(|_| Error::cancelled()))
                })
                .map_err(|error| (None, error))
            });
            let proven = scope.spawn(move || {
                { for_proof }.into_iter().try_for_each(|plain| prove(layer, plain)).map_err(|error| (None, error))
            });
            let made = { for_tree }.into_iter().try_for_each(|mut plain: Reader| tree.layer_again(&mut plain));
            let made = made.map_err(|error| (None, error));
            first_of([made, ended_with(proven), ended_with(read)]).map_err(|(_, error)| error)
        })
    }

    /// Reads a layer to its end, for the readers that `hand_out` gets: one for the tree, and one for the proof of the
    /// diff ID where that is not the proof of what is read.
    fn read(
        self,
        layer: &Layer,
        counter: &Counter,
        hand_out: impl FnOnce(Reader, Option<Reader>) -> Result<()>,
    ) -> Result<()> {
        match open_layer(self.source, layer, self.cancel)?.counted_by(counter) {
            LayerReader::Blob(reader) => {
                let (source, [tree, proof]) = fan_out();
                hand_out(tree, Some(proof))?;
                let (_, mut decoder) = Decoder::new(reader)?;
                self.give(&source, &mut decoder)?;
                decoder.finish()?.finish()?;
            }
            LayerReader::Diff(mut reader) => {
                let (source, [tree]) = fan_out();
                hand_out(tree, None)?;
                self.give(&source, &mut reader)?;
                reader.finish()?;
            }
        }
        Ok(())
    }

    fn give(self, to: &Source, plain: &mut dyn std::io::Read) -> Result<()> {
        to.give_all(&mut self.write_back.count(plain))
    }

    /// Says of which layer an error is.
    fn of(self, layer: &Layer, error: Error) -> Failed {
        let (number, all) = (layer.position + 1, self.image.layers.len());
        let frame = format!("unpacking layer {number} of {all} ({})", layer.descriptor.digest.short());
        (Some(layer.position), error.context(frame))
    }
}

/// Reads the plain bytes of a layer to their end, and holds them against the diff ID.
fn prove(layer: &Layer, plain: Reader) -> Result<()> {
    let diff_id: DiffId = layer.diff_id.ok_or_else(|| Error::invalid("an artifact's blob has no uncompressed form"))?;
    let mut plain = DiffReader::new(plain, diff_id);
    loop {
        match plain.fill_buf()?.len() {
            0 => break,
            length => plain.consume(length),
        }
    }
    plain.finish().map(|_| ())
}

/// Of several errors, the one that made the others stop.
fn first_of(results: [Result<(), Failed>; 3]) -> Result<(), Failed> {
    let errors = results.into_iter().filter_map(Result::err);
    // What went wrong in one comes to the others as an error of reading, or as `Cancelled`.
    errors.min_by_key(|(_, error)| error.kind() == ErrorKind::Cancelled).map_or(Ok(()), Err)
}

fn ended_with(thread: thread::ScopedJoinHandle<'_, Result<(), Failed>>) -> Result<(), Failed> {
    thread.join().unwrap_or_else(|_| Err((None, Error::invalid("a thread panicked; this is a defect of holkas"))))
}
