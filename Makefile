PYTHON ?= python3.11
VENV := .venv
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup test check demo constraints

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install hemo and what it needs into .venv (about 7 GB; once)
	@echo "hemo: $(VENV) is ready"

$(STAMP): pyproject.toml constraints.txt
	@echo "hemo: installing into $(VENV) with $(PYTHON); later runs reuse it"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@

test: setup ## run the whole test suite
	$(VENV)/bin/python -m pytest

check: setup ## lint, format, types, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

demo: setup ## synthetic corpus -> grid of trials -> report, some 5 minutes on 2 cores
	$(VENV)/bin/hemo pipeline --config conf/demo.yaml

constraints: setup ## pin the versions that .venv holds
	$(VENV)/bin/python -m pip freeze --all --exclude-editable --exclude pip | LC_ALL=C sort -f > constraints.txt
