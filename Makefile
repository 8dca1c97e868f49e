# You need Python 3.11, 3.12 or 3.13 (with venv) and make. Every target installs what it needs into .venv.
#   make demo    train, compare, register, promote and score on generated data
#   make test    format, lint, types, the site and tests, as in CI
#   make coverage    the same tests, and how much of the code they reach
#   make lint    only format, lint and types
#   make docs    write the pages and tables that are generated from docstrings and declarations
#   make site    build the documentation site into build/site; warnings and broken links are errors
#   make test-neighbors   models of this package in RecTools and LensKit, and theirs here, in an environment of their own
#   make test-lowest, make test-newest   tests of a wheel, with the oldest (Python 3.12) and newest (3.13) versions it admits
#   make slow    tests that take minutes or hours: real data, every crash, hundreds of kills
#   make bench   write timings to docs/benchmarks.md (BENCH="--device cuda" for a GPU)
#   make bench-peers   the same for RecBole, Cornac and plain torch (needs Python 3.11)
# For another build of torch (CUDA, or the small CPU build): make demo TORCH_INDEX=URL, with the index URL that pytorch.org's
# install page shows.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
VENV ?= .venv
PEERS_VENV ?= .venv-peers
LOWEST_PYTHON ?= python3.12
NEWEST_PYTHON ?= python3.13
NEIGHBORS_VENV ?= .venv-neighbors
PEERS_PYTHON ?= python3.11
BENCH ?=
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
BIN := $(VENV)/bin

.PHONY: demo test test-neighbors test-lowest test-newest coverage lint docs site slow bench bench-peers clean

demo: $(VENV)/.installed
	$(BIN)/recsys demo

test: lint site
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-lowest: $(VENV)/.dev
	$(BIN)/python -m tests.versions lowest --python $(LOWEST_PYTHON)

test-newest: $(VENV)/.dev
	$(BIN)/python -m tests.versions newest --python $(NEWEST_PYTHON)

test-neighbors: $(NEIGHBORS_VENV)/.installed
	$(NEIGHBORS_VENV)/bin/python -m pytest tests/adapters

# RecTools needs an older NumPy and pandas than constraints.txt has.
$(NEIGHBORS_VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "recsys needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(NEIGHBORS_VENV)
	$(NEIGHBORS_VENV)/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(NEIGHBORS_VENV)/bin/python -m pip install --quiet -e '.[rectools,lenskit]' pytest hypothesis
	@touch $@

# As test, a third slower: the share of lines that tests reach must be at least 90 %.
coverage: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --cov=recsys --cov-report=term:skip-covered --cov-fail-under=90

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy recsys

docs: $(VENV)/.dev
	$(BIN)/python -m docs.generate

site: $(VENV)/.dev
	$(BIN)/python -m docs.site

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-peers: $(VENV)/.dev $(PEERS_VENV)/.installed
	$(BIN)/python -m tests.benchmarks.against_peers --python $(PEERS_VENV)/bin/python $(BENCH)

# RecBole needs ray 2.6, which has no wheel for Python 3.12 or later.
$(PEERS_VENV)/.installed: tests/benchmarks/peers/requirements.txt
	$(PEERS_PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(PEERS_VENV)/bin/python -m pip install --quiet -r tests/benchmarks/peers/requirements.txt
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "recsys needs Python 3.11, 3.12 or 3.13; none was found. Name one: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch is installed first and by its exact version; a resolver would choose the largest build.
$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS_VENV) $(NEIGHBORS_VENV) .venv-lowest .venv-newest .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
