//! The methods: one request, one reply, and what they need to remember of each other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use holkas::error::{Context, Error, ErrorKind, Result};
use holkas::image::{ImageSource, open_top};
use holkas::oci::Digest;
use holkas::open::{Rooms, open_source};
use holkas::policy::Policy;
use holkas::progress::Cancel;
use holkas::reference::ImageReference;
use holkas::verify::VerifiedBytes;

use super::ahead::Ahead;
use super::body::Body;
use super::failure::Failure;
use super::image::Image;
use super::images::Images;
use super::pipes::Pipes;
use super::reply::{self, Reply};
use super::request::{Absent, Request};
use super::{PACKET, Surroundings, VERSION, convert};
use crate::seqpacket::{Packets, Received};

type Answer = Result<Reply, Failure>;

/// Answers requests until the client is gone, or wants no more.
pub(super) fn serve(packets: &Packets, around: &dyn Surroundings, scratch: &Path, cancel: &Cancel) -> Result<()> {
    let mut server = Server {
        around,
        ready: None,
        images: Images::default(),
        pipes: Pipes::new(cancel),
        ahead: Ahead::new(scratch.to_path_buf(), cancel),
        cancel,
    };
    let mut buffer = vec![0; PACKET];
    loop {
        let answer = match packets.receive(&mut buffer).context(|| "receiving a request")? {
            Received::Closed => return Ok(()),
            Received::TooLong => Err(Failure::other(format!("invalid request: it has more than {PACKET} bytes"))),
            Received::Packet(length) => match Request::parse(&buffer[..length]) {
                Ok(Request::Shutdown) => return Ok(()),
                Ok(request) => server.answer(request),
                Err(failure) => Err(failure),
            },
        };
        if !reply::send(packets, answer).context(|| "sending a reply")? {
            return Ok(());
        }
    }
}

struct Server<'a> {
    around: &'a dyn Surroundings,
    ready: Option<Ready<'a>>,
    images: Images,
    pipes: Pipes,
    ahead: Ahead,
    cancel: &'a Cancel,
}

/// What `Initialize` found.
struct Ready<'a> {
    around: &'a dyn Surroundings,
    policy: Policy,
    rooms: Rooms,
}

impl Ready<'_> {
    fn open(&mut self, reference: &ImageReference) -> Result<Arc<dyn ImageSource>> {
        if matches!(reference, ImageReference::Docker(_)) && self.rooms.registries.is_none() {
            self.rooms.registries = Some(self.around.client()?);
        }
        open_source(reference, &self.rooms).map(Arc::from)
    }

    /// Asks the policy whether the image may be given away.
    fn admit(&self, source: &dyn ImageSource, document: &VerifiedBytes) -> Result<()> {
        self.policy.demands(&source.policy_scopes(), &source.name())?.check_in(source, document)
    }
}

impl Server<'_> {
    fn answer(&mut self, request: Request) -> Answer {
        // Whatever an image may do to us, the others stay open.
        catch_unwind(AssertUnwindSafe(|| self.call(request)))
            .unwrap_or_else(|_| Err(Failure::other("answering the request panicked; this is a defect of holkas")))
    }

    fn call(&mut self, request: Request) -> Answer {
        match request {
            Request::Initialize => self.initialize(),
            Request::OpenImage(reference, absent) => self.open_image(&reference, absent),
            Request::CloseImage(id) => self.close_image(id),
            Request::GetManifest(id) => {
                let (digest, bytes) = self.with(id, |image, source| image.oci_manifest(&**source))?;
                self.give(digest.to_string(), bytes.bytes().into())
            }
            Request::GetFullConfig(id) => {
                let config = self.with(id, |image, source| image.oci_config(&**source))?;
                self.give(serde_json::Value::Null, config.bytes().into())
            }
            Request::GetConfig(id) => {
                let config = self.with(id, |image, source| image.oci_config(&**source))?;
                self.give(serde_json::Value::Null, convert::runtime_config(&config)?.into())
            }
            Request::GetLayerInfo(id) => self.layer_info(id).map(Reply::of),
            Request::GetLayerInfoPiped(id) => {
                let layers = self.layer_info(id)?.to_string();
                self.give(serde_json::Value::Null, layers.into_bytes().into())
            }
            Request::GetBlob(id, digest, size) => {
                let (body, size) = self.open_blob(id, &digest, size)?;
                let (pipe, fd) = self.pipes.start(body)?;
                Ok(Reply { value: size.into(), pipe, fds: vec![fd] })
            }
            Request::GetRawBlob(id, digest) => {
                let (body, size) = self.open_blob(id, &digest, None)?;
                let fds = self.pipes.start_raw(body)?;
                Ok(Reply { value: size.into(), pipe: 0, fds: fds.into() })
            }
            Request::FinishPipe(pipe) => self.pipes.finish(pipe).map(|()| Reply::default()),
            Request::Shutdown => Ok(Reply::default()),
        }
    }

    fn initialize(&mut self) -> Answer {
        if self.ready.is_some() {
            return Err(Failure::other("already initialized"));
        }
        let (policy, rooms) = (self.around.policy()?, self.around.rooms()?);
        self.ready = Some(Ready { around: self.around, policy, rooms });
        Ok(Reply::of(VERSION))
    }

    fn open_image(&mut self, text: &str, absent: Absent) -> Answer {
        let ready = self.ready.as_mut().ok_or_else(not_initialized)?;
        self.images.check_room()?;
        let reference = ImageReference::parse(text)?;
        let is_absent = |error: &Error| error.kind() == ErrorKind::NotFound && absent == Absent::Zero;
        let source = match ready.open(&reference) {
            Err(error) if is_absent(&error) => return Ok(Reply::of(0)),
            other => other?,
        };
        let top = match open_top(&*source) {
            // Only registries are not asked before this. What lacks its manifest elsewhere is there, but damaged.
            Err(error) if is_absent(&error) && matches!(reference, ImageReference::Docker(_)) => {
                return Ok(Reply::of(0));
            }
            other => other?,
        };
        ready.admit(&*source, top.raw())?;
        let id = self.images.add(reference, source, Image::new(top))?;
        Ok(Reply::of(id))
    }

    fn close_image(&mut self, id: u64) -> Answer {
        self.ready.as_ref().ok_or_else(not_initialized)?;
        self.images.close(id)?;
        self.ahead.closed(id);
        Ok(Reply::default())
    }

    /// Has something done with an open image.
    fn with<T>(
        &mut self,
        id: u64,
        work: impl FnOnce(&mut Image, &Arc<dyn ImageSource>) -> Result<T>,
    ) -> Result<T, Failure> {
        let ready = self.ready.as_mut().ok_or_else(not_initialized)?;
        // The one that is chosen from a list needs the policy's consent, too, and not the list alone.
        let ready = std::cell::RefCell::new(ready);
        self.images.with(
            id,
            |reference| ready.borrow_mut().open(reference),
            |image, source| {
                let ready = ready.borrow();
                image.choose(&**source, &ready.rooms.platform, |chosen| ready.admit(&**source, chosen))?;
                work(image, source)
            },
        )
    }

    fn layer_info(&mut self, id: u64) -> Result<serde_json::Value, Failure> {
        let cancel = self.cancel;
        let layers = self.with(id, |image, source| image.layers(&**source, cancel))?;
        Ok(layers.to_json())
    }

    /// Returns what goes into the pipe of a blob, and its size.
    fn open_blob(&mut self, id: u64, digest: &Digest, size: Option<u64>) -> Result<(Body, u64), Failure> {
        let cancel = self.cancel;
        let read = self.ahead.take(id, digest);
        let (body, real, layers, source) = self.with(id, |image, source| {
            let far = source.repository().is_some();
            let layers = if far { Some(image.layers(&**source, cancel)?) } else { None };
            let known = layers.as_ref().and_then(|layers| layers.size_of(digest));
            let (body, real) = match (read, known) {
                (Some(spool), Some(real)) => (Body::Ahead(spool, size), real),
                _ => image.open_blob(digest, size, source, cancel)?,
            };
            Ok((body, real, layers, Arc::clone(source)))
        })?;
        if let Some(layers) = layers {
            self.ahead.asked(id, digest, &layers.asked, &source);
        }
        Ok((body, real))
    }

    /// Answers with bytes that are in memory.
    fn give(&mut self, value: impl Into<serde_json::Value>, bytes: Arc<[u8]>) -> Answer {
        let (pipe, fd) = self.pipes.start(Body::Bytes(bytes, None))?;
        Ok(Reply { value: value.into(), pipe, fds: vec![fd] })
    }
}

fn not_initialized() -> Failure {
    Failure::other("client error: must invoke Initialize")
}
