# make demo   train a small CNN on handwritten digits and watch what its layers know (about a minute)
# make test   run the tests
# make thirdparty  run the tests on other people's networks and data, in an environment of its own
# make check  lint, format, types
# make tables the tables of README and docstrings that follow from the code
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= test,loggers
TESTS ?=
THIRDPARTY := VENV=.venv-thirdparty CONSTRAINTS=constraints-thirdparty.txt EXTRAS=thirdparty,test
BIN := $(VENV)/bin
# pip's own wish for a newer pip is not ours
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test thirdparty thirdparty-installed check tables build

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable ".[$(EXTRAS)]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/digits_cnn.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(TESTS)

thirdparty-installed:
	$(MAKE) $(THIRDPARTY) .venv-thirdparty/.installed

thirdparty: thirdparty-installed
	THIRDPARTY=required $(MAKE) $(THIRDPARTY) test TESTS="--durations=5 tests/thirdparty"

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tables: $(VENV)/.installed
	$(BIN)/python tests/tables.py

build: $(VENV)/.installed
	$(BIN)/python -m build
