//! Registries: pushes and pulls, credentials, retries, tags, deleting and `sync`.

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::registry::{Auth, Fault, Matcher, Registry};

use super::*;

const P: &str = "--insecure-policy";

#[test]
fn images_come_back_as_they_were_pushed() {
    let registry = DockerRegistry::start();
    let both = Both::new(images);
    for (whose, tag) in [(Whose::Debians, "debians"), (Whose::Ours, "ours")] {
        let name = format!("docker://{}/app:{tag}", registry.host());
        both.run(whose, &["copy", P, "--dest-tls-verify=false", "-a", "dir:list", &name]).ok();
        both.same(&["copy", P, "-a", "--src-tls-verify=false", "-q", &name, &format!("dir:{tag}")]);
        both.assert_same_files(tag);
        assert_eq!(files(&both.ours(tag)), files(&both.ours("list")));
        let (debians, ours) =
            both.both(&["inspect", "--tls-verify=false", "--no-tags", "-f", "{{.Name}} {{.Digest}}", &name]);
        assert_eq!(debians, ours);
    }
    let repository = format!("docker://{}/app", registry.host());
    let (debians, ours) = both.both(&["list-tags", "--tls-verify=false", &repository]);
    assert_eq!(debians, ours);
    assert_eq!(ours.out.matches("debians").count(), 1);
}

/// What is not compressed is compressed on its way to a registry, unless digests are preserved.
#[test]
fn plain_layers_are_compressed_when_they_are_pushed() {
    let registry = Registry::start();
    let plain = ImageBuilder::docker().layer(layer("x")).build().uncompressed();
    let both = Both::new(|dir| plain.write_dir(dir.join("plain")));
    let push = |flags: &[&str], tag: &str| {
        let name = registry.reference(&format!("app:{tag}"));
        both.run(Whose::Ours, &[&["copy", P, "--dest-tls-verify=false"], flags, &["dir:plain", &name]].concat()).ok();
        String::from_utf8(registry.manifest("app", tag).unwrap().bytes.to_vec()).unwrap()
    };
    assert!(push(&[], "packed").contains("rootfs.diff.tar.gzip"));
    assert_eq!(push(&["--preserve-digests"], "kept").as_bytes(), plain.manifest);
    let zstd = push(&["--dest-compress-format", "zstd"], "zstd");
    assert!(zstd.contains("vnd.oci.image.layer.v1.tar+zstd") && zstd.contains("vnd.oci.image.manifest"), "{zstd}");
    let digest = plain.digest();
    both.run(Whose::Ours, &["copy", P, "--src-tls-verify=false", &registry.reference("app:nope"), "dir:made"])
        .fails(2, "initializing source docker://")
        .fails(2, "reading manifest nope in ")
        .fails(2, "manifest unknown");
    let by_digest = format!("docker://{}/app@{digest}", registry.host());
    both.run(Whose::Ours, &["copy", P, "--dest-tls-verify=false", "dir:plain", &by_digest]).ok();
    assert_eq!(registry.manifest("app", &digest).unwrap().bytes.to_vec(), plain.manifest);
}

#[test]
fn credentials() {
    let registry = DockerRegistry::builder().password("user", "secret").start();
    let both = Both::new(images);
    let name = format!("docker://{}/app:1", registry.host());
    let inspect = |flags: &[&str]| both.run(Whose::Ours, &[&["inspect", "--raw"], flags, &[&*name]].concat());
    for flags in [&["--tls-verify=false"][..], &["--tls-verify=false", "--creds=user:wrong"]] {
        inspect(flags).fails(1, "unauthorized: authentication required");
        both.run(Whose::Debians, &[&["inspect"], flags, &[&*name]].concat())
            .fails(1, "unauthorized: authentication required");
    }
    inspect(&["--tls-verify=false", "--creds=user:secret"]).fails(2, "manifest unknown: manifest unknown");
    inspect(&["--creds=user:secret"]).fails(1, "server gave HTTP response to HTTPS client");
    both.run(Whose::Ours, &["copy", P, "--dest-tls-verify=false", "--dcreds", "user:secret", "dir:docker", &name]).ok();
    both.run(Whose::Ours, &["copy", P, "--src-tls-verify=false", "--screds=user:secret", &name, "dir:back"]).ok();
    assert_eq!(files(&both.ours("back")), files(&both.ours("docker")));
    inspect(&["--tls-verify=0", "--username=user", "--password=secret"]).ok();
    both.run(Whose::Ours, &["--tls-verify=false", "inspect", "--creds=user:secret", &name]).ok();

    let login =
        |arguments: &[&str]| both.run(Whose::Ours, &[arguments, &["--authfile=auth.json", registry.host()]].concat());
    let logged_in = login(&["login", "--tls-verify=false", "-u", "user", "-p", "secret"]).ok();
    assert_eq!((logged_in.out.as_str(), logged_in.err.as_str()), ("Login Succeeded!\n", ""));
    assert_eq!(login(&["login", "--get-login"]).ok().out, "user\n");
    inspect(&["--tls-verify=false", "--authfile=auth.json"]).ok();
    inspect(&["--tls-verify=false", "--authfile=auth.json", "--no-creds"]).fails(1, "authentication required");
    let logged_out = login(&["logout"]).ok();
    assert_eq!(logged_out.out, format!("Removed login credentials for {}\n", registry.host()));
    inspect(&["--tls-verify=false", "--authfile=auth.json"]).fails(1, "authentication required");
}

#[test]
fn deleting() {
    let registry = Registry::start();
    registry.put_image(&docker_image(), "app", "1");
    let both = Both::new(|_| {});
    let name = registry.reference("app:1");
    let deleted = both.run(Whose::Ours, &["delete", "--tls-verify=false", &name]).ok();
    assert_eq!((deleted.out.as_str(), deleted.err.as_str()), ("", ""));
    assert_eq!(registry.digest("app", "1"), None);
    both.run(Whose::Ours, &["delete", "--tls-verify=false", &name]).fails(1, "");
    both.run(Whose::Ours, &["inspect", "--tls-verify=false", &name]).fails(2, "manifest unknown");
}

#[test]
fn what_fails_is_tried_again_if_that_was_asked_for() {
    let both = Both::new(|_| {});
    let arguments = ["inspect", "--retry-times=2", "--retry-delay=1ms", "docker://127.0.0.1:1/x"];
    let output = both.run(Whose::Ours, &arguments).fails(1, "connection refused");
    for n in 1..=2 {
        assert!(
            output.err.contains(&format!("level=warning msg=\"Failed, retrying in 1ms ... ({n}/2). Error: ")),
            "{}",
            output.err
        );
    }
    let registry = Registry::start();
    registry.put_image(&docker_image(), "app", "1");
    registry.on(Matcher::get("*/manifests/*").first(1), Fault::status(503));
    let name = registry.reference("app:1");
    both.run(Whose::Ours, &["inspect", "--raw", "--tls-verify=false", "--retry-times=3", "--retry-delay=1ms", &name])
        .fails(0, "level=warning msg=\"Failed, retrying in 1ms ... (1/");
    registry.set_auth(Auth::basic("user", "secret"));
    let refused = both.run(Whose::Ours, &["inspect", "--tls-verify=false", "--retry-times=3", &name]).fails(1, "");
    assert!(!refused.err.contains("retrying"), "{}", refused.err);
}

#[test]
fn syncs() {
    let (from, to) = (Registry::start(), Registry::start());
    for tag in ["1", "2"] {
        from.put_image(&docker(tag).build(), "team/app", tag);
    }
    let both = Both::new(|_| {});
    let source = format!("{}/team/app", from.host());
    let dry = [
        "sync",
        P,
        "--src-tls-verify=false",
        "--dry-run",
        "--src=docker",
        "--dest=dir",
        "--scoped",
        &format!("{source}:1"),
        "made",
    ];
    let (debians, ours) = both.both(&dry);
    assert_eq!(debians, ours);
    assert!(ours.err.contains(&format!(
        "level=info msg=\"Would have copied image ref 1/1\" from=\"docker://{source}:1\" to=\"dir:made/{source}:1\"\n"
    )));
    assert!(ours.err.ends_with("level=info msg=\"Would have synced 1 images from 1 sources\"\n"), "{}", ours.err);

    let into_dir =
        ["sync", P, "--src-tls-verify=false", "-s", "docker", "-d", "dir", "--digestfile=digests", &source, "dir"];
    let ours = both.run(Whose::Ours, &into_dir).ok();
    both.run(Whose::Debians, &into_dir[..].iter().filter(|word| !word.starts_with("--digest")).collect::<Vec<_>>())
        .ok();
    both.assert_same_files("dir");
    for n in 1..=2 {
        assert!(ours.err.contains(&format!(
            "msg=\"Copying image ref {n}/2\" from=\"docker://{source}:{n}\" to=\"dir:dir/app:{n}\""
        )));
    }
    assert!(ours.err.ends_with("level=info msg=\"Synced 2 images from 1 sources\"\n"), "{}", ours.err);
    let digests = fs::read_to_string(both.ours("digests")).unwrap();
    assert_eq!(digests.lines().last().unwrap(), format!("{} dir:dir/app:2", docker("2").build().digest()));
    let (debians, ours) =
        both.both(&into_dir.iter().filter(|word| !word.starts_with("--digest")).copied().collect::<Vec<_>>());
    for output in [debians, ours] {
        output.fails(1, "Refusing to overwrite destination directory \\\"dir/app:1\\\"");
    }

    let across = [
        "sync",
        P,
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "-s",
        "docker",
        "-d",
        "docker",
        "--append-suffix=-x",
        &source,
        to.host(),
    ];
    both.run(Whose::Ours, &across).ok();
    assert_eq!(to.tags("app"), ["1-x", "2-x"]);
    let again = both.run(Whose::Ours, &across).ok();
    assert_eq!(again.out.matches("Skipping: image already present at destination\n").count(), 2, "{}", again.out);

    for method in [Matcher::get, Matcher::head] {
        from.on(method("*/manifests/*"), Fault::status(404));
    }
    let all = ["sync", P, "--src-tls-verify=false", "--keep-going", "-s", "docker", "-d", "dir", &source, "gone"];
    both.run(Whose::Ours, &all)
        .fails(1, &format!("level=error msg=\"Error copying ref \\\"docker://{source}:1\\\"\" error="))
        .fails(1, "level=fatal msg=\"Sync failed due to previous reported error(s) for one or more images\"");
}
