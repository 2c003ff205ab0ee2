//! `holkas resolve NAME…`

use std::ffi::OsStr;

use holkas::Result;
use holkas::error::{Context, Error};
use holkas::oci::Platform;
use holkas::open::{Rooms, open_source};
use holkas::reference::{DockerReference, ImageReference, Name};
use holkas::resolve::{Resolved, Wanted, fragment, resolve, specs};
use serde_json::Map;

use super::{Setting, registries};
use crate::cli::registry::Registry;
use crate::cli::{self, Progress};
use crate::{output, progress};

/// Resolves all names for all platforms, and prints what pins them.
pub(crate) fn run(arguments: &cli::resolve::Resolve, setting: &Setting<'_>) -> Result<()> {
    let sources = arguments.names.iter().map(|name| reference(name)).collect::<Result<Vec<_>>>()?;
    if arguments.name.is_some() && sources.len() > 1 {
        return Err(Error::invalid("--name is for one image, and several are to be resolved"));
    }
    let platforms = platforms(arguments);
    let monitor = progress::monitor(Progress::Plain);
    let typed = Registry::from(&arguments.registry);
    let rooms = Rooms {
        registries: registries::client_for(&sources, &typed, &arguments.network, setting, &monitor)?,
        ..setting.rooms(None)?
    };
    let resolve_for = |platform: Option<&Platform>| {
        let wanted: Vec<_> = sources.iter().map(|source| wanted(source, arguments.name.as_ref(), platform)).collect();
        resolve(&wanted, &rooms.platform, &|source| open_source(source, &rooms), setting.cancel)
    };
    let tls_verify = typed.tls_verify;
    if !arguments.osbuild {
        let all: Result<Vec<Vec<Resolved>>> = match platforms.as_slice() {
            [] => Ok(vec![resolve_for(None)?]),
            several => several.iter().map(|platform| resolve_for(Some(platform))).collect(),
        };
        return output::json(&specs(&all?.concat(), tls_verify));
    }
    match platforms.as_slice() {
        [] => output::json(&fragment(&resolve_for(None)?, tls_verify)?),
        [one] => output::json(&fragment(&resolve_for(Some(one))?, tls_verify)?),
        // A manifest is for one platform, so that each has parts of its own.
        several => {
            let mut by_platform = Map::new();
            for platform in several {
                let parts = resolve_for(Some(platform)).and_then(|resolved| fragment(&resolved, tls_verify));
                by_platform.insert(platform.to_string(), parts.context(|| format!("resolving for {platform}"))?);
            }
            output::json(&by_platform)
        }
    }
}

fn wanted(source: &ImageReference, name: Option<&String>, platform: Option<&Platform>) -> Wanted {
    Wanted { source: source.clone(), local_name: name.cloned(), platform: platform.cloned() }
}

/// Reads a name: a reference to a registry or a store, or what is in a registry without a word of it.
fn reference(text: &str) -> Result<ImageReference> {
    let transport = text.split_once(':').map(|(transport, _)| transport);
    let named = ["docker", "containers-storage", "dir", "oci", "oci-archive", "docker-archive"];
    // `dir:5000/x` is a registry of that name to nobody.
    if transport.is_some_and(|transport| named.contains(&transport)) {
        return ImageReference::parse(OsStr::new(text));
    }
    Ok(ImageReference::Docker(DockerReference::named(Name::parse_normalised(text)?)?))
}

/// Returns the platforms that were typed, in either way.
fn platforms(arguments: &cli::resolve::Resolve) -> Vec<Platform> {
    let of = |arch: &String| {
        let (architecture, variant) = match arch.as_str() {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhfp" | "armv7hl" => ("arm", Some("v7")),
            "i686" => ("386", None),
            other => (other, None),
        };
        let (os, variant) = ("linux".to_string(), variant.map(str::to_string));
        Platform { os, architecture: architecture.to_string(), variant }
    };
    match arguments.arch.is_empty() {
        true => arguments.platform.clone(),
        false => arguments.arch.iter().map(of).collect(),
    }
}
