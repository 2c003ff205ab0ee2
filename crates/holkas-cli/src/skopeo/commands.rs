//! The commands of skopeo and their flags: one table for parsing, for the help, and of what is not supported.

use std::borrow::Cow;

use super::flags::{Flag, Kind};

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What follows the name in the usage line.
    pub(crate) arguments: &'static str,
    pub(crate) about: &'static str,
    pub(crate) hidden: bool,
    /// What it would be for, if holkas cannot do it.
    pub(crate) lacking: Option<&'static str>,
    pub(crate) flags: fn() -> Vec<Flag>,
}

const SEQUOIA: &str = "it signs by keys of GnuPG and sigstore, with --sign-by and --sign-by-sigstore-private-key";
const ENCRYPTION: &str = "layers are neither encrypted nor decrypted";
const DAEMON: &str = "the transport docker-daemon is not there";

/// All commands, in the order of the help.
pub(crate) const COMMANDS: [Command; 16] = [
    Command {
        name: "completion",
        arguments: "SHELL",
        about: "Print the completion script for a shell",
        hidden: true,
        lacking: Some("`holkas completion` prints holkas's own"),
        flags: Vec::new,
    },
    Command {
        name: "copy",
        arguments: "[command options] SOURCE-IMAGE DESTINATION-IMAGE",
        about: "Copy an image from one place to another",
        hidden: false,
        lacking: None,
        flags: copy,
    },
    Command {
        name: "delete",
        arguments: "[command options] IMAGE-NAME",
        about: "Delete an image",
        hidden: false,
        lacking: None,
        flags: || [image(""), blobs(""), retry()].concat(),
    },
    Command {
        name: "experimental-image-proxy",
        arguments: "[command options]",
        about: "Serve images to another program over a socket",
        hidden: true,
        lacking: None,
        flags: proxy,
    },
    Command {
        name: "generate-sigstore-key",
        arguments: "[command options] --output-prefix PREFIX",
        about: "Make a pair of keys for sigstore signatures",
        hidden: false,
        lacking: None,
        flags: || {
            vec![
                text("output-prefix", "PREFIX", "Write the keys into PREFIX.pub and PREFIX.private"),
                text("passphrase-file", "PATH", "The file with the private key's passphrase"),
            ]
        },
    },
    Command {
        name: "inspect",
        arguments: "[command options] IMAGE-NAME",
        about: "Show what an image is",
        hidden: false,
        lacking: None,
        flags: inspect,
    },
    Command {
        name: "layers",
        arguments: "[command options] IMAGE-NAME [LAYER...]",
        about: "Fetch the layers of an image",
        hidden: true,
        lacking: Some("copy to dir: instead"),
        flags: || [image(""), blobs(""), retry()].concat(),
    },
    Command {
        name: "list-tags",
        arguments: "[command options] SOURCE-IMAGE",
        about: "List the tags of a repository or of a docker-archive",
        hidden: false,
        lacking: None,
        flags: || [image(""), retry()].concat(),
    },
    Command {
        name: "login",
        arguments: "[command options] REGISTRY",
        about: "Log in to a registry",
        hidden: false,
        lacking: None,
        flags: login,
    },
    Command {
        name: "logout",
        arguments: "[command options] REGISTRY",
        about: "Log out of a registry",
        hidden: false,
        lacking: None,
        flags: || [keeping(), vec![short('a', on("all", "Forget the credentials for all registries"))]].concat(),
    },
    Command {
        name: "manifest-digest",
        arguments: "MANIFEST-FILE",
        about: "Print the digest that a manifest is known by",
        hidden: false,
        lacking: None,
        flags: Vec::new,
    },
    Command {
        name: "standalone-sign",
        arguments: "[command options] MANIFEST DOCKER-REFERENCE KEY-FINGERPRINT --output|-o SIGNATURE",
        about: "Sign a manifest in a file",
        hidden: false,
        lacking: None,
        flags: || {
            vec![
                short('o', text("output", "SIGNATURE", "Write the signature into this file")),
                text("passphrase-file", "PATH", "The file with the key's passphrase"),
            ]
        },
    },
    Command {
        name: "standalone-verify",
        arguments: "MANIFEST DOCKER-REFERENCE KEY-FINGERPRINTS SIGNATURE",
        about: "Verify the signature of a manifest in a file",
        hidden: false,
        lacking: None,
        flags: || vec![text("public-key-file", "FILE", "Take the public keys from this file, not from GnuPG")],
    },
    Command {
        name: "sync",
        arguments: "[command options] --src TRANSPORT --dest TRANSPORT SOURCE DESTINATION",
        about: "Copy many images, those that are not at the destination yet",
        hidden: false,
        lacking: None,
        flags: sync,
    },
    Command {
        name: "untrusted-signature-dump-without-verification",
        arguments: "SIGNATURE",
        about: "Show what a signature says, without verifying it",
        hidden: true,
        lacking: None,
        flags: Vec::new,
    },
    Command {
        name: "help",
        arguments: "[command]",
        about: "Show the help of a command",
        hidden: false,
        lacking: None,
        flags: Vec::new,
    },
];

/// The flags that may stand before or after the command.
pub(crate) fn global() -> Vec<Flag> {
    vec![
        duration("command-timeout", "End the command with an error after so long"),
        on("debug", "Tell more on stderr"),
        on("insecure-policy", "Accept every image, signed or not; no policy file is read"),
        text("override-arch", "ARCH", "Choose images for this architecture (Go's name) instead of the host's"),
        text("override-os", "OS", "Choose images for this operating system instead of the host's"),
        text("override-variant", "VARIANT", "Choose images for this variant of the architecture"),
        text("policy", "string", "Read the signature policy from this file, and from no other"),
        hidden(text("registries-conf", "string", "Read registries.conf from this file, and from no other")),
        text("registries.d", "DIR", "Read where signatures of images in registries are from this directory"),
        on("require-signed", "Refuse every image for which the policy demands no signature"),
        lacking("the parameters of TLS cannot be chosen", text("tls-details", "FILE", "Parameters of TLS connections")),
        text("tmpdir", "string", "Directory for large temporary files"),
        text("user-agent-prefix", "string", "Call ourselves so before registries, ahead of our own name"),
    ]
}

/// The flags that may stand only before the command.
pub(crate) fn root() -> Vec<Flag> {
    vec![
        short('v', on("version", "Print the version")),
        hidden(on("tls-verify", "Whether registries must prove who they are; false also allows http")),
    ]
}

/// `--help`, which every command has.
pub(crate) fn help(command: &str) -> Flag {
    let usage = match command {
        "skopeo" => "Show this help",
        _ => "Show the help of this command",
    };
    short('h', on("help", usage))
}

fn copy() -> Vec<Flag> {
    let own = vec![
        flag("additional-tag", Kind::Texts, "strings", "One more name for the image (docker-archive: destinations)"),
        short('a', on("all", "Copy all images of a manifest list; the same as --multi-arch=all")),
        text("digestfile", "string", "Write the digest of the manifest that was written into this file"),
        on("dry-run", "Tell what would be copied, and copy nothing"),
        int("image-parallel-copies", "How many layers are copied at once"),
        text("multi-arch", "string", "What to copy of a manifest list: system, all, index-only, or platforms"),
        short('q', on("quiet", "Tell no progress")),
        on("strip-removed-platforms", "Leave platforms that are not copied out of the list"),
        lacking(ENCRYPTION, flag("decryption-key", Kind::Texts, "strings", "Keys to decrypt layers with")),
        lacking(ENCRYPTION, flag("encrypt-layer", Kind::Texts, "ints", "Layers to encrypt")),
        lacking(ENCRYPTION, flag("encryption-key", Kind::Texts, "strings", "Keys to encrypt layers with")),
        text("sign-identity", "string", "Sign for this name, not for what the destination calls the image"),
    ];
    let destination = vec![
        on("dest-compress", "Compress layers (dir: destinations)"),
        text(
            "dest-compress-format",
            "FORMAT",
            "The compression of layers at the destination: gzip, zstd or zstd:chunked",
        ),
        int("dest-compress-level", "The level of that compression"),
        on("dest-decompress", "Decompress layers (dir: destinations)"),
        on("dest-force-compress-format", "Compress all layers by --dest-compress-format; they always are"),
        on("dest-oci-accept-uncompressed-layers", "Leave layers uncompressed that are (oci: destinations)"),
        on("dest-precompute-digests", "Know a layer's digest before it is uploaded; it always is"),
    ];
    [own, destination, shared_copy(), sides(), blobs("src-"), blobs("dest-"), retry(), ancient()].concat()
}

fn sync() -> Vec<Flag> {
    let own = vec![
        short('a', on("all", "Copy all images of manifest lists")),
        text("append-suffix", "string", "Add this to the tags at the destination"),
        short('d', text("dest", "string", "What DESTINATION is: docker or dir")),
        text("digestfile", "string", "Write a line with digest and reference into this file for each image"),
        on("dry-run", "Tell what would be copied, and copy nothing"),
        on("keep-going", "Go on with the other images when one fails"),
        on("scoped", "Name the images by their whole names, host and path included"),
        short('s', text("src", "string", "What SOURCE is: docker, dir or yaml")),
    ];
    [own, shared_copy(), sides(), retry(), ancient()].concat()
}

fn inspect() -> Vec<Flag> {
    let own = vec![
        on("config", "Print the image's config instead"),
        short('f', text("format", "string", "Print through a Go template, such as '{{.Digest}}'")),
        lacking(
            "the digest is that of the algorithm by which the image is known",
            text("manifest-digest", "ALGORITHM", "Algorithm of the digest that is shown"),
        ),
        short('n', on("no-tags", "Do not ask a registry for the tags of the repository")),
        on("raw", "Print the manifest (with --config: the config) byte for byte"),
    ];
    [own, image(""), blobs(""), retry()].concat()
}

fn proxy() -> Vec<Flag> {
    let own = vec![
        int("sockfd", "The socket, as a file descriptor"),
        hidden(flag("decryption-key", Kind::Texts, "strings", "Accepted: layers come as they are, encrypted or not")),
    ];
    [own, image(""), blobs("")].concat()
}

fn login() -> Vec<Flag> {
    let own = vec![
        text("cert-dir", "string", "Take certificates from this directory"),
        on("get-login", "Print the user that is logged in, and do nothing else"),
        short('p', text("password", "string", "The password")),
        on("password-stdin", "Read the password from standard input"),
        lacking("secrets of podman are not read", text("secret", "string", "Name of a secret with the password")),
        short('u', text("username", "string", "The user")),
        short('v', on("verbose", "Print where the credentials are kept")),
    ];
    [keeping(), own].concat()
}

fn keeping() -> Vec<Flag> {
    vec![
        text("authfile", "string", "Read and change this file, and no other"),
        text(
            "compat-auth-file",
            "string",
            "Read and change this file, and no other, in the way of docker's config.json",
        ),
        on("tls-verify", "Whether the registry must have a valid certificate"),
    ]
}

/// The flags that `copy` and `sync` share.
fn shared_copy() -> Vec<Flag> {
    vec![
        short('f', text("format", "string", "The format of the manifest at the destination: oci, v2s2 or v2s1")),
        on("preserve-digests", "Fail rather than change a digest"),
        lacking("signatures are left behind by --remove-signatures", on("remove-list-signatures", "")),
        on("remove-signatures", "Leave signatures behind"),
        text("sign-by", "FINGERPRINT", "Sign by this key of GnuPG"),
        text("sign-by-sigstore", "PATH", "Sign with the sigstore key that this file of parameters names"),
        text("sign-by-sigstore-private-key", "PATH", "Sign with this sigstore key"),
        lacking(SEQUOIA, text("sign-by-sq-fingerprint", "FINGERPRINT", "Sign by a Sequoia key")),
        text("sign-passphrase-file", "PATH", "The file with the key's passphrase"),
    ]
}

/// The flags of commands that speak to two registries.
fn sides() -> Vec<Flag> {
    let alias = |name| hidden(text(name, "USERNAME[:PASSWORD]", ""));
    [image("src-"), image("dest-"), vec![authfile("authfile".into()), alias("screds"), alias("dcreds")]].concat()
}

/// The flag of former versions for both sides.
fn ancient() -> Vec<Flag> {
    vec![hidden(on("tls-verify", ""))]
}

/// The flags of a registry.
fn image(prefix: &'static str) -> Vec<Flag> {
    let named = |name: &str| Cow::Owned(format!("{prefix}{name}"));
    vec![
        authfile(named("authfile")),
        flag(named("cert-dir"), Kind::Text, "PATH", "Read certificates from this directory, and from no other"),
        flag(named("creds"), Kind::Text, "USERNAME[:PASSWORD]", "Log in as this user"),
        flag(named("no-creds"), Kind::Bool, "", "Do not log in, whatever the files say"),
        flag(named("password"), Kind::Text, "string", "The password"),
        flag(named("registry-token"), Kind::Text, "string", "Send this bearer token"),
        flag(named("tls-verify"), Kind::Bool, "", "Whether registries must prove who they are; false also allows http"),
        flag(named("username"), Kind::Text, "string", "The user"),
    ]
}

fn authfile(name: Cow<'static, str>) -> Flag {
    flag(name, Kind::Text, "string", "Read credentials from this file, and from no other")
}

/// The flags of places that are no registries.
fn blobs(prefix: &'static str) -> Vec<Flag> {
    let named = |name: &str| Cow::Owned(format!("{prefix}{name}"));
    vec![
        lacking(DAEMON, flag(named("daemon-host"), Kind::Text, "HOST", "The docker daemon")),
        flag(named("shared-blob-dir"), Kind::Text, "DIRECTORY", "The blobs of an oci: image are in this directory"),
    ]
}

fn retry() -> Vec<Flag> {
    vec![
        duration("retry-delay", "Wait so long before each repetition, instead of 1s, 2s, 4s and so on"),
        int("retry-times", "Try so often again what failed for a reason that may pass"),
    ]
}

fn flag(name: impl Into<Cow<'static, str>>, kind: Kind, value: &'static str, usage: &'static str) -> Flag {
    Flag { name: name.into(), short: None, kind, value, usage, hidden: false, lacking: None }
}

fn on(name: &'static str, usage: &'static str) -> Flag {
    flag(name, Kind::Bool, "", usage)
}

fn text(name: &'static str, value: &'static str, usage: &'static str) -> Flag {
    flag(name, Kind::Text, value, usage)
}

fn int(name: &'static str, usage: &'static str) -> Flag {
    flag(name, Kind::Int, "int", usage)
}

fn duration(name: &'static str, usage: &'static str) -> Flag {
    flag(name, Kind::Duration, "duration", usage)
}

fn short(letter: char, flag: Flag) -> Flag {
    Flag { short: Some(letter), ..flag }
}

fn hidden(flag: Flag) -> Flag {
    Flag { hidden: true, ..flag }
}

fn lacking(why: &'static str, flag: Flag) -> Flag {
    Flag { lacking: Some(why), ..flag }
}
