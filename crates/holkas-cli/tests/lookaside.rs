//! Signatures of images in registries: lookaside servers beside Debian's skopeo, the API extension, attachments, lies.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

#[path = "lookaside/attachments.rs"]
mod attachments;
#[path = "lookaside/extension.rs"]
mod extension;
#[path = "lookaside/hostile.rs"]
mod hostile;
#[path = "lookaside/places.rs"]
mod places;
#[path = "lookaside/policies.rs"]
mod policies;
#[path = "lookaside/scene.rs"]
mod scene;

use std::fs;

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::gpg::Gpg;
use holkas_testkit::image::{IndexBuilder, hex_of, sha256_digest};
use holkas_testkit::registry::{Auth, Bearer, FileType, Registry, StaticRegistry};

use scene::{Scene, files, image, signature};

#[test]
fn what_skopeo_signs_comes_along_and_what_we_put_skopeo_finds() {
    let (scene, gpg, registry) = (Scene::new(), Gpg::new(), DockerRegistry::start());
    let host = registry.host();
    scene.registries_d(&format!("docker:\n  {host}:\n    lookaside: file://{}\n", scene.at("kept")));
    image("one").write_dir(scene.at("image"));
    let (skopeo, key) = (gpg.peer(scene.skopeo()), gpg.key("tester@example.org", "never"));
    let there = registry.reference("team/app:1");
    for sign in 0..2 {
        let from = if sign == 0 { scene.dir("image") } else { there.clone() };
        let arguments = ["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo.run([&arguments[..], &["--sign-by", &key, &from, &there]].concat()).ok();
    }
    // Both signatures come along, in both faces, as they do with skopeo.
    scene.skopeo().run(["copy", "-q", "--src-tls-verify=false", &there, &scene.dir("theirs")]).ok();
    let theirs = files(&scene.at("theirs"));
    assert!(theirs.contains_key("signature-1") && theirs.contains_key("signature-2"));
    scene.copied(&[&there, &scene.dir("ours")]);
    assert_eq!(files(&scene.at("ours")), theirs);
    scene.skopeo_face(&["copy", "-q", "--src-tls-verify=false", &there, &scene.dir("face")]).ok();
    assert_eq!(files(&scene.at("face")), theirs);
    scene.copied(&["--remove-signatures", &there, &scene.dir("without")]);
    assert!(!files(&scene.at("without")).contains_key("signature-1"));
    // What we put is where skopeo puts it, with the same bytes, and skopeo reads it.
    let other = registry.reference("ours/app:2");
    scene.copied(&[&scene.dir("theirs"), &other]);
    // skopeo has compressed the layer, and with that made another manifest.
    let digest = sha256_digest(&theirs["manifest.json"]);
    assert_eq!(files(&scene.kept("ours/app", &digest)), files(&scene.kept("team/app", &digest)));
    scene.skopeo().run(["copy", "-q", "--src-tls-verify=false", &other, &scene.dir("back")]).ok();
    assert_eq!(files(&scene.at("back")), theirs);
}

#[test]
fn web_servers_are_asked_for_signatures_and_hear_nothing_of_who_we_are() {
    let scene = Scene::new();
    let registry = Registry::builder().auth(Auth::Bearer(Bearer::user("anna", "secret"))).start();
    let image = image("web");
    registry.put_image(&image, "a/b", "1");
    let kept = scene.keep("a/b", &image.digest(), &[signature(b"first"), signature(b"second")]);
    let server = StaticRegistry::start_with(scene.at(""), FileType::OctetStream);
    let base = format!("http://{}/kept", server.host());
    scene.registries_d(&format!("docker:\n  {}/a:\n    lookaside: {base}?token=x\n", registry.host()));
    let arguments = ["--src-creds=anna:secret", &registry.reference("a/b:1"), &scene.dir("ours")];
    scene.copied(&arguments);
    for name in ["signature-1", "signature-2"] {
        assert_eq!(fs::read(scene.at("ours") + "/" + name).unwrap(), fs::read(kept.join(name)).unwrap());
    }
    assert!(!files(&scene.at("ours")).contains_key("signature-3"));
    let stem = format!("/kept/a/b@{}/signature-", image.digest().replace(':', "="));
    let log = server.log();
    let asked: Vec<_> = log.iter().map(|exchange| exchange.target.clone()).collect();
    assert_eq!(asked, [1, 2, 3].map(|n| format!("{stem}{n}?token=x")));
    for exchange in &log {
        assert!(exchange.authorization().is_none() && !format!("{:?}", exchange.headers).contains("secret"));
    }
    assert!(registry.log().iter().any(|exchange| exchange.authorization().is_some()), "the registry does hear it");
    // Where they are not wanted nobody is asked.
    scene.copied(&[&["--remove-signatures"], &arguments[..2], &[&scene.dir("without")]].concat());
    let inspected = ["inspect", "--tls-verify=false", "--creds=anna:secret", &registry.reference("a/b:1")];
    scene.run(&inspected).ok();
    assert_eq!(server.log().len(), 3);
    // skopeo asks for the same.
    let theirs = ["copy", "-q", "--src-tls-verify=false", "--src-creds=anna:secret"];
    scene.skopeo().run([&theirs[..], &[&registry.reference("a/b:1"), &scene.dir("theirs")]].concat()).ok();
    assert_eq!(files(&scene.at("theirs")), files(&scene.at("ours")));
    let asked: Vec<_> = server.log()[3..].iter().map(|exchange| exchange.target.clone()).collect();
    assert_eq!(asked, [1, 2, 3].map(|n| format!("{stem}{n}?token=x")));
}

#[test]
fn without_a_word_of_the_name_nothing_more_is_asked() {
    let scene = Scene::new();
    let registry = Registry::start();
    let image = image("plain");
    registry.put_image(&image, "a/b", "1");
    let requests = || {
        // Uploads are numbered as they come.
        let path = |path: &str| path.split("/uploads/upload-").next().unwrap().to_owned();
        let log = registry.log();
        registry.reset_log();
        log.iter().map(|exchange| format!("{} {}", exchange.method, path(&exchange.target))).collect()
    };
    let (there, to) = (registry.reference("a/b:1"), |name: &str| registry.reference(&format!("{name}:1")));
    scene.copied(&["--remove-signatures", &there, &scene.dir("a")]);
    let read: Vec<String> = requests();
    scene.copied(&["--remove-signatures", &scene.dir("a"), &to("w")]);
    let written: Vec<String> = requests();
    assert!(read.len() > 2 && written.len() > 2, "{read:?} {written:?}");
    scene.registries_d(
        "docker:\n  other.example:\n    lookaside: http://127.0.0.1:1/\n    use-sigstore-attachments: on\n",
    );
    scene.copied(&[&there, &scene.dir("b")]);
    let again: Vec<String> = requests();
    assert_eq!(again, read);
    scene.copied(&[&scene.dir("b"), &to("x")]);
    let again: Vec<String> = requests();
    assert_eq!(again.iter().map(|line| line.replace("/x/", "/w/")).collect::<Vec<_>>(), written);
}

#[test]
fn lists_and_their_images_have_signatures_of_their_own() {
    let (scene, registry) = (Scene::new(), DockerRegistry::start());
    scene.registries_d(&format!("default-docker:\n  lookaside: file://{}\n", scene.at("kept")));
    let (amd64, arm64) = (image("amd64"), image("arm64"));
    let index = IndexBuilder::oci().image(&amd64).image(&arm64).build();
    index.write_dir(scene.at("list"));
    fs::write(scene.at("list/signature-1"), signature(b"the list")).unwrap();
    for n in 1..=2 {
        let name = format!("list/{}.signature-{n}", hex_of(&arm64.digest()));
        fs::write(scene.at(&name), signature(format!("image {n}").as_bytes())).unwrap();
    }
    let there = registry.reference("team/list:1");
    scene.copied(&["--all", &scene.dir("list"), &there]);
    for (digest, count) in [(index.digest(), 1), (amd64.digest(), 0), (arm64.digest(), 2)] {
        let kept = scene.kept("team/list", &digest);
        assert_eq!(fs::read_dir(kept).map_or(0, Iterator::count), count, "{digest}");
    }
    scene.copied(&["--all", &there, &scene.dir("ours")]);
    scene.skopeo().run(["copy", "-q", "--all", "--src-tls-verify=false", &there, &scene.dir("theirs")]).ok();
    assert_eq!(files(&scene.at("ours")), files(&scene.at("list")));
    assert_eq!(files(&scene.at("theirs")), files(&scene.at("list")));
}

#[test]
fn signatures_that_are_there_are_replaced_and_deleted_as_skopeo_does_it() {
    let scene = Scene::new();
    let image = image("again");
    image.write_dir_signed(scene.at("image"), &[signature(b"new 1"), signature(b"new 2")]);
    let mut left = Vec::new();
    for whose in ["ours", "theirs"] {
        let registry = DockerRegistry::start();
        scene.registries_d(&format!(
            "docker:\n  {}:\n    lookaside-staging: file://{}/{whose}\n    lookaside: http://127.0.0.1:1\n",
            registry.host(),
            scene.at("kept")
        ));
        let old = [b"old 1", b"old 2", b"old 3", b"old 4"].map(|old| signature(old));
        let kept = scene.keep(&format!("{whose}/a/b"), &image.digest(), &old);
        fs::remove_file(kept.join("signature-4")).unwrap();
        fs::write(kept.join("signature-5"), "behind a gap").unwrap();
        fs::write(kept.join("README"), "not ours").unwrap();
        let there = registry.reference("a/b:1");
        let (copy, tls) = (["copy", "-q", &scene.dir("image"), &there], ["--dest-tls-verify=false"]);
        match whose {
            "ours" => scene.copied(&copy[2..]),
            _ => drop(scene.skopeo().run([&copy[..], &tls].concat()).ok()),
        }
        let mut seen = vec![files(&kept.display().to_string())];
        // distribution deletes only where it is configured to, so that another registry is asked.
        let registry = Registry::start();
        registry.put_image(&image, "a/b", "1");
        scene.registries_d(&format!("default-docker: {{lookaside: 'file://{}/{whose}'}}\n", scene.at("kept")));
        let there = registry.reference("a/b:1");
        match whose {
            "ours" => drop(scene.run(&["delete", "--tls-verify=false", &there]).ok()),
            _ => drop(scene.skopeo().run(["delete", "--tls-verify=false", &there]).ok()),
        }
        assert_eq!(registry.digest("a/b", "1"), None);
        seen.push(files(&kept.display().to_string()));
        left.push(seen);
    }
    assert_eq!(left[0], left[1]);
    assert_eq!(left[0][0].keys().collect::<Vec<_>>(), ["README", "signature-1", "signature-2", "signature-5"]);
    assert_eq!(left[0][1].keys().collect::<Vec<_>>(), ["README", "signature-5"]);
}

#[test]
fn what_cannot_be_deleted_is_told_after_the_image_is() {
    let scene = Scene::new();
    for whose in ["ours", "theirs"] {
        let registry = Registry::start();
        registry.put_image(&image("gone"), "a/b", "1");
        scene.registries_d("default-docker:\n  lookaside: https://127.0.0.1:1/s\n");
        let arguments = ["delete", "--tls-verify=false", &registry.reference("a/b:1")];
        let said = match whose {
            "ours" => scene.run(&arguments).fails(),
            _ => scene.skopeo().run(arguments).fails(),
        };
        assert!(said.contains("https://127.0.0.1:1/s"), "{said}");
        assert_eq!(registry.digest("a/b", "1"), None);
    }
}
