//go:build tools

// Package tools pins the promtool that checks the alerts and runs their tests.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
