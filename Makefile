SHELL := /bin/bash
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.cache/bin:$(PATH)

.DEFAULT_GOAL := help

help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install everything needed: system packages, Python environment, LiveKit server, pages
	@scripts/setup.sh

demo: setup ## Record a room with two synthetic participants for 15 seconds
	@PYTHONPATH=. $(PYTHON) examples/demo.py

check: ## Lint, types, layers, unit tests
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	$(PYTHON) -m pytest -q -n 2 tests/unit

check-pages: ## Lint, types and unit tests of the TypeScript pages
	cd web && npm run --silent check && npm run --silent test

test: setup ## Everything: check, then integration and end-to-end tests
	$(MAKE) check check-pages
	$(PYTHON) -m pytest -n 2 --dist loadfile --durations=30 -m "not quiet" tests/integration tests/e2e
	$(PYTHON) -m pytest --durations=30 -m quiet tests/integration tests/e2e

image-check: ## Build the container image without a container engine and record a page with it (root, five minutes)
	python3 -m scripts.image "$$(mktemp -u -d)"

bench: setup ## Measure the rows of bench/RESULTS.md on this machine
	$(PYTHON) -m bench

proto: ## Generate openegress/proto from proto/*.proto
	$(PYTHON) scripts/generate_proto.py

.PHONY: help setup demo check check-pages test image-check bench proto
