# shellcheck shell=bash
# Names, addresses and folders, and how a process of the cluster is started, watched and ended.
#
# Invariants:
# - Every process runs in the cluster's network namespace, detached from the terminal, with a record in
#   $STATE/run/NAME.pid (pid and start time, so that a recycled pid is never taken for ours) and a log in
#   $STATE/log/NAME.log.
# - Everything written at run time is below $STATE; everything built is below $CACHE.

CLUSTER_NAME=${CLUSTER_NAME:-thalweg}
CACHE=${THALWEG_CACHE:-$HOME/.cache/thalweg}
STATE=${THALWEG_STATE:-/var/tmp/thalweg-cluster/$CLUSTER_NAME}
CNI_BIN=${CNI_BIN:-/usr/lib/cni}

NODE_NAME=$CLUSTER_NAME-node
NODE_IP=192.168.77.2
NODE_GATEWAY=192.168.77.1
POD_CIDR=10.244.0.0/16
NODE_POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_SERVICE_IP=10.96.0.10
CLUSTER_DOMAIN=cluster.local

API_URL=https://$NODE_IP:6443
KAFKA_ADDRESS=$NODE_IP:9092
S3_ADDRESS=$NODE_IP:7070
PROMETHEUS_ADDRESS=$NODE_IP:9090

ADMIN_KUBECONFIG=$STATE/kubeconfig/admin
LOG_LINES_ON_FAILURE=20

say() { printf '%s\n' "$*"; }
note() { printf 'cluster: %s\n' "$*" >&2; }
fail() {
  note "$*"
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || fail "this needs root: namespaces, mounts and cgroups are made"; }

# in_ns CMD...: runs CMD in the cluster's network namespace. Not with 'ip netns exec', which remounts /sys and so hides
# the cgroup mounts.
in_ns() { nsenter --net="/var/run/netns/$CLUSTER_NAME" "$@"; }

start_time_of() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "$1" != Z ] || return 1
  echo "${20}"
}

# start NAME CMD...: starts CMD in the background as component NAME.
start() {
  local name=$1 pid
  shift
  mkdir -p "$STATE/run" "$STATE/log"
  # 9 is the lock of build and up: it must not outlive us in a daemon.
  setsid nsenter --net="/var/run/netns/$CLUSTER_NAME" "$@" </dev/null >"$STATE/log/$name.log" 2>&1 9>&- &
  pid=$!
  echo "$pid $(start_time_of "$pid" || echo 0)" >"$STATE/run/$name.pid"
  disown "$pid"
}

# pid_of NAME: prints the pid of component NAME if it is alive.
pid_of() {
  local pid started
  [ -f "$STATE/run/$1.pid" ] || return 1
  read -r pid started <"$STATE/run/$1.pid" || return 1
  [ "$(start_time_of "$pid")" = "$started" ] || return 1
  echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# stop_components SIGNAL NAME...: signals them all at once, waits till they are gone, and kills what stays for 10 s. A
# process that is still shutting down keeps its port, so the wait is part of stopping.
stop_components() {
  local signal=$1 name pid attempt
  shift
  for name in "$@"; do
    if pid=$(pid_of "$name"); then kill -s "$signal" "$pid" 2>/dev/null || true; fi
  done
  for name in "$@"; do
    for attempt in $(seq 100); do
      alive "$name" || break
      sleep 0.1
    done
    if pid=$(pid_of "$name"); then
      note "$name did not stop within $((attempt / 10)) s: killed"
      kill -9 "$pid" 2>/dev/null || true
    fi
    rm -f "$STATE/run/$name.pid"
  done
}

show_log() {
  [ -f "$STATE/log/$1.log" ] || return 0
  note "the last $LOG_LINES_ON_FAILURE lines of $STATE/log/$1.log:"
  tail -n "$LOG_LINES_ON_FAILURE" "$STATE/log/$1.log" >&2
}

# wait_for SECONDS WHAT "COMPONENT..." CMD...: polls until CMD succeeds. Fails, with the log, as soon as one of the
# components has died; when time is up, with the log of the last component.
wait_for() {
  local seconds=$(($1 * ${SLOWNESS:-1})) what=$2 components=$3 name deadline
  shift 3
  deadline=$(($(date +%s) + seconds))
  until "$@" >/dev/null 2>&1; do
    for name in $components; do
      if ! alive "$name"; then
        show_log "$name"
        fail "$name died while waiting for $what"
      fi
    done
    if [ "$(date +%s)" -ge "$deadline" ]; then
      show_log "${components##* }"
      fail "$what: not within $seconds s"
    fi
    sleep 0.2
  done
}

kubectl() { in_ns "$(component_dir kubernetes)/kubectl" --kubeconfig "$ADMIN_KUBECONFIG" "$@"; }

# The lock keeps two calls from building, starting or stopping the same thing at once; it ends with this process.
lock() {
  mkdir -p "$(dirname "$1")"
  exec 9>"$1"
  flock -n 9 || { note "waiting for another call that holds $1" && flock 9; }
}
