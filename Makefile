# Targets for developers and operators; `make help` lists them.
# Requires Python 3.11+ and make; everything else is installed into .venv from uv.lock.
SHELL := /bin/bash
# The tests start hundreds of processes; without cached bytecode, each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
PORT ?= 8080
METRICS_PORT ?= 9145
TLS_PORT ?= 8443
SECONDS_EACH ?= 8
ROUNDS ?= 3
POSTS ?= 100000
SLO_SECONDS ?= 60
# Duration of each fault in test-hosts.
SECONDS ?= 7
MESSAGES ?= 1000000
# Of bench-files: the size of the large file, and the number of abandoned uploads with 10 chunks each.
MIB ?= 256
UPLOADS ?= 20000
# Of bench-growth: the numbers of stored items that are compared, and the requests over which the memory is read.
ITEMS ?= 10000 1000000 10000000
REQUESTS ?= 1000000
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# Stamp files: the packages of the service are installed, and those for development.
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
# Tests that start processes mostly wait, so run more of them at once than a small machine has cores.
# A test that hangs ends its process, and the report names it.
PARALLEL := -m pytest -n 4 --dist worksteal -q -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true
# These use MongoDB only through HTTP, which other tests cover, or in processes with a driver of their own.
DRIVERLESS := client test_doctor.py test_doctor_front.py test_doctor_mongodb.py test_docs.py test_hostile_bodies.py \
  test_leaks.py test_older_sender.py test_openapi.py test_origin.py test_pages.py test_readme.py test_slo.py \
  test_slo_traffic.py test_smoke.py test_tls.py
# These modules need nginx: test-stack measures their coverage.
LAUNCHING := src/core/supervisor.py,src/manage/restart.py,src/stack/__main__.py,src/stack/launcher.py,src/stack/processes.py

.PHONY: help run test test-lifecycle test-pymongo coverage fuzz test-stack test-hosts test-browser test-firefox screenshots compose-check test-package man check-rules lint format stack bench bench-matrix bench-growth bench-feed bench-gathered bench-observation bench-hostile bench-files slo lock clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(RUNTIME): uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sealpost needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo '[1/3] Creating a virtual environment in $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@echo '[2/3] Installing uv, which installs the rest'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo '[3/3] Downloading and installing the service and MongoDB: about 60 MB; later runs skip this'
	$(call install,--no-default-groups)
	@touch $@

$(STAMP): $(RUNTIME)
	@echo 'Downloading and installing the tools for development: tests, linters'
	$(call install,--all-groups)
	@touch $@

# $(call install,OPTIONS): install the locked packages of these groups. On a terminal, uv shows its progress.
define install
@$(BIN)/uv export --quiet --frozen --all-extras $(1) --no-emit-project --output-file $(VENV)/requirements.txt >/dev/null
@$(BIN)/uv pip install --python $(BIN)/python --require-hashes --requirements $(VENV)/requirements.txt
endef

run: $(RUNTIME) ## Run one process on an embedded MongoDB: http://127.0.0.1:8080 (PORT=)
	@exec $(BIN)/python -m src.app --announce -H 127.0.0.1 -P $(PORT)

test: $(STAMP) ## Run the tests that need no processes of their own: about a minute
	$(BIN)/python -m pytest -n 3 --dist worksteal -q -m 'not lifecycle and not fuzz and not package'

test-lifecycle: $(STAMP) ## Run the tests that start, stop and kill servers, MongoDB and clients
	$(BIN)/python $(PARALLEL) -m lifecycle

test-pymongo: $(STAMP) ## Run the tests that use MongoDB on PyMongo's client instead of Motor
	TEST_MONGO_DRIVER=pymongo $(BIN)/python $(PARALLEL) -m 'database and not fuzz' $(patsubst %,--ignore=tests/%,$(DRIVERLESS)) tests

coverage: $(STAMP) ## Run both test and test-lifecycle with branch coverage
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run $(PARALLEL)
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report --omit '$(LAUNCHING)'

fuzz: $(STAMP) ## Test the API against its OpenAPI document with generated requests (EXAMPLES=)
	$(if $(EXAMPLES),SCHEMATHESIS_EXAMPLES=$(EXAMPLES)) $(BIN)/python -m pytest -n 2 -q -m fuzz tests/test_openapi.py

test-stack: $(STAMP) ## Run the tests of the whole stack (needs nginx)
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile -q -m 'stack and not timed' tests/stack
	$(BIN)/coverage run -m pytest -q -m timed tests/stack
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report --include '$(LAUNCHING)' --fail-under 90

test-hosts: $(STAMP) ## Run several hosts under faults and check the recorded history (SECONDS=, HISTORY=; needs root)
	HOSTS_SECONDS='$(SECONDS)' HOSTS_HISTORY='$(HISTORY)' $(BIN)/python -m pytest -q -p no:randomly -m hosts tests/hosts

test-browser: $(STAMP) ## Run the tests of the page in a browser (needs nginx and Chromium)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -m browser tests/browser

test-firefox: $(STAMP) ## Run the same tests in Firefox ESR, as far as it can be driven (needs nginx and firefox-esr)
	TEST_BROWSER=firefox $(BIN)/python -m pytest -q -m browser tests/browser

screenshots: $(STAMP) ## Retake the screenshots in docs/screenshots (needs nginx and Chromium)
	$(BIN)/python -m tests.browser.screenshots docs/screenshots

compose-check: $(STAMP) ## Build the image and test docker-compose.yml (needs a Docker engine)
	$(BIN)/python -m pytest -q -m compose tests/compose

test-package: $(STAMP) ## Build the wheel, and install the client from it without the server (needs a package index)
	$(BIN)/python -m pytest -q -m package tests/client/test_package.py

man: $(STAMP) ## Generate the client's man page, man/sealpost.1, from its help
	@$(BIN)/python -m src.client.manual > man/sealpost.1.new
	@mv man/sealpost.1.new man/sealpost.1

check-rules: ## Check and test the Prometheus rules (needs promtool)
	promtool check config confs/prometheus/prometheus.yml
	promtool test rules confs/prometheus/tests/*.yml

lint: $(STAMP) ## Check format, style, types and layers
	$(BIN)/black --check --quiet . || { $(BIN)/black --check .; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/black --quiet .

stack: $(RUNTIME) ## Run nginx, four workers and MongoDB without Docker: http://127.0.0.1:8080 (PORT=, TLS_PORT=, METRICS_PORT=)
	@exec $(BIN)/python -m src.stack --port $(PORT) --tls-port $(TLS_PORT) --metrics-port $(METRICS_PORT)

bench: $(STAMP) ## Measure the running stack with wrk (ONLY=, ROUNDS=; needs nginx and wrk)
	$(BIN)/python -m bench --seconds $(SECONDS_EACH) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY))

bench-matrix: $(STAMP) ## The same with 1 to 512 connections and texts up to 500 kB: about 30 minutes
	$(BIN)/python -m bench --seconds $(SECONDS_EACH) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY)) \
	  --connections 1 32 128 512 --texts 100 10000 500000

bench-growth: $(STAMP) ## Measure how the cost grows with items, connections, workers, members (ITEMS=, REQUESTS=, PARTS=): 45 minutes
	$(BIN)/python -m bench.growth --seconds $(SECONDS_EACH) --rounds $(ROUNDS) --items $(ITEMS) --requests $(REQUESTS) \
	  $(if $(PARTS),--only $(PARTS))

bench-feed: $(STAMP) ## Measure the feed, analytics and likes on many posts (POSTS=; needs nginx and wrk)
	$(BIN)/python -m bench.feed --posts $(POSTS) --seconds $(SECONDS_EACH)

bench-gathered: $(STAMP) ## Measure gathering and the export of many messages (MESSAGES=; needs nginx)
	$(BIN)/python -m bench.gathered --messages $(MESSAGES) --seconds $(SECONDS_EACH)

bench-observation: $(STAMP) ## Measure what metrics and logs cost (needs nginx and wrk)
	$(BIN)/python -m bench.observation --seconds $(SECONDS_EACH)

bench-hostile: $(STAMP) ## Measure latency while hostile clients send the most expensive bodies (ROUNDS=; needs nginx)
	$(BIN)/python -m bench.hostile --seconds $(SECONDS_EACH) --rounds $(ROUNDS)

bench-files: $(STAMP) ## Measure transfers of files, and the expiry of uploads (MIB=, UPLOADS=, ROUNDS=; needs nginx, curl and wrk)
	$(BIN)/python -m bench.files --mib $(MIB) --uploads $(UPLOADS) --seconds $(SECONDS_EACH) --rounds $(ROUNDS)

slo: $(STAMP) ## Measure the objectives, on a temporary or a running stack (URL=, METRICS_URL=, JSON=, SLO_SECONDS=)
	$(BIN)/python -m bench.slo --seconds $(SLO_SECONDS) $(if $(URL),--url '$(URL)') \
	  $(if $(METRICS_URL),--metrics-url '$(METRICS_URL)') $(if $(JSON),--json '$(JSON)')

# uv.lock pins versions and hashes but names no index: packages come from the index that your client is configured for.
lock: ## Resolve the dependencies again into uv.lock
	rm -f uv.lock
	$(BIN)/uv lock
	sed -i -E 's#registry = "https?://[^"]*"#registry = "packages"#; s#url = "https?://[^"]*/([^/"]+)"#path = "\1"#; s#, upload-time = "[^"]*"##; s#, size = [0-9]+##' uv.lock

clean: ## Remove generated files, but not .data (your secrets)
	rm -rf $(VENV) .run .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
