PYTHON ?= python3.11
VENV := .venv
STAMP := $(VENV)/.installed
WORKERS ?= 2
PYTEST = $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup test test-fast test-slow test-all check demo constraints

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install hemo and what it needs into .venv (about 7 GB; once)
	@echo "hemo: $(VENV) is ready"

$(STAMP): pyproject.toml constraints.txt
	@echo "hemo: installing into $(VENV) with $(PYTHON); later runs reuse it"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@

test: setup ## all tests but the slow ones: 9 to 21 minutes on 2 cores (WORKERS=4 where there are more)
	$(PYTEST) -m 'not slow'

test-fast: setup ## tests without Ray, for everyday work: up to 10 minutes on 2 cores
	$(PYTEST) -m 'not slow and not ray'

test-slow: setup ## tests that start a cluster, W&B or several processes that load torch: 18 to 28 minutes on 2 cores
	$(PYTEST) -m slow

test-all: setup ## all tests in one run, as CI does; the slowest are listed
	$(PYTEST) --durations=40 --durations-min=5

check: setup ## lint, format, types, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

demo: setup ## synthetic corpus -> grid of trials -> report, 2 to 5 minutes on 2 cores
	$(VENV)/bin/hemo pipeline --config conf/demo.yaml

constraints: setup ## pin the versions that .venv holds
	$(VENV)/bin/python -m pip freeze --all --exclude-editable --exclude pip | LC_ALL=C sort -f > constraints.txt
