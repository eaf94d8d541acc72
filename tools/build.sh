#!/usr/bin/env bash
# Builds the pinned test programs once, outside the tree, and prints the directory of each etcd version.
# Usage: tools/build.sh            -> lines "3.6 DIR" and "3.5 DIR"
set -euo pipefail
cd "$(dirname "$0")"

command -v go >/dev/null || { echo "tools/build.sh: Go is missing; install it (go.dev/dl or apt-get install golang) and run again" >&2; exit 2; }
cache="${ETCD_SYNC_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-sync/tools}"

pinned_version() { (cd "$1" && go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3); }

# A program already on PATH serves when all three are there at exactly the pinned version.
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
  version="$(pinned_version "etcd-$line")"
  if on_path_at "$version"; then
    echo "$line $(dirname "$(command -v etcd)")"
    return
  fi
  dir="$cache/etcd-$version"
  for program in etcd:server etcdctl:etcdctl etcdutl:etcdutl; do
    package="${program#*:}" program="${program%%:*}"
    [ -x "$dir/$program" ] && continue
    echo "building $program $version (once, into $dir)" >&2
    mkdir -p "$dir"
    # Built beside its place and renamed, so that an interrupted build never leaves half a program.
    (cd "etcd-$line" && CGO_ENABLED=0 go build -trimpath -o "$dir/.$program.$$" "go.etcd.io/etcd/$package/v3")
    mv "$dir/.$program.$$" "$dir/$program"
  done
  echo "$line $dir"
}

build_etcd 3.6
build_etcd 3.5
