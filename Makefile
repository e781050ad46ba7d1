# Every target installs what it lacks (.ci/setup) and can be run again at any time.

VENV   := .cache/venv/bin
CARGO  := cargo
RUST   := --release --locked --workspace --exclude unstale-python --exclude unstale-node --features unstale/broker

.PHONY: help setup build test conformance sim mutants chaos demo bench lint wheel addon capi
help:
	@echo 'make demo         one service per language on one broker, one price change, who saw it and when'
	@echo 'make test         every test in every language (what .ci/run calls)'
	@echo 'make conformance  the conformance script, for all pairs of languages'
	@echo 'make chaos        real faults on a real cluster, every read judged'
	@echo 'make sim          the simulation: the promise under every fault, on a virtual clock'
	@echo 'make mutants      the simulation with each mechanism switched off in turn: which of them it catches'
	@echo 'make bench        the performance tables, with the peers beside'
	@echo 'make lint         formatters, linters, type checkers, generated files up to date'
	@echo 'make wheel, addon, capi   what users install, into dist/'

setup:
	@.ci/setup

build:
	@.ci/setup build
	@$(CARGO) build $(RUST)

wheel:
	@.ci/setup build venv
	@bindings-python/package.sh

addon:
	@.ci/setup build
	@bindings-node/package.sh

capi:
	@.ci/setup build
	@bindings-c/package.sh

test: setup
	@python3 tests/run_suites.py

conformance: setup build wheel addon capi
	@python3 tests/conformance/harness.py -v

chaos: setup build wheel addon
	@tests/chaos/run

sim: build
	@target/release/unstale-sim

mutants:
	@.ci/setup build
	@tests/sim/mutants.py

demo:
	@.ci/setup build broker sqlite dotnet venv
	@examples/demo/run

bench: wheel addon capi
	@.ci/setup build broker venv
	@tests/bench/run

lint:
	@.ci/setup build venv lint dotnet
	@.ci/lint
