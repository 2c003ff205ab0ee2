#!/usr/bin/env bash
# Runs holkas and Debian's skopeo in turn on the same images, and prints wall time, CPU time and peak memory as ratios.
#
#     bench/run.sh DIR [CASE…]
#
# DIR holds what bench/make-images.sh makes (it is made if it is missing). Root, skopeo and GNU time are needed.
# Every run writes to a fresh ext4 file system in a loop image in /dev/shm (SIZE=6G); inputs are read once before, so
# that the cache is warm. RUNS=3: the best of so many. HOLKAS=PATH names another binary than the static release build.
# shellcheck disable=SC2016 # backquotes in titles are Markdown
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
images=${1:?usage: bench/run.sh DIR [CASE…]}
shift
cases=("$@")
runs=${RUNS:-3}
size=${SIZE:-6G}
[ "$(id -u)" = 0 ] || { echo "error: root is needed for file systems and owners" >&2; exit 1; }
if [ ! -e "$images/README" ] || [ ! -e "$images/pair.dir" ]; then bench/make-images.sh "$images"; fi
images=$(cd "$images" && pwd)

if [ -z "${HOLKAS:-}" ]; then
    target=x86_64-unknown-linux-gnu
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" -p holkas-cli >&2
    HOLKAS=$PWD/${CARGO_TARGET_DIR:-target}/$target/release/holkas
fi

work=$(mktemp -d /dev/shm/holkas-bench.XXXXXX)
mount_point=$work/mnt
mkdir "$mount_point"
clean() {
    umount --lazy "$mount_point/store/overlay" 2>/dev/null || true
    umount "$mount_point" 2>/dev/null || umount --lazy "$mount_point" 2>/dev/null || true
}
trap 'clean; rm -rf "$work"' EXIT

fresh() {
    clean
    rm -f "$work/disk"
    truncate --size "$size" "$work/disk"
    mkfs.ext4 -q -F -N 400000 -E lazy_itable_init=0,lazy_journal_init=0 "$work/disk"
    mount -o loop "$work/disk" "$mount_point"
    mkdir "$mount_point/tmp"
}

wanted() {
    [ "${#cases[@]}" = 0 ] && return
    local name
    for name in "${cases[@]}"; do [ "$name" != "$1" ] || return 0; done
    return 1
}

# time_of PREPARE COMMAND…: "wall cpu KiB" of the fastest of $runs.
time_of() {
    local prepare=$1 best="" line begun ended
    shift
    for ((i = 0; i < runs; i++)); do
        "$prepare"
        begun=$EPOCHREALTIME
        if ! TMPDIR=$mount_point/tmp /usr/bin/time -f '%U %S %M' -o "$work/time" "$@" >"$work/out" 2>&1; then
            cat "$work/out" >&2
            echo "error: failed: $*" >&2
            return 1
        fi
        ended=$EPOCHREALTIME
        line=$(awk -v from="$begun" -v to="$ended" '{ printf "%.4f %.2f %d", to - from, $1 + $2, $3 }' "$work/time")
        if [ -z "$best" ] || awk -v a="$line" -v b="$best" 'BEGIN { split(a, x); split(b, y); exit !(x[1] < y[1]) }'; then
            best=$line
        fi
    done
    echo "$best"
}

row() { # TITLE HOLKAS SKOPEO
    awk -v title="$1" -v a="$2" -v b="$3" 'BEGIN {
        split(a, h); split(b, s)
        printf "| %s | %.2f s | %.2f s | **%.2f** | %.2f s | %.2f s | **%.2f** | %.0f MiB | %.0f MiB |\n", title,
            h[1], s[1], h[1] / s[1], h[2], s[2], h[2] / s[2], h[3] / 1024, s[3] / 1024
    }'
}

store="containers-storage:[overlay@$mount_point/store+$mount_point/run]"
compare() { # CASE TITLE SOURCE DESTINATION
    wanted "$1" || return 0
    local ours theirs
    ours=$(time_of fresh "$HOLKAS" copy -q "$3" "$4")
    theirs=$(time_of fresh skopeo --insecure-policy copy -q "$3" "$4")
    row "$2" "$ours" "$theirs"
}

cat "$images"/*.dir/* "$images"/*.oci/blobs/sha256/* "$images/archive.oci.tar" >/dev/null

echo "$(date --utc +%F), $(nproc) cores, $("$HOLKAS" --version), $(skopeo --version), Linux $(uname -r), best of $runs"
echo
sed 's/^/- /' "$images/README"
echo
echo "| case | holkas wall | skopeo wall | ratio | holkas CPU | skopeo CPU | ratio | holkas peak | skopeo peak |"
echo "|---|---|---|---|---|---|---|---|---|"
compare big-dir '`dir:` (gzip) → overlay store, big' "dir:$images/big.dir" "${store}localhost/big:1"
compare big-oci '`oci:` (zstd) → overlay store, big' "oci:$images/big.oci:1" "${store}localhost/big:1"
compare small '`dir:` → overlay store, 80,000 small files' "dir:$images/small.dir" "${store}localhost/small:1"
compare archive '`oci-archive:` → `oci:`' "oci-archive:$images/archive.oci.tar:1" "oci:$mount_point/out:1"

# What osbuild's stage does with skopeo: copy the directory, rename the manifest, put the list in its place, store both.
cat >"$work/merge" <<'SH'
set -eu
cp -r --reflink=auto "$1/multi.dir" "$2/tmp/merged"
digest=$(skopeo manifest-digest "$2/tmp/merged/manifest.json")
mv "$2/tmp/merged/manifest.json" "$2/tmp/merged/${digest#sha256:}.manifest.json"
cp "$1/multi.json" "$2/tmp/merged/manifest.json"
skopeo --insecure-policy copy -q "dir:$2/tmp/merged" "$3localhost/multi:1"
rm -r "$2/tmp/merged"
SH
cat >"$work/merge.toml" <<EOT
[store]
path = "/store"
[[image]]
source = "dir:$images/multi.dir"
name = "localhost/multi:1"
manifest-list = "$images/multi.json"
EOT
if wanted merge; then
    ours=$(time_of fresh "$HOLKAS" embed --progress none "$work/merge.toml" --root "$mount_point")
    theirs=$(time_of fresh sh "$work/merge" "$images" "$mount_point" "$store")
    row "osbuild's merge-and-store" "$ours" "$theirs"
fi
if wanted digest; then
    # $1 is the shell's own inside the loop.
    # shellcheck disable=SC2016
    loop='i=0; while [ $i -lt 100 ]; do "$@" >/dev/null; i=$((i + 1)); done'
    ours=$(time_of true sh -c "$loop" sh "$HOLKAS" manifest-digest "$images/big.dir/manifest.json")
    theirs=$(time_of true sh -c "$loop" sh skopeo manifest-digest "$images/big.dir/manifest.json")
    row '`manifest-digest`, 100 processes' "$ours" "$theirs"
fi

# Registries: Debian's own, on the loopback, with its blobs in memory.
registries=()
stop_registries() {
    [ "${#registries[@]}" = 0 ] || kill "${registries[@]}" 2>/dev/null || true
    registries=()
}
start_registry() { # NAME PORT
    mkdir -p "$work/$1"
    cat >"$work/$1.yml" <<YML
version: 0.1
storage: {filesystem: {rootdirectory: $work/$1}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$2"}
log: {level: error, accesslog: {disabled: true}}
YML
    docker-registry serve "$work/$1.yml" >/dev/null 2>&1 &
    registries+=("$!")
    for ((i = 0; i < 100; i++)); do
        ! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null || return 0
        sleep 0.1
    done
    echo "error: docker-registry does not answer on port $2" >&2
    return 1
}
needs_registry() {
    local case
    for case in registry sync inspect proxy osbuild-fetch osbuild-source; do ! wanted "$case" || return 0; done
    return 1
}
if needs_registry; then
    [ -x /usr/bin/docker-registry ] || { echo "error: docker-registry is needed (apt-get install docker-registry)" >&2; exit 1; }
    trap 'stop_registries; clean; rm -rf "$work"' EXIT
    from=127.0.0.1:$((20000 + RANDOM % 10000))
    to=127.0.0.1:$((30000 + RANDOM % 10000))
    start_registry from "${from#*:}"
    start_registry to "${to#*:}"
    push() { "$HOLKAS" --insecure-policy copy -q --no-cache --dest-tls-verify=false "$1" "docker://$from/$2"; }
fi
if wanted registry; then
    push "dir:$images/big.dir" big:1
    fetch() { # TITLE DESTINATION OPTIONS…
        local ours theirs title=$1 destination=$2
        shift 2
        ours=$(time_of fresh "$HOLKAS" --insecure-policy copy -q "$@" --src-tls-verify=false "docker://$from/big:1" "$destination")
        theirs=$(time_of fresh skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$from/big:1" "$destination")
        row "$title" "$ours" "$theirs"
    }
    fetch 'registry → `dir:`, big, `--no-cache`' "dir:$mount_point/out" --no-cache
    fetch 'registry → `dir:`, big, filling the cache' "dir:$mount_point/out" --cache "$mount_point/cache"
    fetch 'registry → overlay store, big, `--no-cache`' "${store}localhost/big:1" --no-cache
fi
if wanted inspect; then
    push "dir:$images/multi.dir" multi:1
    # shellcheck disable=SC2016
    loop='i=0; while [ $i -lt 50 ]; do "$@" >/dev/null; i=$((i + 1)); done'
    inspect="inspect --no-tags --tls-verify=false docker://$from/multi:1"
    # shellcheck disable=SC2086
    ours=$(time_of true sh -c "$loop" sh "$HOLKAS" $inspect)
    # shellcheck disable=SC2086
    theirs=$(time_of true sh -c "$loop" sh skopeo $inspect)
    row '`inspect --no-tags`, 50 processes' "$ours" "$theirs"
fi
if wanted proxy; then
    # The image proxy's reference client takes all layers, one after the other, as bootc and ostree do.
    cargo build --locked --release --manifest-path proxy-client/Cargo.toml --target-dir proxy-client/target >&2
    client=proxy-client/target/release/holkas-proxy-client
    mkdir "$work/ours"
    ln -s "$HOLKAS" "$work/ours/skopeo"
    push "dir:$images/big.dir" big:1
    drain() { # TITLE REFERENCE
        local ours theirs
        ours=$(time_of true env PATH="$work/ours:$PATH" "$client" drain "$2")
        theirs=$(time_of true "$client" drain "$2")
        row "$1" "$ours" "$theirs"
    }
    drain 'image proxy, 12 layers of `dir:`, big' "dir:$images/big.dir"
    drain 'image proxy, 12 layers of a registry, big' "docker://$from/big:1"
fi
if wanted sync; then
    for ((i = 0; i < 100; i++)); do
        push "oci:$images/crowd.oci:$(printf %03d "$i")" "crowd:$(printf %03d "$i")"
    done
    sync() { # PROGRAM DESTINATION-KIND DESTINATION OPTIONS…
        local program=$1 kind=$2 destination=$3
        shift 3
        "$program" --insecure-policy sync "$@" --src-tls-verify=false --dest-tls-verify=false --src docker --dest "$kind" \
            "$from/crowd" "$destination"
    }
    export -f sync
    export from
    empty() { rm -rf "${mount_point:?}/synced" "${mount_point:?}/cache" "$work/to/docker"; mkdir "$mount_point/synced"; }
    # A hundred directories, each with the base.
    size=${SIZE:-12G}
    fresh
    cached=(--cache "$mount_point/cache" --progress none)
    both() { # TITLE PREPARE KIND DESTINATION
        local ours theirs
        ours=$(time_of "$2" bash -c 'sync "$@"' bash "$HOLKAS" "$3" "$4" "${cached[@]}")
        if [ "$2" = true ] && [ "$3" = dir ]; then
            # skopeo refuses directories that are there.
            theirs=$ours
            row "$1 (skopeo cannot: ours against ours)" "$ours" "$theirs"
            return
        fi
        if [ "$2" = true ]; then sync skopeo "$3" "$4" >/dev/null 2>&1; fi
        theirs=$(time_of "$2" bash -c 'sync "$@"' bash skopeo "$3" "$4")
        row "$1" "$ours" "$theirs"
    }
    both '`sync` of 100 images to `dir:`' empty dir "$mount_point/synced"
    both '`sync` of 100 images to another registry' empty docker "$to/copies"
    both 'the same again, unchanged, to another registry' true docker "$to/copies"
fi
if wanted osbuild-fetch || wanted osbuild-source || wanted osbuild-deploy; then
    for program in bwrap jq podman; do
        command -v "$program" >/dev/null || { echo "error: $program is needed (apt-get install bubblewrap jq podman)" >&2; exit 1; }
    done
    . bench/osbuild.sh
fi
stop_registries

if wanted crowd; then
    crowd() { # COUNT
        printf '[store]\npath = "/store"\n'
        for ((i = 0; i < $1; i++)); do
            printf '[[image]]\nsource = "oci:%s/crowd.oci:%03d"\nname = "localhost/crowd:%03d"\n' "$images" "$i" "$i"
        done
    }
    crowd 1 >"$work/crowd-1.toml"
    crowd 10 >"$work/crowd-10.toml"
    crowd 500 >"$work/crowd-500.toml"
    # The shared base is written first and alone, so that what is measured is the cost of one image more.
    base() {
        fresh
        "$HOLKAS" embed --progress none "$work/crowd-1.toml" --root "$mount_point" >/dev/null
    }
    echo
    echo "| embed of many images into a store that has their base | wall | per image | CPU | peak |"
    echo "|---|---|---|---|---|"
    for count in 10 500; do
        for again in "first run" "second run"; do
            prepare=base
            if [ "$again" = "second run" ]; then prepare=true; fi
            line=$(time_of "$prepare" "$HOLKAS" embed --progress none "$work/crowd-$count.toml" --root "$mount_point")
            awk -v title="$count images, $again" -v a="$line" -v n="$count" 'BEGIN {
                split(a, h); printf "| %s | %.3f s | %.2f ms | %.2f s | %.0f MiB |\n", title, h[1], h[1] / n * 1000, h[2], h[3] / 1024 }'
        done
    done
fi
