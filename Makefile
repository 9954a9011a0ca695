# Fairlead: see README.md. Everything runs inside .venv; nothing outside this directory is changed.
PY ?= python3
BIN := .venv/bin
ARGS ?=
# All tests run side by side, in two processes; those that are named run in one, which can be debugged.
WORKERS ?= $(if $(ARGS),0,2)

.PHONY: setup dev bytecode demo test lint bench bench-scale clean lock

setup: bytecode
dev: .venv/.dev bytecode

# An editable install compiles nothing: under PYTHONDONTWRITEBYTECODE every command would compile all its modules again.
bytecode: .venv/.installed
	@$(BIN)/python -m compileall -q src

.venv/bin/python:
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with: make PY=python3.12"; exit 1; }
	@$(PY) -m venv .venv 2>/dev/null || { rm -rf .venv; $(PY) -m virtualenv -q .venv 2>/dev/null; } || \
	  { $(PY) -m pip install -q --target build/virtualenv virtualenv 2>/dev/null && \
	    PYTHONPATH=build/virtualenv $(PY) -m virtualenv -q .venv; } || \
	  { rm -rf .venv; echo "$(PY) can make no virtual environment: install the package python3-venv (Debian, Ubuntu)"; exit 1; }

.venv/.installed: .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.installed requirements-dev.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements-dev.lock
	@touch $@

demo: setup
	$(BIN)/fairlead demo $(ARGS)

test: dev
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# Whatever imports descriptions may import another one by now.
build/typings/.stamp: .venv/.dev tools/stubs.py $(shell grep -rl --include=*.py _pb2 src)
	$(BIN)/python tools/stubs.py build/typings
	@touch $@

lint: dev build/typings/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m bench $(ARGS)

lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml tools/build-requirements.txt -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml tools/build-requirements.txt -o requirements-dev.lock

bench-scale: setup
	$(BIN)/python -m bench.scale $(ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
