# All commands work in one .venv; only Python 3.13 and make have to be there.
PYTHON ?= python3.13
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export SAM_CLI_TELEMETRY := 0

.DEFAULT_GOAL := help
.PHONY: help install build test lint demo local prove bench preflight clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed-test ## Install all development tools into .venv

build: $(VENV)/.installed-demo ## Build functions and layer with sam
	sam build

demo: $(VENV)/.installed-demo ## Watch it work: build, deploy onto a local stack, five customers, a verdict (TRACE=file.csv SPEED=60 LIMIT=40 replays real timings)
	python -m tests.local.demo $(if $(TRACE),--trace "$(TRACE)") $(if $(SPEED),--speed "$(SPEED)") $(if $(LIMIT),--limit "$(LIMIT)")

local: $(VENV)/.installed-demo ## Keep a local stack up, and print how a backend reaches it (HOST_ADDRESS=172.17.0.1: containers as well)
	python -m tests.local up $(if $(HOST_ADDRESS),--host-address "$(HOST_ADDRESS)")

lint: $(VENV)/.installed-test ## Formatting, lint and types
	ruff format --check .
	ruff check .
	mypy

test: lint build ## All checks, as CI runs them: lint, types, unit, integration, end to end
	pytest --numprocesses 3 --dist loadfile

prove: $(VENV)/.installed-test build ## The promises under everything that can go wrong: races, faults, bad input, rights; under 30 minutes (ARGS="--only fuzz"; ARGS=--help)
	python -m tests.prove $(ARGS)

bench: $(VENV)/.installed-test ## Measure everything against its targets; needs valgrind (TIMINGS=file.csv: real gaps; ONLY="warm slack": parts)
	python -m tests.bench $(if $(TIMINGS),--timings "$(TIMINGS)") $(if $(ONLY),--only $(ONLY))

preflight: $(VENV)/.installed-test ## Quotas, cost and the alternatives for your traffic (ARGS="--messages-per-second 500 --region eu-north-1"; ARGS=--help)
	python -m tests.bench.preflight $(ARGS)

clean: ## Remove what the commands above made
	rm -rf $(VENV) .aws-sam .local .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null && $(PYTHON) --version >/dev/null 2>&1 || { \
	  echo "Python 3.13 is needed, the version that the Lambda functions run on, and '$(PYTHON)' is not there."; \
	  echo "Install it (for instance: pyenv install 3.13, or uv python install 3.13) or name it: make PYTHON=/path/to/python3.13 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: tests/requirements/%.txt pyproject.toml layers/shared/requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
