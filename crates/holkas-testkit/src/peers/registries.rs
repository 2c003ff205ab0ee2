//! What a peer's world says of registries: passwords, certificates, registries.conf.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Peer, write};

impl Peer {
    /// Adds a user and password to the world's `auth.json`, for a registry or a part of it such as `HOST/team`.
    pub fn credentials(self, place: &str, user: &str, password: &str) -> Self {
        self.auth(place, json!({"auth": STANDARD.encode(format!("{user}:{password}"))}))
    }

    /// Adds an identity token, which is a refresh token, to the world's `auth.json`.
    pub fn identity_token(self, place: &str, user: &str, token: &str) -> Self {
        self.auth(place, json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": token}))
    }

    /// Reads passwords from `path` and from nowhere else.
    pub fn auth_file(self, path: impl AsRef<Path>) -> Self {
        self.environment("REGISTRY_AUTH_FILE", path.as_ref())
    }

    /// Writes the world's `registries.conf`, where skopeo looks (below HOME), and where podman does.
    pub fn registries_conf(self, text: &str) -> Self {
        let home = self.home();
        write(&home.join(".config/containers/registries.conf"), text);
        write(&home.with_file_name("registries.conf"), text);
        self
    }

    /// Says in `registries.conf` that these registries need no TLS: what has no `--tls-verify` needs it.
    pub fn insecure(self, hosts: &[&str]) -> Self {
        let mut text = "unqualified-search-registries = []\n".to_owned();
        for host in hosts {
            text += &format!("[[registry]]\nlocation = {host:?}\ninsecure = true\n");
        }
        self.registries_conf(&text)
    }

    /// Puts the files of `dir` into the world's `certs.d` for `host`: what has no `--cert-dir` needs it.
    pub fn certs_d(self, host: &str, dir: impl AsRef<Path>) -> Self {
        let place = self.home().join(".config/containers/certs.d").join(host);
        fs::create_dir_all(&place).expect("the world's directories can be made");
        for entry in fs::read_dir(dir).expect("a directory of certificates") {
            let path = entry.expect("a file").path();
            fs::copy(&path, place.join(path.file_name().expect("it has a name"))).expect("the file is copied");
        }
        self
    }

    fn auth(self, place: &str, entry: Value) -> Self {
        let path = self.home().with_file_name("auth.json");
        let bytes = fs::read(&path).expect("every world has an auth.json");
        let mut document: Value = serde_json::from_slice(&bytes).expect("auth.json is JSON");
        document["auths"][place] = entry;
        write(&path, &document.to_string());
        self
    }

    /// Returns the world's home, beside which all else is.
    fn home(&self) -> PathBuf {
        let (_, home) = self.environment.iter().find(|(name, _)| name == "HOME").expect("every peer has a world");
        home.into()
    }
}
