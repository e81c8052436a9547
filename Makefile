# make demo      venv, install, build the gallery scene, train both phases, ask texts, write pictures and a report
# make lint      linter, formatter, type checker
# make test      make lint and the tests for every change, in at most ten minutes on two cores
# make test-slow the tests that are slow by nature: sanitizers, a browser, Ray, several processes, kills, real commands
# make coverage  all tests, and the share of lines they run
# make sanitize  of these only those of the kernels under the address and undefined behavior sanitizers
# Variables: PYTHON (3.10 to 3.12), VENV, TORCH (the torch to install, for example a CUDA or CPU build of your own choice)

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.14.1 torchvision==0.29.1
OUTPUT ?= demo-output

BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: install demo test test-slow coverage sanitize lint clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py $(wildcard genlangsplat_ns/rasterization/kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=68"
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[embedded,ray,dev]" $(TORCH)
	touch $(INSTALLED)

demo: install
	$(BIN)/gen-langsplat demo --output-dir $(OUTPUT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes, each of which takes the tests of a file in turn: nearly all tests keep one core busy.
PYTEST = $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

test: lint
	$(PYTEST) -m "not slow"

test-slow: install
	$(PYTEST) -m slow

coverage: install
	$(PYTEST) --cov --cov-report=term:skip-covered

sanitize: install
	$(BIN)/python -m pytest tests/rasterization/test_sanitizers.py

clean:
	rm -rf $(VENV) build *.egg-info demo-output
