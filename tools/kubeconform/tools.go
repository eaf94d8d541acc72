//go:build tools

// Package tools pins the kubeconform that holds what the chart renders against the API servers' schemas.
package tools

import (
	_ "github.com/yannh/kubeconform/cmd/kubeconform"
)
