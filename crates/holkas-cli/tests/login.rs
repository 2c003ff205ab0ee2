//! `holkas login` and `holkas logout`, held against podman and skopeo on the same files.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Output, finish, holkas, run};
use holkas::registry::auth::{AUTH_FILES, AuthKey, AuthStore, KeyStyle, Secret};
use holkas_testkit::peers::{Peer, Store};

fn store(file: &Path, style: KeyStyle) -> AuthStore {
    AuthStore { file: file.to_owned(), style, helpers: vec![AUTH_FILES.to_owned()], programs: Vec::new() }
}

/// Keeps a user as `holkas login` does, after the registry's word.
fn keep(file: &Path, style: KeyStyle, key: &str, user: &str) {
    store(file, style).store(&AuthKey::parse(key).unwrap(), user, &Secret::new("s3cret")).unwrap();
}

fn get_login(file: &Path, key: &str) -> Output {
    run(&["login".as_ref(), "--get-login".as_ref(), "--authfile".as_ref(), file.as_os_str(), key.as_ref()])
}

/// Starts a registry that takes every password, on the loopback, and returns its address. It ends with the test.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}

fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        request.push(byte[0]);
        // TLS is tried first; it begins with this byte, and has no answer here.
        if request[0] == 0x16 {
            return;
        }
    }
    let known = String::from_utf8_lossy(&request).contains("Authorization: Basic ");
    let head = if known { "200 OK" } else { "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"" };
    // A client that is gone has its answer.
    let _gone =
        stream.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
}

#[test]
fn podman_and_skopeo_read_what_holkas_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new/auth.json");
    let compat = dir.path().join("config.json");
    keep(&file, KeyStyle::Containers, "reg.example:5000", "host");
    keep(&file, KeyStyle::Containers, "reg.example:5000/ns", "part");
    keep(&file, KeyStyle::Containers, "docker.io", "hub");
    keep(&compat, KeyStyle::Docker, "docker.io", "hub");
    let podman = Store::vfs();
    for (file, key, user) in [
        (&file, "reg.example:5000", "host"),
        (&file, "reg.example:5000/other/app", "host"),
        (&file, "reg.example:5000/ns/app", "part"),
        (&file, "docker.io", "hub"),
        (&compat, "docker.io", "hub"),
    ] {
        let arguments = ["login", "--get-login", "--authfile", file.to_str().unwrap(), key];
        assert_eq!(podman.podman(arguments).ok(), user, "podman {key}");
        assert_eq!(Peer::skopeo().run(arguments).ok(), user, "skopeo {key}");
        assert_eq!(get_login(file, key).out, format!("{user}\n"), "holkas {key}");
    }
    let name = file.to_str().unwrap();
    Peer::skopeo().run(["logout", "--authfile", name, "reg.example:5000"]).ok();
    podman.podman(["logout", "--authfile", name, "docker.io"]).ok();
    assert_eq!(get_login(&file, "reg.example:5000/ns").out, "part\n");
    for gone in ["reg.example:5000", "docker.io"] {
        assert_eq!(get_login(&file, gone).code, 1, "{gone}");
    }
}

#[test]
fn holkas_reads_and_changes_what_podman_and_skopeo_write() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let name = file.to_str().unwrap();
    let registry = registry();
    let login = |key: &str, user: &str| {
        ["login", "--tls-verify=false", "--authfile", name, "-u", user, "-p", "s3cret", key].map(str::to_owned)
    };
    let podman = Store::vfs();
    assert_eq!(Peer::skopeo().run(login(&registry, "of-skopeo")).ok(), "Login Succeeded!");
    assert_eq!(podman.podman(login(&format!("{registry}/ns"), "of-podman")).ok(), "Login Succeeded!");
    let before = fs::read_to_string(&file).unwrap();
    assert_eq!(get_login(&file, &registry).out, "of-skopeo\n");
    assert_eq!(get_login(&file, &format!("{registry}/ns/app")).out, "of-podman\n");
    keep(&file, KeyStyle::Containers, "z.example", "of-holkas");
    let logout = |arguments: &[&str]| run(&[&["logout", "--authfile", name], arguments].concat());
    let done = logout(&["z.example"]);
    assert_eq!((done.code, done.out.as_str()), (0, "Removed login credentials for z.example\n"), "{}", done.err);
    // Laid out as theirs, but for the end of the last line.
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), before.trim_end());
    assert_eq!(logout(&[&registry]).out, format!("Removed login credentials for {registry}\n"));
    let arguments = ["login", "--get-login", "--authfile", name, &registry];
    assert!(Peer::skopeo().run(arguments).fails().contains("not logged into"));
    let again = logout(&[&format!("{registry}/ns/app")]);
    assert_eq!(again.code, 1);
    assert!(again.err.starts_with(&format!("error: not logged into {registry}/ns/app\n")), "{}", again.err);
    assert!(again.err.contains(&format!("hint: credentials that apply to it are still in entry `{registry}/ns`")));
    assert_eq!(logout(&["--all"]).out, "Removed login credentials for all registries\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\n\t\"auths\": {}\n}\n");
}

#[test]
fn files_are_looked_for_where_people_keep_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let places = [
        ("run/containers/auth.json", "runtime"),
        ("config/containers/auth.json", "config"),
        ("docker/config.json", "docker"),
        ("home/.config/containers/auth.json", "home-config"),
        ("home/.docker/config.json", "home-docker"),
    ];
    for (name, user) in places {
        keep(&path(name), KeyStyle::Containers, "all.example", user);
        keep(&path(name), KeyStyle::Containers, &format!("{user}.example"), user);
    }
    keep(&path("named.json"), KeyStyle::Containers, "named.example", "named");
    fs::write(path("home/.dockercfg"), r#"{"https://old.example/v1/":{"auth":"b2xkOnA="}}"#).unwrap();
    let home = &[("HOME", "home"), ("XDG_RUNTIME_DIR", "run")][..];
    let config = &[("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("XDG_CONFIG_HOME", "config")][..];
    let docker = &[("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("DOCKER_CONFIG", "docker")][..];
    let named = &[("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("REGISTRY_AUTH_FILE", "named.json")][..];
    for (variables, key, user) in [
        (home, "all.example", "runtime"),
        (home, "home-config.example", "home-config"),
        (home, "home-docker.example", "home-docker"),
        (home, "old.example", "old"),
        (home, "config.example", ""),
        (config, "config.example", "config"),
        (config, "home-config.example", ""),
        (config, "home-docker.example", "home-docker"),
        (docker, "docker.example", "docker"),
        (docker, "all.example", "docker"),
        (named, "named.example", "named"),
    ] {
        let mut ours = holkas();
        let mut peer = Peer::skopeo().environment("REGISTRY_AUTH_FILE", "").environment("XDG_CONFIG_HOME", "");
        for (variable, place) in variables {
            ours.env(variable, path(place));
            peer = peer.environment(variable, path(place));
        }
        let arguments = ["login", "--get-login", key];
        let output = finish(ours.args(arguments));
        assert_eq!(output.out.trim_end(), user, "{variables:?} {key}: {}", output.err);
        assert_eq!(peer.run(arguments).text(), user, "skopeo: {variables:?} {key}");
    }
    // Where Debian's skopeo 1.9.3 goes on to the other files, later ones and holkas read the named one alone.
    for (variable, place) in
        [("REGISTRY_AUTH_FILE", "named.json"), ("DOCKER_CONFIG", "docker"), ("REGISTRY_AUTH_FILE", "none")]
    {
        let mut ours = holkas();
        ours.env("HOME", path("home")).env("XDG_RUNTIME_DIR", path("run")).env(variable, path(place));
        let output = finish(ours.args(["login", "--get-login", "home-docker.example"]));
        let expected = "error: not logged into home-docker.example\n";
        assert_eq!((output.code, output.err.as_str()), (1, expected), "{variable}");
    }
    let mut ours = holkas();
    let output = finish(ours.env("XDG_RUNTIME_DIR", path("nowhere")).args(["login", "--get-login", "a.example"]));
    assert!(output.err.contains("which does not exist\n\nhint: make the directory"), "{}", output.err);
}

#[test]
fn a_pipe_is_a_file_too() {
    let script = format!(
        "exec {} login --get-login --authfile /proc/self/fd/7 reg.example/ns 7< <(printf '%s' '{}')",
        env!("CARGO_BIN_EXE_holkas"),
        r#"{"auths":{"reg.example":{"auth":"dTpw"}}}"#
    );
    let output = finish(Command::new("bash").args(["-c", &script]));
    assert_eq!((output.code, output.out.as_str()), (0, "u\n"), "{}", output.err);
}

#[test]
fn what_is_missing_is_asked_for_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let name = file.to_str().unwrap();
    for (arguments, expected) in [
        (&["login"][..], "REGISTRY"),
        (&["logout"], "REGISTRY"),
        (&["logout", "--all", "reg.example"], "cannot be used with"),
        (&["login", "-u", "u", "-p", "s3cret", "--password-stdin", "reg.example"], "cannot be used with"),
        (&["login", "--password-stdin", "reg.example"], "--username"),
        (&["login", "--authfile", name, "--compat-auth-file", name, "reg.example"], "cannot be used with"),
        (&["login", "--authfile", name, "-p", "s3cret", "reg.example"], "hint: give it with --username"),
        (&["login", "--authfile", name, "-u", "u", "reg.example"], "hint: give it with --password-stdin"),
        (&["login", "--authfile", name, "--tls-verify=maybe", "reg.example"], "maybe"),
        (&["login", "--authfile", name, "-u", "u", "-p", "s3cret", "reg.example:tag/x"], "is no registry"),
        (&["logout", "--authfile", name, "reg.example"], "checking auth file"),
        (&["logout", "--authfile", name, "--all"], "checking auth file"),
        (&["login", "--authfile", name, "--get-login", "reg.example"], "not logged into reg.example"),
    ] {
        let output = finish(holkas().args(arguments).stdin(Stdio::null()));
        assert_eq!((output.code, output.out.as_str()), (1, ""), "{arguments:?}: {}", output.err);
        assert!(output.err.contains(expected), "{arguments:?}: {}", output.err);
        assert!(!output.err.contains("s3cret"), "{arguments:?}: {}", output.err);
    }
    assert!(!file.exists());
}
