# Two commands: `make run` (crawl to chat model on the bundled samples) and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

# A fresh machine may call Python 3.11 just "python3".
PYTHON := $(shell command -v $(PYTHON) || command -v python3)

.PHONY: run test lint install clean

run: $(VENV)/.run
	$(BIN)/python -m flows.full_pipeline --recipe tiny

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

install: $(VENV)/.run

# torch is held below 2.14 (pyproject.toml); --prefer-binary keeps pip from building what has a wheel.
$(VENV)/.run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24" "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --prefer-binary "torch>=2.6,<2.14"
	$(BIN)/python -m pip install --quiet --prefer-binary -e .
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.run
	$(BIN)/python -m pip install --quiet --prefer-binary -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) artifacts
