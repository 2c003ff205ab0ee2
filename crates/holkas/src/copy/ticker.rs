//! Tells how far layers are, a few times a second, whoever reads them.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::progress::{Counter, Event, Monitor};

/// Often enough for eyes, too seldom to cost anything.
const TICK: Duration = Duration::from_millis(200);

/// The layers that are under way.
#[derive(Debug, Default)]
pub(crate) struct Ticker {
    layers: Mutex<Vec<UnderWay>>,
}

#[derive(Debug)]
struct UnderWay {
    digest: String,
    bytes: u64,
    read: Counter,
    told: u64,
}

impl Ticker {
    /// Follows a layer of `bytes` compressed bytes until [`Ticker::forget`].
    pub(crate) fn follow(&self, digest: &str, bytes: u64) -> Counter {
        let read = Counter::default();
        self.lock().push(UnderWay { digest: digest.to_string(), bytes, read: read.clone(), told: 0 });
        read
    }

    /// Tells no more of the layer.
    pub(crate) fn forget(&self, digest: &str) {
        self.lock().retain(|layer| layer.digest != digest);
    }

    /// Tells how far all layers are, until the other end of `ended` is dropped.
    pub(crate) fn run(&self, ended: &Receiver<()>, monitor: &dyn Monitor) {
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.tell(monitor);
        }
    }

    fn tell(&self, monitor: &dyn Monitor) {
        for layer in &mut *self.lock() {
            // A source that keeps layers unpacked gives more bytes than the layer has compressed.
            let read = layer.read.get().min(layer.bytes);
            if read > layer.told {
                monitor.event(Event::LayerAdvanced { digest: &layer.digest, bytes: read - layer.told });
                layer.told = read;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UnderWay>> {
        self.layers.lock().expect("no holder of this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Monitor for Heard {
        fn event(&self, event: Event<'_>) {
            self.0.lock().expect("it does not panic").push(format!("{event:?}"));
        }
    }

    #[test]
    fn what_was_read_is_told_once_and_never_more_than_the_layer_has() {
        let (ticker, heard) = (Ticker::default(), Heard::default());
        let read = ticker.follow("sha256:1", 10);
        ticker.tell(&heard);
        read.add(4);
        ticker.tell(&heard);
        ticker.tell(&heard);
        read.add(40);
        ticker.tell(&heard);
        ticker.forget("sha256:1");
        read.add(1);
        ticker.tell(&heard);
        let advanced = |bytes| format!("LayerAdvanced {{ digest: \"sha256:1\", bytes: {bytes} }}");
        assert_eq!(*heard.0.lock().expect("it does not panic"), [advanced(4), advanced(6)]);
    }
}
