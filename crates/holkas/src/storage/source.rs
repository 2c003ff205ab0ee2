//! The room `containers-storage:` as a source.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::location::Location;
use super::names::{MANIFEST, SIGNATURES, signature_key};
use super::reassemble::Reassembled;
use super::records::{ImageRecord, LayerRecord};
use super::store::{Found, Store, find, layers_of};
use crate::error::{Context, Error, Result};
use crate::fs::Dir;
use crate::image::{ImageSource, Layer, LayerBlob, PolicyIdentity};
use crate::limits::{Limit, MANIFEST as MANIFEST_LIMIT, SIGNATURE, SIGNATURES as SIGNATURE_COUNT};
use crate::oci::{Algorithm, Descriptor, Digest, Document, Platform};
use crate::reference::{Driver, StoredImage};
use crate::signature::UntrustedSignature;
use crate::verify::{UntrustedBlob, VerifiedBytes};

/// An image in a store.
#[derive(Debug)]
pub struct StorageSource {
    name: String,
    identity: PolicyIdentity,
    stores: Vec<Store>,
    /// The index of the image's store, and the image in it.
    at: (usize, ImageRecord),
    /// The digest in the reference.
    asked: Option<Digest>,
}

/// What c/storage keeps in an image's `metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "signature-sizes")]
    manifest: Option<Vec<u64>>,
    #[serde(rename = "signatures-sizes")]
    by_digest: Option<BTreeMap<Digest, Option<Vec<u64>>>>,
}

impl StorageSource {
    /// Finds an image; `platform` decides between several images of one list.
    ///
    /// The records are read under shared locks, which are then given up: like other readers,
    /// it fails if somebody deletes the image meanwhile, but never reads anything wrong.
    pub fn open(location: &Location, image: &StoredImage, platform: &Platform) -> Result<Self> {
        let (name, identity) = (name_of(location, image), identity_of(location, image));
        let stores = Store::open_all(location)?;
        let text = name.strip_prefix("containers-storage:").unwrap_or(&name);
        let found = find(&stores, image, platform, text)?;
        let position = stores.iter().position(|store| std::ptr::eq(store, found.store)).unwrap_or(0);
        let at = (position, found.image.clone());
        let asked = image.name.as_ref().and_then(|name| name.digest().copied());
        Ok(Self { name, identity, asked, at, stores })
    }

    /// Returns the image's record.
    pub fn record(&self) -> &ImageRecord {
        &self.at.1
    }

    fn found(&self) -> Found<'_> {
        Found { store: &self.stores[self.at.0], image: &self.at.1 }
    }

    fn item(&self, key: &str) -> Result<UntrustedBlob> {
        let found = self.found();
        let item = found.store.open_item(&found.image.id, key)?;
        item.ok_or_else(|| Error::not_found(format!("image {} has no item `{key}` in the store", found.image.id)))
    }

    /// Finds a layer of the image: by its place, as the image's manifest has one layer for each of the store,
    /// but by its diff ID in stores whose images have empty layers of their own.
    fn layer(&self, wanted: &Layer) -> Result<(usize, Vec<(&Store, &LayerRecord)>)> {
        let layers = layers_of(&self.stores, &self.at.1)?;
        let diff_id = wanted.diff_id.as_ref().map(|diff_id| diff_id.0);
        let fits =
            |n: &usize| layers.get(*n).is_some_and(|(_, layer)| diff_id.is_some() && layer.diff_digest == diff_id);
        let position = Some(wanted.position).filter(fits).or_else(|| (0..layers.len()).find(fits));
        let position = position.ok_or_else(|| {
            Error::mismatch(format!("the image in the store has no layer {}", wanted.descriptor.digest))
        })?;
        Ok((position, layers))
    }

    fn restore(&self, wanted: &Layer) -> Result<LayerBlob> {
        let (position, layers) = self.layer(wanted)?;
        let (store, record) = layers[position];
        let path = format!("{}-layers/{}.tar-split.gz", store.driver, record.id);
        let Some(tar_split) = store.root.open_file_itself(path)? else {
            return Err(Error::mismatch(
                "the store has no tar-split for it, without which its bytes cannot be had again",
            )
            .hint("delete the image and fetch it again"));
        };
        // A file that only had its attributes changed may have its contents in a layer below (overlay's metacopy).
        let of = match store.driver {
            Driver::Overlay => &layers[..=position],
            Driver::Vfs => &layers[position..=position],
        };
        let dirs = of.iter().rev().map(|(store, layer)| store.layer_dir(&layer.id)).collect::<Result<Vec<Dir>>>()?;
        let blob = UntrustedBlob::new(Reassembled::new(tar_split, dirs));
        let same = record.diff_digest == Some(wanted.descriptor.digest)
            && record.compressed_diff_digest.is_none_or(|digest| digest == wanted.descriptor.digest);
        match same {
            true => Ok(LayerBlob::AsDescribed(blob)),
            // 0 is what a record without a size has; -1 says that it is not known.
            false => Ok(LayerBlob::Uncompressed(blob, u64::try_from(record.diff_size).ok().filter(|size| *size > 0))),
        }
    }
}

impl ImageSource for StorageSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        let found = self.found();
        if let Some(digest) = &self.asked {
            let bytes = found.manifest(digest)?;
            return bytes.ok_or_else(|| Error::not_found(format!("the image in the store has no manifest {digest}")));
        }
        let frame = || format!("reading the manifest of image {}", found.image.id);
        let blob = self.item(MANIFEST).context(frame)?;
        match found.image.big_data_digests.get(MANIFEST) {
            Some(digest) => blob.read_matching(digest, None, MANIFEST_LIMIT).context(frame),
            None => blob.identify(Algorithm::Sha256, None, MANIFEST_LIMIT).context(frame),
        }
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        let digest = &descriptor.digest;
        match self.found().manifest(digest)? {
            Some(bytes) => Ok(UntrustedBlob::from_bytes(bytes.bytes().to_vec())),
            None => Err(Error::not_found(format!("the image in the store has no manifest {digest}"))
                .hint("a store keeps one image of a list, not all; copy that one (--multi-arch system)")),
        }
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.item(&descriptor.digest.to_string())
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        self.restore(layer).context(|| format!("opening layer {} of {}", layer.descriptor.digest, self.name))
    }

    fn signatures(&self, manifest: &Digest) -> Result<Vec<UntrustedSignature>> {
        let image = &self.at.1;
        let frame = || format!("reading signatures of image {}", image.id);
        if image.metadata.is_empty() {
            return Ok(Vec::new());
        }
        let metadata: Metadata = serde_json::from_str(&image.metadata)
            .map_err(|error| Error::invalid(format!("the record's metadata is not valid JSON: {error}")))
            .context(frame)?;
        let own = metadata.by_digest.unwrap_or_default().remove(manifest).flatten();
        let (key, sizes) = match own {
            Some(sizes) => (signature_key(manifest), sizes),
            None if image.big_data_digests.get(MANIFEST) == Some(manifest) => {
                (SIGNATURES.to_owned(), metadata.manifest.unwrap_or_default())
            }
            None => return Ok(Vec::new()),
        };
        if sizes.is_empty() {
            return Ok(Vec::new());
        }
        split(self.item(&key).context(frame)?, &sizes).context(frame)
    }

    fn indexes(&self, manifest: &Digest) -> Result<Vec<VerifiedBytes>> {
        let mut indexes = Vec::new();
        for digest in self.at.1.digests() {
            if digest == *manifest || self.asked == Some(digest) {
                continue;
            }
            let Some(bytes) = self.found().manifest(&digest)? else { continue };
            if let Document::Index(_) = Document::parse(bytes.clone())? {
                indexes.push(bytes);
            }
        }
        Ok(indexes)
    }

    fn keeps_blobs(&self) -> bool {
        false
    }
}

/// Cuts an item into its signatures.
fn split(item: UntrustedBlob, sizes: &[u64]) -> Result<Vec<UntrustedSignature>> {
    if sizes.len() > SIGNATURE_COUNT {
        return Err(Error::invalid(format!("{} signatures, more than {SIGNATURE_COUNT}", sizes.len())));
    }
    for size in sizes {
        SIGNATURE.check(*size)?;
    }
    let limit = Limit { bytes: SIGNATURE.bytes * SIGNATURE_COUNT as u64, what: "signatures" };
    let item = item.identify(Algorithm::Sha256, None, limit)?;
    let mut rest = item.bytes();
    let mut signatures = Vec::with_capacity(sizes.len());
    for size in sizes {
        let cut = usize::try_from(*size).ok().and_then(|size| rest.split_at_checked(size));
        let (signature, after) = cut.ok_or_else(|| Error::mismatch("they are shorter than the record says"))?;
        signatures.push(UntrustedSignature(signature.to_vec()));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Error::mismatch(format!("they are {} bytes longer than the record says", rest.len())));
    }
    Ok(signatures)
}

fn image_of(image: &StoredImage) -> String {
    let name = image.name.as_ref().map(ToString::to_string).unwrap_or_default();
    match &image.id {
        Some(id) => format!("{name}@{id}"),
        None => name,
    }
}

/// Returns the reference as the user would write it.
pub(super) fn name_of(location: &Location, image: &StoredImage) -> String {
    format!("containers-storage:{}{}", location.specification(), image_of(image))
}

/// Returns the scopes that containers/image looks for in a policy.
fn identity_of(location: &Location, image: &StoredImage) -> PolicyIdentity {
    let store = location.specification();
    let mut scopes = vec![format!("{store}{}", image_of(image))];
    if let Some(name) = &image.name {
        if image.id.is_some() {
            scopes.push(format!("{store}{name}"));
        }
        if name.tag().is_some() && name.digest().is_some() {
            scopes.push(format!("{store}{}", name.clone().without_digest()));
        }
        let mut part = Some(name.repository());
        while let Some(path) = part {
            scopes.push(format!("{store}{path}"));
            part = path.rsplit_once('/').map(|(parent, _)| parent);
        }
    }
    scopes.push(store);
    scopes.push(format!("[{}]", crate::fs::display(&location.graph_root)));
    PolicyIdentity { transport: "containers-storage", scopes, docker_reference: image.name.clone() }
}
