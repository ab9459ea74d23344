# Targets for a fresh clone and for daily work; `make` alone lists them.
# Another interpreter: make setup PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
QUICK := not slow and not gpu and not processes
# A process for each core up to four, which takes a file of tests at a time: what a file prepares is prepared once.
SHARED_OUT := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check pictures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install everything into .venv (done once; again when pyproject.toml or constraints.txt change)

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	    echo "make: no '$(PYTHON)' found; Python 3.10 to 3.13 is needed (make setup PYTHON=/path/to/python3)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); Python 3.10 to 3.13 is needed" \
	        "(make setup PYTHON=/path/to/python3)" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing into $(VENV): about 3 GB to download the first time, 2 to 10 minutes."
# By a path, not an import hook: beside a clone called asr, Python would take that folder for the package.
	@$(PIP) install --quiet --constraint constraints.txt --config-settings editable_mode=compat --editable '.[demo,test,dev]'
	@touch $@
	@echo "Installed."

demo: setup ## install if needed, then train and recognise from nothing, offline
	@$(BIN)/python recipes/demo/run.py

test: setup ## the quick tests: no network, no GPU, two to five minutes; the first time one more to compile kernels
	$(BIN)/python -m asr.decode.compile
	$(BIN)/python -m pytest -m '$(QUICK)' $(SHARED_OUT)

test-all: setup ## every test, the slow and the GPU ones too
	$(BIN)/python -m pytest

check: test ## what CI runs: the quick tests, those that kill and join processes, style, types and import contracts
	$(BIN)/python -m pytest -m processes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

pictures: setup ## make the pictures and measured figures of docs/lstm.md anew, from the models in exp/
	$(BIN)/python docs/make_pictures.py

clean: ## remove caches and build leftovers (the environment stays; rm -r .venv removes it)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
