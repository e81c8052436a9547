# make demo      venv, install, build the gallery scene, train both phases, ask texts, write pictures and a report
# make lint      linter, formatters, type checker
# make format    applies the formatters
# make test      make lint and the tests for every change, in at most ten minutes on two cores
# make test-slow the tests that are slow by nature: sanitizers, a browser, Ray, several processes, kills, real commands
# make coverage  all tests, and the share of lines they run
# make sanitize  of these only those of the kernels under the address and undefined behavior sanitizers
# make contract  the supported versions of gsplat without kernels, into build/gsplat, and their tests
# make gpu-bundle  what a card without a network needs, into build/gpu-bundle; needs nvcc and a python3.12
# make gpu-check what only a card can tell, in at most eight minutes: BUNDLE=build/gpu-bundle without a network
# make page      the page of view and share, from web/ into genlangsplat_ns/web/page; needs node and npm
# make paper-check  the scenes of the paper beside published scores: DATA="lerf_ovs 3d-ovs"; hours on a card, see --help
# make docs      the tests of the documents (links, anchors, commands), and their site in build/site
# make figures   the figures of the documents, from benchmarks/results; with DEMO=FOLDER also the pictures of that demo
# make wheel     sdist and wheel in DIST, a check of their content, and make try-wheel
# make try-wheel installs WHEEL in a new environment; trains and asks a small scene there
# Variables: PYTHON (3.10 to 3.12), VENV, TORCH (the torch to install, for example a CUDA or CPU build of your own choice),
#            GPU_OPTIONS (of gpu-bundle and gpu-check, see --help of gpu.bundle and gpu.check),
#            OPTIONS (of paper-check, see --help of benchmarks/paper_check.py)

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.14.1 torchvision==0.29.1
OUTPUT ?= demo-output
DIST ?= dist
WHEEL ?= $(DIST)/genlangsplat_ns-*.whl

BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
CPP_FILES := $(wildcard genlangsplat_ns/rasterization/kernels/* benchmarks/*/*.cpp tests/*/*.cpp)

.PHONY: install demo test test-slow coverage sanitize contract gpu-bundle gpu-check paper-check lint format docs figures wheel
.PHONY: page try-wheel clean

install: $(INSTALLED)

# Python compiles what is imported; to compile all of it at once takes a minute.
$(INSTALLED): pyproject.toml setup.py $(wildcard genlangsplat_ns/rasterization/kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=68"
	$(BIN)/python -m pip install --quiet --no-compile $(TORCH)
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation --editable ".[embedded,view,ray,photos,formats,docs,dev]" $(TORCH)
	touch $(INSTALLED)

demo: install
	$(BIN)/gen-langsplat demo --output-dir $(OUTPUT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

docs: install
	$(BIN)/python -m pytest tests/test_documents.py tests/test_site.py tests/test_troubleshooting.py tests/test_docstrings.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

page:
	cd web && npm ci --no-audit --no-fund && npm run build

figures: install
	$(BIN)/python benchmarks/figures.py $(if $(DEMO),--demo $(DEMO))

# The wheel is built from the sdist, in an environment with the build tools of today.
wheel:
	rm -rf $(DIST)/build $(DIST)/genlangsplat_ns-*
	$(PYTHON) -m venv $(DIST)/build
	$(DIST)/build/bin/python -m pip install --quiet "build>=1.2,<2"
	$(DIST)/build/bin/python -m build --outdir $(DIST) .
	$(PYTHON) release/check_distributions.py $(DIST)/genlangsplat_ns-*
	$(MAKE) try-wheel
	rm -rf $(DIST)/build

try-wheel:
	rm -rf $(DIST)/installed
	$(PYTHON) -m venv $(DIST)/installed
	$(DIST)/installed/bin/python -m pip install --quiet $(TORCH) "$$(ls $(WHEEL))[embedded]"
	cd $(DIST) && installed/bin/python $(CURDIR)/release/try_wheel.py
	rm -rf $(DIST)/installed

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

contract: install
	$(BIN)/python -m tests.rasterization.gsplat_packages
	$(BIN)/python -m pytest tests/rasterization/test_gsplat_versions.py

gpu-bundle: install
	cd benchmarks && $(abspath $(BIN)/python) -m gpu.bundle $(GPU_OPTIONS)

# A machine without a network cannot install, so this takes the environment of `make install` only if there is one.
GPU_PYTHON ?= $(if $(wildcard $(INSTALLED)),$(abspath $(BIN)/python),$(PYTHON))

gpu-check:
	cd benchmarks && $(GPU_PYTHON) -m gpu.check $(if $(BUNDLE),--bundle $(abspath $(BUNDLE))) $(GPU_OPTIONS)

paper-check: install
	$(BIN)/python benchmarks/paper_check.py $(if $(DATA),--data $(abspath $(DATA))) $(OPTIONS)

clean:
	rm -rf $(VENV) build *.egg-info demo-output $(DIST)
