# shellcheck shell=bash
# One certificate authority, one identity a component, and the kubeconfig files made of them.
#
# Invariants: each component has the identity and the rights that it has in any cluster (Node and RBAC authorisation);
# only the admin kubeconfig, which the tests use, is in system:masters. Keys last one run of the cluster.

CERTIFICATE_DAYS=30

pki_init() {
  mkdir -p "$STATE/pki" "$STATE/kubeconfig"
  chmod 700 "$STATE/pki" "$STATE/kubeconfig"
  # Without OpenSSL's default configuration, which would make every certificate an authority.
  printf '[req]\ndistinguished_name=dn\n[dn]\n' >"$STATE/pki/openssl.cnf"
  certificate ca "/CN=thalweg-e2e" -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature -addext subjectKeyIdentifier=hash
  openssl ecparam -name prime256v1 -genkey -noout -out "$STATE/pki/service-account.key"
  openssl ec -in "$STATE/pki/service-account.key" -pubout -out "$STATE/pki/service-account.pub" 2>/dev/null
  server_certificate apiserver "/CN=kube-apiserver" "IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP,DNS:localhost,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$CLUSTER_DOMAIN"
  server_certificate kubelet-server "/O=system:nodes/CN=system:node:$NODE_NAME" "IP:$NODE_IP,DNS:$NODE_NAME"
  client_certificate apiserver-kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client"
  kubeconfig admin "/O=system:masters/CN=admin"
  kubeconfig controller-manager "/CN=system:kube-controller-manager"
  kubeconfig scheduler "/CN=system:kube-scheduler"
  kubeconfig kubelet "/O=system:nodes/CN=system:node:$NODE_NAME"
  kubeconfig proxy "/CN=system:kube-proxy"
}

# certificate NAME SUBJECT [ARGS]: a key and a certificate, self-signed unless ARGS name an authority.
certificate() {
  local name=$1 subject=$2
  shift 2
  openssl req -x509 -config "$STATE/pki/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -days "$CERTIFICATE_DAYS" -subj "$subject" -keyout "$STATE/pki/$name.key" -out "$STATE/pki/$name.crt" "$@" \
    2>"$STATE/log/openssl.log" || {
    show_log openssl
    fail "making the certificate $name failed"
  }
}

signed_certificate() {
  certificate "$@" -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key" -addext basicConstraints=critical,CA:FALSE
}
server_certificate() {
  signed_certificate "$1" "$2" -addext "subjectAltName=$3" -addext extendedKeyUsage=serverAuth
}
client_certificate() { signed_certificate "$1" "$2" -addext extendedKeyUsage=clientAuth; }

# kubeconfig NAME SUBJECT: self-contained, so that it can be copied.
kubeconfig() {
  client_certificate "$1" "$2"
  cat >"$STATE/kubeconfig/$1" <<YAML
apiVersion: v1
kind: Config
current-context: $CLUSTER_NAME
contexts: [{name: $CLUSTER_NAME, context: {cluster: $CLUSTER_NAME, user: $1}}]
clusters:
  - name: $CLUSTER_NAME
    cluster:
      server: $API_URL
      certificate-authority-data: $(base64 -w0 "$STATE/pki/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$STATE/pki/$1.crt")
      client-key-data: $(base64 -w0 "$STATE/pki/$1.key")
YAML
}
