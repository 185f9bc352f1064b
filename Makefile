# The menu: `make help`. A fresh machine with Python 3.11 or newer and make needs nothing else.

PYTHON ?= python3
UV_VERSION := 0.13.9
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A relative path on purpose: it works from a folder whose name has spaces.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check format bench figures faults screenshots up clean

help: ## Show this menu
	@grep -hE '^[a-z]+:.*?## ' Makefile | awk 'BEGIN {FS = ":.*?## "} {printf "  make %-11s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml uv.lock
	@echo "Installing into $(VENV), once: a minute or so …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@$(BIN)/python -m uv sync --quiet --frozen --inexact --extra dev --compile-bytecode
	@# Ours too: many a process is started, and some environments forbid Python to keep what it compiled.
	@$(BIN)/python -m compileall -q -j 0 workflows activities api ingather worker.py
	@touch $@

setup: $(STAMP) ## Create .venv and install everything from the lock

demo: setup ## Start the embedded stack, ingest the samples, search, stop
	@$(BIN)/ingather demo

up: setup ## Run the embedded stack, API and workers in the foreground
	@$(BIN)/ingather up

# Half of the time tests wait, for servers and for each other: three folders side by side keep two cores busy. The longest first.
TEST_LANES := $(addprefix test-,e2e deployments workflow unit integration contracts)
.PHONY: $(TEST_LANES)

test: setup ## Run the whole test suite (twenty minutes on two cores)
	@$(MAKE) --no-print-directory --keep-going --jobs=3 $(TEST_LANES)

# By the line, so that lanes do not write into each other's.
$(TEST_LANES): test-%: setup
	@$(BIN)/python -m pytest -p no:cacheprovider tests/$* 2>&1 | grep --line-buffered ''

check: setup ## Lint, format, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## Let the formatter and the fixer do their work
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure Ingather beside a plain process pool and its own bare activities
	@$(BIN)/python -m bench.run

faults: setup ## Kill, freeze, fill up and cut off every part in turn; the table goes to bench/results/faults.md
	@$(BIN)/python -m tests.faults --output bench/results/faults.md

figures: setup ## Run every bench (half an hour) and draw docs/reference/performance
	@$(BIN)/python -m uv sync --quiet --frozen --inexact --all-extras --group figures
	@$(BIN)/python -m bench.figures

screenshots: setup ## Take the pictures of the dashboard in docs/images (needs Chromium)
	@$(BIN)/python -m tests.support.screenshots

clean: ## Remove the environment and caches (data directories stay)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
