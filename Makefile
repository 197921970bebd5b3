# Everything here works from a fresh clone with Python >= 3.11 (venv), make and git.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
DURATION ?= 600
SEED ?= 1
WORKERS ?= logical
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE := # where it is set, each process compiles every module anew: two seconds of a core
UV_VERSION := 0.13.9
PACKAGES := shared/client shared/core shared/templates services/ingress services/consumer services/operator deploy/local
PROJECTS := $(PACKAGES:%=%/pyproject.toml)
NAMES := client core templates ingress consumer operator local
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	--group pyproject.toml:dev $(PROJECTS) $(NAMES:%=--no-emit-package sred-email-%)

LOCK_SUPPLY_CHAIN := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	--group pyproject.toml:supply-chain
SUPPLY_CHAIN := .venv/supply-chain
SHIPPED := shared/client shared/core shared/templates services/ingress services/consumer services/operator

.PHONY: help install up demo test chaos mutations bench check format lint types imports protos manifests lock-check generate lock clean
.PHONY: dependencies workflows licences wheels sbom audit

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## install everything into .venv (does nothing the second time)

.venv/installed: requirements.lock pyproject.toml $(PROJECTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	@test "`$(BIN)/uv --version 2>/dev/null | cut -d' ' -f2`" = "$(UV_VERSION)" || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --require-hashes --no-deps -r requirements.lock
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --no-deps $(PACKAGES:%=-e %)
	@touch $@

up: install ## run the whole system on this machine, until Ctrl-C
	@exec $(BIN)/python -m sred_email_local up

demo: install ## the same, once through: one email of each kind, then a table
	@exec $(BIN)/python -m sred_email_local demo

test: install ## everything CI runs, on all cores (WORKERS=0: in one process; ARGS='-k word')
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

chaos: install ## let everything crash for DURATION seconds (SEED=n), and count what is lost or doubled
	@PYTHONPATH=tests $(BIN)/python -m crash.chaos --duration $(DURATION) --seed $(SEED) $(ARGS)

bench: install ## the table of docs/performance.md, measured (ARGS='drain_batched --runs 3'; ARGS=--quick to see that it works)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

check: install lint types imports dependencies protos manifests workflows lock-check ## formatting, lint, types, import rules, dependencies, protos, manifests, workflows, lock

lint: install
	@$(BIN)/ruff format --check --quiet . || { echo "make format mends this"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/hadolint deploy/docker/Dockerfile

types: install
	@$(BIN)/mypy $(PACKAGES:%=%/src) tests tools

imports: install
	@$(BIN)/lint-imports

protos: install
	@$(BIN)/python tools/check_protos.py

manifests: install
	@$(BIN)/python tools/prometheus_rule.py --check
	@$(BIN)/python tools/check_manifests.py

lock-check: install
	@cp requirements.lock .venv/requirements.lock
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(LOCK) --output-file .venv/requirements.lock
	@diff -q requirements.lock .venv/requirements.lock >/dev/null || \
		{ echo "requirements.lock does not follow the pyproject files: make lock mends this"; exit 1; }

dependencies: install
	@$(BIN)/python tools/check_dependencies.py $(PACKAGES)
	@$(BIN)/python tools/licences.py --check

workflows: install
	@$(BIN)/zizmor --offline --quiet --no-progress --persona=pedantic .github

licences: install ## write docs/licences.md anew
	@$(BIN)/python tools/licences.py

wheels: install ## build a wheel of each package that is shipped into dist/
	@for package in $(SHIPPED); do $(BIN)/uv build --quiet --wheel --out-dir dist $$package || exit 1; done

sbom: $(SUPPLY_CHAIN)/installed ## write dist/sbom.cdx.json: all that the client, the services and the command line bring along, with hashes
	@mkdir -p dist
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --constraints requirements.lock $(SHIPPED:%=%/pyproject.toml) \
		$(NAMES:%=--no-emit-package sred-email-%) --output-file dist/shipped.txt
	@$(SUPPLY_CHAIN)/bin/cyclonedx-py requirements --output-reproducible --of JSON --output-file dist/sbom.cdx.json dist/shipped.txt
	@rm dist/shipped.txt

audit: $(SUPPLY_CHAIN)/installed ## ask the Python Packaging Advisory Database about every line of the locks
	@for lock in requirements.lock tools/supply-chain.lock; do \
		$(SUPPLY_CHAIN)/bin/pip-audit --strict --progress-spinner off --require-hashes --disable-pip -r $$lock || exit 1; \
	done

$(SUPPLY_CHAIN)/installed: tools/supply-chain.lock .venv/installed
	@test -x $(SUPPLY_CHAIN)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(SUPPLY_CHAIN)
	@VIRTUAL_ENV="$(CURDIR)/$(SUPPLY_CHAIN)" $(BIN)/uv pip install --quiet --require-hashes --no-deps -r tools/supply-chain.lock
	@touch $@

mutations: install ## break the code on purpose, once for each hazard, and see which test notices (some minutes)
	@$(BIN)/python tools/mutations.py $(ARGS)

format: install ## format the code and the protos
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/buf format --write

generate: install ## generate the gRPC stubs from protos/, and the PrometheusRule from the alert rules
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/buf generate
	@$(BIN)/python tools/prometheus_rule.py

lock: install ## write requirements.lock anew from the pyproject files (ARGS=--upgrade for newer versions)
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(LOCK) --output-file requirements.lock $(ARGS)
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(LOCK_SUPPLY_CHAIN) --output-file tools/supply-chain.lock $(ARGS)

clean: ## remove what was installed and what local runs left
	@rm -rf .venv .local dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
