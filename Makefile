# One command surface for people and CI. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Everything that is built lives outside the checkout and survives it.
THALWEG_CACHE ?= $(HOME)/.cache/thalweg
CARGO_TARGET_DIR ?= $(THALWEG_CACHE)/target
export THALWEG_CACHE CARGO_TARGET_DIR

# Not CLUSTER, which make would hand to `e2e/demo` in place of the caller's.
CLUSTER_SCRIPT := e2e/cluster/cluster
TARGET := x86_64-unknown-linux-gnu
DEBUG_BINARIES := $(CARGO_TARGET_DIR)/$(TARGET)/debug
RELEASE_BINARIES := $(CARGO_TARGET_DIR)/$(TARGET)/release
# Where image contexts and archives are laid out.
BUILD ?= $(THALWEG_CACHE)/build
PROGRAMS := -p thalweg -p thalweg-operator -p word-count -p nexmark-functions -p misbehaving -p remembering -p transfer -p keyed-count
# Tools that no Debian package has, pinned and built into the cache. A folder a version: another version is another target.
TOOLS := $(THALWEG_CACHE)/tools
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
# The whole workspace at once: one set of features for each dependency, so that binaries and tests share one build.
EVERYTHING := --workspace --all-targets

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z0-9-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## ---- build ----

.PHONY: deps
deps: ## Install the Debian packages that are missing (as root)
	$(CLUSTER_SCRIPT) deps

.PHONY: build
build: ## Debug binaries and tests
	cargo build $(EVERYTHING)

.PHONY: release
release: ## Release binaries
	cargo build --release $(PROGRAMS)

.PHONY: images
images: build ## Images of the debug binaries, as OCI archives (for tests)
	e2e/images "$(DEBUG_BINARIES)" "$(BUILD)/debug"

.PHONY: release-images
release-images: release ## Images of the release binaries, as OCI archives
	e2e/images "$(RELEASE_BINARIES)" "$(BUILD)/release"

.PHONY: generate
generate: ## Write what is generated: CRDs, documentation of options
	cargo run -q -p thalweg-crds
	UPDATE_DOCS=1 cargo test -q --workspace --lib configuration_page

## ---- check ----

.PHONY: fmt
fmt: ## Format
	cargo fmt --all

.PHONY: lint
lint: ## rustfmt and clippy, warnings denied
	cargo fmt --all -- --check
	cargo clippy $(EVERYTHING) -- -D warnings

.PHONY: deny
deny: $(CARGO_DENY) ## Licences, duplicates and sources of dependencies
	$(CARGO_DENY) --log-level error check --deny unmatched-skip --deny unnecessary-skip bans licenses sources

# From source, some minutes and once; a folder of its own, since tools share no dependency's features with the workspace.
$(CARGO_DENY):
	CARGO_TARGET_DIR="$(TOOLS)/target" cargo install --locked cargo-deny --version $(CARGO_DENY_VERSION) --root "$(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)"
	rm -rf "$(TOOLS)/target"

.PHONY: unit
unit: build ## Tests that need no cluster
	cargo test --workspace --lib --bins --tests --exclude thalweg-e2e
	cargo test --workspace --doc
	python3 -m unittest discover -q -s e2e/bench -t e2e/bench

.PHONY: simulate
simulate: ## The control plane in simulated worlds with faults (SEEDS=1000 FIRST=0)
	cargo run -q -p thalweg-sim -- $(or $(SEEDS),1000) $(or $(FIRST),0)

.PHONY: cluster
cluster: ## The parts of the throw-away cluster, built into the cache (the first time: long)
	$(CLUSTER_SCRIPT) build

.PHONY: charts
charts: cluster ## Lint the charts and render them with several value sets
	e2e/charts

.PHONY: e2e
e2e: images cluster ## A sample of the end-to-end tests, on a throw-away Kubernetes with Kafka (KEEP=1 leaves it up)
	e2e/run sample

.PHONY: e2e-full
e2e-full: images cluster ## All end-to-end tests
	e2e/run full

.PHONY: test
test: lint unit charts e2e ## What CI runs

.PHONY: test-full
test-full: export THALWEG_FUZZ_CASES ?= 20000
test-full: export THALWEG_SQL_RESTORES ?= 0
test-full: lint deny unit charts e2e-full ## Everything that an issue names

.PHONY: parity
parity: build ## SQL scripts (SCRIPTS=..) on real Flink and here, compared
	e2e/parity/parity compare --binary "$(DEBUG_BINARIES)/thalweg" $(or $(SCRIPTS),runtime/sql/tests/cases)

.PHONY: parity-nexmark
parity-nexmark: build ## Nexmark's queries (QUERIES="q0 q5", EVENTS=1000000) on real Flink and here, compared
	e2e/nexmark/nexmark parity --binaries "$(DEBUG_BINARIES)" --events $(or $(EVENTS),1000000) $(QUERIES)

## ---- see it ----

.PHONY: demo
demo: ## Word count over Kafka on a throw-away Kubernetes (CLUSTER=current: on yours)
	e2e/demo up

.PHONY: demo-down
demo-down: ## End the demo
	e2e/demo down

.PHONY: bench
bench: release release-images ## Figures: exchange, word count beside Flink, start times (release builds; long)
	e2e/bench/bench all

.PHONY: bench-nexmark
bench-nexmark: release ## Figures: Nexmark's queries beside Flink (QUERIES=.., EVENTS=10000000, RUNS=3; long)
	e2e/nexmark/nexmark bench --binaries "$(RELEASE_BINARIES)" --events $(or $(EVENTS),10000000) --runs $(or $(RUNS),3) $(QUERIES)
