//! The protocol: packets of all sizes, calls that make no sense, osbuilds of all ages, and the end.

use std::os::fd::AsFd;

use holkas_testkit::image::sha256_digest;
use holkas_testkit::osbuild::{Answer, Carrier, memory_file};
use holkas_testkit::registry::{Fault, Matcher, Registry};
use serde_json::{Map, Value, json};

use crate::scene::{SKOPEO, all_cached, app, error_of, fetched, host, item, large_app};
use crate::sharing::wait_until;

#[test]
fn messages_of_megabytes_go_by_file_both_ways() {
    let host = host();
    let limit: usize = std::fs::read_to_string("/proc/sys/net/core/wmem_max").unwrap().trim().parse().unwrap();
    // Each is refused with an error of some hundred bytes.
    let count = limit / 200 + 1000;
    let items: Map<String, Value> =
        (0..count).map(|n| (sha256_digest(n.to_string()), json!({"image": {"name": "x".repeat(150)}}))).collect();
    let keys: Vec<String> = items.keys().cloned().collect();
    let args = host.download_args(items.into());
    assert!(args.to_string().len() > limit);
    let service = host.source(SKOPEO);
    service.send("download", args, &[]);
    let (answer, carrier) = service.answer().unwrap();
    assert_eq!(carrier, Carrier::File);
    let answer = answer.reply();
    assert_eq!(answer["results"].as_array().unwrap().len(), count);
    for (n, key) in keys.iter().enumerate().step_by(977) {
        assert_eq!(answer["results"][n]["metadata"]["checksum"], *key, "the order is that of the items");
    }
    // And a small one behind it, in the same process.
    service.send("download", host.download_args(json!({})), &[]);
    let (answer, carrier) = service.answer().unwrap();
    assert_eq!((answer.reply()["success"].clone(), carrier), (json!(true), Carrier::Packet));
    assert!(service.close().status.success());
}

#[test]
fn calls_that_make_no_sense_are_exceptions_and_the_next_one_is_answered() {
    let host = host();
    let service = host.source(SKOPEO);
    for bytes in [&b"no JSON"[..], b"{}", b"[]", br#"{"type":"method","data":{}}"#, b"<args-via-fd>", b"\xff"] {
        service.send_raw(bytes);
        let Some((Answer::Exception(name, value, backtrace), _)) = service.answer() else { panic!("an exception") };
        assert!(!name.is_empty() && !value.is_empty() && backtrace.starts_with("error: "), "{value}");
    }
    let (reader, _writer) = std::io::pipe().unwrap();
    let said = service.call_with("download", json!({ "cache": host.cache() }), &[reader.as_fd()]).exception();
    assert!(said.contains("it is no regular file"), "a pipe would never end: {said}");
    let said = service.call("frobnicate", json!({})).exception();
    assert!(said.contains("Unknown method frobnicate"), "{said}");
    let said = service.call("download", json!({ "items": {} })).exception();
    assert!(said.contains("`cache` is missing"), "{said}");
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", service.id())).unwrap().count();
    let before = descriptors();
    for _ in 0..10 {
        let files: Vec<_> = (0..250).map(|_| memory_file(b"{}")).collect();
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        assert_eq!(service.call_with("download", host.download_args(json!({})), &fds).reply()["success"], true);
    }
    assert_eq!(descriptors(), before, "descriptors that nobody takes are closed");
    let ended = service.close();
    assert!(ended.status.success());
    assert!(ended.output.contains("error: ") && ended.output.contains("Unknown method"), "{}", ended.output);
}

#[test]
fn older_osbuilds_get_what_they_understand() {
    let (host, registry, image) = (host(), Registry::start(), app("old"));
    registry.put_image(&image, "app", "1");
    let good: Value = [item(&registry, "app", &image)].into_iter().collect();
    let bad = json!({ sha256_digest("x"): {} });
    // Before 129 the items are in a file.
    let args = json!({ "options": {}, "cache": host.cache(), "output": null, "checksums": [], "libdir": "/x" });
    let call = |items: &Value| {
        let file = memory_file(items.to_string().as_bytes());
        host.source(SKOPEO).call_with("download", args.clone(), &[file.as_fd()])
    };
    fetched(&call(&good).reply(), 1);
    assert!(call(&bad).exception().contains("`image` is missing"));
    // Until 185 answers are not read. The version is the package's that PYTHONPATH names.
    let python = tempfile::tempdir().unwrap();
    std::fs::create_dir(python.path().join("osbuild")).unwrap();
    let host = host.environment("PYTHONPATH", python.path());
    for (version, raises) in [("185", true), ("186", false), ("190", false)] {
        let text = format!("\"\"\"OSBuild\"\"\"\nfrom . import x\n\n__version__ = \"{version}\"\n");
        std::fs::write(python.path().join("osbuild/__init__.py"), text).unwrap();
        all_cached(&host.download(SKOPEO, good.clone()));
        let answer = host.source(SKOPEO).call("download", host.download_args(bad.clone()));
        match raises {
            true => assert!(answer.exception().contains("`image` is missing")),
            false => assert!(error_of(&answer.reply(), 0).contains("`image` is missing")),
        }
    }
}

#[test]
fn signals_do_not_end_a_service_but_the_socket_does_at_any_time() {
    let (host, registry, image) = (host(), Registry::start(), large_app("stalled", 1 << 20));
    registry.put_image(&image, "app", "1");
    let blob = format!("/v2/app/blobs/{}", image.layers[0].digest);
    registry.on(Matcher::get(&blob), Fault::Stall(1000));
    let service = host.source(SKOPEO);
    let pid = rustix::process::Pid::from_raw(service.id() as i32).unwrap();
    // It answers, so that it is past what it does at its beginning.
    all_cached(&service.call("download", host.download_args(json!({}))).reply());
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    all_cached(&service.call("download", host.download_args(json!({}))).reply());
    let items: Value = [item(&registry, "app", &image)].into_iter().collect();
    service.send("download", host.download_args(items), &[]);
    wait_until(|| !registry.requests("GET", &blob).is_empty());
    let begun = std::time::Instant::now();
    service.close();
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "osbuild waits for it");
    assert!(!host.image(&image.config_digest()).parent().unwrap().exists());
}

#[test]
fn modules_that_are_not_started_by_osbuild_say_so() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("sources")).unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let module = temp.path().join("sources").join(name);
        let _already = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_holkas"), &module);
        let output = std::process::Command::new(module).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(SKOPEO, &[]).contains("this is a module of osbuild"));
    assert!(run(SKOPEO, &["--service-fd", "1"]).contains("it is no socket"));
    assert!(run(SKOPEO, &["--service-fd=777"]).contains("taking over descriptor 777"));
    assert!(run("org.osbuild.curl", &[]).contains("holkas is no source `org.osbuild.curl`"));
}
