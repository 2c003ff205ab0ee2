//! Clients of the image proxy that err, die, dawdle or want too much: they are answered, and leave nothing behind.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use holkas_testkit::image::{BuiltImage, ImageBuilder, IndexBuilder, sha256_digest};
use holkas_testkit::oddities::pattern;
use holkas_testkit::registry::{Fault, Matcher, Registry};
use holkas_testkit::tar::TarBuilder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{Client, Failure, PACKET, eventually, proxy, read};
use crate::common::{finish, holkas};
use crate::docker;

const METHODS: [&str; 11] = [
    "OpenImage",
    "OpenImageOptional",
    "CloseImage",
    "GetManifest",
    "GetConfig",
    "GetFullConfig",
    "GetBlob",
    "GetRawBlob",
    "GetLayerInfo",
    "GetLayerInfoPiped",
    "FinishPipe",
];

/// An image with one layer that no pipe holds, in a directory.
fn large(dir: &std::path::Path) -> (BuiltImage, String) {
    let image = ImageBuilder::oci().layer(TarBuilder::new().file("large", 0o644, pattern(8 << 20)).finish()).build();
    image.write_dir(dir.join("large"));
    (image, format!("dir:{}", dir.join("large").display()))
}

/// Begins to take the layer of an image.
fn begin(client: &Client, id: u64, image: &BuiltImage) -> Result<(u64, OwnedFd), Failure> {
    let layer = &image.layers[0];
    client.pipe("GetBlob", json!([id, layer.digest, layer.size])).map(|(_, pipe, fd)| (pipe, fd))
}

/// The server is as it was in the beginning: no more threads than its three, and nothing more open.
#[track_caller]
fn at_rest(client: &Client) {
    eventually("all threads have ended", || client.threads() <= 3);
    let held = |all: &[String]| all.iter().filter(|path| path.starts_with("pipe:") || path.contains("deleted")).count();
    eventually("all pipes are closed", || held(&client.descriptors()) == held(&client.idle));
}

#[test]
fn requests_that_are_none_are_answered() {
    let temp = tempfile::tempdir().unwrap();
    let (image, reference) = large(temp.path());
    let client = Client::start(&[]);
    let id = client.open(&reference);
    let errs = |packet: &[u8]| {
        client.send(packet);
        let reply = client.receive();
        assert_eq!((&reply.reply["success"], &reply.reply["error_code"]), (&json!(false), &json!("other")));
        assert!(reply.fds.is_empty());
        reply.reply["error"].as_str().unwrap().to_string()
    };
    // Of 40 KB, of one byte too many, of none, of nonsense, of 20,000 levels.
    assert!(errs(&vec![b' '; 40_000]).contains("more than 32768 bytes"));
    assert!(errs(&[b'['; PACKET + 1]).contains("more than 32768 bytes"));
    errs(b"");
    for nonsense in [&b"\0"[..], b"null", b"{", b"\xff\xfe", b"{\"method\":\"Initialize\"}x", b"\xef\xbb\xbf{}"] {
        assert!(errs(nonsense).contains("invalid request"), "{nonsense:?}");
    }
    errs(&[b'['; 20_000]);
    errs(format!("{{\"method\":\"{}\"}}", "M".repeat(PACKET - 20)).as_bytes());
    let request = json!({"method": "OpenImage", "args": [format!("dir:/{}", "\u{1}".repeat(5_000))]}).to_string();
    assert!(request.len() <= PACKET && errs(request.as_bytes()).len() < PACKET);
    // None, too many, and wrong arguments for every method.
    for method in METHODS {
        for arguments in
            [json!(null), json!([]), json!([1, 2, 3, 4]), json!([null]), json!([{}]), json!([[1]]), json!({"0": 1})]
        {
            errs(json!({"method": method, "args": arguments}).to_string().as_bytes());
        }
        errs(json!({"method": method}).to_string().as_bytes());
    }
    for method in &METHODS[2..] {
        for number in [
            json!(0),
            json!(id + 1),
            json!(-1),
            json!(1.5),
            json!(9_007_199_254_740_992_u64),
            json!(u64::MAX),
            json!("1"),
        ] {
            let blob = [json!(image.layers[0].digest), json!(1)];
            let more = match *method {
                "GetBlob" => &blob[..],
                "GetRawBlob" => &blob[..1],
                _ => &[],
            };
            let arguments: Vec<Value> = [number].iter().chain(more).cloned().collect();
            errs(json!({"method": method, "args": arguments}).to_string().as_bytes());
        }
    }
    // Digests that are paths, of unknown algorithms, or too short.
    for digest in
        ["../../../etc/passwd", "sha256:../../etc/passwd", "/etc/passwd", "md5:x", "sha256:abc", "", "sha256:"]
    {
        errs(json!({"method": "GetBlob", "args": [id, digest, 5]}).to_string().as_bytes());
        errs(json!({"method": "GetRawBlob", "args": [id, digest]}).to_string().as_bytes());
    }
    for size in [json!(-2), json!("5"), json!(null), json!(1e99)] {
        errs(json!({"method": "GetBlob", "args": [id, image.layers[0].digest, size]}).to_string().as_bytes());
    }
    // Descriptors that nobody asked for are closed.
    let file = File::open("/dev/null").unwrap();
    for _ in 0..100 {
        client.send_with(b"{\"method\":\"Nothing\"}", &[file.as_fd(), file.as_fd()]);
        client.receive();
    }
    let held = |all: &[String]| all.iter().filter(|path| *path == "/dev/null").count();
    assert_eq!(held(&client.descriptors()), held(&client.idle));
    at_rest(&client);
    let layer = &image.layers[0];
    assert!(client.blob(id, &layer.digest, layer.size).unwrap() == layer.blob);
    client.shutdown();
}

#[test]
fn pipes_are_finished_once() {
    let temp = tempfile::tempdir().unwrap();
    let (image, reference) = large(temp.path());
    let client = Client::start(&[]);
    let id = client.open(&reference);
    let (pipe, fd) = begin(&client, id, &image).unwrap();
    let reader = std::thread::spawn(move || read(fd));
    client.finish(pipe).unwrap();
    assert!(reader.join().unwrap() == image.layers[0].blob);
    for gone in [pipe, pipe + 1, u64::from(u32::MAX), (1 << 32) + pipe] {
        let Failure(code, error) = client.finish(gone).unwrap_err();
        assert!(code == "other" && error.contains("no pipe"), "{code}: {error}");
    }
    client.shutdown();
}

#[test]
fn who_closes_early_is_told_so_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (image, reference) = large(temp.path());
    let client = Client::start(&[]);
    let id = client.open(&reference);
    for _ in 0..300 {
        let (pipe, fd) = begin(&client, id, &image).unwrap();
        drop(fd);
        assert_eq!(client.finish(pipe).unwrap_err().0, "EPIPE");
    }
    for _ in 0..300 {
        let mut reply = client.call("GetRawBlob", json!([id, image.layers[0].digest]));
        // The data is closed, and what failed is read.
        drop(reply.fds.remove(0));
        let failed: Value = serde_json::from_slice(&read(reply.fds.remove(0))).unwrap();
        assert_eq!(failed["code"], "EPIPE");
    }
    at_rest(&client);
    // Neither read nor finished, and closed: there is always room for more.
    for _ in 0..3_000 {
        drop(begin(&client, id, &image).unwrap());
        drop(client.call("GetRawBlob", json!([id, image.layers[0].digest])).fds);
        drop(client.pipe("GetManifest", json!([id])).unwrap());
    }
    client.plain("CloseImage", json!([id])).unwrap();
    let id = client.open(&reference);
    drop(client.pipe("GetManifest", json!([id])).unwrap());
    eventually("all threads have ended", || client.threads() <= 3);
    client.shutdown();
}

#[test]
fn who_never_reads_costs_no_more_than_pipes() {
    let temp = tempfile::tempdir().unwrap();
    let (image, reference) = large(temp.path());
    let client = Client::start(&[]);
    let id = client.open(&reference);
    let mut held = Vec::new();
    let failure = loop {
        match begin(&client, id, &image) {
            Ok(begun) => held.push(begun),
            Err(failure) => break failure,
        }
    };
    assert_eq!(held.len(), 128);
    assert!(failure.0 == "other" && failure.1.contains("finish some first"), "{failure:?}");
    assert!(client.memory() < 64 << 10, "{} KiB", client.memory());
    // One that is read makes room for one.
    let (pipe, fd) = held.pop().unwrap();
    let reader = std::thread::spawn(move || read(fd));
    client.finish(pipe).unwrap();
    assert!(reader.join().unwrap() == image.layers[0].blob);
    held.push(begin(&client, id, &image).unwrap());
    assert!(begin(&client, id, &image).is_err());
    // The end comes at once, whatever still waits to be read.
    client.shutdown();
}

#[test]
fn the_end_comes_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let (image, reference) = large(temp.path());
    // While the server waits in FinishPipe for somebody who does not read, and who outlives the client.
    let client = Client::start(&[]);
    let id = client.open(&reference);
    let (pipe, _unread) = begin(&client, id, &image).unwrap();
    client.send(json!({"method": "FinishPipe", "args": [pipe]}).to_string().as_bytes());
    rustix::net::shutdown(&client, rustix::net::Shutdown::Both).unwrap();
    let (status, said) = client.wait();
    assert!(status.success() && said.is_empty(), "{status}: {said}");
    // While it waits for a registry that says nothing.
    let registry = Registry::start();
    registry.put_image(&docker(), "a/b", "1");
    registry.on(Matcher::get("/v2/a/b/manifests/*"), Fault::Stall(0));
    let client = Client::start(&["--tls-verify=false"]);
    client.send(json!({"method": "OpenImage", "args": [registry.reference("a/b:1")]}).to_string().as_bytes());
    eventually("it asks", || !registry.requests("GET", "/manifests/").is_empty());
    rustix::net::shutdown(&client, rustix::net::Shutdown::Both).unwrap();
    let (status, _) = client.wait();
    assert!(status.success(), "{status}");
    // By a signal, as clients send it that die: quietly.
    for signal in [Signal::TERM, Signal::INT] {
        let client = Client::start(&[]);
        let id = client.open(&reference);
        let _unread = begin(&client, id, &image).unwrap();
        kill_process(Pid::from_child(&client.child), signal).unwrap();
        let (status, said) = client.wait();
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }
}

#[test]
fn a_thousand_images_and_ten_thousand_requests() {
    let temp = tempfile::tempdir().unwrap();
    docker().write_dir(temp.path().join("docker"));
    docker().write_oci(temp.path().join("layout"), Some("1"));
    docker().write_oci_archive(temp.path().join("layout.tar"), Some("1"));
    let dir = temp.path().display();
    let references =
        [format!("dir:{dir}/docker"), format!("oci:{dir}/layout:1"), format!("oci-archive:{dir}/layout.tar")];
    let client = Client::start(&[]);
    let ids: Vec<u64> = (0..1_000).map(|n| client.open(&references[n % references.len()])).collect();
    let (_, manifest) = client.piped("GetManifest", json!([ids[0]])).unwrap();
    let layer = &docker().layers[0];
    for n in 0..2_500 {
        let id = ids[n * 7 % ids.len()];
        let (_, again) = client.piped("GetManifest", json!([id])).unwrap();
        assert_eq!(again, manifest);
        assert!(client.blob(id, &layer.digest, layer.size).unwrap() == layer.blob);
    }
    assert!(client.memory() < 48 << 10, "{} KiB", client.memory());
    assert!(client.descriptors().len() < 64, "{:?}", client.descriptors());
    at_rest(&client);
    for id in ids {
        client.plain("CloseImage", json!([id])).unwrap();
    }
    let id = client.open(&references[0]);
    assert_eq!(id, 1_001);
    client.shutdown();
}

#[test]
fn there_is_an_end_to_open_images_and_their_documents() {
    let temp = tempfile::tempdir().unwrap();
    // Manifests of four megabytes, less what else is in them.
    let filler = "x".repeat((4 << 20) - 2_000);
    let large = ImageBuilder::oci().layer(TarBuilder::new().finish()).annotation("filler", &filler).build();
    large.write_dir(temp.path().join("dir"));
    let client = Client::start(&["--override-arch=amd64"]);
    let reference = format!("dir:{}", temp.path().join("dir").display());
    let mut open = Vec::new();
    let failure = loop {
        match client.plain("OpenImage", json!([reference])) {
            Ok(id) => open.push(id),
            Err(failure) => break failure,
        }
    };
    assert!((10..32).contains(&open.len()), "{}", open.len());
    assert!(failure.0 == "other" && failure.1.contains("close some first"), "{failure:?}");
    client.plain("CloseImage", json!([open.pop()])).unwrap();
    open.push(client.plain("OpenImage", json!([reference])).unwrap());
    for id in open {
        client.plain("CloseImage", json!([id])).unwrap();
    }
    // Configs, too, of which only so many are kept, and the others read again.
    let filler = "x".repeat((4 << 20) - 2_000);
    let image = ImageBuilder::docker().layer(TarBuilder::new().finish()).label("filler", &filler).build();
    image.write_dir(temp.path().join("docker"));
    let reference = format!("dir:{}", temp.path().join("docker").display());
    let open: Vec<_> = (0..40).map(|_| client.open(&reference)).collect();
    for id in open.iter().chain(&open) {
        let (_, config) = client.piped("GetFullConfig", json!([id])).unwrap();
        let digest = sha256_digest(&config);
        assert_eq!(client.blob(*id, &digest, config.len() as u64).unwrap().len(), config.len());
        let wrong = client.blob(*id, &digest, 7).map(|bytes| bytes.len()).unwrap_err();
        assert!(wrong.1.contains("expected 7 bytes in blob"), "{wrong:?}");
    }
    assert!(client.memory() < 256 << 10, "{} KiB", client.memory());
    // And what is chosen from small lists.
    let list = IndexBuilder::oci().image(&large).build();
    list.write_dir(temp.path().join("list"));
    let open: Vec<_> = (0..40).map(|_| client.open(&format!("dir:{}", temp.path().join("list").display()))).collect();
    let given = open.iter().filter(|id| client.piped("GetManifest", json!([id])).is_ok()).count();
    assert!((10..32).contains(&given), "{given}");
    client.shutdown();
}

#[test]
fn answers_fit_into_packets() {
    let temp = tempfile::tempdir().unwrap();
    let image = (0..300).fold(ImageBuilder::oci(), |image, n| {
        image.layer(TarBuilder::new().file(format!("f{n}"), 0o644, "x").finish())
    });
    let image = image.build();
    image.write_dir(temp.path().join("dir"));
    let client = Client::start(&[]);
    let id = client.open(&format!("dir:{}", temp.path().join("dir").display()));
    let Failure(code, error) = client.plain("GetLayerInfo", json!([id])).unwrap_err();
    assert!(code == "other" && error.contains("ask for it piped"), "{code}: {error}");
    let (_, layers) = client.piped("GetLayerInfoPiped", json!([id])).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&layers).unwrap().as_array().unwrap().len(), 300);
    let long = format!("dir:/{}", "ä".repeat(12_000));
    let Failure(_, error) = client.plain("OpenImage", json!([long])).unwrap_err();
    assert!(error.len() < 17 << 10 && error.contains("bytes in all"), "{}", error.len());
    client.shutdown();
}

#[test]
fn what_is_no_socket_of_packets_is_refused() {
    let null = || Stdio::from(File::open("/dev/null").unwrap());
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for (stdin, flags, message) in [
        (null(), &[][..], "taking over standard input: it is no socket"),
        (Stdio::from(OwnedFd::from(stream)), &[], "SOCK_SEQPACKET"),
        (null(), &["--sockfd", "1"], "taking over descriptor 1"),
        (null(), &["--sockfd", "99"], "taking over descriptor 99"),
    ] {
        let output = finish(holkas().arg("proxy").args(flags).stdin(stdin));
        assert_eq!((output.code, output.out.as_str()), (1, ""), "{}", output.err);
        assert!(
            output.err.replace("\n  caused by", "").contains(message) && output.err.contains("hint: "),
            "{}",
            output.err
        );
    }
}

#[test]
fn what_is_wrong_around_is_told_to_the_client() {
    let temp = tempfile::tempdir().unwrap();
    let conf = temp.path().join("registries.conf");
    fs::write(&conf, "this is no TOML").unwrap();
    let (_, reference) = large(temp.path());
    let mut command = proxy();
    command.env("CONTAINERS_REGISTRIES_CONF", &conf);
    let client = Client::initialized(command);
    client.open(&reference);
    let Failure(_, error) = client.plain("OpenImage", json!(["docker://localhost/x:1"])).unwrap_err();
    assert!(error.contains("registries.conf"), "{error}");
    assert!(client.pipe("GetBlob", json!([1, sha256_digest("none"), 4])).is_err());
    client.shutdown();
}
