# Entry points. Each one checks its requirements; scripts/require installs what apt-get has, or says what is missing.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# rustup's directory is not on the PATH of every shell.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# Programs that are built once, outside the tree; tools/build.sh uses the same place.
CACHE := $(or $(ETCD_SYNC_TOOLS_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/etcd-sync/tools)
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
SCRIPTS := .ci/run scripts/require scripts/structure scripts/suite scripts/words tools/build.sh
WEB := $(wildcard tests/e2e-web/*.mjs)

.PHONY: help
help: ## Show this list
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: require-rust ## Build the release programs into target/release
	cargo build --locked --release -p etcd-sync -p etcd-sync-monitor

.PHONY: demo
demo: etcd require-rust require-protoc ## Two etcds, a first sync, a kill, a compaction, and the exact report
	cargo build --locked --release -p etcd-sync -p etcd-sync-integration --bins
	"$${CARGO_TARGET_DIR:-target}/release/demo"

.PHONY: test
# One build of programs and tests together: `-p etcd-sync` alone would choose other features and build most crates twice.
# Tests mostly wait, so more of them run at once than a small machine has cores.
test: export RUST_TEST_THREADS ?= 3
test: etcd toxiproxy kubernetes kwok prometheus helm kubeconform crds net web require-rust require-protoc ## All tests, also those against real etcds, control planes and a browser
	node --test tests/e2e-web/words.test.mjs
	cargo build --locked --workspace --bins --tests
	scripts/suite

# Each of these has a short form in `make test`.
.PHONY: soak
soak: export ETCD_SYNC_SOAK = 1
soak: etcd toxiproxy require-rust require-protoc ## The long forms: tens of thousands of simulated seeds, hundreds of kills and checks (an hour)
	SIM_SEEDS=50000 cargo test --locked --release -p etcd-sync-core --test simulation
	PROPTEST_CASES=20000 cargo test --locked --release -p etcd-sync-core -p etcd-sync-operations --lib
	cargo build --locked --workspace --bins --tests
	cargo test --locked --workspace --test kill --test check --test monitor --test prune --test slow --test fault_rounds -- --nocapture

.PHONY: bench
bench: etcd toxiproxy require-rust require-protoc ## Measure against etcdctl make-mirror
	cargo build --locked --release -p etcd-sync -p etcd-sync-monitor
	cargo run --locked --release -p etcd-sync-benches

# Without the advisories: their database is on GitHub, which not every build machine can reach. If yours can,
# run `cargo deny check advisories`.
.PHONY: lint
lint: require-rust require-protoc words structure $(DENY) ## Formatting, clippy, words, structure, licences and banned crates
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(DENY) --locked --log-level error check --hide-inclusion-graph licenses bans sources
	for script in $(SCRIPTS); do bash -n "$$script"; done
	if command -v node >/dev/null; then for script in $(WEB); do node --check "$$script"; done; fi
	if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); fi

.PHONY: structure
structure: ## Check the direction of imports, circles, and sizes of files and crates
	scripts/structure

.PHONY: words
words: ## Words that were replaced, in texts and identifiers (scripts/words.txt)
	@scripts/words

.PHONY: etcd kubernetes kwok prometheus helm kubeconform crds toxiproxy
etcd: ## Build the pinned etcds that tests, demo and benchmarks run (once, minutes)
kubernetes: ## Build the pinned control planes that tests run (once, many minutes)
kwok: ## Build the pinned kwok that plays nodes in tests (once, minutes)
prometheus: ## Build the pinned promtool that tests the alerts (once, minutes)
helm: ## Build the pinned helms that render and install the chart in tests (once, minutes)
kubeconform: ## Build the pinned kubeconform that validates what the chart renders (once, a minute)
crds: ## Fetch the pinned CRDs of Prometheus and cert-manager (once, seconds)
toxiproxy: ## Build the pinned toxiproxy that makes links slow in tests and benchmarks (once, seconds)
etcd kubernetes kwok prometheus helm kubeconform crds toxiproxy:
	scripts/require go
	tools/build.sh $@

.PHONY: net
net: ## BIND, whose name server the tests run, and network tools
	@scripts/require named nslookup nsupdate ip curl jq

.PHONY: web
web: require-web tests/e2e-web/node_modules/.package-lock.json ## Chromium and its driver, for the dashboard's test

.PHONY: require-web
require-web:
	@scripts/require node npm $(or $(CHROMIUM),chromium)
	@node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' || \
		{ echo "too old: node $$(node --version). To get it: install Node.js 18 or newer from https://nodejs.org" >&2; exit 1; }

# npm writes this file when it is done.
tests/e2e-web/node_modules/.package-lock.json: tests/e2e-web/package.json tests/e2e-web/package-lock.json | require-web
	cd tests/e2e-web && npm ci --ignore-scripts --no-audit --no-fund || \
		{ echo "npm could not install tests/e2e-web: it needs an npm registry (npm config get registry)" >&2; exit 1; }
	touch $@

.PHONY: packaging
packaging: require-rust ## Shell completions and man pages into target/packaging
	cargo run --locked -p etcd-sync-program --example packaging -- target/packaging

.PHONY: clean
clean: ## Remove target/; the tools' cache outside the tree stays
	cargo clean

# aws-lc-sys needs a C compiler; it needs no cmake on x86_64 and aarch64 Linux.
.PHONY: require-rust
require-rust:
	@scripts/require cargo cc

# The tests' and benches' own etcd client is generated by it; what ships is built without.
.PHONY: require-protoc
require-protoc:
	@scripts/require protoc

$(DENY): | require-rust
	cargo install --locked --root $(CACHE)/cargo-deny-$(DENY_VERSION) cargo-deny@$(DENY_VERSION)
