#!/usr/bin/env bash
# Checks everything: installs what the tests need, then format, lints, tests, docs, licences, fuzz targets, a static
# build and the demo. Run as root on Debian 12 with Rust; CI calls this and nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The peers that the tests compare with, and what the tests, the build and this script call.
PACKAGES=(
    skopeo podman buildah umoci containers-storage runc bubblewrap docker-registry apache2-utils uidmap
    busybox-static gnupg attr libcap2-bin zstd e2fsprogs util-linux mount tar
    build-essential pkg-config ca-certificates openssl python3-minimal shellcheck
)
TARGET=x86_64-unknown-linux-gnu
# What was asked for and cannot be had is an error; what is deliberately not run is named at the end.
NOT_RUN=()
BEGUN=$SECONDS

heading() {
    printf '\n=== %s (at %d s)\n' "$1" "$((SECONDS - BEGUN))"
}

die() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

heading "packages"
[ "$(id -u)" = 0 ] || die "the tests make devices, owners and trusted xattrs, and so need root"
missing=()
for package in "${PACKAGES[@]}"; do
    is_installed "$package" || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || die "not a Debian: install these first: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes --no-install-recommends "${missing[@]}"
    # Debian's package starts a registry on all interfaces, at each boot too; the tests start their own.
    if [[ " ${missing[*]} " = *" docker-registry "* ]] && command -v service >/dev/null; then
        service docker-registry stop || true
        update-rc.d docker-registry disable
    fi
fi
command -v cargo >/dev/null || die "no cargo: install Rust 1.89 or newer from https://rustup.rs"
for tool in rustfmt cargo-clippy; do
    command -v "$tool" >/dev/null || rustup component add rustfmt clippy
done
rustc --version
for peer in skopeo podman buildah umoci runc docker-registry; do
    printf '%s: %s\n' "$peer" "$("$peer" --version | head -n 1)"
done

heading "crates"
cargo fetch --locked --target "$TARGET"
cargo fetch --locked --target "$TARGET" --manifest-path fuzz/Cargo.toml

# Nothing below may need a network, or a newer version than the lock file's.
export CARGO_NET_OFFLINE=true

heading "shell scripts"
shellcheck .ci/run scripts/*.sh bench/*.sh

heading "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo fmt --manifest-path proxy-client/Cargo.toml --check

heading "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings

heading "tests"
# Without --no-fail-fast the first failing file hides all others.
cargo test --locked --workspace --no-fail-fast

heading "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --lib --document-private-items

heading "fuzz targets"
RUSTFLAGS="-D warnings" cargo check --locked --manifest-path fuzz/Cargo.toml --bins
NOT_RUN+=("the fuzz targets are compiled, not run: running them needs a nightly compiler (see fuzz/README.md)")

heading "static binary"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$TARGET" -p holkas-cli
binary="${CARGO_TARGET_DIR:-target}/$TARGET/release/holkas"
linkage=$(ldd "$binary" 2>&1 || true)
case "$linkage" in
    *"statically linked"* | *"not a dynamic executable"*) ls -l "$binary" ;;
    *) die "$binary is not static: $linkage" ;;
esac
"$binary" --version

heading "bare root"
scripts/bare-root.sh "$binary"

heading "demo"
HOLKAS="$binary" scripts/demo.sh

heading "the image proxy's reference client"
# What the client's own tests need beside it is in no lock file of ours.
CARGO_NET_OFFLINE=false HOLKAS="$binary" scripts/proxy-client.sh
NOT_RUN+=("the image proxy with composefs: scripts/proxy-composefs.sh, whose build takes long")

if command -v cargo-deny >/dev/null; then
    heading "cargo deny"
    cargo deny --offline check bans licenses sources
    NOT_RUN+=("cargo deny's advisories: they need the network")
else
    NOT_RUN+=("cargo deny is not installed; tests/tidy.rs held licences and sources against deny.toml instead")
    NOT_RUN+=("security advisories: they need cargo deny and the network")
fi

heading "done"
printf 'not run: %s\n' "${NOT_RUN[@]}"
printf 'all else passed\n'
