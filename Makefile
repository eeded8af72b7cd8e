# Testbench: `make help` lists what there is. Needs Python 3.11 or newer; uv is used where it is installed, and
# otherwise installed inside the project.

UV := $(shell command -v uv 2>/dev/null || echo .tools/uv/bin/uv)
UV_HERE := $(filter .tools/%,$(UV))
IMAGE ?= ghcr.io/agentic-layer/testbench/testworkflows:latest
DOCKER ?= docker
PHASE ?= pipeline.py --help

export UV_COMPILE_BYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help install demo arena-demo test unit e2e manifests format schema build run image-test deepeval-test cluster-test clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9_-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## Install the locked dependencies into .venv, those of the tests too

demo: .venv/.runs ## Run the whole pipeline against the sample agent, and end with a verdict
	@.venv/bin/testbench demo

arena-demo: .venv/.runs ## Run the sample ArenaJob against the sample agent, and end with a verdict
	@.venv/bin/testbench arena demo

test: .venv/.installed ## Everything that must hold: style, types, security, unit and end-to-end tests
	@.venv/bin/poe check
	@.venv/bin/poe test_e2e

unit: .venv/.installed ## Only the unit tests
	@.venv/bin/poe test

e2e: .venv/.installed ## Only the end-to-end tests
	@.venv/bin/poe test_e2e

manifests: .venv/.installed ## Render and check the Kubernetes manifests, the workflows and the Tiltfile
	@command -v kubectl >/dev/null || command -v kustomize >/dev/null || { \
	  echo "error: neither kubectl nor kustomize is installed, so nothing can be rendered" >&2; \
	  echo "hint: install one of them, e.g. go install sigs.k8s.io/kustomize/kustomize/v5@latest" >&2; exit 1; }
	@.venv/bin/pytest -q tests/deploy/test_manifests.py tests/deploy/test_templates.py tests/deploy/test_workflows.py tests/deploy/test_tiltfile.py \
	  tests/arena/operator/test_rbac.py tests/arena/manifest/test_crd.py tests/deploy/test_dashboards.py

format: .venv/.installed ## Format the code and mend what can be mended
	@.venv/bin/poe ruff

schema: .venv/.installed ## Write docs/*.schema.json, the tables of the docs and the CRDs anew
	@.venv/bin/python -m testbench.cli.reference .

build: ## Build the container image
	$(DOCKER) build --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" --tag $(IMAGE) .

# Only the names go on the command line: docker takes the values from its environment, and no key is seen in `ps`.
PASSED_ON = $(sort $(filter OPENAI_% OTEL_% TESTBENCH_% AWS_% MINIO_%,$(.VARIABLES)))

run: ## Run a phase in the image on ./data, e.g. make run PHASE="run http://host.docker.internal:11010"
	@mkdir -p data
	$(DOCKER) run --rm --read-only --tmpfs /tmp --user "$$(id -u):$$(id -g)" \
	  --add-host host.docker.internal:host-gateway --volume "$(CURDIR)/data:/app/data" \
	  $(PASSED_ON:%=--env %) $(IMAGE) $(PHASE)

image-test: .venv/.installed ## Build the image and run every phase in it; with docker, or as root with buildah
	@.venv/bin/python -m tests_e2e.image.build
	@IMAGE_TEST=1 .venv/bin/pytest tests_e2e/image

deepeval-test: $(UV_HERE) ## Run the tests of DeepEval's metrics, in an environment of their own
	@UV_PROJECT_ENVIRONMENT=.tools/deepeval $(SYNC) --extra deepeval || $(FAILED)
	@.tools/deepeval/bin/python -m pytest -q tests/metrics/deepeval/test_metrics.py

# CLUSTER_BINARIES names a folder with etcd, kube-apiserver and kube-controller-manager, which then are not built.
cluster-test: .venv/.installed ## Run the cluster contract against a real control plane, built from its Go modules
	@programs="$${CLUSTER_BINARIES:-$$(.venv/bin/python -m tests_cluster.build)}" && \
	  CLUSTER_BINARIES="$$programs" CLUSTER_KILLS=100 .venv/bin/pytest tests_cluster \
	    tests_e2e/test_operator_runs.py::test_whatever_is_killed_no_item_is_lost_or_doubled

clean: ## Remove what was installed and cached here
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis

SYNC = $(UV) sync --locked --extra arena --extra operator --quiet
FAILED = { echo "error: the dependencies could not be installed" >&2; \
  echo "hint: Python 3.11 or newer and a reachable package index are needed; $(UV) sync says more" >&2; exit 1; }

# What Testbench runs with, and on top of it what it is developed with.
.venv/.runs: pyproject.toml uv.lock $(UV_HERE)
	@echo "Installing what Testbench runs with into .venv: once, for about a minute." >&2
	@$(SYNC) --no-dev --inexact || $(FAILED)
	@touch $@

.venv/.installed: .venv/.runs
	@echo "Installing what its tests need." >&2
	@$(SYNC) || $(FAILED)
	@touch $@

.tools/uv/bin/uv:
	@echo "Installing uv into .tools." >&2
	@python3 -m venv .tools/uv && .tools/uv/bin/pip install --quiet --disable-pip-version-check uv || { \
	  rm -rf .tools; echo "error: uv could not be installed" >&2; \
	  echo "hint: install Python's venv module (Debian: apt-get install python3-venv), or uv itself" >&2; exit 1; }
