//! zstd:chunked layers: every byte of them is checked by readers that are written here, and by `zstd` and skopeo.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holkas::ErrorKind;
use holkas::compress::chunked::{self, Chunked};
use holkas::compress::{Compression, Decoder};
use holkas_testkit::image::{ImageBuilder, sha256_digest};
use holkas_testkit::oddities::odd_layers;
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::{Entry, FILE, HARD_LINK, LongNames, SYMLINK, TarBuilder, Time};
use serde_json::Value;

const TOC: &str = "io.github.containers.zstd-chunked.manifest-position";
const TOC_DIGEST: &str = "io.github.containers.zstd-chunked.manifest-checksum";
const SPLIT: &str = "io.github.containers.zstd-chunked.tarsplit-position";
const SPLIT_DIGEST: &str = "io.github.containers.zstd-chunked.tarsplit-checksum";

type Annotations = BTreeMap<String, String>;

/// Reads of a length that divides nothing.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// Packs a layer in several ways, which must make no difference, and unpacks it by `zstd` and by holkas.
#[track_caller]
fn packed(tar: &[u8]) -> (Vec<u8>, Result<Annotations, String>) {
    let pack = |step: usize| {
        let mut out = Vec::new();
        let mut reader = BufReader::with_capacity(step.max(1024), Trickle(tar, step));
        let chunked = chunked::write(&mut reader, None, &mut out).unwrap();
        let told = match chunked {
            Chunked::With(annotations) => Ok(annotations),
            Chunked::Without(reason) => Err(reason.to_string()),
        };
        (out, told)
    };
    let (blob, told) = pack(1 << 18);
    for step in [777, 4096] {
        assert!((&blob, &told) == (&pack(step).0, &pack(step).1), "reads of {step} bytes");
    }
    assert!(by_zstd(&blob) == tar, "zstd -d gives another tar");
    let (compression, mut decoder) = Decoder::new(&blob[..]).unwrap();
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).unwrap();
    decoder.finish().unwrap();
    assert_eq!(compression, Compression::Zstd);
    assert!(plain == tar, "holkas reads another tar");
    (blob, told)
}

fn by_zstd(blob: &[u8]) -> Vec<u8> {
    let mut zstd = Command::new("zstd").args(["-d", "-c", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let zstd = zstd.as_mut().expect("zstd is installed: run scripts/check.sh");
    let (mut stdin, mut stdout) = (zstd.stdin.take().unwrap(), zstd.stdout.take().unwrap());
    let mut plain = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(blob).unwrap());
        stdout.read_to_end(&mut plain).unwrap();
    });
    assert!(zstd.wait().unwrap().success());
    plain
}

/// An entry of a tar, as a few lines read it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Seen {
    kind: &'static str,
    name: String,
    link: String,
    mode: u64,
    uid: u64,
    gid: u64,
    contents: Vec<u8>,
}

fn octal(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[field.len() - 7..].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    }
    let text: String = field.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_digit).collect();
    u64::from_str_radix(&text, 8).unwrap_or(0)
}

fn text(field: &[u8]) -> String {
    String::from_utf8(field.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
}

fn entries_of(mut tar: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut pending: BTreeMap<String, String> = BTreeMap::new();
    while tar.len() >= 512 && tar[..512].iter().any(|byte| *byte != 0) {
        let (header, rest) = tar.split_at(512);
        let own_size = octal(&header[124..136]);
        let of_other = matches!(header[156], b'x' | b'L' | b'K');
        let size = match pending.get("size") {
            Some(size) if !of_other => size.parse().unwrap(),
            _ => own_size,
        } as usize;
        let contents = rest[..size].to_vec();
        tar = &rest[size.next_multiple_of(512).min(rest.len())..];
        match header[156] {
            b'x' => {
                let mut records = &contents[..];
                while !records.is_empty() {
                    let space = records.iter().position(|byte| *byte == b' ').unwrap();
                    let length: usize = std::str::from_utf8(&records[..space]).unwrap().parse().unwrap();
                    let record = String::from_utf8_lossy(&records[space + 1..length - 1]).into_owned();
                    let (key, value) = record.split_once('=').unwrap();
                    pending.insert(key.into(), value.into());
                    records = &records[length..];
                }
            }
            b'L' => drop(pending.insert("path".into(), text(&contents))),
            b'K' => drop(pending.insert("linkpath".into(), text(&contents))),
            flag => {
                let prefix = text(&header[345..500]);
                let ustar = &header[257..263] == b"ustar\0" && !prefix.is_empty();
                let own = text(&header[..100]);
                let own = if ustar { format!("{prefix}/{own}") } else { own };
                let name = pending.remove("path").unwrap_or(own);
                let number = |key: &str, own: u64| pending.get(key).map_or(own, |text| text.parse().unwrap());
                seen.push(Seen {
                    kind: match flag {
                        b'0' | 0 => "reg",
                        b'1' => "hardlink",
                        b'2' => "symlink",
                        b'3' => "char",
                        b'4' => "block",
                        b'5' => "dir",
                        b'6' => "fifo",
                        other => panic!("{other}"),
                    },
                    link: pending.get("linkpath").cloned().unwrap_or_else(|| text(&header[157..257])),
                    mode: octal(&header[100..108]),
                    uid: number("uid", octal(&header[108..116])),
                    gid: number("gid", octal(&header[116..124])),
                    name,
                    contents,
                });
                pending.clear();
            }
        }
    }
    seen
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(':').map(|number| number.parse().unwrap()).collect()
}

fn plain(frames: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(frames).unwrap()
}

fn at(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap_or(0) as usize
}

/// Returns the table of contents that the annotations lead to.
fn toc_of(blob: &[u8], annotations: &Annotations) -> Value {
    let place = numbers(&annotations[TOC]);
    let bytes = &blob[place[0]..place[0] + place[1]];
    assert_eq!(annotations[TOC_DIGEST], sha256_digest(bytes));
    for old in annotations.keys().filter(|key| key.starts_with("io.containers")) {
        assert_eq!(annotations[old], annotations[&old.replace("io.containers", "io.github.containers")]);
    }
    let json = plain(bytes);
    assert_eq!((json.len(), place[3]), (place[2], 1));
    serde_json::from_slice(&json).unwrap()
}

/// Checks all that a layer says of itself, and returns its table of contents.
#[track_caller]
fn checked(tar: &[u8]) -> (Vec<u8>, Value) {
    let (blob, annotations) = packed(tar);
    let annotations = annotations.unwrap();
    assert_eq!(annotations.len(), 6, "{annotations:?}");
    let toc = toc_of(&blob, &annotations);

    // The footer says what the annotations say.
    let (toc_place, split) = (numbers(&annotations[TOC]), numbers(&annotations[SPLIT]));
    let footer = &blob[blob.len() - 72..];
    assert_eq!(footer[..8], [0x50, 0x2a, 0x4d, 0x18, 64, 0, 0, 0]);
    assert_eq!(&footer[64..], b"GNUlInUx");
    let words: Vec<usize> =
        footer[8..64].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()) as usize).collect();
    assert_eq!(words, [&toc_place[..], &split[..]].concat());
    for place in [&toc_place, &split] {
        assert_eq!(blob[place[0] - 8..place[0] - 4], [0x50, 0x2a, 0x4d, 0x18]);
        assert_eq!(blob[place[0] - 4..place[0]], (place[1] as u32).to_le_bytes());
    }
    assert_eq!(split[0] + split[1], blob.len() - 72);
    assert_eq!(toc_place[0] + toc_place[1], split[0] - 8);

    // The entries are those of the tar, and lead to their contents.
    assert_eq!(toc["version"], 1);
    let all = toc["entries"].as_array().unwrap();
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut seen = Vec::new();
    for (n, entry) in all.iter().enumerate().filter(|(_, entry)| entry["type"] != "chunk") {
        let name = entry["name"].as_str().unwrap();
        let own = &blob[at(entry, "offset")..at(entry, "endOffset")];
        let bytes = if own.is_empty() { Vec::new() } else { plain(own) };
        assert_eq!(bytes.len(), at(entry, "size"), "{name}");
        if bytes.is_empty() {
            assert!(entry.get("digest").is_none() && entry.get("offset").is_none(), "{entry}");
        } else {
            assert_eq!(entry["digest"], sha256_digest(&bytes), "{name}");
        }
        let more = all[n + 1..].iter().take_while(|entry| entry["type"] == "chunk").count();
        let chunks = &all[n..=n + more];
        let mut from = 0;
        for (m, chunk) in chunks.iter().enumerate().filter(|_| more > 0) {
            let end = chunks.get(m + 1).map_or(at(entry, "endOffset"), |next| at(next, "offset"));
            let part = plain(&blob[at(chunk, "offset")..end]);
            assert_eq!((at(chunk, "chunkOffset"), at(chunk, "chunkSize")), (from, part.len()), "{name}");
            assert_eq!(chunk["chunkDigest"], sha256_digest(&part), "{name}");
            assert_eq!(chunk["name"], name);
            assert!(bytes[from..from + part.len()] == part[..], "{name}");
            let zeros = part.iter().all(|byte| *byte == 0) && part.len() >= 1024;
            assert_eq!(chunk.get("chunkType"), zeros.then_some(&Value::from("zeros")), "{name} {chunk}");
            from += part.len();
        }
        assert!(more == 0 || from == bytes.len(), "{name}");
        contents.insert(name.into(), bytes.clone());
        seen.push(Seen {
            kind: ["reg", "hardlink", "symlink", "char", "block", "dir", "fifo"]
                .into_iter()
                .find(|kind| entry["type"] == **kind)
                .unwrap(),
            name: name.into(),
            link: entry["linkName"].as_str().unwrap_or_default().into(),
            mode: at(entry, "mode") as u64,
            uid: at(entry, "uid") as u64,
            gid: at(entry, "gid") as u64,
            contents: bytes,
        });
    }
    let expected = entries_of(tar);
    assert_eq!(seen.len(), expected.len());
    for (ours, theirs) in seen.iter().zip(&expected) {
        assert!(ours == theirs, "{} is not {}", ours.name, theirs.name);
    }

    // The tar-split and the contents are the tar.
    let bytes = &blob[split[0]..split[0] + split[1]];
    assert_eq!(annotations[SPLIT_DIGEST], sha256_digest(bytes));
    assert_eq!(toc["tarSplitDigest"], sha256_digest(bytes));
    let lines = plain(bytes);
    assert_eq!(lines.len(), split[2]);
    let mut whole = Vec::new();
    for object in serde_json::Deserializer::from_slice(&lines).into_iter::<Value>() {
        let object = object.unwrap();
        match object["type"].as_u64().unwrap() {
            2 => whole.extend(STANDARD.decode(object["payload"].as_str().unwrap()).unwrap()),
            _ => whole.extend(&contents[object["name"].as_str().unwrap_or_default()]),
        }
    }
    assert!(whole == tar, "the tar-split gives another tar");
    (blob, toc)
}

/// Bytes without any order, the same each time.
fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 24).to_le_bytes()[..5]);
    }
    bytes.truncate(length);
    bytes
}

fn zeros(length: usize) -> Vec<u8> {
    vec![0; length]
}

/// A layer of files that are cut in every way.
fn files() -> Vec<u8> {
    TarBuilder::new()
        .dir("f/", 0o755)
        .file("f/empty", 0o644, "")
        .file("f/one", 0o644, "1")
        .file("f/noise", 0o644, noise(3 << 20, 1))
        .file("f/text", 0o644, "the same line, again and again\n".repeat(60_000))
        .file("f/zero", 0o644, zeros(1))
        .file("f/1023", 0o644, zeros(1023))
        .file("f/1024", 0o644, zeros(1024))
        .file("f/all-zeros", 0o644, zeros(1_500_000))
        .file("f/hole-first", 0o644, [zeros(5000), noise(100, 2)].concat())
        .file("f/hole-last", 0o644, [noise(100, 3), zeros(5000)].concat())
        .file("f/no-hole-last", 0o644, [noise(100, 3), zeros(1000)].concat())
        .file("f/hole-within", 0o644, [noise(200_000, 4), zeros(1 << 20), noise(200_000, 5)].concat())
        .file("f/nearly-holes", 0o644, [noise(70_000, 6), zeros(1023), noise(3, 7), zeros(1024), noise(9, 8)].concat())
        .file("f/sprinkled", 0o644, noise(300_000, 9).iter().flat_map(|byte| [*byte, 0, 0, *byte]).collect::<Vec<_>>())
        .finish()
}

/// A layer with what tables of contents can tell.
fn told() -> Vec<u8> {
    let entry = |kind, path: &str| Entry::new(kind, path);
    let deep = format!("t/{}/{}/{}", "d".repeat(100), "e".repeat(100), "f".repeat(100));
    TarBuilder::new()
        .dir("./", 0o751)
        .dir("t/", 0o755)
        .file("/t/slash", 0o4755, "leading\n")
        .file("t/<&>\u{2028}\"\\\n\t\u{1}é", 0o644, "odd name\n")
        .file(&deep, 0o644, "long\n")
        .entry(Entry { long_names: LongNames::Gnu, contents: b"gnu\n".into(), ..entry(FILE, &format!("{deep}-gnu")) })
        .entry(Entry { long_names: LongNames::Gnu, ..entry(SYMLINK, &format!("{deep}-link")) }.linking(&deep))
        .entry(Entry { mode: 0o100_644, ..entry(FILE, "t/mode-with-type") })
        .entry(Entry { uid: 2_097_152, gid: 3_000_000_000, ..entry(FILE, "t/owner-pax") })
        .entry(Entry { mtime: Time { seconds: 1_600_000_000, nanos: 123_456_789 }, ..entry(FILE, "t/nanos") })
        .entry(Entry { mtime: Time { seconds: -86_400, nanos: 0 }, ..entry(FILE, "t/before-1970") })
        .entry(entry(FILE, "t/times").pax_record("atime", "1650000000.25").pax_record("ctime", "1660000000.5"))
        .entry(
            Entry { contents: b"x".into(), ..entry(FILE, "t/xattrs") }
                .xattr("user.second", b"\x00\xff=\n\x01")
                .xattr("user.first", "value"),
        )
        .device("t/null", holkas_testkit::tar::CHARACTER_DEVICE, 1, 3)
        .device("t/loop", holkas_testkit::tar::BLOCK_DEVICE, 7, 0)
        .fifo("t/fifo")
        .symlink("t/symlink", "nowhere/at/all")
        .entry(entry(HARD_LINK, "t/hard").linking("t/xattrs"))
        .whiteout("t/gone")
        .opaque("t")
        .finish_padded(10240)
}

#[test]
fn every_byte_of_a_layer_is_told_of() {
    let tars = [files(), told(), TarBuilder::new().finish(), Vec::new()];
    for tar in tars.iter().chain(&odd_layers()[1..]) {
        checked(tar);
    }
    // What is before a second tar's end is of one, and what follows an end is in the tar-split.
    checked(&[TarBuilder::new().file("a", 0o644, "a").finish(), noise(3 << 20, 1)].concat());
    checked(&TarBuilder::new().file("a", 0o644, noise(513, 1)).finish_without_end());
}

#[test]
fn the_table_says_what_the_headers_say() {
    let (_, toc) = checked(&told());
    let all = toc["entries"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|entry| entry["name"] == name).unwrap().as_object().unwrap().clone();
    assert_eq!(of("t/nanos")["modtime"], "2020-09-13T12:26:40.123456789Z");
    assert_eq!(of("t/before-1970")["modtime"], "1969-12-31T00:00:00Z");
    assert_eq!(of("t/times")["accesstime"], "2022-04-15T05:20:00.25Z");
    assert_eq!(of("t/times")["changetime"], "2022-08-08T23:06:40.5Z");
    let expected = serde_json::json!({ "user.first": "dmFsdWU=", "user.second": "AP89CgE=" });
    assert_eq!(of("t/xattrs")["xattrs"], expected);
    assert_eq!((&of("t/loop")["devMajor"], of("t/loop").get("devMinor")), (&Value::from(7), None));
    assert_eq!(of("t/mode-with-type")["mode"], 0o100_644);
}

#[test]
fn chunks_are_of_some_tens_of_kibibytes_and_hang_on_the_contents_alone() {
    let chunks = |tar: &[u8], name: &str| -> Vec<(Value, Value)> {
        let (_, toc) = checked(tar);
        let named = toc["entries"].as_array().unwrap().iter().filter(|entry| entry["name"] == name);
        named.map(|entry| (entry["chunkSize"].clone(), entry["chunkDigest"].clone())).collect()
    };
    let noise = noise(3 << 20, 1);
    let here = chunks(&files(), "f/noise");
    let there = chunks(&TarBuilder::new().file("f/noise", 0o600, [&b"x"[..], &noise].concat()).finish(), "f/noise");
    assert!((20..100).contains(&here.len()), "{}", here.len());
    assert_eq!(here[1..], there[1..], "all but the first chunk are where they were");
    assert_ne!(here[0], there[0]);
}

#[test]
fn what_no_table_could_tell_is_zstd_all_the_same() {
    let check = |tar: &[u8], reason: &str| {
        let (blob, told) = packed(tar);
        let told = told.unwrap_err();
        assert!(told.contains(reason), "{told}");
        // Nothing at its end looks like a table.
        assert!(!blob.windows(8).any(|window| window == b"GNUlInUx"));
    };
    let good = || TarBuilder::new().file("first", 0o644, noise(200_000, 1));
    check(&odd_layers()[0], "global header");
    check(&good().file(b"caf\xe9", 0o644, "x").file("last", 0o644, noise(99, 2)).finish(), "not UTF-8");
    check(&good().symlink("a", b"caf\xe9").finish(), "not UTF-8");
    check(&good().entry(Entry::new(FILE, "x").xattr(b"user.\xe9", "x")).finish(), "not UTF-8");
    check(&good().entry(Entry::new(FILE, "x").xattr("user.empty", "")).finish(), "several ways");
    check(&good().entry(Entry::new(FILE, "x").pax_record("ctime", "soon")).finish(), "several ways");
    check(&good().file("a", 0o644, "1").file("./a", 0o644, "2").finish(), "two entries of the layer have this name");
    check(&good().file("a/../b", 0o644, "1").finish(), "`..`");
    check(&good().entry(Entry::new(FILE, "s").pax_record("GNU.sparse.major", "1")).finish(), "sparse");
    check(&good().entry(Entry::new(b'S', "s")).finish(), "sparse");
    check(&good().entry(Entry::new(b'V', "volume")).finish(), "type");
    let year = Time { seconds: 253_402_300_800, nanos: 0 };
    check(&good().entry(Entry { mtime: year, ..Entry::new(FILE, "x") }).finish(), "time");
    check(b"no tar at all, but more than a block of something else: ".repeat(40).as_slice(), "no tar");
    check(&noise(3 << 20, 1), "");
    let tar = good().file("holes", 0o644, zeros(1 << 20)).finish();
    for length in [300, 700, 150_000, 201_000, 201_728 + 300, 500_000] {
        check(&tar[..length], "the tar ends");
    }
}

/// A tar of entries with names so long that their table is over the limit.
struct ManyNames {
    entry: u64,
    left: Vec<u8>,
}

impl Read for ManyNames {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() {
            if self.entry == 40_000 {
                return Ok(0);
            }
            self.entry += 1;
            let name = format!("{}/{}", "n/".repeat(2000), self.entry);
            self.left = TarBuilder::new().file(&name, 0o644, "contents").finish_without_end();
            self.left.reverse();
        }
        let length = buffer.len().min(self.left.len());
        for byte in &mut buffer[..length] {
            *byte = self.left.pop().unwrap();
        }
        Ok(length)
    }
}

#[test]
fn a_table_over_the_limit_is_left_out() {
    let many = || ManyNames { entry: 0, left: Vec::new() };
    let mut blob = Vec::new();
    let Chunked::Without(reason) = chunked::write(&mut BufReader::new(many()), Some(1), &mut blob).unwrap() else {
        panic!("a table of 160 MiB");
    };
    assert!(reason.to_string().contains("table of contents of the layer"), "{reason}");
    let (mut ours, mut expected) = (BufReader::new(zstd::Decoder::new(&blob[..]).unwrap()), BufReader::new(many()));
    let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = expected.read(&mut other).unwrap();
        ours.read_exact(&mut one[..n]).unwrap();
        assert!(one[..n] == other[..n]);
        if n == 0 {
            break;
        }
    }
    assert_eq!(ours.read(&mut one).unwrap(), 0);
}

#[test]
fn errors_of_either_side_are_errors() {
    struct Fails<'a>(&'a [u8]);
    impl Read for Fails<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(holkas::Error::mismatch("the source lies").into()),
                n => Ok(n),
            }
        }
    }
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tar = files();
    let whole = packed(&tar).0.len();
    for length in [0, 100, 512, 5000, 1_000_000, tar.len()] {
        let error = chunked::write(&mut BufReader::new(Fails(&tar[..length])), None, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{length}: {error}");
    }
    for room in [0, 100, 1_000_000, whole - 73, whole - 1] {
        let error = chunked::write(&mut &tar[..], None, &mut Full(room)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{room}: {error}");
    }
    chunked::write(&mut &tar[..], None, &mut Full(whole)).unwrap();
    for level in [0, -1, 20] {
        let error = chunked::write(&mut &tar[..], Some(level), &mut Vec::new()).unwrap_err();
        assert_eq!((error.kind(), error.hint_text()), (ErrorKind::Invalid, Some("its levels are 1 to 19")));
    }
}

#[test]
fn files_are_cut_where_skopeo_cuts_them() {
    let (ours, theirs) = (files(), told());
    let image = ImageBuilder::oci().layer(ours.clone()).layer(theirs.clone()).build();
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    image.write_oci(path("plain"), Some("1"));
    let (from, to) = (format!("oci:{}:1", path("plain").display()), format!("dir:{}", path("chunked").display()));
    Peer::skopeo().run(["copy", "-q", "--dest-compress", "--dest-compress-format=zstd:chunked", &from, &to]).ok();
    let read = |name: &str| std::fs::read(path("chunked").join(name)).unwrap();
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    for (n, tar) in [ours, theirs].iter().enumerate() {
        let layer = &manifest["layers"][n];
        let blob = read(layer["digest"].as_str().unwrap().trim_start_matches("sha256:"));
        let annotations: Annotations = serde_json::from_value(layer["annotations"].clone()).unwrap();
        // Debian's has the names of before 2023.
        let renamed =
            annotations.into_iter().map(|(key, value)| (key.replace("io.containers", "io.github.containers"), value));
        let of_skopeo = toc_of(&blob, &renamed.collect());
        let (_, of_us) = checked(tar);
        let entries = |toc: &Value| -> Vec<Value> {
            let mut entries = toc["entries"].as_array().unwrap().clone();
            for entry in &mut entries {
                let entry = entry.as_object_mut().unwrap();
                // Where things are hangs on the compressor.
                entry.retain(|key, _| !["offset", "endOffset"].contains(&key.as_str()));
                // That version writes Go's zero time where there is none.
                entry.retain(|_, value| value != "0001-01-01T00:00:00Z");
            }
            entries
        };
        let (of_skopeo, of_us) = (entries(&of_skopeo), entries(&of_us));
        assert_eq!(of_skopeo.len(), of_us.len());
        for (theirs, ours) in of_skopeo.iter().zip(&of_us) {
            assert_eq!(theirs, ours);
        }
    }
}
