//! Stores of users who are not root, beside skopeo's and podman's: written, read and refused.
//!
//! Needs a kernel that lets users make user namespaces: where it does not, these tests fail.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use holkas_testkit::fault::Moments;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder};
use holkas_testkit::oddities::{many_small_files, odd_image, odd_image_uncompressed, runnable_image};
use holkas_testkit::peers::RUN_OPTIONS;
use holkas_testkit::rootless::{ALL_IDS, User};
use holkas_testkit::tar::{CHARACTER_DEVICE, Entry, FILE, TarBuilder};
use holkas_testkit::tree::{Kind, Options, Tree};

/// Our program, run by a user with a policy that accepts all.
fn holkas(user: &User) -> Command {
    let mut command = user.command(env!("CARGO_BIN_EXE_holkas"));
    command.env("XDG_CACHE_HOME", "/dev/null");
    command
}

/// Runs a command, and returns its exit code and what it says on both outputs.
fn finish(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), out, err)
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(0), "{command:?}: {out}{err}");
    out
}

#[track_caller]
fn fails(command: &mut Command) -> String {
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(1), "{command:?}: {out}{err}");
    err
}

/// Compares the trees of a layer. What no entry names bears the moment in skopeo's store, and the epoch in ours.
#[track_caller]
fn assert_same_layer(ours: &Tree, theirs: &Tree) {
    let unnamed: Vec<_> =
        theirs.nodes.iter().filter(|(_, node)| node.mtime.0 > 1_780_000_000).map(|(path, _)| path.clone()).collect();
    ours.assert_same(theirs, &Options::new().ignore_mtime_of(move |path| unnamed.iter().any(|p| p == path)));
}

fn copy(user: &User, from: &str, to: &str) -> Command {
    let mut command = holkas(user);
    command.args(["copy", "--insecure-policy", "--progress=none", from, to]);
    command
}

fn skopeo(user: &User, arguments: &[&str]) -> Command {
    let mut command = user.command("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command
}

/// podman, as it can be had without cgroups, a session and a network.
fn podman(user: &User, arguments: &[&str]) -> Command {
    let mut command = user.command("podman");
    command.args(["--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc"]).args(arguments);
    command
}

/// Puts an image into the home of a user, and returns its reference.
fn layout(user: &User, image: &BuiltImage, name: &str) -> String {
    let path = user.home().join(name);
    image.write_oci(&path, Some("1"));
    user.give(&path);
    format!("oci:{}:1", path.display())
}

fn unverified(tree: &Tree) -> Vec<String> {
    tree.paths().into_iter().filter(|path| path.contains(".unverified-")).collect()
}

#[test]
fn a_users_store_equals_skopeos() {
    let user = User::with_ids(ALL_IDS);
    let image = odd_image();
    let source = layout(&user, &image, "odd");
    let theirs = user.home().join("theirs");
    let runroot = user.home().join("runroot");
    // Ours goes to where it is by itself.
    ok(&mut copy(&user, &source, "containers-storage:localhost/odd:1"));
    let their_store = format!("containers-storage:[overlay@{}+{}]localhost/odd:1", theirs.display(), runroot.display());
    ok(&mut skopeo(&user, &["copy", &source, &their_store]));
    let (ours, theirs) = (Tree::read(user.store()), Tree::read(&theirs));
    for layer in image.layer_ids() {
        let below = format!("overlay/{layer}/diff");
        assert_same_layer(&ours.subtree(&below), &theirs.subtree(&below));
    }
    // Around the layers: what skopeo has more is no part of an image; its links have names that are drawn.
    let own = |path: &[u8]| {
        let path = String::from_utf8_lossy(path).into_owned();
        let parts =
            ["diff/", "/l/", "lower", "link", "=c2lnbmF0dXJl", ".json", ".lock", "overlay-containers", "tar-split"];
        parts.iter().any(|part| path.contains(part)) || path == "mounts" || path == "tmp"
    };
    ours.assert_same(&theirs, &Options::new().ignore_mtimes().ignore_paths(own));

    // What makes it a user's.
    let [base, second] = [0, 1].map(|n| ours.subtree(format!("overlay/{}/diff", image.layer_ids()[n])));
    assert_eq!((base.at("").uid, base.at("odd/owned").uid), (user.id(), user.outside(1000)));
    assert_eq!(base.at("odd/owner-pax").gid, user.outside(3_000_000_000));
    assert!(base.get("odd/null").is_none() && base.get("odd/loop").is_none());
    assert!(base.at("odd/xattr-trusted").xattrs.is_empty());
    // Version 3, which says of which root the rights are.
    let capability = &base.at("odd/capable").xattrs[&b"security.capability"[..]];
    assert_eq!((capability[3], &capability[20..]), (3, &user.id().to_le_bytes()[..]));
    assert_eq!(second.at("change/removed").kind, Kind::CharacterDevice);
    assert_eq!(second.at("change/opaque-before").xattrs[&b"user.overlay.opaque"[..]], b"y");
    assert_eq!(unverified(&ours), [""; 0]);
}

#[test]
fn a_vfs_store_of_a_user_equals_skopeos() {
    let user = User::with_ids(ALL_IDS);
    let image = odd_image();
    let source = layout(&user, &image, "odd");
    let [ours, theirs] = ["ours", "theirs"].map(|name| user.home().join(name));
    ok(&mut copy(&user, &source, &format!("containers-storage:[vfs@{}]localhost/odd:1", ours.display())));
    let theirs_at = format!("containers-storage:[vfs@{}+{}/r]localhost/odd:1", theirs.display(), user.home().display());
    ok(&mut skopeo(&user, &["copy", &source, &theirs_at]));
    for layer in image.layer_ids() {
        let [ours, theirs] = [&ours, &theirs].map(|root| Tree::read(root.join("vfs/dir").join(&layer)));
        assert_same_layer(&ours, &theirs);
    }
}

#[test]
fn podman_takes_what_a_user_has_copied() {
    let user = User::with_ids(65_536);
    let image = runnable_image();
    let source = layout(&user, &image, "run");
    ok(&mut copy(&user, &source, "containers-storage:localhost/run:1"));
    let listed = ok(&mut podman(&user, &["images", "--no-trunc", "--format={{.Repository}}:{{.Tag}} {{.ID}}"]));
    assert_eq!(listed.trim(), format!("localhost/run:1 {}", image.config_digest()));
    // podman mounts the layers as the kernel does for users: the whiteout hides, and the upper file shows.
    let script = "cd \"$(podman image mount localhost/run:1)\" && ls etc && cat etc/motd && stat -c %u:%g .";
    let seen = ok(&mut podman(&user, &["unshare", "sh", "-c", script]));
    assert_eq!(seen, "group\nmotd\npasswd\nhello\n0:0\n");
    let run = [&RUN_OPTIONS[..], &["localhost/run:1"]].concat();
    assert_eq!(ok(&mut podman(&user, &run)), "hello\n");
    ok(&mut podman(&user, &["rmi", "localhost/run:1"]));
    let left = Tree::read(user.store());
    assert!(left.paths().iter().all(|path| !path.contains("/diff")), "{:?}", left.paths());
}

#[test]
fn a_user_reads_and_deletes_what_skopeo_has_stored() {
    let user = User::with_ids(ALL_IDS);
    let image = odd_image_uncompressed();
    let source = layout(&user, &image, "odd");
    ok(&mut skopeo(&user, &["copy", &source, "containers-storage:localhost/odd:1"]));
    let id = image.config_digest();
    let by_id = format!("containers-storage:{id}");
    for reference in ["containers-storage:localhost/odd:1", &by_id, &format!("containers-storage:@{}", image.id())] {
        assert_eq!(ok(holkas(&user).args(["inspect", "--raw", reference])).as_bytes(), image.manifest, "{reference}");
    }
    assert_eq!(ok(holkas(&user).args(["skopeo", "inspect", "--raw", &by_id])).as_bytes(), image.manifest);
    let [ours, theirs] = ["ours", "theirs"].map(|name| user.home().join(name));
    ok(&mut copy(&user, &by_id, &format!("dir:{}", ours.display())));
    let from = "containers-storage:localhost/odd:1";
    ok(&mut skopeo(&user, &["copy", from, &format!("dir:{}", theirs.display())]));
    let ours = Tree::read(&ours);
    ours.assert_same(&Tree::read(&theirs), &Options::new().ignore_mtimes());
    assert!(ours.nodes.values().all(|node| node.uid == user.id()));
    // Where the user has gone into a namespace already, we stay there.
    let program = env!("CARGO_BIN_EXE_holkas");
    let mut inside = user.command("podman");
    inside.args(["unshare", "sh", "-c", "exec \"$0\" inspect --raw \"$1\""]).arg(reachable(&user, program)).arg(&by_id);
    assert_eq!(ok(&mut inside).as_bytes(), image.manifest);

    ok(holkas(&user).args(["delete", from]));
    let left = Tree::read(user.store());
    assert!(left.paths().iter().all(|path| !path.contains("/diff")), "{:?}", left.paths());
    assert_eq!(ok(&mut podman(&user, &["images", "-q"])), "");
}

/// Returns a path of the program that a user can go along.
fn reachable(user: &User, program: &str) -> PathBuf {
    let path = user.home().join("holkas");
    fs::copy(program, &path).unwrap();
    path
}

#[test]
fn storage_conf_says_where_a_users_store_is() {
    let user = User::with_ids(65_536);
    let source = layout(&user, &runnable_image(), "run");
    let conf = user.home().join(".config/containers/storage.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    fs::write(&conf, "[storage]\ndriver = \"overlay\"\nrootless_storage_path = \"$HOME/stores/$UID\"\n").unwrap();
    user.give(&user.home().join(".config"));
    ok(&mut copy(&user, &source, "containers-storage:localhost/run:1"));
    assert!(user.home().join(format!("stores/{}/overlay-images", user.id())).is_dir());
    assert!(!user.store().exists());
    let theirs = ok(&mut skopeo(&user, &["inspect", "--raw", "containers-storage:localhost/run:1"]));
    assert_eq!(theirs, ok(holkas(&user).args(["inspect", "--raw", "containers-storage:localhost/run:1"])));
}

#[test]
fn an_owner_beyond_the_users_ids_is_named() {
    let user = User::with_ids(1000);
    let tar = |uid| TarBuilder::new().entry(Entry { uid, gid: 5, ..Entry::new(FILE, "whose") }).finish();
    let most = layout(&user, &ImageBuilder::oci().layer(tar(1000)).build(), "most");
    let more = layout(&user, &ImageBuilder::oci().layer(tar(1001)).build(), "more");
    ok(&mut copy(&user, &most, "containers-storage:localhost/most:1"));
    let before = Tree::read(user.store());
    let error = fails(&mut copy(&user, &more, "containers-storage:localhost/more:1"));
    assert!(error.contains("unpacking `whose`\n  caused by: its owner is 1001:5, and this user namespace"), "{error}");
    assert!(error.contains("hint: let root give the user more IDs in /etc/subuid and /etc/subgid"), "{error}");
    Tree::read(user.store()).assert_same(&before, &Options::new());
    // As skopeo does not take it either.
    fails(&mut skopeo(&user, &["copy", &more, "containers-storage:localhost/more:1"]));
}

#[test]
fn who_can_have_no_namespace_is_told_why() {
    let mut user = User::with_ids(ALL_IDS);
    let source = layout(&user, &odd_image_uncompressed(), "odd");
    ok(&mut copy(&user, &source, "containers-storage:localhost/odd:1"));
    let (to, out) = ("containers-storage:localhost/other:1", format!("dir:{}/out", user.home().display()));
    let before = Tree::read(user.store());

    let mut bound = copy(&user, &source, to);
    bound.env("WRAP", "setpriv --no-new-privs --");
    let error = fails(&mut bound);
    assert!(error.contains("going into a user namespace, which a store needs of who is not root"), "{error}");
    assert!(error.contains("caused by: this process can gain no rights (no_new_privs)"), "{error}");

    user.change_ids(0);
    let error = fails(&mut copy(&user, &source, to));
    assert!(error.contains("caused by: `/etc/subuid` has no IDs for user `tester`"), "{error}");
    assert!(error.contains("hint: let root run `usermod --add-subuids"), "{error}");
    let error = fails(holkas(&user).args(["skopeo", "--insecure-policy", "copy", &source, to]));
    assert!(error.contains("level=fatal") && error.contains("has no IDs for user `tester`"), "{error}");
    // Reading is tried, and what is missing is said where it does not go.
    ok(holkas(&user).args(["inspect", "--raw", "containers-storage:localhost/odd:1"]));
    let error = fails(&mut copy(&user, "containers-storage:localhost/odd:1", &out));
    assert!(
        error.starts_with("error: having no user namespace: `/etc/subuid` has no IDs for user `tester`"),
        "{error}"
    );
    let error = fails(holkas(&user).args(["unpack", "--insecure-policy", "--progress=none", &source, "out"]));
    assert!(
        error.starts_with("error: having no user namespace: `/etc/subuid` has no IDs for user `tester`"),
        "{error}"
    );

    user.change_ids(ALL_IDS);
    user.replace(&[("newgidmap", "/dev/null")]);
    let error = fails(&mut copy(&user, &source, to));
    assert!(error.contains("caused by: the program `newgidmap` is not there"), "{error}");
    assert!(error.contains("hint: install the package `uidmap`"), "{error}");
    Tree::read(user.store()).assert_same(&before, &Options::new());

    // Without a store there is no need of any of it.
    let mut bound = copy(&user, &source, &out);
    bound.env("WRAP", "setpriv --no-new-privs --");
    ok(&mut bound);
}

#[test]
fn who_cannot_be_mapped_is_as_before() {
    let mut user = User::with_ids(ALL_IDS);
    let image = runnable_image();
    let source = layout(&user, &image, "run");
    let stored = "containers-storage:localhost/run:1";
    ok(&mut copy(&user, &source, stored));
    for program in ["newuidmap", "newgidmap"] {
        user.replace(&[(program, "/bin/false")]);
        let error = fails(&mut copy(&user, &source, "containers-storage:localhost/other:1"));
        let why = "mapping the IDs failed: the helper ended with exit status: 1";
        assert!(error.contains(&format!("caused by: {why}")), "{error}");
        // In a namespace in which nobody is mapped no file would be the user's.
        assert_eq!(ok(holkas(&user).args(["inspect", "--raw", stored])).as_bytes(), image.manifest);
        let out = format!("dir:{}/{program}", user.home().display());
        ok(copy(&user, stored, &out).arg("--allow-changes"));
        let out = Tree::read(user.home().join(program));
        assert!(out.nodes.values().all(|node| (node.uid, node.gid) == (user.id(), user.id())));
    }
}

#[test]
fn a_users_tree_is_unpacked_whole_or_not_at_all() {
    let user = User::with_ids(65_536);
    let file = Entry { uid: 33, gid: 44, mode: 0o4750, ..Entry::new(FILE, "bin/owned") };
    let base = TarBuilder::new().dir("bin/", 0o755).entry(file).file("bin/gone", 0o644, "");
    let upper = TarBuilder::new().whiteout("bin/gone").finish();
    let image = ImageBuilder::oci().compression(Compression::Gzip).layer(base.finish()).layer(upper).build();
    let source = layout(&user, &image, "image");
    ok(holkas(&user).args(["unpack", "--insecure-policy", "--progress=none", &source, "tree"]));
    let tree = Tree::read(user.home().join("tree"));
    assert_eq!(tree.paths(), ["", "bin", "bin/owned"]);
    let owned = tree.at("bin/owned");
    assert_eq!((owned.uid, owned.gid, owned.mode), (user.outside(33), user.outside(44), 0o4750));
    let device = TarBuilder::new().device("null", CHARACTER_DEVICE, 1, 3).finish();
    let source = layout(&user, &ImageBuilder::oci().layer(device).build(), "device");
    let error = fails(holkas(&user).args(["unpack", "--insecure-policy", &source, "other"]));
    assert!(error.contains("unpacking `null`\n  caused by: the operating system does not allow it"), "{error}");
    assert!(!user.home().join("other").exists());
}

#[test]
fn a_users_tree_is_not_embedded() {
    let user = User::with_ids(65_536);
    let source = layout(&user, &runnable_image(), "run");
    let list = user.home().join("images.toml");
    fs::write(&list, format!("[[image]]\nsource = \"{source}\"\nname = \"localhost/run:1\"\n")).unwrap();
    fs::create_dir(user.home().join("root")).unwrap();
    user.give(&user.home());
    let error = fails(holkas(&user).args(["embed", "--insecure-policy", "--root=root", "images.toml"]));
    assert!(error.contains("this process lacks CAP_CHOWN (owners)"), "{error}");
    let mut inside = user.command("podman");
    inside.args(["unshare", "sh", "-c", "exec \"$0\" embed --insecure-policy --root=root images.toml"]);
    let error = fails(inside.arg(reachable(&user, env!("CARGO_BIN_EXE_holkas"))));
    assert!(error.contains("this process is in a user namespace, where devices and trusted.*"), "{error}");
    assert_eq!(Tree::read(user.home().join("root")).paths(), [""]);
}

#[test]
fn a_killed_run_leaves_no_process_and_nothing_visible() {
    let user = User::with_ids(65_536);
    let source = layout(&user, &many_small_files(3000), "many");
    let mut moments = Moments::within(Duration::from_millis(400));
    let mut killed = 0;
    for _ in 0..12 {
        killed += u32::from(moments.kill(&mut copy(&user, &source, "containers-storage:localhost/many:1")));
        // The helper may be busy for a moment more: it ends by itself.
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !user.processes().is_empty() {
            assert!(std::time::Instant::now() < until, "still running: {:?}", user.processes());
            std::thread::sleep(Duration::from_millis(5));
        }
        if user.store().join("overlay-images/images.json").exists() {
            // All of it is there, as podman sees it too.
            let seen =
                ok(holkas(&user).args(["inspect", "--format={{len .Layers}}", "containers-storage:localhost/many:1"]));
            assert_eq!(seen.trim(), "1");
            ok(holkas(&user).args(["delete", "containers-storage:localhost/many:1"]));
        }
    }
    assert!(killed > 3, "only {killed} of 12 runs were killed in time");
    ok(&mut copy(&user, &source, "containers-storage:localhost/many:1"));
    assert_eq!(unverified(&Tree::read(user.store())), [""; 0]);
}
