//! Signing with sigstore's keys, and policies that ask for such signatures, on both faces; openssl is the witness.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Output, finish, holkas, run};
use holkas_testkit::image::{ImageBuilder, sha256_hex};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;

const NAME: &str = "registry.example/team/app:1";

/// A directory with an image (`image`), a key (`key.private`, `key.pub`) and its passphrase (`pass`).
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        let layer = TarBuilder::new().file("f", 0o644, "x").finish();
        ImageBuilder::oci().layer(layer).build().write_dir(world.path("image"));
        fs::write(world.path("pass"), "s e c\nsecond line\n").unwrap();
        world.skopeo("generate-sigstore-key --output-prefix key --passphrase-file pass").ok();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, first: &str, line: &str) -> Output {
        let mut command = holkas();
        command.current_dir(self.dir.path()).stdin(std::process::Stdio::null());
        finish(command.args(first.split_whitespace()).args(line.split_whitespace()))
    }

    /// Runs holkas in skopeo's place.
    fn skopeo(&self, line: &str) -> Output {
        self.run("skopeo", line)
    }

    /// Copies the image from one directory to another under a policy with one requirement, as skopeo.
    fn copy_under(&self, requirement: &Value, from: &str, to: &str) -> Output {
        fs::write(self.path("policy.json"), json!({ "default": [requirement] }).to_string()).unwrap();
        self.skopeo(&format!("--policy policy.json copy dir:{from} dir:{to}"))
    }

    /// Returns the requirement that the key of a file has signed the image as [`NAME`].
    fn signed_by(&self, public: &str) -> Value {
        json!({
            "type": "sigstoreSigned",
            "keyPath": self.path(public),
            "signedIdentity": { "type": "exactReference", "dockerReference": NAME },
        })
    }

    /// Returns the signature that a directory has in a file.
    fn signature(&self, file: &str) -> Value {
        let bytes = fs::read(self.path(file)).unwrap();
        serde_json::from_slice(bytes.strip_prefix(b"\0sigstore-json\n").expect("a sigstore signature")).unwrap()
    }
}

impl Output {
    #[track_caller]
    fn ok(&self) -> &Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    #[track_caller]
    fn fails(&self, phrase: &str) {
        assert_eq!(self.code, 1, "{}{}", self.out, self.err);
        assert!(self.err.contains(phrase), "`{phrase}` is not in {}", self.err);
    }
}

const SIGN: &str = "--insecure-policy copy --sign-by-sigstore-private-key key.private --sign-passphrase-file pass \
                    --sign-identity registry.example/team/app:1";

#[test]
fn what_is_signed_is_accepted_by_a_policy_and_by_openssl() {
    let world = World::new();
    let copied = world.skopeo(&format!("{SIGN} dir:image dir:signed"));
    copied.ok();
    let signature = world.signature("signed/signature-1");
    assert_eq!(signature["mimeType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload = STANDARD.decode(signature["payload"].as_str().unwrap()).unwrap();
    let says: Value = serde_json::from_slice(&payload).unwrap();
    let digest = format!("sha256:{}", sha256_hex(fs::read(world.path("image/manifest.json")).unwrap()));
    assert_eq!(says["critical"]["identity"]["docker-reference"], NAME);
    assert_eq!(says["critical"]["image"]["docker-manifest-digest"], digest);
    fs::write(world.path("payload"), &payload).unwrap();
    let sealed = signature["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    fs::write(world.path("sealed"), STANDARD.decode(sealed).unwrap()).unwrap();
    let verify = ["dgst", "-sha256", "-verify", "key.pub", "-signature", "sealed", "payload"];
    Peer::program("openssl").current_dir(world.dir.path()).run(verify).ok();

    let requirement = world.signed_by("key.pub");
    world.copy_under(&requirement, "signed", "again").ok();
    // The signature travels on, byte for byte.
    let read = |file: &str| fs::read(world.path(file)).unwrap();
    assert_eq!(read("again/signature-1"), read("signed/signature-1"));
    world
        .copy_under(&requirement, "image", "unsigned")
        .fails("Source image rejected: A signature was required, but no signature exists");

    // Another key, another name, another image, another payload.
    world.skopeo("generate-sigstore-key --output-prefix other --passphrase-file pass").ok();
    world.copy_under(&world.signed_by("other.pub"), "signed", "no").fails("was not made by this ECDSA P-256 key");
    let mut renamed = requirement.clone();
    renamed["signedIdentity"]["dockerReference"] = "registry.example/team/app:2".into();
    world.copy_under(&renamed, "signed", "no").fails("is not accepted");
    let layer = TarBuilder::new().file("f", 0o644, "y").finish();
    ImageBuilder::oci().layer(layer).build().write_dir(world.path("forged"));
    fs::write(world.path("forged/signature-1"), read("signed/signature-1")).unwrap();
    world.copy_under(&requirement, "forged", "no").fails("does not match");
    let mut changed = signature.clone();
    let text = String::from_utf8(payload).unwrap().replace("team/app:1", "team/app:9");
    changed["payload"] = STANDARD.encode(text).into();
    fs::write(world.path("forged/signature-1"), format!("\0sigstore-json\n{changed}")).unwrap();
    world.copy_under(&requirement, "forged", "no").fails("was not made by this ECDSA P-256 key");
    assert!(!world.path("no/manifest.json").exists());
}

#[test]
fn a_new_key_takes_the_place_of_none() {
    let world = World::new();
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("key.private"), mode("key.pub") & 0o600), (0o600, 0o600));
    let made = world.skopeo("generate-sigstore-key --output-prefix two --passphrase-file pass");
    assert_eq!(made.ok().out, "Key written to \"two.private\" and \"two.pub\"\n");
    let before = fs::read(world.path("two.pub")).unwrap();
    fs::remove_file(world.path("two.private")).unwrap();
    let again = "generate-sigstore-key --output-prefix two --passphrase-file pass";
    world.skopeo(again).fails("refusing to overwrite existing \\\"two.pub\\\"");
    assert!(!world.path("two.private").exists());
    assert_eq!(fs::read(world.path("two.pub")).unwrap(), before);
    fs::remove_file(world.path("two.pub")).unwrap();
    std::os::unix::fs::symlink("nowhere", world.path("two.private")).unwrap();
    world.skopeo(again).fails("refusing to overwrite existing \\\"two.private\\\"");
    assert!(!world.path("two.pub").exists() && !world.path("nowhere").exists());

    world.skopeo("generate-sigstore-key").fails("--output-prefix must be specified");
    world.skopeo("generate-sigstore-key --output-prefix three x").fails("no arguments expected");
    world.skopeo("generate-sigstore-key --output-prefix three").fails("standard input is not a TTY");
    world.skopeo("generate-sigstore-key --output-prefix three --passphrase-file absent").fails("absent");
    world.skopeo("generate-sigstore-key --output-prefix absent/x --passphrase-file pass").fails("absent/x.private");
    assert!(!world.path("three.private").exists() && !world.path("three.pub").exists());

    let help = run(&["signature", "generate-key", "--help"]);
    assert!(help.out.contains("--output-prefix <PREFIX>"), "{}", help.out);
    let own = world.run("signature generate-key", "--output-prefix own --passphrase-file pass");
    own.ok();
    assert!(own.out.contains("own.private") && own.out.contains("own.pub"), "{}", own.out);
    assert_eq!(mode("own.private"), 0o600);
    let key = fs::read_to_string(world.path("own.private")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), "{key}");
}

#[test]
fn the_passphrase_is_the_first_line_and_must_be_right() {
    let world = World::new();
    for (passphrase, fits) in [("s e c", true), ("s e c\n", true), ("s e c \n", false), ("sec", false), ("", false)] {
        fs::write(world.path("try"), passphrase).unwrap();
        let line = SIGN.replace("--sign-passphrase-file pass", "--sign-passphrase-file try");
        let run = world.skopeo(&format!("{line} dir:image dir:out"));
        match fits {
            true => assert_eq!(run.code, 0, "{passphrase:?}: {}", run.err),
            false => run.fails("the passphrase does not open it"),
        }
    }
    let unasked = SIGN.replace("--sign-passphrase-file pass", "");
    world.skopeo(&format!("{unasked} dir:image dir:out")).fails("Cannot prompt for a passphrase for key key.private");
    // What cannot be signed is not copied.
    fs::remove_dir_all(world.path("out")).unwrap();
    world.skopeo(&format!("{SIGN} dir:image oci:out:1")).fails("signatures");
    let nameless = SIGN.replace("--sign-identity registry.example/team/app:1", "");
    world.skopeo(&format!("{nameless} dir:image dir:out")).fails("Cannot determine canonical Docker reference");
    assert!(!world.path("out").exists());
}

#[test]
fn a_file_of_parameters_says_with_what_to_sign() {
    let world = World::new();
    let sign = |parameters: &str| {
        fs::write(world.path("params.yaml"), parameters).unwrap();
        let line = format!("--insecure-policy copy --sign-by-sigstore params.yaml --sign-identity {NAME}");
        world.skopeo(&format!("{line} dir:image dir:signed"))
    };
    sign("privateKeyFile: key.private\nprivateKeyPassphraseFile: pass\n").ok();
    world.copy_under(&world.signed_by("key.pub"), "signed", "again").ok();
    sign("privateKeyFile: key.private\n").fails("Cannot prompt for a passphrase");
    sign("privateKeyFile: key.private\nrekorURL: https://log.example\n").fails("rekorURL");
    sign("fulcio:\n  fulcioURL: https://ca.example\n").fails("fulcio");
    sign("privateKeyFile: key.private\nother: 1\n").fails("params.yaml:2");
    sign("").fails("`privateKeyFile` is missing");
}

#[test]
fn both_faces_sign_and_two_signers_make_two_signatures() {
    let world = World::new();
    world.skopeo("generate-sigstore-key --output-prefix other --passphrase-file pass").ok();
    fs::write(world.path("params.yaml"), "privateKeyFile: other.private\nprivateKeyPassphraseFile: pass\n").unwrap();
    let line = "--sign-by-sigstore params.yaml --sign-by-sigstore-private-key key.private --sign-passphrase-file pass";
    let copy = format!("copy {line} --sign-identity {NAME} dir:image dir:signed");
    world.run("--insecure-policy", &copy).ok();
    assert!(world.path("signed/signature-2").exists() && !world.path("signed/signature-3").exists());
    for key in ["key.pub", "other.pub"] {
        world.copy_under(&world.signed_by(key), "signed", "again").ok();
    }
    // Both must have signed.
    let policy = json!({ "default": [world.signed_by("key.pub"), world.signed_by("other.pub")] });
    fs::write(world.path("policy.json"), policy.to_string()).unwrap();
    world.run("--policy policy.json", "copy dir:signed dir:both").ok();
    fs::remove_file(world.path("signed/signature-2")).unwrap();
    world.run("--policy policy.json", "copy dir:signed dir:both").fails("was not made by this");
}
