//! What skopeo tells of a copy: progress on stdout, a line for each step; warnings and sync's steps on stderr.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use holkas::progress::{Event, Monitor};

use super::log::{Level, log, log_with, quoted};
use crate::output;

/// Whether signatures are taken along: skopeo tells that it looks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signatures {
    Taken,
    Removed,
}

/// Whether progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    Loud,
    /// Warnings only.
    Quiet,
}

/// Tells a run in skopeo's lines.
pub(crate) struct Lines {
    voice: Voice,
    signatures: Signatures,
    /// The layers of the image that is being copied whose line was written.
    told: Mutex<BTreeSet<String>>,
    /// Whether that image has signatures.
    signed: AtomicBool,
}

impl Lines {
    pub(crate) fn new(voice: Voice, signatures: Signatures) -> Self {
        Self { voice, signatures, told: Mutex::default(), signed: AtomicBool::new(false) }
    }

    fn say(&self, line: &str) {
        if self.voice == Voice::Loud {
            // Progress that cannot be written must not stop the work that it is about.
            let _not_worth_failing = output::line(line);
        }
    }

    fn layer(&self, digest: &str) {
        let new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.to_string());
        if new {
            self.say(&format!("Copying blob {digest}"));
        }
    }

    fn getting(&self, what: &str) {
        if self.signatures == Signatures::Taken {
            self.say(&format!("Getting image {what} signatures"));
        }
    }
}

impl Monitor for Lines {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::ImageStarted { .. } => {
                self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.getting("source");
            }
            Event::LayerStarted { digest, .. } => self.layer(digest),
            Event::LayerFinished { digest, reused, .. } => {
                self.layer(digest);
                log(Level::Debug, &format!("Layer {digest} {}", if reused { "is there already" } else { "is copied" }));
            }
            Event::SignaturesFound { .. } => {
                self.signed.store(true, Ordering::Relaxed);
                self.say("Checking if image destination supports signatures");
            }
            Event::Signing { signer } => self.say(&format!("Creating signature: Signing image using {signer}")),
            Event::LayersFinished { config, .. } => {
                self.say(&format!("Copying config {config}"));
                self.say("Writing manifest to image destination");
                if self.signed.swap(false, Ordering::Relaxed) {
                    self.say("Storing signatures");
                }
            }
            Event::ListStarted { images, of } => {
                self.getting("list");
                self.say(&format!("Copying {images} images generated from {of} images in list"));
            }
            Event::InstanceStarted { digest, number, of } => {
                self.say(&format!("Copying image {digest} ({number}/{of})"));
            }
            Event::InstancesFinished => self.say("Writing manifest list to image destination"),
            Event::SyncStarted { source, destination, number, of, dry } => {
                let what = if dry { "Would have copied" } else { "Copying" };
                let fields = [("from", source), ("to", destination)];
                log_with(Level::Info, &format!("{what} image ref {number}/{of}"), &fields);
            }
            Event::SyncPresent { .. } => {
                self.getting("source");
                self.say("Skipping: image already present at destination");
            }
            Event::SyncFailed { source, error } => {
                log_with(Level::Error, &format!("Error copying ref {}", quoted(source)), &[("error", error)]);
            }
            Event::SyncFinished { images, sources, dry } => {
                let what = if dry { "Would have synced" } else { "Synced" };
                log(Level::Info, &format!("{what} {images} images from {sources} sources"));
            }
            Event::Retrying { error, wait, number, of } => {
                let wait = match wait.as_millis() {
                    millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
                    millis => format!("{millis}ms"),
                };
                log(Level::Warning, &format!("Failed, retrying in {wait} ... ({number}/{of}). Error: {error}"));
            }
            Event::Warning { text } => log(Level::Warning, text),
            Event::Committing => log(Level::Debug, "Everything is at the destination, and gets its names"),
            _ => {}
        }
    }
}
