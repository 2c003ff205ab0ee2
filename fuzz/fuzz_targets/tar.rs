//! Any bytes as a layer's tar: an error or a tree, nothing outside it, and a tar-split that can be read again.
#![no_main]

use std::path::Path;

use holkas::fs::Dir;
use holkas::storage::tar_split;
use holkas::unpack::{OnDisk, Privilege, Timestamp, UnpackOptions, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = format!("/dev/shm/holkas-fuzz-{}", std::process::id());
    let base = Dir::create_all(Path::new(&path)).expect("/dev/shm is writable");
    base.remove_all("tree").expect("the tree is ours");
    let tree = base.make("tree", 0o700).expect("the directory is ours");
    let clock = Timestamp { seconds: 0, nanos: 0 };
    let options = UnpackOptions { on_disk: OnDisk::Overlay, clock, privilege: Privilege::Root };
    let mut split = tar_split::Writer::new(Vec::new());
    let unpacked = unpack(&mut &bytes[..], &tree, &options, Some(&mut |piece| split.piece(piece)));
    if unpacked.is_ok() {
        let written = split.finish().expect("writing to memory");
        let mut reader = tar_split::Reader::new(&written[..]);
        while reader.read().expect("what we write, we read").is_some() {}
    }
    let left: Vec<_> = base.entries().expect("the directory is ours");
    assert_eq!(left.len(), 1, "something got out: {left:?}");
});
