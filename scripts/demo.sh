#!/usr/bin/env bash
# Embeds the sample images into an empty tree and shows what came of it.
# The samples are not signed, and a fresh machine has no /etc/containers/policy.json: hence --insecure-policy.
# HOLKAS may name a binary that is already built; KEEP=1 leaves the tree where it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$(id -u)" != 0 ]; then
    printf 'error: %s\n\nhint: %s\n' \
        "a store holds files of many owners and trusted.* xattrs, which only root can write" \
        "run \`sudo -E env PATH=\"\$PATH\" scripts/demo.sh\`, or run it as root in a container or virtual machine" >&2
    exit 1
fi

if [ -z "${HOLKAS:-}" ]; then
    command -v cargo >/dev/null || {
        printf 'error: no cargo\n\nhint: install Rust 1.89 or newer from https://rustup.rs\n' >&2
        exit 1
    }
    cargo build --locked --release -p holkas-cli
    HOLKAS="${CARGO_TARGET_DIR:-target}/release/holkas"
fi

tree=$(mktemp -d "${TMPDIR:-/tmp}/holkas-demo.XXXXXX")
tidy() {
    if [ -z "${KEEP:-}" ]; then
        rm -rf "$tree"
    else
        printf '\nkept: %s\n' "$tree"
    fi
}
trap tidy EXIT

printf '\n$ holkas --insecure-policy embed samples/images.toml --root %s\n\n' "$tree"
"$HOLKAS" --insecure-policy embed samples/images.toml --root "$tree"

printf '\n$ find %s | sort | head -n 40\n\n' "$tree"
(cd "$tree" && find . | LC_ALL=C sort | awk 'NR <= 40; END { if (NR > 40) print "... and " NR - 40 " more" }')

printf '\nThe same again: a second run changes nothing.\n\n$ holkas --insecure-policy embed samples/images.toml --root %s\n\n' "$tree"
"$HOLKAS" --insecure-policy embed samples/images.toml --root "$tree"

if command -v podman >/dev/null; then
    printf '\nWhat podman sees there:\n\n'
    podman --root "$tree/usr/share/containers/storage" --runroot "$tree/run" --storage-driver overlay \
        images --all --digests || printf 'podman could not read the store on this machine\n'
    umount --lazy "$tree/usr/share/containers/storage/overlay" 2>/dev/null || true
fi
