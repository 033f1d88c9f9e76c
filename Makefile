# joulefloor: `make` lists the targets. Everything it fetches stays in .venv/ and .tools/, apart from
# Debian packages, which it installs only as root.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=
# What mypy and ruff look at: the folders of Python that this checkout has.
CODE := exporter/joulefloor tests stack $(patsubst %/,%,$(sort $(dir $(wildcard dashboards/*.py benchmarks/*.py docker/*.py))))

.DEFAULT_GOAL := help
.PHONY: help venv run demo test check fmt golden generate bench e2e clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## start everything on this machine and show what it measures (Ctrl-C stops it)
	@exec $(PY) -m stack.run $(ARGS)

demo: $(VENV)/.runtime ## the same with three simulated machines
	@exec $(PY) -m stack.run --demo $(ARGS)

test: $(VENV)/.tests ## install what the tests need, check, and run all of them
	@bash tests/install.sh
	@$(MAKE) --no-print-directory check
	$(PY) -m pytest -ra $(ARGS)

check: $(VENV)/.tests ## lint, formatting and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict $(CODE)

fmt: $(VENV)/.tests ## format, and mend what the linter can mend
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

golden: $(VENV)/.tests ## write the expected /metrics of every recorded machine anew; the diff is the review
	$(PY) -m pytest -q tests/golden tests/chart --update-golden

generate: $(VENV)/.tests ## write the generated files anew
	$(PY) -m joulefloor.reference exporter
	$(PY) -m dashboards
	$(PY) -m tests.chart.values_table

bench: $(VENV)/.tests ## measure the daemon beside node_exporter
	$(PY) -m benchmarks $(ARGS)

e2e: $(VENV)/.tests ## check who is billed on a kind cluster of its own, or on yours (tests/e2e/README.md)
	@exec $(PY) -m tests.e2e $(ARGS)

venv: $(VENV)/.tests ## the virtual environment, with what the tests need

clean: ## remove everything that was built or fetched
	rm -rf $(VENV) .tools build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	  tests/browser/grafana/node_modules tests/browser/grafana/built
	find . -name __pycache__ -prune -exec rm -rf {} +

# A venv in which pip works: Debian keeps that part of Python in a package of its own.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "joulefloor needs Python 3.11 or newer as $(PYTHON): make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && echo "Installing python3-venv from the system's packages, this once ..." \
	       && mkdir -p .tools && { apt-get -q update && DEBIAN_FRONTEND=noninteractive \
	         apt-get -q -y install --no-install-recommends python3-venv; } >.tools/apt.log 2>&1; } \
	  || { echo "Python's venv module is missing: run 'sudo apt-get install python3-venv', then make again."; exit 1; }
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing joulefloor in $(VENV) ..."
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[auth]'
	@touch $@

$(VENV)/.tests: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing joulefloor and its tests' tools in $(VENV) ..."
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[test,auth,dashboards]'
	@touch $(VENV)/.runtime $@
