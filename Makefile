# `make help` lists the targets. Everything is installed into .venv in this folder, outputs go to runs/.

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP)  ## create .venv with every dependency at its locked version, and astroflow itself

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || { \
	  echo "astroflow needs Python 3.11 or 3.12, which '$(PYTHON)' is not. Name one that is: make install PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## the whole path on a simulated survey tile: runs/demo
	$(BIN)/astroflow demo --out runs/demo

# TensorFlow keeps every graph that it has compiled: in one process the tests would need more memory mappings than Linux gives it
# (vm.max_map_count), and it dies. So they run in some processes, twice; a file stays in one process, for its fixtures, and
# files come in the order of tests/conftest.py, the longest first.
# Engines, likelihoods and posteriors are tested as users run them. The rest, mostly trainings in processes of their own, compiles without
# optimising, which takes a third less time.
TEST_PROCESSES ?= 2
PYTEST = $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
FIRST := tests/sims tests/posteriors

test: install  ## run the tests
	$(PYTEST) $(FIRST)
	XLA_FLAGS=--xla_backend_optimization_level=0 $(PYTEST) tests $(FIRST:%=--ignore=%)

check: install  ## lint, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# those of benchmarks/ that need a trained bundle or an hour are started by hand: docs/calibration.md, docs/conventions.md
BENCH := fourier inference rendering sampler simulation training

bench: install  ## run the benchmarks that need nothing else (some minutes) and print what they measure
	@for name in $(BENCH); do echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py || exit 1; done

# One version of each package for both Pythons, newest that fit together. Needs uv: https://docs.astral.sh/uv
lock:  ## choose versions anew and write requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --upgrade --all-extras --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
