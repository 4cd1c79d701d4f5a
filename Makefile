# Targets for people and CI; `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TOOLS := .tools/bin
CRDS := config/crd
# of the fuzzer and chaos
PROFILE ?= release
BUILT = target/$(patsubst dev,debug,$(PROFILE))

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run a gateway with two backends on this machine, without a cluster
	e2e/tools/install envoy
	cargo build --package nuncio
	target/debug/nuncio demo --envoy $(TOOLS)/envoy

.PHONY: build
build: ## Build the binary for production
	cargo build --profile dist --package nuncio

.PHONY: manifests
manifests: ## Generate the CustomResourceDefinitions in config/crd from crds/src
	cargo run --quiet --package nuncio-crds --bin crdgen -- $(CRDS)

.PHONY: tools
tools: ## Install the tools of the tests in .tools: Envoy, kubectl, etcd, kube-apiserver, kube-controller-manager, Consul, cargo-deny
	e2e/tools/install

.PHONY: lint
lint: ## Check format, lints, generated files and the direction of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo run --quiet --package nuncio-crds --bin crdgen -- --check $(CRDS)
	@e2e/tools/check-dependencies

.PHONY: deny
deny: ## Check licences, sources and duplicate versions of dependencies (deny.toml)
	e2e/tools/install deny
	$(TOOLS)/cargo-deny check licenses bans sources

.PHONY: golden
golden: ## Update the outputs of golden cases; review the diff like code
	UPDATE_GOLDEN=1 cargo test --quiet --package nuncio --test golden

.PHONY: test
test: tools lint deny ## Run all checks: lints, dependencies, unit, golden, property and end-to-end tests
	cargo build --package nuncio --package nuncio-kat
	cargo test --workspace --exclude nuncio-e2e
	cargo test --package nuncio-e2e --tests

.PHONY: bench
bench: tools ## Measure changes and requests with up to 10,000 Mappings and Hosts; one part only: BENCH="--part routes"
	cargo build --profile dist --package nuncio --package nuncio-e2e
	target/dist/nuncio-bench $(BENCH)

.PHONY: fuzz
fuzz: tools ## Send random manifests through the control plane and a real Envoy; longer: FUZZ="--seconds 600"
	cargo build --profile $(PROFILE) --package nuncio-e2e --bin nuncio-fuzz
	$(BUILT)/nuncio-fuzz $(FUZZ)

.PHONY: search
search: ## Run the property tests with new seeds and many cases; PROPTEST_CASES=100000
	PROPTEST_CASES=$${PROPTEST_CASES:-10000} cargo test --workspace --exclude nuncio-e2e --lib --test incremental --test conversion

.PHONY: chaos
chaos: tools ## Disturb a gateway at random and check that it recovers; CHAOS="--minutes 20 --seed 1"
	cargo build --profile $(PROFILE) --package nuncio --package nuncio-e2e --bin nuncio --bin nuncio-chaos
	$(BUILT)/nuncio-chaos $(CHAOS)

.PHONY: re2
re2: ## Compare the check of regular expressions with RE2 on a million random patterns; RE2="--seed 1 --count 1000"
	python3 -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps --upgrade \
		--target .tools/re2 -r e2e/tools/re2/requirements.txt
	cargo build --release --package nuncio-core --example regex
	PYTHONPATH=.tools/re2 e2e/tools/re2/compare $(RE2)

.PHONY: clean
clean: ## Remove build outputs, but not .tools
	cargo clean
