# The first target a newcomer needs is `make demo`. Everything is installed into .venv from the package index.

PYTHON ?= python3
VENV := .venv
VENV_2 := .venv-airflow-2
VENV_DOCS := .venv-docs
UV_VERSION := 0.13.9
UV := $(VENV)/bin/uv
BIN := $(VENV)/bin
# Airflow is imported by each of hundreds of processes: seconds of each, where its byte code is not kept.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.installed: $(UV) requirements/airflow-3.3.txt setup.cfg
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements/airflow-3.3.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV_2)/.installed: $(UV) requirements/airflow-2.11.txt setup.cfg
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(VENV_2)
	$(UV) pip install --quiet --compile-bytecode --python $(VENV_2)/bin/python -r requirements/airflow-2.11.txt
	$(UV) pip install --quiet --python $(VENV_2)/bin/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV_DOCS)/.installed: $(UV) requirements/docs.txt
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(VENV_DOCS)
	$(UV) pip install --quiet --python $(VENV_DOCS)/bin/python -r requirements/docs.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/.installed  ## Set up .venv with Airflow 3.3 and the development tools

.PHONY: requirements
requirements: $(UV)  ## Compile the pinned requirement files anew
	$(UV) pip compile --quiet --universal --python-version 3.10 --custom-compile-command "make requirements" \
		requirements/airflow-3.3.in -o requirements/airflow-3.3.txt
	$(UV) pip compile --quiet --universal --python-version 3.10 --custom-compile-command "make requirements" \
		--exclude-newer 2026-04-15 requirements/airflow-2.11.in -o requirements/airflow-2.11.txt
	$(UV) pip compile --quiet --universal --python-version 3.10 --custom-compile-command "make requirements" \
		requirements/docs.in -o requirements/docs.txt

.PHONY: lint
lint: venv  ## Check style, types and known weaknesses
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive airflow_provider_streamsets dev

.PHONY: audit
audit: venv  ## Ask a vulnerability service, which must be reachable, about everything that is installed
	$(BIN)/python -m dev.audit

.PHONY: format
format: venv  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: test-fast test-airflow-2 test-system  ## Run all tests

# The slow files, which have few tests, come first, so that both workers end at the same time.
.PHONY: test-fast
test-fast: venv  ## Run the tests that need no running Airflow
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/contract tests/integration tests/unit

# Without the properties of what Airflow has no part in.
.PHONY: test-airflow-2
test-airflow-2: $(VENV_2)/.installed  ## Run the unit tests on the oldest Airflow that is supported
	$(VENV_2)/bin/python -m pytest -n 2 --dist loadfile -W ignore tests/unit --ignore tests/unit/sandbox \
		--ignore-glob '*/test_control_hub_fuzz*' -m 'not hypothesis'

.PHONY: test-system
test-system: venv  ## Run the DAGs on a real Airflow
	$(BIN)/python -m pytest -n 2 tests/system

.PHONY: coverage
coverage: venv  ## Measure what the unit, contract and integration tests reach
	$(BIN)/python -m pytest --cov --cov-report=term tests/unit tests/contract tests/integration

.PHONY: bench
bench: venv  ## Compare requests and seconds of each operation with the official SDK's
	$(BIN)/python -m tests.benchmarks.requests_per_operation

.PHONY: bench-waiting
bench-waiting: venv  ## Measure what it costs to wait for up to ten thousand runs
	$(BIN)/python -m tests.benchmarks.waiting

.PHONY: bench-triggerer
bench-triggerer: venv  ## Measure 1,000 deferred tasks on a real triggerer, with Airflow on PostgreSQL
	$(BIN)/python -m tests.benchmarks.triggerer

.PHONY: bench-imports
bench-imports: venv  ## Measure what importing all operators and sensors costs a DAG file
	$(BIN)/python -m tests.benchmarks.import_cost

.PHONY: chaos
chaos: venv  ## Kill processes and break requests for minutes, and show that each run was started exactly once
	$(BIN)/python -m tests.chaos

.PHONY: chaos-short
chaos-short: venv  ## The same with 42 runs, as the system tests do it
	$(BIN)/python -m tests.chaos --short

.PHONY: sandbox
sandbox: venv  ## Start the local Control Hub alone
	$(BIN)/streamsets-sandbox

.PHONY: demo
demo: venv  ## Watch an Airflow DAG run a StreamSets job, on this machine alone
	$(BIN)/python -m dev.demo

.PHONY: demo-ui
demo-ui: venv  ## The same, left running to look around
	$(BIN)/python -m dev.demo --ui

# Sphinx checks the links of the pages, lychee those of the other files and of the result. Neither needs a network.
.PHONY: docs
docs: $(VENV_DOCS)/.installed  ## Build the documentation into docs/_build/html and check all internal links
	$(VENV_DOCS)/bin/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -b html docs docs/_build/html
	$(VENV_DOCS)/bin/lychee --config docs/lychee.toml *.md 'docs/**/*.md' 'docs/_build/html/**/*.html'

.PHONY: build
build: venv  ## Build the distribution into dist/
	$(UV) build --quiet --python $(BIN)/python --no-build-isolation

.PHONY: clean
clean:  ## Remove everything that was made
	rm -rf $(VENV) $(VENV_2) $(VENV_DOCS) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
