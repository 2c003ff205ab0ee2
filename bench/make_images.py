"""Puts layers together to the images of the benchmark: see make-images.sh."""

import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile

OUT = sys.argv[1]
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(path):
    """Returns the SHA-256 of a file as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def layer(name, kind):
    """Returns what a manifest says of a layer: path, hex of the blob, size, hex of the tar."""
    path = f"{OUT}/layers/{name}.tar.{kind}"
    return path, digest_of(path), os.path.getsize(path), DIFFS[name]


def small_files(name, count):
    """Writes a layer of many small files."""
    source = random.Random(1)
    with tarfile.open(f"{OUT}/layers/{name}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for i in range(count):
            if i % 200 == 0:
                directory = tarfile.TarInfo(f"srv/{i // 200:04d}")
                directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, 1_600_000_000
                tar.addfile(directory)
            content = source.randbytes(source.randrange(100, 3300))
            entry = tarfile.TarInfo(f"srv/{i // 200:04d}/{i:06d}")
            entry.size, entry.mode, entry.mtime = len(content), 0o644, 1_600_000_000 + i
            tar.addfile(entry, io.BytesIO(content))
    with open(f"{OUT}/layers/{name}.tar.gz", "wb") as out:
        subprocess.run(["gzip", "-n", "-6", "-c", f"{OUT}/layers/{name}.tar"], stdout=out, check=True)


def config(diffs, architecture):
    """Returns an image config."""
    return json.dumps({
        "created": "2024-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in diffs]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "bench"} for _ in diffs],
    }).encode()


def manifest(layers, config_bytes, docker, kind):
    """Returns a manifest."""
    if docker:
        types = (DOCKER, "application/vnd.docker.container.image.v1+json",
                 "application/vnd.docker.image.rootfs.diff.tar.gzip")
    else:
        suffix = {"gz": "gzip", "zst": "zstd"}[kind]
        types = (OCI, "application/vnd.oci.image.config.v1+json", f"application/vnd.oci.image.layer.v1.tar+{suffix}")
    return json.dumps({
        "schemaVersion": 2, "mediaType": types[0],
        "config": {"mediaType": types[1], "size": len(config_bytes),
                   "digest": "sha256:" + hashlib.sha256(config_bytes).hexdigest()},
        "layers": [{"mediaType": types[2], "size": size, "digest": f"sha256:{blob}"} for _, blob, size, _ in layers],
    }).encode()


def link(source, target):
    """Hard-links a blob into place."""
    if not os.path.exists(target):
        os.link(source, target)


def write(path, content):
    """Writes a file."""
    with open(path, "wb") as file:
        file.write(content)


def as_dir(name, layers, docker=True, architecture="amd64"):
    """Writes a `dir:` image; returns its manifest."""
    path = f"{OUT}/{name}"
    os.makedirs(path, exist_ok=True)
    config_bytes = config([diff for *_, diff in layers], architecture)
    manifest_bytes = manifest(layers, config_bytes, docker, "gz")
    write(f"{path}/version", b"Directory Transport Version: 1.1\n")
    write(f"{path}/{hashlib.sha256(config_bytes).hexdigest()}", config_bytes)
    write(f"{path}/manifest.json", manifest_bytes)
    for file, blob, _, _ in layers:
        link(file, f"{path}/{blob}")
    return manifest_bytes


def docker_list(images):
    """Returns a manifest list of (manifest, architecture)."""
    return json.dumps({
        "schemaVersion": 2, "mediaType": DOCKER_LIST,
        "manifests": [{"mediaType": DOCKER, "size": len(content),
                       "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
                       "platform": {"architecture": architecture, "os": "linux"}}
                      for content, architecture in images],
    }).encode()


def as_oci(path, images):
    """Writes an OCI layout of (tag, layers, kind)."""
    blobs = f"{path}/blobs/sha256"
    os.makedirs(blobs, exist_ok=True)
    entries = []
    for tag, layers, kind in images:
        config_bytes = config([diff for *_, diff in layers], "amd64")
        manifest_bytes = manifest(layers, config_bytes, False, kind)
        for content in (config_bytes, manifest_bytes):
            write(f"{blobs}/{hashlib.sha256(content).hexdigest()}", content)
        for file, blob, _, _ in layers:
            link(file, f"{blobs}/{blob}")
        entries.append({"mediaType": OCI, "digest": "sha256:" + hashlib.sha256(manifest_bytes).hexdigest(),
                        "size": len(manifest_bytes), "annotations": {"org.opencontainers.image.ref.name": tag}})
    write(f"{path}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    write(f"{path}/index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def tiny(i):
    """Returns a small layer of its own for image `i` of the crowd."""
    name = f"tiny-{i:03d}"
    path = f"{OUT}/layers/{name}.tar.gz"
    source, raw = random.Random(i), io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for j in range(20):
            content = source.randbytes(2000)
            entry = tarfile.TarInfo(f"app-{i}/{j}")
            entry.size, entry.mtime = len(content), 1_600_000_000
            tar.addfile(entry, io.BytesIO(content))
    write(path, gzip.compress(raw.getvalue(), mtime=0))
    DIFFS[name] = hashlib.sha256(raw.getvalue()).hexdigest()
    return layer(name, "gz")


NAMES = sorted(name[:2] for name in os.listdir(f"{OUT}/layers") if name[2:] == ".tar.zst")
if not os.path.exists(f"{OUT}/layers/small.tar.gz"):
    small_files("small", 80_000)
DIFFS = {name: digest_of(f"{OUT}/layers/{name}.tar") for name in [*NAMES, "small"]}

GZIP = [layer(name, "gz") for name in NAMES]
as_dir("big.dir", GZIP)
as_oci(f"{OUT}/big.oci", [("1", [layer(name, "zst") for name in NAMES], "zst")])
as_dir("small.dir", [layer("small", "gz")])

# osbuild's case: the host's instance of a multi-arch list lies in a `dir:`, the list beside it.
instance = as_dir("multi.dir", GZIP[1:2])
foreign = as_dir("multi-arm64.dir", GZIP[1:2], architecture="arm64")
write(f"{OUT}/multi.json", docker_list([(instance, "amd64"), (foreign, "arm64")]))

# A larger list with both of its images, to be pushed to a registry.
pair = [as_dir("pair.dir", GZIP[:2] + GZIP[4:5], architecture=architecture) for architecture in ("arm64", "amd64")]
for content in pair:
    write(f"{OUT}/pair.dir/{hashlib.sha256(content).hexdigest()}.manifest.json", content)
write(f"{OUT}/pair.dir/manifest.json", docker_list([(pair[1], "amd64"), (pair[0], "arm64")]))

# A few layers in an archive, as `skopeo copy … oci-archive:` would write them: uncompressed tar of the layout.
chosen = GZIP[:1] + GZIP[2:4]
as_oci(f"{OUT}/archive.oci", [("1", chosen, "gz")])
subprocess.run(["tar", "-C", f"{OUT}/archive.oci", "-cf", f"{OUT}/archive.oci.tar", "."], check=True)

# A crowd of small images on one base.
as_oci(f"{OUT}/crowd.oci", [(f"{i:03d}", [GZIP[0], tiny(i)], "gz") for i in range(500)])

plain = sum(os.path.getsize(f"{OUT}/layers/{name}.tar") for name in NAMES)
entries = sum(sum(1 for _ in tarfile.open(f"{OUT}/layers/{name}.tar")) for name in NAMES)
write(f"{OUT}/README", (
    f"big: {len(NAMES)} layers, {plain / 1e9:.2f} GB unpacked, {entries} entries, "
    f"{sum(size for _, _, size, _ in GZIP) / 1e6:.0f} MB as gzip\n"
    f"small: 80000 files, {os.path.getsize(f'{OUT}/layers/small.tar.gz') / 1e6:.0f} MB as gzip\n"
    f"multi: {GZIP[1][2] / 1e6:.0f} MB as gzip\n"
    f"pair: {sum(size for _, _, size, _ in GZIP[:2] + GZIP[4:5]) / 1e6:.0f} MB as gzip\n"
    f"archive: {os.path.getsize(f'{OUT}/archive.oci.tar') / 1e6:.0f} MB\n").encode())
print(open(f"{OUT}/README").read(), end="")
