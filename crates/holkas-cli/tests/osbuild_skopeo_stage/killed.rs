//! A stage that is killed at any moment leaves nothing visible, and the next one ends what it began.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use holkas_testkit::fault::Moments;
use holkas_testkit::image::{Compression, ImageBuilder};
use holkas_testkit::oddities::pattern;
use holkas_testkit::tar::TarBuilder;
use holkas_testkit::tree::{Options, Tree};
use serde_json::{Value, json};

use super::STORE;
use super::scene::{Scene, store_options};

/// So many runs of each kind are killed before their end.
const KILLS: usize = 15;

/// Kills the stage at random moments. `holds` looks at the tree after each.
fn kill(options: &Value, holds: impl Fn(&Path)) {
    let mut scene = Scene::new();
    for seed in ["one", "two"] {
        let layer = |n: usize| {
            let name = format!("{seed}{n}");
            TarBuilder::new().file(&name, 0o644, [name.as_bytes(), &pattern(2 << 20)].concat()).finish()
        };
        let image = ImageBuilder::oci().compression(Compression::Gzip).layer(layer(0)).layer(layer(1)).build();
        scene.dir(&image, &format!("localhost/{seed}:1"));
    }
    let whole = || -> Duration {
        scene.sandbox.clear();
        let begun = Instant::now();
        scene.run(options).ok();
        begun.elapsed()
    };
    let mut moments = Moments::within((0..3).map(|_| whole()).min().unwrap());
    let expected = Tree::read(scene.sandbox.tree());
    let same = || Options::new().ignore_mtimes();
    let (mut killed, mut rounds) = (0, 0);
    while killed < KILLS {
        rounds += 1;
        assert!(rounds <= 10 * KILLS, "only {killed} of {rounds} runs were killed before they ended");
        scene.sandbox.clear();
        let arguments = scene.sandbox.arguments(&scene.inputs(), options);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = scene.sandbox.command("org.osbuild.skopeo", &arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        // bwrap's child waits for ever if bwrap is killed before the two have spoken, so the stage must have begun.
        while fs::read_dir(scene.sandbox.tree()).unwrap().next().is_none() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        killed += usize::from(moments.kill_child(child));
        // The sandbox dies with bwrap, but a moment later: then the pipe has no writer left.
        drop(command);
        reader.read_to_end(&mut Vec::new()).unwrap();
        holds(&scene.sandbox.tree());
        scene.run(options).ok();
        Tree::read(scene.sandbox.tree()).assert_same(&expected, &same());
    }
}

#[test]
fn a_store_has_all_images_or_none() {
    kill(&store_options(), |tree| {
        let records = fs::read(tree.join(STORE).join("overlay-images/images.json")).unwrap_or(b"[]".to_vec());
        let records: Vec<Value> = serde_json::from_slice(&records).unwrap();
        assert!([0, 2].contains(&records.len()), "{records:?}");
    });
}

#[test]
fn a_layout_and_an_archive_have_all_images_or_none() {
    kill(&json!({"destination": {"type": "oci", "path": "/srv/layout"}}), |tree| {
        if let Ok(index) = fs::read(tree.join("srv/layout/index.json")) {
            let index: Value = serde_json::from_slice(&index).unwrap();
            assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
        }
    });
    kill(&json!({"destination": {"type": "oci-archive", "path": "/srv/archive.tar"}}), |tree| {
        let archive = tree.join("srv/archive.tar");
        let whole = |path: &Path| fs::metadata(path).unwrap().len() > 8 << 20;
        assert!(!archive.exists() || whole(&archive));
    });
}
