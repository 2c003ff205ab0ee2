#!/usr/bin/env bash
# Holds the image proxy against its reference client, the crate containers-image-proxy: the crate's own tests, its
# ignored ones too, and images of every room with the digests of what came.
#
#     scripts/proxy-client.sh
#
# The client and what it brings (an async runtime, among others) come from the package registry. HOLKAS=PATH names
# another binary than the debug build; SKOPEO=PATH has the second half say, too, what another server of the protocol
# gives for the same images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${HOLKAS:-}" ]; then
    cargo build --locked -p holkas-cli
    HOLKAS=$PWD/${CARGO_TARGET_DIR:-target}/debug/holkas
fi
HOLKAS=$(realpath "$HOLKAS")
target=$PWD/proxy-client/target
cargo build --locked --release --manifest-path proxy-client/Cargo.toml --target-dir "$target"
client=$target/release/holkas-proxy-client

work=$(mktemp -d)
# skopeo leaves the store mounted that it has read.
trap 'umount "$work/root/overlay" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/ours"
ln -s "$HOLKAS" "$work/ours/skopeo"

echo "=== the reference client's own tests"
manifest=$(cargo metadata --locked --format-version 1 --manifest-path proxy-client/Cargo.toml |
    python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "containers-image-proxy":
        print(package["manifest_path"])')
cp -r "$(dirname "$manifest")" "$work/crate"
# Some tests begin only if there is a skopeo, and what they want of the policy is not there on every machine.
mkdir -p "$work/home/.config/containers"
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/home/.config/containers/policy.json"
(
    cd "$work/crate"
    env CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" HOME="$work/home" \
        PATH="$work/ours:$PATH" EXPECT_BLOB_STREAM_SOURCE=GetRawBlob \
        cargo test --target-dir "$target/client" -- --include-ignored
)

echo "=== images of every room"
images=samples/images
store="containers-storage:[overlay@$work/root+$work/run]"
"$HOLKAS" --insecure-policy copy -q --no-cache -f v2s2 "dir:$images/greeter" "dir:$work/docker"
"$HOLKAS" --insecure-policy copy -q --no-cache "oci-archive:$images/notes.oci.tar" "oci:$work/layout:1"
"$HOLKAS" --insecure-policy copy -q --no-cache --allow-changes "dir:$images/greeter" \
    "docker-archive:$work/archive.tar:greeter:1"
"$HOLKAS" --insecure-policy copy -q --no-cache "dir:$images/greeter" "${store}greeter:1"
references=(
    "dir:$images/greeter" "dir:$work/docker" "oci:$work/layout:1" "oci-archive:$images/notes.oci.tar"
    "docker-archive:$work/archive.tar:greeter:1" "${store}greeter:1"
)
for reference in "${references[@]}"; do
    printf '%s\n' "$reference" | sed "s|$work/||"
    PATH="$work/ours:$PATH" "$client" digests "$reference"
    if [ -n "${SKOPEO:-}" ]; then
        mkdir -p "$work/theirs"
        ln -sf "$(realpath "$SKOPEO")" "$work/theirs/skopeo"
        echo "the same from $SKOPEO:"
        PATH="$work/theirs:$PATH" "$client" digests "$reference" || true
    fi
done
echo "all came as it must"
