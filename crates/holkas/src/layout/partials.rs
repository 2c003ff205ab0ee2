//! Layers on their way from a source that can go on where an interrupted run stopped.
//!
//! They rest in a staging directory, named by their digests, from their first byte until the image is published.
//! What a killed or interrupted run leaves there is taken over by the next run for the same place, and hashed again.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard};

use super::blob;
use crate::error::{ErrorKind, Result};
use crate::fs::Dir;
use crate::fs::continued::Continued;
use crate::fs::staging::Staging;
use crate::image::{Layer, LayerReader, Stored};
use crate::oci::Digest;
use crate::verify::PartialBlob;

/// The partials of a staging directory.
#[derive(Debug)]
pub(crate) struct Partials {
    dir: Dir,
    state: Mutex<BTreeMap<Digest, State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The layer at this position of the image writes it: the same blob may be there twice, and be written at once.
    Claimed(usize),
    /// It has proven itself.
    Verified,
}

impl Partials {
    /// Takes the directory that [`Staging::create_taking_partials`] gave.
    pub(crate) fn new(dir: Dir) -> Self {
        Self { dir, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, BTreeMap<Digest, State>> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// Has the layer written here by the next [`Partials::put_layer`], and returns what is there of it.
    pub(crate) fn claim(&self, layer: &Layer, staging: &Staging) -> Result<Option<PartialBlob>> {
        let digest = &layer.descriptor.digest;
        match *self.state().entry(*digest).or_insert(State::Claimed(layer.position)) {
            State::Claimed(position) if position == layer.position => {}
            State::Claimed(_) | State::Verified => return Ok(None),
        }
        staging.leave_partials(true);
        let Some(file) = self.dir.open_file_itself(name(digest))? else { return Ok(None) };
        let length = file.metadata()?.len();
        // A longer one cannot be the beginning, and is emptied when the layer is put.
        let usable = length > 0 && length <= layer.descriptor.size;
        Ok(usable.then(|| PartialBlob::new(file, length)))
    }

    /// Returns whether the layer is written here.
    pub(crate) fn is_claimed_for(&self, layer: &Layer) -> bool {
        self.state().get(&layer.descriptor.digest) == Some(&State::Claimed(layer.position))
    }

    /// Writes a layer. After an error that does not say that its bytes are wrong, they stay for the next run.
    pub(crate) fn put_layer(&self, layer: &Layer, body: LayerReader, staging: &Staging) -> Result<Stored> {
        let digest = &layer.descriptor.digest;
        let file = self.dir.open_for_update(name(digest), blob::MODE)?;
        let mut file = Continued::new(file, layer.descriptor.size)?;
        let stored = blob::write_layer(layer, body, &mut file).and_then(|stored| file.sync().map(|()| stored));
        match &stored {
            Ok(_) => {
                self.state().insert(*digest, State::Verified);
            }
            Err(error) => match error.kind() {
                ErrorKind::Mismatch | ErrorKind::Invalid => self.dir.remove_file(name(digest))?,
                // What is needed now is space.
                ErrorKind::NoSpace => staging.leave_partials(false),
                _ => {}
            },
        }
        stored
    }

    /// Opens a layer that was written here.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<File>> {
        self.dir.open_file_itself(name(digest))
    }

    /// Moves all layers that were written to where they shall be.
    pub(crate) fn place(&self, to: impl Fn(&Digest) -> Result<(Dir, String)>) -> Result<()> {
        for digest in self.state().iter().filter(|(_, state)| **state == State::Verified).map(|(digest, _)| digest) {
            let (dir, as_name) = to(digest)?;
            self.dir.rename(name(digest), &dir, as_name)?;
        }
        Ok(())
    }
}

fn name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}
