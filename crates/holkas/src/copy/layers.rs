//! Moves the layers of one image, several at once, the largest first.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::CopyOptions;
use super::ticker::Ticker;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::{
    Image, ImageSource, ImageWriter, Layer, LayerBlob, LayerOrder, LayerReader, Stored, from_any_place,
};
use crate::progress::{Cancel, Counter, Event, Monitor};
use crate::verify::PartialBlob;

/// Moves all layers of `image` and commits it to its writer. The first error stops the rest.
pub fn move_layers(
    source: &dyn ImageSource,
    image: &Image,
    writer: Box<dyn ImageWriter + '_>,
    order: LayerOrder,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<()> {
    let name = source.name();
    let bytes = image.layers.iter().map(|layer| layer.descriptor.size).sum();
    warn(source, monitor);
    monitor.event(Event::ImageStarted { image: &name, layers: image.layers.len(), bytes });
    if !image.signatures.is_empty() {
        monitor.event(Event::SignaturesFound { image: &name, signatures: image.signatures.len() });
    }
    let (mut queue, jobs) = (image.layers.iter().collect::<Vec<_>>(), options.jobs.clamp(1, image.layers.len().max(1)));
    let jobs = match order {
        LayerOrder::Any => {
            queue.sort_by_key(|layer| (layer.descriptor.size, std::cmp::Reverse(layer.position)));
            jobs
        }
        LayerOrder::BaseFirst => {
            queue.reverse();
            1
        }
    };
    let queue = Mutex::new(queue);
    let next = || {
        let mut queue = queue.lock().expect("no holder of this lock can panic");
        // Rather another layer than to wait for one that another copy is moving.
        let free = |layer: &&Layer| options.gate.as_ref().is_none_or(|gate| gate.is_free(&layer.descriptor.digest));
        match (order, queue.iter().rposition(free)) {
            (LayerOrder::Any, Some(n)) => Some(queue.remove(n)),
            _ => queue.pop(),
        }
    };
    let ticker = Ticker::default();
    let work = || -> Result<Vec<Stored>> {
        let mut stored = Vec::new();
        while let Some(layer) = next() {
            stored.push(move_layer(source, image, layer, &*writer, options, (monitor, &ticker))?);
        }
        Ok(stored)
    };
    let results: Vec<Result<Vec<Stored>>> = std::thread::scope(|scope| {
        let (_until_all_is_done, ended) = channel();
        scope.spawn(|| ticker.run(&{ ended }, monitor));
        let workers: Vec<_> = (1..jobs).map(|_| scope.spawn(|| work().inspect_err(|_| stop(&queue)))).collect();
        let mut results = vec![work().inspect_err(|_| stop(&queue))];
        results.extend(workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(Error::invalid("a worker thread panicked; this is a defect of holkas")))
        }));
        results
    });
    let mut stored = Vec::new();
    for result in results {
        stored.extend(result?);
    }
    stored.sort_by_key(|stored| stored.position);
    let config = image.kept_config().map(|config| config.digest().to_string());
    monitor.event(Event::LayersFinished { image: &name, config: config.as_deref() });
    writer.commit(stored)?;
    monitor.event(Event::ImageFinished { image: &name });
    Ok(())
}

/// Leaves nothing to do for the other workers.
fn stop(queue: &Mutex<Vec<&Layer>>) {
    queue.lock().expect("no holder of this lock can panic").clear();
}

fn move_layer(
    source: &dyn ImageSource,
    image: &Image,
    layer: &Layer,
    writer: &dyn ImageWriter,
    options: &CopyOptions,
    (monitor, ticker): (&dyn Monitor, &Ticker),
) -> Result<Stored> {
    let _pass = options.gate.as_ref().map(|gate| gate.enter(&layer.descriptor.digest));
    options.cancel.check()?;
    let (digest, bytes) = (layer.descriptor.digest.to_string(), layer.descriptor.size);
    let frame = || {
        format!(
            "copying layer {} of {} ({}) from {}",
            layer.position + 1,
            image.layers.len(),
            layer.descriptor.digest.short(),
            source.name()
        )
    };
    if let Some(stored) = writer.reuse_layer(layer).context(frame)? {
        monitor.event(Event::LayerFinished { digest: &digest, bytes, reused: true });
        return Ok(stored);
    }
    monitor.event(Event::LayerStarted { image: &source.name(), digest: &digest, bytes });
    let read = ticker.follow(&digest, bytes);
    let put = || put_patiently(source, layer, writer, options, (monitor, &read));
    let stored = match writer.can_put_again() {
        true => from_any_place(source, &layer.descriptor, |error| given_up(layer, error, monitor), put),
        false => put(),
    };
    ticker.forget(&digest);
    warn(source, monitor);
    let stored = stored.context(frame)?;
    monitor.event(Event::LayerFinished { digest: &digest, bytes, reused: false });
    Ok(stored)
}

/// Tells that a place which a layer came from gave wrong bytes, and that there is another.
pub(crate) fn given_up(layer: &Layer, error: &Error, monitor: &dyn Monitor) {
    let text = format!("layer {} is fetched again, from another place: {error}", layer.descriptor.digest.short());
    monitor.event(Event::Warning { text: &text });
}

/// Tells what the source wants to be known.
pub(crate) fn warn(source: &dyn ImageSource, monitor: &dyn Monitor) {
    for text in source.take_warnings() {
        monitor.event(Event::Warning { text: &text });
    }
}

/// How often a layer is put that the destination has lost on the way, as a registry may lose an upload.
const ATTEMPTS: u32 = 3;

/// Puts a layer, and puts it anew if the destination has lost it on the way.
fn put_patiently(
    source: &dyn ImageSource,
    layer: &Layer,
    writer: &dyn ImageWriter,
    options: &CopyOptions,
    (monitor, read): (&dyn Monitor, &Counter),
) -> Result<Stored> {
    let mut attempt = 1;
    loop {
        match put_layer(source, layer, writer, options, read) {
            Err(error) if error.kind() == ErrorKind::Busy && writer.can_put_again() && attempt < ATTEMPTS => {
                attempt += 1;
                let text = format!("layer {} is put again: {error}", layer.descriptor.digest.short());
                monitor.event(Event::Warning { text: &text });
            }
            other => return other,
        }
    }
}

/// Puts a layer, beginning with what an interrupted run left at the destination, if the source can go on from there.
fn put_layer(
    source: &dyn ImageSource,
    layer: &Layer,
    writer: &dyn ImageWriter,
    options: &CopyOptions,
    read: &Counter,
) -> Result<Stored> {
    let beginning = if source.resumes() { writer.partial(layer)? } else { None };
    let put = |body: Result<LayerReader>| body.and_then(|body| writer.put_layer(layer, body.counted_by(read)));
    let Some(beginning) = beginning else {
        return put(open_layer(source, layer, &options.cancel));
    };
    match put(open_layer_from(source, layer, beginning, &options.cancel)) {
        // The beginning may be what is wrong. Without it, the source has nobody else to blame.
        Err(error) if error.kind() == ErrorKind::Mismatch && writer.can_put_again() => {
            put(open_layer(source, layer, &options.cancel))
        }
        other => other,
    }
}

/// Opens a layer through the door.
pub(crate) fn open_layer(source: &dyn ImageSource, layer: &Layer, cancel: &Cancel) -> Result<LayerReader> {
    verify(source.open_layer(layer)?, layer, cancel)
}

/// Opens a layer through the door, beginning with what the destination has of it.
fn open_layer_from(
    source: &dyn ImageSource,
    layer: &Layer,
    beginning: PartialBlob,
    cancel: &Cancel,
) -> Result<LayerReader> {
    verify(source.open_layer_from(layer, beginning)?, layer, cancel)
}

fn verify(blob: LayerBlob, layer: &Layer, cancel: &Cancel) -> Result<LayerReader> {
    Ok(match blob {
        LayerBlob::AsDescribed(blob) => LayerReader::Blob(blob.verify(&layer.descriptor).cancelled_by(cancel)),
        LayerBlob::Uncompressed(blob, size) => {
            let diff_id = layer.diff_id.ok_or_else(|| Error::invalid("an artifact's blob has no uncompressed form"))?;
            LayerReader::Diff(blob.verify_diff(diff_id, size).cancelled_by(cancel))
        }
    })
}
