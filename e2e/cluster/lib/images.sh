# shellcheck shell=bash
# Images: built without a daemon, carried as OCI archives, imported into the node's containerd.
#
# Invariants:
# - An image's name is what a manifest must say: a name without a registry part becomes localhost/NAME, as buildah has
#   it. Nothing is ever pulled: manifests say imagePullPolicy IfNotPresent or Never.
# - buildah keeps its layers below $CACHE, so one Dockerfile may start FROM an image that another one made.

PAUSE_IMAGE=localhost/thalweg-e2e/pause:1
COREDNS_IMAGE=localhost/thalweg-e2e/coredns:1

local_buildah() {
  buildah --storage-driver vfs --root "$CACHE/buildah/root" --runroot "$CACHE/buildah/run" "$@"
}

# image_name NAME: adds localhost/ where the first part of NAME is no registry.
image_name() {
  local first=${1%%/*}
  if [ "$first" != "$1" ] && [[ $first == localhost || $first == *[.:]* ]]; then echo "$1"; else echo "localhost/$1"; fi
}

# build_image NAME TAG CONTEXT_DIR DOCKERFILE OUT_ARCHIVE: the same content gives the same image (timestamps are zero).
build_image() {
  local name log
  name=$(image_name "$1"):$2
  mkdir -p "$CACHE/buildah" "$(dirname "$5")"
  log=$(mktemp)
  if ! {
    local_buildah bud --isolation chroot --pull=never --timestamp 0 -t "$name" -f "$4" "$3" &&
      # containerd unpacks a plain layer several times faster than a compressed one.
      rm -f "$5" && local_buildah push --disable-compression "$name" "oci-archive:$5:$name"
  } >"$log" 2>&1; then
    tail -n "$LOG_LINES_ON_FAILURE" "$log" >&2
    rm -f "$log"
    fail "building $name failed"
  fi
  rm -f "$log"
  local_buildah rmi --prune --force >/dev/null 2>&1 || true
  note "$5 holds $name"
}

# load_image ARCHIVE: into containerd, where kubelet finds it.
load_image() {
  [ -f "$1" ] || fail "there is no file $1"
  alive containerd || fail "containerd does not run: run '$0 up'"
  node_ctr images import "$1" | sed -n 's/^unpacking \([^ ]*\).*/loaded \1/p'
}

node_ctr() { ctr --address "$STATE/run/containerd.sock" --namespace k8s.io "$@"; }
