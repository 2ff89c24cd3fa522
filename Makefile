# The commands make .venv from pyproject.toml on first use and reuse it afterwards.
PYTHON ?= python3
BIN := .venv/bin

# Two processes share the tests by file, in the order that tests/conftest.py gives; the host's kernels
# are compiled beforehand, each once
SHARED := -n 2 --dist loadfile --no-loadscope-reorder

# What docs/ and the README import; the rest is read in the code
API := net net.layers net.zoo net.borders net.images net.windows net.usage net.pictures \
	net.learning.runs net.learning.scales net.learning.fitting net.learning.training \
	net.learning.examples net.learning.augmentation net.learning.optimizers \
	net.learning.metrics net.learning.splitting net.learning.checkpoint \
	net.learning.classifier net.large

.PHONY: help demo reproduce test test-long lint docs clean

help:
	@echo "make demo        label a photograph: the same bits, how many times faster (2 minutes)"
	@echo "make reproduce   run the experiments, write results/; says first what it will take"
	@echo "make test        run every test tier that this machine can run"
	@echo "make test-long   the same and what is long by nature: thousands of damaged files ..."
	@echo "make lint        ruff: lint and format"
	@echo "make docs        the API reference, from docstrings: docs/api/index.html"
	@echo "make clean       remove .venv, caches and compiled code"

demo: .venv/installed
	$(BIN)/python -m experiments demo --out results-demo

reproduce: .venv/installed
	$(BIN)/python -m experiments all

test test-long: .venv/installed-test
	$(BIN)/python -m tests.warm_up float32 & $(BIN)/python -m tests.warm_up float64 && wait
	$(BIN)/python -m pytest $(SHARED) $(LONG) -m "not simulator"
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest $(SHARED) $(LONG) -m simulator

test-long: LONG := --long

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[docs,learn]"
	$(BIN)/python -m pdoc --docformat google --output-directory docs/api $(API)

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .
	touch $@

.venv/installed-test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable ".[test,profile]"
	touch $@ .venv/installed

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis docs/api results-demo results-quick* *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
