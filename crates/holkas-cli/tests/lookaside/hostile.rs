//! Lookaside servers that lie, and those that are not who they should be.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use holkas_testkit::registry::{Fault, Matcher, Registry, Tls};

use crate::scene::{Scene, files, image, signature};

#[test]
fn lies_are_refused_and_nothing_is_left() {
    let (scene, registry, server) = (Scene::new(), Registry::start(), Registry::start());
    registry.put_image(&image("x"), "a/b", "1");
    scene.registries_d(&format!("default-docker: {{lookaside: '{}/s'}}\n", server.url()));
    let good = || Fault::answer(200, &[], signature(b"1"));
    let elsewhere = Registry::start();
    elsewhere.on(Matcher::any("*"), good());
    let all = || Matcher::get("/s/*");
    let plain: Vec<(Matcher, Fault, &str)> = vec![
        (all(), good(), "more than 128 signatures"),
        (
            all(),
            Fault::answer(200, &[], "<html>come in</html>"),
            "it is no signature: it begins with `<html>come in</h`",
        ),
        (all(), Fault::answer(200, &[], ""), "it is empty"),
        (all(), Fault::answer(200, &[], vec![0x90; (4 << 20) + 1]), "is over the limit of 4194304 bytes"),
        (all(), Fault::status(500), "HTTP 500"),
        (all(), Fault::status(403), "HTTP 403"),
        (all(), Fault::status(204), "HTTP 204"),
        (all(), Fault::answer(401, &[("WWW-Authenticate", "Basic realm=x")], ""), "HTTP 401"),
        (all(), Fault::redirect(302, "/{target}"), "more than 10 redirects"),
        (all(), Fault::redirect(302, "file:///etc/passwd"), "neither http nor https"),
        (all(), Fault::redirect(302, "http://user:password@127.0.0.1/"), "an address with a user or a password"),
        (all(), Fault::Close, "the connection was closed"),
    ];
    for (matcher, fault, said) in plain {
        server.clear_faults();
        server.on(matcher, fault);
        scene.refused(&["--src-creds=anna:secret", &registry.reference("a/b:1"), &scene.dir("to")], said);
        assert!(!Path::new(&scene.at("to/manifest.json")).exists());
    }
    for (fault, said) in [(Fault::Endless, "over the limit"), (Fault::Truncate(1), "the connection was closed")] {
        server.clear_faults();
        server.on(all(), good()).on(all(), fault);
        scene.refused(&[&registry.reference("a/b:1"), &scene.dir("to")], said);
    }
    // The challenge of such a server gets no answer, and neither does whom it sends us to.
    assert!(server.log().iter().all(|exchange| exchange.authorization().is_none()));
    server.clear_faults();
    server.reset_log();
    server.on(all().nth(1), Fault::redirect(307, &format!("{}/{{target}}", elsewhere.url())));
    scene.copied(&["--src-creds=anna:secret", &registry.reference("a/b:1"), &scene.dir("led")]);
    assert_eq!(files(&scene.at("led"))["signature-1"], signature(b"1"));
    assert_eq!((elsewhere.log().len(), server.log().len()), (1, 2));
    assert!(elsewhere.log().iter().all(|exchange| exchange.authorization().is_none()));
    // A bad moment passes.
    server.clear_faults();
    server.on(Matcher::get("/s/*-1"), good()).on(all().nth(1), Fault::status(503));
    scene.copied(&[&registry.reference("a/b:1"), &scene.dir("later")]);
    assert_eq!(files(&scene.at("later"))["signature-1"], signature(b"1"));
}

#[test]
fn servers_prove_who_they_are_and_the_way_stays_closed() {
    let (scene, registry) = (Scene::new(), Registry::start());
    registry.put_image(&image("x"), "a/b", "1");
    let server = Registry::start_tls(Tls::Private);
    server.on(Matcher::get("/s/*-1"), Fault::answer(200, &[], signature(b"1")));
    // The registry needs not prove who it is (`--src-tls-verify=false`); the server of another name does.
    let host = server.host().replace("127.0.0.1", "localhost");
    scene.registries_d(&format!("default-docker: {{lookaside: 'https://{host}/s'}}\n"));
    let arguments: [&str; 2] = [&registry.reference("a/b:1"), &scene.dir("to")];
    scene.refused(&arguments, "certificate is not trusted");
    let certs = format!(".config/containers/certs.d/{host}");
    fs::create_dir_all(scene.at(&certs)).unwrap();
    fs::copy(server.certificates().authority(), scene.at(&(certs + "/ca.crt"))).unwrap();
    scene.copied(&arguments);
    assert_eq!(files(&scene.at("to"))["signature-1"], signature(b"1"));
    let open = Registry::start();
    open.on(Matcher::any("*"), Fault::answer(200, &[], signature(b"1")));
    server.clear_faults();
    server.on(Matcher::get("/s/*"), Fault::redirect(302, &format!("{}/x", open.url())));
    scene.refused(&arguments, "it leads from https to");
    assert!(open.log().is_empty());
}

#[test]
fn directories_are_read_as_they_are() {
    let (scene, registry) = (Scene::new(), Registry::start());
    let image = image("x");
    registry.put_image(&image, "a/b", "1");
    scene.registries_d(&format!("default-docker: {{lookaside: 'file://{}'}}\n", scene.at("kept")));
    let kept = scene.keep("a/b", &image.digest(), &[]);
    let arguments: [&str; 2] = [&registry.reference("a/b:1"), &scene.dir("to")];
    let first = kept.join("signature-1");
    fs::write(&first, "no signature").unwrap();
    scene.refused(&arguments, "it is no signature");
    fs::File::create(&first).unwrap().set_len((4 << 20) + 1).unwrap();
    scene.refused(&arguments, "is over the limit of 4194304 bytes");
    fs::remove_file(&first).unwrap();
    fs::create_dir(&first).unwrap();
    scene.refused(&arguments, "it is a directory");
    fs::remove_dir(&first).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &first, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    scene.refused(&arguments, "it is a FIFO");
    fs::remove_file(&first).unwrap();
    // The user named the directory; a symlink in it is meant.
    fs::write(scene.at("elsewhere"), signature(b"1")).unwrap();
    symlink(scene.at("elsewhere"), &first).unwrap();
    scene.copied(&arguments);
    assert_eq!(files(&scene.at("to"))["signature-1"], signature(b"1"));
    // Replaced, it is a file; what it led to stays as it is.
    image.write_dir_signed(scene.at("new"), &[signature(b"2")]);
    scene.copied(&[&scene.dir("new"), arguments[0]]);
    assert_eq!(
        (fs::read(&first).unwrap(), fs::read(scene.at("elsewhere")).unwrap()),
        (signature(b"2"), signature(b"1"))
    );
    assert!(first.symlink_metadata().unwrap().is_file());
    assert_eq!(files(&kept).len(), 1, "nothing else is left");
}
