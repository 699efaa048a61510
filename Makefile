# Two commands: `make run` (crawl to chat model on the bundled samples) and `make test`; a third, `make test-production`, for
# machines with Debian's postgresql, redis-server and chromium: the whole stack without containers, a quarter of an hour.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

# A fresh machine may call Python 3.11 just "python3".
PYTHON := $(shell command -v $(PYTHON) || command -v python3)

.PHONY: run test test-production lint install clean

run: $(VENV)/.run
	$(BIN)/python -m flows.full_pipeline --recipe tiny

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What is not installed is skipped, and pytest says which (-rs).
test-production: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --prefer-binary -e ".[test,server,s3,sweep,production]"
	$(BIN)/python -m pytest -m slow -s -rs tests/flows/test_production.py tests/flows/test_ui.py tests/flows/test_approval.py \
		tests/flows/test_housekeeping.py tests/flows/test_sweep.py tests/tasks/store

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

install: $(VENV)/.run

# The kernels are compiled by the install, so it is repeated where they changed.
KERNELS := $(wildcard data/kernels/*.c data/kernels/*.h)

# torch is held below 2.14 (pyproject.toml); --prefer-binary keeps pip from building what has a wheel.
$(VENV)/.run: pyproject.toml $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24" "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --prefer-binary "torch>=2.6,<2.14"
	$(BIN)/python -m pip install --quiet --prefer-binary -e .
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.run
	$(BIN)/python -m pip install --quiet --prefer-binary -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) artifacts build data/kernels/*.so
