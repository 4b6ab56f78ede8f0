# shellcheck shell=bash
# The cache of built things: Go components, Kafka's jars, and the images that the cluster itself needs.
#
# Invariants:
# - A component lives in $CACHE/cluster/NAME-KEY, KEY being a hash of the files that decide its content (go.mod, go.sum,
#   build.env, sources). A matching folder is reused, a changed lock file makes a new one, an old one may be deleted.
# - A folder appears by one rename, when it is complete.
# - Builds run one after the other at low priority; go.mod and go.sum are never changed by a build.

GO_COMPONENTS="kubernetes etcd coredns helm versitygw prometheus"

key_of() { (cd "$1" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16); }

# component_dir NAME: where the component is or will be. The keys are taken once: this is asked for at every step.
declare -A COMPONENT_DIRS=()
component_dirs() {
  local name
  for name in $GO_COMPONENTS; do COMPONENT_DIRS[$name]=$CACHE/cluster/$name-$(key_of "$HERE/go/$name"); done
  COMPONENT_DIRS[kafka]=$CACHE/cluster/kafka-$(key_of "$HERE/kafka")
  COMPONENT_DIRS[pause]=$CACHE/cluster/pause-$(key_of "$HERE/images/pause")
  COMPONENT_DIRS[coredns-image]=${COMPONENT_DIRS[coredns]/coredns-/coredns-image-}-$(key_of "$HERE/images/coredns")
}
component_dir() { echo "${COMPONENT_DIRS[$1]}"; }

# commands_path: PATH with the commands that a person or a test calls.
commands_path() { echo "$(component_dir kubernetes):$(component_dir helm):$(component_dir etcd):$PATH"; }

require_built() {
  local name
  for name in "$@"; do
    [ -d "$(component_dir "$name")" ] || fail "$name is not built: run '$0 build'"
  done
}

build_all() {
  local name
  lock "$CACHE/cluster/.lock"
  for name in $GO_COMPONENTS; do build_once "$name" build_go "$name"; done
  build_once kafka fetch_kafka
  build_once pause build_pause_image
  build_once coredns-image build_coredns_image
  say "everything is built below $CACHE/cluster"
}

# build_once NAME CMD...: runs CMD with the folder to fill as its last argument, unless the component is there.
build_once() {
  local name=$1 dir started=$SECONDS
  shift
  dir=$(component_dir "$name")
  [ ! -d "$dir" ] || return 0
  note "building $name ..."
  rm -rf "$dir.part"
  mkdir -p "$dir.part"
  "$@" "$dir.part"
  mv "$dir.part" "$dir"
  note "built $name in $((SECONDS - started)) s"
}

# build_go NAME OUT: builds a folder of go/ as its build.env says (packages: default the module's tools; output: the
# program's name where Go's own choice does not fit; tags; ldflags).
build_go() (
  local packages=tool output='' tags='' ldflags=''
  command -v go >/dev/null || fail "go is missing: a Go toolchain of 1.26 or newer is needed"
  cd "$HERE/go/$1" || exit
  # shellcheck source=/dev/null
  [ ! -f build.env ] || . ./build.env
  CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 5 go build -trimpath -buildvcs=false -tags "$tags" \
    -ldflags "-s -w $ldflags" -o "$2/$output" "$packages"
)

fetch_kafka() {
  command -v mvn >/dev/null || fail "mvn is missing: run '$0 deps'"
  nice -n 5 mvn -q -B -Dstyle.color=never -f "$HERE/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$1" >&2
}

build_pause_image() {
  cc -static -Os -s -Wall -Wextra -o "$1/pause" "$HERE/images/pause/pause.c"
  build_image localhost/thalweg-e2e/pause 1 "$1" "$HERE/images/pause/Dockerfile" "$1/image.oci.tar"
}

build_coredns_image() {
  build_image localhost/thalweg-e2e/coredns 1 "$(component_dir coredns)" "$HERE/images/coredns/Dockerfile" \
    "$1/image.oci.tar"
}
