//! What the tests of signatures stand on: directories, registries.d, keys, and the three programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use holkas_testkit::image::{BuiltImage, ImageBuilder};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;
use tempfile::TempDir;

use crate::common::{Output, finish, holkas, run};

pub(crate) fn image(text: &str) -> BuiltImage {
    ImageBuilder::oci().layer(TarBuilder::new().file("file", 0o644, text).finish()).build()
}

/// Something that begins as a signature of OpenPGP does.
pub(crate) fn signature(text: &[u8]) -> Vec<u8> {
    [b"\x90\x0d", text].concat()
}

/// Returns what is directly in a directory.
#[track_caller]
pub(crate) fn files(dir: &(impl AsRef<Path> + ?Sized)) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

/// A directory of a test with registries.d in it, and all else that it needs.
pub(crate) struct Scene(TempDir);

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scene.at("registries.d")).unwrap();
        scene
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(crate) fn dir(&self, name: &str) -> String {
        format!("dir:{}", self.at(name))
    }

    pub(crate) fn registries_d(&self, text: &str) {
        fs::write(self.at("registries.d/test.yaml"), text).unwrap();
    }

    /// The directory with signatures of a manifest.
    pub(crate) fn kept(&self, repository: &str, digest: &str) -> PathBuf {
        PathBuf::from(self.at(&format!("kept/{repository}@{}", digest.replace(':', "="))))
    }

    /// Puts signatures of a manifest there.
    pub(crate) fn keep(&self, repository: &str, digest: &str, signatures: &[Vec<u8>]) -> PathBuf {
        let kept = self.kept(repository, digest);
        fs::create_dir_all(&kept).unwrap();
        for (n, signature) in signatures.iter().enumerate() {
            fs::write(kept.join(format!("signature-{}", n + 1)), signature).unwrap();
        }
        kept
    }

    /// Debian's skopeo.
    pub(crate) fn skopeo(&self) -> Peer {
        Peer::skopeo().argument("--registries.d").argument(self.at("registries.d"))
    }

    fn command(&self) -> Command {
        let mut command = holkas();
        command.env("HOME", self.0.path()).args(["--insecure-policy", "--registries.d", &self.at("registries.d")]);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command().args(arguments))
    }

    /// holkas in skopeo's place.
    pub(crate) fn skopeo_face(&self, arguments: &[&str]) -> Output {
        let flags = ["skopeo", "--insecure-policy", "--registries.d", &self.at("registries.d")];
        run(&[&flags[..], arguments].concat())
    }

    pub(crate) fn copy(&self, arguments: &[&str]) -> Output {
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        self.run(&[&["copy", "-q", "--no-cache", "--retry-delay=1ms"], &tls[..], arguments].concat())
    }

    #[track_caller]
    pub(crate) fn copied(&self, arguments: &[&str]) {
        self.copy(arguments).ok();
    }

    /// Fails to copy, for this reason.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], said: &str) {
        let told = self.copy(arguments).fails();
        assert!(told.contains(said), "{said:?} is not in: {told}");
    }
}

impl Output {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert_eq!(self.code, 1, "{}", self.err);
        self.err
    }
}
