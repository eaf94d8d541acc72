//go:build tools

// Package tools pins the toxiproxy that makes distance between two sites for the benchmarks.
package tools

import (
	_ "github.com/Shopify/toxiproxy/v2/cmd/server"
)
