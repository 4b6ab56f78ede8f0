# shellcheck shell=bash
# etcd, kube-apiserver, kube-controller-manager and kube-scheduler.
#
# Invariants:
# - One of each, so no leader elections. etcd does not sync to disk: the cluster is thrown away anyway.
# - The API server ends before etcd does; otherwise it waits long for a store that has gone.

CONTROL_PLANE="scheduler controller-manager apiserver etcd"

control_plane_up() {
  local bin pki=$STATE/pki
  bin=$(component_dir kubernetes)
  mkdir -p "$STATE/etcd"
  chmod 700 "$STATE/etcd"
  start etcd "$(component_dir etcd)/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
  start apiserver "$bin/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$NODE_IP" \
    --service-cluster-ip-range="$SERVICE_CIDR" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --cert-dir="$pki" \
    --client-ca-file="$pki/ca.crt" \
    --service-account-issuer="https://kubernetes.default.svc.$CLUSTER_DOMAIN" \
    --service-account-signing-key-file="$pki/service-account.key" \
    --service-account-key-file="$pki/service-account.pub" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --anonymous-auth=false \
    --kubelet-preferred-address-types=InternalIP \
    --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
    --allow-privileged=true --profiling=false
  wait_for 90 "the API server" "etcd apiserver" api_ready
  start controller-manager "$bin/kube-controller-manager" \
    --kubeconfig="$STATE/kubeconfig/controller-manager" --leader-elect=false \
    --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/service-account.key" \
    --use-service-account-credentials=true \
    --allocate-node-cidrs=true --cluster-cidr="$POD_CIDR" --service-cluster-ip-range="$SERVICE_CIDR" \
    --kube-api-qps=200 --kube-api-burst=400 \
    --flex-volume-plugin-dir="$STATE/volume-plugins" --profiling=false
  start scheduler "$bin/kube-scheduler" --kubeconfig="$STATE/kubeconfig/scheduler" --leader-elect=false \
    --profiling=false
}

api_ready() { kubectl --request-timeout=3s get --raw /readyz; }

api_server_verb() {
  local pid
  pid=$(pid_of apiserver) || fail "the API server doesn't run"
  case ${1:-} in
    pause) kill -STOP "$pid" ;;
    resume) kill -CONT "$pid" ;;
    *) fail "usage: api-server pause|resume" ;;
  esac
}

control_plane_down() {
  local name pid
  # One that is paused would hear of no end.
  if pid=$(pid_of apiserver); then kill -CONT "$pid"; fi
  # In this order, each before the next.
  for name in $CONTROL_PLANE; do stop_components TERM "$name"; done
}
