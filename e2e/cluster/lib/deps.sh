# shellcheck shell=bash
# Debian packages that the build and the cluster need beyond a bare Debian 12.
#
# Invariants: nothing is asked of the network, and no time is lost, when all of them are there.

DEBIAN_PACKAGES="
  buildah ca-certificates conntrack containerd containernetworking-plugins curl iproute2 iptables nftables openssl
  procps runc skopeo socat util-linux
  binutils clang cmake gcc libc6-dev libclang-dev libcurl4-openssl-dev libsasl2-dev libssl-dev lld make maven mold perl-doc pkg-config
  protobuf-compiler python3"

missing_packages() {
  local present package
  # shellcheck disable=SC2086
  present=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' $DEBIAN_PACKAGES 2>/dev/null || true)"
  for package in $DEBIAN_PACKAGES; do
    [[ $present == *" installed:$package "* ]] || echo "$package"
  done
  # Any Java of 17 or newer does; a machine may have one that is not Debian's.
  command -v java >/dev/null || echo openjdk-17-jre-headless
}

install_deps() {
  local missing
  missing=$(missing_packages)
  if [ -z "$missing" ]; then
    say "all Debian packages are installed"
    return
  fi
  need_root
  note "installing: ${missing//$'\n'/ }"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >&2
  # shellcheck disable=SC2086
  apt-get install -q -y --no-install-recommends $missing >&2
}
