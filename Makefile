# Testbench: `make help` lists what there is. Needs Python 3.11 or newer; uv is used where it is installed, and
# otherwise installed inside the project.

UV := $(shell command -v uv 2>/dev/null || echo .tools/uv/bin/uv)
IMAGE ?= ghcr.io/agentic-layer/testbench/testworkflows:latest
DOCKER ?= docker
PHASE ?= pipeline.py --help

export UV_COMPILE_BYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check unit e2e format schema build run clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z_-]*:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## Install the locked dependencies into .venv

demo: .venv/.installed ## Run the whole pipeline against the sample agent, and end with a verdict
	@.venv/bin/python -m testbench.samples.demo

test: .venv/.installed ## Everything that must hold: style, types, security, unit and end-to-end tests
	@.venv/bin/poe check
	@.venv/bin/poe test_e2e

unit: .venv/.installed ## Only the unit tests
	@.venv/bin/poe test

e2e: .venv/.installed ## Only the end-to-end tests
	@.venv/bin/poe test_e2e

format: .venv/.installed ## Format the code and mend what can be mended
	@.venv/bin/poe ruff

schema: .venv/.installed ## Write docs/*.schema.json anew from the models
	@.venv/bin/python -m testbench.schema.json_schema docs

build: ## Build the container image
	$(DOCKER) build --tag $(IMAGE) .

run: ## Run a phase in the image on ./data, e.g. make run PHASE="run.py http://host.docker.internal:11010"
	@mkdir -p data
	$(DOCKER) run --rm --user "$$(id -u):$$(id -g)" --add-host host.docker.internal:host-gateway \
	  --volume "$(CURDIR)/data:/app/data" $(foreach name,$(filter OPENAI_% OTEL_% TESTBENCH_% AWS_% MINIO_%,$(.VARIABLES)),--env $(name)) \
	  $(IMAGE) $(PHASE)

clean: ## Remove what was installed and cached here
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.installed: pyproject.toml uv.lock $(if $(findstring .tools,$(UV)),.tools/uv/bin/uv)
	@$(UV) sync --locked --extra samples --extra arena --extra operator --quiet || { \
	  echo "error: the dependencies could not be installed" >&2; \
	  echo "hint: Python 3.11 or newer and a reachable package index are needed; $(UV) sync says more" >&2; exit 1; }
	@touch $@

.tools/uv/bin/uv:
	@python3 -m venv .tools/uv && .tools/uv/bin/pip install --quiet --disable-pip-version-check uv || { \
	  rm -rf .tools; echo "error: uv could not be installed" >&2; \
	  echo "hint: install Python's venv module (Debian: apt-get install python3-venv), or uv itself" >&2; exit 1; }
