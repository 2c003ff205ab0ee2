//! skopeo's words for our errors: its callers look for them, in what stderr says and in the exit code.

use holkas::{Error, ErrorKind};

use super::log::quoted;
use crate::report::{CANCELLED, FAILED, NOT_FOUND};

/// Why a copy may change nothing, if it may not: skopeo says it.
pub(crate) type Unchangeable = Option<&'static str>;

/// Returns skopeo's exit code for an error.
///
/// 2 is for an image that is not there: not for a directory, a file, a position or a platform that is not there.
pub(crate) fn code(error: &Error) -> u8 {
    const MISSING: [&str; 4] =
        ["manifest unknown", "name unknown", "does not resolve to an image ID", "the layout has no image named"];
    match error.kind() {
        ErrorKind::NotFound if error.chain().any(|line| MISSING.iter().any(|words| line.contains(words))) => NOT_FOUND,
        ErrorKind::Cancelled => CANCELLED,
        _ => FAILED,
    }
}

/// Returns an error as one line, in skopeo's words where it has its own.
pub(crate) fn text(error: &Error, unchangeable: Unchangeable) -> String {
    let lines: Vec<&str> = error.chain().collect();
    let of_platform = lines.iter().any(|line| platform(line).is_some());
    let told_elsewhere = |line: &str| {
        line.starts_with("copying ") && line.contains(" to ") && !line.starts_with("copying layer ")
            || of_platform && line.starts_with("choosing an image of ")
    };
    let told = lines.iter().filter(|line| !told_elsewhere(line)).enumerate();
    told.map(|(n, line)| words(line, n == 0, unchangeable)).collect::<Vec<_>>().join(": ")
}

/// Returns whether the error is that a list has no image for the platform.
pub(crate) fn is_of_platform(error: &Error) -> bool {
    error.chain().any(|line| platform(line).is_some())
}

fn platform(line: &str) -> Option<&str> {
    line.strip_prefix("no image for platform ")?.strip_suffix(" in the manifest list")
}

/// `first` says whether the line is the outermost one.
fn words(line: &str, first: bool, unchangeable: Unchangeable) -> String {
    if let Some(platform) = platform(line) {
        let mut parts = platform.split('/').map(quoted);
        let mut part = || parts.next().unwrap_or_else(|| quoted(""));
        let (os, architecture, variant) = (part(), part(), part());
        return format!(
            "choosing image instance: no image found in manifest list for architecture {architecture}, \
             variant {variant}, OS {os}"
        );
    }
    let cannot = unchangeable.map(|why| format!("we cannot modify it: {}", quoted(why)));
    let cannot = cannot.unwrap_or_else(|| "we cannot modify it".to_string());
    if let Some(why) = line.strip_prefix("the image would have to change: ") {
        return format!(
            "Copying this image would require changing layer representation or format, but {cannot} ({why})"
        );
    }
    if let Some(why) = line.strip_prefix("the list would have to change: ") {
        return format!("Manifest list must be converted to be written to destination, but {cannot} ({why})");
    }
    if let Some((_, why)) = line.strip_prefix("a change would invalidate the ").and_then(|rest| rest.split_once(": ")) {
        return format!("Manifest must be converted, but we cannot modify it: \"Would invalidate signatures\" ({why})");
    }
    if let Some(place) = line.strip_suffix(" cannot hold a manifest list with its images as a group") {
        let transport = quoted(place.split(':').next().unwrap_or_default());
        return format!(
            "copying multiple images: destination transport {transport} does not support copying multiple images \
             as a group"
        );
    }
    if let Some(transport) = line.strip_prefix("images cannot be deleted from ").and_then(|t| t.strip_suffix(": rooms"))
    {
        return format!("Deleting images not implemented for {transport}: images");
    }
    if let Some(place) = line.strip_suffix(" cannot hold the image's signatures") {
        return format!("Can not copy signatures to {place}: it has no place for them");
    }
    if let Some(digest) = line.strip_prefix("the image in the store has no manifest ") {
        return format!("reading manifest for image instance {}: the item does not exist", quoted(digest));
    }
    if let Some(name) = within_ticks(line, "the layout has no image named ") {
        return format!("no descriptor found for reference {}", quoted(name));
    }
    if line.starts_with("the layout holds ") && line.ends_with("; name one") {
        return "more than one image in oci, choose an image".to_string();
    }
    if let Some(tag) = line.strip_prefix("the archive has no image with the tag ") {
        return format!("Tag {} not found", quoted(tag));
    }
    if let Some(name) = within_ticks(line, "reading image reference ") {
        return format!("Invalid image name {}", quoted(name));
    }
    if let Some(path) = line.strip_prefix('`').and_then(|line| line.strip_suffix("` does not exist")) {
        return format!("open {path}: no such file or directory");
    }
    if let Some(destination) = line.strip_prefix("preparing ") {
        return format!("initializing destination {destination}");
    }
    if let Some(source) = line.strip_prefix("reading manifest of ").filter(|_| first) {
        return format!("initializing source {source}");
    }
    if let Some(repository) = line.strip_prefix("listing the tags of ").filter(|name| !name.contains("archive:")) {
        return format!("Error determining repository tags for repo {repository}: fetching tags list");
    }
    if line.contains("failed to lookup address information") {
        return format!("no such host ({line})");
    }
    if let Some(image) = line.strip_prefix("syncing ") {
        return format!("Error copying ref {}", quoted(image));
    }
    if let Some(rest) = ["a signature was required", "none of the signatures were accepted", "signature for "]
        .into_iter()
        .find(|start| line.starts_with(start))
        .and(line.get(1..))
    {
        return format!("{}{rest}", line[..1].to_uppercase());
    }
    if line.starts_with("source image rejected: checking ") {
        return "Source image rejected".to_string();
    }
    if let Some((image, place)) =
        line.strip_prefix("running image ").and_then(|l| l.split_once(" is rejected by policy"))
    {
        return format!("Running image {image} is rejected by policy.{place}");
    }
    if let Some(said) = line.strip_suffix(" (HTTP 404)") {
        // Former versions say the code and then the message, which is the same.
        return if said == "manifest unknown" {
            "manifest unknown: manifest unknown".to_string()
        } else {
            said.to_string()
        };
    }
    let exactly = match line {
        "loading trust policy" => "Error loading trust policy",
        "No such file or directory (os error 2)"
        | "no such directory"
        | "no such file"
        | "the directory has no `manifest.json`" => "no such file or directory",
        "the server does not speak TLS" => "http: server gave HTTP response to HTTPS client",
        "the server's certificate is not trusted: its issuer is unknown"
        | "the server's certificate is not trusted: it is an authority's, and not trusted itself" => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        }
        "the server's certificate is not trusted: it has expired"
        | "the server's certificate is not trusted: it is not valid yet" => {
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
        }
        "the server's certificate is not trusted: it is for another name" => {
            "tls: failed to verify certificate: x509: certificate is not valid for this name"
        }
        "Permission denied (os error 13)" => "permission denied",
        line if line.starts_with("the command took longer than --command-timeout") => "context deadline exceeded",
        line => line,
    };
    exactly.to_string()
}

/// Returns what stands between backticks after `prefix`, to the end of the line.
fn within_ticks<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.strip_prefix(prefix)?.strip_prefix('`')?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_find_the_words_that_they_look_for() {
        for (error, code_, text_) in [
            (Error::not_found("manifest unknown (HTTP 404)"), 2, "manifest unknown: manifest unknown"),
            (Error::not_found("not found (HTTP 404)"), 1, "not found"),
            (
                Error::not_found("no such directory").context("opening dir:/x"),
                1,
                "opening dir:/x: no such file or directory",
            ),
            (Error::not_found("the layout has no image named `a`"), 2, "no descriptor found for reference \"a\""),
            (Error::not_found("the layout holds 2 images; name one"), 1, "more than one image in oci, choose an image"),
            (
                Error::not_found("no image for platform linux/arm64/v8 in the manifest list")
                    .context("choosing an image of dir:/x"),
                1,
                "choosing image instance: no image found in manifest list for architecture \"arm64\", variant \"v8\", \
                 OS \"linux\"",
            ),
            (
                Error::refused("running image dir:/x is rejected by policy (`default` in `/p`)")
                    .context("source image rejected: checking dir:/x"),
                1,
                "Source image rejected: Running image dir:/x is rejected by policy. (`default` in `/p`)",
            ),
            (Error::cancelled(), 130, "cancelled"),
        ] {
            assert_eq!((code(&error), text(&error, None).as_str()), (code_, text_));
        }
        let error = Error::refused("the list would have to change: x");
        assert!(text(&error, Some("Instructed to preserve digests")).contains("\"Instructed to preserve digests\""));
    }
}
