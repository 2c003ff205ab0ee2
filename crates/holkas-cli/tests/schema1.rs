//! Docker's schema 1: copied as it is, converted, and written, with the bytes that Debian's skopeo gives.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Output, finish, holkas, run};
use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::image::{BuiltImage, Compression, ImageBuilder, IndexBuilder, compress, hex_of, sha256_digest};
use holkas_testkit::oddities::runnable_image_of;
use holkas_testkit::peers::{Peer, Store};
use holkas_testkit::registry::Registry;
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The gzipped empty tar that stands for a step without a layer.
const EMPTY: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";
const UNSIGNED: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// Its bytes.
const EMPTY_BLOB: [u8; 32] = [
    31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175, 181, 239, 0,
    4, 0, 0,
];

/// A directory to work in.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dir(&self, name: &str) -> String {
        format!("dir:{}", self.at(name).display())
    }

    fn manifest(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name).join("manifest.json")).unwrap()
    }

    /// The files of a `dir:`, but for a manifest that is signed, which has its payload instead, and but for the empty
    /// layer, which skopeo leaves behind where nothing names it.
    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        let mut files: BTreeMap<_, _> =
            fs::read_dir(self.at(name)).unwrap().map(|entry| file(entry.unwrap())).collect();
        let manifest = files.get_mut("manifest.json").unwrap();
        if let Some(payload) = payload(manifest) {
            *manifest = payload;
        } else if !String::from_utf8_lossy(manifest).contains(EMPTY) {
            files.remove(hex_of(EMPTY));
        }
        files
    }

    /// The image as skopeo writes it in schema 1, signed.
    fn downgraded(&self, image: &BuiltImage) -> String {
        image.write_dir(self.at("of"));
        skopeo(&["copy", "-f", "v2s1", &self.dir("of"), &self.dir("schema1")]);
        self.dir("schema1")
    }
}

fn skopeo(arguments: &[&str]) -> String {
    Peer::skopeo().run(arguments).ok()
}

/// holkas in skopeo's place.
fn ours(arguments: &[&str]) -> Output {
    finish(holkas().args(["skopeo", "--insecure-policy"]).args(arguments))
}

fn own(arguments: &[&str]) -> Output {
    run(&[&["--insecure-policy"], arguments].concat())
}

#[track_caller]
fn ok(output: Output) -> Output {
    assert_eq!(output.code, 0, "{}", output.err);
    output
}

#[track_caller]
fn fails(output: &Output, said: &str) {
    // A file that is missing is "not found", as an image that is.
    assert!(matches!(output.code, 1 | 2), "{}: {}", output.code, output.err);
    assert!(output.err.contains(said), "{said:?} is not in: {}", output.err);
}

/// What the digest of a signed manifest is of.
fn payload(manifest: &[u8]) -> Option<Vec<u8>> {
    let document: Value = serde_json::from_slice(manifest).unwrap();
    let protected = document["signatures"][0]["protected"].as_str()?;
    let protected: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(protected).unwrap()).unwrap();
    let length = usize::try_from(protected["formatLength"].as_u64().unwrap()).unwrap();
    let tail = URL_SAFE_NO_PAD.decode(protected["formatTail"].as_str().unwrap()).unwrap();
    Some([&manifest[..length], &tail].concat())
}

fn layer(text: &str) -> Vec<u8> {
    TarBuilder::new().file("file", 0o644, text.repeat(1000)).finish()
}

/// An image with steps that have no layer, and with what Go writes otherwise than others.
fn image(builder: ImageBuilder) -> BuiltImage {
    builder
        .compression(Compression::Gzip)
        .empty_history("ENV <a> & b")
        .layer(layer("one"))
        .empty_history("CMD")
        .layer(layer("two"))
        .empty_history("LABEL \u{2028}")
        .env("A=<b> & c")
        .label("x", "\u{e9}\"\\")
        .config_field("zzz", json!({"b": [1.5, 1e30, null], "a": "</x>"}))
        .build()
}

/// Writes a manifest without signatures and its blobs: steps are history entries with their layers, lowest first.
fn write(dir: &Path, steps: &[(Value, Vec<u8>)], change: impl FnOnce(&mut Value)) {
    fs::create_dir(dir).unwrap();
    for (_, blob) in steps {
        fs::write(dir.join(hex_of(&sha256_digest(blob))), blob).unwrap();
    }
    let steps = || steps.iter().rev();
    let mut manifest = json!({
        "schemaVersion": 1, "name": "library/old", "tag": "latest", "architecture": "amd64",
        "fsLayers": steps().map(|(_, blob)| json!({"blobSum": sha256_digest(blob)})).collect::<Vec<_>>(),
        "history": steps().map(|(entry, _)| json!({"v1Compatibility": entry.to_string()})).collect::<Vec<_>>(),
    });
    change(&mut manifest);
    fs::write(dir.join("manifest.json"), serde_json::to_string_pretty(&manifest).unwrap()).unwrap();
    fs::write(dir.join("version"), "Directory Transport Version: 1.1\n").unwrap();
}

fn id(n: usize) -> String {
    sha256_digest(n.to_string())[7..].to_owned()
}

/// What docker itself wrote, which is another thing than what skopeo writes: three steps, of which one has no layer.
fn old(docker_version: &str) -> Vec<(Value, Vec<u8>)> {
    let config = json!({
        "Hostname": "h", "User": "u", "Memory": 0, "PortSpecs": null, "ExposedPorts": {"80/tcp": {}},
        "Env": ["A=<b>"], "Cmd": ["/bin/sh", "-c", "x"], "Volumes": {"/v": {}}, "Entrypoint": null, "OnBuild": [],
        "Labels": null, "NetworkDisabled": true,
    });
    vec![
        (
            json!({"id": id(0), "created": "2014-01-01T00:00:00.100Z", "Size": 1, "docker_version": docker_version,
                "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) ADD <x>"]}, "throwaway": false}),
            compress(&layer("zero"), Compression::Gzip),
        ),
        (
            json!({"id": id(1), "parent": id(0), "created": "2014-01-01T02:00:00+02:00", "throwaway": true,
                "container_config": {"Cmd": null}, "author": "A\u{2028}B", "comment": "c"}),
            EMPTY_BLOB.to_vec(),
        ),
        (
            json!({"id": id(2), "parent": id(1), "created": "2014-01-02T00:00:00Z", "container": "c", "author": "me",
                "container_config": config, "config": config, "docker_version": docker_version, "Size": 5,
                "architecture": "amd64", "os": "linux", "parent_id": "x", "layer_id": "y", "checksum": "z"}),
            compress(&layer("two"), Compression::Gzip),
        ),
    ]
}

#[test]
fn written_as_by_skopeo_and_the_same_each_time() {
    for builder in [ImageBuilder::docker(), ImageBuilder::oci()] {
        let bench = Bench::new();
        let from = {
            bench.downgraded(&image(builder));
            bench.dir("of")
        };
        let output = ok(ours(&["copy", "-f", "v2s1", &from, &bench.dir("ours")]));
        assert!(!output.out.contains("Copying config") && output.out.contains(EMPTY), "{}", output.out);
        assert_eq!(bench.files("ours"), bench.files("schema1"));
        ok(own(&["copy", "-q", "--format", "v2s1", &from, &bench.dir("own")]));
        assert_eq!(bench.manifest("own"), bench.manifest("ours"));
        let digests = ["ours", "schema1"]
            .map(|name| skopeo(&["manifest-digest", &format!("{}/manifest.json", bench.at(name).display())]));
        assert_eq!(digests[0], digests[1]);
        // And back, to the image that skopeo makes of it.
        skopeo(&["copy", "-f", "v2s2", &bench.dir("schema1"), &bench.dir("theirs2")]);
        ok(ours(&["copy", "-f", "v2s2", &bench.dir("ours"), &bench.dir("ours2")]));
        assert_eq!(bench.files("ours2"), bench.files("theirs2"));
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let bench = Bench::new();
    let at = |name: &str| bench.dir(name);
    let plain = image(ImageBuilder::docker());
    plain.write_dir(bench.at("of"));
    ImageBuilder::docker().layer(layer("x")).without_history().build().write_dir(bench.at("bare"));
    image(ImageBuilder::oci()).write_dir_signed(bench.at("signed"), &["a signature"]);
    IndexBuilder::docker().image(&plain).build().write_dir(bench.at("list"));
    let zstd = ImageBuilder::oci().layer_with(layer("x"), Compression::Zstd).build();
    zstd.write_dir(bench.at("zstd"));
    let layout = format!("oci:{}:1", bench.at("made").display());
    for (arguments, said) in [
        (&["-f", "v2s1", &at("bare"), &at("made")][..], "an image without a history"),
        (&["-f", "v2s1", &at("zstd"), &at("made")], "zstd"),
        (&["-f", "v2s1", &at("signed"), &at("made")], "would invalidate the image's signatures"),
        (&["-f", "v2s1", &at("of"), &layout], "holds no manifests of Docker's schema 1"),
        (&["-f", "v2s1", "--all", &at("list"), &at("made")], "a list of images in Docker's schema 1 is not written"),
    ] {
        fails(&own(&[&["copy", "-q"], arguments].concat()), said);
        assert!(!bench.at("made").exists(), "{arguments:?}");
    }
    ok(own(&["copy", "-q", "-f", "v2s1", "--remove-signatures", &at("signed"), &at("made")]));
}

#[test]
fn copied_as_it_is() {
    let bench = Bench::new();
    let from = bench.downgraded(&image(ImageBuilder::docker()));
    write(&bench.at("unsigned"), &old("20.10.1"), |_| {});
    fs::write(bench.at("unsigned/signature-1"), "a signature").unwrap();
    for (n, from) in [from, bench.dir("unsigned")].iter().enumerate() {
        let name = from.rsplit('/').next().unwrap();
        let files = |name: &str| {
            let read = |entry: fs::DirEntry| (entry.file_name(), fs::read(entry.path()).unwrap());
            fs::read_dir(bench.at(name)).unwrap().map(|it| read(it.unwrap())).collect::<BTreeMap<_, _>>()
        };
        for (flags, to) in
            [(&[][..], "a"), (&["--preserve-digests"], "b"), (&["-f", "v2s1"], "c"), (&["--allow-changes"], "d")]
        {
            let to = format!("{to}{n}");
            ok(own(&[&["copy", "-q"], flags, &[from, &bench.dir(&to)]].concat()));
            assert_eq!(files(&to), files(name), "{flags:?}");
        }
        ok(ours(&["copy", "-q", from, &bench.dir(&format!("e{n}"))]));
        assert_eq!(files(&format!("e{n}")), files(name));
        fails(&own(&["copy", "-q", "--dest-decompress", from, &bench.dir("made")]), "--format v2s2");
    }
}

#[test]
fn converted_as_by_skopeo() {
    let bench = Bench::new();
    bench.downgraded(&image(ImageBuilder::docker()));
    write(&bench.at("new"), &old("1.10.0"), |_| {});
    // Such a config is written anew.
    write(&bench.at("old"), &old("1.6.2"), |_| {});
    let mut again = old("1.10.0");
    again.push((json!({"id": id(2), "parent": id(1), "created": "2015-01-01T00:00:00Z"}), again[1].1.clone()));
    write(&bench.at("twice"), &again, |_| {});
    let mut bare = old("1.10.0");
    bare.truncate(1);
    bare[0].0 = json!({"id": id(0)});
    write(&bench.at("bare"), &bare, |manifest| manifest["signatures"] = Value::Null);
    for name in ["schema1", "new", "old", "twice", "bare"] {
        for format in ["v2s2", "oci"] {
            let at = |whose: &str| format!("{name}-{format}-{whose}");
            skopeo(&["copy", "-f", format, &bench.dir(name), &bench.dir(&at("theirs"))]);
            ok(ours(&["copy", "-f", format, &bench.dir(name), &bench.dir(&at("ours"))]));
            assert_eq!(bench.files(&at("ours")), bench.files(&at("theirs")), "{name} {format}");
        }
        // What a destination cannot hold becomes what skopeo makes of it.
        let layout = |whose: &str| format!("oci:{}:1", bench.at(&format!("{name}-layout-{whose}")).display());
        skopeo(&["copy", &bench.dir(name), &layout("theirs")]);
        ok(ours(&["copy", &bench.dir(name), &layout("ours")]));
        let raw = |whose: &str| skopeo(&["inspect", "--raw", &layout(whose)]);
        assert_eq!(raw("ours"), raw("theirs"), "{name}");
        let archive = |whose: &str| format!("docker-archive:{}", bench.at(&format!("{name}-{whose}.tar")).display());
        skopeo(&["copy", &bench.dir(name), &format!("{}:x:1", archive("theirs"))]);
        ok(own(&["copy", "-q", &bench.dir(name), &format!("{}:x:1", archive("ours"))]));
        let raw = |whose: &str| skopeo(&["inspect", "--raw", &archive(whose)]);
        assert_eq!(raw("ours"), raw("theirs"), "{name}");
    }
    // A plain layer is called one; skopeo calls it compressed.
    let mut plain = old("1.10.0");
    plain[0].1 = layer("zero");
    write(&bench.at("plain"), &plain, |_| {});
    ok(ours(&["copy", "-f", "v2s2", &bench.dir("plain"), &bench.dir("made")]));
    let manifest: Value = serde_json::from_slice(&bench.manifest("made")).unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar");
    assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
}

#[test]
fn holkas_converts_only_when_asked() {
    let bench = Bench::new();
    let from = bench.downgraded(&image(ImageBuilder::docker()));
    let layout = format!("oci:{}:1", bench.at("made").display());
    let output = own(&["copy", "-q", &from, &layout]);
    fails(&output, "holds no manifests of Docker's schema 1");
    assert!(output.err.contains("hint: its digest would be a new one; ask for that with -f oci"), "{}", output.err);
    fails(&own(&["copy", "-q", "--preserve-digests", &from, &layout]), "would have to change");
    fails(&ours(&["copy", "--preserve-digests", &from, &layout]), "Instructed to preserve digests");
    assert!(!bench.at("made").exists());
    for flags in [&["-f", "oci"][..], &["--allow-changes"]] {
        ok(own(&[&["copy", "-q"], flags, &[&from, &layout]].concat()));
    }
}

#[test]
fn what_lies_is_refused() {
    type Change = fn(&mut Vec<(Value, Vec<u8>)>, &mut Value);
    let cases: &[(&str, Change, &str)] = &[
        ("layers", |_, manifest| manifest["layers"] = json!([]), "must not have the key `layers`"),
        ("config", |_, manifest| manifest["config"] = json!({}), "must not have the key `config`"),
        ("case", |_, manifest| manifest["FsLayers"] = json!([]), "the key `FsLayers`"),
        ("short", |_, manifest| drop(manifest["history"].as_array_mut().unwrap().pop()), "an entry for each"),
        ("none", |steps, _| steps.clear(), "it has 0 layers"),
        ("id", |steps, _| steps[0].0["id"] = "../../etc".into(), "not 64 hexadecimal digits"),
        ("parent", |steps, _| steps[2].0["parent"] = id(7).into(), "its parent is"),
        ("orphan", |steps, _| steps[0].0["parent"] = id(7).into(), "but below it is nothing"),
        ("time", |steps, _| steps[0].0["created"] = "yesterday".into(), "is no time"),
        (
            "loop",
            |steps, _| {
                let again = (json!({"id": id(0), "parent": id(2)}), steps[0].1.clone());
                steps.push(again);
            },
            "occurs again",
        ),
        (
            "many",
            |steps, _| {
                let blob = steps[0].1.clone();
                let parent = |n: usize| if n == 0 { Value::Null } else { id(n - 1).into() };
                *steps = (0..1025).map(|n| (json!({"id": id(n), "parent": parent(n)}), blob.clone())).collect();
            },
            "the limit is 1024",
        ),
        ("digest", |_, manifest| manifest["fsLayers"][0]["blobSum"] = "sha256:../..".into(), "`fsLayers[0]`"),
        (
            "unknown",
            |_, manifest| manifest["fsLayers"][0]["blobSum"] = format!("sha256:{}", id(8)).into(),
            "no such file",
        ),
    ];
    let bench = Bench::new();
    // Each changes the steps, or the manifest that is made of them.
    for (name, change, said) in cases {
        let mut steps = old("1.10.0");
        change(&mut steps, &mut json!({"history": [1], "fsLayers": [{}]}));
        write(&bench.at(name), &steps, |manifest| change(&mut old("1.10.0"), manifest));
        for flags in [&[][..], &["-f", "v2s2"]] {
            let output = own(&[&["copy", "-q"], flags, &[&bench.dir(name), &bench.dir("made")]].concat());
            fails(&output, said);
            assert!(!bench.at("made").exists(), "{name}");
        }
    }
    // A layer that is not what its digest says.
    write(&bench.at("layer"), &old("1.10.0"), |_| {});
    let blob = bench.at("layer").join(hex_of(&sha256_digest(&old("1.10.0")[2].1)));
    holkas_testkit::corrupt::replace(&blob, compress(&layer("another"), Compression::Gzip));
    for flags in [&[][..], &["-f", "v2s2"]] {
        let output = own(&[&["copy", "-q"], flags, &[&bench.dir("layer"), &bench.dir("made")]].concat());
        fails(&output, "does not match its digest");
        assert!(!bench.at("made").exists());
    }
    // Nobody checks the signature; but what it says of the document must be so.
    let signed = bench.downgraded(&image(ImageBuilder::docker()));
    let file = bench.at("schema1/manifest.json");
    let whole = fs::read_to_string(&file).unwrap();
    let document: Value = serde_json::from_str(&whole).unwrap();
    let text = |key: &str| document["signatures"][0][key].as_str().unwrap().to_owned();
    fs::write(&file, whole.replace(&text("signature"), &URL_SAFE_NO_PAD.encode([7; 64]))).unwrap();
    ok(ours(&["copy", "-q", &signed, &bench.dir("taken")]));
    skopeo(&["copy", &signed, &bench.dir("taken-too")]);
    assert_eq!(bench.manifest("taken"), bench.manifest("taken-too"));
    let beyond = URL_SAFE_NO_PAD.encode(r#"{"formatLength":99999999,"formatTail":"fQ"}"#);
    fs::write(&file, whole.replace(&text("protected"), &beyond)).unwrap();
    fails(&ours(&["copy", "-q", &signed, &bench.dir("made")]), "`formatLength` is beyond the end");
}

#[test]
fn registries_take_and_give_it() {
    let registry = DockerRegistry::builder().schema1().start();
    let bench = Bench::new();
    let from = bench.downgraded(&image(ImageBuilder::docker()));
    let name = |name: &str| format!("docker://{}/{name}", registry.host());
    let (to, of) = ("--dest-tls-verify=false", "--src-tls-verify=false");
    // Its name is that of the place: the same payload as skopeo's.
    let pull = |from: &str, to: &str| {
        skopeo(&["copy", of, from, &bench.dir(to)]);
        bench.files(to)
    };
    for (n, flags) in [&[][..], &["-f", "v2s1"]].into_iter().enumerate() {
        let from = if n == 0 { from.clone() } else { bench.dir("of") };
        skopeo(&[&["copy", to][..], flags, &[&from, &name("a/b:1")]].concat());
        let theirs = pull(&name("a/b:1"), &format!("theirs{n}"));
        assert!(String::from_utf8_lossy(&theirs["manifest.json"]).starts_with(r#"{"name":"a/b","tag":"1","#));
        ok(ours(&[&["copy", to, "-q"][..], flags, &[&from, &name("ours:1")]].concat()));
        ok(ours(&[&["copy", to, "-q"][..], flags, &[&from, &name("a/b:1")]].concat()));
        assert_eq!(pull(&name("a/b:1"), &format!("ours{n}")), theirs);
        let flags = if n == 0 { &["--allow-changes"][..] } else { flags };
        ok(own(&[&["copy", to, "-q"][..], flags, &[&from, &name("a/b:1")]].concat()));
        assert_eq!(pull(&name("a/b:1"), &format!("own{n}")), theirs);
    }
    // By tag and by the digest of the payload; and on to where it keeps its name.
    ok(own(&["copy", "-q", of, &name("a/b:1"), &bench.dir("by-tag")]));
    let digest = skopeo(&["manifest-digest", &format!("{}/manifest.json", bench.at("by-tag").display())]);
    ok(own(&["copy", "-q", of, &name(&format!("a/b@{digest}")), &bench.dir("by-digest")]));
    assert_eq!(bench.files("by-tag"), bench.files("theirs1"));
    assert_eq!(bench.files("by-digest"), bench.files("theirs1"));
    ok(own(&["copy", "-q", to, &bench.dir("by-tag"), &name("elsewhere:2")]));
    assert_eq!(pull(&name("elsewhere:2"), "elsewhere"), bench.files("by-tag"));
    fails(&ours(&["copy", "--preserve-digests", to, &from, &name("c:1")]), "Instructed to preserve digests");
    // Many at once.
    ok(own(&[
        "sync",
        "--src=docker",
        "--dest=dir",
        of,
        &format!("{}/a/b", registry.host()),
        &bench.at("").display().to_string(),
    ]));
    assert_eq!(bench.files("b:1"), bench.files("by-tag"));
}

#[test]
fn a_layer_that_comes_over_a_network_comes_once() {
    let registry = Registry::start();
    let bench = Bench::new();
    let steps = old("1.10.0");
    write(&bench.at("of"), &steps, |_| {});
    for (_, blob) in &steps {
        registry.put_blob("old", blob);
    }
    registry.put_manifest("old", "1", UNSIGNED, &bench.manifest("of"));
    let from = registry.reference("old:1");
    ok(own(&["copy", "-q", "--src-tls-verify=false", "-f", "v2s2", &from, &bench.dir("made")]));
    assert_eq!(registry.requests("GET", "/blobs/").len(), 2, "the empty layer is not needed");
    skopeo(&["copy", "-f", "v2s2", &bench.dir("of"), &bench.dir("theirs")]);
    assert_eq!(bench.files("made"), bench.files("theirs"));
}

#[test]
fn podman_runs_what_was_stored() {
    let registry = DockerRegistry::builder().schema1().start();
    let bench = Bench::new();
    let image = runnable_image_of(ImageBuilder::docker().compression(Compression::Gzip).empty_history("CMD"));
    let from = bench.downgraded(&image);
    let name = format!("docker://{}/app:1", registry.host());
    skopeo(&["copy", "--dest-tls-verify=false", &from, &name]);
    skopeo(&["copy", "-f", "v2s2", &from, &bench.dir("theirs")]);
    let manifest: Value = serde_json::from_slice(&bench.manifest("theirs")).unwrap();
    let id = hex_of(manifest["config"]["digest"].as_str().unwrap()).to_owned();
    for from in [&name, &from] {
        let store = Store::overlay();
        let to = store.reference("localhost/app:1");
        fails(&own(&["copy", "-q", "--src-tls-verify=false", from, &to]), "holds no manifests of Docker's schema 1");
        ok(own(&["copy", "-q", "--src-tls-verify=false", "-f", "v2s2", from, &to]));
        let inspected = store.podman(["image", "inspect", "localhost/app:1"]).json();
        assert_eq!(inspected[0]["Id"], id.as_str());
        assert_eq!(store.podman_run(["localhost/app:1"]).ok(), "hello");
    }
}
