# Short commands for people who work on perfdoctor. `make setup` first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup lint types imports test test-slow fuzz bench accept docs all

setup:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

test:
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-slow:
	$(BIN)/python -m pytest -m slow

fuzz:  # the property tests with new examples
	$(BIN)/python -m pytest -n 2 -m 'hypothesis and not slow' --hypothesis-profile new

accept:  # rewrites the golden files; look at the diff afterwards
	$(BIN)/python -m pytest -m 'not slow' --accept tests/render

docs:  # the page of all rules, from their docstrings
	$(BIN)/python -m perfdoctor.rules.page docs/rules.md

bench:
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/planted.py

all: lint types imports test
