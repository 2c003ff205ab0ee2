//! `skopeo copy`: changes what the destination wants changed, as skopeo does, and nothing else.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use holkas::copy::{CopyOptions, MultiArch, Rewrite};
use holkas::error::{Context, Result, printable};
use holkas::fs::staging::Staging;
use holkas::fs::{Dir, display, open_file};
use holkas::oci::{Compression, Format, Platform};
use holkas::reference::{DockerArchiveReference, ImageReference, Name};

use super::log::{Level, log, quoted};
use super::signing::signing;
use super::{Call, Failure, reference, usage};
use crate::cli::copy::LayerCompression;
use crate::commands::copy::{Request, Side, perform};

/// Copies an image.
pub(crate) fn run(call: &Call<'_>) -> Result<(), Failure> {
    let [from, to] = call.exactly("Exactly two arguments expected")?;
    call.warn_of_tls_verify();
    let given = call.given;
    let policy = call.policy()?;
    let from = reference(from).context(|| invalid("source", from))?;
    let to = reference(to).context(|| invalid("destination", to))?;
    for flag in ["dest-compress", "dest-decompress"] {
        if given.on(flag) && !matches!(to, ImageReference::Dir(_)) {
            log(Level::Warning, &format!("--{flag} can only be used if the destination transport is 'dir'"));
        }
    }
    let (multi_arch, platforms) = multi_arch(call)?;
    let unchangeable = unchangeable(call, &to);
    let options = CopyOptions {
        multi_arch,
        platforms,
        strip_removed_platforms: given.on("strip-removed-platforms"),
        ..options(call, Some(&to))?
    };
    let side = |reference, prefix: &str, alias| -> Result<Side, Failure> {
        let shared_blob_dir = given.filled(&format!("{prefix}shared-blob-dir")).map(Into::into);
        Ok(Side { reference, shared_blob_dir, registry: call.registry(prefix, alias)? })
    };
    let mut request = Request {
        source: side(from, "src-", "screds")?,
        destination: side(to, "dest-", "dcreds")?,
        additional_tags: additional_tags(call)?,
        policy,
        platform: None,
        jobs: given.int("image-parallel-copies").and_then(|n| NonZeroUsize::new(usize::try_from(n).unwrap_or(0))),
        network: call.network(),
        options,
        digestfile: given.filled("digestfile").map(Into::into),
    };
    if given.on("dry-run") {
        log(Level::Warning, "Running in dry-run mode");
        let (from, to) = (&request.source.reference, &request.destination.reference);
        log(Level::Info, &format!("Would have copied from={from} to={to}"));
        return Ok(());
    }
    if let (ImageReference::Oci(_), Some(shared)) =
        (&request.destination.reference, &request.destination.shared_blob_dir)
    {
        Dir::create_all(shared)?;
    }
    let streamed = streamed(&mut request, call)?;
    let copied = perform(&request, call.setting, &call.monitor());
    if let Err(error) = copied {
        return Err(Failure { unchangeable, ..error.into() });
    }
    match streamed {
        Some(streamed) => Ok(streamed.send()?),
        None => Ok(()),
    }
}

/// An archive that goes into a pipe or a device, such as `/dev/stdout`, when it is whole.
struct Streamed {
    to: PathBuf,
    archive: PathBuf,
    /// Holds the archive until then.
    _staging: Staging,
}

/// Puts another archive in the place of one that is no regular file and cannot be written at any place of it.
fn streamed(request: &mut Request, call: &Call<'_>) -> Result<Option<Streamed>> {
    let ImageReference::DockerArchive(DockerArchiveReference { path, .. }) = &mut request.destination.reference else {
        return Ok(None);
    };
    if std::fs::metadata(&*path).map_or(true, |there| there.is_file()) {
        return Ok(None);
    }
    let staging = Staging::create(&Dir::open(&call.setting.scratch())?)?;
    let archive = staging.dir().path_of("archive.tar");
    let to = std::mem::replace(path, archive.clone());
    Ok(Some(Streamed { to, archive, _staging: staging }))
}

impl Streamed {
    fn send(self) -> Result<()> {
        let frame = || format!("writing docker-archive:{}", display(&self.to));
        let mut archive = open_file(&self.archive)?;
        let mut to = std::fs::OpenOptions::new().write(true).open(&self.to).context(frame)?;
        std::io::copy(&mut archive, &mut to).context(frame).map(drop)
    }
}

fn invalid(which: &str, text: &OsString) -> String {
    format!("Invalid {which} name {}", text.to_string_lossy())
}

/// Returns why nothing may be changed, if so, as skopeo says it.
fn unchangeable(call: &Call<'_>, to: &ImageReference) -> Option<&'static str> {
    if call.given.on("preserve-digests") {
        return Some("Instructed to preserve digests");
    }
    match to {
        ImageReference::Docker(docker) if docker.name().digest().is_some() && docker.name().tag().is_none() => {
            Some("Destination specifies a digest")
        }
        _ => None,
    }
}

/// Returns how `copy` and `sync` copy an image, but for what is copied of a list.
///
/// Like skopeo, they change manifest and layers where the destination wants others, unless digests are preserved.
/// `to` is the destination; `sync` has many, and none that wants other layers than a registry does.
pub(crate) fn options(call: &Call<'_>, to: Option<&ImageReference>) -> Result<CopyOptions, Failure> {
    let given = call.given;
    let preserve_digests = given.on("preserve-digests");
    let typed = given.filled("format").map(|format| format.to_string_lossy().into_owned());
    let format = match typed.as_deref() {
        None => None,
        Some("oci") => Some(Format::Oci),
        // A list becomes Docker's for either.
        Some("v2s2" | "v2s1") => Some(Format::Docker),
        Some(other) => {
            let known = "Choose one of the supported formats: 'oci', 'v2s1', or 'v2s2'";
            return Err(usage(format!("unknown format {}. {known}", quoted(other))));
        }
    };
    let changeable = to.is_none_or(|to| unchangeable(call, to).is_none());
    let compression = compression(call)?;
    let level = given.int("dest-compress-level").map(|level| i32::try_from(level).unwrap_or(i32::MAX));
    let into_dir = matches!(to, Some(ImageReference::Dir(_)));
    let packs = match to {
        // Where images are sent or handed on, skopeo compresses layers; elsewhere they stay as they are.
        None | Some(ImageReference::Docker(_)) => true,
        Some(ImageReference::Oci(_) | ImageReference::OciArchive(_)) => {
            !given.on("dest-oci-accept-uncompressed-layers")
        }
        Some(ImageReference::Dir(_)) => given.on("dest-compress"),
        Some(ImageReference::DockerArchive(_) | ImageReference::Storage(_)) => false,
    };
    let packs = packs && changeable;
    let compression = compression.filter(|_| packs);
    let compress = compression.map(|format| (format.compression, level));
    let plain = (packs && compress.is_none()).then_some((Compression::Gzip, level));
    Ok(CopyOptions {
        // Docker's format has no zstd.
        format: format
            .filter(|_| changeable || preserve_digests)
            .or(compress.filter(|(to, _)| *to == Compression::Zstd).map(|_| Format::Oci)),
        schema1: typed.as_deref() == Some("v2s1") && (changeable || preserve_digests),
        yields: true,
        signing: signing(call)?,
        preserve_digests,
        remove_signatures: given.on("remove-signatures"),
        compress,
        chunked: compression.is_some_and(|format| format.chunked),
        compress_plain: plain,
        decompress: given.on("dest-decompress") && into_dir && changeable,
        allow_changes: changeable,
        rewrite: Rewrite::Skopeo,
        ..CopyOptions::default()
    })
}

fn compression(call: &Call<'_>) -> Result<Option<LayerCompression>, Failure> {
    let Some(name) = call.given.filled("dest-compress-format") else { return Ok(None) };
    let name = name.to_string_lossy();
    let known = LayerCompression::named(&name);
    known.map(Some).ok_or_else(|| usage(format!("cannot find compressor for {}", quoted(&name))))
}

/// Returns what is wanted of a list, and the platforms if it is some.
fn multi_arch(call: &Call<'_>) -> Result<(MultiArch, Vec<Platform>), Failure> {
    let given = call.given;
    let typed = given.text("multi-arch");
    match typed.as_deref() {
        Some(_) if given.on("all") => Err(usage("Cannot use --all and --multi-arch flags together")),
        None if given.on("all") => Ok((MultiArch::All, Vec::new())),
        None | Some("system") => Ok((MultiArch::System, Vec::new())),
        Some("all") => Ok((MultiArch::All, Vec::new())),
        Some("index-only") => Ok((MultiArch::IndexOnly, Vec::new())),
        Some(platforms) if platforms.contains('/') => {
            let parsed: Result<Vec<Platform>> = platforms.split(',').map(|platform| platform.trim().parse()).collect();
            let platforms = printable(platforms.as_bytes());
            let parsed = parsed.context(|| format!("invalid platform format in --multi-arch {platforms}"))?;
            Ok((MultiArch::Platforms, parsed))
        }
        Some(other) => {
            let known = "Choose one of the supported options: 'system', 'all', or 'index-only'";
            Err(usage(format!("unknown multi-arch option {}. {known}", quoted(other))))
        }
    }
}

fn additional_tags(call: &Call<'_>) -> Result<Vec<Name>, Failure> {
    let one = |text: &String| {
        let frame = || format!("error parsing additional-tag '{}'", printable(text.as_bytes()));
        let name = Name::parse_normalised(text).context(frame)?;
        match name.tag() {
            Some(_) => Ok(name),
            None => {
                let text = printable(text.as_bytes());
                Err(usage(format!("additional-tag '{text}' must be a tagged reference")))
            }
        }
    };
    call.given.texts("additional-tag").iter().map(one).collect()
}
