#!/usr/bin/env bash
# Makes the images that bench/run.sh copies, out of real Debian packages and counted small files.
#
#     bench/make-images.sh DIR
#
# Needs root, the network, debootstrap, zstd, python3; 5 GB in DIR and some minutes. What is there is not made again.
# GROUPS_OF_PACKAGES=N takes only the first N groups of packages (default all 11).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: bench/make-images.sh DIR}
groups=${GROUPS_OF_PACKAGES:-11}
mkdir -p "$out/debs" "$out/layers"
out=$(cd "$out" && pwd)

# One layer each, on top of a minimal Debian. Only their files matter: nothing is configured or run.
PACKAGES=(
    "gcc-12 cpp-12 g++-12 libgcc-12-dev libstdc++-12-dev libc6-dev binutils-x86-64-linux-gnu"
    "python3.11-minimal libpython3.11-stdlib libpython3.11-testsuite python3-numpy python3-setuptools"
    "golang-1.19-src golang-1.19-go"
    "rustc libstd-rust-1.63 libstd-rust-dev"
    "openjdk-17-jre-headless openjdk-17-jdk-headless"
    "llvm-14 libllvm14 llvm-14-dev"
    "clang-14 libclang-cpp14 libclang-common-14-dev"
    "libnode108 libnode-dev"
    "perl-modules-5.36 libperl5.36 perl-doc ruby3.1 libruby3.1"
    "libboost1.74-dev libboost1.74-doc"
    "python3-scipy python3-pandas-lib python3-matplotlib python3-django"
)

layer_of() { # NAME DIRECTORY: a deterministic tar of the directory, as gzip and as zstd
    tar --create --file "$out/layers/$1.tar" --directory "$2" --sort=name --numeric-owner --xattrs \
        --format=posix --pax-option=delete=atime,delete=ctime .
    gzip --no-name -6 --stdout "$out/layers/$1.tar" >"$out/layers/$1.tar.gz"
    zstd -q -3 -f "$out/layers/$1.tar" -o "$out/layers/$1.tar.zst"
    rm -rf "$2"
}

if [ ! -e "$out/layers/00.tar.zst" ]; then
    debootstrap --variant=minbase bookworm "$out/root" >"$out/debootstrap.log"
    layer_of 00 "$out/root"
fi
for ((i = 1; i <= groups; i++)); do
    name=$(printf '%02d' "$i")
    [ ! -e "$out/layers/$name.tar.zst" ] || continue
    read -ra packages <<<"${PACKAGES[i - 1]}"
    (cd "$out/debs" && apt-get download -qq "${packages[@]}")
    mkdir -p "$out/root"
    for package in "${packages[@]}"; do
        dpkg --extract "$out/debs/$package"_*.deb "$out/root"
    done
    layer_of "$name" "$out/root"
done
exec python3 "$here/make_images.py" "$out"
