# What a person does here; `make` alone lists it. Needs make and Python 3.11 or later, nothing else.
# Another Python: make PYTHON=python3.12 install

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet
INSTALLED := .venv/installed
INSTALLED_FOR_TESTS := .venv/installed-for-tests
SIDE_BY_SIDE ?= 3
# To whoever is free, one by one, in the order in which they were collected: the long ones come first.
ONE_BY_ONE = -n $(SIDE_BY_SIDE) --dist loadgroup --no-loadscope-reorder
# What failed in a crowd, on a machine that may be busy, gets one more chance alone. What is wrong fails again.
ALONE = $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo run test test-clocks test-browser environments lint migration crash-test outages bench lock sbom audit clean

help: ## lists what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' $(MAKEFILE_LIST) | awk '{printf "  %s %-12s", $$1, $$2; $$1 = $$2 = ""; print}'

install: $(INSTALLED) ## makes .venv with everything that runs, by locked versions and hashes

demo: $(INSTALLED) ## shows the whole system against a simulated Leadway; ctrl-C ends it
	@exec $(BIN)/python -m tests.demo

run: $(INSTALLED) ## runs the whole system on the real Leadway, from the environment and .env
	@exec $(BIN)/python -m workers.local.run

test: $(INSTALLED_FOR_TESTS) ## runs every test, on SQLite and PostgreSQL (some only: make test ARGS="-k wake_up")
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest $(ONE_BY_ONE) || $(ALONE)
endif

test-clocks: $(INSTALLED_FOR_TESTS) ## runs the tests at midnight, on a leap day and at a clock change; needs a C compiler
	$(BIN)/python -m tests.clocks $(ONE_BY_ONE) $(ARGS)

environments: $(INSTALLED_FOR_TESTS) ## runs the system in other environments; needs root and packages of Debian (CONTRIBUTING.md)
	$(BIN)/python -m pytest tests/environments $(ARGS)

test-browser: $(INSTALLED_FOR_TESTS) ## opens every page in Chromium, which has to be there (CONTRIBUTING.md)
	$(BIN)/python -m pytest tests/browser $(ARGS)

lint: $(INSTALLED_FOR_TESTS) ## checks style, format, types and the directions of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

migration: $(INSTALLED_FOR_TESTS) ## writes a migration from what changed in models/: NAME="add the index of …" (by hand: EMPTY=1)
	@$(BIN)/python -m tests.migrations.make $(if $(EMPTY),--empty) -- "$$NAME"

crash-test: $(INSTALLED_FOR_TESTS) ## kills, freezes and cuts at every step, then compares with the truth (ARGS=--quick, --mutations)
	$(BIN)/python -m tests.crash $(ARGS)

outages: $(INSTALLED_FOR_TESTS) ## takes the database away for ten minutes, each way, at 50 notifications a second (50 minutes)
	$(BIN)/python -m tests.outages $(ARGS)

bench: $(INSTALLED_FOR_TESTS) ## measures (one benchmark only: make bench ONLY=growth)
	$(BIN)/python -m tests.benchmarks $(ONLY) $(ARGS)

lock: ## writes both requirements files anew from pyproject.toml (newer versions: make lock ARGS=--upgrade)
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; "$$tools/bin/python" -m pip install --disable-pip-version-check --quiet uv; \
	lock() { echo 'setuptools>=80' | "$$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url $(ARGS) pyproject.toml - "$$@"; }; \
	lock --output-file requirements.txt; \
	lock --extra dev --constraint requirements.txt --output-file requirements-dev.txt

sbom: ## writes what runs in production, with licences, to build/sbom.json (CycloneDX) and build/licences.md
	@set -e; made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; mkdir -p build; \
	$(PYTHON) -m venv --without-pip "$$made/runs"; $(PYTHON) -m venv "$$made/tools"; \
	pip="$$made/tools/bin/python -m pip --disable-pip-version-check --quiet"; \
	$$pip --python "$$made/runs/bin/python" install --require-hashes -r requirements.txt; \
	$$pip install cyclonedx-bom pip-licenses; \
	"$$made/tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible \
	  --output-file build/sbom.json "$$made/runs/bin/python"; \
	"$$made/tools/bin/pip-licenses" --python "$$made/runs/bin/python" --with-system --from mixed --format markdown \
	  --output-file build/licences.md

audit: ## asks whether a locked version has a known weakness; needs the network
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; $(PYTHON) -m venv "$$tools"; \
	"$$tools/bin/python" -m pip install --disable-pip-version-check --quiet pip-audit; \
	"$$tools/bin/pip-audit" --strict --require-hashes --disable-pip --requirement requirements.txt

clean: ## removes .venv and every cache; leaves var/ (data) and .env
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv .venv

$(INSTALLED): requirements.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_FOR_TESTS): requirements-dev.txt $(INSTALLED)
	$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@
