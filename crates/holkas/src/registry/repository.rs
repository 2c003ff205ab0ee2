//! One repository of a registry: its manifests, blobs, tags and referrers, by the names of the distribution protocol.

use std::sync::Arc;

use ureq::http::Method;

use super::exchange::{Payload, Response};
use super::host::{Call, Host, To};
use super::url::Url;
use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::limits::{CONFIG, LISTED, MANIFEST, PAGE, PAGES, SIGNATURE_LIST};
use crate::oci::document::manifest_digest;
use crate::oci::{Algorithm, Descriptor, Digest, MediaType, media_type};
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// The manifests that we take, in skopeo's order.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws, \
    application/vnd.docker.distribution.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.index.v1+json";

/// What may be done with a repository, as token services spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
    Delete,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "delete,pull",
        }
    }
}

/// A repository at a host.
#[derive(Clone)]
pub(super) struct Repository {
    host: Arc<Host>,
    /// Below the host: `library/alpine`.
    path: String,
}

/// What a registry says of a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) digest: Option<Digest>,
    pub(super) media_type: Option<MediaType>,
}

impl Repository {
    pub(super) fn new(host: Arc<Host>, path: &str) -> Self {
        Self { host, path: path.to_string() }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the path below the host.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns `HOST/PATH`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host.authority(), self.path)
    }

    fn scope(&self, access: Access) -> Vec<String> {
        vec![format!("repository:{}:{}", self.path, access.actions())]
    }

    fn call(&self, access: Access, method: Method, path: &str) -> Call<'_> {
        Call {
            method,
            to: To::Path(format!("/v2/{}/{path}", self.path)),
            headers: Vec::new(),
            body: Payload::None,
            repository: &self.path,
            scopes: self.scope(access),
        }
    }

    /// Asks for a manifest by tag or digest, without its bytes. `None` if it is not there.
    pub(super) fn announced(&self, reference: &str) -> Result<Option<Announced>> {
        let mut call = self.call(Access::Pull, Method::HEAD, &format!("manifests/{reference}"));
        call.headers.push(("accept", ACCEPTED.to_string()));
        let response = self.host.call(call)?;
        match response.status {
            200 => Ok(Some(Announced { digest: announced_digest(&response)?, media_type: announced_type(&response) })),
            404 => Ok(None),
            _ => Err(response.into_error()),
        }
    }

    /// Reads a manifest by tag or digest.
    ///
    /// It must be what the digest says: the one that was asked for, or else the one that the registry announces.
    pub(super) fn manifest(&self, tag: &str, digest: Option<&Digest>) -> Result<VerifiedBytes> {
        let asked = digest.map_or_else(|| tag.to_string(), ToString::to_string);
        let frame = || format!("reading manifest {asked} in {}", self.name());
        self.read_manifest(&asked, digest).context(frame)
    }

    fn read_manifest(&self, asked: &str, digest: Option<&Digest>) -> Result<VerifiedBytes> {
        let mut call = self.call(Access::Pull, Method::GET, &format!("manifests/{asked}"));
        call.headers.push(("accept", ACCEPTED.to_string()));
        let response = self.host.call(call)?;
        if response.status != 200 {
            return Err(response.into_error());
        }
        let (announced, media_type) = (announced_digest(&response)?, announced_type(&response));
        let bytes = UntrustedBlob::from_bytes(self.host.read(response, MANIFEST)?);
        match (digest, announced) {
            // A signed one is known by the digest of its payload.
            (Some(digest), _) if is_schema1(media_type.as_ref()) => {
                let found = bytes.identify(digest.algorithm(), media_type, MANIFEST)?;
                let known = manifest_digest(found.bytes(), digest.algorithm(), MANIFEST)?;
                match known == *digest {
                    true => Ok(found),
                    false => Err(Error::mismatch(format!("the manifest is {known}, not {digest}"))),
                }
            }
            (Some(digest), _) => bytes.read_matching(digest, media_type, MANIFEST),
            // A digest of another kind than ours says nothing of schema 1, whose digest leaves its signatures out.
            (None, Some(announced)) if !is_schema1(media_type.as_ref()) => {
                let found = bytes.read_matching(&announced, media_type, MANIFEST);
                found.context(|| "the registry announced another manifest than it sent")
            }
            (None, _) => bytes.identify(Algorithm::Sha256, media_type, MANIFEST),
        }
    }

    /// Reads the manifest that a tag names; `None` if it names nothing.
    pub(super) fn tagged(&self, tag: &str) -> Result<Option<VerifiedBytes>> {
        match self.manifest(tag, None) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a manifest under a tag or its digest, and makes sure that the registry has taken it for what it is.
    ///
    /// Returns the manifest to whose list of referrers the registry has added it, if it keeps such lists.
    pub(super) fn put_manifest(
        &self,
        reference: &str,
        manifest: &VerifiedBytes,
        descriptor: &Descriptor,
    ) -> Result<Option<Digest>> {
        let frame = || format!("writing manifest {reference} to {}", self.name());
        let mut call = self.call(Access::Push, Method::PUT, &format!("manifests/{reference}"));
        call.headers.push(("content-type", descriptor.media_type.as_str().to_string()));
        call.body = Payload::Bytes(manifest.bytes());
        let response = self.host.call(call).context(frame)?;
        if !matches!(response.status, 200..=204) {
            return Err(response.into_error()).context(frame);
        }
        // A registry that writes nonsense there keeps no lists that one could rely on.
        let listed = response.header("oci-subject").and_then(|text| text.trim().parse().ok());
        let kept = match announced_digest(&response).context(frame)? {
            Some(digest) => Some(digest),
            // An old registry says nothing; then we look.
            None => self.announced(reference).context(frame)?.and_then(|announced| announced.digest),
        };
        match kept {
            Some(digest) if digest == descriptor.digest => Ok(listed),
            Some(digest) if digest.algorithm() == descriptor.digest.algorithm() => {
                Err(Error::mismatch(format!("the registry took {} for {digest}", descriptor.digest))).context(frame)
            }
            _ => self.manifest(reference, Some(&descriptor.digest)).map(|_| listed).context(frame),
        }
    }

    /// Deletes a manifest, and with it all tags that name it.
    pub(super) fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let frame = || format!("deleting {}@{digest}", self.name());
        let response = self.host.call(self.call(Access::Delete, Method::DELETE, &format!("manifests/{digest}")));
        let response = response.context(frame)?;
        match response.status {
            200..=204 => Ok(()),
            _ => Err(response.into_error()).context(frame),
        }
    }

    /// Opens a blob from byte `from` on. The registry may have sent all of it nevertheless: see [`Opened`].
    pub(super) fn open_blob(&self, digest: &Digest, size: u64, from: u64) -> Result<Opened> {
        let mut call = self.call(Access::Pull, Method::GET, &format!("blobs/{digest}"));
        if from > 0 {
            call.headers.push(("range", format!("bytes={from}-")));
        }
        let response = self.host.call(call)?;
        match (response.status, from) {
            (200, _) => Ok(Opened { response, at: 0 }),
            (206, from) if from > 0 => {
                check_range(response.header("content-range"), from, size)?;
                Ok(Opened { response, at: from })
            }
            (206, _) => Err(Error::invalid("a part came where the whole blob was asked for")),
            _ => Err(response.into_error()),
        }
    }

    /// Reads a config.
    pub(super) fn config(&self, config: &Descriptor) -> Result<VerifiedBytes> {
        CONFIG.check(config.size)?;
        let opened = self.open_blob(&config.digest, config.size, 0)?;
        UntrustedBlob::from_bytes(self.host.read(opened.response, CONFIG)?).read_verified(config, CONFIG)
    }

    /// Returns how many bytes the registry says that a blob has.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let frame = || format!("looking for blob {digest} in {}", self.name());
        let response = self.host.call(self.call(Access::Pull, Method::HEAD, &format!("blobs/{digest}")));
        let response = response.context(frame)?;
        match (response.status, response.length()) {
            (200, Some(length)) => Ok(length),
            (200, None) => Err(Error::unsupported("the registry does not say how long it is")).context(frame),
            _ => Err(response.into_error()).context(frame),
        }
    }

    /// Returns whether the repository has a blob.
    pub(super) fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let call = self.call(Access::Push, Method::HEAD, &format!("blobs/{digest}"));
        let response = self.host.call(call).context(|| format!("looking for blob {digest} in {}", self.name()))?;
        match response.status {
            // A length that is not the blob's is a lie, or another's mistake: then it is sent again.
            200 => Ok(response.length().is_none_or(|length| length == size)),
            404 | 405 => Ok(false),
            _ => Err(response.into_error()).context(|| format!("looking for blob {digest} in {}", self.name())),
        }
    }

    /// Begins an upload. With `mount`, the blob may be taken from another repository instead.
    pub(super) fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Begun> {
        let frame = || format!("beginning an upload to {}", self.name());
        let mut call = self.call(Access::Push, Method::POST, "blobs/uploads/");
        if let Some((digest, from)) = mount {
            let from_scope = format!("repository:{from}:pull");
            let from = super::url::escape(from);
            call.to = To::Path(format!("/v2/{}/blobs/uploads/?mount={digest}&from={from}", self.path));
            call.scopes.push(from_scope);
        }
        call.body = Payload::Bytes(b"");
        let response = self.host.call(call).context(frame)?;
        match response.status {
            201 if mount.is_some() => Ok(Begun::Mounted),
            202 => Ok(Begun::Session(location(&response).context(frame)?)),
            _ => Err(response.into_error()).context(frame),
        }
    }

    /// Sends one request of an upload that has begun.
    pub(super) fn upload<'a>(
        &'a self,
        method: Method,
        to: &Url,
        headers: Vec<(&'static str, String)>,
        body: Payload<'a>,
    ) -> Result<Response> {
        let (to, scopes) = (To::Address(to.clone()), self.scope(Access::Push));
        self.host.call(Call { method, to, headers, body, repository: &self.path, scopes })
    }

    /// Reads the list of a manifest's signatures, by the extension of registries that announce it.
    pub(super) fn signatures(&self, manifest: &Digest) -> Result<Vec<u8>> {
        let mut call = self.call(Access::Pull, Method::GET, "");
        call.to = self.signatures_of(manifest);
        let response = self.host.call(call)?;
        match response.status {
            200 => self.host.read(response, SIGNATURE_LIST),
            _ => Err(response.into_error()),
        }
    }

    /// Adds a signature to those of a manifest.
    pub(super) fn put_signature(&self, manifest: &Digest, signature: &[u8]) -> Result<()> {
        let mut call = self.call(Access::Push, Method::PUT, "");
        (call.to, call.body) = (self.signatures_of(manifest), Payload::Bytes(signature));
        let response = self.host.call(call)?;
        match response.status {
            201 => Ok(()),
            _ => Err(response.into_error()),
        }
    }

    fn signatures_of(&self, manifest: &Digest) -> To {
        To::Path(format!("/extensions/v2/{}/signatures/{manifest}", self.path))
    }

    /// Returns all tags.
    pub(super) fn tags(&self) -> Result<Vec<String>> {
        let frame = || format!("listing the tags of {}", self.name());
        let mut tags: Vec<String> = Vec::new();
        self.pages("tags/list", &mut |_, page| {
            #[derive(serde::Deserialize)]
            struct Page {
                tags: Option<Vec<String>>,
            }
            let page: Page = serde_json::from_slice(page).map_err(|error| Error::invalid(error.to_string()))?;
            tags.extend(page.tags.unwrap_or_default());
            Ok(tags.len())
        })
        .context(frame)?;
        Ok(tags)
    }

    /// Reads all pages of a list.
    fn pages(&self, path: &str, take: &mut TakePage<'_>) -> Result<()> {
        let mut next = self.call(Access::Pull, Method::GET, path).to;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..PAGES {
            let mut call = self.call(Access::Pull, Method::GET, path);
            call.to = next;
            let response = self.host.call(call)?;
            if response.status != 200 {
                return Err(response.into_error());
            }
            let (link, media_type) = (following(&response)?, announced_type(&response));
            let entries = take(media_type.as_ref(), &self.host.read(response, PAGE)?)?;
            if entries > LISTED {
                return Err(Error::invalid(format!("there are more than {LISTED} entries")));
            }
            match link {
                None => return Ok(()),
                Some(link) if seen.insert(link.whole()) => next = To::Address(link),
                Some(link) => return Err(Error::invalid(format!("the list leads to {link} again and again"))),
            }
        }
        Err(Error::invalid(format!("there are more than {PAGES} pages")))
    }

    /// Reads the index of what refers to a manifest, page by page; returns whether the registry keeps such lists.
    ///
    /// One that does not know them answers 404, 405, or with something that it does not call an index.
    pub(super) fn referrers(&self, digest: &Digest, take: &mut dyn FnMut(&[u8]) -> Result<usize>) -> Result<bool> {
        let mut begun = false;
        let read = self.pages(&format!("referrers/{digest}"), &mut |media_type, page| {
            if !media_type.is_some_and(|media_type| matches!(media_type.meaning(), media_type::Meaning::Index(_))) {
                return Err(Error::unsupported("the registry answers with something else than an index"));
            }
            begun = true;
            take(page)
        });
        match read {
            Ok(()) => Ok(true),
            Err(error) if !begun && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(false),
            Err(error) => Err(error.context(format!("listing what refers to {}@{digest}", self.name()))),
        }
    }
}

/// Takes the type and the bytes of a page, and returns how many entries there are by then.
type TakePage<'a> = dyn FnMut(Option<&MediaType>, &[u8]) -> Result<usize> + 'a;

/// A blob that was opened, and the byte that its stream begins with.
pub(super) struct Opened {
    pub(super) response: Response,
    pub(super) at: u64,
}

/// What became of the wish to upload.
pub(super) enum Begun {
    /// The blob is there already: it was taken from another repository.
    Mounted,
    /// It can be sent to this address.
    Session(Url),
}

/// Returns where an upload goes on.
pub(super) fn location(response: &Response) -> Result<Url> {
    let location = response.header("location").ok_or_else(|| Error::invalid("the registry says not where to"))?;
    let next = response.url.join(location)?;
    if response.url.is_secure() && !next.is_secure() {
        return Err(Error::refused(format!("the registry leads from https to {next}")));
    }
    Ok(next)
}

fn announced_digest(response: &Response) -> Result<Option<Digest>> {
    match response.header("docker-content-digest").map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).context(|| "reading Docker-Content-Digest"),
    }
}

/// Returns the type that the registry gives a manifest; one that says nothing of manifests is none.
fn announced_type(response: &Response) -> Option<MediaType> {
    let media_type = MediaType::new(response.header("content-type")?);
    (media_type.meaning() != media_type::Meaning::Other).then_some(media_type)
}

fn is_schema1(media_type: Option<&MediaType>) -> bool {
    media_type.is_some_and(|media_type| media_type.meaning() == media_type::Meaning::Schema1)
}

/// Makes sure that a part is the one that was asked for: `bytes FROM-LAST/SIZE`.
fn check_range(text: Option<&str>, from: u64, size: u64) -> Result<()> {
    let parse = |text: &str| {
        let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let whole = if whole == "*" { size } else { whole.parse().ok()? };
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, whole))
    };
    match text.and_then(parse) {
        Some((first, last, whole)) if first == from && last.checked_add(1) == Some(size) && whole == size => Ok(()),
        _ => Err(Error::invalid(format!(
            "bytes {from}-{} of {size} were asked for, but `{}` came",
            size.saturating_sub(1),
            printable(text.unwrap_or_default().as_bytes())
        ))),
    }
}

/// Returns the next page's address from `Link: <…>; rel="next"`; it must be at the same server.
fn following(response: &Response) -> Result<Option<Url>> {
    let Some(link) = response.header("link") else { return Ok(None) };
    let Some((address, rest)) = link.trim().strip_prefix('<').and_then(|link| link.split_once('>')) else {
        return Err(Error::invalid(format!("`{}` leads nowhere", printable(link.as_bytes()))))
            .context(|| "reading Link");
    };
    if !rest.replace(['"', ' '], "").to_ascii_lowercase().contains("rel=next") {
        return Ok(None);
    }
    let next = response.url.join(address).context(|| "reading Link")?;
    if !next.same_origin(&response.url) {
        return Err(Error::refused(format!("the next page of the list is at another server: {next}")));
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_must_be_those_that_were_asked_for() {
        for (text, fine) in [
            ("bytes 10-99/100", true),
            ("bytes 10-99/*", true),
            ("bytes 0-99/100", false),
            ("bytes 10-98/100", false),
            ("bytes 10-99/101", false),
            ("bytes 10-18446744073709551614/100", false),
            ("bytes */100", false),
            ("10-99/100", false),
            ("", false),
        ] {
            assert_eq!(check_range(Some(text), 10, 100).is_ok(), fine, "{text}");
        }
        assert!(check_range(None, 10, 100).is_err());
    }
}
