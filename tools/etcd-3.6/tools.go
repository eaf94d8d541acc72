//go:build tools

// Package tools pins the etcd 3.6 programs that the tests, the demo and the benchmark run.
package tools

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
