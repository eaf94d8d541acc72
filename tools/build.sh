#!/usr/bin/env bash
# Builds the pinned test programs once, outside the tree, and prints the directory of each version.
# Usage: tools/build.sh [etcd] [kubernetes] [kwok] [prometheus] [helm] [kubeconform] [crds] [toxiproxy]  (default: all)
# -> lines "etcd-3.6 DIR", "kubernetes-1.34 DIR", ..., "kwok-0.8 DIR", "prometheus-0.315 DIR", "helm-4.3 DIR", "helm-3.22 DIR",
#    "kubeconform-0.8 DIR", "crds-1 DIR", "toxiproxy-2.12 DIR"
set -euo pipefail
cd "$(dirname "$0")"

command -v go >/dev/null || { echo "tools/build.sh: Go is missing; install it (go.dev/dl or apt-get install golang) and run again" >&2; exit 2; }
cache="${ETCD_SYNC_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-sync/tools}"

pinned_version() { (cd "$1" && go list -m -f '{{.Version}}' "$2"); }

# Built next to its target and renamed, so that an interrupted build never leaves half a program.
# Usage: build_program MODULE_DIR PACKAGE TARGET [GO_BUILD_FLAG...]
build_program() {
  local module="$1" package="$2" target="$3"
  shift 3
  [ -x "$target" ] && return
  echo "building $(basename "$target") (once, into $(dirname "$target"))" >&2
  mkdir -p "$(dirname "$target")"
  (cd "$module" && CGO_ENABLED=0 go build -trimpath "$@" -o "$target.$$" "$package")
  mv "$target.$$" "$target"
}

# Programs already on PATH are used if all three have exactly the pinned version.
on_path_at() {
  local version="${1#v}" program
  for program in etcd etcdctl etcdutl; do
    command -v "$program" >/dev/null || return 1
  done
  etcd --version | grep -qx "etcd Version: $version" &&
    etcdctl version | grep -qx "etcdctl version: $version" &&
    etcdutl version | grep -qx "etcdutl version: $version"
}

build_etcd() {
  local line="$1" version dir program package
  version="$(pinned_version "etcd-$line" go.etcd.io/etcd/server/v3)"
  if on_path_at "$version"; then
    echo "etcd-$line $(dirname "$(command -v etcd)")"
    return
  fi
  dir="$cache/etcd-$version"
  for program in etcd:server etcdctl:etcdctl etcdutl:etcdutl; do
    package="${program#*:}" program="${program%%:*}"
    build_program "etcd-$line" "go.etcd.io/etcd/$package/v3" "$dir/$program"
  done
  echo "etcd-$line $dir"
}

# The version is stamped as a release build does it; without it a server calls itself v0.0.0-master.
build_kubernetes() {
  local line="$1" version dir program stamp=k8s.io/component-base/version
  version="$(pinned_version "kubernetes-$line" k8s.io/kubernetes)"
  dir="$cache/kubernetes-$version"
  for program in kube-apiserver kube-controller-manager kubectl; do
    build_program "kubernetes-$line" "k8s.io/kubernetes/cmd/$program" "$dir/$program" \
      -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=${line%.*} -X $stamp.gitMinor=${line#*.} -X $stamp.gitTreeState=clean"
  done
  echo "kubernetes-$line $dir"
}

build_kwok() {
  local line="$1" version dir
  version="$(pinned_version kwok sigs.k8s.io/kwok)"
  dir="$cache/kwok-$version"
  build_program kwok sigs.k8s.io/kwok/cmd/kwok "$dir/kwok" -ldflags "-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=$version"
  echo "kwok-$line $dir"
}

# Rules and their tests need no service discovery, and without it the build is much smaller. go.mod needs the tag, too:
# update it with `go get -tags remove_all_sd,tools github.com/prometheus/prometheus/cmd/promtool@VERSION`, not with tidy.
build_prometheus() {
  local line="$1" version dir
  version="$(pinned_version prometheus github.com/prometheus/prometheus)"
  dir="$cache/prometheus-$version"
  build_program prometheus github.com/prometheus/prometheus/cmd/promtool "$dir/promtool" -tags remove_all_sd \
    -ldflags "-s -w -X github.com/prometheus/common/version.Version=${version#v}"
  echo "prometheus-$line $dir"
}

build_helm() {
  local line="$1" module version dir
  module="helm.sh/helm/v${line%.*}"
  version="$(pinned_version "helm-$line" "$module")"
  dir="$cache/helm-$version"
  build_program "helm-$line" "$module/cmd/helm" "$dir/helm" -ldflags "-s -w -X $module/internal/version.version=$version"
  echo "helm-$line $dir"
}

build_kubeconform() {
  local line="$1" version dir
  version="$(pinned_version kubeconform github.com/yannh/kubeconform)"
  dir="$cache/kubeconform-$version"
  build_program kubeconform github.com/yannh/kubeconform/cmd/kubeconform "$dir/kubeconform" -ldflags "-s -w -X main.version=$version"
  echo "kubeconform-$line $dir"
}

build_toxiproxy() {
  local line="$1" version dir
  version="$(pinned_version toxiproxy github.com/Shopify/toxiproxy/v2)"
  dir="$cache/toxiproxy-$version"
  build_program toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server "$dir/toxiproxy-server" -ldflags "-s -w -X github.com/Shopify/toxiproxy/v2.Version=${version#v}"
  echo "toxiproxy-$line $dir"
}

# Nothing is built: the CRDs of other projects' kinds that the chart may render, as these projects publish them.
build_crds() {
  local prometheus cert_manager dir
  prometheus="$(cd crds && go mod download -json github.com/prometheus-operator/prometheus-operator | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')"
  cert_manager="$(cd crds && go mod download -json github.com/cert-manager/cert-manager | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')"
  dir="$cache/crds-$(basename "$prometheus")-$(basename "$cert_manager")"
  if [ ! -d "$dir" ]; then
    mkdir -p "$dir.$$"
    install -m 0644 "$prometheus"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$dir.$$"
    install -m 0644 "$cert_manager/deploy/crds/cert-manager.io_certificates.yaml" "$dir.$$"
    mv "$dir.$$" "$dir"
  fi
  echo "crds-1 $dir"
}

[ $# -gt 0 ] || set -- etcd kubernetes kwok prometheus helm kubeconform crds toxiproxy
for family in "$@"; do
  case "$family" in
    etcd) build_etcd 3.6; build_etcd 3.5 ;;
    kubernetes) build_kubernetes 1.34; build_kubernetes 1.36 ;;
    kwok) build_kwok 0.8 ;;
    prometheus) build_prometheus 0.315 ;;
    helm) build_helm 4.3; build_helm 3.22 ;;
    kubeconform) build_kubeconform 0.8 ;;
    crds) build_crds ;;
    toxiproxy) build_toxiproxy 2.12 ;;
    *) echo "tools/build.sh: unknown: $family; it is etcd, kubernetes, kwok, prometheus, helm, kubeconform, crds or toxiproxy" >&2; exit 2 ;;
  esac
done
