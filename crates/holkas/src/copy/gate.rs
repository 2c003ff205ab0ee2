//! Keeps copies that run at the same time from moving the same blob at the same time.
//!
//! Who comes second finds the blob where the first has put it: at the destination, or in the cache.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::oci::Digest;

/// The blobs that are being moved by any of the copies that share this gate.
#[derive(Debug, Default)]
pub struct Gate {
    moving: Mutex<BTreeSet<Digest>>,
    left: Condvar,
}

/// The right to move a blob; dropped, it is the next one's.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    digest: Digest,
}

impl Gate {
    fn moving(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        // The set is never half changed.
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else moves the blob. A thread holds one pass at most, so that none waits for ever.
    pub fn enter(&self, digest: &Digest) -> Pass<'_> {
        let waiting = self.left.wait_while(self.moving(), |moving| moving.contains(digest));
        waiting.unwrap_or_else(PoisonError::into_inner).insert(*digest);
        Pass { gate: self, digest: *digest }
    }

    /// Returns whether nobody moves the blob at the moment.
    pub fn is_free(&self, digest: &Digest) -> bool {
        !self.moving().contains(digest)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.moving().remove(&self.digest);
        self.gate.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_blob_is_moved_by_one_at_a_time() {
        let gate = Gate::default();
        let [one, other] = [b"1", b"2"].map(|bytes| Algorithm::Sha256.digest(bytes));
        let pass = gate.enter(&one);
        assert!(!gate.is_free(&one) && gate.is_free(&other));
        let second = std::thread::scope(|scope| {
            let second = scope.spawn(|| gate.enter(&one));
            drop(gate.enter(&other));
            assert!(!second.is_finished());
            drop(pass);
            second.join().expect("it does not panic")
        });
        assert!(!gate.is_free(&one));
        drop(second);
        assert!(gate.is_free(&one));
    }
}
