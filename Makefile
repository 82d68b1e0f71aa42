# make demo   train a small CNN on handwritten digits and watch what its layers know (about a minute)
# make test   run the tests
# make check  lint, format, types
# make tables the tables of README and docstrings that follow from the code
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= test,loggers
BIN := $(VENV)/bin
# pip's own wish for a newer pip is not ours
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test check tables build

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable ".[$(EXTRAS)]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/digits_cnn.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tables: $(VENV)/.installed
	$(BIN)/python tests/tables.py

build: $(VENV)/.installed
	$(BIN)/python -m build
