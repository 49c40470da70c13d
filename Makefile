# Headwater's tasks. `make` alone lists them.
#
# Variables:
#   DURATION=seconds   how long `make demo` runs; without it, until Ctrl-C
#   JOBS=number        how many processes `make test` runs its tests in (3); 0: in one, and what they print is seen
#   ARGS="..."         more arguments for the command that a target runs, e.g. make test ARGS="tests/stack -k kafka"
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
BIN := .venv/bin
JOBS ?= 3

.PHONY: help
help:  ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n'; sed -n 's/^#   /  /p' Makefile

.PHONY: setup
setup:  ## Install what is missing: Debian packages, .venv, the servers (at most 8 minutes)
	@exec stack/bootstrap.sh

.PHONY: preflight
preflight:  ## Only check whether this machine will do; installs nothing
	@exec stack/bootstrap.sh --check

# `exec`: make's child is Python itself, so a Ctrl-C reaches it once and nothing stays behind.
.PHONY: demo
demo: setup  ## Everything on this machine, from simulated devices to TimescaleDB [DURATION=seconds]
	@exec $(PY) -m stack demo $(if $(DURATION),--duration $(DURATION)) $(ARGS)

.PHONY: servers
servers: setup  ## Only the three servers, until Ctrl-C
	@exec $(PY) -m stack run $(ARGS)

.PHONY: test
test: setup  ## Run the tests against real servers [JOBS=processes]
	@exec $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

.PHONY: lint
lint: setup  ## Format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: check
check: lint test  ## What CI runs: lint and test

.PHONY: chaos
chaos: setup  ## Three minutes of demo in which every part is killed once; nothing may be lost
	@exec $(PY) -m pytest -m slow --timeout 900 -s tests/e2e $(ARGS)

.PHONY: vm-test
vm-test: setup  ## Virtual machines whose power is cut: a spool eight times, and a device from its flashed card on
	@tests/vm/prepare.sh
	@tests/vm/prepare-arm64.sh
	@exec $(PY) -m pytest -m slow --timeout 1800 -s tests/vm $(ARGS)

.PHONY: models
models: setup  ## Train, judge, quantize and register every model: 8 minutes on two cores [ARGS="--quick" or names]
	@$(PY) -m models make $(ARGS)
	@$(PY) -m models tables

.PHONY: notebooks
notebooks: setup  ## Jupyter Lab with the notebooks of models/notebooks, on loopback
	@$(BIN)/jupytext --quiet --sync models/notebooks/*.py
	@PYTHONPATH=$(CURDIR) exec $(BIN)/jupyter lab --ip 127.0.0.1 --notebook-dir models/notebooks $(ARGS)

.PHONY: bench-edge
bench-edge: setup  ## Values per CPU-second and requests per cycle, beside Telegraf and thingsboard-gateway (needs Go)
	$(PY) -m bench.edge $(ARGS)
	$(PY) -m bench.edge.memory

.PHONY: bench-stream
bench-stream: setup  ## Kafka to committed rows, beside a bare COPY, Spark's JDBC sink and Telegraf
	@exec $(PY) -m bench.stream $(ARGS)

.PHONY: bench-bridge
bench-bridge: setup  ## MQTT to Kafka, beside a client that only acknowledges and Telegraf
	@exec $(PY) -m bench.bridge $(ARGS)

.PHONY: bench-latency
bench-latency: setup  ## From sampled to committed at 10,000 readings/s, without and with the analysis
	@exec $(PY) -m bench.latency $(ARGS)

.PHONY: bench-scale
bench-scale: setup  ## Cost for each reading from 10 to 10,000 series and 1 to 500 nodes; memory over half an hour
	@exec $(PY) -m bench.scale $(ARGS)

.PHONY: bench-dashboards
bench-dashboards: setup  ## Every query of the dashboards on a month of 50 nodes, beside the goal of 300 ms
	@exec $(PY) -m bench.dashboards $(ARGS)

.PHONY: bench-faults
bench-faults: setup  ## Labelled faults of the plant: precision and recall of what watches every series, beside trivial methods
	@exec $(PY) -m bench.faults $(ARGS)

.PHONY: cluster-test
cluster-test: setup  ## Three Kafka brokers and a Spark cluster, of each one killed; nothing may be lost
	@exec $(PY) -m pytest -m slow --timeout 900 -s tests/cluster $(ARGS)

.PHONY: compose-test
compose-test: setup  ## `docker compose up` for real, also as a cluster and with a fleet's broker; an engine of Debian's where there is none
	@exec $(PY) -m pytest -m slow --timeout 3600 -s tests/compose --ignore tests/compose/arm $(ARGS)

.PHONY: arm-images
arm-images: setup  ## The agent's images for arm64 and arm/v7, built and run; by qemu where the processor is another
	@exec $(PY) -m pytest -m slow --timeout 3600 -s tests/compose/arm $(ARGS)

.PHONY: fleet-test
fleet-test: setup  ## 500 simulated nodes for a minute through every part; every reading is accounted for
	@exec $(PY) -m pytest -m slow --timeout 900 -s tests/simulators/fleet $(ARGS)

.PHONY: bundle-test
bundle-test: setup  ## A real bundle installed and run without a network, one for each kind of device, power cut at every change
	@exec $(PY) -m pytest -m slow --timeout 900 -s tests/fleet/bundle $(ARGS)

.PHONY: proto
proto: setup  ## Generate the protobuf module after a change of contract/sparkplug_b.proto
	$(PY) -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. contract/sparkplug_b.proto

# One lock for everything that the demo and the tests need, and one per role within it.
COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-strip-extras --no-emit-package headwater pyproject.toml
.PHONY: lock
lock: setup  ## Resolve the dependencies of pyproject.toml into requirements/*.lock, with hashes [ARGS=--upgrade]
	$(COMPILE) $(ARGS) --extra dev --output-file requirements/dev.lock
	for role in edge bridge stream db simulators models stack grafana compose fleet notebooks; do \
	  $(COMPILE) --extra $$role --constraint requirements/dev.lock --output-file requirements/$$role.lock; done
	$(subst 3.11,3.13,$(COMPILE)) $(ARGS) --extra edge --python-platform aarch64-manylinux_2_40 --only-binary :all: \
	  --output-file requirements/edge-3.13.lock

.PHONY: fmt
fmt: setup  ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean:  ## Remove .venv, .stack, the caches and TimescaleDB's files (Debian packages stay)
	@exec stack/bootstrap.sh --clean
