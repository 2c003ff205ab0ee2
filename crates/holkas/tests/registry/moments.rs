//! Bad moments: connections that break, stall or drip, servers that are busy. Patience has bounds.

use std::time::{Duration, Instant};

use holkas::ErrorKind;
use holkas::copy::MultiArch;
use holkas::progress::Cancel;
use holkas_testkit::registry::{Fault, Matcher, Registry};

use super::common::{copy_by, fails, fetch, image, settings, temp, with_warnings};

fn registry() -> Registry {
    let registry = Registry::start();
    registry.put_image(&image(), "app", "1");
    registry
}

fn layer() -> String {
    format!("*/blobs/{}", image().layers[0].digest.clone())
}

#[test]
fn a_broken_blob_goes_on_where_it_broke() {
    let size = image().layers[0].blob.len() as u64;
    for fault in [Fault::Truncate(size / 2), Fault::Stall(size / 2)] {
        let registry = registry();
        registry.on(Matcher::get(&layer()).first(1), fault);
        let (settings, warnings) = with_warnings(settings());
        fetch(settings, &registry.reference("app:1"), &image()).unwrap();
        let asked = registry.requests("GET", &image().layers[0].digest);
        assert_eq!(asked.len(), 2);
        let range = asked[1].header("Range").expect("the rest was asked for");
        assert_eq!(range, format!("bytes={}-", size / 2), "{}", warnings.text());
        assert!(warnings.text().contains("trying again"), "{}", warnings.text());
    }
}

#[test]
fn a_registry_that_ignores_the_range_is_read_over() {
    let size = image().layers[0].blob.len() as u64;
    let registry = registry();
    registry.on(Matcher::get(&layer()).first(1), Fault::Truncate(size / 2));
    registry.on(Matcher::get(&layer()).after(1), Fault::IgnoreRange);
    fetch(settings(), &registry.reference("app:1"), &image()).unwrap();

    registry.clear_faults();
    registry.on(Matcher::get(&layer()).first(1), Fault::Truncate(size / 2));
    registry
        .on(Matcher::get(&layer()).after(1), Fault::header("Content-Range", format!("bytes 0-{}/{size}", size - 1)));
    let error = fails(settings(), &registry.reference("app:1"));
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[test]
fn each_break_that_brings_some_bytes_is_forgiven() {
    let registry = registry();
    registry.on(Matcher::get(&layer()).first(12), Fault::Truncate(20_000));
    fetch(settings(), &registry.reference("app:1"), &image()).unwrap();
    assert_eq!(registry.requests("GET", &image().layers[0].digest).len(), 13);
}

#[test]
fn a_drip_is_a_stall() {
    let registry = registry();
    registry.on(Matcher::get(&layer()), Fault::Drip(Duration::from_millis(100)));
    let began = Instant::now();
    let error = fails(settings(), &registry.reference("app:1"));
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn busy_servers_are_asked_again_but_not_for_ever() {
    for (fault, kind) in [
        (Fault::too_many_requests("0"), ErrorKind::Busy),
        (Fault::too_many_requests("1000000000"), ErrorKind::Busy),
        (Fault::too_many_requests("Fri, 31 Dec 9999 23:59:59 GMT"), ErrorKind::Busy),
        (Fault::status(500), ErrorKind::Server),
        (Fault::status(503), ErrorKind::Network),
        (Fault::Close, ErrorKind::Network),
    ] {
        for pattern in ["*/manifests/*", "*/blobs/*"] {
            let registry = registry();
            registry.on(Matcher::get(pattern).first(2), fault.clone());
            let began = Instant::now();
            fetch(settings(), &registry.reference("app:1"), &image()).unwrap();
            assert!(began.elapsed() < Duration::from_secs(10), "{fault:?}");
            registry.clear_faults();
            registry.reset_log();
            registry.on(Matcher::get(pattern), fault.clone());
            let error = fails(settings(), &registry.reference("app:1"));
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            // Once and two repetitions; what a request was given up for is not begun anew by what reads the blob.
            assert_eq!(registry.requests("GET", pattern.trim_matches('*')).len(), 3, "{fault:?}");
        }
    }
}

#[test]
fn a_registry_that_is_not_there_is_told_at_once() {
    let registry = registry();
    let reference = registry.reference("app:1");
    registry.stop_listening();
    let error = fails(settings(), &reference);
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn uploads_go_on_or_begin_anew() {
    let dir = temp();
    image().write_dir(dir.path());
    let source = format!("dir:{}", dir.path().display());
    let size = image().layers[0].blob.len() as u64;
    for fault in [Fault::BreakUpload(size / 2), Fault::BreakUpload(0), Fault::status(503)] {
        let registry = Registry::start();
        registry.on(Matcher::patch("*/blobs/uploads/*").first(1), fault.clone());
        copy_by(settings(), &source, &registry.reference("app:1"), MultiArch::System).unwrap();
        assert_eq!(registry.digest("app", "1"), Some(image().digest()), "{fault:?}");
        assert_eq!(registry.blob("app", &image().layers[0].digest).unwrap().len() as u64, size);
    }
    let registry = Registry::start();
    registry.on(Matcher::patch("*/blobs/uploads/*").first(1), Fault::BreakUpload(100));
    registry.on(Matcher::get("*/blobs/uploads/*").first(1), Fault::ForgetUploads);
    copy_by(settings(), &source, &registry.reference("app:1"), MultiArch::System).unwrap();
    assert_eq!(registry.digest("app", "1"), Some(image().digest()));
}

#[test]
fn a_cancelled_run_ends_at_once_whatever_it_waits_for() {
    for (pattern, fault) in
        [("*/blobs/*", Fault::Stall(10)), ("*/manifests/*", Fault::Stall(0)), ("/v2/", Fault::Stall(0))]
    {
        let registry = registry();
        registry.on(Matcher::get(pattern), fault);
        let mut settings = settings();
        settings.timeouts.idle = Duration::from_secs(600);
        settings.timeouts.first_byte = Duration::from_secs(600);
        let cancel = Cancel::default();
        settings.cancel = cancel.clone();
        let reference = registry.reference("app:1");
        let began = Instant::now();
        let error = std::thread::scope(|scope| {
            let run = scope.spawn(|| fails(settings, &reference));
            while registry.requests("GET", pattern.trim_matches('*')).is_empty() {
                std::thread::yield_now();
            }
            cancel.cancel();
            run.join().unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
