//! Policies that demand signatures of images in registries: skopeo and holkas sign for each other, and refuse the same.

use std::fs;

use holkas_testkit::docker_registry::DockerRegistry;
use holkas_testkit::gpg::Gpg;
use holkas_testkit::peers::{Output, Peer};
use serde_json::json;

use super::scene::{Scene, files, image};

/// Debian's skopeo, and holkas in its place.
const PROGRAMS: [(&str, &[&str]); 2] = [("skopeo", &[]), (env!("CARGO_BIN_EXE_holkas"), &["skopeo"])];

struct Bench {
    scene: Scene,
    gpg: Gpg,
    registry: DockerRegistry,
    good: String,
}

impl Bench {
    fn new() -> Self {
        let (scene, gpg, registry) = (Scene::new(), Gpg::new(), DockerRegistry::start());
        let good = gpg.key("good@example.org", "never");
        let other = gpg.key("other@example.org", "never");
        scene.registries_d(&format!("docker:\n  {}:\n    lookaside: file://{}\n", registry.host(), scene.at("kept")));
        image("signed").write_dir(scene.at("image"));
        image("unsigned").write_dir(scene.at("plain"));
        for (name, key) in [("good", &good), ("other", &other)] {
            let keys = gpg.file(name, &gpg.public(key));
            let signed = json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": keys }]);
            let policy = json!({
                "default": [{ "type": "reject" }],
                "transports": {
                    "dir": { "": [{ "type": "insecureAcceptAnything" }] },
                    "docker": { (registry.host()): signed },
                },
            });
            fs::write(scene.at(&format!("{name}.json")), policy.to_string()).unwrap();
        }
        Self { scene, gpg, registry, good }
    }

    fn run(&self, (program, face): (&str, &[&str]), policy: &str, arguments: &[&str]) -> Output {
        let flags = ["--policy", &self.scene.at(policy), "--registries.d", &self.scene.at("registries.d")];
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let arguments = [face, &flags[..], &["copy", "-q"], &tls[..], arguments].concat();
        self.gpg.peer(Peer::program(program)).run(arguments)
    }

    fn to_registry(&self, name: &str) -> String {
        self.registry.reference(name)
    }
}

#[test]
fn what_one_signs_in_a_registry_the_other_takes() {
    let bench = Bench::new();
    for (n, signer) in PROGRAMS.into_iter().enumerate() {
        let repository = format!("signer-{n}/app");
        let there = bench.to_registry(&format!("{repository}:1"));
        bench.run(signer, "good.json", &["--sign-by", &bench.good, &bench.scene.dir("image"), &there]).ok();
        for (m, reader) in PROGRAMS.into_iter().enumerate() {
            let name = format!("read-{n}-{m}");
            bench.run(reader, "good.json", &[&there, &bench.scene.dir(&name)]).ok();
            let read = files(&bench.scene.at(&name));
            assert!(read.contains_key("signature-1") && !read.contains_key("signature-2"), "{signer:?} {reader:?}");
            // Without its signature the image does not need a place for it, and is checked none the less.
            let without = bench.scene.dir(&format!("without-{n}-{m}"));
            bench.run(reader, "good.json", &["--remove-signatures", &there, &without]).ok();
            let told = bench.run(reader, "other.json", &["--remove-signatures", &there, &without]).fails();
            assert!(told.contains("Source image rejected: "), "{told}");
        }
    }
}

#[test]
fn both_refuse_what_is_not_signed_or_signed_for_another_name_or_by_another_key() {
    let bench = Bench::new();
    let (signed, unsigned) = (bench.to_registry("team/app:1"), bench.to_registry("team/plain:1"));
    bench.run(PROGRAMS[1], "good.json", &["--sign-by", &bench.good, &bench.scene.dir("image"), &signed]).ok();
    bench.run(PROGRAMS[1], "good.json", &[&bench.scene.dir("plain"), &unsigned]).ok();
    // The same image under another tag has the same signature, which is for another name.
    let other_tag = bench.to_registry("team/app:2");
    bench.run(PROGRAMS[0], "good.json", &[&bench.scene.dir("image"), &other_tag]).ok();
    bench.run(PROGRAMS[1], "good.json", &[&signed, &bench.scene.dir("kept-by-digest")]).ok();
    for reader in PROGRAMS {
        for (policy, from, said) in [
            ("good.json", &unsigned, "Source image rejected: A signature was required, but no signature exists"),
            ("other.json", &signed, "Source image rejected: "),
        ] {
            let told = bench.run(reader, policy, &[from, &bench.scene.dir("refused")]).fails();
            assert!(told.contains(said), "{reader:?}: {told}");
            assert!(!fs::exists(bench.scene.at("refused/manifest.json")).unwrap(), "{reader:?}");
        }
    }
}
