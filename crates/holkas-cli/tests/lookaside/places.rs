//! Where signatures go, and where they cannot; what is told of it, and by whom it is asked.

use std::fs;

use holkas_testkit::image::BuiltImage;
use holkas_testkit::registry::{Fault, Matcher, Registry, StaticRegistry};
use serde_json::{Value, json};

use crate::common::{finish, holkas};
use crate::scene::{Scene, files, image, signature};

#[test]
fn what_has_no_place_is_refused_before_anything_is_sent() {
    let (scene, registry) = (Scene::new(), Registry::start());
    image("x").write_dir_signed(scene.at("signed"), &[signature(b"1")]);
    let sigstore = b"\0sigstore-json\n{\"mimeType\":\"a/b\",\"payload\":\"e30=\",\"annotations\":{}}";
    image("x").write_dir_signed(scene.at("cosigned"), &[sigstore]);
    image("x").write_dir_signed(scene.at("future"), &[b"\0future\nx"]);
    image("x").write_dir_signed(scene.at("text"), &[b"no signature"]);
    scene.registries_d("default-docker:\n  lookaside: https://signatures.example/s\n");
    let to = registry.reference("a/b:1");
    let line = format!("({}:2)", scene.at("registries.d/test.yaml"));
    for (from, said) in [
        ("signed", "signatures at the lookaside server https://signatures.example/s"),
        ("signed", line.as_str()),
        ("signed", "lookaside-staging"),
        ("cosigned", "cannot hold the image's sigstore signatures"),
        ("cosigned", "`use-sigstore-attachments` is not true"),
        ("cosigned", "--remove-signatures"),
        ("future", "signatures of the kind `future` are not known"),
        ("text", "it is no signature: it begins with `no signature`"),
    ] {
        scene.refused(&[&scene.dir(from), &to], said);
        assert_eq!(registry.tags("a/b"), [] as [&str; 0]);
        let sent = registry.log().iter().filter(|exchange| exchange.method != "GET").count();
        assert_eq!(sent, 0, "{:?}", registry.log());
    }
    scene.copied(&["--remove-signatures", &scene.dir("signed"), &to]);
    // skopeo's place has the same, in its words.
    let told = scene.skopeo_face(&["copy", "--dest-tls-verify=false", &scene.dir("cosigned"), &to]);
    assert!(told.code == 1 && told.err.contains("sigstore signatures"), "{}", told.err);
}

#[test]
fn a_user_and_root_have_places_of_their_own_if_nothing_is_said() {
    let (scene, registry) = (Scene::new(), Registry::start());
    image("x").write_dir_signed(scene.at("signed"), &[signature(b"1")]);
    let there = registry.reference("a/b:1");
    let run = |arguments: &[&str]| {
        let mut command = holkas();
        command.args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        // As within `podman unshare`, where root is a user.
        command.env("HOME", scene.at("")).env("_CONTAINERS_ROOTLESS_UID", "1000");
        finish(command.args(arguments)).ok()
    };
    fs::create_dir_all(scene.at(".config/containers/registries.d")).unwrap();
    run(&[&scene.dir("signed"), &there]);
    let kept = scene.at(".local/share/containers/sigstore/a/b@") + &image("x").digest().replace(':', "=");
    assert_eq!(fs::read(kept + "/signature-1").unwrap(), signature(b"1"));
    run(&[&there, &scene.dir("back")]);
    assert_eq!(files(&scene.at("back")), files(&scene.at("signed")));
    // The user's own files go before the system's.
    fs::write(scene.at(".config/containers/registries.d/x.yaml"), "default-docker: {lookaside: 'file:///nowhere'}")
        .unwrap();
    run(&[&there, &scene.dir("none")]);
    assert!(!files(&scene.at("none")).contains_key("signature-1"));
}

#[test]
fn nothing_is_named_that_is_not_signed_yet() {
    let scene = Scene::new();
    image("x").write_dir_signed(scene.at("signed"), &[signature(b"1")]);
    fs::write(scene.at("file"), "no directory").unwrap();
    scene.registries_d(&format!("default-docker: {{lookaside: 'file://{}'}}\n", scene.at("file")));
    let registry = Registry::start();
    scene.refused(&[&scene.dir("signed"), &registry.reference("a/b:1")], "creating directory");
    assert_eq!((registry.digest("a/b", "1"), registry.manifests("a/b").len()), (None, 1));
    // And none is there of an image that was not taken.
    scene.registries_d(&format!("default-docker: {{lookaside: 'file://{}'}}\n", scene.at("kept")));
    let registry = Registry::start();
    registry.on(Matcher::put("/v2/*/manifests/*"), Fault::error(403, "DENIED", "no"));
    scene.refused(&[&scene.dir("signed"), &registry.reference("a/b:1")], "denied");
    assert!(!scene.kept("a/b", &image("x").digest()).exists());
}

#[test]
fn a_mirror_has_signatures_where_its_own_name_leads() {
    let (scene, registry, mirror) = (Scene::new(), Registry::start(), Registry::start());
    let image = image("mirrored");
    registry.put_image(&image, "a/b", "1");
    mirror.put_image(&image, "copies/b", "1");
    let conf = scene.at("registries.conf");
    let mirrored = format!(
        "[[registry]]\nlocation = '{}'\ninsecure = true\n[[registry.mirror]]\nlocation = '{}/copies'\ninsecure = true\n",
        registry.host().to_owned() + "/a",
        mirror.host()
    );
    fs::write(&conf, mirrored).unwrap();
    scene.registries_d(&format!(
        "docker:\n  {}:\n    lookaside: file://{}\n  {}:\n    lookaside: file://{}\n",
        registry.host(),
        scene.at("kept/registry"),
        mirror.host(),
        scene.at("kept/mirror")
    ));
    scene.keep("registry/a/b", &image.digest(), &[signature(b"registry")]);
    scene.keep("mirror/copies/b", &image.digest(), &[signature(b"mirror")]);
    let there = registry.reference("a/b:1");
    let arguments = ["--registries-conf", &conf, "copy", "-q", &there];
    scene.run(&[&arguments[..], &[&scene.dir("ours")]].concat()).ok();
    let skopeo = scene.skopeo().argument("--registries-conf").argument(&conf);
    skopeo.run([&arguments[2..], &[&scene.dir("theirs")]].concat()).ok();
    assert_eq!(fs::read(scene.at("ours/signature-1")).unwrap(), signature(b"mirror"));
    assert_eq!(files(&scene.at("ours")), files(&scene.at("theirs")));
}

#[test]
fn explain_tells_the_place_and_the_line() {
    let scene = Scene::new();
    let conf = scene.at("registries.d/test.yaml");
    scene.registries_d(
        "default-docker:\n  lookaside-staging: file:///srv/new\ndocker:\n  e.example/a:\n    \
         lookaside: https://s.example\n    future: 1\n    use-sigstore-attachments: true\n",
    );
    let shown = scene.run(&["explain", "e.example/a/b:1"]).ok();
    for line in [
        format!("e.example/a/b:1 is read from https://s.example (`docker → e.example/a → lookaside` in {conf}:5)"),
        format!("e.example/a/b:1 is written to https://s.example (`docker → e.example/a → lookaside` in {conf}:5)"),
        format!(
            "e.example/a/b:1: sigstore's are looked for beside it (`docker → e.example/a → use-sigstore-attachments` in {conf}:7)"
        ),
        format!("{conf}:6: `docker → e.example/a → future`"),
    ] {
        assert!(shown.contains(&line), "{line}\n{shown}");
    }
    let value: Value = serde_json::from_str(&scene.run(&["explain", "--json", "f.example/x"]).ok()).unwrap();
    assert_eq!(value["signature_files"], json!([conf]));
    let signatures = &value["places"][0]["signatures"];
    let by = json!({"key": "default-docker → lookaside-staging", "file": conf, "line": 2});
    assert_eq!(signatures["written"], json!({"url": "file:///srv/new", "by": by}));
    assert_eq!(signatures["read"], json!({"url": "file:///var/lib/containers/sigstore", "by": null}));
    assert_eq!(signatures["sigstore_attachments"], json!({"wanted": false, "by": null}));
    // A mistake is told by its place, in every command that needs it.
    scene.registries_d("docker:\n  e.example:\n    lookaside: [x]\n");
    for arguments in [&["explain", "x"][..], &["inspect", "docker://127.0.0.1:1/x"]] {
        let told = scene.run(arguments).fails();
        assert!(told.contains(&format!("{conf}:3: reading `docker → e.example → lookaside`")), "{told}");
    }
}

/// Returns the images that a registry has beside a lookaside server: see [`StaticRegistry`].
#[test]
fn files_behind_a_web_server_may_have_any_base() {
    let (scene, registry) = (Scene::new(), Registry::start());
    let image: BuiltImage = image("base");
    registry.put_image(&image, "a/b", "1");
    scene.keep("a/b", &image.digest(), &[signature(b"1")]);
    let server = StaticRegistry::start(scene.at("kept"));
    for (n, base) in [format!("http://{}", server.host()), format!("HTTP://{}/", server.host())].iter().enumerate() {
        scene.registries_d(&format!("default-docker: {{lookaside: '{base}'}}\n"));
        let to = format!("{n}");
        scene.copied(&[&registry.reference("a/b:1"), &scene.dir(&to)]);
        let path = server.log()[2 * n].path().to_owned();
        assert_eq!(path.starts_with("//a/b@"), n == 1, "{path}");
    }
    assert_eq!(fs::read(scene.at("0/signature-1")).unwrap(), signature(b"1"));
}
