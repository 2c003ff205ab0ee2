//! The open images: numbered, bounded in number and bytes, with the sources of those that were used last held open.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use holkas::error::{Error, Result};
use holkas::image::ImageSource;
use holkas::reference::ImageReference;

use super::failure::Failure;
use super::image::Image;

/// Images that are open at once. A client that never closes any comes so far.
const OPEN: usize = 4096;
/// Bytes of documents that are kept for them: for all of usual size, and for four of the largest.
const DOCUMENTS: usize = 64 << 20;
/// Sources that are held open, each with descriptors and what it has read of its store. The others are opened again.
const WARM: usize = 16;

/// The open images.
#[derive(Debug, Default)]
pub(super) struct Images {
    last: u32,
    open: BTreeMap<u64, Opened>,
    /// Those whose sources are open and can be opened again, what was used longest ago first.
    warm: VecDeque<u64>,
}

struct Opened {
    reference: ImageReference,
    source: Option<Arc<dyn ImageSource>>,
    image: Image,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({}, {:?})", self.reference, self.image)
    }
}

impl Images {
    /// Returns an error if there can be no more.
    pub(super) fn check_room(&self) -> Result<(), Failure> {
        match self.open.len() < OPEN && self.last < u32::MAX {
            true => Ok(()),
            false => Err(Failure::other(format!("{OPEN} images are open, and there can be no more: close some first"))),
        }
    }

    /// Adds an image, and returns its number.
    pub(super) fn add(
        &mut self,
        reference: ImageReference,
        source: Arc<dyn ImageSource>,
        image: Image,
    ) -> Result<u64, Failure> {
        self.check_room()?;
        self.check_weight(image.weight())?;
        // Numbers are not used twice: a client may hold on to one that it has closed.
        self.last += 1;
        let id = u64::from(self.last);
        self.open.insert(id, Opened { reference, source: Some(source), image });
        self.warm_up(id);
        Ok(id)
    }

    fn weight(&self) -> usize {
        self.open.values().map(|opened| opened.image.weight()).sum()
    }

    fn check_weight(&self, more: usize) -> Result<(), Failure> {
        if self.weight() + more <= DOCUMENTS {
            return Ok(());
        }
        Err(Failure::other(format!(
            "the manifests and configs of {} open images are more than {DOCUMENTS} bytes: close some first",
            self.open.len()
        )))
    }

    /// Removes an image.
    pub(super) fn close(&mut self, id: u64) -> Result<(), Failure> {
        self.open.remove(&id).ok_or_else(|| unknown(id))?;
        self.warm.retain(|warm| *warm != id);
        Ok(())
    }

    /// Has something done with an image and its source, which `reopen` opens if it is not open any more.
    pub(super) fn with<T>(
        &mut self,
        id: u64,
        reopen: impl FnOnce(&ImageReference) -> Result<Arc<dyn ImageSource>>,
        work: impl FnOnce(&mut Image, &Arc<dyn ImageSource>) -> Result<T>,
    ) -> Result<T, Failure> {
        let opened = self.open.get_mut(&id).ok_or_else(|| unknown(id))?;
        let source = match &opened.source {
            Some(source) => Arc::clone(source),
            None => Arc::clone(opened.source.insert(reopen(&opened.reference)?)),
        };
        let list = opened.image.list();
        let done = work(&mut opened.image, &source);
        self.warm_up(id);
        if self.weight() > DOCUMENTS {
            // What can be had again is read again when it is needed.
            self.open.values_mut().for_each(|opened| opened.image.slim());
        }
        if let (Err(failure), Some(list), Some(opened)) = (self.check_weight(0), list, self.open.get_mut(&id)) {
            // What was chosen from the list is what is too much.
            opened.image.choose_again_from(list);
            return Err(failure);
        }
        Ok(done?)
    }

    /// Notes that a source was used, and closes the one that was used longest ago if there are too many.
    fn warm_up(&mut self, id: u64) {
        self.warm.retain(|warm| *warm != id);
        if self.open.get(&id).is_some_and(|opened| can_be_opened_again(&opened.reference)) {
            self.warm.push_back(id);
        }
        while self.warm.len() > WARM {
            let cold = self.warm.pop_front().and_then(|cold| self.open.get_mut(&cold));
            if let Some(cold) = cold {
                cold.source = None;
            }
        }
    }
}

fn unknown(id: u64) -> Failure {
    Failure::from(Error::invalid(format!("there is no image {id}")))
}

/// Returns whether a reference can be opened a second time: what comes through a pipe cannot.
fn can_be_opened_again(reference: &ImageReference) -> bool {
    let is_file = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_file());
    match reference {
        ImageReference::OciArchive(layout) => is_file(&layout.path),
        ImageReference::DockerArchive(archive) => is_file(&archive.path),
        ImageReference::Dir(_) | ImageReference::Oci(_) | ImageReference::Storage(_) | ImageReference::Docker(_) => {
            true
        }
    }
}
