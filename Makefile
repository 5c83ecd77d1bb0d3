# Two commands on a machine with Python >= 3.11 and make:
#   make demo    environment, installation, then a short training -> estimates -> table against the bound -> pictures
#   make test    environment, installation, quick test suite
# PYTHON chooses the interpreter that makes the environment: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One thread a process: two BLAS threads on a busy two-core machine can be ten times slower than one.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help venv install demo test slow soak lint format types check wheel bench clean

help:
	@echo "make demo | test | slow | soak | lint | format | types | check | wheel | bench | install | clean"

venv install: $(INSTALLED)

# The build tools come first and pinned, so that the package itself is built without fetching others.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "risctl needs Python >= 3.11: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "installing into $(VENV): a few minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/risctl demo $(ARGS)

test: $(INSTALLED)
	$(PYTEST) -n 2 -m "not slow and not soak" $(ARGS)

slow: $(INSTALLED)
	$(PYTEST) -n 2 -m slow $(ARGS)

soak: $(INSTALLED)
	$(PYTEST) -m soak $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)
	$(BIN)/mypy

check: lint types test

# The package as a user gets it: built, unpacked, and used from a folder where no checkout is near.
wheel: $(INSTALLED)
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel/site build/wheel/*.whl
	cd build/wheel && export PYTHONPATH="$$PWD/site" && used="$(abspath $(BIN))/python -m risctl" \
		&& $$used example scenes.npz && $$used locate scenes.npz --out answer.json \
		&& $$used train --dry-run >train.txt && $$used config list >presets.txt \
		&& $(abspath $(BIN))/python -c 'import risctl; assert "build/wheel/site" in risctl.__file__, risctl.__file__'

bench: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/risctl bench $(ARGS)

# Results under runs/ stay.
clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find risctl tests -name __pycache__ -type d -prune -exec rm -rf {} +
