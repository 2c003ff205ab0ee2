//! holkas in skopeo's place, held against Debian's skopeo: the same call to both, on the same images.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[path = "skopeo/osbuild.rs"]
mod osbuild;
#[path = "skopeo/registries.rs"]
mod registries;
#[path = "skopeo/results.rs"]
mod results;
#[path = "skopeo/usage.rs"]
mod usage;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use holkas_testkit::image::{BuiltImage, BuiltIndex, Compression, ImageBuilder, IndexBuilder};
use holkas_testkit::tar::TarBuilder;
use tempfile::TempDir;

/// What a run gave.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    code: i32,
    out: String,
    /// Standard error without the times.
    err: String,
}

impl Output {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    #[track_caller]
    fn fails(self, code: i32, phrase: &str) -> Self {
        assert_eq!(self.code, code, "{}", self.err);
        assert!(self.err.contains(phrase), "`{phrase}` is not in {}", self.err);
        self
    }
}

/// Whose skopeo.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Debians,
    Ours,
}

/// Two directories that begin with the same content: one for each skopeo.
struct Both {
    debians: TempDir,
    ours: TempDir,
}

impl Both {
    /// Makes the directories, and what `make` puts into each.
    fn new(make: impl Fn(&Path)) -> Self {
        let both = Self { debians: TempDir::new().unwrap(), ours: TempDir::new().unwrap() };
        make(both.debians.path());
        make(both.ours.path());
        both
    }

    fn dir(&self, whose: Whose) -> &Path {
        match whose {
            Whose::Debians => self.debians.path(),
            Whose::Ours => self.ours.path(),
        }
    }

    fn ours(&self, name: &str) -> PathBuf {
        self.ours.path().join(name)
    }

    /// Runs one of the two in its directory.
    fn run(&self, whose: Whose, arguments: &[impl AsRef<OsStr>]) -> Output {
        let mut command = match whose {
            Whose::Debians => Command::new("/usr/bin/skopeo"),
            Whose::Ours => ours(),
        };
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
        finish(command.args(arguments).current_dir(self.dir(whose)))
    }

    /// Runs both, and returns what Debian's and what ours gave.
    fn both(&self, arguments: &[&str]) -> (Output, Output) {
        (self.run(Whose::Debians, arguments), self.run(Whose::Ours, arguments))
    }

    /// Runs both, which must succeed and tell the same on stdout; what newer skopeos no longer tell is left out.
    #[track_caller]
    fn same(&self, arguments: &[&str]) -> Output {
        let (debians, ours) = self.both(arguments);
        assert_eq!((debians.code, ours.code), (0, 0), "{arguments:?}: {} {}", debians.err, ours.err);
        assert_eq!(told(&debians.out), told(&ours.out), "{arguments:?}");
        ours
    }

    /// Compares what both made under a name, file by file.
    #[track_caller]
    fn assert_same_files(&self, name: &str) {
        let (debians, ours) = (files(&self.debians.path().join(name)), files(&self.ours.path().join(name)));
        assert_eq!(debians.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{name}");
        for (path, bytes) in &debians {
            let ours = &ours[path];
            assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(ours), "{name}/{path}");
        }
    }
}

/// Returns holkas, called `skopeo`.
fn ours() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holkas"));
    command.arg0("/usr/bin/skopeo");
    command
}

fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the program runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = err.lines().map(|line| match line.strip_prefix("time=\"").and_then(|rest| rest.split_once("\" ")) {
        Some((time, rest)) if time.len() >= 20 && time.as_bytes()[10] == b'T' => format!("{rest}\n"),
        _ => format!("{line}\n"),
    });
    Output {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: lines.collect(),
    }
}

/// Returns the lines that skopeo told before 1.10 and tells now, in an order that does not hang on threads.
fn told(out: &str) -> Vec<String> {
    let kept = out.lines().filter(|line| !["Storing signatures", "Storing list signatures"].contains(line));
    let mut lines: Vec<String> = kept
        .map(|line| match line.strip_prefix("Copying ").and_then(|rest| rest.strip_suffix(" images in list")) {
            Some(counts) => counts.replace(" of ", "/").replace(" images generated from ", "/"),
            None => line.to_string(),
        })
        .collect();
    for run in lines.chunk_by_mut(|one, other| one.starts_with("Copying blob") == other.starts_with("Copying blob")) {
        if run[0].starts_with("Copying blob") {
            run.sort();
        }
    }
    lines
}

/// Returns all files below a path, or the one that it is, with their bytes.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            open.extend(fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = next.strip_prefix(path).unwrap().to_string_lossy().into_owned();
            found.insert(name, fs::read(&next).unwrap());
        }
    }
    found
}

fn layer(text: &str) -> Vec<u8> {
    TarBuilder::new().file("file", 0o644, text).finish()
}

/// Returns a Docker image with all that a config can have beside OCI's fields.
fn docker(text: &str) -> ImageBuilder {
    ImageBuilder::docker()
        .compression(Compression::Gzip)
        .layer(layer(&format!("{text} 1")))
        .layer(layer(&format!("{text} 2")))
        .env("A=<b>&c")
        .label("org.example.x", "y & z")
        .command(&["/bin/sh"])
        .healthcheck(&["CMD", "true"])
        .config_field("docker_version", "18.06.1-ce".into())
        .config_field("container", "0123".into())
}

fn docker_image() -> BuiltImage {
    docker("docker").build()
}

fn oci_image() -> BuiltImage {
    ImageBuilder::oci()
        .compression(Compression::Gzip)
        .layer(layer("oci 1"))
        .layer(layer("oci 2"))
        .annotation("org.example.a", "b")
        .build()
}

fn docker_list() -> BuiltIndex {
    let of = |architecture: &str| docker(architecture).architecture(architecture).build();
    IndexBuilder::docker().image(&of("amd64")).image(&of("arm64")).build()
}

fn oci_index() -> BuiltIndex {
    let of = |architecture: &str| {
        ImageBuilder::oci().compression(Compression::Gzip).layer(layer(architecture)).architecture(architecture).build()
    };
    IndexBuilder::oci().image(&of("amd64")).image(&of("arm64")).build()
}

/// Puts an image of each kind into a directory.
fn images(dir: &Path) {
    docker_image().write_dir(dir.join("docker"));
    oci_image().write_oci(dir.join("oci"), Some("t"));
    docker_list().write_dir(dir.join("list"));
    oci_index().write_oci(dir.join("index"), Some("t"));
}
