//! A world of keys, authorities and a log, all made and used by openssl: nothing here is of the code under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holkas::image::PolicyIdentity;
use holkas::oci::Algorithm;
use holkas::policy::Policy;
use holkas::reference::Name;
use holkas::signature::{SigstoreSignature, UntrustedSignature};
use holkas::verify::{UntrustedBlob, VerifiedBytes};
use holkas_testkit::peers::Peer;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(crate) const PROMISE: &str = "dev.sigstore.cosign/bundle";
pub(crate) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub(crate) const CHAIN: &str = "dev.sigstore.cosign/chain";
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What the image is called where nothing else is said.
pub(crate) const NAME: &str = "registry.example/team/app:1";
/// 2026-01-01, the time at which all is checked.
pub(crate) const NOW: i64 = 1_767_225_600;
/// The issuer that Fulcio names.
pub(crate) const ISSUER: &str = "https://login.example/oauth";
pub(crate) const EMAIL: &str = "builder@example.org";

/// Returns a file of real data; see its use for where it is from.
pub(crate) fn data(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sigstore/data").join(name)).unwrap()
}

/// The image that is signed.
pub(crate) fn manifest() -> VerifiedBytes {
    let limit = holkas::limits::MANIFEST;
    UntrustedBlob::from_bytes(b"{\"schemaVersion\":2}".to_vec()).identify(Algorithm::Sha256, None, limit).unwrap()
}

pub(crate) fn payload(digest: &str, name: &str) -> Vec<u8> {
    json!({
        "critical": {
            "identity": { "docker-reference": name },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

/// Returns what signatures of the image say.
pub(crate) fn honest() -> Vec<u8> {
    payload(&manifest().digest().to_string(), NAME)
}

/// Returns a signature, as openssl made it, with what else belongs to it.
pub(crate) fn sealed(payload: &[u8], signature: &[u8], more: &[(&str, &str)]) -> SigstoreSignature {
    let mut annotations: BTreeMap<_, _> =
        more.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    annotations.insert(SIGNATURE.to_string(), STANDARD.encode(signature));
    SigstoreSignature { mime_type: PAYLOAD_TYPE.to_string(), payload: payload.to_vec(), annotations }
}

/// Asks a policy with one requirement about the image with these signatures.
pub(crate) fn decide_all(requirement: &Value, signatures: &[UntrustedSignature]) -> Result<(), holkas::Error> {
    let policy = json!({ "default": [requirement] }).to_string();
    let policy = Policy::parse(policy.as_bytes(), "/p.json")?.at(NOW);
    let docker_reference = Some(Name::parse_normalised(NAME).unwrap());
    let identity = PolicyIdentity { transport: "docker", scopes: Vec::new(), docker_reference };
    policy.demands(&identity, "docker://registry.example/team/app:1")?.check(&manifest(), signatures)
}

pub(crate) fn decide(requirement: &Value, signature: &SigstoreSignature) -> Result<(), holkas::Error> {
    decide_all(requirement, &[signature.into()])
}

#[track_caller]
pub(crate) fn accepted(requirement: &Value, signature: &SigstoreSignature) {
    decide(requirement, signature).unwrap_or_else(|error| panic!("{requirement}: {error}"));
}

#[track_caller]
pub(crate) fn refused(requirement: &Value, signature: &SigstoreSignature, why: &str) {
    let error = decide(requirement, signature).expect_err(why).to_string();
    assert!(error.contains("source image rejected") && error.contains(why), "not `{why}`, but: {error}");
}

/// A directory of keys and certificates.
pub(crate) struct World {
    dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs openssl in the directory.
    pub(crate) fn openssl(&self, arguments: &str) {
        let arguments = arguments.split_whitespace().collect::<Vec<_>>();
        Peer::program("openssl").current_dir(self.dir.path()).run(arguments).ok();
    }

    /// Makes the key `NAME.key` and `NAME.pub`; `options` are those of `openssl genpkey`.
    pub(crate) fn key(&self, name: &str, options: &str) -> String {
        self.openssl(&format!("genpkey {options} -out {name}.key"));
        self.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
        self.read(&format!("{name}.pub"))
    }

    /// Makes a key as cosign's are.
    pub(crate) fn usual_key(&self, name: &str) -> String {
        self.key(name, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256")
    }

    pub(crate) fn sign(&self, key: &str, message: &[u8]) -> Vec<u8> {
        self.write("message", message);
        self.openssl(&format!("dgst -sha256 -sign {key}.key -out signature message"));
        fs::read(self.path("signature")).unwrap()
    }

    /// Returns the image, signed by a key.
    pub(crate) fn signed_by(&self, key: &str) -> SigstoreSignature {
        sealed(&honest(), &self.sign(key, &honest()), &[])
    }

    /// Makes the certificate `NAME.pem` for `NAME.key`, which is made, too, if it is not there.
    ///
    /// `authority` signs it, by its own name if there is none; `extensions` are lines of openssl's configuration.
    pub(crate) fn certificate(
        &self,
        name: &str,
        authority: Option<&str>,
        (from, until): (&str, &str),
        extensions: &[&str],
    ) {
        if !self.path(&format!("{name}.key")).exists() {
            self.usual_key(name);
        }
        let dir = self.dir.path().display();
        self.write("index.txt", "");
        self.write(
            "ca.cnf",
            format!(
                "[ca]\ndefault_ca=d\n[d]\ndatabase={dir}/index.txt\nnew_certs_dir={dir}\nrand_serial=yes\npolicy=p\n\
                 default_md=sha256\nunique_subject=no\n[p]\ncommonName=optional\n[e]\n{}\n",
                extensions.join("\n")
            ),
        );
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        let signer = match authority {
            Some(authority) => format!("-cert {authority}.pem -keyfile {authority}.key"),
            None => format!("-selfsign -keyfile {name}.key"),
        };
        self.openssl(&format!(
            "ca -batch -config ca.cnf {signer} -in {name}.csr -out {name}.pem -notext -startdate {from} -enddate {until} \
             -extensions e"
        ));
    }

    /// Makes an authority: one that trusts itself, or that another one trusts.
    pub(crate) fn authority(&self, name: &str, above: Option<&str>) {
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        self.certificate(name, above, LONG, &extensions);
    }
}

/// From 2020 to 2040.
pub(crate) const LONG: (&str, &str) = ("20200101000000Z", "20400101000000Z");

/// What a log says that it has; tests change one thing.
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) version: &'static str,
    pub(crate) algorithm: &'static str,
    pub(crate) signer: String,
    pub(crate) signature: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) time: i64,
}

impl Entry {
    pub(crate) fn of(signer: &str, signature: &SigstoreSignature, time: i64) -> Self {
        Self {
            kind: "hashedrekord",
            version: "0.0.1",
            algorithm: "sha256",
            signer: signer.to_string(),
            signature: STANDARD.decode(&signature.annotations[SIGNATURE]).unwrap(),
            payload: signature.payload.clone(),
            time,
        }
    }

    pub(crate) fn body(&self) -> String {
        let body = json!({
            "apiVersion": self.version,
            "kind": self.kind,
            "spec": {
                "data": { "hash": {
                    "algorithm": self.algorithm,
                    "value": Algorithm::Sha256.digest(&self.payload).hex(),
                } },
                "signature": {
                    "content": STANDARD.encode(&self.signature),
                    "publicKey": { "content": STANDARD.encode(&self.signer) },
                },
            },
        });
        STANDARD.encode(body.to_string())
    }

    /// Returns the promise of a log, by its key.
    pub(crate) fn promise(&self, world: &World, log: &str) -> String {
        let (body, time) = (self.body(), self.time);
        let canonical = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"c0d2","logIndex":7}}"#);
        let seal = STANDARD.encode(world.sign(log, canonical.as_bytes()));
        // In another order, and with spaces: only the canonical form is signed.
        format!(
            r#"{{"SignedEntryTimestamp":"{seal}","Payload":{{ "logIndex":7, "body":"{body}", "logID":"c0d2", "integratedTime":{time} }}}}"#
        )
    }
}

/// Returns the signature with another annotation, or without it.
pub(crate) fn with(signature: &SigstoreSignature, key: &str, value: Option<&str>) -> SigstoreSignature {
    let mut changed = signature.clone();
    match value {
        Some(value) => changed.annotations.insert(key.to_string(), value.to_string()),
        None => changed.annotations.remove(key),
    };
    changed
}

pub(crate) fn encoded(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}
