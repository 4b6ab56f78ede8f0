# shellcheck shell=bash
# What a cluster has beyond Kubernetes' own processes: DNS, run as pods.
#
# Invariants: service names and headless services resolve at $DNS_SERVICE_IP once `up` has returned.

addons_apply() {
  sed "s|@CLUSTER_DOMAIN@|$CLUSTER_DOMAIN|g; s|@DNS_SERVICE_IP@|$DNS_SERVICE_IP|g; s|@COREDNS_IMAGE@|$COREDNS_IMAGE|g" \
    "$HERE/addons/coredns.yaml" | kubectl apply --server-side -f - >"$STATE/log/addons.log" 2>&1 || {
    show_log addons
    fail "applying the add-ons failed"
  }
}

dns_ready() {
  kubectl -n kube-system get deployment coredns -o 'jsonpath={.status.readyReplicas}' | grep -qx 1
}

show_dns() { kubectl -n kube-system describe pods -l k8s-app=kube-dns | tail -n "$LOG_LINES_ON_FAILURE" >&2 || true; }
