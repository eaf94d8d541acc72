// Nothing is built here: tools/build.sh takes the CustomResourceDefinitions out of these modules, which go.sum pins.
// Renew them with `go get MODULE@VERSION && go mod download MODULE`, not with tidy.
module etcd-sync.local/tools/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
