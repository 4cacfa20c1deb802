# Every target works from a bare clone: it creates the environment it needs first.
#   make quickstart   train, export, deploy and verify one adapter on real text
#   make test         the test suite
PYTHON ?= python3
VENV ?= .venv
INTEROP_VENV ?= .venv-interop
# Extra options for pip, for example: make install PIP_ARGS="--index-url https://example.org/simple"
PIP_ARGS ?=
QUICKSTART_ARGS ?=
TEST_ARGS ?= -n auto

BIN := $(VENV)/bin
INTEROP_BIN := $(INTEROP_VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check --progress-bar off $(PIP_ARGS)

.DEFAULT_GOAL := help
.PHONY: help install install-interop quickstart test test-interop conformance check format clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(VENV)/.installed ## Create .venv with everything the quickstart and the tests need

install-interop: $(INTEROP_VENV)/.installed ## Create .venv-interop with transformers 4.57 and optimum-onnx

quickstart: $(VENV)/.installed ## Train, export, graft, run and verify one adapter on real text
	$(BIN)/python -m examples.quickstart $(QUICKSTART_ARGS)

test: $(VENV)/.installed ## Run the tests
	$(BIN)/python -m pytest $(TEST_ARGS)

test-interop: $(INTEROP_VENV)/.installed ## Run the tests that concern transformers and AdapterHub in the older environment
	$(INTEROP_BIN)/python -m pytest $(TEST_ARGS) tests/exporters_backbone tests/pytorch tests/importers tests/interop_adapterhub tests/export_matrix tests/conformance/test_adapterhub.py

conformance: $(VENV)/.installed ## Judge the reference, PyTorch, ONNX Runtime, JavaScript and JAX by the test vectors
	$(BIN)/compacter conformance validate
	$(BIN)/python -m examples.conformance

check: $(VENV)/.installed ## Verify format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed ## Format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environments and caches
	rm -rf $(VENV) $(INTEROP_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (about two minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt pip
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable . --group quickstart --group test --group jax --group fuzz --group check
	@touch $@

$(INTEROP_VENV)/.installed: pyproject.toml constraints-interop.txt
	@echo "Installing into $(INTEROP_VENV)"
	$(PYTHON) -m venv $(INTEROP_VENV)
	$(INTEROP_BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints-interop.txt pip
	$(INTEROP_BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints-interop.txt --editable . --group interop --group test
	@touch $@
