# shellcheck shell=bash
# A real Prometheus that scrapes the cluster's pods.
#
# Invariants: it finds pods through the API server, as in production, by the customary annotations
# prometheus.io/scrape: "true", prometheus.io/port and, if not /metrics, prometheus.io/path.

prometheus_verb() {
  case ${1:-} in
    up) lock_cluster && prometheus_up ;;
    down) lock_cluster && prometheus_down ;;
    *) fail "usage: prometheus up|down" ;;
  esac
}

prometheus_up() {
  require_built prometheus
  alive apiserver || fail "the cluster $CLUSTER_NAME is not up: run '$0 up'"
  if ! alive prometheus; then
    mkdir -p "$STATE/prometheus"
    sed "s|@KUBECONFIG@|$ADMIN_KUBECONFIG|g" "$HERE/addons/prometheus.yaml" >"$STATE/prometheus/config.yaml"
    start prometheus "$(component_dir prometheus)/prometheus" --config.file="$STATE/prometheus/config.yaml" \
      --storage.tsdb.path="$STATE/prometheus/data" --web.listen-address="$PROMETHEUS_ADDRESS"
    wait_for 30 Prometheus prometheus in_ns curl -sf "http://$PROMETHEUS_ADDRESS/-/ready"
  fi
  say "Prometheus is up at http://$PROMETHEUS_ADDRESS"
}

prometheus_down() {
  stop_components TERM prometheus
  rm -rf "$STATE/prometheus"
}
