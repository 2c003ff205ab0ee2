//! A client with short patience, and images to fetch.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holkas::copy::{Copied, CopyOptions, MultiArch, copy};
use holkas::error::{Error, Result};
use holkas::open::{Rooms, open_destination, open_source};
use holkas::policy::Policy;
use holkas::progress::{Event, Monitor};
use holkas::reference::ImageReference;
use holkas::registry::conf::{ConfFile, RegistriesConf};
use holkas::registry::{Client, Settings};
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder};
use holkas_testkit::tar::TarBuilder;

/// Remembers the warnings.
#[derive(Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Monitor for Warnings {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Warning { text } => self.0.lock().unwrap().push(text.to_string()),
            Event::Retrying { error, .. } => self.0.lock().unwrap().push(format!("{error}; trying again")),
            _ => {}
        }
    }
}

impl Warnings {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// Settings that take plain HTTP, and wait for nothing long.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings { tls_verify: Some(false), ..Settings::default() };
    settings.timeouts.idle = Duration::from_millis(400);
    settings.timeouts.first_byte = Duration::from_millis(400);
    settings.timeouts.connect = Duration::from_secs(5);
    settings.retry.times = 2;
    settings.retry.delay = Duration::from_millis(10);
    settings.retry.longest = Duration::from_millis(50);
    settings
}

/// Settings with a registries.conf.
pub(crate) fn configured(conf: &str) -> Settings {
    let file = ConfFile { path: PathBuf::from("registries.conf"), bytes: conf.as_bytes().to_vec() };
    Settings { registries: RegistriesConf::parse(Some(&file), &[]).unwrap(), tls_verify: None, ..settings() }
}

/// An image of two layers, one of which has some contents.
pub(crate) fn image() -> BuiltImage {
    let noise: Vec<u8> = (0_u32..200_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let big = TarBuilder::new().file("noise", 0o644, noise).finish();
    let small = TarBuilder::new().file("etc/motd", 0o644, "hello\n").finish();
    ImageBuilder::oci().layer(big).layer_with(small, Compression::Zstd).build()
}

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Copies between two references.
pub(crate) fn copy_by(settings: Settings, from: &str, to: &str, multi_arch: MultiArch) -> Result<Copied> {
    let rooms = Rooms { registries: Some(Client::new(settings)), ..Rooms::default() };
    let source = open_source(&ImageReference::parse(from)?, &rooms)?;
    let destination = open_destination(&ImageReference::parse(to)?, &rooms)?;
    let options = CopyOptions { multi_arch, platform: "linux/amd64".parse().unwrap(), ..CopyOptions::default() };
    copy(&*source, destination, &Policy::accept_anything(), &options, &holkas::progress::Silent)
}

/// Fetches an image into `dir:`, which must hold what the image is, or nothing after an error.
#[track_caller]
pub(crate) fn fetch(settings: Settings, reference: &str, image: &BuiltImage) -> Result<()> {
    let dir = temp();
    let to = dir.path().join("image");
    let result = copy_by(settings, reference, &format!("dir:{}", to.display()), MultiArch::System).map(|_| ());
    match &result {
        Ok(()) => assert_is(&to, image),
        // What came so far may wait for the next run, under a name that says what it is.
        Err(_) => {
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(name.starts_with(".unverified-"), "{name} is visible");
            }
        }
    }
    result
}

/// Makes sure that a directory holds exactly this image.
#[track_caller]
pub(crate) fn assert_is(dir: &Path, image: &BuiltImage) {
    let expected = temp();
    image.write_dir(expected.path());
    let names = |dir: &Path| -> std::collections::BTreeSet<_> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names(dir), names(expected.path()));
    for name in names(dir) {
        assert!(
            std::fs::read(dir.join(&name)).unwrap() == std::fs::read(expected.path().join(&name)).unwrap(),
            "{name:?}"
        );
    }
}

/// Fetches what cannot be fetched.
#[track_caller]
pub(crate) fn fails(settings: Settings, reference: &str) -> Error {
    fetch(settings, reference, &image()).expect_err("it is refused")
}

pub(crate) fn with_warnings(mut settings: Settings) -> (Settings, Arc<Warnings>) {
    let warnings = Arc::new(Warnings::default());
    settings.monitor = Arc::clone(&warnings) as Arc<dyn Monitor>;
    (settings, warnings)
}
