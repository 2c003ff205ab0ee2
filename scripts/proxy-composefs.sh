#!/usr/bin/env bash
# Has composefs take images of every room through the image proxy: its program cfsctl asks for a skopeo, and gets ours.
#
#     scripts/proxy-composefs.sh
#
# CFSCTL=PATH names cfsctl 0.9; without it, it is built from the package registry, which takes a while.
# HOLKAS=PATH names another binary than the debug build; SKOPEO=PATH takes the images through that instead, to compare.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${HOLKAS:-}" ]; then
    cargo build --locked -p holkas-cli
    HOLKAS=$PWD/${CARGO_TARGET_DIR:-target}/debug/holkas
fi
HOLKAS=$(realpath "$HOLKAS")
if [ -z "${CFSCTL:-}" ]; then
    root=$PWD/proxy-client/target/composefs
    cargo install --locked --root "$root" composefs-ctl --version '^0.9' --no-default-features \
        --features pre-6.15,oci,containers-storage
    CFSCTL=$root/bin/cfsctl
fi
"$CFSCTL" --version

work=$(mktemp -d)
# skopeo leaves the store mounted that it has read.
trap 'umount "$work/root/overlay" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/home/.config/containers"
ln -s "$(realpath "${SKOPEO:-$HOLKAS}")" "$work/bin/skopeo"
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/home/.config/containers/policy.json"

images=$PWD/samples/images
store="containers-storage:[overlay@$work/root+$work/run]"
make() { "$HOLKAS" --insecure-policy copy -q --no-cache "$@"; }
make -f oci "dir:$images/greeter" "oci:$work/layout:1"
make "oci:$work/layout:1" "dir:$work/dir"
make "oci:$work/layout:1" "${store}greeter:1"
make --allow-changes "dir:$images/greeter" "docker-archive:$work/archive.tar:greeter:1"

failed=0
pull() { # REPOSITORY NAME REFERENCE
    [ -e "$work/$1" ] || "$CFSCTL" --repo "$work/$1" init --insecure >/dev/null
    echo "${3//"$work/"/}"
    HOME=$work/home PATH="$work/bin:$PATH" RUST_BACKTRACE=0 "$CFSCTL" --repo "$work/$1" oci pull "$3" "$2" || failed=1
}
pull oci layout "oci:$work/layout:1"
pull oci dir "dir:$work/dir"
pull oci store "${store}greeter:1"
pull oci archive "oci-archive:$images/notes.oci.tar"
# The protocol gives the digest of Docker's manifest with the bytes of OCI's, which composefs's fsck does not allow for.
pull docker schema2 "dir:$images/greeter"
pull docker archive "docker-archive:$work/archive.tar:greeter:1"
RUST_BACKTRACE=0 "$CFSCTL" --repo "$work/oci" oci fsck || failed=1
if [ "$failed" = 1 ]; then
    echo "error: not all came" >&2
    exit 1
fi
echo "all came as it must"
