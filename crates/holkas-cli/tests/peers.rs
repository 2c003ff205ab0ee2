//! `holkas embed` held against the real podman, skopeo and containers-storage.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holkas_testkit::fault::small_filesystem;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder};
use holkas_testkit::oddities::{many_small_files, odd_image, odd_image_uncompressed, runnable_image};
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use tempfile::TempDir;

const APP: &str = "registry.example.org/team/app";
const STORE: &str = "var/lib/containers/storage";

/// A directory with images as `dir:`, the file that lists them, and a root to embed into.
struct Bench {
    dir: TempDir,
    listed: String,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir, listed: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds an image under `name`, with more keys for its table.
    fn image(mut self, source: &str, name: &str, more: &str) -> Self {
        self.listed += &format!("[[image]]\nsource = \"dir:{source}\"\nname = \"{name}\"\n{more}\n");
        fs::write(self.path("images.toml"), &self.listed).unwrap();
        self
    }

    fn with(self, image: &BuiltImage, name: &str) -> Self {
        let directory = format!("image-{}", self.listed.len());
        image.write_dir(self.path(&directory));
        self.image(&directory, name, "")
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn store(&self) -> Store {
        Store::at(self.root().join(STORE), "overlay")
    }

    /// Returns the run, not started, into `root`.
    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holkas"));
        command.env_clear().env("HOME", "/nonexistent").current_dir(self.dir.path());
        command.args(["--insecure-policy", "embed", "--progress=none", "images.toml", "--root"]).arg(root);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn embed(&self) -> String {
        succeed(self.command(&self.root()))
    }
}

fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn plain(text: &str) -> BuiltImage {
    let base = TarBuilder::new().file("base", 0o644, "shared by all").finish();
    ImageBuilder::oci()
        .layer_with(base, Compression::Gzip)
        .layer_with(TarBuilder::new().file("own", 0o644, text).finish(), Compression::Zstd)
        .build()
}

fn assert_empty(store: &Store) {
    for records in ["overlay-images/images.json", "overlay-layers/layers.json"] {
        assert_eq!(fs::read_to_string(store.root.join(records)).unwrap(), "[]", "{records}");
    }
    let left: Vec<_> = fs::read_dir(store.root.join("overlay")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.len() < 64), "{left:?}");
    assert_eq!(fs::read_dir(store.root.join("overlay/l")).unwrap().count(), 0);
}

#[test]
fn podman_finds_and_runs_an_image_by_tag_instance_and_list() {
    let (image, foreign) =
        (runnable_image(), ImageBuilder::oci().platform("s390x", "linux").layer(vec![0; 1024]).build());
    let index = IndexBuilder::oci().image(&foreign).image(&image).build();
    let bench = Bench::new();
    index.write_dir(bench.path("list"));
    let bench = bench.image("list", &format!("{APP}:1"), "");
    bench.embed();
    let store = bench.store();
    let listed = store.podman(["images", "--digests", "--no-trunc"]).ok();
    assert!(listed.contains(&index.digest()) || listed.contains(&image.digest()), "{listed}");
    let names = [format!("{APP}:1"), format!("{APP}@{}", image.digest()), format!("{APP}@{}", index.digest())];
    for name in &names {
        assert_eq!(
            store.podman(["image", "inspect", name]).json()[0]["Architecture"],
            std::env::consts::ARCH.replace("x86_64", "amd64")
        );
        assert_eq!(store.podman_run([name.as_str(), "/bin/busybox", "cat", "/etc/motd"]).ok(), "hello", "{name}");
    }
    let before = fs::read(store.root.join("overlay-images/images.json")).unwrap();
    bench.embed();
    assert_eq!(
        fs::read(store.root.join("overlay-images/images.json")).unwrap(),
        before,
        "a second run changes nothing"
    );
}

#[test]
fn several_platforms_of_one_list_are_in_one_store() {
    let platforms = ["amd64", "arm64", "s390x"];
    let images = platforms.map(|architecture| {
        let layer = TarBuilder::new().file("arch", 0o644, architecture).finish();
        ImageBuilder::docker().architecture(architecture).layer_with(layer, Compression::Gzip).build()
    });
    let index = images.iter().fold(IndexBuilder::docker(), IndexBuilder::image).build();
    let bench = Bench::new();
    index.write_dir(bench.path("list"));
    let bench =
        bench.image("list", &format!("{APP}:1"), "platform = [\"linux/arm64\", \"linux/amd64\", \"linux/s390x\"]");
    bench.embed();
    let store = bench.store();
    let architecture = |name: &str| store.podman(["image", "inspect", name]).json()[0]["Architecture"].clone();
    assert_eq!(architecture(&format!("{APP}:1")), "arm64");
    for (image, platform) in images.iter().zip(platforms) {
        assert_eq!(architecture(&format!("{APP}@{}", image.digest())), platform);
    }
    store.podman(["image", "inspect", &format!("{APP}@{}", index.digest())]).ok();
}

#[test]
fn podman_saves_what_was_embedded_with_the_same_diff_ids_and_removes_all_of_it() {
    let image = odd_image_uncompressed();
    let bench = Bench::new().with(&image, "localhost/odd:1");
    bench.embed();
    let store = bench.store();
    let saved = bench.path("saved.tar");
    store.podman(["save", "--format=oci-archive", "-o", saved.to_str().unwrap(), "localhost/odd:1"]).ok();
    let config = Peer::skopeo().run(["inspect", "--config", &format!("oci-archive:{}", saved.display())]).json();
    let expected: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(expected));
    store.podman(["rmi", "localhost/odd:1"]).ok();
    assert_empty(&store);
}

#[test]
fn layers_are_shared_with_skopeo_in_both_directions() {
    let (first, second) = (plain("first"), plain("second"));
    for we_begin in [true, false] {
        let (ours, theirs) = if we_begin { (&first, &second) } else { (&second, &first) };
        let bench = Bench::new().with(ours, "localhost/ours:1");
        let store = bench.store();
        theirs.write_dir(bench.path("theirs"));
        let from = format!("dir:{}", bench.path("theirs").display());
        let theirs = || store.skopeo(["copy", &from, &store.reference("localhost/theirs:1")]).ok();
        if we_begin {
            bench.embed();
            theirs();
        } else {
            theirs();
            bench.embed();
        }
        let layers: serde_json::Value =
            serde_json::from_slice(&fs::read(store.root.join("overlay-layers/layers.json")).unwrap()).unwrap();
        assert_eq!(layers.as_array().unwrap().len(), 3, "one base, two on it: {layers}");
        let listed = store.podman(["images", "--format={{.Repository}}"]).ok();
        assert!(listed.contains("localhost/ours") && listed.contains("localhost/theirs"), "{listed}");
        store.podman(["rmi", "localhost/ours:1", "localhost/theirs:1"]).ok();
        assert_empty(&store);
    }
}

#[test]
fn the_store_serves_as_a_read_only_additional_store() {
    let bench = Bench::new().with(&runnable_image(), &format!("{APP}:1"));
    bench.embed();
    let store = Store::overlay().additional_store(bench.root().join(STORE));
    let listed = store.podman(["images", "--format={{.Repository}} {{.ReadOnly}}"]).ok();
    assert!(listed.contains(&format!("{APP} true")), "{listed}");
    assert_eq!(store.podman_run([&format!("{APP}:1"), "/bin/busybox", "echo", "hello"]).ok(), "hello");
}

#[test]
fn containers_storage_finds_nothing_wrong() {
    let bench = Bench::new().with(&odd_image(), "localhost/odd:1").with(&runnable_image(), "localhost/run:1");
    bench.embed();
    let store = bench.store();
    let images = store.containers_storage(["images"]).ok();
    assert!(images.contains("localhost/odd:1") && images.contains("localhost/run:1"), "{images}");
    assert_eq!(store.containers_storage(["layers", "-j"]).json().as_array().unwrap().len(), 5);
    // Only newer versions have `check`; without it the listing above is what can be had.
    if store.containers_storage(["help"]).text().contains("check") {
        store.containers_storage(["check"]).ok();
    } else {
        eprintln!("not run: this containers-storage has no `check`");
    }
}

#[test]
fn the_tree_equals_skopeos() {
    let image = odd_image();
    let bench = Bench::new().with(&image, "localhost/odd:1");
    bench.embed();
    let (ours, theirs) = (bench.store(), Store::overlay());
    let source = format!("dir:{}", bench.path("image-0").display());
    theirs.skopeo(["copy", &source, &theirs.reference("localhost/odd:1")]).ok();
    for layer in image.layer_ids() {
        let below = format!("overlay/{layer}/diff");
        let (ours, theirs) = (Tree::read(ours.root.join(&below)), Tree::read(theirs.root.join(&below)));
        // What no entry names bears the moment in skopeo's store, and the epoch in ours.
        let unnamed: Vec<_> = ours.nodes.iter().filter(|(_, n)| n.mtime == (0, 0)).map(|(p, _)| p.clone()).collect();
        ours.assert_same(&theirs, &Options::new().ignore_mtime_of(move |path| unnamed.iter().any(|p| p == path)));
    }
    // The items of the image: the same files with the same bytes; skopeo also keeps an empty item for no signatures.
    let items = format!("overlay-images/{}", image.config_digest().trim_start_matches("sha256:"));
    let no_signatures = "=c2lnbmF0dXJl";
    let options = Options::new().ignore_mtimes().ignore_paths(move |path| path.starts_with(no_signatures.as_bytes()));
    Tree::read(ours.root.join(&items)).assert_same(&Tree::read(theirs.root.join(&items)), &options);
}

#[test]
fn the_same_images_give_the_same_bytes_whatever_is_around() {
    let bench = Bench::new().with(&odd_image(), "localhost/odd:1").with(&many_small_files(500), "localhost/many:1");
    let (first, second) = (small_filesystem(64 << 20), small_filesystem(96 << 20));
    let root = |path: &Path| path.join("root");
    let mut one = bench.command(&root(first.path()));
    one.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "C").arg("--jobs=1");
    let mut other = {
        // The same list by another way, from another directory.
        let mut command = Command::new("sh");
        let script = format!(
            "umask 077; cd /; exec '{}' --insecure-policy embed --progress=none '{}' --root '{}' --jobs 8",
            env!("CARGO_BIN_EXE_holkas"),
            bench.path("images.toml").display(),
            root(second.path()).display()
        );
        command.env_clear().env("TZ", "America/Adak").env("LC_ALL", "tr_TR.UTF-8").arg("-c").arg(script);
        command
    };
    fs::create_dir(root(first.path())).unwrap();
    fs::create_dir(root(second.path())).unwrap();
    succeed(one);
    let output = other.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let store = |path: &Path| Tree::read(root(path).join(STORE));
    store(first.path()).assert_same(&store(second.path()), &Options::new());
}

#[test]
fn eight_at_once_beside_writing_and_reading_podman_and_skopeo_lose_nothing() {
    let benches: Vec<_> =
        (0..8).map(|n| Bench::new().with(&plain(&format!("image {n}")), &format!("localhost/app:{n}"))).collect();
    let root = benches[0].root();
    let store = Store::at(root.join(STORE), "overlay");
    let theirs = plain("podman's own");
    theirs.write_oci(benches[0].path("theirs"), Some("1"));
    let from = format!("oci:{}:1", benches[0].path("theirs").display());
    let reference = store.reference("localhost/theirs:1");
    // podman writes layers and images too: an image of its own in each turn (all of one layer), and a name more for it.
    let root_tar = benches[0].path("imported.tar");
    fs::write(&root_tar, TarBuilder::new().file("imported", 0o644, "by podman").finish()).unwrap();
    let imported = |n: usize| format!("localhost/imported:{n}");
    std::thread::scope(|scope| {
        for bench in &benches {
            scope.spawn(|| succeed(bench.command(&root)));
        }
        scope.spawn(|| store.skopeo(["copy", &from, &reference]).ok());
        scope.spawn(|| {
            for _ in 0..5 {
                let listed = store.podman(["images"]);
                if !listed.status.success() {
                    // podman and skopeo record an image before they write what belongs to it, and a reader may see
                    // that; what holkas writes is never seen so.
                    let said = listed.errors();
                    assert!(said.contains("locating item named"), "{said}");
                    let of_image =
                        said.split_once("for image with ID \"").and_then(|(_, rest)| rest.get(..64)).unwrap();
                    assert!((0..8).all(|n| plain(&format!("image {n}")).id() != of_image), "{said}");
                }
            }
        });
        scope.spawn(|| {
            for n in 0..4 {
                store.podman(["import", "--message", &imported(n), root_tar.to_str().unwrap(), &imported(n)]).ok();
                store.podman(["tag", &imported(n), &imported(10 + n)]).ok();
            }
        });
    });
    let listed = store.podman(["images", "--format={{.Repository}}:{{.Tag}}"]).ok();
    let ours = (0..8).map(|n| format!("localhost/app:{n}"));
    let theirs = (0..4).flat_map(|n| [imported(n), imported(10 + n)]);
    for name in ours.chain(theirs).chain(["localhost/theirs:1".to_owned()]) {
        assert!(listed.lines().any(|line| line == name), "{name} is lost: {listed}");
        let saved = benches[0].path("saved.tar");
        store.podman(["save", "-q", "--format=oci-archive", "-o", saved.to_str().unwrap(), &name]).ok();
        fs::remove_file(saved).unwrap();
    }
    let layers = fs::read_to_string(store.root.join("overlay-layers/layers.json")).unwrap();
    assert_eq!(layers.matches("\"id\":").count(), 1 + 8 + 1 + 1, "each layer is there once: {layers}");
}
