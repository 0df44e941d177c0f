# Everything a new user needs: `make demo` and `make test`. Python 3.11 is all that must be there.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: test check clean
.DEFAULT_GOAL := test

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

test: .venv/.installed check  ## the whole test suite
	$(BIN)/python -m pytest -q --ignore tests/online
	$(BIN)/python -m pytest -q tests/online  # PyFlink and Beam register the same protobuf files: one process each

check: .venv/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p unskew
	$(BIN)/mypy tests --exclude typings

clean:  ## remove what the other targets made
	rm -rf .venv build *.egg-info
