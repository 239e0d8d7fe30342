SHELL := /bin/bash
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.cache/bin:$(PATH)

.DEFAULT_GOAL := help

help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Install everything: system packages, Python environment, LiveKit server, pages, servers of the tests
	@scripts/setup.sh test

setup-python: ## Install the Python environment alone: enough for make check
	@scripts/setup.sh python

setup-demo: ## Install what make demo and make bench need
	@scripts/setup.sh demo

hooks: ## Install the Git hook that checks commit messages
	@install -m 755 scripts/commit-msg "$$(git rev-parse --git-path hooks)/commit-msg"

demo: setup-demo ## Record a room of three drawn people who talk in turns for 15 seconds
	@PYTHONPATH=. $(PYTHON) examples/demo.py

pictures: setup ## Make the pictures of the documentation anew, from recordings of the demo (three minutes)
	@PYTHONPATH=. $(PYTHON) -m examples.pictures

check: setup-python ## Lint, types, layers, unit tests
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	$(PYTHON) -m pytest -q -n 2 tests/unit

check-pages: ## Lint, types and unit tests of the TypeScript pages
	cd web && npm run --silent check && npm run --silent test

# What measures runs two at a time, and what fails so once more, alone.
QUIET := -m quiet -o cache_dir=.pytest_cache/quiet tests/integration tests/e2e

test: setup ## Everything: check, then integration and end-to-end tests
	$(MAKE) check check-pages
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=30 -m "not quiet" tests/integration tests/e2e
	$(PYTHON) -m pytest $(QUIET) -n 2 --dist loadfile --no-loadscope-reorder --cache-clear --durations=30 || \
	$(PYTHON) -m pytest $(QUIET) --last-failed --last-failed-no-failures none --durations=30

fuzz: ## Fuzz every parser of foreign bytes, SECONDS=60 each
	@uv sync --frozen --quiet --inexact --group fuzz
	$(PYTHON) -m tests.fuzz --seconds $(or $(SECONDS),60)

mutate: ## Change pure modules line by line: tests that notice nothing are holes (half an hour)
	@uv sync --frozen --quiet --inexact --group mutate
	mutmut run --max-children 2
	mutmut results

cves: ## Tell known CVEs of the C libraries in PyAV's wheel (Debian or Ubuntu, network)
	$(PYTHON) -m scripts.cves

dist: ## Build wheel, sdist and SBOM (CycloneDX) into dist/; `make setup-demo` has built the pages
	uv build --quiet
	uv export --frozen --no-dev --format cyclonedx1.5 --preview-features sbom-export --quiet \
	  --output-file dist/openegress.cdx.json

deploy-check: setup ## Lint the workflow files, and decode the chart's objects strictly (two minutes; Go, network)
	$(PYTHON) -m scripts.deploy_check

release-check: setup ## What a release builds and needs, all but the upload: files, docs, unit tests on each Python here
	$(MAKE) dist docs deploy-check
	$(PYTHON) -m pytest -q tests/e2e/test_installed.py
	$(PYTHON) -m scripts.release_check

docs: setup-python ## Build the documentation site in site/; warnings are errors
	@uv sync --frozen --quiet --inexact --group docs
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

image-check: ## Build the container image without a container engine and record a page with it (root, five minutes)
	python3 -m scripts.image "$$(mktemp -u -d)"

bench: setup ## Measure the rows of bench/RESULTS.md on this machine
	$(PYTHON) -m bench

ROW ?= room composite, calm
profile: setup ## Where the CPU time of a row of the benchmark goes (ROW="room composite, calm", SECONDS=10)
	@uv sync --frozen --quiet --inexact --group profile
	@$(PYTHON) -m bench.profile "$(ROW)" --seconds $(or $(SECONDS),10)

network-matrix: setup ## What a bad network costs recordings: writes docs/network-matrix.md (15 minutes)
	$(PYTHON) -m campaigns.network --write

kills: setup ## What kill -9 costs recordings: writes docs/kills.md (half an hour)
	$(PYTHON) -m campaigns.kills --write

SCENARIOS ?= 2000
simulate: ## Simulated calls by the thousand: frames lie where a listener had them (SCENARIOS, half a second each)
	SCENARIOS=$(SCENARIOS) $(PYTHON) -m pytest -q --timeout 0 tests/unit/test_sync_simulated.py

SOAK_MINUTES ?= 60
soak: setup ## Recordings of every kind at once for an hour (SOAK_MINUTES): nothing rises, drifts or is missing
	$(PYTHON) -m bench.soak --minutes $(SOAK_MINUTES)

proto: ## Generate openegress/proto from proto/*.proto
	$(PYTHON) scripts/generate_proto.py

.PHONY: help setup setup-python setup-demo hooks demo pictures check check-pages test fuzz mutate cves dist deploy-check release-check docs image-check bench profile network-matrix kills simulate soak proto
