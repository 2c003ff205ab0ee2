//! The sample images of the repository, in `samples/`: small, many platforms, no programs, the same bytes each time.

use std::fs;
use std::path::Path;

use crate::image::{BuiltImage, BuiltIndex, Compression, Format, ImageBuilder, IndexBuilder, sha256_hex};
use crate::tar::TarBuilder;

/// Returns the OCI index `hello`: amd64 and arm64, each of a gzip and a zstd layer, and an attestation.
pub fn hello() -> BuiltIndex {
    let (amd64, arm64) = (hello_for(Format::Oci, "amd64"), hello_for(Format::Oci, "arm64"));
    IndexBuilder::oci()
        .image(&amd64)
        .image(&arm64)
        .attestation(&amd64)
        .annotation("org.opencontainers.image.title", "hello")
        .build()
}

/// Returns the Docker manifest list `greeter`: amd64 and arm64.
pub fn greeter() -> BuiltIndex {
    IndexBuilder::docker().image(&hello_for(Format::Docker, "amd64")).image(&hello_for(Format::Docker, "arm64")).build()
}

/// Returns the single image `notes`, for the archive.
pub fn notes() -> BuiltImage {
    let layer = TarBuilder::new()
        .dir("usr/", 0o755)
        .dir("usr/share/", 0o755)
        .dir("usr/share/notes/", 0o755)
        .file("usr/share/notes/README", 0o644, "An image from an archive.\n")
        .finish();
    ImageBuilder::oci().compression(Compression::Zstd).label("org.example.sample", "notes").layer(layer).build()
}

/// Writes all samples into `path`, which must not have them yet.
///
/// ```text
/// samples/
///   README.md
///   images.toml                     embeds them all
///   images/hello/                   oci: layout, tag 1.0: index of amd64, arm64 and an attestation
///   images/greeter/                 dir: of the amd64 instance only, without the list, as osbuild's sources have it
///   images/notes.oci.tar            oci-archive, tag 2.0
///   lists/<hex>.json                the Docker manifest list to which images/greeter belongs
/// ```
pub fn write_samples(path: impl AsRef<Path>) {
    let path = path.as_ref();
    for dir in ["images", "lists"] {
        fs::create_dir_all(path.join(dir)).unwrap_or_else(|error| panic!("making {dir}: {error}"));
    }
    hello().write_oci(path.join("images/hello"), Some("1.0"));
    let greeter = greeter();
    greeter.image("amd64").write_dir(path.join("images/greeter"));
    let list = format!("lists/{}.json", sha256_hex(&greeter.manifest));
    write(&path.join(&list), &greeter.manifest);
    notes().write_oci_archive(path.join("images/notes.oci.tar"), Some("2.0"));
    write(&path.join("images.toml"), IMAGES_TOML.replace("LIST", &list).as_bytes());
    write(&path.join("README.md"), README.as_bytes());
}

const IMAGES_TOML: &str = r#"# The images that `holkas` embeds into an OS tree. Relative paths are relative to this file.

[store]
path = "/usr/share/containers/storage"
driver = "overlay"

[[image]]
source = "oci:images/hello:1.0"
name = ["registry.example.org/samples/hello:1.0", "registry.example.org/samples/hello:latest"]
platform = "linux/amd64"

[[image]]
source = "dir:images/greeter"
name = "registry.example.org/samples/greeter:3"
manifest-list = "LIST"

[[image]]
source = "oci-archive:images/notes.oci.tar:2.0"
name = "registry.example.org/samples/notes:2.0"
"#;

const README: &str = "# Sample images

These images are made by code, and hold no programs: text files, a shell script, links, a whiteout.
They are written by `crates/holkas-testkit/src/samples.rs`; nothing in them comes from elsewhere.
`images.toml` embeds all of them.

| file | what it is |
|---|---|
| `images/hello` | an OCI layout, tag `1.0`: an index of linux/amd64, linux/arm64 and an attestation, with a gzip and a zstd layer each |
| `images/greeter` | a `dir:` with the linux/amd64 image of a Docker manifest list, without the list |
| `lists/*.json` | that manifest list, named by its digest |
| `images/notes.oci.tar` | an OCI archive, tag `2.0`, of one image with a zstd layer |

To make them again, in the root of the repository:

```
rm -r samples && cargo run -p holkas-testkit --example make-samples
```

A test of the kit checks that this gives the bytes that are here.
";

fn hello_for(format: Format, architecture: &str) -> BuiltImage {
    // Docker's format has no zstd.
    let second = if format == Format::Oci { Compression::Zstd } else { Compression::Gzip };
    let base = TarBuilder::new()
        .dir("etc/", 0o755)
        .file("etc/motd", 0o644, "Hello from the base layer.\n")
        .file("etc/obsolete", 0o644, "The second layer removes this.\n")
        .dir("usr/", 0o755)
        .dir("usr/bin/", 0o755)
        .file("usr/bin/hello", 0o755, "#!/bin/sh\ncat /etc/motd /usr/share/hello/platform\n")
        .hard_link("usr/bin/hello-again", "usr/bin/hello")
        .symlink("usr/bin/hi", "hello")
        .dir("usr/share/", 0o755)
        .dir("usr/share/hello/", 0o755)
        .file("usr/share/hello/platform", 0o644, format!("linux/{architecture}\n"))
        .finish();
    let top = TarBuilder::new()
        .dir("etc/", 0o755)
        .whiteout("etc/obsolete")
        .file("etc/motd", 0o644, "Hello from the top layer.\n")
        .finish();
    let builder = ImageBuilder::new(format)
        .architecture(architecture)
        .layer_with(base, Compression::Gzip)
        .layer_with(top, second)
        .env("PATH=/usr/bin")
        .command(&["/usr/bin/hello"])
        .label("org.example.sample", "hello");
    match format {
        Format::Oci => builder.build(),
        Format::Docker => builder.healthcheck(&["CMD", "/usr/bin/hello"]).build(),
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
