# Every target makes its own .venv from pinned constraints. Needs Python 3.11 or newer, and make.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test slow soak lint types architecture bench image clean

help:            ## this list
	@grep -E '^[a-z]+: .*##|^[a-z]+:  +##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: .venv/ready  ## prepare, train, serve on 127.0.0.1:8000 and ask
	$(BIN)/python -m examples.flights demo

test: .venv/ready  ## the tests that take no quarter of a minute each
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

slow: .venv/ready  ## the others: twenty kills of one run, adversarial training, data larger than memory
	$(BIN)/python -m pytest -m slow --numprocesses auto --maxprocesses 2 --dist load

soak: .venv/ready  ## an hour: two hundred swaps, a hundred killed workers, a hundred thousand hostile requests
	$(BIN)/python -m pytest -m soak

lint: .venv/ready  ## ruff, and hadolint on the Dockerfile
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/hadolint Dockerfile

types: .venv/ready  ## mypy --strict
	$(BIN)/mypy

architecture: .venv/ready  ## who may import whom
	$(BIN)/lint-imports

bench: .venv/ready  ## this service beside its rivals, into benchmarks/RESULTS.md: two to three hours
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.overload

image:           ## the images of docker compose
	docker compose build

clean:           ## everything that can be made again, but no models
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/ready: pyproject.toml constraints.txt tests/clients.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/clients.txt
	@touch $@
