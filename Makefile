# Daypass. `make help` lists what there is to say.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help
help: ## What there is to say
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/demo.stamp ## Start the whole product with a made-up company (DAYPASS_PORT=8000)
	@exec $(BIN)/python -m broker.demo

.PHONY: first-run
first-run: $(VENV)/demo.stamp ## Start it with nothing set up, to try the administrator's first hour
	@exec $(BIN)/python -m broker.demo --empty

.PHONY: test
test: $(VENV)/dev.stamp ## Everything that is checked before a change lands: checks, tests, journeys in a browser
	@exec $(BIN)/python -m tests

.PHONY: check
check: $(VENV)/dev.stamp ## Lint, types, import contracts, migrations, production checks
	@exec $(BIN)/python -m tests checks

.PHONY: lint
lint: $(VENV)/dev.stamp ## What ruff and mypy have to say
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .

.PHONY: format
format: $(VENV)/dev.stamp ## Put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: clients
clients: $(VENV)/dev.stamp ## Try every AWS client there is, unmodified, as root with debootstrap (docs/clients.md)
	@exec $(BIN)/python -m tests.clients

.PHONY: proxies
proxies: $(VENV)/dev.stamp ## Try the files for proxies in docs/operations.md with real ones, as root on Debian
	@exec $(BIN)/python -m tests.proxies

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure links and keys per second beside bare STS calls
	@exec $(BIN)/python -m benchmarks

.PHONY: lock
lock: $(VENV)/lock.stamp ## Pin the requirements anew, with hashes
	@for name in requirements requirements-demo requirements-dev \
	  tests/clients/requirements tests/clients/requirements-more tests/proxies/requirements; do \
	  echo "$$name.txt"; \
	  $(BIN)/uv pip compile --quiet --python-version 3.11 --universal --generate-hashes \
	    --custom-compile-command "make lock" $(LOCK_FLAGS) $$name.in -o $$name.txt || exit 1; \
	done

.PHONY: clean
clean: ## Remove the demo's data and what tests left behind
	@rm -rf var/demo var/first-run test-results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

# --- The environment: made once, again only when the pinned requirements change

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Daypass needs Python 3.11 or newer. Say which one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Making a Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python cannot make environments here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/demo.stamp: requirements-demo.txt | $(BIN)/python
	@echo "Installing the pinned requirements (a minute, once)"
	@$(PIP) install --require-hashes --no-deps -r requirements-demo.txt
	@touch $@

# What tests need includes what the demo needs, at the same versions.
$(VENV)/dev.stamp: requirements-dev.txt | $(BIN)/python
	@echo "Installing the pinned requirements for development (two minutes, once)"
	@$(PIP) install --require-hashes --no-deps -r requirements-dev.txt
	@touch $(VENV)/demo.stamp $@

$(VENV)/lock.stamp: | $(BIN)/python
	@$(PIP) install uv
	@touch $@
