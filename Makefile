PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: run test check bench docs clean

run: $(VENV)/.run  ## stylize a bundled photograph with the bundled model
	$(BIN)/restyle image castle --style cafe -o stylized.png --overwrite

test: $(VENV)/.dev  ## run the tests
	$(BIN)/pytest

check: $(VENV)/.dev  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## measure speed against a peer, and the time to the first picture
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/start.py

docs: $(VENV)/.dev  ## paint the pictures of the README anew
	$(BIN)/python examples/contact_sheet.py -o docs/pictures
	$(BIN)/python examples/controls.py -o docs/pictures
	$(BIN)/python examples/calm.py -o docs/pictures

clean:
	rm -rf $(VENV) stylized.png .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[bench]'
	touch $@
