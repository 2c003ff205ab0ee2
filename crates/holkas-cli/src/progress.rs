//! How progress is told on stderr: bars on a terminal, plain lines, or JSON lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holkas::progress::{Event, Monitor, Silent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::Progress;

/// Returns the monitor that tells progress in the wanted form.
pub(crate) fn monitor(wanted: Progress) -> Arc<dyn Monitor> {
    match wanted {
        Progress::Auto if std::io::stderr().is_terminal() => Arc::new(Bars::default()),
        Progress::Auto | Progress::Plain => Arc::new(Plain),
        Progress::Json => Arc::new(Json),
        Progress::None => Arc::new(Silent),
    }
}

/// Writes one line. Progress that cannot be written must not stop the work that it is about.
fn tell(line: &str) {
    let _not_worth_failing = writeln!(std::io::stderr().lock(), "{line}");
}

/// Returns a number of bytes for people.
fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Returns a digest as short as it can be told apart.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// One line for each thing that happens.
struct Plain;

impl Monitor for Plain {
    fn event(&self, event: Event<'_>) {
        if let Some(line) = plain(&event) {
            tell(&line);
        }
    }
}

/// Returns what an event warns of, if it does.
fn warning(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Warning { text } => Some((*text).to_string()),
        Event::Retrying { error, wait, number, of } => {
            let wait = match wait.as_millis() {
                millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
                millis => format!("{millis} ms"),
            };
            Some(format!("{error}; trying again in {wait} ({number}/{of})"))
        }
        _ => None,
    }
}

fn plain(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::ImageStarted { image, layers, bytes } => {
            format!("{image}: {layers} layer{}, {}", if *layers == 1 { "" } else { "s" }, size(*bytes))
        }
        Event::LayerFinished { digest, bytes, reused: false } => {
            format!("  layer {} ({})", short(digest), size(*bytes))
        }
        Event::LayerFinished { digest, reused: true, .. } => format!("  layer {} (already there)", short(digest)),
        Event::ImageFinished { image } => format!("{image}: done"),
        Event::ReferrerFinished { digest, kind, .. } => format!("  referrer {} ({kind})", short(digest)),
        Event::Signing { signer } => format!("  signing by {signer}"),
        Event::Committing => "committing".to_string(),
        Event::SyncStarted { source, destination, number, of, dry } => {
            let what = if *dry { "Would have copied" } else { "Copying" };
            format!("{what} image ref {number}/{of}: {source} to {destination}")
        }
        Event::SyncPresent { destination } => {
            format!("Skipping: image already present at destination: {destination}")
        }
        Event::SyncFailed { source, error } => format!("Error copying ref \"{source}\": {error}"),
        Event::SyncFinished { images, sources, dry } => {
            let what = if *dry { "Would have synced" } else { "Synced" };
            format!("{what} {images} images from {sources} sources")
        }
        Event::Retrying { .. } | Event::Warning { .. } => format!("warning: {}", warning(event)?),
        _ => return None,
    })
}

/// One JSON object a line.
struct Json;

impl Monitor for Json {
    fn event(&self, event: Event<'_>) {
        if let Some(object) = object(&event) {
            tell(&object.to_string());
        }
    }
}

fn object(event: &Event<'_>) -> Option<serde_json::Value> {
    Some(match event {
        Event::ImageStarted { image, layers, bytes } => {
            json!({ "event": "image-started", "image": image, "layers": layers, "bytes": bytes })
        }
        Event::LayerStarted { image, digest, bytes } => {
            json!({ "event": "layer-started", "image": image, "digest": digest, "bytes": bytes })
        }
        Event::LayerAdvanced { digest, bytes } => {
            json!({ "event": "layer-advanced", "digest": digest, "bytes": bytes })
        }
        Event::LayerFinished { digest, bytes, reused } => {
            json!({ "event": "layer-finished", "digest": digest, "bytes": bytes, "reused": reused })
        }
        Event::ImageFinished { image } => json!({ "event": "image-finished", "image": image }),
        Event::ReferrerFinished { subject, digest, kind } => {
            json!({ "event": "referrer-finished", "subject": subject, "digest": digest, "kind": kind })
        }
        Event::Signing { signer } => json!({ "event": "signing", "signer": signer }),
        Event::Committing => json!({ "event": "committing" }),
        Event::SyncStarted { source, destination, number, of, dry } => json!({
            "event": "sync-started", "source": source, "destination": destination,
            "number": number, "of": of, "dry": dry,
        }),
        Event::SyncPresent { destination } => json!({ "event": "sync-present", "destination": destination }),
        Event::SyncFailed { source, error } => json!({ "event": "sync-failed", "source": source, "error": error }),
        Event::SyncFinished { images, sources, dry } => {
            json!({ "event": "sync-finished", "images": images, "sources": sources, "dry": dry })
        }
        Event::Retrying { .. } | Event::Warning { .. } => json!({ "event": "warning", "text": warning(event)? }),
        _ => return None,
    })
}

/// A bar for each layer that is being worked on, and a line for each image.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    layers: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    fn line(&self, line: &str) {
        let _not_worth_failing = self.all.println(line);
    }
}

impl Monitor for Bars {
    fn event(&self, event: Event<'_>) {
        // A panic elsewhere leaves the map of bars as good as it was.
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::LayerStarted { digest, bytes, .. } => {
                let style =
                    ProgressStyle::with_template("  {prefix} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec}")
                        .expect("the template is a constant that was tried")
                        .progress_chars("=> ");
                let bar = ProgressBar::new(*bytes).with_style(style).with_prefix(short(digest).to_string());
                bar.enable_steady_tick(Duration::from_millis(200));
                layers.insert((*digest).to_string(), self.all.add(bar));
            }
            Event::LayerAdvanced { digest, bytes } => {
                if let Some(bar) = layers.get(*digest) {
                    bar.inc(*bytes);
                }
            }
            Event::LayerFinished { digest, .. } => {
                if let Some(bar) = layers.remove(*digest) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        if let Some(line) = plain(&event) {
            self.line(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_happened() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let finished = |reused| Event::LayerFinished { digest: &digest, bytes: 2048, reused };
        assert_eq!(plain(&finished(false)).as_deref(), Some("  layer sha256:aaaaaaaaaaaa (2.00 KiB)"));
        assert_eq!(plain(&finished(true)).as_deref(), Some("  layer sha256:aaaaaaaaaaaa (already there)"));
        assert_eq!(plain(&Event::LayerAdvanced { digest: &digest, bytes: 1 }), None);
        let object = object(&Event::Warning { text: "x" }).expect("told");
        assert_eq!(object.to_string(), r#"{"event":"warning","text":"x"}"#);
    }
}
