//! The blob cache: whole or not there, whoever dies or races; what is damaged in it costs time, and nothing more.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holkas::cache::{Cache, Fetched, Prune};
use holkas::limits::{CONFIG, Limit};
use holkas::oci::{Algorithm, Descriptor, MediaType};
use holkas::progress::Cancel;
use holkas::verify::PartialBlob;
use holkas::{Error, ErrorKind, Result};
use holkas_testkit::fault::small_filesystem;
use holkas_testkit::oddities::pattern;
use tempfile::TempDir;

/// A process that is being started holds our locks for a moment: no test runs beside the one that starts some.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn described(bytes: &[u8]) -> Descriptor {
    let octets = MediaType::new("application/octet-stream");
    Descriptor::new(octets, Algorithm::Sha256.digest(bytes), bytes.len() as u64)
}

fn blob_path(cache: &Path, wanted: &Descriptor) -> PathBuf {
    cache.join("blobs/sha256").join(wanted.digest.hex())
}

fn partial_path(cache: &Path, wanted: &Descriptor) -> PathBuf {
    cache.join("partial").join(format!("sha256-{}", wanted.digest.hex()))
}

/// The other side: gives `bytes` in pieces, counts them, and breaks before the byte at `cut`.
#[derive(Clone)]
struct Remote {
    bytes: Arc<Vec<u8>>,
    cut: usize,
    fetched: Arc<AtomicU64>,
}

impl Remote {
    fn new(bytes: &[u8]) -> Self {
        Self { bytes: Arc::new(bytes.to_vec()), cut: usize::MAX, fetched: Arc::default() }
    }

    fn cut(mut self, at: usize) -> Self {
        self.cut = at;
        self
    }

    fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn fetch(&self, from: u64) -> Result<Fetched> {
        let wire = Wire { remote: self.clone(), at: usize::try_from(from).unwrap() };
        Ok(Fetched { reader: Box::new(wire), from })
    }

    /// A server that cannot begin anywhere but at the beginning.
    fn fetch_all(&self, _: u64) -> Result<Fetched> {
        self.fetch(0)
    }
}

struct Wire {
    remote: Remote,
    at: usize,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Remote { bytes, cut, fetched } = &self.remote;
        let end = bytes.len().min(*cut);
        let n = buffer.len().min(1400).min(end - self.at.min(end));
        if n == 0 && end < bytes.len() {
            return Err(Error::new(ErrorKind::Network, "the line broke").into());
        }
        buffer[..n].copy_from_slice(&bytes[self.at..self.at + n]);
        self.at += n;
        fetched.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

const MOST: Limit = Limit { bytes: 1 << 30, what: "blob of a test" };

/// Reads a blob through the cache.
fn read(cache: &Cache, wanted: &Descriptor, remote: &Remote) -> Result<Vec<u8>> {
    let blob = cache.open_blob(wanted, None, |from| remote.fetch(from))?;
    Ok(blob.read_verified(wanted, MOST)?.bytes().to_vec())
}

#[test]
fn a_blob_is_fetched_once() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let path = work.path().join("a/cache");
    let cache = Cache::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    for bytes in [&b""[..], b"x", &pattern(100_000)] {
        let wanted = described(bytes);
        let remote = Remote::new(bytes);
        assert!(cache.blob(&wanted).unwrap().is_none());
        assert_eq!(read(&cache, &wanted, &remote).unwrap(), bytes);
        assert_eq!(std::fs::read(blob_path(&path, &wanted)).unwrap(), bytes);
        let again = Remote::new(b"nothing that is wanted");
        assert_eq!(read(&cache, &wanted, &again).unwrap(), bytes);
        assert_eq!((remote.fetched(), again.fetched()), (bytes.len() as u64, 0));
        assert!(!partial_path(&path, &wanted).exists());
    }
    let contents = cache.contents().unwrap();
    assert_eq!((contents.blobs.len(), contents.partials.len()), (3, 0));
    assert_eq!(cache.take_warning(), None);
    // Configs are kept like everything else.
    let config = described(b"{}");
    cache
        .open_blob(&config, None, |from| Remote::new(b"{}").fetch(from))
        .unwrap()
        .read_verified(&config, CONFIG)
        .unwrap();
    assert!(cache.blob(&config).unwrap().is_some());
}

#[test]
fn an_interrupted_blob_goes_on() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let bytes = pattern(300_000);
    let wanted = described(&bytes);
    for cut in [1, 1400, 99_999, 299_999] {
        let path = work.path().join(cut.to_string());
        let cache = Cache::open(&path).unwrap();
        let error = read(&cache, &wanted, &Remote::new(&bytes).cut(cut)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(!blob_path(&path, &wanted).exists());
        assert_eq!(std::fs::metadata(partial_path(&path, &wanted)).unwrap().len(), cut as u64);
        assert_eq!(cache.contents().unwrap().partials[0].size, cut as u64);
        // A server that gives all of it costs nothing that is there.
        let all = Remote::new(&bytes).cut(cut - 1);
        let blob = cache.open_blob(&wanted, None, |from| all.fetch_all(from)).unwrap();
        assert_eq!(blob.read_verified(&wanted, MOST).unwrap_err().kind(), ErrorKind::Network);
        assert_eq!(std::fs::metadata(partial_path(&path, &wanted)).unwrap().len(), cut as u64);
        // The destination has less, so that ours is taken; then more, which is kept as well.
        let rest = Remote::new(&bytes);
        let theirs = |length: usize| Some(PartialBlob::new(io::Cursor::new(bytes[..length].to_vec()), length as u64));
        let blob = cache.open_blob(&wanted, theirs(cut - 1), |from| rest.clone().cut(cut).fetch(from)).unwrap();
        assert_eq!(blob.read_verified(&wanted, MOST).unwrap_err().kind(), ErrorKind::Network);
        assert_eq!(rest.fetched(), 0);
        let blob = cache.open_blob(&wanted, theirs(cut + 1), |from| rest.fetch(from)).unwrap();
        assert_eq!(blob.read_verified(&wanted, MOST).unwrap().bytes(), bytes);
        assert_eq!(rest.fetched(), (bytes.len() - cut - 1) as u64);
        assert_eq!(std::fs::read(blob_path(&path, &wanted)).unwrap(), bytes);
        assert!(!partial_path(&path, &wanted).exists());
    }
}

#[test]
fn lies_are_not_kept() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let bytes = pattern(100_000);
    let wanted = described(&bytes);
    let mut wrong = bytes.clone();
    wrong[10] ^= 1;
    for lie in [wrong.clone(), bytes[..500].to_vec(), [&bytes[..], b"!"].concat()] {
        let path = work.path().join(lie.len().to_string());
        let cache = Cache::open(&path).unwrap();
        assert_eq!(read(&cache, &wanted, &Remote::new(&lie)).unwrap_err().kind(), ErrorKind::Mismatch);
        assert!(!blob_path(&path, &wanted).exists() && !partial_path(&path, &wanted).exists());
        assert!(!cache.strike_off(&wanted.digest).unwrap(), "it was not the cache's fault");
    }
    // A partial that is wrong is read once.
    let cache = Cache::open(&work.path().join("partial")).unwrap();
    let partial = partial_path(cache.path(), &wanted);
    for damage in [&wrong[..50_000], &wrong[..]] {
        read(&cache, &wanted, &Remote::new(&bytes).cut(50_000)).unwrap_err();
        std::fs::write(&partial, damage).unwrap();
        assert_eq!(read(&cache, &wanted, &Remote::new(&bytes)).unwrap_err().kind(), ErrorKind::Mismatch);
        assert!(cache.strike_off(&wanted.digest).unwrap(), "it may have been the cache's fault");
        assert!(!partial.exists());
    }
    // One that is too long cannot be a beginning.
    std::fs::write(&partial, vec![0; 100_001]).unwrap();
    let remote = Remote::new(&bytes);
    assert_eq!(read(&cache, &wanted, &remote).unwrap(), bytes);
    assert_eq!(remote.fetched(), 100_000);
}

/// What cannot be decompressed is given up before its end. It is tried twice, and not a third time.
#[test]
fn what_nobody_wants_to_the_end_is_not_resumed_for_ever() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let bytes = pattern(100_000);
    let wanted = described(&bytes);
    let cache = Cache::open(work.path()).unwrap();
    for (there, left) in [(0, 10_000), (10_000, 0)] {
        let blob = cache.open_blob(&wanted, None, |from| Remote::new(&bytes).fetch(from)).unwrap();
        let mut reader = blob.verify(&wanted);
        reader.read_exact(&mut vec![0; 10_000]).unwrap();
        assert_eq!(cache.contents().unwrap().partials[0].size, 10_000, "{there}");
        drop(reader);
        let partials = cache.contents().unwrap().partials;
        assert_eq!(partials.iter().map(|partial| partial.size).sum::<u64>(), left, "{there}");
    }
}

#[test]
fn damaged_entries_are_found_and_replaced() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let cache = Cache::open(work.path()).unwrap();
    let bytes = pattern(50_000);
    let wanted = described(&bytes);
    let (path, remote) = (blob_path(work.path(), &wanted), Remote::new(&bytes));
    read(&cache, &wanted, &remote).unwrap();
    // Of another size it is no hit.
    std::fs::write(&path, &bytes[1..]).unwrap();
    assert_eq!(read(&cache, &wanted, &remote).unwrap(), bytes);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(remote.fetched(), 100_000);
    // Of the same size the door finds it, and the cache forgets it.
    let mut wrong = bytes.clone();
    wrong[7] ^= 1;
    std::fs::write(&path, &wrong).unwrap();
    assert_eq!(read(&cache, &wanted, &remote).unwrap_err().kind(), ErrorKind::Mismatch);
    assert!(cache.strike_off(&wanted.digest).unwrap());
    assert_eq!(read(&cache, &wanted, &remote).unwrap(), bytes);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(!cache.strike_off(&described(b"never given").digest).unwrap());

    // `verify` finds all of it at once.
    let good = described(b"good");
    read(&cache, &good, &Remote::new(b"good")).unwrap();
    std::fs::write(&path, &wrong).unwrap();
    let dir = path.parent().unwrap();
    let hex = |n: u8| described(&[n]).digest.hex();
    std::os::unix::fs::symlink("/etc/passwd", dir.join(hex(1))).unwrap();
    std::fs::create_dir_all(dir.join(hex(2)).join("deep")).unwrap();
    make_fifo(&dir.join(hex(3)));
    std::fs::write(dir.join("a stranger"), "x").unwrap();
    let mut told = Vec::new();
    let damaged = cache.verify(&Cancel::default(), |_, good| told.push(good)).unwrap();
    assert_eq!((damaged.len(), told.iter().filter(|good| **good).count()), (4, 1));
    assert!(!path.exists() && blob_path(work.path(), &good).exists() && dir.join("a stranger").exists());
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2);
    assert!(cache.verify(&Cancel::default(), |_, _| ()).unwrap().is_empty());
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Nothing is read through what others put in the place of a blob, and none of it fails a download.
#[test]
fn hostile_contents_are_refused_and_do_not_fail_a_download() {
    let _alone = alone();
    let bytes = pattern(50_000);
    let wanted = described(&bytes);
    let symlink = |path: &Path| {
        let real = path.with_extension("real");
        std::fs::write(&real, pattern(50_000)).unwrap();
        std::os::unix::fs::symlink(real.file_name().unwrap(), path).unwrap();
    };
    #[allow(clippy::type_complexity, reason = "a table with one row a case")]
    let kinds: [(&str, &dyn Fn(&Path)); 3] =
        [("symlink", &symlink), ("fifo", &make_fifo), ("directory", &|path| std::fs::create_dir(path).unwrap())];
    for (what, make) in kinds {
        for place in [blob_path, partial_path] {
            let work = TempDir::new().unwrap();
            let cache = Cache::open(work.path()).unwrap();
            let path = place(work.path(), &wanted);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
            let refused = cache.blob(&wanted).map(drop).and_then(|()| cache.begin(&wanted).map(drop));
            let error = refused.expect_err(what);
            assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::Invalid | ErrorKind::Io), "{what}: {error}");
            assert_eq!(read(&cache, &wanted, &Remote::new(&bytes)).unwrap(), bytes, "{what}");
            assert!(cache.take_warning().is_some(), "{what}");
            assert_eq!(cache.take_warning(), None, "{what}: told once");
        }
    }
    // Directories that lead away are not followed.
    let (work, away) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for name in ["blobs", "partial"] {
        std::os::unix::fs::symlink(away.path(), work.path().join(name)).unwrap();
    }
    let cache = Cache::open(work.path()).unwrap();
    assert_eq!(read(&cache, &wanted, &Remote::new(&bytes)).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(away.path()).unwrap().count(), 0);
    assert!(cache.take_warning().is_some());
}

#[test]
fn a_full_disk_in_the_cache_fails_no_download() {
    let _alone = alone();
    let disk = small_filesystem(1 << 20);
    let cache = Cache::open(&disk.path().join("cache")).unwrap();
    let bytes = pattern(4 << 20);
    let wanted = described(&bytes);
    for round in 0..2 {
        assert_eq!(read(&cache, &wanted, &Remote::new(&bytes)).unwrap(), bytes, "{round}");
        assert_eq!(cache.take_warning().is_some(), round == 0);
        assert_eq!(cache.contents().unwrap().partials, [], "its space is given back");
    }
    // There is room for what is small.
    let small = described(b"small");
    read(&cache, &small, &Remote::new(b"small")).unwrap();
    assert!(cache.blob(&small).unwrap().is_some());
}

/// This test runs itself as eight processes of four threads each.
#[test]
fn many_processes_may_want_one_blob() {
    const WORK: &str = "HOLKAS_TEST_CACHE_RACE";
    let bytes = pattern(700_000);
    let wanted = described(&bytes);
    if let Some(path) = std::env::var_os(WORK) {
        let cache = Cache::open(Path::new(&path)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        assert_eq!(read(&cache, &wanted, &Remote::new(&bytes)).unwrap(), bytes);
                        cache.forget(&wanted.digest).unwrap();
                    }
                });
            }
        });
        assert_eq!(cache.take_warning(), None);
        return;
    }
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let children: Vec<_> = (0..8).map(|_| child("many_processes_may_want_one_blob", WORK, work.path())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let cache = Cache::open(work.path()).unwrap();
    assert_eq!(read(&cache, &wanted, &Remote::new(&bytes)).unwrap(), bytes);
    let contents = cache.contents().unwrap();
    assert_eq!((contents.blobs.len(), contents.partials.len()), (1, 0));
    assert!(cache.verify(&Cancel::default(), |_, _| ()).unwrap().is_empty());
}

fn child(test: &str, variable: &str, path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(variable, path).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// This test runs itself again, and that is killed while it fills the cache; then the next goes on.
#[test]
fn a_killed_run_is_gone_on_with() {
    const WORK: &str = "HOLKAS_TEST_CACHE_KILL";
    let bytes = pattern(3_000_000);
    let wanted = described(&bytes);
    if let Some(path) = std::env::var_os(WORK) {
        let cache = Cache::open(Path::new(&path)).unwrap();
        drop(read(&cache, &wanted, &Remote::new(&bytes)));
        std::process::exit(0);
    }
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let (mut killed, mut before, mut state) = (0, 0, 3_u64);
    let partial = partial_path(work.path(), &wanted);
    for _ in 0..200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = child("a_killed_run_is_gone_on_with", WORK, work.path());
        std::thread::sleep(std::time::Duration::from_micros((state >> 33) % 60_000));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal() == Some(9));
        if blob_path(work.path(), &wanted).exists() {
            assert_eq!(std::fs::read(blob_path(work.path(), &wanted)).unwrap(), bytes);
            std::fs::remove_file(blob_path(work.path(), &wanted)).unwrap();
            before = 0;
        }
        let there = std::fs::metadata(&partial).map_or(0, |found| found.len());
        assert!(there >= before, "{there} bytes are left of {before}");
        assert_eq!(std::fs::read(&partial).unwrap_or_default(), bytes[..usize::try_from(there).unwrap()]);
        before = there;
        if killed >= 10 && there > 0 {
            break;
        }
    }
    assert!(killed >= 10, "only {killed} were killed");
    assert!(before > 0, "none was killed while it wrote");
    let remote = Remote::new(&bytes);
    let cache = Cache::open(work.path()).unwrap();
    assert_eq!(read(&cache, &wanted, &remote).unwrap(), bytes);
    assert_eq!(remote.fetched(), 3_000_000 - before);
    assert_eq!(cache.contents().unwrap().partials, []);
}

#[test]
fn pruning_goes_from_old_to_new_and_spares_what_is_written() {
    let _alone = alone();
    let work = TempDir::new().unwrap();
    let cache = Cache::open(work.path()).unwrap();
    let blobs: Vec<_> = (1..=5_u8).map(|n| vec![n; 1000]).collect();
    let old = |n: usize, seconds: u64| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::open(blob_path(work.path(), &described(&blobs[n]))).unwrap().set_modified(time).unwrap();
    };
    for (n, bytes) in blobs.iter().enumerate() {
        read(&cache, &described(bytes), &Remote::new(bytes)).unwrap();
        old(n, 1000 - n as u64);
    }
    let left = || -> Vec<_> { (0..5).filter(|n| blob_path(work.path(), &described(&blobs[*n])).exists()).collect() };
    let removed = cache.prune(&Prune { used_before: Some(997), ..Prune::default() }).unwrap();
    assert_eq!((removed.blobs.len(), left()), (1, vec![0, 1, 2, 3]));
    // A hit counts as use.
    read(&cache, &described(&blobs[3]), &Remote::new(b"")).unwrap();
    let removed = cache.prune(&Prune { max_size: Some(2999), ..Prune::default() }).unwrap();
    assert_eq!(removed.blobs.iter().map(|blob| blob.used).collect::<Vec<_>>(), [998, 999]);
    assert_eq!(left(), [0, 3]);

    let (dead, alive) = (described(&pattern(9000)), described(&pattern(8000)));
    read(&cache, &dead, &Remote::new(&pattern(9000)).cut(1400)).unwrap_err();
    let blob = cache.open_blob(&alive, None, |from| Remote::new(&pattern(8000)).fetch(from)).unwrap();
    let mut reader = blob.verify(&alive);
    reader.read_exact(&mut [0; 100]).unwrap();
    let busy: Vec<_> = cache.contents().unwrap().partials.iter().map(|partial| (partial.size, partial.busy)).collect();
    assert!(busy.contains(&(1400, false)) && busy.contains(&(100, true)), "{busy:?}");
    let all = Prune { blobs: true, partials: true, ..Prune::default() };
    let removed = cache.prune(&all).unwrap();
    assert_eq!((removed.blobs.len(), removed.partials.len(), left()), (2, 1, vec![]));
    reader.finish().unwrap();
    assert!(cache.blob(&alive).unwrap().is_some());
}
