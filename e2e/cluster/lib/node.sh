# shellcheck shell=bash
# The node: containerd, kubelet, kube-proxy, the CNI configuration.
#
# Invariants:
# - The node uses nothing of a containerd that the machine may run: own root, state, socket, CNI state, runc root.
# - All pods are in the cgroup /$CLUSTER_NAME of every hierarchy, so taking the node down finds each of their processes,
#   however far `up` came. cgroup v1 and v2 both work (driver cgroupfs).
# - Kernel settings that kubelet changes for the whole machine are put back.

NODE="kubelet proxy containerd"
KUBELET_SYSCTLS="vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
  kernel.keys.root_maxbytes"

containerd_up() {
  mkdir -p "$STATE"/{cni,cni-ipam,containerd}
  node_config cni.conflist >"$STATE/cni/10-$CLUSTER_NAME.conflist"
  node_config containerd.toml >"$STATE/containerd/config.toml"
  start containerd containerd --config "$STATE/containerd/config.toml"
  wait_for 30 containerd containerd node_ctr version
  load_image "$(component_dir pause)/image.oci.tar" >/dev/null
  load_image "$(component_dir coredns-image)/image.oci.tar" >/dev/null
}

kubelet_up() {
  local bin directory
  bin=$(component_dir kubernetes)
  mkdir -p "$STATE"/{kubelet,pod-logs,volume-plugins}
  [ -e /var/lib/kubelet ] || touch "$STATE/made-var-lib-kubelet"
  # shellcheck disable=SC2086
  sysctl $KUBELET_SYSCTLS >"$STATE/sysctls" 2>/dev/null || true
  [ ! -f /sys/fs/cgroup/cgroup.controllers ] || enable_cgroup2_controllers
  while read -r directory; do mkdir -p "$directory"; done < <(node_cgroups)
  node_config kubelet.yaml >"$STATE/kubelet/config.yaml"
  node_config proxy.yaml >"$STATE/kubelet/proxy.yaml"
  start kubelet "$bin/kubelet" --config "$STATE/kubelet/config.yaml" --kubeconfig "$STATE/kubeconfig/kubelet" \
    --root-dir "$STATE/kubelet" --cert-dir "$STATE/pki" --hostname-override "$NODE_NAME" --node-ip "$NODE_IP"
  start proxy "$bin/kube-proxy" --config "$STATE/kubelet/proxy.yaml"
}

# node_config FILE: a file of node/ with our names and paths in it.
node_config() {
  sed -e "s|@STATE@|$STATE|g; s|@CNI_BIN@|$CNI_BIN|g; s|@PAUSE_IMAGE@|$PAUSE_IMAGE|g; s|@NODE_NAME@|$NODE_NAME|g" \
    -e "s|@CLUSTER_NAME@|$CLUSTER_NAME|g; s|@POD_CIDR@|$POD_CIDR|g; s|@NODE_POD_CIDR@|$NODE_POD_CIDR|g" \
    -e "s|@DNS_SERVICE_IP@|$DNS_SERVICE_IP|g; s|@CLUSTER_DOMAIN@|$CLUSTER_DOMAIN|g" "$HERE/node/$1"
}

# node_cgroups: the pods' cgroup in each hierarchy, be it v1's many, v2's one, or both.
node_cgroups() { awk -v name="$CLUSTER_NAME" '$3 ~ /^cgroup2?$/ { print $2 "/" name }' /proc/mounts; }

enable_cgroup2_controllers() {
  local controller
  for controller in $(</sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
  done
}

node_ready() {
  kubectl get node "$NODE_NAME" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -qx True
}

node_down() {
  stop_components TERM kubelet proxy
  kill_pods
  stop_components TERM containerd
  if network_exists; then kill_shims; fi
  unmount_state
  remove_node_traces
}

# Kills what is in the pods' cgroups until nothing is left, then removes them from the leaves up.
kill_pods() {
  local directory attempt pids
  for attempt in $(seq 50); do
    pids=$(pod_pids)
    [ -n "$pids" ] || break
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null || true
    sleep 0.1
  done
  [ -z "$pids" ] || note "processes of pods that would not end (tried $attempt times): $pids"
  while read -r directory; do
    [ ! -d "$directory" ] || find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(node_cgroups)
}

pod_pids() {
  local directory
  while read -r directory; do
    [ ! -d "$directory" ] || find "$directory" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done < <(node_cgroups) | sort -u | xargs
}

# A shim outlives containerd by design. Each is in the namespace and is told our socket.
kill_shims() {
  local pid
  for pid in $(ip netns pids "$CLUSTER_NAME" 2>/dev/null); do
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "containerd-shim.* $STATE/run/containerd.sock"; then
      kill -9 "$pid" 2>/dev/null || true
    fi
  done
}

unmount_state() {
  local attempt mounts
  for attempt in 1 2 3; do
    mounts=$(awk -v below="$STATE/" 'index($2, below) == 1 { print $2 }' /proc/mounts | LC_ALL=C sort -r)
    [ -n "$mounts" ] || return 0
    echo "$mounts" | xargs -r -d '\n' umount --lazy 2>/dev/null || true
  done
  note "still mounted after $attempt tries: $mounts"
}

# What containerd, its shims, the CNI library and kubelet leave at places that can't be configured.
remove_node_traces() {
  local file setting value
  find "$STATE/containerd/state" -name address -exec cat {} + 2>/dev/null | grep -o '/run/containerd/s/[0-9a-f]*' |
    xargs -r rm -f || true
  for file in "/var/lib/cni/results/$CLUSTER_NAME-"*-eth0; do
    value=${file##*/"$CLUSTER_NAME"-}
    rm -f "$file" "/var/lib/cni/results/cni-loopback-${value%-eth0}-lo"
  done
  for file in /var/log/containers/*.log; do
    if [[ $(readlink "$file") == "$STATE/"* ]]; then rm -f "$file"; fi
  done
  # kubelet's socket for device plugins has a fixed place.
  [ ! -e "$STATE/made-var-lib-kubelet" ] || rm -rf /var/lib/kubelet
  rmdir /var/lib/cni/results /var/lib/cni /run/containerd/s /run/containerd /var/log/containers 2>/dev/null || true
  [ ! -f "$STATE/sysctls" ] || while IFS=' = ' read -r setting value; do
    sysctl -qw "$setting=$value" 2>/dev/null || true
  done <"$STATE/sysctls"
}
