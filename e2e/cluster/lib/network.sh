# shellcheck shell=bash
# The network namespace that the whole cluster lives in.
#
# Invariants:
# - There is no way out and no way in: the node's address sits on a veth pair whose both ends are inside. The default
#   route over it leads nowhere; the API server and kube-proxy want one to exist.
# - All links, routes, nftables and iptables rules of the cluster are in the namespace and vanish with it.
# - Pods hang on routed veth pairs (the ptp plugin), not on a bridge: so a pod's traffic to a Service always passes the
#   node's nftables rules, whether or not the kernel has br_netfilter.

network_exists() { [ -e "/var/run/netns/$CLUSTER_NAME" ] && in_ns true 2>/dev/null; }

network_up() {
  if network_exists; then return; fi
  # The first namespace of a machine makes /run/netns a mount of its own; remember whether that was us.
  mkdir -p "$STATE"
  mountpoint -q /run/netns || touch "$STATE/made-netns-mount"
  ip netns add "$CLUSTER_NAME"
  in_ns ip link set lo up
  in_ns ip link add node0 type veth peer name node1
  in_ns ip address add "$NODE_IP/24" dev node0
  in_ns ip link set node1 up
  in_ns ip link set node0 up
  in_ns ip route replace default via "$NODE_GATEWAY" dev node0
  in_ns sysctl -qw net.ipv4.ip_forward=1
}

network_down() {
  [ -e "/var/run/netns/$CLUSTER_NAME" ] || return 0
  kill_namespace_processes
  ip netns delete "$CLUSTER_NAME"
  if [ -e "$STATE/made-netns-mount" ] && [ -z "$(ls -A /run/netns)" ]; then
    umount /run/netns && rmdir /run/netns
  fi
}

# Whatever still runs in the namespace, shims and forgotten 'exec's alike; but not this process and its callers.
kill_namespace_processes() {
  local pid spared=" " attempt
  pid=$BASHPID
  while [ "${pid:-0}" -gt 1 ]; do
    spared+="$pid "
    pid=$(awk '$1 == "PPid:" { print $2 }' "/proc/$pid/status" 2>/dev/null)
  done
  for attempt in $(seq 50); do
    local left=0
    for pid in $(ip netns pids "$CLUSTER_NAME" 2>/dev/null); do
      [[ $spared == *" $pid "* ]] && continue
      left=1
      kill -9 "$pid" 2>/dev/null || true
    done
    [ "$left" = 1 ] || return 0
    sleep 0.1
  done
  note "processes in the namespace that would not end (tried $attempt times): $(ip netns pids "$CLUSTER_NAME" | xargs)"
}
