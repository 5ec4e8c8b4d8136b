# One command each. `make help` lists them.

SHELL := bash
export AFFLUX_CACHE ?= $(HOME)/.cache/afflux
export CARGO_TARGET_DIR ?= $(AFFLUX_CACHE)/target

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## builds the release binary and runs everything in one process, under a demonstration's load
	@scripts/setup.sh build
	cargo build --locked --release --bin afflux
	$(CARGO_TARGET_DIR)/release/afflux up --demo

.PHONY: test
test: ## sets up what is needed and checks everything: format, lints, docs, licences, all tests
	@scripts/test.sh

.PHONY: soak
soak: ## exactly-once on a real Kafka through RUNS (default 60) rounds of faults; SEED=N repeats a round
	@scripts/setup.sh test
	@scripts/peers.sh
	CI=true AFFLUX_SOAK_RUNS=$(or $(RUNS),60) $(if $(SEED),AFFLUX_SEED=$(SEED)) \
	  cargo test --locked --workspace --test e2e -- every_span_leaves --nocapture

.PHONY: stack
stack: ## the local stack without containers: its configuration files, real servers, and every panel of the dashboards
	@scripts/setup.sh test
	@scripts/peers.sh
	CI=true cargo test --locked --workspace --test e2e -- stack:: --nocapture

.PHONY: chart
chart: ## checks the Helm chart and the manifests that are made of it
	@scripts/chart.sh

.PHONY: docs
docs: ## renders the documentation with mdBook into target/book
	@command -v mdbook >/dev/null || cargo install --locked mdbook
	mdbook build docs

.PHONY: bench
bench: ## measures the hot paths and the whole pipeline; the figures are kept in docs/benchmarks.md
	@scripts/setup.sh test
	@scripts/peers.sh
	cargo build --locked --release --bin afflux
	cargo bench --locked --workspace

.PHONY: build
build: ## builds the release binary
	@scripts/setup.sh build
	cargo build --locked --release --bin afflux

.PHONY: peers
peers: ## sets up the real servers and clients that the suites run against
	@scripts/test.sh setup peers

.PHONY: fmt
fmt: ## formats the sources
	cargo fmt --all

.PHONY: clippy
clippy: ## lints everything, warnings denied
	@scripts/test.sh clippy

.PHONY: doc
doc: ## builds the documentation, warnings denied
	@scripts/test.sh docs

.PHONY: deny
deny: ## checks licences, sources, bans and, with the network, advisories
	@scripts/deny.sh advisories
