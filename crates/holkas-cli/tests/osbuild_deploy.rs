//! The stage `org.osbuild.container-deploy`, run in a sandbox: the tree is the one that podman mounts.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use holkas_testkit::corrupt;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder};
use holkas_testkit::oddities::{odd_image, runnable_image};
use holkas_testkit::osbuild::sandbox::{Sandbox, images, with_lists};
use holkas_testkit::peers::Store;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};
use tempfile::TempDir;

const STAGE: &str = "org.osbuild.container-deploy";
/// A time that no entry has.
const CLOCK: i64 = 1_234_567_890;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_holkas")).source_epoch(CLOCK)
}

/// Puts an image into the input, and returns the inputs.
fn put(sandbox: &Sandbox, image: &BuiltImage) -> Value {
    let key = image.config_digest();
    image.write_dir(sandbox.input("images").join(&key));
    images(&[(&key, "dir", "localhost/deployed:1")])
}

/// Does what osbuild's own stage does: copies the image into a store, mounts it, copies its files, removes some.
fn stock(sandbox: &Sandbox, image: &BuiltImage, exclude: &[&str]) -> Tree {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    stock_over(sandbox, image, exclude, &root);
    Tree::read(root)
}

fn stock_over(sandbox: &Sandbox, image: &BuiltImage, exclude: &[&str], root: &Path) {
    let store = Store::overlay();
    let from = format!("dir:{}", sandbox.input("images").join(image.config_digest()).display());
    store.skopeo(["copy", "-q", &from, &store.reference("localhost/stock:1")]).ok();
    let mounted = store.podman(["image", "mount", "localhost/stock:1"]).ok();
    let copied = Command::new("cp").arg("-a").arg(format!("{mounted}/.")).arg(root).output().unwrap();
    let errors = String::from_utf8_lossy(&copied.stderr);
    // An overlay lists a whiteout in a directory that only one layer has, and then says that it is not there.
    assert!(errors.lines().all(|line| line.contains("cannot stat")), "{errors}");
    for path in exclude {
        assert!(Command::new("rm").arg("-rf").arg(root.join(path)).status().unwrap().success());
    }
}

/// The time of the moment is where no layer gives one; there our time is the pipeline's.
fn same(ours: &Tree, theirs: &Tree) {
    let timeless: Vec<_> =
        ours.nodes.iter().filter(|(_, node)| node.mtime == (CLOCK, 0)).map(|(path, _)| path.clone()).collect();
    ours.assert_same(theirs, &Options::new().ignore_mtime_of(move |path| timeless.iter().any(|own| own == path)));
}

#[test]
fn the_tree_is_that_of_osbuilds_own_stage() {
    for image in [runnable_image(), odd_image()] {
        let sandbox = sandbox();
        let inputs = put(&sandbox, &image);
        let said = sandbox.run(STAGE, &inputs, &json!({})).ok();
        assert!(said.contains(&image.digest()) && said.contains(&image.id()), "{said}");
        same(&Tree::read(sandbox.tree()), &stock(&sandbox, &image, &[]));
    }
}

#[test]
fn what_is_excluded_is_not_there() {
    let layer = TarBuilder::new()
        .mtime(1_600_000_000, 0)
        .dir("usr", 0o755)
        .dir("sysroot", 0o755)
        .file("usr/share/doc/readme", 0o644, "readme")
        .file("usr/share/kept", 0o644, "kept")
        .file("sysroot/ostree/repo/config", 0o644, "x")
        .finish();
    let image = ImageBuilder::oci().layer_with(layer, Compression::Gzip).build();
    let sandbox = sandbox();
    let inputs = put(&sandbox, &image);
    let options = json!({"exclude": ["/usr/share/doc", "sysroot/ostree", "/not/there"], "remove-signatures": true});
    sandbox.run(STAGE, &inputs, &options).ok();
    let tree = Tree::read(sandbox.tree());
    assert_eq!(tree.paths(), ["", "sysroot", "usr", "usr/share", "usr/share/kept"]);
    // What was removed from has the time of the removal.
    let theirs = stock(&sandbox, &image, &["usr/share/doc", "sysroot/ostree", "not/there"]);
    let parents = |path: &[u8]| [&b"sysroot"[..], b"usr/share"].contains(&path) || path.is_empty();
    tree.assert_same(&theirs, &Options::new().ignore_mtime_of(parents));
    for path in ["/", "", "/usr/../etc"] {
        let said = sandbox.run(STAGE, &inputs, &json!({"exclude": [path]})).fails();
        assert!(said.contains("reading `exclude`"), "{said}");
    }
}

#[test]
fn every_format_of_the_input_gives_the_same_tree() {
    let image = odd_image();
    let first = sandbox();
    let inputs = put(&first, &image);
    first.run(STAGE, &inputs, &json!({})).ok();
    let expected = Tree::read(first.tree());
    first.clear();
    first.run(STAGE, &inputs, &json!({})).ok();
    Tree::read(first.tree()).assert_same(&expected, &Options::new());

    let archived = sandbox();
    image.write_oci_archive(archived.input("images").join("image.tar"), None);
    archived.run(STAGE, &images(&[("image.tar", "oci-archive", "localhost/deployed:1")]), &json!({})).ok();
    Tree::read(archived.tree()).assert_same(&expected, &Options::new());

    let stored = sandbox();
    let host = Store::at(stored.input("images").join("storage"), "overlay");
    let from = format!("dir:{}", first.input("images").join(image.config_digest()).display());
    host.skopeo(["copy", "-q", &from, &host.reference("localhost/of-the-host:1")]).ok();
    host.unmount();
    let before = Tree::read(&host.root);
    let key = image.config_digest();
    stored.run(STAGE, &images(&[(&key, "containers-storage", "localhost/deployed:1")]), &json!({})).ok();
    Tree::read(stored.tree()).assert_same(&expected, &Options::new());
    Tree::read(&host.root).assert_same(&before, &Options::new());
}

#[test]
fn an_image_is_known_by_its_digest_where_a_list_comes_along() {
    let sandbox = sandbox();
    let foreign =
        ImageBuilder::oci().architecture("s390x").layer(TarBuilder::new().file("a", 0o644, "a").finish()).build();
    let list = IndexBuilder::oci().image(&runnable_image()).image(&foreign).build();
    let inputs = put(&sandbox, &foreign);
    fs::write(sandbox.input("manifest-lists").join(list.digest()), &list.manifest).unwrap();
    sandbox.run(STAGE, &with_lists(inputs, &[&list.digest()]), &json!({})).ok();
    assert_eq!(Tree::read(sandbox.tree()).paths(), ["", "a"]);
}

#[test]
fn what_cannot_be_deployed_leaves_the_tree_empty() {
    let (image, other) = (runnable_image(), odd_image());
    let sandbox = sandbox();
    let inputs = put(&sandbox, &image);
    let said = sandbox.run(STAGE, &inputs, &json!({"exclude": "/usr"})).fails();
    assert!(said.contains("`exclude` in `options` is not a list of strings"), "{said}");
    put(&sandbox, &other);
    let two = images(&[(&image.config_digest(), "dir", "a"), (&other.config_digest(), "dir", "b")]);
    let said = sandbox.run(STAGE, &two, &json!({})).fails();
    assert!(said.contains("a tree can be of one image, and the input `images` has 2"), "{said}");
    let dir = sandbox.input("images").join(image.config_digest());
    corrupt::flip_middle(corrupt::dir_blob(&dir, &image.layers[0].digest));
    let said = sandbox.run(STAGE, &inputs, &json!({})).fails();
    assert!(said.contains("unpacking layer 1 of 2"), "{said}");
    assert_eq!(fs::read_dir(sandbox.tree()).unwrap().count(), 0);
}

/// A tree that other stages have begun: what the stock stage's `cp -a` makes of it.
#[test]
fn what_is_in_the_tree_already_is_joined() {
    let layer = TarBuilder::new()
        .mtime(1_600_000_000, 0)
        .dir("etc", 0o2750)
        .file("etc/both", 0o600, "the image's")
        .file("etc/link", 0o644, "no link")
        .file("usr/share/doc/readme", 0o644, "readme")
        .file("usr/bin/tool", 0o4755, "tool")
        .hard_link("usr/bin/alias", "usr/bin/tool")
        .finish();
    let image = ImageBuilder::oci().layer_with(layer, Compression::Gzip).build();
    let begin = |root: &Path| {
        for dir in ["etc/conf.d", "usr/share/doc/old", "var/empty"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in ["etc/both", "etc/own", "usr/share/doc/old/x", "top"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("own", root.join("etc/link")).unwrap();
    };
    let sandbox = sandbox();
    let inputs = put(&sandbox, &image);
    begin(&sandbox.tree());
    sandbox.run(STAGE, &inputs, &json!({"exclude": ["/usr/share/doc"]})).ok();
    let ours = Tree::read(sandbox.tree());

    let stock = TempDir::new().unwrap();
    begin(stock.path());
    // Here cp would write through the link, into `etc/own`.
    fs::remove_file(stock.path().join("etc/link")).unwrap();
    stock_over(&sandbox, &image, &["usr/share/doc"], stock.path());
    let moment = |path: &[u8]| {
        path.is_empty()
            || [&b"etc/conf.d"[..], b"etc/own", b"top", b"usr/bin", b"usr"].contains(&path)
            || path.starts_with(b"var")
            || path.starts_with(b"usr/share")
    };
    ours.assert_same(&Tree::read(stock.path()), &Options::new().ignore_mtime_of(moment));
    assert_eq!(fs::read_to_string(sandbox.tree().join("etc/own")).unwrap(), "etc/own");

    // A directory does not come into the place of a file, and then nothing has changed.
    sandbox.clear();
    fs::write(sandbox.tree().join("usr"), "a file").unwrap();
    fs::write(sandbox.tree().join("etc"), "a file").unwrap();
    let before = Tree::read(sandbox.tree());
    let said = sandbox.run(STAGE, &inputs, &json!({})).fails();
    assert!(said.contains("is no directory, and a directory shall come into its place"), "{said}");
    Tree::read(sandbox.tree()).assert_same(&before, &Options::new());
}
