//! Copies that were interrupted go on where they stopped; what they left is never trusted, and nothing else stays.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holkas::archive::OciArchiveDestination;
use holkas::copy::{CopyOptions, copy};
use holkas::dir::{DirDestination, DirSource};
use holkas::docker_archive::DockerArchiveDestination;
use holkas::fs::Dir;
use holkas::image::{ImageDestination, ImageSource, Layer, LayerBlob, PolicyIdentity};
use holkas::layout::LayoutDestination;
use holkas::oci::{Descriptor, Digest};
use holkas::policy::Policy;
use holkas::progress::{Cancel, Event, Monitor, Silent};
use holkas::reference::{ArchiveSelect, DockerArchiveReference, Driver, LayoutReference, LayoutSelect, Name};
use holkas::signature::UntrustedSignature;
use holkas::storage::destination::StorageDestination;
use holkas::verify::{PartialBlob, UntrustedBlob, VerifiedBytes};
use holkas::{Error, ErrorKind, Result};
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder};
use holkas_testkit::oddities::pattern;
use holkas_testkit::tar::TarBuilder;
use tempfile::TempDir;

/// A process that is being started holds our locks for a moment: no test runs beside the one that starts some.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the bytes of a layer come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Good,
    /// The line breaks when this byte of a layer would come.
    CutAt(u64),
    /// The copy is stopped there.
    StoppedAt(u64),
    /// The process dies there.
    KilledAt(u64),
    /// A byte is wrong.
    Lies,
}

/// A source like a registry: it can begin anywhere, and counts what it was asked for.
struct Remote {
    below: DirSource,
    blobs: PathBuf,
    line: Mutex<Vec<Line>>,
    cancel: Cancel,
    fetched: Arc<AtomicU64>,
    resumed: AtomicUsize,
    blamed: AtomicUsize,
}

impl Remote {
    fn new(image: &Path, line: Line) -> Self {
        Self {
            below: DirSource::open(image).unwrap(),
            blobs: image.to_path_buf(),
            line: Mutex::new(vec![line]),
            cancel: Cancel::default(),
            fetched: Arc::default(),
            resumed: AtomicUsize::new(0),
            blamed: AtomicUsize::new(0),
        }
    }

    /// More places, each tried when the one before it was blamed.
    fn and_then(self, line: Line) -> Self {
        self.line.lock().unwrap().push(line);
        self
    }

    fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn fetch(&self, layer: &Layer, from: u64) -> Wire {
        let mut bytes = std::fs::read(self.blobs.join(layer.descriptor.digest.hex())).unwrap();
        let line = self.line.lock().unwrap()[0];
        if line == Line::Lies {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let (cancel, fetched) = (self.cancel.clone(), Arc::clone(&self.fetched));
        Wire { bytes, at: from, line, cancel, fetched }
    }
}

struct Wire {
    bytes: Vec<u8>,
    at: u64,
    line: Line,
    cancel: Cancel,
    fetched: Arc<AtomicU64>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let whole = self.bytes.len() as u64;
        let end = match self.line {
            Line::CutAt(at) | Line::StoppedAt(at) | Line::KilledAt(at) => at.min(whole),
            Line::Good | Line::Lies => whole,
        };
        if self.at >= end && end < whole {
            match self.line {
                Line::StoppedAt(_) => self.cancel.cancel(),
                Line::KilledAt(_) => kill_ourselves(),
                _ => return Err(Error::new(ErrorKind::Network, "the line broke").into()),
            }
        }
        let at = usize::try_from(self.at).unwrap();
        // A network gives little at a time, and after a stop goes on for a moment.
        let end = if self.at >= end { self.bytes.len() } else { usize::try_from(end).unwrap() };
        let n = buffer.len().min(1400).min(end - at);
        buffer[..n].copy_from_slice(&self.bytes[at..at + n]);
        self.at += n as u64;
        self.fetched.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn kill_ourselves() -> ! {
    let me = std::process::id().to_string();
    std::process::Command::new("kill").args(["-9", &me]).status().unwrap();
    loop {
        std::thread::yield_now();
    }
}

impl ImageSource for Remote {
    fn name(&self) -> String {
        "remote:image".to_string()
    }

    fn policy_scopes(&self) -> PolicyIdentity {
        self.below.policy_scopes()
    }

    fn top(&self) -> Result<VerifiedBytes> {
        self.below.top()
    }

    fn open_manifest(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.below.open_manifest(descriptor)
    }

    fn open_config(&self, descriptor: &Descriptor) -> Result<UntrustedBlob> {
        self.below.open_config(descriptor)
    }

    fn open_layer(&self, layer: &Layer) -> Result<LayerBlob> {
        Ok(LayerBlob::AsDescribed(UntrustedBlob::new(self.fetch(layer, 0))))
    }

    fn resumes(&self) -> bool {
        true
    }

    fn open_layer_from(&self, layer: &Layer, beginning: PartialBlob) -> Result<LayerBlob> {
        self.resumed.fetch_add(1, Ordering::Relaxed);
        let rest = self.fetch(layer, beginning.length());
        Ok(LayerBlob::AsDescribed(beginning.followed_by(rest)))
    }

    fn try_another_place(&self, _: &Descriptor, _: &Error) -> bool {
        self.blamed.fetch_add(1, Ordering::Relaxed);
        let mut line = self.line.lock().unwrap();
        line.len() > 1 && line.remove(0) != Line::Good
    }

    fn signatures(&self, _: &Digest) -> Result<Vec<UntrustedSignature>> {
        Ok(Vec::new())
    }
}

const ROOMS: [&str; 4] = ["dir", "dir that is there", "oci", "oci that is there"];

/// The place of a room in a directory.
fn destination(room: &str, dir: &Path) -> Box<dyn ImageDestination> {
    let select = LayoutSelect::Named("1".to_string());
    let layout = |name| LayoutReference { path: dir.join(name), select: select.clone() };
    match room {
        "dir" => Box::new(DirDestination::create(&dir.join("new")).unwrap()),
        "dir that is there" => {
            std::fs::create_dir_all(dir.join("empty")).unwrap();
            Box::new(DirDestination::create(&dir.join("empty")).unwrap())
        }
        "oci" => Box::new(LayoutDestination::create(&layout("new"), None).unwrap()),
        "oci that is there" => {
            std::fs::create_dir_all(dir.join("empty")).unwrap();
            Box::new(LayoutDestination::create(&layout("empty"), None).unwrap())
        }
        _ => other_destination(room, dir),
    }
}

/// Rooms that take a layer again, but leave nothing of it to another run.
fn other_destination(room: &str, dir: &Path) -> Box<dyn ImageDestination> {
    let name = || Name::parse_normalised("example.com/app:1").unwrap();
    match room {
        "oci-archive" => {
            let select = LayoutSelect::Only;
            Box::new(OciArchiveDestination::create(&LayoutReference { path: dir.join("o.tar"), select }).unwrap())
        }
        "docker-archive" => {
            let select = ArchiveSelect::Tag(name());
            let reference = DockerArchiveReference { path: dir.join("d.tar"), select };
            Box::new(DockerArchiveDestination::create(&reference, &[]).unwrap())
        }
        driver => {
            let root = Dir::create_all(&dir.join("store")).unwrap();
            let driver = if driver == "vfs" { Driver::Vfs } else { Driver::Overlay };
            Box::new(StorageDestination::create(root, driver, vec![name()], 0).unwrap())
        }
    }
}

fn run(source: &Remote, to: Box<dyn ImageDestination>, monitor: &dyn Monitor) -> Result<()> {
    let options = CopyOptions { jobs: 1, cancel: source.cancel.clone(), ..CopyOptions::default() };
    copy(source, to, &Policy::accept_anything(), &options, monitor).map(drop)
}

/// Two layers; the larger goes first.
fn image() -> BuiltImage {
    let layer = |name: &str, size| TarBuilder::new().file(name, 0o644, pattern(size)).finish();
    ImageBuilder::oci()
        .layer_with(layer("small", 9_000), Compression::None)
        .layer_with(layer("large", 300_000), Compression::None)
        .build()
}

fn sizes(image: &Path) -> (u64, u64) {
    let source = DirSource::open(image).unwrap();
    let holkas::oci::Document::Manifest(manifest) = holkas::image::open_top(&source).unwrap() else { panic!() };
    let sizes: Vec<u64> = manifest.layers().iter().map(|layer| layer.size).collect();
    (sizes[0], sizes[1])
}

/// Returns every file below, but for those of images that are whole.
fn litter(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            if path.to_string_lossy().contains(".unverified-") {
                found.push(path);
            }
        }
    }
    found
}

/// Ten points that look random and are the same in every run: early, late and in between.
fn points(small: u64, large: u64) -> Vec<u64> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (state >> 33) % (large - 1)
    };
    [1, small, large - 1].into_iter().chain(std::iter::repeat_with(&mut next).take(7)).collect()
}

#[test]
fn an_interrupted_copy_goes_on_where_it_stopped() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let source = work.path().join("source");
    image().write_dir(&source);
    let (small, large) = sizes(&source);
    for room in ROOMS {
        for (n, point) in points(small, large).into_iter().enumerate() {
            let dir = work.path().join(format!("{room} {n}"));
            std::fs::create_dir(&dir).unwrap();
            let line = if n % 2 == 0 { Line::CutAt(point) } else { Line::StoppedAt(point) };
            let first = Remote::new(&source, line);
            let error = run(&first, destination(room, &dir), &Silent).unwrap_err();
            let expected = if n % 2 == 0 { ErrorKind::Network } else { ErrorKind::Cancelled };
            assert_eq!(error.kind(), expected, "{room} cut at {point}: {error}");
            let second = Remote::new(&source, Line::Good);
            run(&second, destination(room, &dir), &Silent).unwrap();
            let all = first.fetched() + second.fetched();
            // The chunk that was under way is lost, and nothing else.
            assert!(all <= small + large + 1400, "{room} cut at {point}: {all} bytes were fetched");
            assert!(second.fetched() < small + large || point == 1, "{room} cut at {point}");
            assert_eq!(litter(&dir), Vec::<PathBuf>::new(), "{room} cut at {point}");
        }
    }
}

#[test]
fn layers_that_were_whole_are_not_fetched_again() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let source = work.path().join("source");
    image().write_dir(&source);
    let (small, large) = sizes(&source);
    for room in ROOMS {
        let dir = work.path().join(room);
        std::fs::create_dir(&dir).unwrap();
        // The large one comes first and is whole when the small one is cut: its line breaks at a byte that it has not.
        let first = Remote::new(&source, Line::Good);
        let stopper = Stopper(first.cancel.clone());
        assert_eq!(run(&first, destination(room, &dir), &stopper).unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(first.fetched(), large, "{room}");
        let second = Remote::new(&source, Line::Good);
        run(&second, destination(room, &dir), &Silent).unwrap();
        assert_eq!(second.fetched(), small, "{room}");
        assert_eq!(litter(&dir), Vec::<PathBuf>::new(), "{room}");
    }
}

/// Stops the copy when the first layer is there.
struct Stopper(Cancel);

impl Monitor for Stopper {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::LayerFinished { .. }) {
            self.0.cancel();
        }
    }
}

/// This test runs itself again, and that dies at a point of its copy.
#[test]
fn a_killed_copy_goes_on_where_it_stopped() {
    const WORK: &str = "HOLKAS_TEST_RESUME_KILL";
    if let Some(arguments) = std::env::var_os(WORK) {
        let arguments = arguments.into_string().unwrap();
        let [source, dir, room, point] = arguments.split('|').collect::<Vec<_>>().try_into().unwrap();
        let remote = Remote::new(Path::new(source), Line::KilledAt(point.parse().unwrap()));
        run(&remote, destination(room, Path::new(dir)), &Silent).unwrap();
        unreachable!("it was killed");
    }
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let source = work.path().join("source");
    image().write_dir(&source);
    let (small, large) = sizes(&source);
    for room in ROOMS {
        let dir = work.path().join(room);
        std::fs::create_dir(&dir).unwrap();
        // Killed again and again, it comes a piece further each time.
        let mut points = points(small, large);
        points.sort_unstable();
        for point in &points {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_killed_copy_goes_on_where_it_stopped", "--nocapture"])
                .env(WORK, format!("{}|{}|{room}|{point}", source.display(), dir.display()))
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{room} at {point}");
        }
        let last = Remote::new(&source, Line::Good);
        run(&last, destination(room, &dir), &Silent).unwrap();
        let left = small + large - points.last().unwrap();
        assert!(last.fetched() <= left + 1400, "{room}: {} bytes, not {left}", last.fetched());
        assert_eq!(litter(&dir), Vec::<PathBuf>::new(), "{room}");
    }
}

/// Changes all that an interrupted run left.
fn spoil(dir: &Path, spoil: impl Fn(&Path)) -> usize {
    let partials: Vec<_> = litter(dir).into_iter().filter(|path| path.to_string_lossy().contains("sha256-")).collect();
    partials.iter().for_each(|path| spoil(path));
    partials.len()
}

#[test]
fn what_was_left_is_not_trusted() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let source = work.path().join("source");
    image().write_dir(&source);
    let (small, large) = sizes(&source);
    #[allow(clippy::type_complexity, reason = "a table with one row a case")]
    let damages: [(&str, &dyn Fn(&Path), bool); 5] = [
        ("a wrong byte", &|path| flip(path), true),
        ("all wrong, and as long as it should be", &|path| std::fs::write(path, vec![7; 301_568]).unwrap(), true),
        ("too long", &|path| std::fs::write(path, vec![7; 1 << 20]).unwrap(), false),
        ("a symlink", &|path| link_away(path), false),
        ("another name for it", &|path| std::fs::hard_link(path, path.with_extension("x")).unwrap(), false),
    ];
    for room in ROOMS {
        for (what, damage, is_read) in &damages {
            let dir = work.path().join(format!("{room}: {what}"));
            std::fs::create_dir(&dir).unwrap();
            run(&Remote::new(&source, Line::CutAt(100_000)), destination(room, &dir), &Silent).unwrap_err();
            assert_eq!(spoil(&dir, damage), 1, "{room}: {what}");
            let second = Remote::new(&source, Line::Good);
            run(&second, destination(room, &dir), &Silent).unwrap_or_else(|error| panic!("{room}: {what}: {error}"));
            assert_eq!(second.resumed.load(Ordering::Relaxed), usize::from(*is_read), "{room}: {what}");
            assert!(second.fetched() >= small + large, "{room}: {what}");
            assert_eq!(second.blamed.load(Ordering::Relaxed), 0, "{room}: {what}: it was not the source's fault");
            assert_eq!(litter(&dir), Vec::<PathBuf>::new(), "{room}: {what}");
        }
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn link_away(path: &Path) {
    let away = path.parent().unwrap().join("away");
    std::fs::rename(path, &away).unwrap();
    std::os::unix::fs::symlink("away", path).unwrap();
}

/// A place that lies is given up, and no trace of its bytes is in what comes from another.
#[test]
fn another_place_is_tried_when_one_lies() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let source = work.path().join("source");
    image().write_dir(&source);
    let gzipped = work.path().join("gzipped");
    ImageBuilder::docker()
        .compression(Compression::Gzip)
        .layer(TarBuilder::new().file("a", 0o644, pattern(200_000)).file("b", 0o644, pattern(20)).finish())
        .build()
        .write_dir(&gzipped);
    let rooms = ROOMS.into_iter().chain(["oci-archive", "docker-archive", "overlay", "vfs"]);
    for room in rooms {
        let source = if ["overlay", "vfs", "docker-archive"].contains(&room) { &gzipped } else { &source };
        let trees = [false, true].map(|lied| {
            let dir = work.path().join(format!("{room} {lied}"));
            std::fs::create_dir(&dir).unwrap();
            let remote = Remote::new(source, if lied { Line::Lies } else { Line::Good }).and_then(Line::Good);
            let heard = Heard::default();
            run(&remote, destination(room, &dir), &heard).unwrap_or_else(|error| panic!("{room}: {error}"));
            let warnings = heard.0.lock().unwrap().clone();
            assert_eq!(warnings.len(), usize::from(lied), "{room}: {warnings:?}");
            assert_eq!(remote.blamed.load(Ordering::Relaxed), usize::from(lied), "{room}");
            holkas_testkit::tree::Tree::read(&dir)
        });
        let options = holkas_testkit::tree::Options::new().ignore_mtimes();
        trees[1].assert_same(&trees[0], &options);

        let dir = work.path().join(format!("{room} only lies"));
        std::fs::create_dir(&dir).unwrap();
        let remote = Remote::new(source, Line::Lies).and_then(Line::Lies).and_then(Line::Lies);
        let error = run(&remote, destination(room, &dir), &Silent).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Invalid), "{room}: {error}");
        assert_eq!(remote.blamed.load(Ordering::Relaxed), 3, "{room}");
        assert_eq!(litter(&dir), Vec::<PathBuf>::new(), "{room}");
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Monitor for Heard {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Warning { text } => self.0.lock().unwrap().push(text.to_string()),
            Event::Retrying { error, .. } => self.0.lock().unwrap().push(error.to_string()),
            _ => {}
        }
    }
}

/// A writer that is alive keeps what it writes: another one beside it begins anew.
#[test]
fn what_is_being_written_is_not_taken_away() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let source = work.path().join("source");
    image().write_dir(&source);
    let (small, large) = sizes(&source);
    let dir = work.path().join("place");
    std::fs::create_dir(&dir).unwrap();
    run(&Remote::new(&source, Line::CutAt(100_000)), destination("dir", &dir), &Silent).unwrap_err();
    let alive = destination("dir", &dir);
    let other = Remote::new(&source, Line::Good);
    run(&other, destination("dir", &dir), &Silent).unwrap();
    assert_eq!(other.fetched(), small + large);
    let remote = Remote::new(&source, Line::Good);
    run(&remote, alive, &Silent).unwrap();
    assert!(remote.fetched() <= small + large - 100_000 + 1400);
    assert_eq!(litter(&dir), Vec::<PathBuf>::new());
}
