//! The proxy of a user who is not root, with their store and without one.

use holkas_testkit::oddities::odd_image_uncompressed;
use holkas_testkit::rootless::{ALL_IDS, User};
use serde_json::json;

use crate::client::Client;
use crate::common::finish;

fn proxy(user: &User) -> Client {
    let mut command = user.command(env!("CARGO_BIN_EXE_holkas"));
    command.args(["proxy", "--insecure-policy"]);
    Client::initialized(command)
}

#[test]
fn a_users_store_is_served_without_podman_unshare() {
    let user = User::with_ids(ALL_IDS);
    let image = odd_image_uncompressed();
    let path = user.home().join("odd");
    image.write_oci(&path, Some("1"));
    user.give(&path);
    let source = format!("oci:{}:1", path.display());
    let stored = "containers-storage:localhost/odd:1";
    let skopeo = finish(user.command("skopeo").args(["copy", "--insecure-policy", &source, stored]));
    assert_eq!(skopeo.code, 0, "{}", skopeo.err);

    let client = proxy(&user);
    for reference in [stored.to_string(), format!("containers-storage:{}", image.config_digest()), source.clone()] {
        let opened = client.open(&reference);
        let (digest, manifest) = client.piped("GetManifest", json!([opened])).unwrap();
        assert_eq!((digest, manifest), (json!(image.digest()), image.manifest.clone()), "{reference}");
        let layers = client.plain("GetLayerInfo", json!([opened])).unwrap();
        let layers = layers.as_array().unwrap();
        assert_eq!(layers.len(), image.layers.len());
        for (layer, built) in layers.iter().zip(&image.layers) {
            let blob = client.blob(opened, layer["digest"].as_str().unwrap(), layer["size"].as_u64().unwrap());
            assert_eq!(blob.unwrap(), built.diff, "{reference}");
        }
    }
    drop(client);

    // Without other IDs the proxy serves what needs none.
    user.change_ids(0);
    let client = proxy(&user);
    assert_eq!(client.open(&source), 1);
    let mut bound = user.command(env!("CARGO_BIN_EXE_holkas"));
    bound.env("WRAP", "setpriv --no-new-privs --").args(["proxy", "--insecure-policy"]);
    assert_eq!(Client::initialized(bound).open(&source), 1);
}
