# make demo   analyze this repository and show its report; REPO=URL_OR_PATH analyzes another one
# make test   run the tests; PYTEST_ARGS='tests/core -k mask' chooses, TEST_JOBS=1 one by one,
#             PYTEST_ARGS='-m soak' runs those that take long
# make lint   ruff and mypy
# make bench  print the figures of bench/; BENCH_ARGS=--help tells how to choose
# make venv   only set up, as all of them do first, once
#
# Needs Python 3.11 or newer with its venv module, git, and make. PYTHON=… names another Python.

VENV   ?= .venv
BIN    := $(VENV)/bin
REPO   ?= .
STATE  ?= .demo/state
PYTEST_ARGS ?=
# Two more than there are cores: most tests wait for processes, not for the processor.
TEST_JOBS   ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 1) + 2)))
BENCH_ARGS  ?=

# What is compiled once needn't be by each of the thousands of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

# The first that is new enough: on some systems python3 is old and a newer one stands beside it.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && exit; done; echo python3)

.PHONY: demo test lint bench venv clean

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "needs Python 3.11 or newer, and '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null || echo 'not there');" \
			"install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module; install it (Debian, Ubuntu: apt install" \
			"python3-venv), or name another Python: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) (once, about a minute) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input \
		--editable '.[analyzers,dev]'
	@touch $@

demo: venv
	@$(BIN)/tailrace run analyze -p repo='$(REPO)' --local --state '$(STATE)' --pipelines pipelines

test: venv
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup $(PYTEST_ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	@$(BIN)/python -m bench $(BENCH_ARGS)

clean:
	rm -rf $(VENV) .demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
