# What osbuild does with containers, by its stock chain of calls and by holkas as its modules; sourced by run.sh.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # backquotes in titles are Markdown; the variables are run.sh's

# osbuild's side of it: starts a module and speaks its protocol.
mkdir -p "$work/lib/sources" "$work/lib/stages"
ln -sf "$HOLKAS" "$work/lib/sources/org.osbuild.skopeo"
ln -sf "$HOLKAS" "$work/lib/sources/org.osbuild.skopeo-index"
for module in org.osbuild.skopeo org.osbuild.container-deploy; do
    ln -sf "$HOLKAS" "$work/lib/stages/$module"
done
sources() { # CACHE MODULE ITEMS [MODULE ITEMS]…
    python3 bench/osbuild_host.py "$@"
}
# bubblewrap does not pass on what its child has used, so that the stage is measured within.
stage_call() { # NAME ARGUMENTS
    bwrap --bind / / --dev-bind /dev /dev --tmpfs /run/osbuild --ro-bind "$2" /run/osbuild/api/arguments \
        --unshare-net --unshare-pid --cap-add ALL \
        /usr/bin/time -f '%U %S %M' -o "$work/stage-time" "$work/lib/stages/$1"
}
stages=()
note_stage() { # TITLE
    stages+=("- $1: $(awk '{ printf "%.2f s CPU, peak %.0f MiB", $1 + $2, $3 / 1024 }' "$work/stage-time")")
}
export -f sources stage_call
export work images mount_point HOLKAS

# fetch, merge and store of one image of a list.
cat >"$work/stock-fetch" <<'SH'
set -eu
cache=$mount_point/sources
mkdir -p "$cache/org.osbuild.containers/tmp" "$cache/org.osbuild.files" "$mount_point/tree"
skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$from/pair@$instance" "dir:$cache/org.osbuild.containers/tmp/image"
id=$(skopeo inspect --raw --config "dir:$cache/org.osbuild.containers/tmp/image" | sha256sum | cut -d' ' -f1)
mv "$cache/org.osbuild.containers/tmp" "$cache/org.osbuild.containers/sha256:$id"
skopeo --insecure-policy copy -q --multi-arch=index-only --src-tls-verify=false "docker://$from/pair@$list" "dir:$cache/list"
skopeo inspect --raw "dir:$cache/list" >/dev/null
skopeo manifest-digest "$cache/list/manifest.json" >/dev/null
mv "$cache/list/manifest.json" "$cache/org.osbuild.files/$list"
image=$cache/org.osbuild.containers/sha256:$id/image
skopeo manifest-digest "$image/manifest.json" >/dev/null
cp -a --reflink=auto "$image" "$mount_point/tmp/image"
digest=$(skopeo manifest-digest "$mount_point/tmp/image/manifest.json")
mv "$mount_point/tmp/image/manifest.json" "$mount_point/tmp/image/${digest#sha256:}.manifest.json"
cp "$cache/org.osbuild.files/$list" "$mount_point/tmp/image/manifest.json"
skopeo --insecure-policy copy -q "dir:$mount_point/tmp/image" \
    "containers-storage:[overlay@$mount_point/tree/store+$mount_point/run]localhost/pair:1"
rm -rf "$mount_point/tmp/image"
SH
cat >"$work/our-fetch" <<'SH'
set -eu
mkdir -p "$mount_point/sources" "$mount_point/tree" "$mount_point/inputs"
sources "$mount_point/sources" "$work/lib/sources/org.osbuild.skopeo" "$work/items.json" \
    "$work/lib/sources/org.osbuild.skopeo-index" "$work/lists.json"
# The input's part, which mounts.
ln -s "$mount_point/sources/org.osbuild.containers/$id/image" "$mount_point/inputs/$id"
stage_call org.osbuild.skopeo "$work/store.json"
SH
if wanted osbuild-fetch; then
    "$HOLKAS" --insecure-policy copy -q --all --no-cache --dest-tls-verify=false "dir:$images/pair.dir" "docker://$from/pair:1"
    resolved=$("$HOLKAS" resolve --no-cache --tls-verify=false --arch amd64 "$from/pair:1")
    list=$(jq -r '.[0].ListDigest' <<<"$resolved")
    instance=$(jq -r '.[0].Digest' <<<"$resolved")
    id=$(jq -r '.[0].ImageID' <<<"$resolved")
    export from list instance id
    cat >"$work/items.json" <<JSON
{"$id": {"image": {"name": "$from/pair", "digest": "$instance", "tls-verify": false}}}
JSON
    cat >"$work/lists.json" <<JSON
{"$list": {"image": {"name": "$from/pair", "tls-verify": false}}}
JSON
    cat >"$work/store.json" <<JSON
{"tree": "$mount_point/tree", "paths": {"inputs": "$mount_point/sources"}, "meta": {"id": "bench", "source-epoch": 0},
 "inputs": {
  "images": {"path": "$mount_point/inputs", "data": {"archives": {"$id": {"format": "dir", "name": "localhost/pair:1"}}}},
  "manifest-lists": {"path": "$mount_point/sources/org.osbuild.files", "data": {"files": {"$list": {}}}}},
 "options": {"destination": {"type": "containers-storage", "storage-path": "/store", "storage-driver": "overlay"}}}
JSON
    ours=$(time_of fresh bash "$work/our-fetch")
    theirs=$(time_of fresh bash "$work/stock-fetch")
    row "osbuild: fetch, merge and store of a multi-arch image" "$ours" "$theirs"
    note_stage "the stage org.osbuild.skopeo"
fi

# One source with twenty images that share a base.
cat >"$work/stock-twenty" <<'SH'
set -eu
mkdir -p "$mount_point/sources"
while read -r id digest; do
    mkdir "$mount_point/sources/tmp"
    skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$from/crowd@$digest" "dir:$mount_point/sources/tmp/image"
    skopeo inspect --raw --config "dir:$mount_point/sources/tmp/image" | sha256sum >/dev/null
    mv "$mount_point/sources/tmp" "$mount_point/sources/$id"
done <"$work/twenty.txt"
SH
if wanted osbuild-source; then
    names=()
    for ((i = 0; i < 20; i++)); do
        tag=$(printf %03d "$i")
        "$HOLKAS" --insecure-policy copy -q --no-cache --dest-tls-verify=false "oci:$images/crowd.oci:$tag" "docker://$from/crowd:$tag"
        names+=("$from/crowd:$tag")
    done
    resolved=$("$HOLKAS" resolve --no-cache --tls-verify=false "${names[@]}")
    jq -r '.[] | "\(.ImageID) \(.Digest)"' <<<"$resolved" >"$work/twenty.txt"
    jq 'map({key: .ImageID, value: {image: {name: .Source, digest: .Digest, "tls-verify": false}}}) | from_entries' \
        <<<"$resolved" >"$work/twenty.json"
    export from
    ours=$(time_of fresh bash -c 'mkdir -p "$mount_point/sources"; sources "$mount_point/sources" "$work/lib/sources/org.osbuild.skopeo" "$work/twenty.json"')
    theirs=$(time_of fresh bash "$work/stock-twenty")
    row "osbuild: a source of 20 images that share their base" "$ours" "$theirs"
fi

# The flattened tree of an image.
cat >"$work/stock-deploy" <<'SH'
set -eu
mkdir -p "$mount_point/tree"
skopeo --insecure-policy copy -q "dir:$images/big.dir" "containers-storage:[overlay@$mount_point/store+$mount_point/run]localhost/deploy:1"
podman="podman --root $mount_point/store --runroot $mount_point/run"
mounted=$($podman image mount localhost/deploy:1)
cp -a "$mounted/." "$mount_point/tree/"
$podman image umount localhost/deploy:1 >/dev/null
$podman rmi localhost/deploy:1 >/dev/null
SH
if wanted osbuild-deploy; then
    cat >"$work/deploy.json" <<JSON
{"tree": "$mount_point/tree", "paths": {"inputs": "$images"}, "meta": {"id": "bench", "source-epoch": 0},
 "inputs": {"images": {"path": "$images", "data": {"archives": {"big.dir": {"format": "dir", "name": "localhost/deploy:1"}}}}},
 "options": {}}
JSON
    size=${SIZE:-8G}
    ours=$(time_of fresh bash -c 'mkdir -p "$mount_point/tree"; stage_call org.osbuild.container-deploy "$work/deploy.json"')
    theirs=$(time_of fresh bash "$work/stock-deploy")
    row "osbuild: container-deploy of the big image" "$ours" "$theirs"
    note_stage "the stage org.osbuild.container-deploy"
fi
[ "${#stages[@]}" = 0 ] || printf '%s\n' "" "In the sandbox:" "" "${stages[@]}"
