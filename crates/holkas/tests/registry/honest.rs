//! What goes well: every kind of image there and back, mirrors, mounts, static files.

use holkas::copy::MultiArch;
use holkas_testkit::image::{ImageBuilder, IndexBuilder};
use holkas_testkit::registry::{Fault, FileType, Matcher, Registry, StaticRegistry};
use holkas_testkit::tar::TarBuilder;

use super::common::{configured, copy_by, fetch, image, settings, temp, with_warnings};

#[test]
fn all_kinds_of_images_come_and_go_unchanged() {
    let (from, to) = (Registry::start(), Registry::start());
    let layer = |text: &str| TarBuilder::new().file("file", 0o644, text).finish();
    let docker = |name: &str| ImageBuilder::docker().architecture(name).layer(layer(name)).build();
    let oci = |name: &str| ImageBuilder::oci().architecture(name).layer(layer(name)).build();
    let inner = IndexBuilder::oci().image(&oci("arm64")).build();
    let index = IndexBuilder::oci().image(&oci("amd64")).index(&inner).attestation(&oci("amd64")).build();
    let list = IndexBuilder::docker().image(&docker("amd64")).image(&docker("arm64")).build();
    for (repository, digest) in [
        ("zstd", from.put_image(&image(), "zstd", "1")),
        ("schema2", from.put_image(&docker("amd64"), "schema2", "1")),
        ("index", from.put_index(&index, "index", "1")),
        ("list", from.put_index(&list, "list", "1")),
    ] {
        let source = from.reference(&format!("{repository}:1"));
        let (dir, layout) = (temp(), temp());
        let by_dir = format!("dir:{}", dir.path().join("d").display());
        let by_oci = format!("oci:{}:1", layout.path().join("o").display());
        copy_by(settings(), &source, &by_dir, MultiArch::All).unwrap();
        copy_by(settings(), &by_dir, &to.reference(&format!("by/dir/{repository}:1")), MultiArch::All).unwrap();
        copy_by(settings(), &source, &to.reference(&format!("straight/{repository}:1")), MultiArch::All).unwrap();
        if repository != "schema2" && repository != "list" {
            copy_by(settings(), &source, &by_oci, MultiArch::All).unwrap();
            copy_by(settings(), &by_oci, &to.reference(&format!("by/oci/{repository}:1")), MultiArch::All).unwrap();
            assert_eq!(to.digest(&format!("by/oci/{repository}"), "1"), Some(digest.clone()));
        }
        for way in ["by/dir", "straight"] {
            let there = format!("{way}/{repository}");
            assert_eq!(to.digest(&there, "1"), Some(digest.clone()), "{there}");
            assert_eq!(to.blobs(&there), from.blobs(repository), "{there}");
            assert_eq!(to.manifests(&there), from.manifests(repository), "{there}");
        }
    }
    assert_eq!(to.open_uploads(), 0);
}

#[test]
fn an_image_by_its_digest_is_put_without_a_tag() {
    let registry = Registry::start();
    let digest = registry.put_image(&image(), "app", "1");
    let source = registry.reference(&format!("app@{digest}"));
    fetch(settings(), &source, &image()).unwrap();
    copy_by(settings(), &source, &registry.reference("other@@unknown-digest@@"), MultiArch::System).unwrap();
    assert_eq!(registry.tags("other"), [""; 0]);
    assert!(registry.manifest("other", &digest).is_some());
    let wrong = format!("other@sha256:{}", "0".repeat(64));
    let error = copy_by(settings(), &source, &registry.reference(&wrong), MultiArch::System).unwrap_err();
    assert!(error.to_string().contains("would not match destination reference"), "{error}");
}

#[test]
fn blobs_of_the_same_registry_are_mounted_and_not_moved() {
    let registry = Registry::start();
    registry.put_image(&image(), "app", "1");
    registry.reset_log();
    copy_by(settings(), &registry.reference("app:1"), &registry.reference("copy:1"), MultiArch::System).unwrap();
    // The config alone is read and written: it is small.
    assert_eq!(registry.requests("PATCH", "/blobs/").len(), 0);
    assert_eq!(registry.requests("PUT", "/blobs/").len(), 1);
    assert_eq!(registry.requests("GET", "/blobs/sha256").len(), 1);

    registry.on(Matcher::post("*mount=*"), Fault::RefuseMount);
    copy_by(settings(), &registry.reference("app:1"), &registry.reference("again:1"), MultiArch::System).unwrap();
    assert_eq!(registry.digest("again", "1"), registry.digest("app", "1"));
    assert_eq!(registry.open_uploads(), 0, "the upload that the mount began was used");
}

#[test]
fn a_registry_that_is_only_files_over_http_1_0() {
    let registry = Registry::start();
    let digest = registry.put_image(&image(), "app", "1");
    let dir = temp();
    registry.write_static(dir.path());
    for file_type in [FileType::OctetStream, FileType::Guessed] {
        let files = StaticRegistry::start_with(dir.path(), file_type);
        fetch(settings(), &files.reference("app:1"), &image()).unwrap();
        fetch(settings(), &files.reference(&format!("app@{digest}")), &image()).unwrap();
        let error = super::common::fails(settings(), &files.reference("none:1"));
        assert_eq!(error.kind(), holkas::ErrorKind::NotFound, "{error}");
    }
}

/// A registries.conf with mirrors of `primary`.
fn mirrored(primary: &Registry, mirrors: &[&Registry]) -> String {
    let mut conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", primary.host());
    for mirror in mirrors {
        conf += &format!("[[registry.mirror]]\nlocation = \"{}/mirrored\"\ninsecure = true\n", mirror.host());
    }
    conf
}

#[test]
fn mirrors_are_asked_first_and_lies_and_stalls_are_mended() {
    let (primary, liar, lame) = (Registry::start(), Registry::start(), Registry::start());
    for (registry, repository) in [(&primary, "app"), (&liar, "mirrored/app"), (&lame, "mirrored/app")] {
        registry.put_image(&image(), repository, "1");
    }
    liar.on(Matcher::get("*/blobs/*"), Fault::FlipByte(7));
    lame.on(Matcher::get("*/blobs/*"), Fault::Stall(100));
    for mirrors in [[&liar, &lame], [&lame, &liar]] {
        let (settings, warnings) = with_warnings(configured(&mirrored(&primary, &mirrors)));
        fetch(settings, &primary.reference("app:1"), &image()).unwrap();
        let told = warnings.text();
        assert!(told.contains("stalled") && told.contains(lame.host()), "{told}");
    }
    assert_eq!(primary.requests("GET", "/manifests/").len(), 0, "the first mirror had it");
    assert!(!primary.requests("GET", "/blobs/").is_empty());
}

#[test]
fn a_mirror_without_the_blob_or_the_image_is_passed_over() {
    let (primary, mirror) = (Registry::start(), Registry::start());
    primary.put_image(&image(), "app", "1");
    primary.put_image(&image(), "other", "1");
    mirror.put_image(&image(), "mirrored/app", "1");
    mirror.remove_blob("mirrored/app", &image().layers[0].digest);
    let conf = mirrored(&primary, &[&mirror]);
    let (settings, warnings) = with_warnings(configured(&conf));
    fetch(settings.clone(), &primary.reference("app:1"), &image()).unwrap();
    assert_eq!(primary.requests("GET", "/blobs/").len(), 1, "only the blob that the mirror lacks");
    fetch(settings.clone(), &primary.reference("other:1"), &image()).unwrap();
    assert!(warnings.text().contains("asking the next place"), "{}", warnings.text());
    mirror.reset_log();
    fetch(holkas::registry::Settings { mirrors: false, ..settings }, &primary.reference("app:1"), &image()).unwrap();
    assert_eq!(mirror.log().len(), 0);
}

#[test]
fn the_log_of_a_pull_has_nothing_that_is_not_needed() {
    let registry = Registry::start();
    registry.put_image(&image(), "app", "1");
    fetch(settings(), &registry.reference("app:1"), &image()).unwrap();
    let kinds: Vec<String> = registry
        .log()
        .iter()
        .map(|one| format!("{} {}", one.method, one.path().split('/').nth(3).unwrap_or("")))
        .collect();
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((kinds.len(), count("GET "), count("GET manifests"), count("GET blobs")), (5, 1, 1, 3), "{kinds:?}");
}

/// Starts a proxy that tunnels to `target`, whatever name it is asked for, and returns its address.
fn tunnel(target: &str, asked: &std::sync::Arc<std::sync::Mutex<Vec<String>>>) -> String {
    use std::io::{BufRead, BufReader, Write, copy};
    use std::net::{Shutdown, TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (target, asked) = (target.to_string(), std::sync::Arc::clone(asked));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                head += &std::mem::take(&mut line);
            }
            asked.lock().unwrap().push(head);
            let server = TcpStream::connect(&target).unwrap();
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut up, mut down) = (server.try_clone().unwrap(), client);
            std::thread::spawn(move || copy(&mut reader, &mut up).and_then(|_| up.shutdown(Shutdown::Write)));
            std::thread::spawn(move || copy(&mut &server, &mut down));
        }
    });
    address.to_string()
}

#[test]
fn registries_are_reached_through_a_proxy_but_not_those_without_one() {
    use holkas::registry::transport::{Proxies, proxy};
    let registry = Registry::start_tls(holkas_testkit::registry::Tls::Private);
    registry.put_image(&image(), "app", "1");
    let asked = std::sync::Arc::default();
    let through = format!("http://anna:secret@{}", tunnel(registry.host(), &asked));
    let proxies = |none_for: &str| Proxies {
        http: None,
        https: Some(proxy(&through).unwrap()),
        none_for: vec![none_for.to_string()],
    };
    let with = |none_for| holkas::registry::Settings { proxies: proxies(none_for), ..settings() };
    // Nobody here knows that name but the proxy.
    fetch(with(""), "docker://registry.test:5000/app:1", &image()).unwrap();
    let heads = asked.lock().unwrap().join("\n");
    assert!(heads.starts_with("CONNECT registry.test:5000 "), "{heads}");
    assert!(heads.to_ascii_lowercase().contains("proxy-authorization: basic yw5uytpzzwnyzxq="), "{heads}");
    let before = asked.lock().unwrap().len();
    let error = super::common::fails(with(".test"), "docker://registry.test:5000/app:1");
    assert_eq!(error.kind(), holkas::ErrorKind::Network, "{error}");
    fetch(with(""), &registry.reference("app:1"), &image()).unwrap();
    assert_eq!(asked.lock().unwrap().len(), before, "loopback needs no proxy");
}
