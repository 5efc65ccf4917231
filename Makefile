# Start with `make demo`. All dependencies are installed into .venv from the package index.

PYTHON ?= python3
VENV := .venv
VENV_DOCS := .venv-docs
VENV_DIST := .venv-dist
VENV_ECOSYSTEM := .venv-ecosystem
VENV_CLUSTER := .venv-cluster
# .venv-airflow-2.11 has the Python of .venv, .venv-airflow-2.11-py3.10 has Python 3.10.
VENV_OLDEST := .venv-airflow-2.11
AIRFLOWS := 2.11 3.0 3.1 3.2 3.3
# No Airflow but the newest works with today's dependencies: pydantic 2.14 breaks the API server of 3.2, for example. As
# of these dates, some weeks after each release, they fit. Airflow 3.0 was released before the oldest supported common-compat.
OPTIONS_2.11 := --exclude-newer 2026-04-15
OPTIONS_3.0 := --exclude-newer 2025-09-10 --exclude-newer-package apache-airflow-providers-common-compat=2026-02-10
OPTIONS_3.1 := --exclude-newer 2026-04-15
OPTIONS_3.2 := --exclude-newer 2026-07-01
OPTIONS_3.3 := --extra openlineage
SDKS := 4.3.0 5.2.1 6.3.0 6.6.2 7.0.2
VENVS_SDK := $(SDKS:%=.venv-sdk-%)
UV_VERSION := 0.13.9
TWINE_VERSION := 6.2.0
UV := $(VENV)/bin/uv
BIN := $(VENV)/bin
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.10 --custom-compile-command "make requirements"
# Without cached byte code, each of hundreds of processes would spend seconds importing Airflow.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show all targets
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

# Without PYENV_VERSION, pyenv's commands for other Pythons than the current one fail.
.SECONDEXPANSION:
.venv-airflow-%/.installed: requirements/airflow-$$(firstword $$(subst -py, ,$$*)).txt setup.cfg | $(UV)
	PYENV_VERSION=$(word 2,$(subst -py, ,$*)) $(UV) venv --quiet --allow-existing \
		--python $(or $(word 2,$(subst -py, ,$*)),$(BIN)/python) .venv-airflow-$*
	$(UV) pip install --quiet --compile-bytecode --python .venv-airflow-$*/bin/python -r $<
	$(UV) pip install --quiet --python .venv-airflow-$*/bin/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV_DOCS)/.installed: $(UV) requirements/docs.txt
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(VENV_DOCS)
	$(UV) pip install --quiet --python $(VENV_DOCS)/bin/python -r requirements/docs.txt
	@touch $@

.venv-sdk-%/.installed: requirements/sdk-%.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-sdk-$*
	$(UV) pip install --quiet --python .venv-sdk-$*/bin/python -r $<
	@touch $@

$(VENV_ECOSYSTEM)/.installed $(VENV_CLUSTER)/.installed: .venv-%/.installed: requirements/%.txt setup.cfg | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-$*
	$(UV) pip install --quiet --compile-bytecode --python .venv-$*/bin/python -r $<
	$(UV) pip install --quiet --python .venv-$*/bin/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: $(VENV)/.installed  ## Create .venv with Airflow 3.3 and the development tools

.PHONY: requirements
requirements: $(UV)  ## Recompile the pinned requirement files
	$(foreach version,$(AIRFLOWS),$(COMPILE) --extra sandbox $(OPTIONS_$(version)) setup.cfg requirements/airflow-$(version).in \
		-o requirements/airflow-$(version).txt && ) true
	$(COMPILE) requirements/docs.in -o requirements/docs.txt
	$(COMPILE) setup.cfg requirements/ecosystem.in -c requirements/airflow-3.3.txt -o requirements/ecosystem.txt
	$(COMPILE) --extra sandbox setup.cfg requirements/cluster.in -c requirements/airflow-3.3.txt -o requirements/cluster.txt
	for version in $(SDKS); do echo streamsets==$$version | $(COMPILE) - -o requirements/sdk-$$version.txt || exit 1; done

.PHONY: lint
lint: venv  ## Check style, types, security and vocabulary
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive airflow_provider_streamsets dev
	$(BIN)/python -m dev.vocabulary

.PHONY: audit
audit: venv  ## Audit all dependencies for known vulnerabilities (needs network access)
	$(BIN)/python -m dev.audit

.PHONY: format
format: venv  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: test-fast test-sdks test-ecosystem test-airflow-2 test-system test-cluster test-ui  ## Run all tests

# Slow files with few tests run first, so that all workers finish at the same time. Some tests wait: three workers keep
# two cores busy.
.PHONY: test-fast
test-fast: venv  ## Run all tests that do not need a running Airflow
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/contract tests/integration tests/unit

# Excludes tests of code that does not depend on Airflow, but not those of HTTP: its libraries are older there.
.PHONY: test-airflow-2
test-airflow-2: $(VENV_OLDEST)/.installed  ## Run the unit tests and the demo on the oldest supported Airflow
	$(VENV_OLDEST)/bin/python -m pytest -n 2 --dist loadfile -W ignore tests/unit --ignore tests/unit/sandbox \
		--ignore tests/unit/cli/test_conformance.py --ignore tests/unit/cli/test_snapshot.py \
		--ignore tests/unit/control_hub/tracking --ignore tests/unit/control_hub/resources --ignore-glob '*/control_hub/test_[!ct]*' \
		--ignore-glob '*fuzz*' -m 'not hypothesis'
	$(VENV_OLDEST)/bin/python -m dev.demo

.PHONY: test-matrix
test-matrix: venv  ## Run tests and demo on all supported Airflows and Pythons; ROWS=3.1 selects rows
	$(BIN)/python -m dev.matrix $(ROWS)

.PHONY: test-system
test-system: venv  ## Run the system tests on a real Airflow
	$(BIN)/python -m pytest -n 2 tests/system

.PHONY: test-sdks
test-sdks: venv $(VENVS_SDK:%=%/.installed)  ## Run the operations of the SDK guide with five versions of the official SDK
	$(BIN)/python -m pytest -q tests/sdks

.PHONY: test-ecosystem
test-ecosystem: venv $(VENV_ECOSYSTEM)/.installed  ## Run DAGs in YAML, of agents, in pods and with a secrets backend
	$(BIN)/python -m pytest -q tests/ecosystem

# Skipped without Debian's packages postgresql, redis-server and faketime.
.PHONY: test-cluster
test-cluster: venv $(VENV_CLUSTER)/.installed  ## Run a short chaos test of a cluster, with 33 runs
	$(BIN)/python -m pytest -q tests/cluster

# Skipped without Debian's package chromium.
.PHONY: test-ui
test-ui: venv  ## Run the tests in a browser; SCREENSHOTS=docs/images saves the pictures of the documentation
	$(BIN)/python -m pytest tests/ui $(if $(SCREENSHOTS),--screenshots $(SCREENSHOTS))

.PHONY: coverage
coverage: venv  ## Measure the coverage of the unit, contract and integration tests
	$(BIN)/python -m pytest --cov --cov-report=term tests/unit tests/contract tests/integration

.PHONY: bench
bench: venv  ## Compare requests and duration of each operation with the official SDK
	$(BIN)/python -m tests.benchmarks.requests_per_operation

.PHONY: bench-waiting
bench-waiting: venv  ## Measure the cost of waiting for up to 10,000 runs
	$(BIN)/python -m tests.benchmarks.waiting

.PHONY: bench-rate-limit
bench-rate-limit: venv  ## Measure 5,000 waits within a rate limit of Control Hub (about 20 minutes)
	$(BIN)/python -m tests.benchmarks.waiting.rate_limit

.PHONY: bench-scale
bench-scale: venv  ## Measure 50,000 waits in one process (about 15 minutes)
	$(BIN)/python -m tests.benchmarks.waiting --only steady --runs 50000 --interval 60 --provider-only

.PHONY: bench-soak
bench-soak: venv  ## Measure for an hour whether waits that come and go leak memory, files, threads or tasks
	$(BIN)/python -m tests.benchmarks.waiting --soak 60 --runs 2000 --interval 30 --provider-only

.PHONY: bench-triggerer
bench-triggerer: venv  ## Measure 1,000 deferred tasks on a real triggerer with PostgreSQL
	$(BIN)/python -m tests.benchmarks.triggerer

.PHONY: bench-pages
bench-pages: venv  ## Measure the page of all runs with 5,000 waiting runs
	$(BIN)/python -m tests.benchmarks.pages

.PHONY: bench-push
bench-push: venv  ## Measure how soon a DAG starts after a run, pushed and polled (about 15 minutes)
	$(BIN)/python -m tests.benchmarks.push

.PHONY: bench-imports
bench-imports: venv  ## Measure the import cost of all operators and sensors
	$(BIN)/python -m tests.benchmarks.import_cost

.PHONY: chaos
chaos: venv  ## Verify exactly-once starts under process kills and request faults (up to 20 minutes)
	$(BIN)/python -m tests.chaos

.PHONY: chaos-short
chaos-short: venv  ## Run a short chaos test with 42 runs, as in the system tests
	$(BIN)/python -m tests.chaos --short

.PHONY: chaos-cluster
chaos-cluster: venv $(VENV_CLUSTER)/.installed  ## The same with Celery, two schedulers and two triggerers (up to 20 minutes)
	$(BIN)/python -m tests.chaos --cluster

.PHONY: sandbox
sandbox: venv  ## Start the local Control Hub
	$(BIN)/streamsets-sandbox

.PHONY: demo
demo: venv  ## Run a StreamSets job in an Airflow DAG, entirely on this machine
	$(BIN)/python -m dev.demo

.PHONY: demo-ui
demo-ui: venv  ## Start the demo environment and keep it running; PORT=9000 selects another port
	$(BIN)/python -m dev.demo --ui $(if $(PORT),--port $(PORT))

# Sphinx checks the links of the pages, lychee those of the other files and of the result. Neither needs a network.
.PHONY: docs
docs: $(VENV_DOCS)/.installed  ## Build the documentation into docs/_build/html and check all internal links
	$(VENV_DOCS)/bin/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -b html docs docs/_build/html
	$(VENV_DOCS)/bin/lychee --config docs/lychee.toml *.md 'docs/**/*.md' 'docs/_build/html/**/*.html'

# The demo runs outside the clone, so that it imports the wheel.
.PHONY: dist
dist: venv  ## Build wheel and sdist into dist/, check them, and run the demo with the wheel alone
	rm -rf dist build
	$(UV) build --quiet --python $(BIN)/python --no-build-isolation
	$(UV) tool run --quiet twine@$(TWINE_VERSION) check --strict dist/*
	$(UV) venv --quiet --clear --python $(BIN)/python $(VENV_DIST)
	$(UV) pip install --quiet --python $(VENV_DIST)/bin/python -r requirements/airflow-3.3.txt
	$(UV) pip install --quiet --python $(VENV_DIST)/bin/python --no-deps dist/*.whl
	mkdir -p build/demo && cp -r dev example_dags build/demo
	cd build/demo && $(CURDIR)/$(VENV_DIST)/bin/python -m dev.demo

.PHONY: clean
clean:  ## Remove all generated files
	rm -rf $(VENV) $(VENV_DOCS) $(VENV_DIST) $(VENV_ECOSYSTEM) $(VENV_CLUSTER) .venv-airflow-* $(VENVS_SDK) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
