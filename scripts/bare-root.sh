#!/usr/bin/env bash
# Shows that a static holkas needs nothing but the kernel: runs it in a chroot that has no libraries, no /etc, no /proc,
# no /dev, no /tmp and no HOME, as osbuild's build roots may be.
#
#     scripts/bare-root.sh BINARY
set -euo pipefail
binary=${1:?usage: scripts/bare-root.sh BINARY}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(mktemp -d "${TMPDIR:-/tmp}/holkas-bare.XXXXXX")
tidy() {
    [ -z "${registry:-}" ] || kill "$registry"
    rm -rf "$root"
}
trap tidy EXIT
cp "$binary" "$root/holkas"
cp -r "$here/samples" "$root/samples"
ln -s holkas "$root/skopeo"
mkdir "$root/os" "$root/tree"

bare() { # COMMAND…: in the chroot, without any environment
    printf '$ %s\n' "$*" >&2
    env -i /usr/sbin/chroot "$root" "$@"
}
must() { # TEXT COMMAND…: it must print this
    local text=$1 printed
    shift
    printed=$(bare "$@" 2>&1) || { printf '%s\nerror: failed in the bare root\n' "$printed" >&2; exit 1; }
    [[ $printed == *"$text"* ]] || { printf '%s\nerror: it does not say "%s"\n' "$printed" "$text" >&2; exit 1; }
}

must "holkas " /holkas --version
must "skopeo version" /skopeo --version
must "sha256:" /holkas manifest-digest /samples/images/greeter/manifest.json
must new /holkas --insecure-policy embed --progress none /samples/images.toml --root /os
must present /holkas --insecure-policy embed --progress none /samples/images.toml --root /os
bare /holkas --insecure-policy copy -q dir:/samples/images/greeter 'containers-storage:[vfs@/store+/run]localhost/greeter:1'
bare /holkas --insecure-policy copy -q 'containers-storage:[overlay@/os/usr/share/containers/storage+/run]registry.example.org/samples/greeter:3' \
    --allow-changes oci-archive:/greeter.tar
bare /skopeo --insecure-policy copy -q dir:/samples/images/greeter dir:/greeter
diff -r "$here/samples/images/greeter" "$root/greeter"
bare /holkas --insecure-policy unpack --progress none dir:/samples/images/greeter /tree
[ -n "$(ls -A "$root/tree")" ] || { echo "error: nothing was unpacked" >&2; exit 1; }

# A stage of osbuild, as it stands in the sandbox.
mkdir -p "$root/run/osbuild/bin" "$root/run/osbuild/api" "$root/run/osbuild/tree" "$root/run/osbuild/inputs/images"
cp "$root/holkas" "$root/run/osbuild/bin/org.osbuild.skopeo"
cp -r "$root/samples/images/greeter" "$root/run/osbuild/inputs/images/sha256:greeter"
mkdir -p "$root/etc/containers"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$root/etc/containers/policy.json"
cat >"$root/run/osbuild/api/arguments" <<'JSON'
{"tree": "/run/osbuild/tree", "paths": {"devices": "/dev", "inputs": "/run/osbuild/inputs", "mounts": "/run/osbuild/mounts"},
 "devices": {}, "mounts": {}, "meta": {"id": "bare"},
 "inputs": {"images": {"path": "/run/osbuild/inputs/images",
   "data": {"archives": {"sha256:greeter": {"format": "dir", "name": "localhost/greeter:1"}}}}},
 "options": {"destination": {"type": "containers-storage"}}}
JSON
bare /run/osbuild/bin/org.osbuild.skopeo
[ -s "$root/run/osbuild/tree/var/lib/containers/storage/overlay-images/images.json" ] ||
    { echo "error: the stage stored nothing" >&2; exit 1; }

# A registry, by its address and by a name that only a resolver could know.
port=$((20000 + RANDOM % 10000))
cat >"$root/registry.yml" <<YML
version: 0.1
storage: {filesystem: {rootdirectory: $root/registry}}
http: {addr: "127.0.0.1:$port"}
log: {level: error, accesslog: {disabled: true}}
YML
docker-registry serve "$root/registry.yml" >/dev/null 2>&1 &
registry=$!
for ((i = 0; i < 100; i++)); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    sleep 0.1
done
bare /holkas --insecure-policy copy -q --dest-tls-verify=false dir:/samples/images/greeter "docker://127.0.0.1:$port/greeter:1"
must '"Digest"' /holkas inspect --no-cache --tls-verify=false "docker://127.0.0.1:$port/greeter:1"
if printed=$(bare /holkas inspect --no-cache docker://registry.invalid/greeter:1 2>&1); then
    echo "error: a name without a resolver was found" >&2
    exit 1
fi
[[ $printed == *registry.invalid* ]] || { printf '%s\nerror: it does not name the host\n' "$printed" >&2; exit 1; }
echo "holkas needs nothing but the kernel"
