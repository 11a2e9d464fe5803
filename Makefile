# make demo   the main job on embedded data, in an environment of its own
# make test   the tests, in the same environment
#
# Needs python3 (>= 3.11) and make; everything else goes into .venv.
#   PYTHON=python3.12    another interpreter
#   TORCH_INDEX=URL      where to get torch from; on Linux the CPU build, far smaller than the default one, is at
#                        https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
WORKERS ?= 2

# Plugins are distributions of their own; tests and checks run on all of them.
PLUGINS := $(wildcard plugins/*)

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

# One thread a worker: workers with all threads each would slow each other down.
test test-slow: export OMP_NUM_THREADS := 1

.PHONY: demo test test-slow lint format data modules docs changelog clean

demo: .venv/core.stamp
	$(BIN)/matmosaic demo

test: .venv/dev.stamp
	$(PYTEST)

test-slow: .venv/dev.stamp
	$(PYTEST) -m slow

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Remake the embedded dataset, then the bundled modules that are trained on it.
data: .venv/dev.stamp
	$(BIN)/python tools/make_alloys.py

modules: .venv/dev.stamp
	$(BIN)/python tools/make_modules.py

docs: .venv/dev.stamp
	$(BIN)/python tools/make_api_page.py

changelog: .venv/dev.stamp
	$(BIN)/towncrier build --yes

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache

# The environment is made once, and again when what it is made from changes.
# torch goes first and without its dependencies, so that TORCH_INDEX is asked for nothing else.
.venv/core.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('matmosaic needs Python >= 3.11; try: make PYTHON=python3.12' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv --clear .venv
	$(PIP) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) -e .
	$(BIN)/python -c "import pathlib; pathlib.Path('$@').touch()"

.venv/dev.stamp: .venv/core.stamp $(PLUGINS:=/pyproject.toml)
	$(PIP) -e ".[dev]" $(foreach plugin,$(PLUGINS),-e "$(plugin)[test]")
	$(BIN)/python -c "import pathlib; pathlib.Path('$@').touch()"
